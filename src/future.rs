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

use crate::{
    body::ResponseBody,
    clock::{Instant, recent},
    metrics::{cache_outcome::OutcomeReport, outcome::Unshared, reporter::Reporter},
};

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
        // Dropped in this order: only then is it known that the handler does no more.
        Unmatched {
            #[pin]
            inner: S::Future,
            write: Option<Box<dyn UnmatchedWrite<B, S::Error>>>,
        },
        Waiting { waiting: Waiting<B, S::Error> },
    }
}

/// Unsafe request that no rule was for at its beginning. Dropped before its end, its outcome is unknown.
pub(crate) trait UnmatchedWrite<B: Body, E>: Send {
    /// Ends it with the answer to it.
    fn end(self: Box<Self>, answer: Result<Response<B>, E>) -> EndOfUnmatched<B, E>;
}

/// End of an unsafe request that no rule was for at its beginning.
pub(crate) enum EndOfUnmatched<B: Body, E> {
    /// The answer passes.
    Passed(Result<Response<B>, E>),
    /// The rules were replaced, so the answer may wait for invalidations.
    Invalidating(Waiting<B, E>),
}

/// Report of a forwarded response: its bucket, and why it is not shared.
pub(crate) struct Mark {
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) bucket: usize,
    pub(crate) why: Unshared,
    pub(crate) began: Instant,
    pub(crate) report: OutcomeReport,
}

impl Mark {
    /// Reports how a forward ended.
    fn put<B: Body, E>(&self, answer: Result<Response<B>, E>) -> Answer<B, E> {
        let took = recent() - self.began;
        self.reporter.metrics.origin_answered(self.bucket, took);
        match answer {
            Ok(mut response) => {
                let outcome = self.why.outcome(response.status());
                self.report.put(&outcome, response.extensions_mut());
                self.reporter.mark(self.bucket, outcome, response.headers_mut(), Some(took));
                Ok(response.map(ResponseBody::passing))
            }
            Err(error) => {
                self.reporter.metrics.failed(self.bucket);
                Err(error)
            }
        }
    }

    fn panicked(&self) {
        self.reporter.metrics.panicked(self.bucket);
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
        let Some(mark) = mark else {
            return match inner.poll_ready(&mut unwoken) {
                Poll::Ready(Ok(())) => {
                    Self { state: FutureState::Passing { inner: inner.call(request) } }
                }
                Poll::Ready(Err(error)) => Self::waiting(ready(Err(error))),
                Poll::Pending => Self::waiting(async {
                    inner.oneshot(request).await.map(|response| response.map(ResponseBody::passing))
                }),
            };
        };
        match watch(&|| mark.panicked(), || inner.poll_ready(&mut unwoken)) {
            Poll::Ready(Ok(())) => {
                let inner = watch(&|| mark.panicked(), || inner.call(request));
                Self { state: FutureState::Marking { inner, mark } }
            }
            Poll::Ready(Err(error)) => Self::waiting(ready(mark.put(Err(error)))),
            Poll::Pending => Self::waiting(async move {
                let answer = Watched::new(inner.oneshot(request), || mark.panicked()).await;
                mark.put(answer)
            }),
        }
    }

    /// Forwards an unsafe request that no rule is for, and passes the response on.
    pub(crate) fn forward_unmatched(
        mut inner: S,
        request: Request<Q>,
        write: Box<dyn UnmatchedWrite<B, S::Error>>,
    ) -> Self {
        match inner.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {
                let (inner, write) = (inner.call(request), Some(write));
                Self { state: FutureState::Unmatched { write, inner } }
            }
            Poll::Ready(Err(error)) => Self::waiting(ready(Err(error))),
            Poll::Pending => Self::waiting(async move {
                match write.end(inner.oneshot(request).await) {
                    EndOfUnmatched::Passed(answer) => {
                        answer.map(|response| response.map(ResponseBody::passing))
                    }
                    EndOfUnmatched::Invalidating(waiting) => waiting.await,
                }
            }),
        }
    }
}

impl<S, Q, B> ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>> + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    /// Changes the response before it leaves. One that no rule is for is left alone.
    #[must_use = "it returns another future"]
    pub(crate) fn changed(
        self,
        change: impl FnOnce(&mut Response<ResponseBody<B>>) + Send + 'static,
    ) -> Self {
        match self.state {
            FutureState::Ready { response: Some(mut response) } => {
                change(&mut response);
                Self::ready(response)
            }
            FutureState::Passing { .. } | FutureState::Unmatched { .. } => self,
            _ => Self::waiting(async move {
                let mut response = self.await?;
                change(&mut response);
                Ok(response)
            }),
        }
    }
}

/// Runs a step of the inner service; `count` is called if it panics.
pub(crate) fn watch<R>(count: &impl Fn(), step: impl FnOnce() -> R) -> R {
    let mut guard = Unwinding { count, is_over: false };
    let result = step();
    guard.is_over = true;
    result
}

/// Guard that is dropped before its step is over if that panics.
struct Unwinding<'c, C: Fn()> {
    count: &'c C,
    is_over: bool,
}

impl<C: Fn()> Drop for Unwinding<'_, C> {
    fn drop(&mut self) {
        if !self.is_over {
            (self.count)();
        }
    }
}

pin_project! {
    /// Future of the inner service, whose panic is counted.
    pub(crate) struct Watched<F, C> {
        #[pin]
        future: F,
        count: C,
    }
}

impl<F, C> Watched<F, C> {
    pub(crate) fn new(future: F, count: C) -> Self {
        Self { future, count }
    }
}

impl<F: Future, C: Fn()> Future for Watched<F, C> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        watch(this.count, || this.future.poll(cx))
    }
}

impl<S, Q, B> Future for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.as_mut().project().state.project() {
            FutureStateProjection::Ready { response } => {
                Poll::Ready(Ok(response.take().expect("polled after it completed")))
            }
            FutureStateProjection::Passing { inner } => {
                inner.poll(cx).map_ok(|response| response.map(ResponseBody::passing))
            }
            FutureStateProjection::Marking { inner, mark } => {
                let answer = task::ready!(watch(&|| mark.panicked(), || inner.poll(cx)));
                Poll::Ready(mark.put(answer))
            }
            FutureStateProjection::Unmatched { write, inner } => {
                let answer = task::ready!(inner.poll(cx));
                let write = write.take().expect("polled after it completed");
                match write.end(answer) {
                    EndOfUnmatched::Passed(answer) => {
                        Poll::Ready(answer.map(|response| response.map(ResponseBody::passing)))
                    }
                    EndOfUnmatched::Invalidating(mut waiting) => {
                        let polled = waiting.as_mut().poll(cx);
                        self.project().state.set(FutureState::Waiting { waiting });
                        polled
                    }
                }
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
