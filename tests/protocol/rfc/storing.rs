//! What is stored (RFC 9111 §3).

use std::time::Duration;

use http::{HeaderName, Method, StatusCode, header::SET_COOKIE};
use tower_support_cache::{Caller, ConfigErrorKind, Credentials, MemoryStore, SupportCacheLayer};

use super::{
    row::{Answer, Answer::*, Row, check},
    support::{cache, cache_with, fetch, get, got, request, response, send},
};

fn directives() -> Vec<Row> {
    let said = |line, rfc, stored, answer| Row::new(line, rfc, answer).stored(stored);
    let no_store = |stored| said("3.1 no-store", "RFC 9111 §5.2.2.5", stored, Forwarded);
    let no_cache = |stored| said("3.2 no-cache", "RFC 9111 §5.2.2.4", stored, Forwarded);
    let private = |stored| said("3.1 private", "RFC 9111 §5.2.2.7", stored, Forwarded);
    let route_ttl = |stored| said("3.1 route ttl", "RFC 9111 §4.2.4", stored, Stored);
    vec![
        no_store(&[("cache-control", "no-store")]),
        no_store(&[("cache-control", "public, max-age=60, NO-STORE")]),
        no_store(&[("cache-control", "public"), ("cache-control", "no-store")]),
        no_store(&[("cache-control", "no-store, must-understand")]),
        no_store(&[("cache-control", "no-store=\"x\"")]),
        no_store(&[("cache-control", "max-age=60; no-store")]),
        no_store(&[("cache-control", "max-age=60, x=\"unclosed, no-store")]),
        no_cache(&[("cache-control", "no-cache")]),
        no_cache(&[("cache-control", "max-age=60, no-cache")]),
        no_cache(&[("cache-control", "no-cache=\"set-cookie\"")]),
        no_cache(&[("cache-control", "no-cache=\"unclosed")]),
        private(&[("cache-control", "private")]),
        private(&[("cache-control", "Private , max-age=60")]),
        private(&[("cache-control", "private=\"x-user\"")]),
        private(&[("cache-control", "private=\"\"")]),
        private(&[("cache-control", "private = \"x\", public")]),
        Row::new("3.1 private", "RFC 9111 §5.2.2.7", Stored)
            .route(|route| route.credentials(Credentials::PerCaller(Caller::authorization())))
            .asked(&[("authorization", "alice")])
            .stored(&[("cache-control", "private")])
            .request(&[("authorization", "alice")]),
        Row::new("3.1 private", "RFC 9111 §5.2.2.7", Forwarded)
            .route(|route| route.credentials(Credentials::PerCaller(Caller::authorization())))
            .asked(&[("authorization", "alice")])
            .stored(&[("cache-control", "private")])
            .request(&[("authorization", "bob")]),
        route_ttl(&[]),
        route_ttl(&[("cache-control", "max-age=0")]),
        route_ttl(&[("cache-control", "x=\"a, no-store, b\"")]),
        route_ttl(&[("cache-control", "not-no-store, my-private")]),
        route_ttl(&[("expires", "0")]),
        route_ttl(&[("expires", "Thu, 01 Jan 1970 00:00:00 GMT")]),
        route_ttl(&[("cache-control", "must-revalidate, proxy-revalidate, s-maxage=0")]),
        Row::new("3.1 route ttl", "RFC 9111 §4.2.4", Forwarded)
            .stored(&[("cache-control", "max-age=600, immutable")])
            .age(60),
        Row::new("3.1 route ttl", "RFC 9111 §4.2", Stored)
            .route(|route| route.ttl(Duration::from_secs(5)))
            .age(4),
        Row::new("3.1 route ttl", "RFC 9111 §4.2", Forwarded)
            .route(|route| route.ttl(Duration::from_secs(5)))
            .age(5),
        Row::new("3.1 route ttl", "RFC 9111 §4.2", Forwarded)
            .route(|route| route.ttl(Duration::from_secs(100)).jitter(50))
            .age(100),
        Row::new("3.1 route ttl", "RFC 9111 §4.2", Stored)
            .route(|route| route.ttl(Duration::from_secs(100)).jitter(50))
            .age(49),
        Row::new("3.1 delta-seconds", "RFC 9111 §1.2.2", Stored)
            .stored(&[("cache-control", "max-age=99999999999999999999, max-age=-1, max-age=1.5")]),
    ]
}

fn statuses() -> Vec<Row> {
    let unstored = |status| Row::new("3.1 status", "RFC 9111 §3", Forwarded).status(status);
    let mut rows: Vec<_> = [
        201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405,
        407, 408, 410, 414, 429, 431, 451, 500, 501, 502, 503, 504, 599,
    ]
    .into_iter()
    .map(unstored)
    .collect();
    let named = |status, answer| {
        Row::new("3.1 status", "RFC 9111 §3", answer)
            .status(status)
            .route(|route| route.statuses([StatusCode::OK, StatusCode::MOVED_PERMANENTLY]))
    };
    let negative = |status, age, answer| {
        Row::new("3.1 status", "RFC 9111 §3", answer)
            .status(status)
            .age(age)
            .route(|route| route.negative_ttl(Duration::from_secs(5)))
    };
    rows.extend([
        named(200, Stored),
        named(301, Stored),
        named(302, Forwarded),
        negative(200, 59, Stored),
        negative(404, 4, Stored),
        negative(404, 5, Forwarded),
        negative(410, 4, Stored),
        negative(403, 1, Forwarded),
        negative(404, 1, Forwarded).stored(&[("cache-control", "no-store")]),
    ]);
    rows
}

fn credentials() -> Vec<Row> {
    let by_response = |stored, answer| {
        Row::new("3.1 authorization", "RFC 9111 §3.5", answer)
            .route(|route| route.credentials(Credentials::ByResponse))
            .asked(&[("authorization", "alice")])
            .stored(stored)
            .request(&[("authorization", "bob")])
    };
    vec![
        by_response(&[], Forwarded),
        by_response(&[("cache-control", "max-age=60")], Forwarded),
        by_response(&[("cache-control", "public")], Stored),
        by_response(&[("cache-control", "s-maxage=60")], Stored),
        by_response(&[("cache-control", "must-revalidate")], Stored),
        by_response(&[("cache-control", "s-maxage")], Forwarded),
        by_response(&[("cache-control", "public, private")], Forwarded),
        by_response(&[("cache-control", "public, no-store")], Forwarded),
        by_response(&[("cache-control", "public")], Forwarded).request(&[]),
        by_response(&[("cache-control", "public")], Forwarded).asked(&[]),
        Row::new("3.1 authorization", "RFC 9111 §3.5", Forwarded)
            .asked(&[("authorization", "alice")])
            .stored(&[("cache-control", "public")])
            .request(&[("authorization", "alice")]),
        Row::new("3.1 authorization", "RFC 9111 §3.5", Stored)
            .route(|route| route.credentials(Credentials::CoveredByKey))
            .asked(&[("authorization", "alice")])
            .request(&[("authorization", "bob")]),
    ]
}

fn fields() -> Vec<Row> {
    let kept = |stored| Row::new("3.1 fields", "RFC 9111 §3.1", Stored).stored(stored);
    vec![
        kept(&[("x-unknown", "1"), ("date", "Sun, 22 Nov 2026 08:00:00 GMT")])
            .age(30)
            .has("x-unknown", &["1"])
            .has("date", &["Sun, 22 Nov 2026 08:00:00 GMT"]),
        kept(&[("link", "a"), ("link", "b"), ("x", "1"), ("link", "a")])
            .has("link", &["a", "b", "a"]),
        kept(&[("connection", "close, X-Hop ,x-other"), ("x-hop", "1"), ("x-other", "2")])
            .has("connection", &[])
            .has("x-hop", &[])
            .has("x-other", &[]),
        kept(&[("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2")])
            .has("x-a", &[])
            .has("x-b", &[]),
        kept(&[
            ("connection", "content-type, cache-control, vary, etag"),
            ("content-type", "text/html"),
            ("cache-control", "max-age=5"),
            ("etag", "\"a\""),
        ])
        .has("content-type", &["text/html"])
        .has("cache-control", &["max-age=5"])
        .has("etag", &["\"a\""]),
        kept(&[
            ("keep-alive", "x"),
            ("proxy-authentication-info", "x"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
            ("te", "x"),
            ("trailer", "x"),
            ("upgrade", "x"),
        ])
        .has("keep-alive", &[])
        .has("proxy-authentication-info", &[])
        .has("proxy-authorization", &[])
        .has("proxy-connection", &[])
        .has("te", &[])
        .has("trailer", &[])
        .has("upgrade", &[]),
        kept(&[("x-request-id", "1"), ("x-kept", "2")])
            .route(|route| route.strip([HeaderName::from_static("x-request-id")]))
            .has("x-request-id", &[])
            .has("x-kept", &["2"]),
        kept(&[("set-cookie", "a=b")])
            .route(|route| route.strip([SET_COOKIE]))
            .has("set-cookie", &[]),
    ]
}

fn per_client() -> Vec<Row> {
    let all: [&'static [_]; 7] = [
        &[("set-cookie", "a=b")],
        &[("set-cookie", "a=b"), ("set-cookie", "c=d")],
        &[("set-cookie2", "a=b")],
        &[("clear-site-data", "*")],
        &[("www-authenticate", "Basic")],
        &[("proxy-authenticate", "Basic")],
        &[("authentication-info", "x")],
    ];
    all.map(|stored| Row::new("3.1 set-cookie", "RFC 9111 §7.3", Forwarded).stored(stored)).into()
}

fn requests() -> Vec<Row> {
    let row = |answer: Answer| Row::new("3.1 request no-store", "RFC 9111 §5.2.1.5", answer);
    vec![
        row(Stored).request(&[("cache-control", "no-store")]),
        row(Forwarded).asked(&[("cache-control", "no-store")]),
        row(Forwarded).asked(&[("cache-control", "max-age=5, No-Store")]),
        row(Forwarded)
            .age(60)
            .request(&[("cache-control", "no-store")])
            .says("support-cache;fwd=uri-miss;fwd-status=200;detail=no-store"),
        Row::new("3.1 method", "RFC 9110 §9.3.2", Stored)
            .stored(&[("content-length", "6"), ("etag", "\"a\"")])
            .method(Method::HEAD)
            .has("content-length", &["6"])
            .has("etag", &["\"a\""])
            .has("age", &["1"])
            .says("support-cache;hit;ttl=59"),
        Row::new("3.1 method", "RFC 9110 §9.3.2", Stored)
            .method(Method::HEAD)
            .has("content-length", &["6"]),
        Row::new("3.1 method", "RFC 9111 §4", Forwarded).method(Method::OPTIONS),
        Row::new("3.1 method", "RFC 9111 §4", Forwarded).method(Method::TRACE),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    [directives(), statuses(), credentials(), fields(), per_client(), requests()]
        .into_iter()
        .flatten()
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_response_forbids_is_not_stored() {
    check(directives()).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_statuses_of_the_route_are_stored() {
    check(statuses()).await;
}

#[tokio::test(start_paused = true)]
async fn credentials_are_shared_only_where_the_response_says_so() {
    check(credentials()).await;
}

#[tokio::test(start_paused = true)]
async fn all_fields_are_stored_but_those_of_a_connection_or_a_client() {
    check(fields()).await;
    check(per_client()).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_says_what_of_it_is_stored() {
    check(requests()).await;
}

/// RFC 9110 §8.6: a 204 never has a `Content-Length`.
#[tokio::test(start_paused = true)]
async fn only_a_response_that_may_have_content_tells_its_length() {
    for (status, own, length) in [
        (204, None, None),
        (204, Some("0"), None),
        (205, None, Some("0")),
        (200, None, Some("5")),
        (200, Some("5"), Some("5")),
    ] {
        let statuses = [204, 205, 200].map(|status| StatusCode::from_u16(status).unwrap());
        let (cache, _, calls) = cache_with(|route| route.statuses(statuses));
        calls.serve(move |_| {
            let own: Vec<_> = own.map(|own| ("content-length", own)).into_iter().collect();
            response(status, &own, if status == 200 { "whole" } else { "" })
        });
        fetch(&cache, "/cases/1").await;
        let got = got(send(&cache, request(Method::HEAD, "/cases/1"))).await;
        assert!(got.is_hit() && got.status == status);
        let told = got.fields.get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(told, length, "{status} {own:?}");
    }
}

#[test]
fn statuses_that_are_parts_of_a_response_cannot_be_configured() {
    for status in [100, 101, 103, 206, 304, 401, 407, 500, 503] {
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(
                tower_support_cache::CacheRoute::get("/")
                    .key("k")
                    .ttl(Duration::from_secs(1))
                    .statuses([StatusCode::from_u16(status).unwrap()]),
            )
            .build();
        assert_eq!(layer.unwrap_err().kind(), ConfigErrorKind::Status, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_keep_their_order() {
    const STORED: &[(&str, &str)] = &[
        ("z", "1"),
        ("etag", "\"a\""),
        ("connection", "hop"),
        ("a", "2"),
        ("hop", "x"),
        ("m", "3"),
    ];
    let (cache, _, calls) = cache();
    calls.serve(|_| response(200, STORED, "x"));
    fetch(&cache, "/cases/1").await;
    let hit = fetch(&cache, "/cases/1").await;
    let names: Vec<_> = hit.fields.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["age", "cache-status", "z", "etag", "a", "m"]);
}

#[tokio::test(start_paused = true)]
async fn a_head_request_fills_nothing() {
    let (cache, _, calls) = cache();
    let count = calls.serve(|_| response(200, &[], "x"));
    got(send(&cache, request(Method::HEAD, "/cases/1"))).await;
    let next = fetch(&cache, "/cases/1").await;
    assert_eq!(next.cache_status(), "support-cache;fwd=uri-miss;fwd-status=200;stored");
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_response_is_not_stored() {
    let (cache, _, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(10));
    gate.send("short");
    gate.end();
    got(first).await;
    let next = send(&cache, get("/cases/1"));
    calls.next().await.ok("whole");
    assert_eq!(got(next).await.text(), "whole");
}

#[tokio::test(start_paused = true)]
async fn trailers_do_not_become_fields() {
    let (cache, _, mut calls) = cache_with(|route| route);
    let first = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(None);
    gate.send("body");
    gate.trailers([("x-digest".parse().unwrap(), "1".parse().unwrap())].into_iter().collect());
    gate.end();
    let first = got(first).await;
    assert!(first.trailers.unwrap().contains_key("x-digest"));
    let hit = fetch(&cache, "/cases/1").await;
    assert!(hit.is_hit() && !hit.fields.contains_key("x-digest") && hit.trailers.is_none());
}
