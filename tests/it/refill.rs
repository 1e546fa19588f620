//! Fills soon after an invalidation: their handler is told, and what a replica may have answered ends soon.

#![allow(clippy::disallowed_methods)] // A handler is told a time of day.

use std::time::{Duration, SystemTime};

use http::{Method, Response};
use tokio::time::advance;
use tower::Layer;
use tower_support_cache::{
    CacheRoute, ConfigErrorKind, Freshness, InvalidateRoute, MemoryStore, OriginBudget, Refill,
    Routes, SparedCall, Store, SupportCacheHandle, SupportCacheLayer,
    testing::{Chaos, Fault, StoreCall},
};

use crate::support::{
    Cached, Call, Calls, GatedBody, TTL, fetch, get, got, origin, request, response, send, settle,
};

const SECOND: Duration = Duration::from_secs(1);

/// Settling time of the route, but for a test that says otherwise.
const SETTLE: Duration = Duration::from_secs(5);

fn cases() -> CacheRoute {
    let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").tag("all");
    route.ttl(TTL).jitter(0).settle(SETTLE)
}

fn layer_of<St: Store>(store: St, route: CacheRoute) -> SupportCacheLayer<St> {
    SupportCacheLayer::builder(store)
        .cache(route)
        .cache(CacheRoute::get("/other").bucket("other").key("other").ttl(TTL).settle(SETTLE))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap()
}

fn cached(route: CacheRoute) -> (Cached, SupportCacheHandle, Calls) {
    over(MemoryStore::new(), route)
}

fn over<St: Store>(store: St, route: CacheRoute) -> (Cached<St>, SupportCacheHandle, Calls) {
    let layer = layer_of(store, route);
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

fn told(call: &Call) -> Option<Refill> {
    call.head.extensions.get().copied()
}

/// Reads a case, which the origin is asked for. Returns what the handler is told, and what the cache then says
/// of a hit.
async fn fill_with<St: Store>(
    cache: &Cached<St>,
    calls: &mut Calls,
    uri: &str,
    answer: impl FnOnce(Option<Refill>) -> Response<GatedBody>,
) -> (Option<Refill>, String) {
    let read = send(cache, get(uri));
    let call = calls.now().await.expect("the origin is asked");
    let refill = told(&call);
    call.respond(answer(refill));
    got(read).await;
    settle().await;
    (refill, fetch(cache, uri).await.cache_status().to_owned())
}

/// Reads a case, for which a handler is asked that does not heed what it is told.
async fn fill<St: Store>(cache: &Cached<St>, calls: &mut Calls) -> (Option<Refill>, String) {
    fill_with(cache, calls, "/cases/1", |_| response(200, &[], "body")).await
}

fn hit(ttl: u64) -> String {
    format!("support-cache;hit;ttl={ttl}")
}

// ===== what a handler is told =====

#[tokio::test(start_paused = true)]
async fn a_handler_is_told_of_an_invalidation_within_the_settling_time_whatever_it_was_of() {
    let (cache, handle, mut calls) = cached(cases());
    assert_eq!(fill(&cache, &mut calls).await, (None, hit(60)), "nothing was invalidated");
    for what in ["key", "tag", "bucket", "all", "softly", "tag softly", "write", "write in doubt"] {
        for (later, is_told) in [(4, true), (5, false)] {
            match what {
                "key" => handle.invalidate("case:1").await.unwrap(),
                "tag" => handle.invalidate_tag("all").await.unwrap(),
                "bucket" => handle.invalidate_bucket("cases").await.unwrap(),
                "all" => handle.invalidate_all().await.unwrap(),
                "softly" => handle.soft_invalidate("case:1").await.unwrap(),
                "tag softly" => handle.soft_invalidate_tag("all").await.unwrap(),
                _ => {
                    let status = if what == "write" { 201 } else { 503 };
                    let write = send(&cache, request(Method::POST, "/cases/1/comments"));
                    calls.next().await.respond(response(status, &[], ""));
                    got(write).await;
                }
            }
            advance(later * SECOND).await;
            let read = send(&cache, get("/cases/1"));
            let call = calls.now().await.expect("the origin is asked");
            assert_eq!(told(&call).is_some(), is_told, "{what}, {later} s later");
            call.ok("body");
            got(read).await;
            advance(TTL).await;
            settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_told_of_the_last_invalidation_and_of_its_time() {
    let (cache, handle, mut calls) = cached(cases());
    handle.invalidate_all().await.unwrap();
    advance(SECOND).await;
    let before = SystemTime::now();
    handle.invalidate("case:1").await.unwrap();
    advance(2 * SECOND).await;
    handle.invalidate("case:2").await.unwrap();
    let refill = fill(&cache, &mut calls).await.0.unwrap();
    // Paused time has moved by a second since the test began, and the time of day with it.
    let ago = (refill.since + SECOND / 2).duration_since(before + SECOND);

    assert!(ago.is_ok_and(|ago| ago < SECOND), "{:?} {before:?}", refill.since);
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_told_nothing_without_a_settling_time_nor_about_anything_else() {
    let plain = cases();
    let (cache, handle, mut calls) = cached(plain);
    handle.invalidate("case:2").await.unwrap();
    handle.invalidate_bucket("other").await.unwrap();
    assert_eq!(fill(&cache, &mut calls).await, (None, hit(60)));
    assert_eq!(handle.metrics().bucket("cases").unwrap().refills, 0);

    let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL);
    let (cache, handle, mut calls) = cached(route.jitter(0));
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(fill(&cache, &mut calls).await, (None, hit(60)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_told_of_what_another_layer_on_the_store_has_invalidated() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let other = layer_of(std::sync::Arc::clone(&store), cases()).handle();
    let (cache, handle, mut calls) = over(store, cases());
    other.invalidate("case:1").await.unwrap();
    assert_eq!(fill(&cache, &mut calls).await.1, hit(5));
    assert_eq!(handle.metrics().bucket("cases").unwrap().refills, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_say_may_have_had_an_invalidation() {
    let faults = |fault| {
        Chaos::new(MemoryStore::new(), move |call, _| match call {
            StoreCall::SinceInvalidation => fault,
            _ => Fault::None,
        })
    };
    for fault in [Fault::Fail, Fault::Hang] {
        let (cache, _, mut calls) = over(faults(fault), cases());
        let read = send(&cache, get("/cases/1"));
        advance(10 * SECOND).await;
        let call = calls.next().await;
        assert!(told(&call).is_some(), "{fault:?}");
        call.ok("body");
        got(read).await;
        assert_eq!(fetch(&cache, "/cases/1").await.cache_status(), hit(5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_brings_a_settling_time() {
    let (cache, handle, mut calls) = cached(cases());
    handle.reload(Routes::new().cache(cases().settle(20 * SECOND))).unwrap();
    handle.invalidate("case:1").await.unwrap();
    advance(12 * SECOND).await;
    let (refill, said) = fill(&cache, &mut calls).await;
    assert_eq!((refill.is_some(), said), (true, hit(8)));
}

#[tokio::test(start_paused = true)]
async fn a_request_of_the_head_that_could_confirm_what_is_stored_is_told_too() {
    let route = cases().freshness(Freshness::Origin).stale_if_error(TTL);
    let (cache, handle, mut calls) = cached(route);
    let tagged = || response(200, &[("etag", "\"1\""), ("cache-control", "max-age=60")], "body");
    fill_with(&cache, &mut calls, "/cases/1", |_| tagged()).await;
    handle.soft_invalidate("case:1").await.unwrap();
    let head = send(&cache, request(Method::HEAD, "/cases/1"));
    let call = calls.next().await;
    assert!(told(&call).is_some());
    let fields = [("etag", "\"1\""), ("cache-control", "max-age=60"), ("content-length", "4")];
    call.respond(response(200, &fields, ""));
    got(head).await;
    assert_eq!(fetch(&cache, "/cases/1").await.cache_status(), hit(5));
}

// ===== lifetimes =====

#[tokio::test(start_paused = true)]
async fn what_was_filled_within_the_settling_time_ends_with_it_and_the_origin_is_asked_once_more() {
    let (cache, handle, mut calls) = cached(cases());
    handle.invalidate("case:1").await.unwrap();
    advance(2 * SECOND).await;
    let (refill, said) = fill(&cache, &mut calls).await;
    assert_eq!((refill.is_some(), said), (true, hit(3)));
    advance(3 * SECOND).await;
    assert_eq!(fill(&cache, &mut calls).await, (None, hit(60)), "once, and no more");
    assert_eq!(handle.metrics().bucket("cases").unwrap().refills, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_says_that_it_has_read_the_primary_keeps_its_lifetime() {
    let (cache, handle, mut calls) = cached(cases());
    handle.invalidate("case:1").await.unwrap();
    let primary = |refill: Option<Refill>| {
        let mut response = response(200, &[], "body");
        response.extensions_mut().insert(refill.unwrap());
        response
    };
    let said = fill_with(&cache, &mut calls, "/cases/1", primary).await.1;
    assert_eq!(said, hit(60));
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_is_stated_ends_with_the_settling_time_too_and_so_does_a_confirmation() {
    let (cache, handle, mut calls) = cached(cases().freshness(Freshness::Origin));
    let fields = [("etag", "\"1\""), ("cache-control", "max-age=30")];
    handle.invalidate("case:1").await.unwrap();
    let said = fill_with(&cache, &mut calls, "/cases/1", |_| response(200, &fields, "old")).await.1;
    assert_eq!(said, hit(5));
    advance(6 * SECOND).await;
    handle.soft_invalidate("case:1").await.unwrap();
    let confirmed = |refill: Option<Refill>| {
        assert!(refill.is_some());
        response(304, &fields, "")
    };
    let said = fill_with(&cache, &mut calls, "/cases/1", confirmed).await.1;
    assert_eq!(said, hit(5), "a replica may confirm what is outdated");
}

#[tokio::test(start_paused = true)]
async fn a_shorter_lifetime_stays() {
    let (cache, handle, mut calls) = cached(cases().ttl(2 * SECOND));
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(fill(&cache, &mut calls).await.1, hit(2));
}

#[tokio::test(start_paused = true)]
async fn where_stale_responses_answer_the_origin_is_asked_once_more_in_the_background() {
    let stale = || cases().stale_while_revalidate(TTL);
    let (cache, handle, mut calls) = cached(stale());
    handle.invalidate("case:1").await.unwrap();
    fill(&cache, &mut calls).await;
    advance(9 * SECOND).await;
    let read = fetch(&cache, "/cases/1").await;
    assert_eq!(read.cache_status(), "support-cache;hit;ttl=-4;detail=stale-while-revalidate");
    calls.now().await.expect("the origin is asked").ok("new");
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.cache_status(), hit(60));

    // Not for as long as the window of what no replica can have answered.
    handle.invalidate("case:1").await.unwrap();
    fill(&cache, &mut calls).await;
    advance(10 * SECOND).await;
    let read = send(&cache, get("/cases/1"));
    calls.now().await.expect("the origin is asked").ok("newer");
    assert_eq!(got(read).await.text(), "newer");
    assert_eq!(fetch(&cache, "/cases/1").await.cache_status(), hit(60));
}

#[tokio::test(start_paused = true)]
async fn the_question_in_the_background_is_within_the_budget_of_the_origin() {
    let budget = OriginBudget::new(1100, 1_000_000 * SECOND).burst(100);
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .origin_budget(budget)
        .cache(cases().stale_while_revalidate(TTL))
        .build()
        .unwrap();
    let ((origin, mut calls), handle) = (origin(), layer.handle());
    let cache = layer.layer(origin);
    handle.invalidate("case:1").await.unwrap();
    fill(&cache, &mut calls).await;
    handle.count_origin_calls(40);
    advance(6 * SECOND).await;
    assert!(fetch(&cache, "/cases/1").await.cache_status().contains("stale-while-revalidate"));
    assert!(calls.now().await.is_none());
    assert_eq!(handle.metrics().origin.unwrap().spared[&SparedCall::Revalidation], 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_after_the_settling_time_is_shared_and_no_more() {
    let (cache, handle, mut calls) = cached(cases().settle(2 * SECOND));
    handle.invalidate("case:1").await.unwrap();
    let (one, other) = (send(&cache, get("/cases/1")), send(&cache, get("/cases/1")));
    let call = calls.now().await.unwrap();
    advance(3 * SECOND).await;
    let late = send(&cache, get("/cases/1"));
    settle().await;
    call.ok("slow");
    for read in [one, other, late] {
        assert_eq!(got(read).await.text(), "slow");
    }
    advance(Duration::from_millis(1)).await;
    assert_eq!(fill(&cache, &mut calls).await, (None, hit(60)));
}

/// They are known too late for the handler to be told.
#[tokio::test(start_paused = true)]
async fn a_tag_that_only_the_response_names_shortens_the_lifetime() {
    let (cache, _, mut calls) = cached(cases());
    let group = |name| move |_| response(200, &[("cache-groups", name)], "body");
    let write = send(&cache, request(Method::POST, "/cases/9/comments"));
    calls.next().await.respond(response(200, &[("cache-group-invalidation", "\"g\"")], ""));
    got(write).await;
    for (uri, name, ttl) in [("/cases/1", "\"g\"", 5), ("/cases/2", "\"h\"", 60)] {
        let (refill, said) = fill_with(&cache, &mut calls, uri, group(name)).await;
        assert_eq!((refill, said), (None, hit(ttl)), "{name}");
    }
    // Told because of its key, it has read the primary.
    let primary = |refill: Option<Refill>| {
        let mut response = group("\"g\"")(refill);
        response.extensions_mut().insert(refill.unwrap());
        response
    };
    assert_eq!(fill_with(&cache, &mut calls, "/cases/9", primary).await.1, hit(60));
}

// ===== configuration =====

#[test]
fn a_settling_time_of_nothing_or_of_more_than_an_hour_is_refused() {
    let build =
        |time| SupportCacheLayer::builder(MemoryStore::new()).cache(cases().settle(time)).build();
    for time in [Duration::ZERO, 3601 * SECOND, Duration::MAX] {
        let error = build(time).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Limit, "settle"));
        assert_eq!(error.route(), Some("GET /cases/{case}"));
    }
    build(3600 * SECOND).unwrap();
}
