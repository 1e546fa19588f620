//! What is in use is refreshed before it is stale, by one request at a time and at nobody's expense.

use std::time::Duration;

use tokio::time::advance;
use tower_support_cache::{CacheRoute, RequestDirectives, SupportCacheHandle};

use crate::support::{Cached, Calls, cache_with, fetch, get, got, response, send, settle, with};

const SECOND: Duration = Duration::from_secs(1);
const FILL: Duration = Duration::from_secs(1000);
/// So near the end that one toss in a million is against a refresh.
const BEFORE: Duration = Duration::from_millis(1);

/// Fresh for 100,000 s, and filled in 1,000.
fn eager(route: CacheRoute) -> CacheRoute {
    route.ttl(100 * FILL).early_refresh(1.0)
}

/// Stores a response, and lets time pass until `left` before it is stale.
async fn stored(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
    left: Duration,
) -> (Cached, SupportCacheHandle, Calls) {
    let (cache, handle, mut calls) = cache_with(route);
    let first = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    advance(FILL).await;
    call.ok("old");
    got(first).await;
    settle().await;
    advance(100 * FILL - left).await;
    (cache, handle, calls)
}

#[tokio::test(start_paused = true)]
async fn a_hit_near_the_end_is_answered_at_once_and_one_request_asks_for_all() {
    let (cache, handle, mut calls) = stored(eager, BEFORE).await;
    for _ in 0..5 {
        let hit = fetch(&cache, "/cases/1").await;
        assert_eq!((hit.text(), hit.cache_status()), ("old", "support-cache;hit;ttl=0"));
    }
    let mut asked = calls.all().await;
    assert_eq!(asked.len(), 1, "one asks for all");
    asked.remove(0).ok("new");
    settle().await;
    let fresh = fetch(&cache, "/cases/1").await;
    assert_eq!((fresh.text(), fresh.cache_status()), ("new", "support-cache;hit;ttl=100000"));
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.hits, counts.refreshes, counts.misses, counts.stale.len()), (6, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hit_far_from_the_end_asks_nobody() {
    // 45 times what a fill takes, which no chance reaches.
    let (cache, _, mut calls) = stored(eager, 45 * FILL).await;
    for _ in 0..100 {
        advance(Duration::from_nanos(1)).await;
        assert!(fetch(&cache, "/cases/1").await.is_hit());
    }
    assert!(calls.all().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refreshed_early_by_default() {
    let (cache, _, mut calls) = stored(|route| route.ttl(100 * FILL), BEFORE).await;
    for _ in 0..100 {
        advance(Duration::from_nanos(1)).await;
        assert!(fetch(&cache, "/cases/1").await.is_hit());
    }
    assert!(calls.all().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_fails_is_let_be_and_what_is_fresh_stays() {
    for status in [Some(503), None] {
        let (cache, _, mut calls) = stored(eager, BEFORE).await;
        assert!(fetch(&cache, "/cases/1").await.is_hit());
        let call = calls.next().await;
        match status {
            Some(status) => call.with(status, ("x", "y"), "down"),
            None => call.fail(),
        }
        settle().await;
        for _ in 0..100 {
            advance(Duration::from_micros(1)).await;
            assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        }
        settle().await;
        assert_eq!(calls.count(), 2, "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_wins_over_a_refresh_on_its_way() {
    let (cache, handle, mut calls) = stored(eager, BEFORE).await;
    fetch(&cache, "/cases/1").await;
    let call = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    call.ok("overtaken");
    settle().await;
    let again = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(again).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn what_expires_during_its_refresh_is_waited_for() {
    let (cache, _, mut calls) = stored(eager, BEFORE).await;
    fetch(&cache, "/cases/1").await;
    let call = calls.next().await;
    advance(SECOND).await;
    let late = send(&cache, get("/cases/1"));
    settle().await;
    call.ok("new");
    assert_eq!((got(late).await.text(), calls.count()), ("new", 2));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_longer_stored_leaves_the_old_one_its_time() {
    let (cache, _, mut calls) = stored(eager, BEFORE).await;
    for _ in 0..2 {
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        calls.next().await.respond(response(200, &[("cache-control", "no-store")], "secret"));
        settle().await;
    }
    advance(SECOND).await;
    let next = send(&cache, get("/cases/1"));
    calls.next().await.ok("its own");
    assert_eq!(got(next).await.text(), "its own");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_what_it_accepts_refreshes_nothing() {
    let route = |route| eager(route).request_directives(RequestDirectives::Honour);
    let (cache, _, mut calls) = stored(route, BEFORE).await;
    let picky = send(&cache, with(get("/cases/1"), "cache-control", "only-if-cached"));
    assert!(got(picky).await.is_hit());
    assert!(calls.all().await.is_empty());
}
