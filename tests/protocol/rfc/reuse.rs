//! When and how a stored response is used (RFC 9111 §4).

use http::{Method, header::ACCEPT_LANGUAGE};
use tokio::time::advance;
use tower_support_cache::RequestDirectives;

use super::{
    row::{Answer, Answer::*, Row, check},
    support::{cache, cache_with, fetch, get, got, request, response, send, with},
};

fn vary() -> Vec<Row> {
    let row = |answer| Row::new("3.2 vary", "RFC 9111 §4.1", answer);
    let by_x =
        |asked, request, answer| row(answer).asked(asked).stored(&[("vary", "x")]).request(request);
    vec![
        by_x(&[("x", "1")], &[("x", "1")], Stored),
        by_x(&[("x", "1")], &[("x", "2")], Forwarded),
        by_x(&[("x", "1")], &[], Forwarded),
        by_x(&[], &[("x", "1")], Forwarded),
        by_x(&[], &[("x", "")], Forwarded),
        by_x(&[], &[], Stored),
        by_x(&[("x", "1")], &[("x", "1"), ("y", "2")], Stored),
        by_x(&[("x", "1"), ("x", "2")], &[("x", "2"), ("x", "1")], Forwarded),
        by_x(&[("x", "a")], &[("x", "A")], Forwarded),
        row(Forwarded).stored(&[("vary", "*")]),
        row(Forwarded).stored(&[("vary", "x, *")]),
        row(Forwarded).stored(&[("vary", "x"), ("vary", " * ")]),
        row(Forwarded).stored(&[("vary", "a b")]),
        row(Forwarded)
            .asked(&[("a", "1"), ("b", "1")])
            .stored(&[("vary", "A"), ("vary", ", B")])
            .request(&[("a", "1"), ("b", "2")]),
        row(Stored).stored(&[("vary", "x")]).has("vary", &["x"]),
        row(Forwarded)
            .route(|route| route.vary([ACCEPT_LANGUAGE]))
            .request(&[("accept-language", "de")]),
        row(Stored).request(&[("accept-language", "de")]),
        row(Forwarded)
            .stored(&[("content-encoding", "gzip")])
            .asked(&[("accept-encoding", "gzip")])
            .request(&[("accept-encoding", "br")]),
        Row::new("3.2 match", "RFC 9111 §4", Forwarded).request(&[("host", "other")]),
        Row::new("3.2 match", "RFC 9111 §4", Forwarded).method(Method::OPTIONS),
    ]
}

fn ages() -> Vec<Row> {
    let row = |answer| Row::new("3.2 age", "RFC 9111 §4.2.3", answer);
    let came = |stored, age: &'static [&'static str]| row(Stored).stored(stored).has("age", age);
    vec![
        row(Stored).age(0).has("age", &["0"]),
        row(Stored).age(59).has("age", &["59"]),
        came(&[("age", "5")], &["6"]),
        came(&[("age", "5, 9")], &["6"]),
        came(&[("age", "5"), ("age", "9")], &["6"]),
        came(&[("age", "x")], &["1"]),
        came(&[("age", "-5")], &["1"]),
        came(&[("age", "+5")], &["1"]),
        came(&[("age", "1.5")], &["1"]),
        came(&[("age", "")], &["1"]),
        Row::new("3.1 delta-seconds", "RFC 9111 §1.2.2", Stored)
            .stored(&[("age", "99999999999999999999999")])
            .age(0)
            .has("age", &["2147483648"]),
        row(Stored).stored(&[("connection", "age"), ("age", "5")]).has("age", &["6"]),
        row(Forwarded).age(60).has("age", &[]),
        Row::new("3.2 stale", "RFC 9111 §4.2.4", Forwarded).age(60),
        Row::new("3.2 stale", "RFC 9111 §5.2.1.2", Forwarded)
            .route(|route| route.request_directives(RequestDirectives::Honour))
            .age(61)
            .request(&[("cache-control", "max-stale=100")]),
    ]
}

fn request_directives() -> Vec<Row> {
    let honoured = |answer: Answer, age, request| {
        Row::new("3.2 request directives", "RFC 9111 §5.2.1", answer)
            .route(|route| route.request_directives(RequestDirectives::Honour))
            .age(age)
            .request(request)
    };
    let ignored = |request| {
        Row::new("3.2 request directives", "RFC 9111 §5.2.1", Stored).age(30).request(request)
    };
    vec![
        honoured(Forwarded, 1, &[("cache-control", "no-cache")]),
        honoured(Forwarded, 0, &[("cache-control", "max-age=0")]),
        honoured(Stored, 5, &[("cache-control", "max-age=5")]),
        honoured(Forwarded, 6, &[("cache-control", "max-age=5")]),
        honoured(Forwarded, 6, &[("cache-control", "max-age=50, max-age=5")]),
        honoured(Forwarded, 1, &[("cache-control", "max-age=x")]),
        honoured(Stored, 50, &[("cache-control", "min-fresh=10")]),
        honoured(Forwarded, 51, &[("cache-control", "min-fresh=10")]),
        honoured(Stored, 1, &[("cache-control", "only-if-cached")]),
        honoured(Own(504), 60, &[("cache-control", "only-if-cached")]).has("age", &[]),
        honoured(Own(504), 6, &[("cache-control", "only-if-cached, max-age=5")]),
        honoured(Own(504), 1, &[("cache-control", "only-if-cached")])
            .stored(&[("cache-control", "no-store")]),
        honoured(Forwarded, 1, &[("pragma", "no-cache")]),
        honoured(Stored, 1, &[("pragma", "no-cache"), ("cache-control", "max-age=60")]),
        honoured(Stored, 1, &[("cache-control", "max-stale, no-transform, unknown=1")]),
        ignored(&[("cache-control", "no-cache")]),
        ignored(&[("cache-control", "max-age=0")]),
        ignored(&[("cache-control", "min-fresh=50")]),
        ignored(&[("cache-control", "only-if-cached")]),
        ignored(&[("pragma", "no-cache")]),
        Row::new("3.2 request directives", "RFC 9111 §5.2.1", Forwarded)
            .stored(&[("cache-control", "no-store")])
            .request(&[("cache-control", "max-age=100, only-if-cached, max-stale")]),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    [vary(), ages(), request_directives()].into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn a_stored_response_answers_what_it_was_made_for() {
    check(vary()).await;
}

#[tokio::test(start_paused = true)]
async fn an_age_is_what_rfc_9111_makes_of_it() {
    check(ages()).await;
}

#[tokio::test(start_paused = true)]
async fn request_directives_count_where_the_route_says_so() {
    check(request_directives()).await;
}

#[tokio::test(start_paused = true)]
async fn several_stored_variants_answer_each_its_own() {
    let (cache, _, calls) = cache();
    let count = calls.serve(|head| {
        let body = match head.headers.get("x").map(|value| value.as_bytes()) {
            Some(b"1") => "one",
            Some(_) => "two",
            None => "none",
        };
        response(200, &[("vary", "x")], body)
    });
    for _ in 0..2 {
        for (value, body) in [("1", "one"), ("2", "two")] {
            let answer = got(send(&cache, with(get("/cases/1"), "x", value))).await;
            assert_eq!(answer.text(), body);
        }
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "none");
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_took_its_time_is_that_much_older() {
    let (cache, _, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    advance(std::time::Duration::from_secs(3)).await;
    call.with(200, ("age", "5"), "x");
    got(first).await;
    advance(std::time::Duration::from_secs(2)).await;
    let hit = fetch(&cache, "/cases/1").await;
    assert_eq!((hit.age(), hit.cache_status()), (Some(10), "support-cache;hit;ttl=58"));
}

#[tokio::test(start_paused = true)]
async fn a_write_is_forwarded_before_it_is_answered() {
    let (cache, _, mut calls) = cache();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::from_bytes(b"FOO").unwrap()] {
        let write = send(&cache, request(method.clone(), "/cases/1"));
        let call = calls.now().await.unwrap();
        assert!(!write.is_finished() && call.head.method == method);
        call.ok("");
        got(write).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_takes_only_what_may_be_stored() {
    let (cache, _, mut calls) = cache_with(|route| route);
    let (leader, follower) = (send(&cache, get("/cases/1")), send(&cache, get("/cases/1")));
    calls.next().await.with(200, ("cache-control", "private"), "for the leader");
    assert_eq!(got(leader).await.text(), "for the leader");
    calls.next().await.ok("own");
    assert_eq!(got(follower).await.text(), "own");
}
