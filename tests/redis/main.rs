//! The layer over Redis: real servers, which the tests start, kill, stop, demote and fill.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/dialect.rs"]
mod dialect;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/random.rs"]
mod random;
#[cfg(feature = "metrics")]
#[path = "../support/recorder.rs"]
mod recorder;
#[path = "../support/replica.rs"]
mod replica;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod budget;
mod capabilities;
mod clock;
#[cfg(feature = "config")]
mod configured;
mod conformance;
mod content;
mod crowd;
mod deploy;
mod dialects;
#[cfg(feature = "encode")]
mod encode;
mod faults;
mod harness;
mod heartbeats;
mod identity;
mod invalidation;
mod load;
mod near;
mod near_cluster;
mod pending;
#[cfg(feature = "metrics")]
mod published;
mod recall;
mod records;
mod refill;
mod sharing;
mod shutdown;
mod starved;
mod suspended;
mod tags;
mod topology;
mod unknown;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use server::{PATIENCE, Server, until};
use support::{Cached, Calls, Got, TTL, get, got, origin, send};
use tower::Layer;
use tower_support_cache::{
    BucketSnapshot, CacheRoute, CallerKey, InvalidateRoute, RedisStore, RedisStoreBuilder,
    StoreSnapshot, SupportCacheHandle, SupportCacheLayer,
};

/// The defaults, on which what is promised about faults depends.
const HEARTBEAT: Duration = Duration::from_millis(200);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(100);

/// Returns a builder of a store without a near cache: what it answers is what the server has.
fn far(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url).near_cache_capacity(0)
}

/// Returns a builder of a store that is patient: a busy machine is no fault.
fn patient(url: &str) -> RedisStoreBuilder {
    far(url)
        .lookup_budget(PATIENCE)
        .invalidate_budget(PATIENCE)
        .heartbeat(HEARTBEAT)
        .heartbeat_timeout(Duration::from_millis(800))
}

fn layer_on(
    store: RedisStore,
    route: impl FnOnce(CacheRoute) -> CacheRoute,
) -> SupportCacheLayer<RedisStore> {
    let cached = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}");
    let invalidating = InvalidateRoute::post("/cases/{case}/comments").key("case:{case}");
    let builder = SupportCacheLayer::builder(store)
        // The same in all processes, or they do not agree on the values of fields.
        .caller_key(CallerKey::new([1; 32]))
        .cache(route(cached.ttl(TTL).jitter(0)))
        .invalidate(invalidating);
    builder.build().unwrap()
}

/// Sends requests until two links to the server were refused: one that is not used is asked again.
async fn refuses(server: &Server, mut ask: impl AsyncFnMut()) {
    // Each connection begins with it.
    let asked = async || server.calls().await.get("hello").copied().unwrap_or(0);
    let before = asked().await;
    until(PATIENCE, "two links are refused", async || {
        ask().await;
        (asked().await >= before + 2).then_some(())
    })
    .await;
}

/// A cache over Redis whose origin waits for the test, as one process has it.
struct Site {
    cache: Cached<RedisStore>,
    handle: SupportCacheHandle,
    calls: Calls,
}

impl Site {
    /// A site that is linked to its server.
    async fn on(url: &str) -> Self {
        Self::over(patient(url).build().unwrap()).await
    }

    /// A site with the defaults, linked to its server.
    async fn prompt(url: &str) -> Self {
        Self::over(far(url).build().unwrap()).await
    }

    async fn over(store: RedisStore) -> Self {
        Self::lazy(store, |route| route).linked().await
    }

    /// A site that has not asked its server for anything yet.
    fn lazy(store: RedisStore, route: impl FnOnce(CacheRoute) -> CacheRoute) -> Self {
        Self::of(&layer_on(store, route))
    }

    fn of(layer: &SupportCacheLayer<RedisStore>) -> Self {
        let (origin, calls) = origin();
        Self { cache: layer.layer(origin), handle: layer.handle(), calls }
    }

    /// Waits until there is a link to the server.
    async fn linked(self) -> Self {
        self.is_linked_again().await;
        self
    }

    async fn is_linked_again(&self) {
        until(PATIENCE, "there is a link", async || {
            let is_acknowledged = self.handle.invalidate("another").await.is_ok();
            (is_acknowledged && self.store().is_linked).then_some(())
        })
        .await;
    }

    /// Sends a request; if the origin is asked, it answers with `body`.
    async fn ask(&mut self, request: Request<Empty<Bytes>>, body: &'static str) -> Got {
        let mut reading = send(&self.cache, request);
        loop {
            tokio::select! {
                read = &mut reading => return read.unwrap().expect("no request fails"),
                call = self.calls.next() => call.ok(body),
            }
        }
    }

    /// Reads `/cases/1`; if the origin is asked, it answers with `body`.
    async fn read(&mut self, body: &'static str) -> Got {
        self.ask(get("/cases/1"), body).await
    }

    /// Fills `/cases/1`, and any other body than this one is a failure.
    async fn fill(&mut self, body: &'static str) {
        until(PATIENCE, "a response is stored", async || {
            let read = self.read(body).await;
            assert_eq!(read.text(), body, "{}", read.cache_status());
            read.is_hit().then_some(())
        })
        .await;
    }

    /// Asserts that `/cases/1` is answered from the store.
    async fn hits(&mut self, body: &str) {
        let read = self.read("not from the store").await;
        assert_eq!((read.text(), read.is_hit()), (body, true), "{}", read.cache_status());
    }

    /// Asserts that `/cases/1` is answered with a stale response while it is revalidated.
    async fn is_stale(&self, body: &str) {
        let read = got(send(&self.cache, get("/cases/1"))).await;
        assert_eq!(read.text(), body);
        let status = read.cache_status();
        assert!(status.contains("detail=stale-while-revalidate"), "{status}");
    }

    fn store(&self) -> StoreSnapshot {
        self.handle.metrics().store.expect("a store over a network has counts")
    }

    fn counts(&self) -> BucketSnapshot {
        self.handle.metrics().bucket("cases").unwrap().clone()
    }
}
