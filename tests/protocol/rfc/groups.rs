//! Groups of responses (RFC 9875).

use http::Method;

use super::support::{Cached, cache_with, get, got, request, response, send, with};
use tower_support_cache::{CacheRoute, Freshness, HostPolicy};

const HOST: &str = "example.com";

async fn ask(cache: &Cached, target: &str, host: &str) -> bool {
    got(send(cache, with(get(target), "host", host))).await.is_hit()
}

/// Stores a response with `groups`, writes elsewhere at `host` with a response that invalidates
/// `invalidated`, and asks again.
async fn check(groups: &[&str], invalidated: &[&str], host: &str, is_invalidated: bool) {
    let (cache, _, calls) = cache_with(|route| route);
    let lines = |name: &'static str, lines: &[&str]| -> Vec<(&'static str, String)> {
        lines.iter().map(|line| (name, (*line).to_owned())).collect()
    };
    let of_reads = lines("cache-groups", groups);
    let of_writes = lines("cache-group-invalidation", invalidated);
    calls.serve(move |head| {
        let fields = if head.method == Method::GET { &of_reads } else { &of_writes };
        let fields: Vec<_> = fields.iter().map(|(name, line)| (*name, line.as_str())).collect();
        response(200, &fields, "x")
    });
    ask(&cache, "/cases/1", HOST).await;
    let write = with(request(Method::POST, "/cases/2/comments"), "host", host);
    got(send(&cache, write)).await;
    let told = format!("{groups:?} after {invalidated:?} at {host}");
    assert_eq!(ask(&cache, "/cases/1", HOST).await, !is_invalidated, "{told}");
}

/// RFC 9875 §2.1, §3: the same string, character by character, in any place, at the same origin.
#[tokio::test(start_paused = true)]
async fn a_group_is_invalidated_by_its_string_at_its_origin() {
    check(&[r#""a""#], &[r#""a""#], HOST, true).await;
    check(&[r#""b", "a""#], &[r#""c";x=1, "a""#], HOST, true).await;
    check(&[r#""b""#, r#""a";y"#], &[r#""c""#, r#""a""#], HOST, true).await;
    check(&[r#""a""#], &[r#""A""#], HOST, false).await;
    check(&[r#""a""#], &[r#""a ""#], HOST, false).await;
    check(&[r#""a""#], &[r#""b""#], HOST, false).await;
    check(&[], &[r#""a""#], HOST, false).await;
    check(&[r#""""#], &[r#""""#], HOST, true).await;
    for other in ["other.example", "example.com:8080", "example.com.evil", "sub.example.com"] {
        check(&[r#""a""#], &[r#""a""#], other, false).await;
    }
    // Of one origin, however it is written: hosts have no case, and a scheme implies a port.
    for same in ["EXAMPLE.com", "example.com:80", "example.com:443"] {
        check(&[r#""a""#], &[r#""a""#], same, true).await;
    }
}

/// RFC 9875 §2, RFC 9651 §4.2.
#[tokio::test(start_paused = true)]
async fn a_malformed_list_of_groups_is_as_good_as_none() {
    for malformed in ["a", r#""a", b"#, r#""a", 1"#, r#"("a")"#, r#""a","#, r#""a"#, "?1"] {
        check(&[malformed], &[r#""a""#], HOST, false).await;
        check(&[r#""a""#], &[malformed], HOST, false).await;
    }
}

/// RFC 9875 §2: at least 32 groups of 32 characters.
#[tokio::test(start_paused = true)]
async fn as_many_groups_as_must_be_are_kept() {
    let group = |number: usize| format!("\"{number:032}\"");
    let all: Vec<_> = (0..100).map(group).collect();
    let all = all.join(", ");
    check(&[&all], &[&group(99)], HOST, true).await;
    check(&[&group(99)], &[&all], HOST, true).await;
    check(&[&all], &[&group(100)], HOST, false).await;
}

/// RFC 9875 §2.2: what is invalidated by its group invalidates nothing further.
#[tokio::test(start_paused = true)]
async fn groups_do_not_cascade() {
    let (cache, _, calls) = cache_with(|route| route);
    calls.serve(|head| match (&head.method, head.uri.path()) {
        (&Method::GET, "/cases/1") => response(200, &[("cache-groups", r#""a", "b""#)], "x"),
        (&Method::GET, _) => response(200, &[("cache-groups", r#""b""#)], "x"),
        _ => response(200, &[("cache-group-invalidation", r#""a""#)], ""),
    });
    ask(&cache, "/cases/1", HOST).await;
    ask(&cache, "/cases/2", HOST).await;
    got(send(&cache, with(request(Method::POST, "/cases/3"), "host", HOST))).await;
    assert!(!ask(&cache, "/cases/1", HOST).await && ask(&cache, "/cases/2", HOST).await);
}

/// RFC 9875 §3: ignored where the method is safe; and what was refused has changed nothing.
#[tokio::test(start_paused = true)]
async fn only_a_write_that_succeeds_invalidates_a_group() {
    let reads = ["GET", "HEAD", "OPTIONS", "TRACE"].map(|method| (method, 200, false));
    let writes = ["POST", "PUT", "PATCH", "DELETE", "PURGE"].map(|method| (method, 200, true));
    let statuses =
        [(201, true), (204, true), (303, true), (400, false), (401, false), (409, false)];
    let statuses = statuses.map(|(status, is_invalidated)| ("POST", status, is_invalidated));
    for (method, status, is_invalidated) in reads.into_iter().chain(writes).chain(statuses) {
        let (cache, _, calls) = cache_with(|route| route);
        calls.serve(move |head| match head.uri.path() {
            "/cases/1" => response(200, &[("cache-groups", r#""a""#)], "x"),
            _ => response(status, &[("cache-group-invalidation", r#""a""#)], ""),
        });
        ask(&cache, "/cases/1", HOST).await;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        got(send(&cache, with(request(method.clone(), "/cases/2"), "host", HOST))).await;
        assert_eq!(ask(&cache, "/cases/1", HOST).await, !is_invalidated, "{method} {status}");
    }
}

/// A 304 that names no groups changes none, whether the field is stored or not; one that does
/// replaces them (RFC 9111 §3.2).
#[tokio::test(start_paused = true)]
async fn a_304_changes_the_groups_it_names() {
    let origin = |route: CacheRoute| route.freshness(Freshness::Origin);
    let stripped = |route: CacheRoute| {
        let name = http::HeaderName::from_static("cache-groups");
        route.freshness(Freshness::Origin).strip([name])
    };
    let routes: [fn(CacheRoute) -> CacheRoute; 2] = [origin, stripped];
    for route in routes {
        for (named, invalidated, is_invalidated) in [
            (None, r#""a""#, true),
            (Some(r#""b""#), r#""b""#, true),
            (Some(r#""b""#), r#""a""#, false),
        ] {
            let (cache, _, calls) = cache_with(route);
            calls.serve(move |head| {
                if head.method != Method::GET {
                    return response(200, &[("cache-group-invalidation", invalidated)], "");
                }
                let age = ("cache-control", "max-age=60");
                if !head.headers.contains_key("if-none-match") {
                    return response(200, &[("etag", "\"1\""), ("cache-groups", r#""a""#)], "x");
                }
                match named {
                    Some(named) => {
                        response(304, &[("etag", "\"1\""), ("cache-groups", named), age], "")
                    }
                    None => response(304, &[("etag", "\"1\""), age], ""),
                }
            });
            ask(&cache, "/cases/1", HOST).await;
            tokio::time::advance(std::time::Duration::from_secs(61)).await;
            ask(&cache, "/cases/1", HOST).await;
            assert!(ask(&cache, "/cases/1", HOST).await, "freshened");
            got(send(&cache, with(request(Method::POST, "/cases/2"), "host", HOST))).await;
            let is_hit = ask(&cache, "/cases/1", HOST).await;
            assert_eq!(is_hit, !is_invalidated, "{named:?} {invalidated}");
        }
    }
}

/// Either field may be as long as a server lets it be.
#[tokio::test(start_paused = true)]
async fn a_list_of_any_length_has_bounded_consequences() {
    let (cache, handle, calls) = cache_with(|route| route);
    let all: Vec<_> = (0..40_000).map(|number| format!("\"{number}\"")).collect();
    let all = all.join(", ");
    calls.serve(move |head| match head.method {
        Method::GET => response(200, &[("cache-groups", &all)], "x"),
        _ => response(200, &[("cache-group-invalidation", &all)], ""),
    });
    assert!(!ask(&cache, "/cases/1", HOST).await && !ask(&cache, "/cases/1", HOST).await);
    got(send(&cache, with(request(Method::POST, "/cases/2"), "host", HOST))).await;
    let metrics = handle.metrics();
    assert!((1..=129).contains(&metrics.tag_invalidations), "{}", metrics.tag_invalidations);
    assert_eq!(metrics.invalidation_failures, 1, "the rest is reported");
}

/// A response has one `Location`, and one `Content-Location`.
#[tokio::test(start_paused = true)]
async fn a_response_of_many_locations_has_bounded_consequences() {
    let (cache, handle, calls) = cache_with(|route| route);
    let all: Vec<_> = (0..10_000).map(|number| format!("/cases/{number}")).collect();
    calls.serve(move |_| {
        let fields: Vec<_> = all.iter().map(|line| ("location", line.as_str())).collect();
        response(201, &fields, "")
    });
    got(send(&cache, with(request(Method::POST, "/cases/x/comments"), "host", HOST))).await;
    assert!((1..=17).contains(&handle.metrics().invalidations), "{:?}", handle.metrics());
}

/// A response that answers for every host is reached by a write to any.
#[tokio::test(start_paused = true)]
async fn a_group_of_a_response_for_all_hosts_is_invalidated_at_each() {
    let (cache, _, calls) = cache_with(|route| route.host(HostPolicy::Ignore));
    calls.serve(|head| match head.method {
        Method::POST => response(200, &[("cache-group-invalidation", "\"a\"")], ""),
        _ => response(200, &[("cache-groups", "\"a\"")], "case"),
    });
    for host in ["example.com", "example.org"] {
        ask(&cache, "/cases/1", "example.com").await;
        assert!(ask(&cache, "/cases/1", "example.net").await);
        got(send(&cache, with(request(Method::POST, "/cases/2"), "host", host))).await;
        assert!(!ask(&cache, "/cases/1", "example.com").await, "{host}");
    }
}
