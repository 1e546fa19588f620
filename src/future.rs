//! The future of a response.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll, Waker},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::ServiceExt;
use tower_service::Service;

use crate::{body::ResponseBody, metrics::outcome::Unshared, metrics::reporter::Reporter};

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;
type Waiting<B, E> = Pin<Box<dyn Future<Output = Answer<B, E>> + Send>>;

pin_project! {
    /// Response future of [`SupportCache`](crate::SupportCache).
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{Service, ServiceBuilder, service_fn};
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let mut cached = ServiceBuilder::new()
    ///     .layer(SupportCacheLayer::new(MemoryStore::new()))
    ///     .service(service_fn(async |_: Request<String>| {
    ///         Ok::<_, std::convert::Infallible>(Response::new("the cases".to_owned()))
    ///     }));
    /// let future = cached.call(Request::get("/accounts/A1/cases").body(String::new()).unwrap());
    /// assert_eq!(future.await.unwrap().status(), 200);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The inner service's own error, and no other.
    ///
    /// # Cancellation
    ///
    /// Dropping it harms no other request: a fill that others may wait for, and a write, complete
    /// on the runtime, within bounds.
    pub struct ResponseFuture<S, Q, B>
    where
        S: Service<Request<Q>>,
        B: Body,
    {
        #[pin]
        state: FutureState<S, Q, B>,
    }
}

pin_project! {
    #[project = FutureStateProjection]
    enum FutureState<S, Q, B>
    where
        S: Service<Request<Q>>,
        B: Body,
    {
        Ready { response: Option<Response<ResponseBody<B>>> },
        Passing { #[pin] inner: S::Future },
        Marking { #[pin] inner: S::Future, mark: Mark },
        Waiting { waiting: Waiting<B, S::Error> },
    }
}

/// Report of a forwarded response: its bucket, and why it is not shared.
pub(crate) struct Mark {
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) bucket: usize,
    pub(crate) why: Unshared,
}

impl Mark {
    fn put<B>(&self, response: &mut Response<B>) {
        let outcome = self.why.outcome(response.status());
        self.reporter.mark(self.bucket, outcome, response.headers_mut());
    }
}

impl<S, Q, B> ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>>,
    B: Body,
{
    pub(crate) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { state: FutureState::Ready { response: Some(response) } }
    }

    pub(crate) fn waiting(
        waiting: impl Future<Output = Answer<B, S::Error>> + Send + 'static,
    ) -> Self {
        Self { state: FutureState::Waiting { waiting: Box::pin(waiting) } }
    }
}

impl<S, Q, B> ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Send + 'static,
    B: Body + Send + 'static,
    B::Error: Send,
{
    /// Forwards a request and passes the response on, with a mark if there is one.
    ///
    /// A service that is ready, as most always are, is called at once: so neither it nor the
    /// request is moved into this future. One that is not is waited for in a box. Either way the
    /// clone that is called is the one that said it was ready.
    pub(crate) fn forward(mut inner: S, request: Request<Q>, mark: Option<Mark>) -> Self {
        let mut unwoken = Context::from_waker(Waker::noop());
        let state = match (inner.poll_ready(&mut unwoken), mark) {
            (Poll::Ready(Ok(())), None) => FutureState::Passing { inner: inner.call(request) },
            (Poll::Ready(Ok(())), Some(mark)) => {
                FutureState::Marking { inner: inner.call(request), mark }
            }
            (Poll::Ready(Err(error)), _) => return Self::waiting(ready(Err(error))),
            (Poll::Pending, mark) => return Self::waiting(wait(inner, request, mark)),
        };
        Self { state }
    }
}

async fn wait<S, Q, B>(
    inner: S,
    request: Request<Q>,
    mark: Option<Mark>,
) -> Result<Response<ResponseBody<B>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    let mut response = inner.oneshot(request).await?;
    if let Some(mark) = mark {
        mark.put(&mut response);
    }
    Ok(response.map(ResponseBody::passing))
}

impl<S, Q, B> Future for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            FutureStateProjection::Ready { response } => {
                Poll::Ready(Ok(response.take().expect("polled after it completed")))
            }
            FutureStateProjection::Passing { inner } => {
                inner.poll(cx).map_ok(|response| response.map(ResponseBody::passing))
            }
            FutureStateProjection::Marking { inner, mark } => {
                let mut response = task::ready!(inner.poll(cx))?;
                mark.put(&mut response);
                Poll::Ready(Ok(response.map(ResponseBody::passing)))
            }
            FutureStateProjection::Waiting { waiting } => waiting.as_mut().poll(cx),
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
