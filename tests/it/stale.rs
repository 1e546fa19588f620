//! What is stale answers only where it may, and is asked about by one request at a time.

use std::time::Duration;

use http::Method;
use tokio::time::advance;
use tower_support_cache::{
    CacheRoute, Coalescing, Freshness, MemoryStore, Refusal, RequestDirectives, Stale,
    SupportCacheHandle,
    testing::{Chaos, Fault, StoreCall},
};

use crate::support::{
    Cached, Call, Calls, GatedBody, cache_on, cache_with, fetch, get, got, request, response, send,
    settle, with,
};

const SECOND: Duration = Duration::from_secs(1);

/// Fresh for 60 s, then 10 s while revalidating and 100 s if the origin fails.
fn windows(route: CacheRoute) -> CacheRoute {
    route.stale_while_revalidate(10 * SECOND).stale_if_error(100 * SECOND)
}

/// Stores a response with these fields, and lets `seconds` pass.
async fn stored(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
    fields: &[(&str, &str)],
    seconds: u64,
) -> (Cached, SupportCacheHandle, Calls) {
    let (cache, handle, mut calls) = cache_with(route);
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(200, fields, "old"));
    got(first).await;
    settle().await;
    advance(Duration::from_secs(seconds)).await;
    (cache, handle, calls)
}

// ===== while it is asked about =====

#[tokio::test(start_paused = true)]
async fn what_is_stale_answers_at_once_and_one_request_asks_about_it() {
    let (cache, handle, mut calls) = stored(windows, &[], 63).await;
    for _ in 0..5 {
        let stale = fetch(&cache, "/cases/1").await;
        assert_eq!((stale.text(), stale.age()), ("old", Some(63)));
        assert_eq!(stale.cache_status(), "support-cache;hit;ttl=-3;detail=stale-while-revalidate");
    }
    let mut asked = calls.all().await;
    assert_eq!(asked.len(), 1, "one asks for all");
    asked.remove(0).ok("new");
    settle().await;
    let fresh = fetch(&cache, "/cases/1").await;
    assert_eq!((fresh.text(), fresh.cache_status()), ("new", "support-cache;hit;ttl=60"));
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!(
        (counts.stale[&Stale::Revalidate], counts.refreshes, counts.misses, counts.hits),
        (5, 1, 1, 1)
    );
}

/// What leads to a variant is of use for as long as the variant.
#[tokio::test(start_paused = true)]
async fn each_variant_answers_stale_for_itself() {
    let (cache, _, calls) = cache_with(windows);
    calls.serve(|head| {
        let body = if head.headers.contains_key("x") { "with" } else { "without" };
        response(200, &[("vary", "x"), ("cache-control", "stale-while-revalidate=1000")], body)
    });
    let with_x = || with(get("/cases/1"), "x", "1");
    fetch(&cache, "/cases/1").await;
    got(send(&cache, with_x())).await;
    settle().await;
    advance(Duration::from_secs(1000)).await;
    for (asked, body) in [(with_x(), "with"), (get("/cases/1"), "without")] {
        let stale = got(send(&cache, asked)).await;
        assert_eq!(stale.text(), body);
        assert_eq!(
            stale.cache_status(),
            "support-cache;hit;ttl=-940;detail=stale-while-revalidate"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_ends() {
    let (cache, _, mut calls) = stored(windows, &[], 70).await;
    let late = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(late).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn nothing_stale_answers_by_default() {
    let (cache, _, mut calls) = stored(|route| route, &[], 60).await;
    let late = send(&cache, get("/cases/1"));
    calls.next().await.with(503, ("x", "y"), "down");
    assert_eq!(got(late).await.status, 503);
}

/// RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10.
#[tokio::test(start_paused = true)]
async fn what_must_be_revalidated_never_answers_stale() {
    for line in [
        "must-revalidate",
        "proxy-revalidate",
        "s-maxage=60",
        "s-maxage=60, stale-while-revalidate=100, stale-if-error=100",
        "Must-Revalidate=1",
    ] {
        let (cache, _, mut calls) = stored(windows, &[("cache-control", line)], 61).await;
        let late = send(&cache, get("/cases/1"));
        calls.next().await.with(503, ("x", "y"), "down");
        assert_eq!(got(late).await.status, 503, "{line}");
        // Disconnected: the service's own error, which an outer layer makes a 504 of.
        let late = send(&cache, get("/cases/1"));
        calls.next().await.fail();
        assert!(late.await.unwrap().is_err(), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_says_its_own_windows() {
    for (line, at_once, rescued) in [
        ("stale-while-revalidate=30", true, true),
        ("stale-while-revalidate=0", false, true),
        ("stale-while-revalidate=x, stale-if-error=x", false, false),
        ("stale-while-revalidate=30, stale-while-revalidate=5", false, true),
        ("stale-if-error=0", false, false),
        ("stale-if-error=30", false, true),
    ] {
        let (cache, _, mut calls) = stored(windows, &[("cache-control", line)], 80).await;
        let late = send(&cache, get("/cases/1"));
        settle().await;
        assert_eq!(late.is_finished(), at_once, "{line}");
        calls.next().await.with(500, ("x", "y"), "down");
        assert_eq!(got(late).await.text() == "old", at_once || rescued, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_decides_freshness_is_asked_in_the_background_too() {
    let route = |_| {
        CacheRoute::get("/cases/{case}")
            .bucket("cases")
            .key("c:{case}")
            .freshness(Freshness::Origin)
    };
    let fields = [("cache-control", "max-age=10, stale-while-revalidate=100"), ("etag", "\"a\"")];
    let (cache, _, mut calls) = stored(route, &fields, 20).await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
    let call = calls.next().await;
    assert_eq!(call.head.headers["if-none-match"], "\"a\"");
    call.respond(response(304, &[], ""));
    settle().await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    assert_eq!(calls.count(), 2);
}

/// The request that is used for it is for its own client: a part, a HEAD, a condition.
#[tokio::test(start_paused = true)]
async fn what_asks_in_the_background_asks_for_the_whole() {
    for asked in [
        request(Method::HEAD, "/cases/1"),
        with(with(get("/cases/1"), "range", "bytes=0-0"), "if-range", "\"a\""),
        with(get("/cases/1"), "if-none-match", "\"a\""),
    ] {
        let (cache, _, mut calls) = stored(windows, &[("etag", "\"a\"")], 61).await;
        got(send(&cache, asked)).await;
        let call = calls.next().await;
        assert_eq!(call.head.method, Method::GET);
        for name in ["range", "if-range", "if-none-match"] {
            assert!(!call.head.headers.contains_key(name), "{name}");
        }
        call.ok("new");
        settle().await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_fails_it_is_asked_less_and_less() {
    let route = |route: CacheRoute| route.stale_while_revalidate(1000 * SECOND);
    let (cache, _, mut calls) = stored(route, &[], 61).await;
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        calls.now().await.expect("it is asked").with(503, ("x", "y"), "down");
        settle().await;
        advance(pause * SECOND - Duration::from_millis(1)).await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        assert!(calls.now().await.is_none(), "let be for {pause} s");
        advance(Duration::from_millis(1)).await;
    }
    fetch(&cache, "/cases/1").await;
    calls.now().await.expect("it is asked").ok("new");
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn one_request_asks_even_where_each_forwards_for_itself() {
    let route = |route| windows(route).coalescing(Coalescing::Off);
    let (cache, _, mut calls) = stored(route, &[], 61).await;
    for _ in 0..5 {
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
    }
    assert_eq!(calls.all().await.len(), 1);
}

/// Ways in which a refresh comes to nothing.
#[derive(Clone, Copy, Debug)]
enum End {
    Panic,
    Error,
    NoHead,
    BodyFails,
    BodyPanics,
    BodyFailsLater,
    BodyStalls,
}

/// Lets a refresh come to nothing.
async fn end(call: Call, end: End) {
    match end {
        End::Panic => call.panic(),
        End::Error => call.fail(),
        End::BodyFails => {
            let (body, gate) = GatedBody::gated(Some(3));
            gate.fail();
            call.respond(http::Response::new(body));
        }
        End::BodyPanics => call.stream(Some(3)).panic(),
        End::BodyFailsLater => {
            let gate = call.stream(Some(3));
            settle().await;
            gate.send("ne");
            settle().await;
            gate.fail();
        }
        End::NoHead => {
            advance(30 * SECOND).await;
            settle().await;
            drop(call);
        }
        End::BodyStalls => {
            let gate = call.stream(None);
            settle().await;
            advance(30 * SECOND).await;
            settle().await;
            drop(gate);
        }
    }
    settle().await;
}

/// Whatever keeps a refresh from its end is a failure of the origin, as a 500 is.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_comes_to_nothing_is_counted_and_the_next_waits() {
    for how in [
        End::Panic,
        End::Error,
        End::NoHead,
        End::BodyFails,
        End::BodyPanics,
        End::BodyFailsLater,
        End::BodyStalls,
    ] {
        let route = |route: CacheRoute| route.stale_while_revalidate(1000 * SECOND);
        let (cache, handle, mut calls) = stored(route, &[], 61).await;
        for (number, pause) in [1, 2, 4, 8].into_iter().enumerate() {
            assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
            end(calls.now().await.expect("it is asked"), how).await;
            advance(pause * SECOND - Duration::from_millis(1)).await;
            assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
            assert!(calls.now().await.is_none(), "{how:?}: let be for {pause} s");
            let refused = handle.metrics().bucket("cases").unwrap().refused.clone();
            let failures = [Refusal::Failed, Refusal::Incomplete, Refusal::Panicked];
            let counted: u64 = failures.iter().filter_map(|refusal| refused.get(refusal)).sum();
            assert_eq!(counted, number as u64 + 1, "{how:?} is counted");
            advance(Duration::from_millis(1)).await;
        }
        fetch(&cache, "/cases/1").await;
        calls.now().await.expect("it is asked").ok("new");
        settle().await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "new", "{how:?}");
        assert_eq!(handle.metrics().flights, 0);
    }
}

/// A refresh of its own bound: what has lost its caller takes nothing from it, and the reverse.
#[tokio::test(start_paused = true)]
async fn cancelled_requests_do_not_keep_anything_from_being_refreshed() {
    let (cache, handle, mut calls) = stored(windows, &[], 61).await;
    let slow: Vec<_> = (100..400).map(|n| send(&cache, get(&format!("/cases/{n}")))).collect();
    let held = calls.all().await;
    for request in slow {
        request.abort();
        let _ = request.await;
    }
    settle().await;
    assert_eq!(handle.metrics().detached_dropped, 44);
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
    // One that streams has its body read to the end, too.
    let gate = calls.now().await.expect("it is asked").stream(None);
    settle().await;
    gate.send("new");
    settle().await;
    gate.end();
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.cache_status(), "support-cache;hit;ttl=60");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn refreshes_do_not_keep_cancelled_requests_from_their_end() {
    let (cache, handle, mut calls) = cache_with(windows);
    for n in 0..300 {
        let first = send(&cache, get(&format!("/cases/{n}")));
        calls.next().await.ok("old");
        got(first).await;
    }
    advance(61 * SECOND).await;
    for n in 0..300 {
        assert_eq!(fetch(&cache, &format!("/cases/{n}")).await.text(), "old");
    }
    let refreshes = calls.all().await;
    assert_eq!(refreshes.len(), 256, "they are bounded");
    let cancelled = send(&cache, get("/cases/other"));
    let call = calls.next().await;
    cancelled.abort();
    settle().await;
    assert!(call.is_wanted());
    call.ok("kept");
    settle().await;
    assert!(fetch(&cache, "/cases/other").await.is_hit());
    refreshes.into_iter().for_each(|call| call.ok("new"));
    settle().await;
    assert_eq!(handle.metrics().flights, 0);
}

/// One request at a time, until the body of its response has ended.
#[tokio::test(start_paused = true)]
async fn a_refresh_whose_body_takes_long_is_the_only_one() {
    let route = |route: CacheRoute| route.stale_while_revalidate(1000 * SECOND);
    let (cache, _, mut calls) = stored(route, &[], 61).await;
    fetch(&cache, "/cases/1").await;
    let gate = calls.next().await.stream(None);
    for _ in 0..3 {
        settle().await;
        gate.send("new");
        advance(7 * SECOND).await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        assert!(calls.now().await.is_none());
    }
    gate.end();
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "newnewnew");
}

// ===== where the origin fails =====

#[tokio::test(start_paused = true)]
async fn what_is_stale_stands_in_for_an_error_and_all_who_wait_share_it() {
    for status in [500, 502, 503, 504] {
        let (cache, _, mut calls) = stored(windows, &[], 100).await;
        let (leader, follower) = (send(&cache, get("/cases/1")), send(&cache, get("/cases/1")));
        settle().await;
        calls.next().await.with(status, ("x", "y"), "down");
        let leader = got(leader).await;
        assert_eq!((leader.status.as_u16(), leader.text(), leader.age()), (200, "old", Some(100)));
        let says = format!("support-cache;fwd=stale;fwd-status={status};detail=stale-if-error");
        assert_eq!(leader.cache_status(), says);
        assert_eq!((got(follower).await.text().to_owned(), calls.count()), ("old".to_owned(), 2));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_stands_in_for_no_answer() {
    let (cache, _, mut calls) = stored(windows, &[], 100).await;
    let rescued = send(&cache, get("/cases/1"));
    calls.next().await.fail();
    let rescued = got(rescued).await;
    assert_eq!(rescued.cache_status(), "support-cache;fwd=stale;detail=stale-if-error");
}

#[tokio::test(start_paused = true)]
async fn other_answers_are_no_errors_and_the_window_ends() {
    for (seconds, status, is_rescued) in [
        (100, 404, false),
        (100, 501, false),
        (100, 403, false),
        (100, 429, true),
        (159, 503, true),
        (160, 503, false),
    ] {
        let (cache, _, mut calls) = stored(windows, &[], seconds).await;
        let late = send(&cache, get("/cases/1"));
        calls.next().await.with(status, ("x", "y"), "answer");
        assert_eq!(got(late).await.status == 200, is_rescued, "{seconds} {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_has_just_failed_is_let_be() {
    let (cache, _, mut calls) = stored(windows, &[], 100).await;
    let rescued = send(&cache, get("/cases/1"));
    calls.next().await.with(503, ("x", "y"), "down");
    got(rescued).await;
    let at_once = fetch(&cache, "/cases/1").await;
    assert_eq!(at_once.cache_status(), "support-cache;hit;ttl=-40;detail=stale-if-error");
    assert!(calls.now().await.is_none());
    advance(SECOND).await;
    let asked = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(asked).await.text(), "new");
}

// ===== invalidations =====

#[tokio::test(start_paused = true)]
async fn an_invalidation_leaves_nothing_stale() {
    let (cache, handle, mut calls) = stored(windows, &[], 61).await;
    handle.invalidate("case:1").await.unwrap();
    let after = send(&cache, get("/cases/1"));
    calls.next().await.with(503, ("x", "y"), "down");
    assert_eq!(got(after).await.status, 503);
}

/// The request holds the stale response, and an invalidation comes while the origin is asked.
#[tokio::test(start_paused = true)]
async fn what_was_invalidated_meanwhile_stands_in_for_nothing() {
    let (cache, handle, mut calls) = stored(windows, &[], 100).await;
    let asked = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    call.with(503, ("x", "y"), "down");
    assert_eq!(got(asked).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_soft_invalidation_makes_stale_and_no_more() {
    let (cache, handle, mut calls) = stored(windows, &[], 30).await;
    let fill = send(&cache, get("/cases/2"));
    let call = calls.next().await;
    for key in ["case:1", "case:2"] {
        handle.soft_invalidate(key).await.unwrap();
    }
    let stale = fetch(&cache, "/cases/1").await;
    assert_eq!(stale.cache_status(), "support-cache;hit;ttl=0;detail=stale-while-revalidate");
    calls.next().await.ok("new");
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
    // What was on its way is not stored as if it were fresh.
    call.ok("overtaken");
    got(fill).await;
    let again = send(&cache, get("/cases/2"));
    calls.next().await.ok("its own");
    assert_eq!(got(again).await.text(), "its own");
}

#[tokio::test(start_paused = true)]
async fn a_soft_invalidation_keeps_variants_apart_and_lets_an_invalidation_win() {
    let (cache, handle, calls) = cache_with(windows);
    calls.serve(|head| {
        let body = if head.headers.contains_key("x") { "with" } else { "without" };
        response(200, &[("vary", "x")], body)
    });
    let with_x = || with(get("/cases/1"), "x", "1");
    fetch(&cache, "/cases/1").await;
    got(send(&cache, with_x())).await;
    handle.soft_invalidate("case:1").await.unwrap();
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "without");
    let stale = got(send(&cache, with_x())).await;
    assert!(stale.text() == "with" && stale.cache_status().contains("ttl=0;detail=stale"));
    handle.soft_invalidate("case:1").await.unwrap();
    handle.invalidate("case:1").await.unwrap();
    assert!(fetch(&cache, "/cases/1").await.cache_status().contains("fwd=uri-miss"));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_stale_goes_with_a_soft_invalidation() {
    let (cache, handle, _calls) = stored(|route| route, &[], 1).await;
    handle.soft_invalidate("case:1").await.unwrap();
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 0);
    drop(cache);
}

// ===== patience =====

#[tokio::test(start_paused = true)]
async fn an_origin_that_takes_long_is_not_waited_for_and_what_it_brings_is_stored() {
    let route = |route| windows(route).soft_timeout(SECOND);
    let (cache, _, mut calls) = stored(route, &[], 100).await;
    let (leader, follower) = (send(&cache, get("/cases/1")), send(&cache, get("/cases/1")));
    let call = calls.next().await;
    settle().await;
    advance(SECOND).await;
    for impatient in [leader, follower] {
        let impatient = got(impatient).await;
        assert_eq!(impatient.text(), "old");
        assert!(impatient.cache_status().ends_with("hit;ttl=-41;detail=timeout"));
    }
    call.ok("new");
    settle().await;
    assert_eq!((fetch(&cache, "/cases/1").await.text(), calls.count()), ("new", 2));
}

#[tokio::test(start_paused = true)]
async fn without_anything_stale_the_origin_is_waited_for() {
    let route = |route| windows(route).soft_timeout(SECOND);
    let (cache, handle, mut calls) = stored(route, &[], 100).await;
    let cold = send(&cache, get("/cases/2"));
    let first = calls.next().await;
    let warm = send(&cache, get("/cases/1"));
    let second = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    advance(3 * SECOND).await;
    settle().await;
    assert!(!cold.is_finished() && !warm.is_finished());
    first.ok("cold");
    second.ok("warm");
    assert_eq!((got(cold).await.text(), got(warm).await.text()), ("cold", "warm"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_what_it_accepts_is_given_nothing_stale() {
    let route = |route| windows(route).request_directives(RequestDirectives::Honour);
    let (cache, _, mut calls) = stored(route, &[], 61).await;
    let picky = send(&cache, with(get("/cases/1"), "cache-control", "max-age=3600"));
    calls.next().await.ok("new");
    assert_eq!(got(picky).await.text(), "new");
}

/// A follower whose leader is lost leads, and its own caller waits no longer for that.
#[tokio::test(start_paused = true)]
async fn a_soft_timeout_is_for_the_whole_request() {
    let (cache, _, mut calls) =
        stored(|route| windows(route).soft_timeout(2 * SECOND), &[], 75).await;
    // It outlives its soft timeout, and others follow it.
    let leader = send(&cache, get("/cases/1"));
    let lost = calls.next().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    advance(SECOND).await;
    lost.panic();
    assert!(leader.await.is_err());
    let _unanswered = calls.next().await;
    advance(SECOND - Duration::from_millis(1)).await;
    settle().await;
    assert!(!follower.is_finished());
    advance(Duration::from_millis(1)).await;
    assert_eq!(got(follower).await.text(), "old");
}

// ===== between a look and its answer =====

/// The look of a background read takes a second; everything else is done at once.
fn slow_looks(store: &MemoryStore) -> Chaos<MemoryStore> {
    Chaos::new(store.clone(), |operation, count| match operation {
        // The first look is that of the first fill.
        StoreCall::Lookup if count > 0 => Fault::Delay(Duration::from_millis(100)),
        _ => Fault::None,
    })
}

/// A background read has no caller, so what it finds is no hit.
#[tokio::test(start_paused = true)]
async fn a_background_read_that_finds_a_fresh_response_ends_without_a_word() {
    let store = MemoryStore::new();
    let (cache, handle, mut calls) = cache_on(slow_looks(&store), windows);
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(first).await;
    advance(63 * SECOND).await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
    settle().await;

    let (other, _, mut other_calls) = cache_on(store.clone(), windows);
    let filled = send(&other, get("/cases/1"));
    // Its own stale answer, and its own background read, which fills.
    got(filled).await;
    other_calls.next().await.ok("new");
    settle().await;
    advance(SECOND).await;
    assert!(calls.all().await.is_empty(), "the fresh response is not asked about");
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.hits, counts.stale[&Stale::Revalidate], counts.refreshes), (0, 1, 0));
}

/// The result of a fill is as new as what the origin would send: the request's directives do not apply.
#[tokio::test(start_paused = true)]
async fn a_response_that_was_stored_during_the_search_answers_whatever_its_age() {
    let store = MemoryStore::new();
    let slow = Chaos::new(store.clone(), |operation, _| match operation {
        StoreCall::Begin => Fault::Delay(Duration::from_millis(100)),
        _ => Fault::None,
    });
    let honouring = |route: CacheRoute| route.request_directives(RequestDirectives::Honour);
    let (cache, _, mut calls) = cache_on(slow, honouring);
    let waiting = send(&cache, with(get("/cases/1"), "cache-control", "max-age=5"));
    settle().await;
    let (other, _, mut other_calls) = cache_on(store, honouring);
    let filled = send(&other, get("/cases/1"));
    other_calls.next().await.with(200, ("age", "10"), "new");
    got(filled).await;
    let found = got(waiting).await;
    assert_eq!((found.text(), found.age()), ("new", Some(10)));
    assert!(calls.all().await.is_empty());
}

/// RFC 9111 §5.2.1.1 is about stored responses. A collapsed response is what the origin sends now, and
/// forwarding for this request would bring one of the same age.
#[tokio::test(start_paused = true)]
async fn a_collapsed_response_answers_whatever_its_age() {
    let (cache, _, mut calls) =
        cache_with(|route| route.request_directives(RequestDirectives::Honour));
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let follower = send(&cache, with(get("/cases/1"), "cache-control", "max-age=5"));
    settle().await;
    call.with(200, ("age", "10"), "shared");
    got(leader).await;
    let shared = got(follower).await;
    assert_eq!((shared.text(), shared.age()), ("shared", Some(10)));
    assert!(shared.cache_status().contains("collapsed"));
}

/// An entry that is still fresh is revalidated only if it was not invalidated meanwhile: a 304 would
/// store it again.
#[tokio::test(start_paused = true)]
async fn a_fresh_response_that_was_invalidated_meanwhile_is_not_revalidated() {
    let store = MemoryStore::new();
    let slow = Chaos::new(store, |operation, count| match operation {
        StoreCall::Begin if count > 0 => Fault::Delay(Duration::from_millis(100)),
        _ => Fault::None,
    });
    let (cache, handle, mut calls) =
        cache_on(slow, |route| route.freshness(Freshness::Origin).early_refresh(1.0));
    let first = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    advance(100 * SECOND).await;
    call.respond(response(200, &[("cache-control", "max-age=1000"), ("etag", "\"1\"")], "old"));
    got(first).await;
    advance(900 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
    handle.invalidate("case:1").await.unwrap();
    let refresh = calls.next().await;
    assert!(
        !refresh.head.headers.contains_key("if-none-match"),
        "the origin is asked for a new one"
    );
}
