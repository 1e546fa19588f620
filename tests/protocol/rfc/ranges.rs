//! Parts of what is stored (RFC 9110 §14, §13.1.5).

use std::time::Duration;

use http::Method;
use tower_support_cache::RequestDirectives;

use super::{
    freshness::by_origin,
    row::lines,
    support::{Got, cache, cache_with, get, got, request, response, send, settle, with},
};

const EARLIER: &str = "Sun, 22 Nov 2026 08:00:00 GMT";
const LATER: &str = "Sun, 22 Nov 2026 09:00:00 GMT";

const BODY: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

const PAGE: &[(&str, &str)] = &[
    ("etag", "\"a\""),
    ("last-modified", EARLIER),
    ("date", LATER),
    ("content-type", "text/plain"),
    ("content-length", "36"),
    ("cache-control", "max-age=60"),
    ("vary", "accept"),
];

/// Stores a page, and returns what answers a request with these fields.
async fn ask(method: Method, fields: &[(&'static str, &str)]) -> Got {
    let (cache, _, calls) = cache();
    let count = calls.serve(|_| response(200, PAGE, BODY));
    got(send(&cache, get("/cases/1"))).await;
    let asked = fields
        .iter()
        .fold(request(method, "/cases/1"), |asked, (name, value)| with(asked, name, value));
    let got = got(send(&cache, asked)).await;
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1, "{fields:?} is forwarded");
    assert!(got.is_hit());
    got
}

#[tokio::test(start_paused = true)]
async fn a_part_of_what_is_stored_is_a_206() {
    for (range, part, body) in [
        ("bytes=0-3", "bytes 0-3/36", "0123"),
        ("bytes=34-", "bytes 34-35/36", "yz"),
        ("bytes=-3", "bytes 33-35/36", "xyz"),
        ("bytes=35-100", "bytes 35-35/36", "z"),
        ("bytes=0-0, 36-", "bytes 0-0/36", "0"),
    ] {
        let got = ask(Method::GET, &[("range", range)]).await;
        assert_eq!((got.status.as_u16(), got.text()), (206, body), "{range}");
        for (name, expected) in [
            ("content-range", part),
            ("content-length", &*body.len().to_string()),
            ("content-type", "text/plain"),
            ("etag", "\"a\""),
            ("cache-control", "max-age=60"),
            ("vary", "accept"),
            ("date", LATER),
            ("age", "0"),
        ] {
            assert_eq!(lines(&got.fields, name), [expected], "{range} {name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_parts_are_a_multipart_body() {
    let long: &'static str = BODY.repeat(100).leak();
    let (cache, _, calls) = cache();
    calls.serve(move |_| response(200, &[("content-type", "text/plain")], long));
    got(send(&cache, get("/cases/1"))).await;
    let got = got(send(&cache, with(get("/cases/1"), "range", "bytes=3598-,0-2"))).await;
    assert_eq!(got.status, 206);
    let media_type = lines(&got.fields, "content-type")[0];
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert_eq!(
        got.text(),
        format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 3598-3599/3600\r\n\r\n\
             yz\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-2/3600\r\n\r\n\
             012\r\n--{boundary}--\r\n"
        )
    );
    assert_eq!(lines(&got.fields, "content-length"), [got.text().len().to_string()]);
    assert!(!got.fields.contains_key("content-range") && !long.contains(boundary));
}

/// RFC 9530 §2 and §3: a digest of the content is of the bytes sent, one of the representation is of
/// the whole. RFC 1864 and 3230 have been replaced by these.
#[tokio::test(start_paused = true)]
async fn only_a_digest_of_the_representation_is_that_of_each_answer() {
    const DIGESTS: &[(&str, &str)] = &[
        ("etag", "\"a\""),
        ("content-digest", "sha-256=:AA==:"),
        ("content-md5", "AA=="),
        ("digest", "sha-256=AA=="),
        ("repr-digest", "sha-256=:AA==:"),
    ];
    let long: &'static str = BODY.repeat(100).leak();
    let ask = async |method, name, value| {
        let (cache, _, calls) = cache();
        calls.serve(move |_| response(200, DIGESTS, long));
        got(send(&cache, get("/cases/1"))).await;
        got(send(&cache, with(request(method, "/cases/1"), name, value))).await
    };
    let gone = |names: &'static [&'static str]| names;
    for (method, name, value, status, gone) in [
        (
            Method::GET,
            "range",
            "bytes=2-4",
            206,
            gone(&["content-digest", "content-md5", "digest"]),
        ),
        (Method::GET, "range", "bytes=9-9,0-2", 206, &["content-digest", "content-md5", "digest"]),
        (Method::GET, "range", "bytes=0-", 206, &["content-digest", "content-md5", "digest"]),
        (Method::GET, "range", "lines=0-1", 200, &[]),
        (Method::GET, "if-none-match", "\"a\"", 304, &["content-digest", "content-md5"]),
        (Method::HEAD, "if-none-match", "\"a\"", 304, &["content-digest", "content-md5"]),
        // RFC 9530 appendix B.2: the content of an answer to HEAD is empty.
        (Method::HEAD, "accept", "*/*", 200, &["content-digest"]),
        (Method::GET, "accept", "*/*", 200, &[]),
    ] {
        let got = ask(method.clone(), name, value).await;
        assert_eq!((got.status.as_u16(), got.is_hit()), (status, true), "{method} {name}");
        for (field, _) in DIGESTS {
            let is_there = got.fields.contains_key(*field);
            assert_eq!(is_there, !gone.contains(field), "{method} {name}: {value} {field}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_end_is_a_416_that_no_cache_keeps() {
    let got = ask(Method::GET, &[("range", "bytes=36-")]).await;
    assert_eq!((got.status.as_u16(), got.text()), (416, ""));
    assert_eq!(lines(&got.fields, "content-range"), ["bytes */36"]);
    for name in ["cache-control", "etag", "last-modified", "content-type", "content-length"] {
        assert!(!got.fields.contains_key(name), "{name}");
    }
    assert_eq!(lines(&got.fields, "vary"), ["accept"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_range_or_costs_too_much_brings_the_whole() {
    let many = "0-0,".repeat(17);
    for range in ["bytes=3-2", "lines=0-1", "bytes=x", "bytes=0-9,5-15", "bytes=0-1,3-4", &many] {
        let got = ask(Method::GET, &[("range", range)]).await;
        assert_eq!((got.status.as_u16(), got.text()), (200, BODY), "{range}");
    }
    // RFC 9110 §14.2: for GET alone.
    let head = ask(Method::HEAD, &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status.as_u16(), lines(&head.fields, "content-length")), (200, vec!["36"]));
}

#[tokio::test(start_paused = true)]
async fn a_part_is_sent_only_of_what_if_range_names() {
    for (name, is_part) in [
        ("\"a\"", true),
        ("\"b\"", false),
        ("W/\"a\"", false),
        (EARLIER, true),
        (LATER, false),
        ("x", false),
    ] {
        let got = ask(Method::GET, &[("range", "bytes=0-3"), ("if-range", name)]).await;
        assert_eq!(got.status, if is_part { 206 } else { 200 }, "{name}");
    }
    let alone = ask(Method::GET, &[("if-range", "\"b\"")]).await;
    assert_eq!(alone.status, 200);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_has_comes_before_which_part_it_wants() {
    let had = ask(Method::GET, &[("range", "bytes=0-3"), ("if-none-match", "\"a\"")]).await;
    assert_eq!((had.status.as_u16(), had.text()), (304, ""));
    let new = ask(Method::GET, &[("range", "bytes=0-3"), ("if-none-match", "\"b\"")]).await;
    assert_eq!((new.status.as_u16(), new.text()), (206, "0123"));
}

/// SEC-COAL-4: a part never becomes the whole.
#[tokio::test(start_paused = true)]
async fn a_range_that_nothing_stored_answers_is_forwarded_as_it_is_and_stored_nowhere() {
    let (cache, _, mut calls) = cache();
    let part = with(get("/cases/1"), "range", "bytes=0-3");
    let (part, whole) =
        (send(&cache, with(part, "if-range", "\"a\"")), send(&cache, get("/cases/1")));
    let call = calls.next().await;
    assert_eq!(lines(&call.head.headers, "range"), ["bytes=0-3"]);
    assert_eq!(lines(&call.head.headers, "if-range"), ["\"a\""]);
    call.with(206, ("content-range", "bytes 0-3/36"), "0123");
    let part = got(part).await;
    assert_eq!(part.cache_status(), "support-cache;fwd=uri-miss;fwd-status=206;detail=range");
    calls.next().await.respond(response(200, PAGE, BODY));
    assert_eq!(got(whole).await.text(), BODY);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_what_is_stale_is_asked_of_the_origin() {
    let (cache, _, mut calls) = cache_with(by_origin);
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(response(200, PAGE, BODY));
    got(first).await;
    settle().await;
    tokio::time::advance(Duration::from_secs(4000)).await;
    let part = send(&cache, with(get("/cases/1"), "range", "bytes=0-3"));
    let call = calls.next().await;
    assert!(!call.head.headers.contains_key("if-none-match"));
    call.with(206, ("content-range", "bytes 0-3/36"), "0123");
    assert_eq!(got(part).await.status, 206);
}

#[tokio::test(start_paused = true)]
async fn other_statuses_have_no_parts() {
    let (cache, _, calls) = cache_with(|route| route.negative_ttl(Duration::from_secs(60)));
    calls.serve(|_| response(404, &[], BODY));
    got(send(&cache, get("/cases/1"))).await;
    let got = got(send(&cache, with(get("/cases/1"), "range", "bytes=0-3"))).await;
    assert_eq!((got.status.as_u16(), got.text(), got.is_hit()), (404, BODY, true));
}

#[tokio::test(start_paused = true)]
async fn a_range_that_must_be_cached_and_is_not_is_a_504() {
    let (cache, _, _calls) =
        cache_with(|route| route.request_directives(RequestDirectives::Honour));
    let asked = with(get("/cases/1"), "range", "bytes=0-3");
    assert_eq!(got(send(&cache, with(asked, "cache-control", "only-if-cached"))).await.status, 504);
}

/// Every line of a field that a 416 keeps: each names fields by which responses differ.
#[tokio::test(start_paused = true)]
async fn a_416_keeps_every_line_of_vary() {
    let (cache, _, calls) = cache_with(|route| route);
    calls.serve(|_| {
        let fields = [("vary", "x-a"), ("vary", "x-b")];
        response(200, &fields, "0123456789")
    });
    got(send(&cache, get("/cases/1"))).await;
    let refused = got(send(&cache, with(get("/cases/1"), "range", "bytes=20-"))).await;
    assert_eq!(refused.status, 416);
    let lines: Vec<_> = refused.fields.get_all("vary").iter().collect();
    assert_eq!(lines, ["x-a", "x-b"]);
}
