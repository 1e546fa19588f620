//! An origin that limits its requests is asked less, and stale responses answer within their windows.

use std::time::Duration;

use tokio::time::advance;
use tower::Layer;
use tower_support_cache::{
    CacheRoute, Credentials, MemoryStore, Quota, Stale, SupportCacheHandle, SupportCacheLayer,
};

use crate::support::{
    Cached, Calls, Got, TTL, cache_with, fetch, get, got, origin, response, send, settle, with,
};

const SECOND: Duration = Duration::from_secs(1);

/// The same for everybody, fresh for 60 s, then 10 s while revalidating and 1000 s if the origin fails.
fn windows(route: CacheRoute) -> CacheRoute {
    route
        .credentials(Credentials::SameForEverybody)
        .stale_while_revalidate(10 * SECOND)
        .stale_if_error(1000 * SECOND)
}

fn by(caller: &str, path: &str) -> http::Request<http_body_util::Empty<bytes::Bytes>> {
    with(get(path), "authorization", caller)
}

/// Stores two cases, and lets them become stale.
async fn stale(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
    seconds: u64,
) -> (Cached, SupportCacheHandle, Calls) {
    let (cache, handle, mut calls) = cache_with(route);
    for path in ["/cases/1", "/cases/2"] {
        let first = send(&cache, get(path));
        calls.next().await.ok("old");
        got(first).await;
    }
    settle().await;
    advance(Duration::from_secs(seconds)).await;
    (cache, handle, calls)
}

/// Asks once for a caller, who is limited by these fields.
async fn limit(
    cache: &Cached,
    calls: &mut Calls,
    caller: &str,
    status: u16,
    fields: &[(&str, &str)],
) -> Got {
    let limited = send(cache, by(caller, "/cases/1"));
    calls.next().await.respond(response(status, fields, "limited"));
    let limited = got(limited).await;
    settle().await;
    limited
}

#[tokio::test(start_paused = true)]
async fn after_a_429_its_caller_gets_what_is_stale_until_the_pause_is_over() {
    let (cache, handle, mut calls) = stale(windows, 100).await;
    let rescued = limit(&cache, &mut calls, "a", 429, &[("retry-after", "7")]).await;
    assert_eq!(rescued.text(), "old");
    assert_eq!(
        rescued.cache_status(),
        "support-cache;fwd=stale;fwd-status=429;detail=stale-if-error"
    );
    for path in ["/cases/1", "/cases/2"] {
        let paused = got(send(&cache, by("a", path))).await;
        assert_eq!(paused.cache_status(), "support-cache;hit;ttl=-40;detail=quota");
    }
    assert_eq!(handle.metrics().bucket("cases").unwrap().stale[&Stale::Quota], 2);
    assert!(calls.now().await.is_none(), "nothing is asked, in the background neither");
    advance(7 * SECOND).await;
    let asked = send(&cache, by("a", "/cases/2"));
    calls.next().await.ok("new");
    assert_eq!(got(asked).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_429_for_one_caller_is_none_for_another() {
    let (cache, _, mut calls) = stale(windows, 100).await;
    limit(&cache, &mut calls, "a", 429, &[("retry-after", "60")]).await;
    for (case, asked) in [("1", by("b", "/cases/1")), ("2", get("/cases/2"))] {
        let asked = send(&cache, asked);
        calls.next().await.ok("new");
        assert_eq!(got(asked).await.text(), "new", "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_without_credentials_is_for_its_resource() {
    let (cache, _, mut calls) = stale(windows, 100).await;
    let limited = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(429, &[], ""));
    got(limited).await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    let other = send(&cache, get("/cases/2"));
    calls.next().await.ok("new");
    assert_eq!(got(other).await.text(), "new");
    advance(SECOND).await;
    let later = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(later).await.text(), "new", "without a time it is one second");
}

#[tokio::test(start_paused = true)]
async fn a_503_with_a_time_pauses_its_resource_for_everybody() {
    let (cache, _, mut calls) = stale(windows, 100).await;
    limit(&cache, &mut calls, "a", 503, &[("retry-after", "60")]).await;
    advance(40 * SECOND).await;
    assert!(got(send(&cache, by("b", "/cases/1"))).await.is_hit());
    let other = send(&cache, by("a", "/cases/2"));
    calls.next().await.ok("new");
    assert_eq!(got(other).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_the_service_pauses_all_requests() {
    let fields = [("ratelimit", "\"day\";r=0;t=60")];
    for (status, fields) in [(429, &[("retry-after", "60")]), (200, &fields)] {
        let (cache, _, mut calls) = stale(|route| windows(route).quota(Quota::Service), 100).await;
        limit(&cache, &mut calls, "a", status, fields).await;
        let other = fetch(&cache, "/cases/2").await;
        assert_eq!(other.cache_status(), "support-cache;hit;ttl=-40;detail=quota");
        let missed = send(&cache, get("/cases/3"));
        calls.next().await.ok("new");
        assert_eq!(got(missed).await.text(), "new", "what has nothing to show is forwarded");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_at_five_minutes() {
    let (cache, _, mut calls) = stale(windows, 100).await;
    limit(&cache, &mut calls, "a", 429, &[("retry-after", "86400")]).await;
    advance(299 * SECOND).await;
    assert!(got(send(&cache, by("a", "/cases/2"))).await.is_hit());
    advance(SECOND).await;
    let asked = send(&cache, by("a", "/cases/2"));
    calls.next().await.ok("new");
    assert_eq!(got(asked).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_in_the_background_during_a_pause() {
    let early = |route| windows(route).early_refresh(10.0).quota(Quota::Service);
    let (cache, _, mut calls) = stale(early, 63).await;
    let missed = send(&cache, get("/cases/3"));
    calls.next().await.respond(response(429, &[("retry-after", "60")], ""));
    assert_eq!(got(missed).await.status, 429);
    let stale = fetch(&cache, "/cases/1").await;
    assert_eq!(stale.cache_status(), "support-cache;hit;ttl=-3;detail=stale-while-revalidate");
    assert!(calls.now().await.is_none());
    advance(60 * SECOND).await;
    let asked = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    got(asked).await;
}

#[tokio::test(start_paused = true)]
async fn followers_of_an_overloaded_origin_ask_it_one_at_a_time() {
    for status in [429, 503] {
        let (cache, _, mut calls) = cache_with(|route| route);
        let requests: Vec<_> = (0..5).map(|_| send(&cache, get("/cases/1"))).collect();
        for _ in 0..3 {
            let mut asked = calls.all().await;
            assert_eq!(asked.len(), 1, "the others wait for it");
            asked.remove(0).respond(response(status, &[], ""));
        }
        let mut asked = calls.all().await;
        asked.remove(0).ok("new");
        let mut statuses = Vec::new();
        for request in requests {
            statuses.push(got(request).await.status.as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, status, status, status]);
        assert_eq!(calls.count(), 4);
    }
}

/// A client that has waited for five seconds waits no longer.
#[tokio::test(start_paused = true)]
async fn followers_of_an_overloaded_origin_wait_as_long_as_others() {
    let (cache, _, mut calls) = cache_with(|route| route);
    let requests: Vec<_> = (0..5).map(|_| send(&cache, get("/cases/1"))).collect();
    for _ in 0..2 {
        let call = calls.next().await;
        settle().await;
        advance(Duration::from_millis(2500)).await;
        call.respond(response(429, &[], ""));
    }
    assert_eq!(calls.all().await.len(), 3);
    drop(requests);
}

#[tokio::test(start_paused = true)]
async fn hits_say_nothing_about_limits() {
    const FIELDS: [(&str, &str); 7] = [
        ("retry-after", "7"),
        ("ratelimit", "\"day\";r=50;t=30"),
        ("ratelimit-policy", "\"day\";q=100;w=60"),
        ("ratelimit-remaining", "50"),
        ("x-ratelimit-limit", "100"),
        ("x-ratelimit-reset", "30"),
        ("x-ratelimit", "50"),
    ];
    let (cache, _, mut calls) = cache_with(|route| route);
    let [first, second] = [(); 2].map(|()| send(&cache, get("/cases/1")));
    calls.next().await.respond(response(200, &FIELDS, "new"));
    let (first, second) = (got(first).await, got(second).await);
    let hit = fetch(&cache, "/cases/1").await;
    for (name, value) in FIELDS {
        assert_eq!(first.fields[name], value, "its own response has them all");
        assert!(!second.fields.contains_key(name) && !hit.fields.contains_key(name), "{name}");
    }
    assert_eq!(hit.text(), "new");
}

/// A client that makes the origin refuse it cannot keep others from new responses.
#[tokio::test(start_paused = true)]
async fn a_caller_who_is_limited_again_and_again_harms_no_other() {
    let route = windows(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL).jitter(0));
    let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
    let (origin, calls) = origin();
    calls.serve(|head| match head.headers.contains_key("authorization") {
        true => response(429, &[("retry-after", "300")], ""),
        false => response(200, &[], "new"),
    });
    let cache = layer.layer(origin);
    for _ in 0..20 {
        got(send(&cache, by("a", "/cases/1"))).await;
        let other = fetch(&cache, "/cases/1").await;
        assert_eq!((other.status.as_u16(), other.text()), (200, "new"));
        assert!(other.age().is_none_or(|age| age < 70), "{other:?}");
        advance(33 * SECOND).await;
    }
}
