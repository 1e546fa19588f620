//! Conditional requests (RFC 9111 §4.3.2, RFC 9110 §13 and §15.4.5).

use http::Method;
use tower_support_cache::{CacheRoute, Freshness, RequestDirectives};

use super::{
    row::{Answer, Answer::*, Fields, Row, check, lines},
    support::{
        Cached, GatedBody, Got, Sent, cache, cache_with, fetch, get, got, request, response, send,
        settle, with,
    },
};

const EARLIER: &str = "Sun, 22 Nov 2026 08:00:00 GMT";
const LATER: &str = "Sun, 22 Nov 2026 09:00:00 GMT";

fn none_match() -> Vec<Row> {
    let row = |request, answer| {
        Row::new("3.3 order and comparison", "RFC 9110 §13.1.2", answer)
            .stored(&[("etag", "\"a\""), ("last-modified", EARLIER)])
            .request(request)
    };
    let weak = |request, answer: Answer| row(request, answer).stored(&[("etag", "W/\"a\"")]);
    vec![
        row(&[("if-none-match", "\"a\"")], NotModified),
        row(&[("if-none-match", "W/\"a\"")], NotModified),
        weak(&[("if-none-match", "\"a\"")], NotModified),
        weak(&[("if-none-match", "W/\"a\"")], NotModified),
        row(&[("if-none-match", "\"b\"")], Stored),
        row(&[("if-none-match", "\"A\"")], Stored),
        row(&[("if-none-match", "a")], Stored),
        row(&[("if-none-match", "\"b\", W/\"c\" ,\"a\"")], NotModified),
        row(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], NotModified),
        row(&[("if-none-match", "\"x, \"a\"")], Stored),
        row(&[("if-none-match", "*")], NotModified),
        row(&[("if-none-match", "*")], NotModified).stored(&[]),
        row(&[("if-none-match", "\"a\"")], Stored).stored(&[]),
        row(&[("if-none-match", "\"b\""), ("if-modified-since", LATER)], Stored),
        row(&[("if-none-match", "\"a\""), ("if-modified-since", "x")], NotModified),
    ]
}

fn modified_since() -> Vec<Row> {
    let row = |stored, request, answer| {
        Row::new("3.3 date", "RFC 9110 §13.1.3", answer).stored(stored).request(request)
    };
    vec![
        row(&[("last-modified", EARLIER)], &[("if-modified-since", LATER)], NotModified),
        row(&[("last-modified", EARLIER)], &[("if-modified-since", EARLIER)], NotModified),
        row(&[("last-modified", LATER)], &[("if-modified-since", EARLIER)], Stored),
        row(&[("date", EARLIER)], &[("if-modified-since", EARLIER)], NotModified),
        row(&[("date", LATER)], &[("if-modified-since", EARLIER)], Stored),
        row(
            &[("last-modified", LATER), ("date", EARLIER)],
            &[("if-modified-since", EARLIER)],
            Stored,
        ),
        row(
            &[("last-modified", EARLIER)],
            &[("if-modified-since", "Sunday, 22-Nov-26 09:00:00 GMT")],
            NotModified,
        ),
        row(
            &[("last-modified", EARLIER)],
            &[("if-modified-since", "Sun Nov 22 09:00:00 2026")],
            NotModified,
        ),
        row(&[("last-modified", EARLIER)], &[("if-modified-since", "tomorrow")], Stored),
        row(&[("last-modified", EARLIER)], &[("if-modified-since", "1795338000")], Stored),
        row(
            &[("last-modified", EARLIER)],
            &[("if-modified-since", LATER), ("if-modified-since", LATER)],
            Stored,
        ),
        row(&[("last-modified", "x")], &[("if-modified-since", LATER)], Stored),
        row(&[], &[("if-modified-since", LATER)], Stored),
    ]
}

fn answers() -> Vec<Row> {
    let fields = |answer| Row::new("3.3 fields of a 304", "RFC 9110 §15.4.5", answer);
    vec![
        fields(NotModified)
            .stored(&[
                ("etag", "\"a\""),
                ("date", LATER),
                ("last-modified", EARLIER),
                ("cache-control", "max-age=5"),
                ("expires", LATER),
                ("vary", "accept"),
                ("content-location", "/cases/1.json"),
                ("content-type", "application/json"),
                ("content-length", "6"),
                ("content-language", "de"),
                ("x-kept", "1"),
            ])
            .request(&[("if-none-match", "\"a\"")])
            .has("etag", &["\"a\""])
            .has("date", &[LATER])
            .has("cache-control", &["max-age=5"])
            .has("expires", &[LATER])
            .has("vary", &["accept"])
            .has("content-location", &["/cases/1.json"])
            .has("age", &["1"])
            .has("last-modified", &[])
            .has("content-type", &[])
            .has("content-length", &[])
            .has("content-language", &[]),
        fields(NotModified)
            .stored(&[("last-modified", EARLIER), ("content-encoding", "gzip")])
            .request(&[("if-modified-since", LATER)])
            .has("last-modified", &[EARLIER])
            .has("content-encoding", &[]),
    ]
}

fn reasons() -> Vec<Row> {
    let is_hit = |answer| Row::new("3.3 a 304 is a hit", "RFC 9211 §2.1", answer);
    let evaluated = |answer| Row::new("3.3 what is evaluated", "RFC 9111 §4.3.2", answer);
    let taken_off = |answer| Row::new("3.3 conditionals taken off", "RFC 9111 §4.3.2", answer);
    vec![
        is_hit(NotModified)
            .stored(&[("etag", "\"a\"")])
            .request(&[("if-none-match", "\"a\"")])
            .says("support-cache;hit;ttl=59"),
        is_hit(NotModified)
            .stored(&[("etag", "\"a\"")])
            .method(Method::HEAD)
            .request(&[("if-none-match", "\"a\"")])
            .says("support-cache;hit;ttl=59"),
        is_hit(Stored)
            .stored(&[("etag", "\"a\"")])
            .method(Method::HEAD)
            .request(&[("if-none-match", "\"b\"")]),
        evaluated(Forwarded)
            .stored(&[("etag", "\"a\"")])
            .request(&[("if-match", "\"a\""), ("if-none-match", "\"a\"")])
            .forwards("if-match", true)
            .forwards("if-none-match", true)
            .says("support-cache;fwd=bypass;fwd-status=200;detail=precondition"),
        evaluated(Forwarded)
            .stored(&[("last-modified", EARLIER)])
            .request(&[("if-unmodified-since", LATER)])
            .forwards("if-unmodified-since", true)
            .says("support-cache;fwd=bypass;fwd-status=200;detail=precondition"),
        evaluated(Forwarded)
            .status(404)
            .stored(&[("etag", "\"a\"")])
            .request(&[("if-none-match", "\"a\"")]),
        evaluated(Stored)
            .status(404)
            .route(|route| route.negative_ttl(std::time::Duration::from_secs(5)))
            .stored(&[("etag", "\"a\"")])
            .request(&[("if-none-match", "\"a\"")]),
        taken_off(Forwarded)
            .age(60)
            .request(&[("if-none-match", "\"a\""), ("if-modified-since", LATER)])
            .forwards("if-none-match", false)
            .forwards("if-modified-since", false)
            .says("support-cache;fwd=stale;fwd-status=200;stored"),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    [none_match(), modified_since(), answers(), reasons()].into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn if_none_match_compares_weakly_and_before_if_modified_since() {
    check(none_match()).await;
}

#[tokio::test(start_paused = true)]
async fn if_modified_since_is_compared_with_last_modified_or_else_with_date() {
    check(modified_since()).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_client_has_is_not_sent_again() {
    check(answers()).await;
    check(reasons()).await;
}

fn asks_again(cache: &Cached) -> Sent {
    send(cache, with(get("/cases/1"), "if-none-match", "\"a\""))
}

#[track_caller]
fn is_not_modified(got: &Got) {
    assert_eq!((got.status.as_u16(), got.text()), (304, ""), "{got:?}");
    assert_eq!(lines(&got.fields, "etag"), ["\"a\""]);
    assert!(!got.fields.contains_key("content-type") && got.trailers.is_none());
}

const PAGE: &[(&str, &str)] = &[("etag", "\"a\""), ("content-type", "text/html")];

/// SEC-COAL-4: what one client already has is not what others are given.
#[tokio::test(start_paused = true)]
async fn a_conditional_miss_brings_the_whole_representation_for_all() {
    let (cache, _, mut calls) = cache();
    let (leader, follower) = (asks_again(&cache), send(&cache, get("/cases/1")));
    let call = calls.next().await;
    assert!(!call.head.headers.contains_key("if-none-match"));
    settle().await;
    call.respond(response(200, PAGE, "whole"));
    is_not_modified(&got(leader).await);
    assert_eq!(got(follower).await.text(), "whole");
    let hit = fetch(&cache, "/cases/1").await;
    assert_eq!((hit.status.as_u16(), hit.text(), calls.count()), (200, "whole", 1));
}

#[tokio::test(start_paused = true)]
async fn a_conditional_miss_that_streams_is_answered_and_stored() {
    let (cache, _, mut calls) = cache();
    let leader = asks_again(&cache);
    let (body, gate) = GatedBody::gated(None);
    let mut whole = http::Response::new(body);
    whole.headers_mut().insert("etag", "\"a\"".parse().unwrap());
    calls.next().await.respond(whole);
    is_not_modified(&got(leader).await);
    gate.send("whole");
    gate.end();
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "whole");
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conditional_miss_that_does_not_match_is_answered_in_full() {
    let (cache, _, mut calls) = cache();
    let leader = asks_again(&cache);
    calls.next().await.with(200, ("etag", "\"b\""), "whole");
    let leader = got(leader).await;
    assert_eq!((leader.status.as_u16(), leader.text()), (200, "whole"));
}

/// RFC 9110 §13.2.1: what is compared with the client's copy is the response, stored or not.
#[tokio::test(start_paused = true)]
async fn a_leaders_condition_is_evaluated_for_a_response_that_is_not_stored() {
    let refused: [Fields; 7] = [
        &[("set-cookie", "a=b")],
        &[("clear-site-data", "*")],
        &[("cache-control", "no-store")],
        &[("cache-control", "private")],
        &[("vary", "*")],
        &[("content-type", "text/event-stream")],
        &[("content-length", "9999999")],
    ];
    for (name, list, validator, is_had) in [
        ("if-none-match", "W/\"a\"", ("etag", "\"a\""), true),
        ("if-none-match", "\"b\"", ("etag", "\"a\""), false),
        ("if-modified-since", LATER, ("last-modified", EARLIER), true),
        ("if-modified-since", EARLIER, ("last-modified", LATER), false),
        ("if-modified-since", LATER, ("date", EARLIER), false),
    ] {
        for fields in refused {
            let (cache, _, mut calls) = cache();
            let reply = send(&cache, with(get("/cases/1"), name, list));
            let (body, gate) = GatedBody::gated(None);
            gate.send("whole");
            let mut response = http::Response::new(body);
            for (name, value) in fields.iter().chain([&validator]) {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            calls.next().await.respond(response);
            gate.end();
            let reply = got(reply).await;
            let case = (name, list, validator, fields);
            let expected = if is_had { (304, "") } else { (200, "whole") };
            assert_eq!((reply.status.as_u16(), reply.text()), expected, "{case:?}");
            assert!(reply.cache_status().contains(";detail="), "{case:?}");
            assert!(!is_had || !reply.fields.contains_key("content-length"), "{case:?}");
            assert_eq!(lines(&reply.fields, validator.0), [validator.1], "{case:?}");
            let of_all = ["set-cookie", "clear-site-data", "cache-control", "vary"];
            for (name, value) in fields.iter().filter(|(name, _)| of_all.contains(name)) {
                assert_eq!(lines(&reply.fields, name), [*value], "{case:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaders_condition_is_evaluated_for_a_body_over_the_limit_and_one_that_fails() {
    for is_over in [true, false] {
        let (cache, handle, mut calls) = cache_with(|route| route.body_limit(4));
        let leader = asks_again(&cache);
        let (body, gate) = GatedBody::gated(None);
        let mut whole = http::Response::new(body);
        whole.headers_mut().insert("etag", "\"a\"".parse().unwrap());
        calls.next().await.respond(whole);
        is_not_modified(&got(leader).await);
        match is_over {
            true => gate.send("whole"),
            false => gate.fail(),
        }
        settle().await;
        let refused = handle.metrics().bucket("cases").unwrap().refused.clone();
        assert_eq!(refused.values().sum::<u64>(), 1, "{refused:?}");
    }
}

/// An error is no representation, and the client learns of it.
#[tokio::test(start_paused = true)]
async fn a_leaders_condition_is_evaluated_only_if_the_origin_succeeded() {
    for status in [301, 404, 412, 500, 503] {
        let (cache, _, mut calls) = cache();
        let leader = asks_again(&cache);
        calls.next().await.with(status, ("etag", "\"a\""), "error");
        let leader = got(leader).await;
        assert_eq!((leader.status.as_u16(), leader.text()), (status, "error"));
    }
}

/// A 304 about another representation than the stored one leaves the stored one to be compared.
#[tokio::test(start_paused = true)]
async fn a_leaders_condition_is_evaluated_after_a_revalidation_that_stores_nothing() {
    for answer in [("etag", "\"b\""), ("cache-control", "no-store"), ("set-cookie", "a=b")] {
        let (cache, _, mut calls) = cache_with(|route| route.freshness(Freshness::Origin));
        let first = send(&cache, get("/cases/1"));
        calls.next().await.respond(response(200, PAGE, "whole"));
        got(first).await;
        tokio::time::advance(super::support::TTL).await;
        let leader = asks_again(&cache);
        calls.next().await.with(304, answer, "");
        is_not_modified(&got(leader).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_followers_conditional_is_its_own() {
    let (cache, _, mut calls) = cache();
    let (leader, follower) = (send(&cache, get("/cases/1")), asks_again(&cache));
    let call = calls.next().await;
    settle().await;
    call.respond(response(200, PAGE, "whole"));
    assert_eq!(got(leader).await.text(), "whole");
    let follower = got(follower).await;
    is_not_modified(&follower);
    assert_eq!(follower.cache_status(), "support-cache;fwd=uri-miss;collapsed;ttl=60");
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_forwards_for_itself_keeps_its_conditional() {
    let (cache, _, mut calls) = cache();
    let (leader, follower) = (send(&cache, get("/cases/1")), asks_again(&cache));
    let call = calls.next().await;
    settle().await;
    call.with(200, ("cache-control", "no-store"), "whole");
    got(leader).await;
    let own = calls.next().await;
    assert_eq!(lines(&own.head.headers, "if-none-match"), ["\"a\""]);
    own.with(304, ("etag", "\"a\""), "");
    assert_eq!(got(follower).await.status, 304);
}

#[tokio::test(start_paused = true)]
async fn conditionals_of_a_request_that_misses_alone_are_left_as_they_are() {
    let (cache, _, mut calls) = cache();
    let head = with(request(Method::HEAD, "/cases/1"), "if-none-match", "\"a\"");
    let reply = send(&cache, head);
    let call = calls.next().await;
    assert!(call.head.headers.contains_key("if-none-match"));
    call.with(304, ("etag", "\"a\""), "");
    assert_eq!(got(reply).await.status, 304);
}

const WHOLE: &[(&str, &str)] =
    &[("etag", "\"a\""), ("last-modified", EARLIER), ("x-said", "by get")];

/// RFC 9111 §4.3.5.
#[tokio::test(start_paused = true)]
async fn a_head_that_agrees_with_what_is_stored_makes_it_fresh_again() {
    let by_origin = |route: CacheRoute| route.freshness(Freshness::Origin);
    let by_route = |route: CacheRoute| route.stale_if_error(super::support::TTL);
    for (route, fields, status, is_fresh) in [
        (by_origin as fn(_) -> _, &[("etag", "\"a\"")][..], 200, true),
        (by_origin, &[("etag", "W/\"a\"")], 200, false),
        (by_origin, &[("last-modified", EARLIER), ("content-length", "5")], 200, true),
        (by_route, &[("etag", "\"a\"")], 200, true),
        // Without a validator it may be about any representation.
        (by_origin, &[], 200, false),
        (by_origin, &[("content-length", "5")], 200, false),
        (by_origin, &[("etag", "\"b\"")], 200, false),
        (by_origin, &[("etag", "\"a\""), ("last-modified", LATER)], 200, false),
        (by_origin, &[("etag", "\"a\""), ("content-length", "6")], 200, false),
        (by_origin, &[("etag", "\"a\""), ("cache-control", "no-store")], 200, false),
        (by_origin, &[("etag", "\"a\""), ("set-cookie", "a=b")], 200, false),
        (by_origin, &[("etag", "\"a\""), ("cache-control", "max-age=0")], 200, false),
        (by_origin, &[("etag", "\"a\"")], 404, false),
        (by_origin, &[("etag", "\"a\"")], 304, false),
        (by_origin, &[("etag", "\"a\"")], 503, false),
    ] {
        let (cache, _, mut calls) = cache_with(route);
        let first = send(&cache, get("/cases/1"));
        calls.next().await.respond(response(200, WHOLE, "whole"));
        got(first).await;
        tokio::time::advance(super::support::TTL).await;
        let head = send(&cache, request(Method::HEAD, "/cases/1"));
        let call = calls.next().await;
        assert_eq!(call.head.method, Method::HEAD);
        let fields = [fields, &[("x-said", "by head"), ("content-type", "text/html")]].concat();
        call.respond(response(status, &fields, ""));
        let head = got(head).await;
        assert!(head.cache_status().ends_with(";detail=head"), "{head:?}");
        assert_eq!(head.fields["x-said"], "by head");
        let second = send(&cache, get("/cases/1"));
        if let Some(call) = calls.now().await {
            call.respond(response(200, WHOLE, "again"));
        }
        let second = got(second).await;
        assert_eq!(second.is_hit(), is_fresh, "{fields:?} {status} {second:?}");
        if is_fresh {
            assert_eq!(
                (second.text(), second.fields["x-said"].as_bytes()),
                ("whole", &b"by head"[..])
            );
            assert_eq!(second.age(), Some(0), "{fields:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_an_invalidation_overtakes_freshens_nothing() {
    let (cache, handle, mut calls) = cache_with(|route| route.freshness(Freshness::Origin));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(200, WHOLE, "whole"));
    got(first).await;
    tokio::time::advance(super::support::TTL).await;
    let head = send(&cache, request(Method::HEAD, "/cases/1"));
    let call = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    call.respond(response(200, WHOLE, ""));
    got(head).await;
    let second = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(second).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_head_keeps_no_other_request_waiting() {
    let (cache, _, mut calls) = cache_with(|route| route.freshness(Freshness::Origin));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(200, WHOLE, "whole"));
    got(first).await;
    tokio::time::advance(super::support::TTL).await;
    let _head = send(&cache, request(Method::HEAD, "/cases/1"));
    let _never_answered = calls.next().await;
    let second = send(&cache, get("/cases/1"));
    calls.next().await.with(304, ("etag", "\"a\""), "");
    assert_eq!(got(second).await.text(), "whole");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_contradicts_what_is_stored_makes_it_stale() {
    for (fields, is_stale) in [
        (&[("etag", "\"a\""), ("last-modified", EARLIER), ("content-length", "5")][..], false),
        (&[], false),
        (&[("etag", "\"b\"")], true),
        (&[("last-modified", LATER)], true),
        (&[("content-length", "6")], true),
        (&[("content-length", "x")], true),
    ] {
        let (cache, _, calls) =
            cache_with(|route| route.request_directives(RequestDirectives::Honour));
        calls.serve(move |head| match head.method {
            Method::HEAD => response(200, fields, ""),
            _ => response(200, &[("etag", "\"a\""), ("last-modified", EARLIER)], "whole"),
        });
        fetch(&cache, "/cases/1").await;
        let head = with(request(Method::HEAD, "/cases/1"), "cache-control", "no-cache");
        got(send(&cache, head)).await;
        assert_eq!(fetch(&cache, "/cases/1").await.is_hit(), !is_stale, "{fields:?}");
    }
}
