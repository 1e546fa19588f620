//! A reload replaces the rules and nothing else: requests finish under those that they began with, writes
//! invalidate by those and by the ones in force at their end, and what means the same stays.

use std::time::Duration;

use http::{Method, StatusCode, header::LOCATION};
use tokio::time::advance;
use tower_support_cache::{
    CacheRoute, ConfigErrorKind, InvalidateRoute, MemoryStore, Routes, SupportCacheHandle,
    SupportCacheLayer, Switch,
};

use crate::support::{Cached, Calls, TTL, cache, fetch, get, got, request, send, settle, with};

const SECOND: Duration = Duration::from_secs(1);

/// The route of `cache()`.
fn route() -> CacheRoute {
    CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL).jitter(0)
}

fn comments() -> InvalidateRoute {
    InvalidateRoute::post("/cases/{case}/comments").key("case:{case}")
}

fn reload(handle: &SupportCacheHandle, route: CacheRoute) {
    handle.reload(Routes::new().cache(route)).unwrap();
}

/// Sends a request that is forwarded, and answers it.
async fn fill(cache: &Cached, calls: &mut Calls, uri: &str, body: &'static str) {
    let sent = send(cache, get(uri));
    calls.next().await.ok(body);
    assert_eq!(got(sent).await.text(), body);
    settle().await;
}

fn comment() -> http::Request<http_body_util::Empty<bytes::Bytes>> {
    request(Method::POST, "/cases/1/comments")
}

// ===== what stays =====

#[tokio::test(start_paused = true)]
async fn a_route_that_means_the_same_stays_warm_and_its_new_lifetime_applies_at_once() {
    let (cache, handle, mut calls) = cache();
    fill(&cache, &mut calls, "/cases/1", "first").await;
    reload(&handle, route().ttl(10 * SECOND).body_limit(1024).soft_timeout(SECOND));
    let found = fetch(&cache, "/cases/1").await;
    assert_eq!((found.text(), found.cache_status()), ("first", "support-cache;hit;ttl=10"));
    advance(10 * SECOND).await;
    fill(&cache, &mut calls, "/cases/1", "second").await;
    reload(&handle, route().ttl(100 * SECOND));
    let found = fetch(&cache, "/cases/1").await;
    // It was stored for as long.
    assert_eq!((found.text(), found.cache_status()), ("second", "support-cache;hit;ttl=10"));
    reload(&handle, CacheRoute::get("/cases/{id}").bucket("other").key("case:{id}").ttl(TTL));
    assert!(fetch(&cache, "/cases/1").await.is_hit(), "names mean nothing");
    let (cases, other) =
        (handle.metrics().buckets["cases"].hits, &handle.metrics().buckets["other"]);
    assert_eq!((cases, other.hits), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn counters_and_switches_go_on_and_come_back_with_their_bucket() {
    let (cache, handle, mut calls) = cache();
    fill(&cache, &mut calls, "/cases/1", "first").await;
    handle.switch("cases", Switch::Off);
    reload(&handle, route());
    assert_eq!(handle.metrics().buckets["cases"].switch, Switch::Off);
    let bypassed = send(&cache, get("/cases/1"));
    calls.next().await.ok("not from the store");
    assert!(!got(bypassed).await.is_hit());
    reload(&handle, route().bucket("another"));
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    handle.reload(Routes::new()).unwrap();
    reload(&handle, route());
    let snapshot = handle.metrics();
    assert_eq!(snapshot.buckets["cases"].switch, Switch::Off);
    assert_eq!((snapshot.buckets["cases"].misses, snapshot.buckets["another"].hits), (1, 1));
    assert!(handle.switch("cases", Switch::On));
}

#[tokio::test(start_paused = true)]
async fn routes_are_added_and_removed() {
    let (cache, handle, mut calls) = cache();
    fill(&cache, &mut calls, "/cases/1", "first").await;
    let more = CacheRoute::get("/more").bucket("more").key("more").ttl(TTL);
    handle.reload(Routes::new().cache(more).cache(route())).unwrap();
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    fill(&cache, &mut calls, "/more", "more").await;
    assert!(fetch(&cache, "/more").await.is_hit());
    assert_eq!(handle.metrics().buckets["more"].stored, 1);
    handle.invalidate("more").await.unwrap();
    assert_eq!(handle.metrics().invalidations_unmatched, 0);
    handle.reload(Routes::new()).unwrap();
    let passed = send(&cache, get("/cases/1"));
    calls.next().await.ok("passed");
    assert!(!got(passed).await.fields.contains_key("cache-status"));
    handle.invalidate("more").await.unwrap();
    assert_eq!(handle.metrics().invalidations_unmatched, 1);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_set_changes_nothing_and_is_refused_as_a_builder_refuses_it() {
    let (cache, handle, mut calls) = cache();
    fill(&cache, &mut calls, "/cases/1", "first").await;
    let sets: [fn() -> Routes; 4] = [
        || Routes::new().cache(route().ttl(Duration::ZERO)),
        || Routes::new().cache(route()).cache(CacheRoute::get("/cases/{id}").key("k").ttl(TTL)),
        || Routes::new().invalidate(InvalidateRoute::post("/cases/{case}").key("k:{id}")),
        || {
            Routes::new()
                .cache(route())
                .cache(CacheRoute::get("/a").bucket("cases").key("a").ttl(SECOND))
        },
    ];
    for routes in sets {
        let refused = handle.reload(routes()).unwrap_err();
        let built = SupportCacheLayer::builder(MemoryStore::new()).routes(routes()).build();
        assert_eq!(refused.to_string(), built.unwrap_err().to_string());
    }
    let many = |from: usize| {
        let route = |n| CacheRoute::get(format!("/{n}")).bucket(format!("b{n}")).key("k").ttl(TTL);
        (from..from + 200).fold(Routes::new(), |routes, n| routes.cache(route(n)))
    };
    handle.reload(many(0).cache(route())).unwrap();
    let error = handle.reload(many(200)).unwrap_err();
    assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Bucket, "bucket"));
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    assert!(!handle.metrics().buckets.contains_key("b200"));
}

// ===== requests on their way =====

#[tokio::test(start_paused = true)]
async fn a_request_finishes_under_the_rules_that_it_began_with() {
    let (cache, handle, mut calls) = cache();
    let before = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    reload(&handle, route().statuses([StatusCode::OK]));
    let after = send(&cache, get("/cases/1"));
    let other = calls.next().await;
    call.ok("by the old rules");
    other.ok("by the new rules");
    let before = got(before).await;
    assert_eq!(
        (before.text(), before.cache_status()),
        ("by the old rules", "support-cache;fwd=uri-miss;fwd-status=200;stored")
    );
    assert_eq!(got(after).await.text(), "by the new rules");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "by the new rules");
    let last = send(&cache, get("/cases/2"));
    let call = calls.next().await;
    handle.reload(Routes::new()).unwrap();
    call.ok("of a route that is gone");
    assert!(got(last).await.cache_status().ends_with("stored"));
}

#[tokio::test(start_paused = true)]
async fn requests_join_flights_from_before_where_the_route_means_the_same() {
    let (cache, handle, mut calls) = cache();
    let before = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    reload(&handle, route().ttl(SECOND));
    let after = send(&cache, get("/cases/1"));
    settle().await;
    call.ok("one for both");
    assert_eq!(
        (got(before).await.text(), got(after).await.text()),
        ("one for both", "one for both")
    );
    assert_eq!(calls.count(), 1);
}

// ===== writes on their way =====

/// Begins a write under some rules, replaces them, and fills by those in force; then the write ends.
/// Returns whether its end has removed what was filled.
async fn removes(
    before: Routes,
    after: Routes,
    write: http::Request<http_body_util::Empty<bytes::Bytes>>,
    end: impl FnOnce(crate::support::Call),
) -> bool {
    let (cache, handle, mut calls) = cache();
    handle.reload(before).unwrap();
    let writing = send(&cache, write);
    let call = calls.next().await;
    handle.reload(after).unwrap();
    fill(&cache, &mut calls, "/cases/1", "old").await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    end(call);
    let _ = writing.await;
    settle().await;
    let reading = send(&cache, get("/cases/1"));
    let call = calls.now().await;
    drop(reading);
    call.is_some()
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_by_the_rules_at_its_beginning_and_by_those_at_its_end() {
    let with_rule = |rule: InvalidateRoute| Routes::new().cache(route()).invalidate(rule);
    let without = || Routes::new().cache(route());
    let ok = |call: crate::support::Call| call.ok("written");
    assert!(removes(with_rule(comments()), without(), comment(), ok).await);
    assert!(removes(without(), with_rule(comments()), comment(), ok).await);
    assert!(!removes(without(), without(), comment(), ok).await);
    let by_tag = |routes: Routes| {
        let tagged = route().key("other:{case}").tag("case:{case}");
        routes.cache(tagged)
    };
    let tags = || InvalidateRoute::post("/cases/{case}/comments").tag("case:{case}");
    let of_tag = by_tag(Routes::new().invalidate(tags()));
    assert!(removes(without(), of_tag.clone(), comment(), ok).await);
    assert!(removes(Routes::new(), of_tag, comment(), ok).await);
    let closure = || {
        let of_field = InvalidateRoute::post("/cases/{case}/comments");
        of_field.key_with(|request| {
            let case = request.headers().get("x-case")?.to_str().ok()?;
            Some(format!("case:{case}"))
        })
    };
    let named = with(comment(), "x-case", "1");
    assert!(removes(without(), with_rule(closure()), named, ok).await);
    // The key of the target itself.
    let put = || request(Method::PUT, "/cases/1");
    assert!(removes(Routes::new(), without(), put(), ok).await);
    let renamed = Routes::new().cache(route().key("renamed:{case}"));
    assert!(removes(without(), renamed, put(), ok).await);
}

#[tokio::test(start_paused = true)]
async fn how_a_write_ends_counts_as_ever_for_the_rules_at_its_end() {
    let rules = || Routes::new().cache(route()).invalidate(comments());
    let before = || Routes::new();
    let status = |status| move |call: crate::support::Call| call.with(status, ("x-a", "1"), "-");
    assert!(!removes(before(), rules(), comment(), status(404)).await);
    assert!(removes(before(), rules(), comment(), status(503)).await);
    assert!(removes(before(), rules(), comment(), crate::support::Call::fail).await);
    assert!(removes(before(), rules(), comment(), crate::support::Call::panic).await);
    let at = |call: crate::support::Call| call.with(201, (LOCATION.as_str(), "/cases/1"), "-");
    let posted = || request(Method::POST, "/cases/2/comments");
    assert!(removes(before(), rules(), posted(), at).await);
    assert!(!removes(before(), Routes::new().cache(route()), posted(), at).await);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_no_rule_was_for_and_that_loses_its_client_is_of_unknown_outcome() {
    let (cache, handle, mut calls) = cache();
    handle.reload(Routes::new()).unwrap();
    let writing = send(&cache, comment());
    let call = calls.next().await;
    handle.reload(Routes::new().cache(route()).invalidate(comments())).unwrap();
    fill(&cache, &mut calls, "/cases/1", "old").await;
    writing.abort();
    settle().await;
    assert!(!call.is_wanted());
    let reading = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(reading).await.text(), "new");
}

/// The origin may commit it for as long as its window, whatever its key is called by then.
#[tokio::test(start_paused = true)]
async fn a_new_route_stores_nothing_while_a_write_from_before_the_reload_may_be_committed() {
    type End = fn(crate::support::Call);
    let status: [End; 2] =
        [|call| call.with(503, ("x-a", "1"), "-"), |call| call.with(202, ("x-a", "1"), "-")];
    let gone: End = crate::support::Call::fail;
    for before in [|| Routes::new().cache(route()).invalidate(comments()), Routes::new] {
        for end in status.into_iter().chain([gone]) {
            let (cache, handle, mut calls) = cache();
            handle.reload(before()).unwrap();
            let writing = send(&cache, comment());
            end(calls.next().await);
            let _ = writing.await;
            reload(&handle, route().key("renamed:{case}"));
            for _ in 0..2 {
                let reads = [(); 3].map(|()| send(&cache, get("/cases/1")));
                let [call] = <[_; 1]>::try_from(calls.all().await).ok().expect("one forward");
                call.ok("old");
                for read in reads {
                    assert_eq!(got(read).await.text(), "old");
                }
            }
            advance(9 * SECOND).await;
            fill(&cache, &mut calls, "/cases/1", "old").await;
            advance(SECOND).await;
            fill(&cache, &mut calls, "/cases/1", "new").await;
            assert!(fetch(&cache, "/cases/1").await.is_hit());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_route_waits_for_the_window_of_the_rule_that_matched_a_write() {
    let (cache, handle, mut calls) = cache();
    let rule = comments().unknown_for(60 * SECOND);
    handle.reload(Routes::new().cache(route()).invalidate(rule)).unwrap();
    let writing = send(&cache, comment());
    calls.next().await.fail();
    let _ = writing.await;
    // What means the same goes on.
    fill(&cache, &mut calls, "/cases/2", "two").await;
    handle.reload(Routes::new().cache(route())).unwrap();
    assert!(fetch(&cache, "/cases/2").await.is_hit());
    reload(&handle, route().key("renamed:{case}"));
    advance(59 * SECOND).await;
    fill(&cache, &mut calls, "/cases/1", "old").await;
    advance(SECOND).await;
    fill(&cache, &mut calls, "/cases/1", "new").await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

// ===== back and forth =====

/// Rules between may have let writes pass that invalidate what was stored before.
#[tokio::test(start_paused = true)]
async fn a_route_that_comes_back_uses_nothing_from_before() {
    let (cache, handle, mut calls) = cache();
    fill(&cache, &mut calls, "/cases/1", "old").await;
    let slow = send(&cache, get("/cases/2"));
    let call = calls.next().await;
    reload(&handle, route().key("renamed:{case}"));
    for case in ["/cases/1", "/cases/2"] {
        let writing = send(&cache, request(Method::PUT, case));
        calls.next().await.ok("written");
        got(writing).await;
    }
    reload(&handle, route());
    fill(&cache, &mut calls, "/cases/1", "new").await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
    let reading = send(&cache, get("/cases/2"));
    let newer = calls.next().await;
    call.ok("old");
    got(slow).await;
    settle().await;
    newer.ok("new");
    assert_eq!(got(reading).await.text(), "new");
    assert_eq!(fetch(&cache, "/cases/2").await.text(), "new");
    // A further reload changes nothing of that.
    reload(&handle, route().ttl(TTL / 2));
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}
