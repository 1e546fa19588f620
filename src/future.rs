//! The future of a response.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower_service::Service;

use crate::{body::ResponseBody, outcome::Unshared, reporter::Reporter};

type Exchange<B, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<B>>, E>> + Send>>;

pin_project! {
    /// Response future of [`SupportCache`](crate::SupportCache).
    ///
    /// Dropping it harms no other request: a fill that others may wait for, and a write, complete
    /// on the runtime. See the [crate documentation](crate).
    pub struct ResponseFuture<S, Q, B>
    where
        S: Service<Request<Q>>,
        B: Body,
    {
        #[pin]
        state: State<S, Q, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Q, B>
    where
        S: Service<Request<Q>>,
        B: Body,
    {
        Ready { response: Option<Response<ResponseBody<B>>> },
        Passing { #[pin] inner: Oneshot<S, Request<Q>> },
        Marking { #[pin] inner: Oneshot<S, Request<Q>>, mark: Mark },
        Exchange { exchange: Exchange<B, S::Error> },
    }
}

/// What to say of a forwarded response.
struct Mark {
    reporter: Arc<Reporter>,
    bucket: usize,
    why: Unshared,
}

impl<S, Q, B> ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>>,
    B: Body,
{
    pub(crate) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { state: State::Ready { response: Some(response) } }
    }

    pub(crate) fn passing(inner: Oneshot<S, Request<Q>>) -> Self {
        Self { state: State::Passing { inner } }
    }

    pub(crate) fn marking(
        inner: Oneshot<S, Request<Q>>,
        reporter: Arc<Reporter>,
        bucket: usize,
        why: Unshared,
    ) -> Self {
        Self { state: State::Marking { inner, mark: Mark { reporter, bucket, why } } }
    }

    pub(crate) fn exchange<F>(exchange: F) -> Self
    where
        F: Future<Output = Result<Response<ResponseBody<B>>, S::Error>> + Send + 'static,
    {
        Self { state: State::Exchange { exchange: Box::pin(exchange) } }
    }
}

impl<S, Q, B> Future for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Ready { response } => {
                Poll::Ready(Ok(response.take().expect("polled after it completed")))
            }
            StateProjection::Passing { inner } => {
                inner.poll(cx).map_ok(|response| response.map(ResponseBody::passing))
            }
            StateProjection::Marking { inner, mark } => {
                let mut response = ready!(inner.poll(cx))?;
                let outcome = mark.why.outcome(response.status());
                mark.reporter.mark(mark.bucket, outcome, response.headers_mut());
                Poll::Ready(Ok(response.map(ResponseBody::passing)))
            }
            StateProjection::Exchange { exchange } => exchange.as_mut().poll(cx),
        }
    }
}

impl<S, Q, B> fmt::Debug for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>>,
    B: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
