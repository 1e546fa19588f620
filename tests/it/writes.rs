//! Writes: what they invalidate, when, and what holds when nobody knows how they ended.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use http::Method;
use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheRoute, Coalescing, MemoryStore, Refusal, SupportCacheLayer,
    testing::{Chaos, Fault, StoreCall},
};

use crate::support::{self, cache, cache_on, cache_with, fetch, get, got, request, send, settle};

fn comment() -> http::Request<http_body_util::Empty<bytes::Bytes>> {
    request(Method::POST, "/cases/1/comments")
}

/// Fills the cache and returns what it then holds.
async fn fill(cache: &support::Cached, calls: &mut support::Calls, body: &'static str) {
    let first = send(cache, get("/cases/1"));
    calls.next().await.ok(body);
    got(first).await;
    assert!(fetch(cache, "/cases/1").await.is_hit());
}

/// Asserts that what was stored is gone, and that nothing is stored for now.
async fn assert_unsettled(cache: &support::Cached, calls: &mut support::Calls) {
    let next = send(cache, get("/cases/1"));
    calls.now().await.expect("invalidated").ok("x");
    assert!(got(next).await.cache_status().ends_with("detail=unsettled"));
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_before_its_writer_sees_the_response() {
    for status in [200, 201, 204, 302, 303] {
        let (cache, handle, mut calls) = cache();
        fill(&cache, &mut calls, "old").await;
        let write = send(&cache, comment());
        let at_origin = calls.next().await;
        assert!(fetch(&cache, "/cases/1").await.is_hit(), "not before the origin has answered");
        at_origin.with(status, ("x", "y"), "");
        let written = got(write).await;
        assert!(written.cache_status().starts_with("support-cache;fwd=method;fwd-status="));
        let next = send(&cache, get("/cases/1"));
        calls.now().await.expect("nothing stored").ok("new");
        assert_eq!(got(next).await.text(), "new");
        assert_eq!(handle.metrics().invalidations, 1);
    }
}

/// Polled by hand: nothing else runs between the response and the request after it.
#[tokio::test(start_paused = true)]
async fn a_request_right_after_the_response_to_a_write_is_no_hit() {
    let (cache, _, mut calls) = cache();
    fill(&cache, &mut calls, "old").await;
    let mut unwoken = Context::from_waker(Waker::noop());
    let mut write = pin!(cache.clone().oneshot(comment()));
    assert!(write.as_mut().poll(&mut unwoken).is_pending());
    calls.next().await.ok("");
    assert!(write.as_mut().poll(&mut unwoken).is_ready());
    let next = pin!(cache.clone().oneshot(get("/cases/1")));
    assert!(next.poll(&mut unwoken).is_pending(), "a hit would be answered at once");
}

/// The fill's forward began before the write, so what it brings may be from before it.
#[tokio::test(start_paused = true)]
async fn a_fill_that_a_write_overtakes_is_not_stored_and_late_comers_do_not_join_it() {
    let (cache, handle, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let old = calls.next().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    let write = send(&cache, comment());
    calls.next().await.ok("");
    got(write).await;
    let late = send(&cache, get("/cases/1"));
    let new = calls.now().await.expect("the late comer leads a flight of its own");
    old.ok("old");
    let leader = got(leader).await;
    assert!(leader.cache_status().ends_with("detail=fenced"));
    assert_eq!((leader.text(), got(follower).await.text()), ("old", "old"));
    new.ok("new");
    assert_eq!(got(late).await.text(), "new");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
    assert_eq!(handle.metrics().bucket("cases").unwrap().fenced, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_comer_does_not_join_a_body_that_streams_since_before_the_write() {
    let (cache, _, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(3));
    settle().await;
    let write = send(&cache, comment());
    calls.next().await.ok("");
    got(write).await;
    let late = send(&cache, get("/cases/1"));
    calls.now().await.expect("a flight of its own").ok("new");
    assert_eq!(got(late).await.text(), "new");
    gate.send("old");
    gate.end();
    assert_eq!(got(leader).await.text(), "old");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn invalidations_by_handle_hold_before_during_and_after_a_fill() {
    let (cache, handle, mut calls) = cache();
    handle.invalidate("case:1").await.unwrap();
    fill(&cache, &mut calls, "first").await;
    handle.invalidate("case:1").await.unwrap();
    let during = send(&cache, get("/cases/1"));
    let old = calls.now().await.expect("nothing stored");
    handle.invalidate("case:1").await.unwrap();
    old.ok("second");
    got(during).await;
    let next = send(&cache, get("/cases/1"));
    calls.now().await.expect("the second was not stored").ok("third");
    assert_eq!(got(next).await.text(), "third");
    handle.invalidate_all().await.unwrap();
    let next = send(&cache, get("/cases/1"));
    calls.now().await.expect("nothing stored").ok("fourth");
    assert_eq!(got(next).await.text(), "fourth");
}

/// An origin that commits after its 503: what is read in between must not stay.
#[tokio::test(start_paused = true)]
async fn nothing_is_stored_for_ten_seconds_after_a_write_with_an_unknown_outcome() {
    for status in [408, 499, 500, 502, 503, 504] {
        let (cache, handle, mut calls) = cache();
        fill(&cache, &mut calls, "old").await;
        let write = send(&cache, comment());
        calls.next().await.with(status, ("x", "y"), "");
        got(write).await;
        let between = send(&cache, get("/cases/1"));
        calls.now().await.expect("invalidated at once").ok("still old");
        assert!(got(between).await.cache_status().ends_with("detail=unsettled"));
        advance(Duration::from_millis(9_999)).await;
        let between = send(&cache, get("/cases/1"));
        calls.now().await.expect("nothing was stored").ok("still old");
        got(between).await;
        advance(Duration::from_millis(1)).await;
        settle().await;
        fill(&cache, &mut calls, "new").await;
        assert_eq!(handle.metrics().bucket("cases").unwrap().refused[&Refusal::Unsettled], 2);
    }
}

/// Another process may have stored, within the window, what the origin has changed since.
#[tokio::test(start_paused = true)]
async fn a_write_with_an_unknown_outcome_invalidates_again_once_it_is_settled() {
    let invalidated = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&invalidated);
    let store = Chaos::new(MemoryStore::new(), move |call, _| {
        counted.fetch_add(usize::from(call == StoreCall::Invalidate), Ordering::Relaxed);
        Fault::None
    });
    let (cache, _, mut calls) = cache_on(store, |route| route);
    let write = send(&cache, comment());
    calls.next().await.with(503, ("x", "y"), "");
    got(write).await;
    for (millis, times) in [(0, 1), (9_999, 1), (1, 2), (60_000, 2)] {
        advance(Duration::from_millis(millis)).await;
        settle().await;
        assert_eq!(invalidated.load(Ordering::Relaxed), times);
    }
}

/// The fill began in the window, so the origin may have committed after it.
#[tokio::test(start_paused = true)]
async fn a_fill_that_began_before_an_unknown_outcome_is_not_stored() {
    let (cache, handle, mut calls) = cache();
    let before = send(&cache, get("/cases/1"));
    let old = calls.next().await;
    let write = send(&cache, comment());
    calls.next().await.with(503, ("x", "y"), "");
    got(write).await;
    advance(Duration::from_secs(11)).await;
    settle().await;
    old.ok("old");
    got(before).await;
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_service_fails_has_an_unknown_outcome() {
    let (cache, _, mut calls) = cache();
    fill(&cache, &mut calls, "old").await;
    let write = send(&cache, comment());
    calls.next().await.fail();
    assert!(write.await.unwrap().is_err());
    assert_unsettled(&cache, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_panics_has_an_unknown_outcome() {
    let (cache, _, mut calls) = cache();
    fill(&cache, &mut calls, "old").await;
    let write = send(&cache, comment());
    calls.next().await.panic();
    assert!(write.await.unwrap_err().is_panic());
    assert_unsettled(&cache, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_its_client_abandons_completes_and_invalidates() {
    let (cache, handle, mut calls) = cache();
    fill(&cache, &mut calls, "old").await;
    let write = send(&cache, comment());
    let at_origin = calls.next().await;
    write.abort();
    settle().await;
    assert!(at_origin.is_wanted());
    assert!(fetch(&cache, "/cases/1").await.is_hit(), "not before the origin has answered");
    at_origin.ok("");
    settle().await;
    fill(&cache, &mut calls, "new").await;
    assert_eq!(handle.metrics().invalidations, 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_dropped_after_all_has_an_unknown_outcome() {
    let (cache, handle, mut calls) = cache();
    fill(&cache, &mut calls, "old").await;
    let write = send(&cache, comment());
    let at_origin = calls.next().await;
    write.abort();
    settle().await;
    advance(Duration::from_secs(30)).await;
    settle().await;
    assert!(!at_origin.is_wanted(), "thirty seconds are enough");
    assert_eq!(handle.metrics().invalidations, 1);
    assert_unsettled(&cache, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn writes_are_never_answered_or_held_back_by_the_cache() {
    let (cache, _, mut calls) = cache_with(|route| route.coalescing(Coalescing::On));
    let writes: Vec<_> = (0..20).map(|_| send(&cache, comment())).collect();
    let all = calls.all().await;
    assert_eq!(all.len(), 20);
    all.into_iter().for_each(|call| call.ok(""));
    for write in writes {
        got(write).await;
    }
}

/// The service may treat several spellings of a path as one, so a write by any of them may have changed what
/// is stored under another.
#[tokio::test(start_paused = true)]
async fn a_write_finds_the_key_of_a_path_that_its_service_may_normalize() {
    for path in [
        "/cases/1/comments/",
        "//cases//1/comments",
        "/cases/./1/comments",
        "/other/../cases/1/comments",
        "/cases/%31/comments",
        "/cases/1/%63omments//",
    ] {
        let (cache, handle, mut calls) = cache();
        fill(&cache, &mut calls, "old").await;
        let write = send(&cache, request(Method::POST, path));
        calls.next().await.ok("written");
        got(write).await;
        let next = send(&cache, get("/cases/1"));
        calls.now().await.unwrap_or_else(|| panic!("{path}")).ok("new");
        assert_eq!(got(next).await.text(), "new");
        assert_eq!((handle.metrics().invalidations, handle.metrics().writes_unmatched), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_with_an_encoded_dot_finds_the_key_of_a_pattern_with_a_suffix() {
    let route = CacheRoute::get("/items/{id}.json").key("item:{id}").ttl(support::TTL);
    let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
    let (origin, mut calls) = support::origin();
    let cache = layer.layer(origin);
    let reading = send(&cache, get("/items/7.json"));
    calls.next().await.ok("old");
    got(reading).await;
    let write = send(&cache, request(Method::PUT, "/items/7%2Ejson"));
    calls.next().await.ok("written");
    got(write).await;
    let next = send(&cache, get("/items/7.json"));
    calls.now().await.expect("invalidated").ok("new");
    assert_eq!(got(next).await.text(), "new");
}

/// A slash that is encoded is part of a value, and another path is another resource.
#[tokio::test(start_paused = true)]
async fn a_write_to_a_path_that_no_route_is_for_is_counted() {
    for path in ["/cases%2F1/comments", "/rewritten/1/comments", "/cases/1/comments/2"] {
        let (cache, handle, mut calls) = cache();
        fill(&cache, &mut calls, "old").await;
        let write = send(&cache, request(Method::POST, path));
        calls.next().await.ok("written");
        got(write).await;
        assert!(fetch(&cache, "/cases/1").await.is_hit());
        assert_eq!(handle.metrics().writes_unmatched, 1, "{path}");
    }
}
