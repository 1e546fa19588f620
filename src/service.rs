//! The service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::{body::ResponseBody, exchange, exchange::Cache, future::ResponseFuture, store::Store};

/// A service that answers from the cache what it may and forwards the rest.
///
/// Made by [`SupportCacheLayer`](crate::SupportCacheLayer). See the [crate documentation](crate).
pub struct SupportCache<S, St> {
    inner: S,
    cache: Arc<Cache<St>>,
}

impl<S, St> SupportCache<S, St> {
    pub(crate) fn new(inner: S, cache: Arc<Cache<St>>) -> Self {
        Self { inner, cache }
    }
}

impl<S: Clone, St> Clone for SupportCache<S, St> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), cache: Arc::clone(&self.cache) }
    }
}

impl<S: fmt::Debug, St> fmt::Debug for SupportCache<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupportCache").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, St, ReqBody, ResBody> Service<Request<ReqBody>> for SupportCache<S, St>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    St: Store,
    ReqBody: Body + Send + 'static,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Send + 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, ResBody>;

    /// Always ready: a hit must not wait for the inner service. What is forwarded waits for it in
    /// its own future, on a clone that is polled and called as one.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        exchange::begin(&self.cache, &self.inner, request)
    }
}
