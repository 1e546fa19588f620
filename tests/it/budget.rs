//! The calls to an origin have a budget: as it drains, those that can be spared are.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use http::{Method, Request};
use http_body_util::Empty;
use tokio::{runtime::Builder, time::advance};
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheOutcome, CacheRoute, Credentials, Exhausted, InvalidateRoute, MemoryStore, OriginBudget,
    OriginSnapshot, ReportOutcome, RequestDirectives, SparedCall, SupportCacheHandle,
    SupportCacheLayer,
};

use crate::{
    random::{Random, for_all},
    support::{Cached, Calls, TTL, fetch, get, got, origin, request, response, send, settle, with},
};

const SECOND: Duration = Duration::from_secs(1);

/// One hundred calls at once, of which fifty are left at first; and one more in each thousand seconds.
fn budget() -> OriginBudget {
    OriginBudget::new(1100, 1_000_000 * SECOND).burst(100).name("records")
}

/// Fresh for 60 s, then 10 s while revalidating and 1000 s if the origin is not to be asked.
fn cached(route: impl FnOnce(CacheRoute) -> CacheRoute) -> (Cached, SupportCacheHandle, Calls) {
    let cases = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}");
    let cases = cases.ttl(TTL).jitter(0).stale_while_revalidate(10 * SECOND);
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .origin_budget(budget())
        .cache(route(cases.stale_if_error(1000 * SECOND)))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

/// Counts calls until so many are left.
fn drain(handle: &SupportCacheHandle, left: u64) {
    let now = counts(handle).left;
    handle.count_origin_calls((now - left).try_into().unwrap());
}

fn counts(handle: &SupportCacheHandle) -> OriginSnapshot {
    handle.metrics().origin.unwrap()
}

#[track_caller]
fn spared(handle: &SupportCacheHandle, call: SparedCall) -> u64 {
    counts(handle).spared.get(&call).copied().unwrap_or(0)
}

/// Stores a case, and lets a time pass.
async fn stored(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
    took: Duration,
    seconds: u64,
) -> (Cached, SupportCacheHandle, Calls) {
    let (cache, handle, mut calls) = cached(route);
    let first = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    advance(took).await;
    call.ok("old");
    got(first).await;
    settle().await;
    advance(Duration::from_secs(seconds)).await;
    (cache, handle, calls)
}

#[tokio::test(start_paused = true)]
async fn early_refreshes_stop_first() {
    let early = |route: CacheRoute| route.early_refresh(10.0).ttl(600 * SECOND);
    // It took so long that a hit near its end refreshes it almost surely.
    let (cache, handle, mut calls) = stored(early, 20_000 * SECOND, 599).await;
    drain(&handle, 49);
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    assert!(calls.now().await.is_none());
    assert_eq!(spared(&handle, SparedCall::EarlyRefresh), 1);

    let (cache, handle, mut calls) = stored(early, 20_000 * SECOND, 599).await;
    drain(&handle, 51);
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    assert!(calls.now().await.is_some());
    assert_eq!(spared(&handle, SparedCall::EarlyRefresh), 0);
}

#[tokio::test(start_paused = true)]
async fn then_revalidations_in_the_background() {
    let (cache, handle, mut calls) = stored(|route| route, SECOND, 63).await;
    drain(&handle, 24);
    let stale = fetch(&cache, "/cases/1").await;
    assert_eq!(stale.cache_status(), "support-cache;hit;ttl=-3;detail=stale-while-revalidate");
    assert!(calls.now().await.is_none());
    assert_eq!(spared(&handle, SparedCall::Revalidation), 1);

    let (cache, handle, mut calls) = stored(|route| route, SECOND, 63).await;
    drain(&handle, 26);
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    assert!(calls.now().await.is_some());
    assert_eq!(counts(&handle).left, 25);
}

#[tokio::test(start_paused = true)]
async fn then_stale_responses_stand_in_within_their_window() {
    let (cache, handle, mut calls) = stored(|route| route, SECOND, 100).await;
    drain(&handle, 9);
    let stale = fetch(&cache, "/cases/1").await;
    assert_eq!(stale.cache_status(), "support-cache;hit;ttl=-40;detail=quota");
    assert!(calls.now().await.is_none());
    assert_eq!(spared(&handle, SparedCall::Stale), 1);
    advance(960 * SECOND).await;
    let late = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(late).await.text(), "new", "the window has ended");

    let (cache, handle, mut calls) = stored(|route| route, SECOND, 100).await;
    drain(&handle, 11);
    let asked = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(asked).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_miss_is_forwarded_though_nothing_is_left() {
    let (cache, handle, mut calls) = cached(|route| route);
    drain(&handle, 0);
    let missed = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(missed).await.text(), "new");
    assert_eq!((counts(&handle).left, counts(&handle).calls), (0, 51));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_says_so_refuses_what_has_nothing_to_show() {
    let (cache, handle, mut calls) = cached(|route| route.when_exhausted(Exhausted::Refuse));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    got(first).await;
    drain(&handle, 0);
    let refused: Vec<_> = (0..3).map(|_| send(&cache, get("/cases/2"))).collect();
    for refused in refused {
        let refused = got(refused).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.fields["retry-after"]),
            (503, &"1000".parse().unwrap())
        );
    }
    let head = got(send(&cache, request(Method::HEAD, "/cases/2"))).await;
    let range = got(send(&cache, with(get("/cases/2"), "range", "bytes=0-1"))).await;
    assert_eq!((head.status.as_u16(), range.status.as_u16()), (503, 503));
    assert!(calls.now().await.is_none());
    let bucket = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((bucket.exhausted, bucket.requests()), (5, 6));
    assert_eq!(spared(&handle, SparedCall::Refused), 5);

    assert!(fetch(&cache, "/cases/1").await.is_hit(), "a hit asks nothing");
    let bypass = send(&cache, with(get("/cases/1"), "authorization", "a"));
    calls.next().await.ok("own");
    assert_eq!(got(bypass).await.text(), "own", "it has no use of the cache");
    advance(1500 * SECOND).await;
    let refused = fetch(&cache, "/cases/2").await;
    assert_eq!(refused.fields["retry-after"], "500", "the bypass was a call, too");
    advance(500 * SECOND).await;
    let missed = send(&cache, get("/cases/2"));
    calls.next().await.ok("new");
    assert_eq!(got(missed).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported() {
    let (cache, handle, _) = cached(|route| route.when_exhausted(Exhausted::Refuse));
    drain(&handle, 0);
    let mut request = get("/cases/1");
    request.extensions_mut().insert(ReportOutcome);
    let refused = cache.oneshot(request).await.unwrap();
    assert_eq!(refused.extensions().get(), Some(&CacheOutcome::Exhausted));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_stored_is_refused_too() {
    let (cache, handle, mut calls) = cached(|route| route.when_exhausted(Exhausted::Refuse));
    for _ in 0..2 {
        let first = send(&cache, get("/cases/1"));
        calls.next().await.with(200, ("cache-control", "no-store"), "own");
        got(first).await;
    }
    drain(&handle, 1);
    let leader = send(&cache, get("/cases/1"));
    let _unanswered = calls.next().await;
    let other = fetch(&cache, "/cases/1").await;
    assert_eq!(other.status, 503, "it is forwarded alone, and nothing is left");
    drop(leader);
}

#[tokio::test(start_paused = true)]
async fn a_request_follows_one_that_is_on_its_way_though_nothing_is_left() {
    let (cache, handle, mut calls) = cached(|route| route.when_exhausted(Exhausted::Refuse));
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    drain(&handle, 0);
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    call.ok("new");
    assert_eq!((got(leader).await.text(), got(follower).await.text()), ("new", "new"));
}

#[tokio::test(start_paused = true)]
async fn writes_are_counted_and_never_held_back() {
    let (cache, handle, mut calls) = cached(|route| route.when_exhausted(Exhausted::Refuse));
    drain(&handle, 0);
    for path in ["/cases/1/comments", "/cases/1", "/elsewhere"] {
        let written = send(&cache, request(Method::POST, path));
        calls.next().await.ok("done");
        assert_eq!(got(written).await.status, 200);
    }
    assert_eq!(counts(&handle).calls, 52, "what no rule is for may go elsewhere");
}

#[tokio::test(start_paused = true)]
async fn the_origin_may_state_that_less_is_left() {
    const LEFT: [(&str, &str); 1] = [("ratelimit", "\"day\";r=7;t=40000")];
    let (cache, handle, mut calls) = cached(|route| route);
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(200, &LEFT, "new"));
    got(first).await;
    assert_eq!(counts(&handle).left, 7);
    let written = send(&cache, request(Method::POST, "/cases/1"));
    calls.next().await.respond(response(429, &[("ratelimit", "\"day\";r=3;t=40000")], ""));
    got(written).await;
    assert_eq!(counts(&handle).left, 3);
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_for_all_routes_of_a_budget() {
    let (cache, _, mut calls) = stored(|route| route, SECOND, 100).await;
    let limited = send(&cache, get("/cases/2"));
    calls.next().await.respond(response(429, &[("retry-after", "9")], ""));
    got(limited).await;
    let stale = fetch(&cache, "/cases/1").await;
    assert_eq!(stale.cache_status(), "support-cache;hit;ttl=-40;detail=quota");
}

#[test]
fn a_budget_that_makes_no_sense_is_refused_and_so_is_a_refusal_without_one() {
    let route = CacheRoute::get("/a").key("a").ttl(SECOND);
    let builder = || SupportCacheLayer::builder(MemoryStore::new());
    let error = builder().origin_budget(OriginBudget::new(1, SECOND)).build().unwrap_err();
    assert_eq!(error.field(), "origin_budget");
    let error = builder().cache(route.when_exhausted(Exhausted::Refuse)).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "route `GET /a`: when_exhausted: needs a budget: give `.origin_budget(..)` to the layer's builder, or \
         remove it"
    );
}

/// Each request of a client makes at most one call, whatever it asks for and finds; and no response that is
/// stored for others is refused to them.
#[test]
fn no_client_drains_the_budget_faster_than_without_the_cache() {
    for_all(|random| {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(be_a_client(random));
    });
}

async fn be_a_client(random: &mut Random) {
    let (cache, handle, calls) = cached(|route| {
        route
            .early_refresh(10.0)
            .when_exhausted(Exhausted::Refuse)
            .credentials(Credentials::SameForEverybody)
            .request_directives(RequestDirectives::Honour)
    });
    let answers = Mutex::new(random.vec(300..301, |random| random.below(7)));
    let count = calls.serve(move |_| match answers.lock().unwrap().pop() {
        Some(0) => response(429, &[("retry-after", "30")], ""),
        Some(1) => response(503, &[], ""),
        Some(2) => response(200, &[("cache-control", "no-store")], "own"),
        Some(3) => response(200, &[("vary", "x"), ("etag", "\"1\"")], "new"),
        _ => response(200, &[], "new"),
    });
    let mut requests = 0;
    for _ in 0..15 {
        let sent = random.vec(1..4, |random| send(&cache, any_request(random)));
        requests += sent.len();
        for sent in sent {
            got(sent).await;
        }
        settle().await;
        let calls = count.load(Ordering::SeqCst);
        assert!(calls <= requests, "{calls} calls for {requests} requests");
        assert_eq!(counts(&handle).calls, calls as u64);
        advance(Duration::from_secs(random.below(40) as u64)).await;
    }
    advance(60_000 * SECOND).await;
    let first = fetch(&cache, "/cases/9").await;
    if first.cache_status().ends_with(";stored") {
        drain(&handle, 0);
        assert!(fetch(&cache, "/cases/9").await.is_hit());
    }
}

fn any_request(random: &mut Random) -> Request<Empty<bytes::Bytes>> {
    let path = format!("/cases/{}", random.below(3));
    let comments = format!("{path}/comments");
    match random.below(9) {
        0 => request(Method::HEAD, &path),
        1 => request(Method::POST, &comments),
        2 => request(Method::DELETE, &path),
        3 => with(get(&path), "range", "bytes=0-0"),
        4 => with(get(&path), "cache-control", "no-cache"),
        5 => with(get(&path), "authorization", "a"),
        6 => with(get(&path), "x", "1"),
        _ => get(&path),
    }
}
