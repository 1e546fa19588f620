//! What a hostile reviewer tried: interleavings, extremes and lies that no list of attacks names.

mod support;

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::AUTHORIZATION};
use http_body::Body;
use tower::{Layer, ServiceExt};
use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};

use support::*;

fn asking(x: &str) -> http::Request<http_body_util::Empty<Bytes>> {
    with(get("/cases/1"), "x", x)
}

// ===== privacy =====

/// Trailers are not stored, so they are not shared either.
#[tokio::test(start_paused = true)]
async fn trailers_are_the_leaders_own() {
    let (cache, _, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(4));
    settle().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("set-cookie", "session=alice".parse().unwrap());
    gate.send("body");
    gate.trailers(trailers);
    gate.end();
    assert!(got(leader).await.trailers.is_some());
    let follower = got(follower).await;
    assert!(follower.cache_status().contains("collapsed"), "{}", follower.cache_status());
    assert_eq!((follower.text(), &follower.trailers), ("body", &None));
}
