//! Layer that reads the content of requests, for routes whose requests have any.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    exchange::{self, Cache},
    future::ResponseFuture,
    peek::PeekedBody,
    store::Store,
};

/// Layer that caches responses, also to requests whose content says what they ask
/// ([`CacheRoute::query`](crate::CacheRoute::query)).
///
/// [`SupportCacheLayer::reading_content`](crate::SupportCacheLayer::reading_content) makes it. It does what
/// that layer does, with the same rules, store and handle. The difference is the type of the bodies that the
/// inner service gets: [`PeekedBody`], of which the cache may have read data and put it back. Handlers of axum
/// take any type of body; the service of another framework names it.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_support_cache::{CacheRoute, MemoryStore, PeekedBody, SupportCacheLayer};
///
/// async fn search(request: Request<PeekedBody<Full<Bytes>>>) -> Result<Response<Full<Bytes>>, Infallible> {
///     let asked = request.into_body().collect().await?.to_bytes();
///     Ok(Response::new(Full::new(asked)))
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .cache(CacheRoute::query("/search").key("search").ttl(Duration::from_secs(60)))
///     .build()
///     .unwrap();
/// let service =
///     ServiceBuilder::new().layer(layer.reading_content()).service(service_fn(search));
/// let request = Request::builder().method("QUERY").uri("/search");
/// let request = request.header("content-type", "text/plain").body(Full::from("cats")).unwrap();
/// let found = service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
/// assert_eq!(found.to_bytes(), "cats");
/// # }
/// ```
pub struct ReadContentLayer<St> {
    cache: Arc<Cache<St>>,
}

/// Service of [`ReadContentLayer`].
///
/// ```
/// use tower_layer::Layer;
/// use tower_support_cache::{MemoryStore, ReadContent, SupportCacheLayer};
///
/// let layer = SupportCacheLayer::new(MemoryStore::new()).reading_content();
/// let service: ReadContent<&str, MemoryStore> = layer.layer("inner");
/// assert_eq!(service.into_inner(), "inner");
/// ```
pub struct ReadContent<S, St> {
    inner: S,
    cache: Arc<Cache<St>>,
}

impl<St> ReadContentLayer<St> {
    pub(crate) fn new(cache: Arc<Cache<St>>) -> Self {
        Self { cache }
    }
}

impl<S, St> ReadContent<S, St> {
    /// Takes the cache off its inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, St> Layer<S> for ReadContentLayer<St> {
    type Service = ReadContent<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        ReadContent { inner, cache: Arc::clone(&self.cache) }
    }
}

impl<S, St, ReqBody, ResBody> Service<Request<ReqBody>> for ReadContent<S, St>
where
    S: Service<Request<PeekedBody<ReqBody>>, Response = Response<ResBody>>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    St: Store,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ReqBody::Error: Send,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Send + 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, PeekedBody<ReqBody>, ResBody>;

    /// Always ready, as [`SupportCache`](crate::SupportCache) is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let request = request.map(PeekedBody::unread);
        exchange::begin(&self.cache, &self.inner, request, |body| Some(body))
    }
}

impl<St> Clone for ReadContentLayer<St> {
    fn clone(&self) -> Self {
        Self { cache: Arc::clone(&self.cache) }
    }
}

impl<S: Clone, St> Clone for ReadContent<S, St> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), cache: Arc::clone(&self.cache) }
    }
}

impl<St> fmt::Debug for ReadContentLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadContentLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, St> fmt::Debug for ReadContent<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadContent").field("inner", &self.inner).finish_non_exhaustive()
    }
}
