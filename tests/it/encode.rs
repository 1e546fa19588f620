//! Coded forms of stored responses: made once, chosen by the request, and gone with what they were made of.

use std::{io::Read, sync::LazyLock, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use tokio::{task::spawn_blocking, time::timeout};
use tower_support_cache::{
    CacheRoute, Caller, ContentCoding, Credentials, MemoryStore, RequestDirectives,
    SupportCacheHandle,
};

use crate::support::{
    Cached, Calls, Got, cache_on, cache_with, get, got, hold_blocking_thread, request, response,
    send, with, with_one_blocking_thread,
};

const PATIENCE: Duration = Duration::from_secs(30);
const GZIP: (&str, &str) = ("accept-encoding", "gzip");
const JSON: (&str, &str) = ("content-type", "application/json");

static CASES: LazyLock<&'static str> = LazyLock::new(|| {
    let cases: Vec<_> =
        (0..100).map(|n| format!("{{\"case\":{n},\"subject\":\"printer {}\"}}", n * n)).collect();
    Box::leak(format!("[{}]", cases.join(",")).into_boxed_str())
});

type Fields<'a> = &'a [(&'a str, &'a str)];

fn encoding(change: impl FnOnce(CacheRoute) -> CacheRoute) -> (Cached, SupportCacheHandle, Calls) {
    cache_with(|route| {
        change(route.encode([ContentCoding::Zstd, ContentCoding::Brotli, ContentCoding::Gzip]))
    })
}

/// A cache whose origin answers with the cases and these fields.
fn cache(fields: &'static [(&str, &str)]) -> (Cached, SupportCacheHandle) {
    let (cache, handle, calls) = encoding(|route| route);
    calls.serve(move |_| response(200, fields, *CASES));
    (cache, handle)
}

async fn ask(cache: &Cached, fields: Fields<'_>) -> Got {
    ask_by(cache, Method::GET, fields).await
}

async fn ask_by(cache: &Cached, method: Method, fields: Fields<'_>) -> Got {
    let mut asked = request(method, "/cases/1");
    for (name, value) in fields {
        let name = http::HeaderName::try_from(*name).unwrap();
        asked.headers_mut().append(name, value.parse().unwrap());
    }
    got(send(cache, asked)).await
}

fn field<'g>(got: &'g Got, name: &str) -> Option<&'g str> {
    got.fields.get(name).map(|value| value.to_str().unwrap())
}

/// Asks until the answer is in a coding.
async fn coded(cache: &Cached, fields: Fields<'_>) -> Got {
    let asking = async {
        loop {
            let got = ask(cache, fields).await;
            if field(&got, "content-encoding").is_some() {
                return got;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it is encoded")
}

fn gunzip(got: &Got) -> String {
    let mut text = String::new();
    let body = got.body.as_ref().unwrap();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    text
}

/// Asserts that a response stays as it is, whoever asks and however often.
async fn stays_plain(cache: &Cached, handle: &SupportCacheHandle, asked: Fields<'_>, label: &str) {
    for _ in 0..5 {
        let got = ask(cache, asked).await;
        assert_eq!(field(&got, "vary"), Some("accept-encoding"), "{label}");
        // On the one thread for it, so after any encoding that had begun.
        tokio::task::yield_now().await;
        spawn_blocking(|| ()).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(handle.metrics().encoded, 0, "{label}");
}

#[tokio::test]
async fn a_hit_is_answered_in_the_coding_that_the_request_prefers() {
    let (cache, handle) = cache(&[JSON]);
    let first = ask(&cache, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!((first.text(), field(&first, "content-encoding")), (*CASES, None));
    for (accepted, coding) in [("gzip", "gzip"), ("gzip, br", "br"), ("*", "zstd")] {
        let got = coded(&cache, &[("accept-encoding", accepted)]).await;
        assert_eq!(field(&got, "content-encoding"), Some(coding));
        let length = got.body.as_ref().unwrap().len();
        assert_eq!(field(&got, "content-length"), Some(&*length.to_string()));
        assert!(length * 3 < CASES.len() && got.is_hit());
        assert_eq!(field(&got, "content-type"), Some("application/json"));
    }
    assert_eq!(gunzip(&coded(&cache, &[GZIP]).await), *CASES);
    for plain in [&[][..], &[("accept-encoding", "identity")], &[("accept-encoding", "deflate")]] {
        let got = ask(&cache, plain).await;
        assert_eq!((got.text(), field(&got, "content-encoding")), (*CASES, None), "{plain:?}");
        assert_eq!(field(&got, "vary"), Some("accept-encoding"));
    }
    assert_eq!(handle.metrics().encoded, 3);
}

#[tokio::test]
async fn five_hundred_requests_have_a_response_encoded_once() {
    let (cache, handle) = cache(&[JSON]);
    ask(&cache, &[]).await;
    let asked: Vec<_> =
        (0..500).map(|_| send(&cache, with(get("/cases/1"), GZIP.0, GZIP.1))).collect();
    for asked in asked {
        let got = got(asked).await;
        let is_plain = field(&got, "content-encoding").is_none();
        assert_eq!(if is_plain { got.text().to_owned() } else { gunzip(&got) }, *CASES);
    }
    coded(&cache, &[GZIP]).await;
    assert_eq!(handle.metrics().encoded, 1);
}

#[tokio::test]
async fn the_origin_is_asked_for_the_plain_form() {
    let (cache, _, mut calls) = encoding(|route| route);
    let asked = send(&cache, with(get("/cases/1"), "accept-encoding", "gzip, br"));
    let call = calls.next().await;
    assert_eq!(call.head.headers["accept-encoding"], "identity");
    call.ok(*CASES);
    got(asked).await;
    // So those who accept other codings share a response, also where the origin encodes.
    assert!(ask(&cache, &[]).await.is_hit());
}

#[test]
fn what_does_not_shrink_or_must_not_be_changed_stays_plain() {
    with_one_blocking_thread(async {
        let small: &str = &CASES[..859];
        for (label, fields, body) in [
            ("small", &[JSON][..], small),
            ("an image", &[("content-type", "image/png")], *CASES),
            ("of no type", &[], *CASES),
            ("no-transform", &[JSON, ("cache-control", "max-age=60, No-Transform")], *CASES),
            ("coded", &[JSON, ("content-encoding", "gzip")], *CASES),
        ] {
            let (cache, handle, calls) = encoding(|route| route);
            calls.serve(move |_| response(200, fields, body));
            stays_plain(&cache, &handle, &[GZIP], label).await;
        }
        let (cache, handle, calls) = encoding(|route| route.negative_ttl(PATIENCE));
        calls.serve(|_| response(404, &[JSON], *CASES));
        stays_plain(&cache, &handle, &[GZIP], "404").await;
    });
}

#[test]
fn a_request_that_wants_parts_or_no_change_gets_the_plain_form() {
    with_one_blocking_thread(async {
        let (cache, handle) = cache(&[JSON, ("etag", "\"1\"")]);
        stays_plain(&cache, &handle, &[GZIP, ("cache-control", "no-transform")], "no-transform")
            .await;
        stays_plain(&cache, &handle, &[GZIP, ("range", "bytes=0-9")], "range").await;
        let whole = coded(&cache, &[GZIP]).await;
        let tag = field(&whole, "etag").unwrap();
        let part = [GZIP, ("range", "bytes=0-9")];
        let got = ask(&cache, &part).await;
        assert_eq!((got.status, got.text()), (StatusCode::PARTIAL_CONTENT, &CASES[..10]));
        assert_eq!(field(&got, "etag"), Some("\"1\""));
        // The client has the beginning of the coded form: a part of the plain one would not fit.
        let got = ask(&cache, &[part[0], part[1], ("if-range", tag)]).await;
        assert_eq!((got.status, got.text()), (StatusCode::OK, *CASES));
        let got = ask(&cache, &[part[0], part[1], ("if-range", "\"1\"")]).await;
        assert_eq!(got.status, StatusCode::PARTIAL_CONTENT);
    });
}

#[tokio::test]
async fn a_coded_form_that_is_not_smaller_is_not_used_and_not_made_again() {
    let noise: Vec<u8> = (0..300_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .chain(blake(4096))
        .collect();
    let (cache, handle, calls) = encoding(|route| route);
    calls.serve(move |_| response(200, &[("content-type", "text/plain")], noise.clone()));
    ask(&cache, &[GZIP]).await;
    let made = async {
        while handle.metrics().encoded == 0 {
            ask(&cache, &[GZIP]).await;
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, made).await.unwrap();
    for _ in 0..100 {
        assert_eq!(field(&ask(&cache, &[GZIP]).await, "content-encoding"), None);
        tokio::task::yield_now().await;
    }
    assert_eq!(handle.metrics().encoded, 1);
}

/// Returns bytes in which nothing repeats.
fn blake(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

// ===== validators =====

#[tokio::test]
async fn a_coded_form_has_a_tag_of_its_own_and_no_digest_of_the_plain_one() {
    for (plain, expected) in [("\"1\"", "\"1;coded=gzip\""), ("W/\"1\"", "W/\"1;coded=gzip\"")] {
        let (cache, _, calls) = encoding(|route| route);
        let fields = [
            JSON,
            ("etag", plain),
            ("content-digest", "sha-256=:AAAA:"),
            ("repr-digest", "sha-256=:AAAA:"),
            ("content-md5", "AAAA"),
        ];
        calls.serve(move |_| response(200, &fields, *CASES));
        ask(&cache, &[]).await;
        let got = coded(&cache, &[GZIP]).await;
        assert_eq!(field(&got, "etag"), Some(expected));
        for digest in ["content-digest", "repr-digest", "content-md5"] {
            assert_eq!(field(&got, digest), None, "{digest}");
        }
        let got = ask(&cache, &[]).await;
        assert_eq!(field(&got, "etag"), Some(plain));
        assert!(field(&got, "content-digest").is_some());
    }
}

#[tokio::test]
async fn a_client_that_has_a_form_is_answered_with_a_304_of_that_form() {
    let (cache, _) = cache(&[JSON, ("etag", "\"1\"")]);
    let asked = [GZIP, ("if-none-match", "\"1;coded=gzip\"")];
    // Also while there is no coded form yet.
    for _ in 0..2 {
        for _ in 0..2 {
            let got = ask(&cache, &asked).await;
            assert_eq!((got.status, got.text()), (StatusCode::NOT_MODIFIED, ""));
            assert_eq!(field(&got, "etag"), Some("\"1;coded=gzip\""));
            assert_eq!(field(&got, "vary"), Some("accept-encoding"));
        }
        coded(&cache, &[GZIP]).await;
    }
    let got = ask(&cache, &[GZIP, ("if-none-match", "\"1\"")]).await;
    assert_eq!((got.status, field(&got, "etag")), (StatusCode::NOT_MODIFIED, Some("\"1\"")));
    // It cannot use the coded form that it has.
    let got = ask(&cache, &[("if-none-match", "\"1;coded=gzip\"")]).await;
    assert_eq!((got.status, got.text()), (StatusCode::OK, *CASES));
    let got = ask(&cache, &[GZIP, ("if-none-match", "\"2;coded=gzip\"")]).await;
    assert_eq!((got.status, gunzip(&got)), (StatusCode::OK, CASES.to_string()));
}

#[tokio::test]
async fn a_conditional_write_succeeds_exactly_when_it_would_without_the_cache() {
    let (cache, _, calls) = encoding(|route| route);
    let precondition = |head: &http::request::Parts| {
        let asked = head.headers.get("if-match").map(|tags| tags.to_str().unwrap().to_owned());
        asked.is_none_or(|tags| tags.split(", ").any(|tag| tag == "\"1\"" || tag == "*"))
    };
    calls.serve(move |head| match (&head.method, precondition(head)) {
        (&Method::GET, _) => response(200, &[JSON, ("etag", "\"1\"")], *CASES),
        (_, true) => response(204, &[], ""),
        (_, false) => response(412, &[], ""),
    });
    ask(&cache, &[]).await;
    let tag = field(&coded(&cache, &[GZIP]).await, "etag").unwrap().to_owned();
    let two = format!("\"0\", {tag}");
    for (tags, expected) in [
        (&*tag, 204),
        (&*two, 204),
        ("\"1\"", 204),
        ("*", 204),
        ("\"2;coded=gzip\"", 412),
        ("\"1;coded=deflate\"", 412),
    ] {
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let got = ask_by(&cache, method, &[("if-match", tags)]).await;
            assert_eq!(got.status, expected, "{tags}");
        }
    }
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let (cache, _) = cache(&[JSON, ("etag", "\"1\"")]);
    ask(&cache, &[]).await;
    let get = coded(&cache, &[GZIP]).await;
    let head = ask_by(&cache, Method::HEAD, &[GZIP]).await;
    assert_eq!(head.text(), "");
    let without = |fields: &HeaderMap| {
        let mut fields = fields.clone();
        fields.remove("cache-status");
        fields
    };
    assert_eq!(without(&head.fields), without(&get.fields));
}

// ===== what a form belongs to =====

#[test]
fn nothing_waits_for_an_encoding() {
    with_one_blocking_thread(async {
        let (cache, handle) = cache(&[JSON]);
        let busy = hold_blocking_thread();
        for _ in 0..10 {
            assert_eq!(ask(&cache, &[GZIP]).await.text(), *CASES);
        }
        assert_eq!(handle.metrics().encoded, 0);
        drop(busy);
        coded(&cache, &[GZIP]).await;
    });
}

#[test]
fn a_form_of_what_was_invalidated_or_replaced_meanwhile_is_not_kept() {
    with_one_blocking_thread(async {
        for label in ["invalidated", "tagged", "replaced"] {
            let (cache, handle, calls) =
                encoding(|route| route.tag("all").request_directives(RequestDirectives::Honour));
            calls.serve(|head| {
                let body = match head.headers.get("x-new") {
                    Some(_) => CASES.replace("printer", "copier"),
                    None => CASES.to_string(),
                };
                response(200, &[JSON], body)
            });
            ask(&cache, &[]).await;
            let busy = hold_blocking_thread();
            assert_eq!(ask(&cache, &[GZIP]).await.text(), *CASES);
            match label {
                "invalidated" => handle.invalidate("case:1").await.unwrap(),
                "tagged" => handle.invalidate_tag("all").await.unwrap(),
                _ => {}
            }
            // Filled anew while the other is encoded.
            let new = [("x-new", "1"), ("cache-control", "no-cache")];
            assert!(ask(&cache, &new).await.text().contains("copier"), "{label}");
            drop(busy);
            let is_made = async {
                while handle.metrics().encoded == 0 {
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE, is_made).await.unwrap();
            for _ in 0..50 {
                let got = ask(&cache, &[GZIP]).await;
                let is_plain = field(&got, "content-encoding").is_none();
                let text = if is_plain { got.text().to_owned() } else { gunzip(&got) };
                assert!(text.contains("copier"), "{label}");
                tokio::task::yield_now().await;
            }
        }
    });
}

#[tokio::test]
async fn a_form_leaves_with_its_response_and_is_charged_to_the_store() {
    let (cache, handle) = cache(&[JSON]);
    ask(&cache, &[]).await;
    let bytes = || handle.metrics().bucket("cases").unwrap().bytes;
    let before = bytes();
    let length = coded(&cache, &[GZIP]).await.body.unwrap().len() as u64;
    assert!((length..length + 100).contains(&(bytes() - before)), "{before}, then {}", bytes());
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(bytes(), 0);
    assert_eq!(field(&ask(&cache, &[GZIP]).await, "content-encoding"), None);
}

#[tokio::test]
async fn a_store_without_room_for_the_form_keeps_the_response() {
    let capacity = 64 * 1024;
    let store = MemoryStore::builder().capacity(capacity).build().unwrap();
    let (cache, handle, calls) =
        cache_on(store, |route| route.encode([ContentCoding::Gzip]).body_limit(capacity));
    // It shrinks by little, and nearly fills the store.
    let body = [blake(28 * 1024), vec![b'a'; 8 * 1024]].concat();
    let expected = body.clone();
    calls.serve(move |_| response(200, &[("content-type", "text/plain")], body.clone()));
    ask(&cache, &[GZIP]).await;
    let is_made = async {
        while handle.metrics().encoded == 0 {
            ask(&cache, &[GZIP]).await;
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, is_made).await.unwrap();
    for _ in 0..100 {
        let got = ask(&cache, &[GZIP]).await;
        assert!(got.is_hit() && got.body.unwrap() == expected);
        tokio::task::yield_now().await;
    }
    // An attempt that failed is not made again at once.
    assert_eq!(handle.metrics().encoded, 1);
}

// ===== callers =====

#[test]
fn what_is_for_a_caller_stays_plain_unless_that_is_asked_for() {
    with_one_blocking_thread(async {
        let secret = ("authorization", "Bearer 1");
        let credentials = || {
            [
                Credentials::PerCaller(Caller::authorization()),
                Credentials::PerCaller(Caller::with(|request| {
                    Some(request.headers().get("authorization")?.to_str().ok()?.to_owned())
                })),
                Credentials::CoveredByKey,
            ]
        };
        for credentials in credentials() {
            let (cache, handle, calls) = encoding(|route| route.credentials(credentials));
            calls.serve(|_| response(200, &[JSON], *CASES));
            stays_plain(&cache, &handle, &[secret, GZIP], "per caller").await;
        }
        for credentials in credentials() {
            let (cache, _, calls) =
                encoding(|route| route.credentials(credentials).encode_per_caller());
            calls.serve(|_| response(200, &[JSON], *CASES));
            coded(&cache, &[secret, GZIP]).await;
        }
        let same = Credentials::SameForEverybody;
        let (cache, _, calls) = encoding(|route| route.credentials(same));
        calls.serve(|_| response(200, &[JSON], *CASES));
        coded(&cache, &[secret, GZIP]).await;
    });
}

#[tokio::test]
async fn a_route_without_codings_changes_nothing() {
    let (cache, _, mut calls) = cache_with(|route| route);
    let asked = send(&cache, with(get("/cases/1"), GZIP.0, GZIP.1));
    let call = calls.next().await;
    assert_eq!(call.head.headers["accept-encoding"], "gzip");
    call.respond(response(200, &[JSON, ("etag", "\"1;coded=gzip\"")], *CASES));
    let got = got(asked).await;
    assert_eq!((field(&got, "vary"), field(&got, "etag")), (None, Some("\"1;coded=gzip\"")));
    let got = ask(&cache, &[("if-none-match", "\"1;coded=gzip\"")]).await;
    assert_eq!(got.status, StatusCode::NOT_MODIFIED);
}
