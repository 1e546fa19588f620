//! Asking the origin whether what is stored is still good (RFC 9111 §4.3).

use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::time::advance;
use tower_support_cache::{Refusal, RequestDirectives};

use super::{
    freshness::by_origin,
    row::lines,
    support::{
        Cached, Calls, Got, cache_with, fetch, get, got, request, response, send, settle, with,
    },
};

const EARLIER: &str = "Sun, 22 Nov 2026 08:00:00 GMT";
const LATER: &str = "Sun, 22 Nov 2026 09:00:00 GMT";

type Fields = &'static [(&'static str, &'static str)];

/// Stores a response, lets it become stale, and returns what the next request asks of the origin.
async fn asked(
    stored: Fields,
) -> (Cached, Calls, super::support::Sent, HeaderMap, super::support::Call) {
    let (cache, _, mut calls) = cache_with(by_origin);
    store(&cache, &mut calls, stored).await;
    let next = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let fields = call.head.headers.clone();
    (cache, calls, next, fields, call)
}

async fn store(cache: &Cached, calls: &mut Calls, stored: Fields) {
    let first = send(cache, get("/cases/1"));
    calls.next().await.respond(response(200, stored, "stored"));
    got(first).await;
    settle().await;
    advance(Duration::from_secs(100)).await;
}

const PAGE: Fields = &[
    ("cache-control", "max-age=10"),
    ("etag", "\"a\""),
    ("last-modified", EARLIER),
    ("content-type", "text/html"),
    ("content-length", "6"),
    ("content-digest", "of what is stored"),
    ("x-kept", "1"),
    ("x-replaced", "1"),
    ("x-replaced", "2"),
];

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_asked_about_by_its_validators() {
    for (stored, tag, since) in [
        (PAGE, Some("\"a\""), Some(EARLIER)),
        (&[("cache-control", "max-age=10"), ("etag", "W/\"a\"")], Some("W/\"a\""), None),
        (&[("cache-control", "max-age=10"), ("last-modified", EARLIER)], None, Some(EARLIER)),
        (&[("cache-control", "max-age=10")], None, None),
        (&[("cache-control", "max-age=10"), ("etag", "a"), ("last-modified", "x")], None, None),
        // Nothing says how long these are fresh: not at all, but they can be asked about.
        (&[("etag", "\"a\"")], Some("\"a\""), None),
        (&[("etag", "\"a\""), ("cache-control", "no-cache")], Some("\"a\""), None),
        (&[("etag", "\"a\""), ("cache-control", "max-age=60, no-cache")], Some("\"a\""), None),
        (&[("etag", "\"a\""), ("cache-control", "no-store")], None, None),
        (&[("etag", "\"a\""), ("cache-control", "private")], None, None),
    ] {
        let (_, _, _, fields, _) = asked(stored).await;
        let line = |name| lines(&fields, name).first().copied().map(str::to_owned);
        assert_eq!(line("if-none-match").as_deref(), tag, "{stored:?}");
        assert_eq!(line("if-modified-since").as_deref(), since, "{stored:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_makes_what_is_stored_fresh_again() {
    let (cache, calls, next, _, call) = asked(PAGE).await;
    call.respond(response(
        304,
        &[
            ("etag", "\"a\""),
            ("cache-control", "max-age=20"),
            ("x-replaced", "3"),
            ("x-new", "4"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-digest", "of nothing"),
            ("content-md5", "of nothing"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
        ],
        "",
    ));
    let check = |got: &Got| {
        assert_eq!((got.status.as_u16(), got.text()), (200, "stored"));
        for (name, expected) in [
            ("cache-control", &["max-age=20"][..]),
            ("etag", &["\"a\""]),
            ("last-modified", &[EARLIER]),
            ("content-type", &["text/html"]),
            ("content-length", &["6"]),
            ("content-encoding", &[]),
            ("content-digest", &["of what is stored"]),
            ("content-md5", &[]),
            ("x-kept", &["1"]),
            ("x-replaced", &["3"]),
            ("x-new", &["4"]),
            ("x-hop", &[]),
        ] {
            assert_eq!(lines(&got.fields, name), expected, "{name}");
        }
    };
    let next = got(next).await;
    check(&next);
    assert_eq!(next.cache_status(), "support-cache;fwd=stale;fwd-status=304;stored");
    settle().await;
    advance(Duration::from_secs(19)).await;
    let hit = fetch(&cache, "/cases/1").await;
    check(&hit);
    assert_eq!((hit.age(), hit.cache_status()), (Some(19), "support-cache;hit;ttl=1"));
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_304_is_believed_only_if_it_is_about_what_is_stored() {
    const WEAK: Fields = &[("cache-control", "max-age=10"), ("etag", "W/\"a\"")];
    const DATED: Fields = &[("cache-control", "max-age=10"), ("last-modified", EARLIER)];
    for (stored, told, is_believed) in [
        (PAGE, &[("etag", "\"a\"")][..], true),
        (PAGE, &[("etag", "W/\"a\"")], true),
        (PAGE, &[("etag", "\"a\""), ("last-modified", LATER)], true),
        (PAGE, &[("last-modified", EARLIER)], true),
        (PAGE, &[], true),
        (PAGE, &[("etag", "\"b\"")], false),
        (PAGE, &[("etag", "W/\"b\"")], false),
        (PAGE, &[("last-modified", LATER)], false),
        (WEAK, &[("etag", "W/\"a\"")], true),
        (WEAK, &[("etag", "\"a\"")], false),
        (DATED, &[("last-modified", EARLIER)], true),
        (DATED, &[("last-modified", LATER)], false),
        (DATED, &[("etag", "\"a\"")], false),
    ] {
        let (cache, mut calls, next, _, call) = asked(stored).await;
        let mut fields = told.to_vec();
        fields.push(("cache-control", "max-age=60"));
        call.respond(response(304, &fields, ""));
        let next = got(next).await;
        assert_eq!(next.text(), "stored");
        let says = next.cache_status().rsplit(';').next().unwrap().to_owned();
        assert_eq!(says, if is_believed { "stored" } else { "detail=validator" }, "{told:?}");
        settle().await;
        let again = send(&cache, get("/cases/1"));
        let call = calls.now().await;
        assert_eq!(call.is_none(), is_believed, "{stored:?} {told:?}");
        if let Some(call) = call {
            // Asked anew: what is doubtful is gone.
            assert!(!call.head.headers.contains_key("if-none-match"));
            call.ok("new");
        }
        got(again).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_that_an_invalidation_overtakes_freshens_nothing() {
    let (cache, handle, mut calls) = cache_with(by_origin);
    store(&cache, &mut calls, PAGE).await;
    let next = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    call.respond(response(304, &[("etag", "\"a\""), ("cache-control", "max-age=60")], ""));
    let next = got(next).await;
    assert_eq!((next.text(), next.status.as_u16()), ("stored", 200));
    assert_eq!(next.cache_status(), "support-cache;fwd=stale;fwd-status=304;detail=fenced");
    let after = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    assert!(!call.head.headers.contains_key("if-none-match"));
    call.ok("new");
    assert_eq!(got(after).await.text(), "new");
}

/// A request holds the stale response from before an invalidation, and has not forwarded yet.
#[tokio::test(start_paused = true)]
async fn what_was_invalidated_before_the_question_is_not_asked_about() {
    let (cache, handle, mut calls) = cache_with(by_origin);
    store(&cache, &mut calls, PAGE).await;
    let mut cache = cache;
    let pending = tower::Service::call(&mut cache, get("/cases/1"));
    handle.invalidate("case:1").await.unwrap();
    let pending = tokio::spawn(pending);
    let call = calls.next().await;
    assert!(!call.head.headers.contains_key("if-none-match"));
    call.ok("new");
    pending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_answer_replaces_what_is_stored_and_a_failure_leaves_it() {
    let (cache, mut calls, next, _, call) = asked(PAGE).await;
    call.respond(response(503, &[], "down"));
    let next = got(next).await;
    assert_eq!((next.status.as_u16(), next.text()), (503, "down"));
    let again = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    assert_eq!(lines(&call.head.headers, "if-none-match"), ["\"a\""]);
    call.respond(response(200, &[("cache-control", "max-age=10"), ("etag", "\"b\"")], "new"));
    assert_eq!(got(again).await.text(), "new");
    settle().await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_share_what_is_freshened() {
    let (cache, calls, next, _, call) = asked(PAGE).await;
    let follower = send(&cache, with(get("/cases/1"), "if-none-match", "\"a\""));
    settle().await;
    call.respond(response(304, &[("x-new", "1")], ""));
    assert_eq!(got(next).await.text(), "stored");
    let follower = got(follower).await;
    assert_eq!((follower.status.as_u16(), follower.text()), (304, ""));
    assert_eq!((lines(&follower.fields, "x-new"), calls.count()), (vec!["1"], 2));
}

#[tokio::test(start_paused = true)]
async fn the_client_is_answered_by_its_own_conditions() {
    for (tag, status) in [("\"a\"", 304), ("\"b\"", 200)] {
        let (cache, _, mut calls) = cache_with(by_origin);
        store(&cache, &mut calls, PAGE).await;
        let next = send(&cache, with(get("/cases/1"), "if-none-match", tag));
        let call = calls.next().await;
        assert_eq!(lines(&call.head.headers, "if-none-match"), ["\"a\""]);
        call.respond(response(304, &[], ""));
        assert_eq!(got(next).await.status, status, "{tag}");
    }
}

/// RFC 9111 §5.2.2.4: not used without asking, and so not shared with who has not asked either.
#[tokio::test(start_paused = true)]
async fn what_is_never_fresh_is_asked_about_by_each_request() {
    const NEVER: Fields = &[("cache-control", "max-age=60, no-cache"), ("etag", "\"a\"")];
    let (cache, _, mut calls) = cache_with(by_origin);
    let (leader, follower) = (send(&cache, get("/cases/1")), send(&cache, get("/cases/1")));
    calls.next().await.respond(response(200, NEVER, "stored"));
    assert_eq!(got(leader).await.text(), "stored");
    calls.next().await.respond(response(200, NEVER, "its own"));
    assert_eq!(got(follower).await.text(), "its own");
    let burst: Vec<_> = (0..3).map(|_| send(&cache, get("/cases/1"))).collect();
    settle().await;
    let asked = calls.all().await;
    assert_eq!(asked.len(), 3, "nobody waits");
    for call in asked {
        assert_eq!(lines(&call.head.headers, "if-none-match"), ["\"a\""]);
        call.respond(response(304, &[], ""));
    }
    for request in burst {
        assert_eq!(got(request).await.text(), "stored");
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_is_judged_like_any_response() {
    for (told, refusal) in [
        (("cache-control", "no-store"), Refusal::NoStore),
        (("cache-control", "private"), Refusal::Private),
        (("set-cookie", "a=b"), Refusal::SetCookie),
        (("vary", "*"), Refusal::Vary),
    ] {
        let (cache, mut calls, next, _, call) = asked(PAGE).await;
        call.respond(response(304, &[told], ""));
        let next = got(next).await;
        assert_eq!((next.text(), lines(&next.fields, told.0)), ("stored", vec![told.1]));
        assert!(next.cache_status().ends_with(refusal.as_str()), "{}", next.cache_status());
        let after = send(&cache, get("/cases/1"));
        calls.next().await.ok("new");
        assert_eq!(got(after).await.text(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_wants_something_newer_is_given_what_is_asked_about() {
    let (cache, _, mut calls) =
        cache_with(|route| by_origin(route).request_directives(RequestDirectives::Honour));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(200, PAGE, "stored"));
    got(first).await;
    settle().await;
    let newer = send(&cache, with(get("/cases/1"), "cache-control", "no-cache"));
    let call = calls.next().await;
    assert_eq!(lines(&call.head.headers, "if-none-match"), ["\"a\""]);
    call.respond(response(304, &[], ""));
    let newer = got(newer).await;
    assert_eq!(newer.cache_status(), "support-cache;fwd=request;fwd-status=304;stored");
}

/// A route with a lifetime of its own asks for the whole representation, as ever.
#[tokio::test(start_paused = true)]
async fn a_route_that_decides_itself_asks_about_nothing() {
    let (cache, _, mut calls) =
        cache_with(|route| route.request_directives(RequestDirectives::Honour));
    store(&cache, &mut calls, PAGE).await;
    let stale = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    assert!(!call.head.headers.contains_key("if-none-match"));
    call.respond(response(200, PAGE, "stored"));
    got(stale).await;
    let newer = send(&cache, with(get("/cases/1"), "cache-control", "no-cache"));
    assert!(!calls.next().await.head.headers.contains_key("if-none-match"));
    newer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_304_that_nobody_asked_for_is_passed_on() {
    let (cache, _, mut calls) = cache_with(by_origin);
    let first = send(&cache, request(Method::GET, "/cases/1"));
    calls.next().await.respond(response(304, &[("etag", "\"a\"")], ""));
    assert_eq!(got(first).await.status, 304);
}

/// RFC 9110 §6.6.1: what has no date is dated when it arrives.
#[tokio::test(start_paused = true)]
async fn a_response_without_a_date_is_dated_and_a_304_renews_the_date() {
    let (cache, calls, next, _, call) =
        asked(&[("etag", "\"a\""), ("cache-control", "max-age=50")]).await;
    let date = |got: &Got| {
        let date = lines(&got.fields, "date").first().map(|line| httpdate::parse_http_date(line));
        date.expect("a date").expect("a date that can be read")
    };
    call.respond(response(304, &[("etag", "\"a\"")], ""));
    let renewed = got(next).await;
    settle().await;
    advance(Duration::from_secs(49)).await;
    let hit = fetch(&cache, "/cases/1").await;
    assert_eq!((hit.age(), calls.count()), (Some(49), 2), "{}", hit.cache_status());
    assert_eq!(date(&hit), date(&renewed));
}

#[tokio::test(start_paused = true)]
async fn a_date_of_the_origins_own_is_left_alone() {
    let (cache, _, mut calls) = cache_with(by_origin);
    let own = [("date", EARLIER), ("cache-control", "max-age=999999999")];
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(200, &own, "stored"));
    assert_eq!(lines(&got(first).await.fields, "date"), [EARLIER]);
    settle().await;
    assert_eq!(lines(&fetch(&cache, "/cases/1").await.fields, "date"), [EARLIER]);
}
