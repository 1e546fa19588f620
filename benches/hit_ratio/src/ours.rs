//! Our cache, as a service has it: requests go through the layer, and the origin's time is tokio's, paused.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{CacheRoute, MemoryStore, SupportCache, SupportCacheLayer};

/// Longer than all fills of a stream take together.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Cache over an origin that takes as long as it is told.
pub struct Ours {
    cache: SupportCache<Origin, MemoryStore>,
    layer: SupportCacheLayer<MemoryStore>,
    calls: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Origin {
    calls: Arc<AtomicU64>,
    body: Bytes,
}

/// Response of the origin.
#[derive(Clone, Copy)]
struct Reply {
    size: usize,
    time: u64,
}

impl Ours {
    pub fn new(capacity: u64) -> Self {
        let store = MemoryStore::builder().capacity(capacity).build().expect("over 16 KiB");
        let route = CacheRoute::get("/objects/{object}").key("object:{object}").ttl(LIFETIME);
        let layer = SupportCacheLayer::builder(store).cache(route).build().expect("a route");
        let calls = Arc::<AtomicU64>::default();
        let body = Bytes::from(vec![b'x'; 512 * 1024]);
        let cache = layer.layer(Origin { calls: Arc::clone(&calls), body });
        Self { cache, layer, calls }
    }

    /// Asks for an object, which takes `time` milliseconds if the origin is asked. Returns whether it was a hit.
    pub async fn get(&self, key: u32, size: usize, time: u64) -> bool {
        let before = self.calls.load(Ordering::Relaxed);
        // The same length for all, so that all weigh the same but for their bodies.
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = format!("/objects/{key:010}").parse().expect("a path");
        request.extensions_mut().insert(Reply { size, time });
        let Ok(response) = self.cache.clone().oneshot(request).await;
        let body = response.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes().len(), size);
        self.calls.load(Ordering::Relaxed) == before
    }

    /// Returns the bytes that an entry weighs besides its body, once the names of its fields are shared.
    pub async fn overhead() -> u64 {
        const SIZE: usize = 1000;
        let ours = Self::new(16 << 20);
        let mut weights = [0; 2];
        for key in 0..2000 {
            ours.get(key, SIZE, 1).await;
            weights[(key / 1000) as usize] = ours.bytes();
        }
        (weights[1] - weights[0]) / 1000 - SIZE as u64
    }

    fn bytes(&self) -> u64 {
        self.layer.handle().metrics().bucket("default").expect("the route's").bytes
    }
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let Reply { size, time } =
            *request.extensions().get().expect("the client says what it wants");
        self.calls.fetch_add(1, Ordering::Relaxed);
        let body = self.body.slice(..size);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(time)).await;
            let mut response = Response::new(Full::new(body));
            let fields = response.headers_mut();
            for (name, value) in [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "public, max-age=3600"),
                (header::DATE, "Sun, 22 Nov 2026 12:00:00 GMT"),
                (header::ETAG, "\"33a64df551425fcc55e4d42a148795d0\""),
                (header::LAST_MODIFIED, "Sun, 22 Nov 2026 11:00:00 GMT"),
            ] {
                fields.insert(name, HeaderValue::from_static(value));
            }
            Ok(response)
        })
    }
}
