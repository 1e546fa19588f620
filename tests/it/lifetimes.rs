//! Lifetimes and windows are those of the route that reads: layers on one store share what they store, and
//! none uses it for longer than it would use its own.

use std::time::Duration;

use tokio::time::advance;
use tower_support_cache::{CacheRoute, Freshness, MemoryStore, ResponsePolicy};

use crate::support::{
    Cached, Calls, cache_on, cache_with, fetch, get, got, response, send, settle,
};

const SECOND: Duration = Duration::from_secs(1);

/// Two layers with different settings on one store.
fn pair(
    one: impl FnOnce(CacheRoute) -> CacheRoute,
    other: impl FnOnce(CacheRoute) -> CacheRoute,
) -> [(Cached, Calls); 2] {
    let store = MemoryStore::new();
    let (one, _, of_one) = cache_on(store.clone(), one);
    let (other, _, of_other) = cache_on(store, other);
    [(one, of_one), (other, of_other)]
}

/// Sends a request that is forwarded, and answers it with a status, a field and a body.
async fn fill(
    (cache, calls): &mut (Cached, Calls),
    status: u16,
    field: (&str, &str),
    body: &'static str,
) {
    let sent = send(cache, get("/cases/1"));
    calls.next().await.with(status, field, body);
    got(sent).await;
    settle().await;
}

const NO_FIELD: (&str, &str) = ("x-none", "");

#[tokio::test(start_paused = true)]
async fn the_shorter_of_two_routes_asks_earlier_and_renews_it_for_both() {
    let [mut long, mut short] =
        pair(|route| route.ttl(120 * SECOND), |route| route.ttl(60 * SECOND));
    fill(&mut long, 200, NO_FIELD, "old").await;
    advance(59 * SECOND).await;
    let found = fetch(&short.0, "/cases/1").await;
    assert_eq!((found.text(), found.cache_status()), ("old", "support-cache;hit;ttl=1"));
    assert_eq!(fetch(&long.0, "/cases/1").await.cache_status(), "support-cache;hit;ttl=61");
    advance(SECOND).await;
    fill(&mut short, 200, NO_FIELD, "new").await;
    assert_eq!(fetch(&long.0, "/cases/1").await.text(), "new");
    assert_eq!(fetch(&short.0, "/cases/1").await.text(), "new");
    advance(60 * SECOND).await;
    fill(&mut long, 200, NO_FIELD, "newest").await;
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_the_response_was_given_is_not_cut() {
    let stated = |route: CacheRoute| route.freshness(Freshness::Origin).ttl(10 * SECOND);
    let [mut one, other] = pair(stated, |route| stated(route).ttl(5 * SECOND));
    fill(&mut one, 200, ("cache-control", "max-age=60"), "stated").await;
    let ttl_with = |route: CacheRoute| route.ttl(SECOND).ttl_with(1, |_| Some(60 * SECOND));
    let [mut two, another] = pair(ttl_with, ttl_with);
    fill(&mut two, 200, NO_FIELD, "given").await;
    let (three, _, mut calls) = cache_with(|route| route.ttl(SECOND));
    let sent = send(&three, get("/cases/1"));
    let mut given = response(200, &[], "extended");
    given.extensions_mut().insert(ResponsePolicy::ttl(60 * SECOND));
    calls.next().await.respond(given);
    got(sent).await;
    advance(59 * SECOND).await;
    for cache in [one.0, other.0, two.0, another.0, three] {
        assert!(fetch(&cache, "/cases/1").await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_answers_within_both_windows_alone() {
    let windows = |revalidate, error| {
        move |route: CacheRoute| {
            let route = route.ttl(10 * SECOND).stale_while_revalidate(SECOND * revalidate);
            route.stale_if_error(SECOND * error)
        }
    };
    for (one, other, age, is_stale) in [
        (windows(20, 0), windows(5, 0), 14, true),
        (windows(20, 0), windows(5, 0), 15, false),
        (windows(5, 0), windows(20, 0), 14, true),
        (windows(5, 0), windows(20, 0), 15, false),
        (windows(20, 0), windows(0, 20), 14, false),
        (windows(20, 20), windows(0, 0), 10, false),
    ] {
        let [mut one, mut other] = pair(one, other);
        fill(&mut one, 200, NO_FIELD, "old").await;
        advance(SECOND * age).await;
        let sent = send(&other.0, get("/cases/1"));
        let call = other.1.now().await.expect("asked, in the background or not");
        assert_eq!(sent.is_finished(), is_stale, "{age} s");
        call.ok("new");
        got(sent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_of_another_route_stands_in_for_an_error_within_both_windows() {
    for (windows, age, is_rescued) in
        [([20, 5], 14, true), ([20, 5], 15, false), ([5, 20], 15, false), ([20, 0], 10, false)]
    {
        let route = |window| {
            move |route: CacheRoute| route.ttl(10 * SECOND).stale_if_error(SECOND * window)
        };
        let [mut one, mut other] = pair(route(windows[0]), route(windows[1]));
        fill(&mut one, 200, NO_FIELD, "old").await;
        advance(SECOND * age).await;
        let sent = send(&other.0, get("/cases/1"));
        other.1.next().await.with(503, NO_FIELD, "down");
        let found = got(sent).await;
        assert_eq!(found.status == 200, is_rescued, "{windows:?} at {age} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_404_answers_on_no_route_that_would_not_store_it() {
    let [mut one, mut other] = pair(|route| route.negative_ttl(30 * SECOND), |route| route);
    fill(&mut one, 404, NO_FIELD, "none").await;
    assert!(fetch(&one.0, "/cases/1").await.is_hit());
    fill(&mut other, 200, NO_FIELD, "one").await;
    for cache in [&one.0, &other.0] {
        let found = fetch(cache, "/cases/1").await;
        assert_eq!((found.is_hit(), found.text()), (true, "one"));
    }
}
