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

/// Service that answers requests from the cache, and forwards the others to its inner service.
///
/// [`SupportCacheLayer`](crate::SupportCacheLayer) makes it. It is always ready: a hit does not wait for
/// the inner service.
///
/// The extensions of a response are not stored. They are there on the response of the request that was
/// forwarded, and missing on a hit. An outer layer that reads them must do without them on a hit, or
/// read a header field instead.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, Service, service_fn};
/// use tower_support_cache::{MemoryStore, SupportCacheLayer};
///
/// #[derive(Clone)]
/// struct Shard(u8);
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let inner = service_fn(async |_: Request<String>| {
///     let mut response = Response::new("the cases".to_owned());
///     response.extensions_mut().insert(Shard(7));
///     Ok::<_, std::convert::Infallible>(response)
/// });
/// let mut cached = SupportCacheLayer::new(MemoryStore::new()).layer(inner);
/// let request = || Request::get("/accounts/A1/cases").body(String::new()).unwrap();
///
/// let miss = cached.call(request()).await.unwrap();
/// assert!(miss.extensions().get::<Shard>().is_some());
/// # use http_body_util::BodyExt;
/// miss.into_body().collect().await.unwrap();
/// let hit = cached.call(request()).await.unwrap();
/// assert!(hit.extensions().get::<Shard>().is_none());
/// # }
/// ```
pub struct SupportCache<S, St> {
    inner: S,
    cache: Arc<Cache<St>>,
}

impl<S, St> SupportCache<S, St> {
    pub(crate) fn new(inner: S, cache: Arc<Cache<St>>) -> Self {
        Self { inner, cache }
    }

    /// Returns the inner service.
    ///
    /// ```
    /// use tower_layer::Layer;
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).layer("inner");
    /// assert_eq!(*cache.get_ref(), "inner");
    /// assert_eq!(cache.into_inner(), "inner");
    /// ```
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the cache off its inner service.
    pub fn into_inner(self) -> S {
        self.inner
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
        exchange::begin(&self.cache, &self.inner, request, |_| None)
    }
}
