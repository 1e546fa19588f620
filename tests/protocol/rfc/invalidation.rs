//! What a write does to what is stored at its target (RFC 9111 §4.4).

use http::Method;

use super::support::{Cached, cache, fetch, get, got, request, response, send, with};

/// Stores a response, sends a write to `target` that ends with `status`, and asks again.
async fn check(method: Method, target: &str, status: u16, is_invalidated: bool) {
    let (cache, _, calls) = cache();
    let code = status;
    calls.serve(move |head| match head.method {
        Method::GET => response(200, &[("vary", "x")], "stored"),
        _ => response(code, &[("location", "/cases/1"), ("content-location", "/cases/1")], ""),
    });
    let variants = [get("/cases/1"), with(get("/cases/1"), "x", "1"), get("/cases/1?page=2")];
    for request in variants {
        got(send(&cache, request)).await;
    }
    got(send(&cache, request(method.clone(), target))).await;
    for (variant, is_hit) in is_hit(&cache).await {
        assert_eq!(is_hit, !is_invalidated, "{variant} after {method} {target} {status}");
    }
}

async fn is_hit(cache: &Cached) -> Vec<(&'static str, bool)> {
    vec![
        ("plain", fetch(cache, "/cases/1").await.is_hit()),
        ("x", got(send(cache, with(get("/cases/1"), "x", "1"))).await.is_hit()),
        ("query", fetch(cache, "/cases/1?page=2").await.is_hit()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_successful_write_invalidates_all_variants_of_its_target() {
    for status in [200, 201, 202, 204, 205, 206, 301, 302, 303, 304, 307, 308] {
        check(Method::POST, "/cases/1", status, true).await;
    }
    for method in [&b"PUT"[..], b"PATCH", b"DELETE", b"PURGE", b"FOO", b"get"] {
        check(Method::from_bytes(method).unwrap(), "/cases/1", 200, true).await;
    }
    check(Method::POST, "/cases/%31", 200, true).await;
    check(Method::POST, "/cases/1?other=query", 200, true).await;
    check(Method::POST, "/cases/1/comments", 200, true).await;
}

#[tokio::test(start_paused = true)]
async fn what_changed_nothing_invalidates_nothing() {
    for status in [400, 401, 403, 404, 405, 409, 412, 413, 422, 429, 431] {
        check(Method::POST, "/cases/1", status, false).await;
    }
    for method in [Method::OPTIONS, Method::TRACE, Method::HEAD] {
        check(method, "/cases/1", 200, false).await;
    }
}

/// RFC 9110 §9.2.1 and the registry of methods at IANA.
#[tokio::test(start_paused = true)]
async fn a_safe_method_changes_nothing_and_is_not_answered_from_what_get_stored() {
    for method in ["OPTIONS", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH", "TRACE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for target in ["/cases/1", "/cases/1?other=query", "/cases/1/comments"] {
            for status in [200, 207, 303, 500] {
                check(method.clone(), target, status, false).await;
            }
        }
        let (cache, handle, calls) = cache();
        let calls = calls.serve(|head| match head.method {
            Method::GET => response(200, &[], "of GET"),
            _ => response(503, &[], "of another"),
        });
        got(send(&cache, request(method.clone(), "/cases/1"))).await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "of GET");
        let again = got(send(&cache, request(method.clone(), "/cases/1"))).await;
        assert_eq!(again.text(), "of another", "{method}");
        assert!(fetch(&cache, "/cases/1").await.is_hit(), "{method} after an unknown outcome");
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 3, "{method}");
        assert_eq!(handle.metrics().invalidations, 0, "{method}");
    }
    // Methods have case, and what is not registered may change anything.
    for method in ["query", "PROPPATCH", "PROPFINDS", "MKCOL", "M-SEARCH"] {
        check(Method::from_bytes(method.as_bytes()).unwrap(), "/cases/1", 200, true).await;
    }
}

/// Stores `/cases/1`, writes elsewhere with a response that names it, and asks again.
async fn check_named(status: u16, fields: &'static [(&str, &str)], is_invalidated: bool) {
    let (cache, _, calls) = cache();
    calls.serve(move |head| match head.method {
        Method::GET => response(200, &[], "stored"),
        _ => response(status, fields, ""),
    });
    let ask = || send(&cache, with(get("/cases/1"), "host", "example.com"));
    got(ask()).await;
    let write = with(request(Method::POST, "/cases/2/comments"), "host", "example.com");
    got(send(&cache, write)).await;
    assert_eq!(got(ask()).await.is_hit(), !is_invalidated, "{status} {fields:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_what_its_response_names_at_the_same_origin() {
    check_named(201, &[("location", "/cases/1")], true).await;
    check_named(200, &[("content-location", "/cases/1")], true).await;
    check_named(303, &[("location", "../1?new#top")], true).await;
    check_named(201, &[("location", "https://example.com/cases/1")], true).await;
    check_named(201, &[("location", "/cases/3"), ("content-location", "/cases/1")], true).await;
    check_named(201, &[("location", "/elsewhere"), ("location", "/cases/1")], true).await;
    check_named(201, &[("location", "https://other.example/cases/1")], false).await;
    check_named(201, &[("location", "//other.example/cases/1")], false).await;
    check_named(201, &[("location", "/cases/3")], false).await;
    check_named(400, &[("location", "/cases/1")], false).await;
    check_named(503, &[("location", "/cases/1")], false).await;
}

/// What a read's response names is not invalidated: only a write has changed something.
#[tokio::test(start_paused = true)]
async fn a_read_invalidates_nothing_that_its_response_names() {
    let (cache, _, calls) = cache();
    calls.serve(|_| response(200, &[("content-location", "/cases/1")], "x"));
    fetch(&cache, "/cases/1").await;
    fetch(&cache, "/cases/2").await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}
