//! The vectors of `docs/security.md`: what a response cache must never do, one named test each.

mod bodies;
mod coalescing;
mod cookies;
mod directives;
mod document;
mod identity;
mod inputs;
mod invalidation;
mod keys;
mod privacy;
mod vary;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::Empty;
use tower_support_cache::{BucketSnapshot, CacheRoute, SupportCacheHandle};

use crate::support::{self, Cached, GatedBody, Got, cache_with, got, send};

type Asked = Request<Empty<Bytes>>;

/// A cache over an origin that answers every request at once.
struct Site {
    cache: Cached,
    handle: SupportCacheHandle,
    calls: Arc<AtomicUsize>,
}

impl Site {
    fn new(
        route: impl FnOnce(CacheRoute) -> CacheRoute,
        answer: impl Fn(&request::Parts) -> Response<GatedBody> + Send + 'static,
    ) -> Self {
        let (cache, handle, calls) = cache_with(route);
        Self { cache, handle, calls: calls.serve(answer) }
    }

    async fn ask(&self, request: Asked) -> Got {
        got(send(&self.cache, request)).await
    }

    /// How many requests the origin has answered.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn counts(&self) -> BucketSnapshot {
        self.handle.metrics().bucket("cases").unwrap().clone()
    }
}

/// Answers 200 with these fields and a body that no other response has.
fn numbered(
    fields: &[(&'static str, &str)],
) -> impl Fn(&request::Parts) -> Response<GatedBody> + use<> {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let count = AtomicUsize::new(0);
    move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let mut response = Response::new(GatedBody::full(number.to_string()));
        for (name, value) in &fields {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    }
}

/// Adds fields to a request.
fn with_all(mut request: Asked, fields: &[(&'static str, &str)]) -> Asked {
    for (name, value) in fields {
        request = support::with(request, name, value);
    }
    request
}
