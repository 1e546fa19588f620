//! How long a response is fresh by its own word (RFC 9111 §3, §4.2, §5.2.2), on a route that leaves
//! it to the origin. `@-30` stands for the date thirty seconds before the response.

use std::time::Duration;

use http::{Method, StatusCode};
use tower_support_cache::{CacheRoute, Caller, Credentials, Freshness};

use super::{
    row::{Answer, Answer::*, Fields, Row, check},
    support::{cache_with, fetch, get, got, request, response, send},
};

/// A route without a lifetime of its own.
pub(crate) fn by_origin(_: CacheRoute) -> CacheRoute {
    CacheRoute::get("/cases/{case}")
        .bucket("cases")
        .key("case:{case}")
        .jitter(0)
        .freshness(Freshness::Origin)
}

fn row(line: &'static str, rfc: &'static str, stored: Fields, answer: Answer) -> Row {
    Row::new(line, rfc, answer).route(by_origin).stored(stored)
}

fn explicit() -> Vec<Row> {
    let row = |stored, age, answer| {
        row("3.1 explicit or heuristic freshness", "RFC 9111 §4.2.1", stored, answer).age(age)
    };
    vec![
        row(&[], 1, Forwarded),
        row(&[("cache-control", "public")], 1, Forwarded),
        row(&[("last-modified", "@-1000")], 1, Forwarded),
        row(&[("cache-control", "max-age=10")], 9, Stored).has("age", &["9"]),
        row(&[("cache-control", "max-age=10")], 10, Forwarded),
        row(&[("cache-control", "max-age=0")], 0, Forwarded),
        row(&[("cache-control", "s-maxage=10")], 9, Stored),
        row(&[("cache-control", "s-maxage=10")], 10, Forwarded),
        row(&[("expires", "@10")], 8, Stored),
        row(&[("expires", "@10")], 11, Forwarded),
        row(&[("date", "@0"), ("expires", "@10")], 8, Stored),
        row(&[("date", "@0"), ("expires", "@10")], 10, Forwarded),
        // The origin's clock is ahead by a minute: only the difference counts.
        row(&[("date", "@60"), ("expires", "@70")], 9, Stored),
        row(&[("date", "@60"), ("expires", "@70")], 10, Forwarded),
        row(&[("expires", "0")], 0, Forwarded),
        row(&[("expires", "@-10")], 0, Forwarded),
        row(&[("expires", "@10"), ("expires", "0")], 1, Forwarded),
        row(&[("expires", "@10"), ("expires", "@3600")], 11, Forwarded),
        row(&[("cache-control", "immutable")], 1, Forwarded),
        row(&[("cache-control", "max-age=10, unknown, x=\"y\"")], 9, Stored),
        row(&[("pragma", "no-cache"), ("cache-control", "max-age=10")], 9, Stored),
    ]
}

fn precedence() -> Vec<Row> {
    let row =
        |stored, answer| row("3.1 freshness precedence", "RFC 9111 §4.2.1", stored, answer).age(20);
    vec![
        row(&[("cache-control", "s-maxage=30, max-age=10"), ("expires", "@10")], Stored),
        row(&[("cache-control", "s-maxage=10, max-age=30"), ("expires", "@30")], Forwarded),
        row(&[("cache-control", "max-age=30"), ("expires", "@10")], Stored),
        row(&[("cache-control", "max-age=30"), ("expires", "0")], Stored),
        row(&[("cache-control", "max-age=10"), ("expires", "@30")], Forwarded),
        row(&[("cache-control", "max-age=30, max-age=10")], Forwarded),
        row(&[("cache-control", "max-age=10, max-age=30")], Forwarded),
        row(&[("cache-control", "max-age=30"), ("cache-control", "max-age=10")], Forwarded),
        row(&[("cache-control", "s-maxage=x, max-age=30")], Forwarded),
        row(&[("cache-control", "max-age=x"), ("expires", "@30")], Forwarded),
        row(&[("cache-control", "max-age=30, no-cache")], Forwarded),
        row(&[("cache-control", "max-age=99999999999999999999")], Stored),
        row(&[("cache-control", "max-age=18446744073709551615")], Stored),
        row(&[("cache-control", "MAX-AGE=\"30\"")], Stored),
        row(&[("x-cache-control", "max-age=30"), ("cdn-cache-control", "max-age=30")], Forwarded),
    ]
}

fn ages() -> Vec<Row> {
    let row = |stored, age, answer| row("3.2 age", "RFC 9111 §4.2.3", stored, answer).age(age);
    vec![
        row(&[("cache-control", "max-age=10"), ("age", "5")], 4, Stored).has("age", &["9"]),
        row(&[("cache-control", "max-age=10"), ("age", "5")], 5, Forwarded),
        row(&[("cache-control", "max-age=10"), ("age", "10")], 0, Forwarded),
        row(&[("cache-control", "max-age=10"), ("age", "99999999999999999999")], 0, Forwarded),
        row(&[("cache-control", "max-age=10"), ("age", "x")], 9, Stored),
        row(&[("cache-control", "max-age=100"), ("date", "@-50")], 49, Stored),
        row(&[("cache-control", "max-age=100"), ("date", "@-50")], 51, Forwarded),
        row(&[("cache-control", "max-age=3600"), ("date", "@-2000")], 500, Stored)
            .has("age", &["2500"]),
        row(&[("cache-control", "max-age=100"), ("date", "@-50"), ("age", "70")], 29, Stored)
            .has("age", &["99"]),
        row(&[("cache-control", "max-age=100"), ("date", "@-50"), ("age", "70")], 30, Forwarded),
        row(&[("cache-control", "max-age=10"), ("date", "@-3600")], 0, Forwarded),
        row(&[("cache-control", "max-age=10"), ("date", "@3600")], 9, Stored).has("age", &["9"]),
        row(&[("cache-control", "max-age=10"), ("date", "yesterday")], 9, Stored),
    ]
}

fn heuristics() -> Vec<Row> {
    let guessed = |stored, age, answer| {
        row("3.1 heuristics", "RFC 9111 §4.2.2", stored, answer)
            .route(|route| by_origin(route).heuristic(10))
            .age(age)
    };
    let row = |stored, age, answer| guessed(stored, age, answer);
    vec![
        row(&[("last-modified", "@-1000")], 98, Stored),
        row(&[("last-modified", "@-1000")], 101, Forwarded),
        row(&[("last-modified", "@-1000"), ("date", "@0")], 99, Stored),
        row(&[("last-modified", "@-100000000")], 604_799, Stored),
        row(&[("last-modified", "@-100000000")], 604_800, Forwarded),
        row(&[], 1, Forwarded),
        row(&[("last-modified", "@10")], 0, Forwarded),
        row(&[("last-modified", "x")], 0, Forwarded),
        // Never where a lifetime is stated, whatever it is.
        row(&[("last-modified", "@-1000"), ("cache-control", "max-age=5")], 6, Forwarded),
        row(&[("last-modified", "@-1000"), ("cache-control", "max-age=x")], 1, Forwarded),
        row(&[("last-modified", "@-1000"), ("expires", "0")], 1, Forwarded),
        row(&[("last-modified", "@-1000")], 1, Stored).status(404),
        row(&[("last-modified", "@-1000")], 1, Forwarded).status(403),
        row(&[("last-modified", "@-1000"), ("cache-control", "public")], 1, Stored).status(403),
    ]
}

fn statuses() -> Vec<Row> {
    let explicit =
        |status, stored, answer| row("3.1 status", "RFC 9111 §3", stored, answer).status(status);
    let must_understand = |status, stored, answer| {
        row("3.1 must-understand", "RFC 9111 §5.2.2.3", stored, answer).status(status)
    };
    const FRESH: Fields = &[("cache-control", "max-age=60")];
    let mut rows: Vec<_> = [200, 203, 204, 299, 301, 302, 307, 308, 400, 404, 410, 500, 503, 599]
        .into_iter()
        .map(|status| explicit(status, FRESH, Stored))
        .collect();
    for status in [200, 204, 301, 404, 500] {
        rows.push(explicit(status, &[], Forwarded));
    }
    rows.extend([
        explicit(206, FRESH, Forwarded),
        explicit(304, FRESH, Forwarded),
        must_understand(200, &[("cache-control", "max-age=60, must-understand, no-store")], Stored),
        must_understand(200, &[("cache-control", "max-age=60, must-understand")], Stored),
        must_understand(599, &[("cache-control", "max-age=60, must-understand")], Forwarded),
        must_understand(599, &[("cache-control", "max-age=60, no-store")], Forwarded),
        must_understand(
            200,
            &[("cache-control", "private, must-understand, no-store, max-age=60")],
            Forwarded,
        ),
    ]);
    rows
}

/// The route's own limit on the statuses of responses that state a lifetime.
fn limited_statuses() -> Vec<Row> {
    const FRESH: Fields = &[("cache-control", "max-age=60")];
    let listed = |status, answer| {
        row("3.1 status", "RFC 9111 §3", FRESH, answer).status(status).route(|route| {
            by_origin(route).statuses([StatusCode::OK, StatusCode::MOVED_PERMANENTLY])
        })
    };
    let negative = |status, answer| {
        row("3.1 status", "RFC 9111 §3", FRESH, answer).status(status).route(|route| {
            by_origin(route).statuses([StatusCode::OK]).negative_ttl(Duration::from_secs(5))
        })
    };
    let mut rows: Vec<_> = [203, 204, 302, 307, 308, 400, 404, 410, 429, 500, 503, 599]
        .into_iter()
        .map(|status| listed(status, Forwarded))
        .collect();
    rows.extend([listed(200, Stored), listed(301, Stored)]);
    rows.extend([negative(200, Stored), negative(404, Stored), negative(410, Stored)]);
    rows.extend([negative(301, Forwarded), negative(503, Forwarded)]);
    rows
}

fn restrictions() -> Vec<Row> {
    let no_store = |stored| row("3.1 no-store", "RFC 9111 §5.2.2.5", stored, Forwarded);
    let private = |stored, answer| row("3.1 private", "RFC 9111 §5.2.2.7", stored, answer);
    let no_cache = |stored, answer| row("3.2 no-cache", "RFC 9111 §5.2.2.4", stored, answer);
    vec![
        no_store(&[("cache-control", "max-age=60, no-store")]),
        no_store(&[("cache-control", "max-age=60; no-store")]),
        private(&[("cache-control", "max-age=60, private")], Forwarded),
        private(&[("cache-control", "max-age=60, private=\"\"")], Forwarded),
        private(&[("cache-control", "max-age=60, private=x-user"), ("x-user", "a")], Forwarded),
        private(&[("cache-control", "max-age=60, private=\"x-user\""), ("x-user", "a")], Stored)
            .has("x-user", &[])
            .has("cache-control", &["max-age=60, private=\"x-user\""]),
        private(&[("cache-control", "max-age=60, private=\"x-user\", private")], Forwarded),
        private(&[("cache-control", "max-age=60, private=\"content-type\"")], Forwarded),
        private(&[("cache-control", "max-age=60, private=\"x-user\""), ("x-user", "a")], Stored)
            .route(|route| {
                by_origin(route).credentials(Credentials::PerCaller(Caller::authorization()))
            })
            .asked(&[("authorization", "alice")])
            .request(&[("authorization", "alice")])
            .has("x-user", &["a"]),
        no_cache(&[("cache-control", "max-age=60, no-cache")], Forwarded),
        no_cache(&[("cache-control", "max-age=60, no-cache=\"x-a, x-b\""), ("x-a", "1")], Stored)
            .has("x-a", &[]),
        no_cache(
            &[("cache-control", "max-age=60, no-cache=\"set-cookie\""), ("set-cookie", "a=b")],
            Stored,
        )
        .has("set-cookie", &[]),
        no_cache(
            &[("cache-control", "max-age=60, no-cache=\"x\""), ("set-cookie", "a=b")],
            Forwarded,
        ),
    ]
}

fn defaults() -> Vec<Row> {
    let row = |stored, age, answer| {
        row("3.1 route ttl", "RFC 9111 §4.2.4", stored, answer)
            .route(|route| {
                by_origin(route)
                    .ttl(Duration::from_secs(60))
                    .negative_ttl(Duration::from_secs(5))
                    .heuristic(10)
            })
            .age(age)
    };
    vec![
        row(&[], 59, Stored),
        row(&[], 60, Forwarded),
        row(&[("age", "50")], 10, Forwarded),
        row(&[("cache-control", "max-age=5")], 5, Forwarded),
        row(&[("cache-control", "max-age=0")], 0, Forwarded),
        row(&[("cache-control", "max-age=100")], 99, Stored),
        row(&[("expires", "0")], 0, Forwarded),
        row(&[("last-modified", "@-100")], 11, Forwarded),
        row(&[], 4, Stored).status(404),
        row(&[], 5, Forwarded).status(404),
        row(&[], 1, Forwarded).status(500),
    ]
}

fn credentials() -> Vec<Row> {
    let row = |stored, answer| {
        row("3.1 authorization", "RFC 9111 §3.5", stored, answer)
            .route(|route| by_origin(route).credentials(Credentials::ByResponse))
            .asked(&[("authorization", "alice")])
            .request(&[("authorization", "bob")])
    };
    vec![
        row(&[("cache-control", "max-age=60")], Forwarded),
        row(&[("cache-control", "max-age=60, public")], Stored),
        row(&[("cache-control", "s-maxage=60")], Stored),
        row(&[("cache-control", "max-age=60, must-revalidate")], Stored),
        row(&[("expires", "@60")], Forwarded),
        row(&[("expires", "@60"), ("cache-control", "public")], Stored),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    [
        explicit(),
        precedence(),
        ages(),
        heuristics(),
        statuses(),
        restrictions(),
        defaults(),
        credentials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[tokio::test(start_paused = true)]
async fn what_states_its_lifetime_is_fresh_for_it_and_nothing_else_is() {
    check(explicit()).await;
}

#[tokio::test(start_paused = true)]
async fn of_several_lifetimes_the_one_for_shared_caches_or_the_shortest_counts() {
    check(precedence()).await;
}

#[tokio::test(start_paused = true)]
async fn an_age_that_a_response_brings_shortens_its_lifetime() {
    check(ages()).await;
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_is_guessed_only_where_the_route_says_so_and_none_is_stated() {
    check(heuristics()).await;
}

#[tokio::test(start_paused = true)]
async fn any_status_may_state_its_lifetime() {
    check(statuses()).await;
}

#[tokio::test(start_paused = true)]
async fn a_route_may_limit_the_statuses_that_state_a_lifetime() {
    check(limited_statuses()).await;
}

#[tokio::test(start_paused = true)]
async fn what_restricts_a_few_fields_withholds_these() {
    check(restrictions()).await;
}

#[tokio::test(start_paused = true)]
async fn a_route_has_the_lifetime_of_what_states_none() {
    check(defaults()).await;
}

#[tokio::test(start_paused = true)]
async fn the_response_says_whether_credentials_matter() {
    check(credentials()).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_not_given_what_is_withheld() {
    let (cache, _, mut calls) = cache_with(by_origin);
    let (leader, follower) = (send(&cache, get("/cases/1")), send(&cache, get("/cases/1")));
    let fields = [("cache-control", "max-age=60, no-cache=\"set-cookie\""), ("set-cookie", "a=b")];
    calls.next().await.respond(response(200, &fields, "shared"));
    assert_eq!(got(leader).await.fields["set-cookie"], "a=b");
    let follower = got(follower).await;
    assert_eq!((follower.text(), calls.count()), ("shared", 1));
    assert!(!follower.fields.contains_key("set-cookie"), "{follower:?}");
}

/// Requests of a client that a test suite sends: they change nothing.
#[tokio::test(start_paused = true)]
async fn pragma_and_unknown_directives_of_requests_change_nothing() {
    let (cache, _, calls) = cache_with(by_origin);
    calls.serve(|_| response(200, &[("cache-control", "max-age=60")], "x"));
    let ask = || {
        let mut request = request(Method::GET, "/cases/1");
        request.headers_mut().insert("pragma", "foo".parse().unwrap());
        request.headers_mut().insert("cache-control", "nothing-to-see-here".parse().unwrap());
        send(&cache, request)
    };
    got(ask()).await;
    assert!(got(ask()).await.is_hit() && fetch(&cache, "/cases/1").await.is_hit());
}
