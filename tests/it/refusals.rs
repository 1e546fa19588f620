//! Refusals that are remembered: one client can provoke a response that may not be stored.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use http::Response;
use tokio::time::advance;
use tower_support_cache::{Alone, CacheRoute, Coalescing, RequestDirectives};

use crate::support::{GatedBody, cache, cache_with, fetch, get, got, response, send, settle, with};

const SECOND: Duration = Duration::from_secs(1);

/// A request whose client lies about the scheme, and is sent to another one.
fn lying() -> http::Request<http_body_util::Empty<Bytes>> {
    with(get("/cases/1"), "x-forwarded-proto", "http")
}

/// Redirects who lies, with these fields, and answers all others.
fn redirecting(
    fields: &'static [(&str, &str)],
) -> impl Fn(&http::request::Parts) -> Response<GatedBody> {
    move |head| match head.headers.contains_key("x-forwarded-proto") {
        true => response(301, fields, ""),
        false => response(200, &[("etag", "\"a\"")], "page"),
    }
}

/// One client's refusal takes nothing from the others: neither a fresh response, nor one that may be used
/// stale.
#[tokio::test(start_paused = true)]
async fn a_refusal_replaces_nothing_that_may_still_answer() {
    for fields in [&[][..], &[("vary", "x-forwarded-proto")], &[("cache-control", "no-store")]] {
        for seconds in [1, 61, 100] {
            let (cache, handle, calls) = cache_with(|route| {
                let route = route.request_directives(RequestDirectives::Honour);
                route.stale_while_revalidate(60 * SECOND).stale_if_error(60 * SECOND)
            });
            let count = calls.serve(redirecting(fields));
            fetch(&cache, "/cases/1").await;
            advance(seconds * SECOND).await;
            // Once in the background, and once past everything that is stored.
            got(send(&cache, lying())).await;
            settle().await;
            let refused = got(send(&cache, with(lying(), "cache-control", "no-cache"))).await;
            assert_eq!(refused.status, 301, "{fields:?}");
            let before = count.load(SeqCst);
            for _ in 0..3 {
                let page = fetch(&cache, "/cases/1").await;
                assert!(page.is_hit(), "{fields:?} after {seconds} s: {}", page.cache_status());
                settle().await;
            }
            assert_eq!(count.load(SeqCst) - before, usize::from(seconds > 60), "one refresh");
            assert!(!handle.metrics().bucket("cases").unwrap().alone.contains_key(&Alone::Pass));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_replaces_what_was_invalidated_or_cannot_answer_any_more() {
    for is_invalidated in [true, false] {
        let (cache, handle, mut calls) = cache_with(|route| route.tag("all"));
        let first = send(&cache, get("/cases/1"));
        calls.next().await.ok("page");
        got(first).await;
        match is_invalidated {
            true => handle.invalidate_tag("all").await.unwrap(),
            false => advance(60 * SECOND).await,
        }
        let refused = send(&cache, get("/cases/1"));
        calls.next().await.with(200, ("cache-control", "no-store"), "a");
        got(refused).await;
        let all: Vec<_> = (0..2).map(|_| send(&cache, get("/cases/1"))).collect();
        let both = calls.all().await;
        assert_eq!(both.len(), 2, "nobody waits while the refusal is remembered");
        both.into_iter().for_each(|call| call.ok("b"));
        for one in all {
            got(one).await;
        }
    }
}

/// While a refusal is remembered one request at a time finds out whether it is still true.
#[tokio::test(start_paused = true)]
async fn a_refusal_ends_with_the_first_response_that_is_stored() {
    for is_coalescing in [Coalescing::On, Coalescing::Off] {
        let (cache, handle, mut calls) = cache_with(|route| route.coalescing(is_coalescing));
        let refused = send(&cache, lying());
        calls.next().await.with(301, ("location", "/"), "");
        got(refused).await;
        let mut sent: Vec<_> = (0..5).map(|_| send(&cache, get("/cases/1"))).collect();
        let mut asked = calls.all().await;
        assert_eq!(asked.len(), 5, "nobody waits");
        // Those that do not lead change nothing.
        for _ in 0..4 {
            asked.pop().unwrap().ok("page");
            assert!(got(sent.pop().unwrap()).await.cache_status().ends_with("detail=pass"));
        }
        let others = send(&cache, get("/cases/1"));
        calls.next().await.ok("page");
        assert!(got(others).await.cache_status().ends_with("detail=pass"), "one leads already");
        asked.pop().unwrap().ok("page");
        assert!(got(sent.pop().unwrap()).await.cache_status().ends_with(";stored"));
        assert!(fetch(&cache, "/cases/1").await.is_hit());
        assert_eq!(handle.metrics().bucket("cases").unwrap().alone[&Alone::Pass], 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_makes_room_for_the_next_however_it_ends() {
    let (cache, _, mut calls) = cache();
    let refused = send(&cache, lying());
    calls.next().await.with(301, ("location", "/"), "");
    got(refused).await;
    for end in 0..4 {
        let leads = send(&cache, get("/cases/1"));
        let call = calls.next().await;
        if end == 0 {
            call.fail();
            assert!(leads.await.unwrap().is_err());
            continue;
        }
        if end == 1 {
            call.panic();
            assert!(leads.await.is_err());
            continue;
        }
        let gate = call.stream(None);
        settle().await;
        let alone = send(&cache, get("/cases/1"));
        calls.next().await.ok("page");
        assert!(got(alone).await.cache_status().ends_with("detail=pass"));
        gate.send("page");
        match end {
            2 => gate.fail(),
            _ => gate.end(),
        }
        let _ = leads.await;
    }
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

// ===== stale responses that stand in for errors only =====

fn if_error(route: CacheRoute) -> CacheRoute {
    route.stale_if_error(1000 * SECOND)
}

/// The stale response keeps its place in the store, so the refusal is remembered beside it.
#[tokio::test(start_paused = true)]
async fn nobody_waits_while_a_refusal_is_remembered_beside_a_stale_response() {
    let (cache, handle, mut calls) = cache_with(if_error);
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(first).await;
    advance(61 * SECOND).await;
    for _ in 0..2 {
        let refused = send(&cache, lying());
        calls.next().await.with(301, ("location", "/"), "");
        got(refused).await;
        let mut sent: Vec<_> = (0..5).map(|_| send(&cache, get("/cases/1"))).collect();
        let mut asked = calls.all().await;
        assert_eq!(asked.len(), 5, "each is forwarded at once");
        // The origin fails for one that does not lead, and the stale response stands in.
        asked.pop().unwrap().with(503, ("x", "y"), "down");
        assert_eq!(got(sent.pop().unwrap()).await.text(), "old");
        for call in asked.drain(1..) {
            call.ok("page");
        }
        for alone in sent.drain(1..) {
            assert!(got(alone).await.cache_status().ends_with("detail=pass"));
        }
        asked.remove(0).with(301, ("location", "/"), "");
        got(sent.remove(0)).await;
    }
    // After a while requests wait for each other again.
    advance(10 * SECOND).await;
    let sent: Vec<_> = (0..5).map(|_| send(&cache, get("/cases/1"))).collect();
    calls.next().await.ok("page");
    for request in sent {
        assert_eq!(got(request).await.text(), "page");
    }
    assert!(calls.now().await.is_none());
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    assert_eq!(handle.metrics().bucket("cases").unwrap().alone[&Alone::Pass], 6);
}

/// The one that leads ends what is remembered with the first response that is stored.
#[tokio::test(start_paused = true)]
async fn a_refusal_beside_a_stale_response_ends_with_the_first_that_is_stored() {
    let (cache, _, mut calls) = cache_with(if_error);
    for body in ["old", "new"] {
        let filled = send(&cache, get("/cases/1"));
        calls.next().await.ok(body);
        got(filled).await;
        advance(61 * SECOND).await;
        if body == "old" {
            let refused = send(&cache, lying());
            calls.next().await.with(301, ("location", "/"), "");
            got(refused).await;
        }
    }
    let both = [send(&cache, get("/cases/1")), send(&cache, get("/cases/1"))];
    calls.next().await.ok("newest");
    for request in both {
        assert_eq!(got(request).await.text(), "newest");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_stands_in_for_requests_that_are_forwarded_alone() {
    for (name, request) in [
        ("head", http::Request::head("/cases/1").body(http_body_util::Empty::new()).unwrap()),
        ("range", with(get("/cases/1"), "range", "bytes=0-0")),
    ] {
        let (cache, handle, mut calls) = cache_with(if_error);
        let first = send(&cache, get("/cases/1"));
        calls.next().await.ok("old");
        got(first).await;
        advance(61 * SECOND).await;
        for fails in [true, false] {
            let alone = send(&cache, request.clone());
            let call = calls.next().await;
            match fails {
                true => call.fail(),
                false => call.with(503, ("x", "y"), "down"),
            }
            let rescued = got(alone).await;
            assert!(rescued.status.is_success(), "{name}");
            assert!(rescued.cache_status().ends_with("detail=stale-if-error"), "{rescued:?}");
        }
        handle.invalidate("case:1").await.unwrap();
        let alone = send(&cache, request);
        calls.next().await.with(503, ("x", "y"), "down");
        assert_eq!(got(alone).await.status, 503, "{name}");
    }
}
