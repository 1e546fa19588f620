//! Writes that the origin may commit after its response: unknown outcomes, 202, bodies on their way, and
//! rules that invalidate softly.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use http_body_util::Empty;
use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheRoute, ConfigErrorKind, InvalidateRoute, MemoryStore, Refusal, Store, SupportCacheHandle,
    SupportCacheLayer, WriteEffect,
    testing::{Chaos, Fault, StoreCall},
};

use crate::support::{
    Cached, Calls, GatedBody, TTL, fetch, get, got, origin, request, response, send, settle,
};

const SECOND: Duration = Duration::from_secs(1);
const UNSETTLED: &str = "detail=unsettled";

fn comment() -> InvalidateRoute {
    InvalidateRoute::post("/cases/{case}/comments")
}

fn write() -> Request<Empty<Bytes>> {
    request(Method::POST, "/cases/1/comments")
}

fn cases() -> CacheRoute {
    let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}");
    route.tag("all").ttl(TTL).jitter(0)
}

/// A cache of cases whose writes are as the rules say.
fn cache_of(
    rules: impl IntoIterator<Item = InvalidateRoute>,
) -> (Cached, SupportCacheHandle, Calls) {
    cache_over(MemoryStore::new(), cases(), rules)
}

fn cache_over<St: Store>(
    store: St,
    route: CacheRoute,
    rules: impl IntoIterator<Item = InvalidateRoute>,
) -> (Cached<St>, SupportCacheHandle, Calls) {
    let mut builder = SupportCacheLayer::builder(store).cache(route);
    for rule in rules {
        builder = builder.invalidate(rule);
    }
    let layer = builder.build().unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

/// Writes, and the origin answers with a response.
async fn answered<St: Store>(cache: &Cached<St>, calls: &mut Calls, answer: Response<GatedBody>) {
    let writing = send(cache, write());
    calls.next().await.respond(answer);
    got(writing).await;
}

async fn fails<St: Store>(cache: &Cached<St>, calls: &mut Calls) {
    answered(cache, calls, response(503, &[], "")).await;
}

/// Reads `/cases/1`, which the origin is asked for, and returns what the cache says.
async fn is_asked<St: Store>(cache: &Cached<St>, calls: &mut Calls, body: &'static str) -> String {
    let reading = send(cache, get("/cases/1"));
    calls.now().await.expect("the origin is asked").ok(body);
    let read = got(reading).await;
    assert_eq!(read.text(), body);
    read.cache_status().to_owned()
}

/// Asserts that a response is stored for `/cases/1` from now on.
async fn is_stored_again<St: Store>(cache: &Cached<St>, calls: &mut Calls) {
    assert!(is_asked(cache, calls, "new").await.ends_with(";stored"));
    assert!(fetch(cache, "/cases/1").await.is_hit());
}

/// Asserts that no response is stored for `/cases/1` before a window that has just begun is over.
async fn is_stored_only_after<St: Store>(window: Duration, cache: &Cached<St>, calls: &mut Calls) {
    advance(window - SECOND).await;
    settle().await;
    assert!(is_asked(cache, calls, "old").await.ends_with(UNSETTLED));
    advance(SECOND).await;
    settle().await;
    is_stored_again(cache, calls).await;
}

// ===== reads within the window =====

#[tokio::test(start_paused = true)]
async fn reads_after_an_unknown_outcome_share_a_forward_and_nothing_is_stored() {
    for rule in [
        comment().key("case:{case}"),
        comment().key_with(|_| Some("case:1".to_owned())),
        comment().tag("all"),
        comment().tag_with(|_| Some("all".to_owned())),
    ] {
        let (cache, handle, mut calls) = cache_of([rule]);
        fails(&cache, &mut calls).await;
        for _ in 0..2 {
            let reads: Vec<_> = (0..100).map(|_| send(&cache, get("/cases/1"))).collect();
            let forwarded = calls.all().await;
            assert_eq!(forwarded.len(), 1);
            forwarded.into_iter().for_each(|call| call.ok("old"));
            for read in reads {
                assert_eq!(got(read).await.text(), "old");
            }
            advance(SECOND).await;
        }
        let counts = handle.metrics().bucket("cases").unwrap().clone();
        assert_eq!((counts.misses, counts.coalesced, counts.stored), (2, 198, 0));
        assert_eq!(counts.refused[&Refusal::Unsettled], 2);
        advance(8 * SECOND).await;
        settle().await;
        is_stored_again(&cache, &mut calls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_streams_within_the_window_is_shared() {
    let (cache, _, mut calls) = cache_of([comment().key("case:{case}")]);
    fails(&cache, &mut calls).await;
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(6));
    settle().await;
    let follower = send(&cache, get("/cases/1"));
    gate.send("old");
    gate.send("old");
    gate.end();
    assert_eq!(got(leader).await.text(), "oldold");
    assert_eq!(got(follower).await.text(), "oldold");
    assert_eq!(calls.count(), 2);
    assert!(is_asked(&cache, &mut calls, "old").await.ends_with(UNSETTLED));
}

#[tokio::test(start_paused = true)]
async fn a_read_joins_no_forward_from_before_the_write_ended_or_from_before_the_window_did() {
    let (cache, handle, mut calls) = cache_of([comment().key("case:{case}")]);
    let before = send(&cache, get("/cases/1"));
    let old = calls.next().await;
    fails(&cache, &mut calls).await;
    let within = send(&cache, get("/cases/1"));
    calls.now().await.expect("a forward of its own").ok("within");
    old.ok("old");
    assert_eq!((got(before).await.text(), got(within).await.text()), ("old", "within"));

    advance(8 * SECOND).await;
    let within = send(&cache, get("/cases/1"));
    let late = calls.next().await;
    advance(2 * SECOND).await;
    settle().await;
    let after = send(&cache, get("/cases/1"));
    let new = calls.now().await.expect("a forward of its own");
    late.ok("within");
    assert!(got(within).await.cache_status().ends_with(UNSETTLED));
    new.ok("new");
    assert_eq!(got(after).await.text(), "new");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 1);
}

/// Its tags are known with its head, long after the read began.
#[tokio::test(start_paused = true)]
async fn a_response_of_a_group_that_is_unsettled_is_shared_and_not_stored() {
    let (cache, _, mut calls) = cache_of([comment().groups()]);
    let accepted = response(202, &[("cache-group-invalidation", "\"g\"")], "");
    answered(&cache, &mut calls, accepted).await;
    for _ in 0..2 {
        let reads: Vec<_> = (0..3).map(|_| send(&cache, get("/cases/1"))).collect();
        let call = calls.now().await.expect("nothing is stored");
        call.with(200, ("cache-groups", "\"g\""), "old");
        for read in reads {
            assert_eq!(got(read).await.text(), "old");
        }
    }
    let other = send(&cache, get("/cases/2"));
    calls.next().await.with(200, ("cache-groups", "\"h\""), "other");
    assert!(got(other).await.cache_status().ends_with(";stored"));
}

// ===== windows =====

#[tokio::test(start_paused = true)]
async fn each_rule_has_windows_of_its_own_and_the_longest_that_matches_holds() {
    let rule = || comment().key("case:{case}");
    let (two, five) = (2 * SECOND, 5 * SECOND);
    for (rules, status, window) in [
        (vec![rule()], 503, 10 * SECOND),
        (vec![rule()], 202, 10 * SECOND),
        (vec![rule().unknown_for(two)], 503, two),
        (vec![rule().unknown_for(two)], 202, 10 * SECOND),
        (vec![rule().accepted_for(two)], 202, two),
        (vec![rule().unknown_for(two), rule().unknown_for(five)], 503, five),
        (vec![rule().unknown_for(five), comment().tag("all").unknown_for(two)], 503, five),
    ] {
        let (cache, _, mut calls) = cache_of(rules);
        answered(&cache, &mut calls, response(status, &[], "")).await;
        is_stored_only_after(window, &cache, &mut calls).await;
    }
}

/// The key of the target, and what the response names, are of no rule.
#[tokio::test(start_paused = true)]
async fn implied_keys_have_the_windows_of_the_rules_that_match() {
    for (window, rule) in [
        (2 * SECOND, InvalidateRoute::put("/cases/{case}").tag("x").unknown_for(2 * SECOND)),
        (10 * SECOND, InvalidateRoute::put("/others/{case}").tag("x").unknown_for(2 * SECOND)),
    ] {
        let (cache, _, mut calls) = cache_of([rule]);
        let writing = send(&cache, request(Method::PUT, "/cases/1"));
        calls.next().await.with(503, ("x", "y"), "");
        got(writing).await;
        is_stored_only_after(window, &cache, &mut calls).await;
    }
}

#[test]
fn a_window_of_nothing_or_of_more_than_an_hour_is_refused() {
    let rule = || comment().key("case:{case}");
    for (rule, field) in [
        (rule().unknown_for(Duration::ZERO), "unknown_for"),
        (rule().unknown_for(3601 * SECOND), "unknown_for"),
        (rule().accepted_for(Duration::ZERO), "accepted_for"),
        (rule().accepted_for(Duration::MAX), "accepted_for"),
    ] {
        let builder = SupportCacheLayer::builder(MemoryStore::new()).cache(cases());
        let error = builder.invalidate(rule).build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Limit, field));
        assert_eq!(error.route(), Some("POST /cases/{case}/comments"));
    }
    let builder = SupportCacheLayer::builder(MemoryStore::new()).cache(cases());
    builder.invalidate(rule().unknown_for(3600 * SECOND)).build().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_says_what_its_write_has_done() {
    use WriteEffect::{Accepted, Changed, Unchanged, Unknown};
    for (status, effect, is_kept, is_settled) in [
        (503, Unchanged, true, true),
        (200, Unchanged, true, true),
        (503, Changed, false, true),
        (404, Changed, false, true),
        (202, Changed, false, true),
        (200, Accepted, false, false),
        (200, Unknown, false, false),
        (404, Unknown, false, false),
    ] {
        let (cache, handle, mut calls) = cache_of([comment().key("case:{case}")]);
        is_stored_again(&cache, &mut calls).await;
        let mut answer = response(status, &[], "");
        answer.extensions_mut().insert(effect);
        answered(&cache, &mut calls, answer).await;
        assert_eq!(handle.metrics().invalidations, u64::from(!is_kept), "{status} {effect:?}");
        if is_kept {
            assert!(fetch(&cache, "/cases/1").await.is_hit());
        } else {
            let status = is_asked(&cache, &mut calls, "x").await;
            assert_eq!(status.ends_with(";stored"), is_settled, "{effect:?}: {status}");
        }
    }
}

// ===== soft rules =====

fn stale_cases() -> CacheRoute {
    cases().stale_while_revalidate(60 * SECOND).stale_if_error(60 * SECOND)
}

/// Fills, and writes with this status. Returns the cache's word about the next read.
async fn read_after(
    rules: Vec<InvalidateRoute>,
    status: u16,
    method: Method,
    path: &str,
) -> String {
    let (cache, _, mut calls) = cache_over(MemoryStore::new(), stale_cases(), rules);
    is_stored_again(&cache, &mut calls).await;
    let writing = send(&cache, request(method, path));
    calls.next().await.respond(response(status, &[], ""));
    got(writing).await;
    calls.serve(|_| response(200, &[], "newer"));
    fetch(&cache, "/cases/1").await.cache_status().to_owned()
}

#[tokio::test(start_paused = true)]
async fn only_after_a_soft_rule_a_stale_response_answers() {
    let soft = || comment().key("case:{case}").soft();
    let (post, path) = (Method::POST, "/cases/1/comments");
    for status in [200, 202, 503] {
        for (rules, is_stale) in [
            (vec![soft()], true),
            (vec![comment().key("case:{case}")], false),
            (vec![soft(), comment().key("case:{case}")], false),
            (vec![comment().key("case:{case}"), soft()], false),
            (vec![soft(), comment().tag("all")], false),
        ] {
            let said = read_after(rules, status, post.clone(), path).await;
            assert_eq!(said.contains("stale-while-revalidate"), is_stale, "{status}: {said}");
        }
    }
    let own = InvalidateRoute::put("/cases/{case}").key("case:{case}").soft();
    let said = read_after(vec![own], 200, Method::PUT, "/cases/1").await;
    assert!(said.contains("fwd=uri-miss"), "RFC 9111 §4.4: {said}");
}

#[tokio::test(start_paused = true)]
async fn after_a_soft_rule_and_an_unknown_outcome_stale_responses_answer_and_none_is_stored() {
    let rule = comment().key("case:{case}").soft();
    let (cache, _, mut calls) = cache_over(MemoryStore::new(), stale_cases(), [rule]);
    is_stored_again(&cache, &mut calls).await;
    fails(&cache, &mut calls).await;
    for _ in 0..3 {
        let stale = fetch(&cache, "/cases/1").await;
        assert!(stale.cache_status().contains("stale-while-revalidate"), "{stale:?}");
        advance(3 * SECOND).await;
        settle().await;
    }
    assert_eq!(calls.count(), 2, "what could not be stored is not asked for in the background");
    advance(SECOND).await;
    settle().await;
    let stale = fetch(&cache, "/cases/1").await;
    assert!(stale.cache_status().contains("stale-while-revalidate"), "{stale:?}");
    calls.next().await.ok("newest");
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "newest");
}

/// Neither does a soft invalidation end the time, nor does it let what was removed answer.
#[tokio::test(start_paused = true)]
async fn a_tag_that_is_softly_invalidated_within_a_window_stays_unsettled() {
    for rule in [comment().key("case:{case}"), comment().tag("all")] {
        let (cache, handle, mut calls) =
            cache_over(MemoryStore::new(), cases().stale_while_revalidate(TTL), [rule]);
        is_stored_again(&cache, &mut calls).await;
        fails(&cache, &mut calls).await;
        handle.soft_invalidate_tag("all").await.unwrap();
        for _ in 0..2 {
            assert!(is_asked(&cache, &mut calls, "old").await.ends_with(UNSETTLED));
        }
        advance(9 * SECOND).await;
        handle.soft_invalidate_tag("all").await.unwrap();
        assert!(is_asked(&cache, &mut calls, "old").await.ends_with(UNSETTLED));
        advance(SECOND).await;
        settle().await;
        is_stored_again(&cache, &mut calls).await;
        // What was stored after the window may be stale again.
        handle.soft_invalidate_tag("all").await.unwrap();
        assert!(fetch(&cache, "/cases/1").await.cache_status().contains("stale-while-revalidate"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_window_is_hard_if_one_of_the_writes_was() {
    let soft = comment().key("case:{case}").soft();
    let hard = InvalidateRoute::delete("/cases/{case}/comments").key("case:{case}");
    let (cache, _, mut calls) = cache_over(MemoryStore::new(), stale_cases(), [soft, hard]);
    is_stored_again(&cache, &mut calls).await;
    fails(&cache, &mut calls).await;
    let writing = send(&cache, request(Method::DELETE, "/cases/1/comments"));
    calls.next().await.respond(response(503, &[], ""));
    got(writing).await;
    assert!(is_asked(&cache, &mut calls, "x").await.ends_with(UNSETTLED));
    advance(10 * SECOND).await;
    settle().await;
    is_stored_again(&cache, &mut calls).await;
}

// ===== the body of a write =====

/// Polls a body once.
async fn polled(body: &mut Pin<&mut impl Body<Data = Bytes>>) -> Option<Option<usize>> {
    poll_fn(|cx| {
        Poll::Ready(match body.as_mut().poll_frame(cx) {
            Poll::Pending => None,
            Poll::Ready(None) => Some(None),
            Poll::Ready(Some(Ok(frame))) => Some(Some(frame.into_data().map_or(0, |d| d.len()))),
            Poll::Ready(Some(Err(_))) => Some(Some(usize::MAX)),
        })
    })
    .await
}

/// An origin that commits while it streams: what was stored in between is removed before the end of the
/// body is seen.
#[tokio::test(start_paused = true)]
async fn a_write_invalidates_again_before_the_end_of_its_body_is_seen() {
    for (declared, has_trailers) in [(Some(8), false), (None, false), (None, true), (Some(8), true)]
    {
        let (cache, handle, mut calls) = cache_of([comment().key("case:{case}")]);
        let mut writing = pin!(cache.clone().oneshot(write()));
        let mut unwoken = Context::from_waker(Waker::noop());
        assert!(writing.as_mut().poll(&mut unwoken).is_pending());
        let gate = calls.next().await.stream(declared);
        let (_, body) = writing.await.unwrap().into_parts();
        let mut body = pin!(body);
        assert_eq!(body.size_hint().exact(), declared);
        gate.send("half");
        assert_eq!(polled(&mut body).await, Some(Some(4)));
        is_stored_again(&cache, &mut calls).await;
        gate.send("half");
        if declared.is_none() {
            assert_eq!(polled(&mut body).await, Some(Some(4)));
            assert!(fetch(&cache, "/cases/1").await.is_hit());
            if has_trailers {
                gate.trailers(HeaderMap::new());
            }
            gate.end();
        }
        assert!(polled(&mut body).await.is_some());
        assert!(is_asked(&cache, &mut calls, "newest").await.ends_with(";stored"));
        assert_eq!(handle.metrics().invalidations, 1, "it is one write");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_or_fails_before_its_end_leaves_the_outcome_unknown() {
    for is_dropped in [true, false] {
        let (cache, _, mut calls) = cache_of([comment().key("case:{case}")]);
        let mut writing = pin!(cache.clone().oneshot(write()));
        let mut unwoken = Context::from_waker(Waker::noop());
        assert!(writing.as_mut().poll(&mut unwoken).is_pending());
        let gate = calls.next().await.stream(Some(8));
        let response = writing.await.unwrap();
        is_stored_again(&cache, &mut calls).await;
        match is_dropped {
            true => drop(response),
            false => {
                let (_, body) = response.into_parts();
                let mut body = pin!(body);
                gate.fail();
                assert_eq!(polled(&mut body).await, Some(Some(usize::MAX)));
            }
        }
        assert!(is_asked(&cache, &mut calls, "x").await.ends_with(UNSETTLED));
    }
}

/// A store whose invalidations are counted.
fn counted() -> (Chaos<MemoryStore>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let store = Chaos::new(MemoryStore::new(), move |call, _| {
        counted.fetch_add(usize::from(call == StoreCall::Invalidate), Ordering::Relaxed);
        Fault::None
    });
    (store, count)
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_body_ends_with_its_head_invalidates_once() {
    for (status, fields, body, times) in [
        (200, &[][..], "", 1),
        (201, &[], "the whole body", 1),
        (200, &[("content-length", "0")], "", 1),
        (404, &[], "nothing happened", 0),
    ] {
        let (store, count) = counted();
        let (cache, _, mut calls) = cache_over(store, cases(), [comment().key("case:{case}")]);
        answered(&cache, &mut calls, response(status, fields, body)).await;
        assert_eq!(count.load(Ordering::Relaxed), times, "{status} {body}");
    }
    let (store, count) = counted();
    let (cache, _, mut calls) = cache_over(store, cases(), [comment().key("case:{case}")]);
    let writing = send(&cache, write());
    let gate = calls.next().await.stream(None);
    settle().await;
    gate.send("late");
    gate.end();
    assert_eq!(got(writing).await.text(), "late");
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

/// The body commits as it is read, and is read with the head.
#[tokio::test(start_paused = true)]
async fn what_the_first_poll_of_a_body_does_is_done_before_the_invalidation() {
    struct Commits(Arc<AtomicUsize>, Option<&'static str>);

    impl Body for Commits {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            let text = self.1.take();
            self.0.fetch_add(usize::from(text.is_some()), Ordering::SeqCst);
            Poll::Ready(
                text.map(|text| Ok(http_body::Frame::data(Bytes::from_static(text.as_bytes())))),
            )
        }

        fn is_end_stream(&self) -> bool {
            self.1.is_none()
        }
    }

    let committed = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&committed);
    let store = Chaos::new(MemoryStore::new(), move |call, _| {
        if call == StoreCall::Invalidate {
            assert_eq!(seen.load(Ordering::SeqCst), 1, "it is committed by then");
        }
        Fault::None
    });
    let layer = SupportCacheLayer::builder(store)
        .cache(cases())
        .invalidate(comment().key("case:{case}"))
        .build()
        .unwrap();
    let commits = Arc::clone(&committed);
    let cache = layer.layer(tower::service_fn(move |_: Request<Empty<Bytes>>| {
        let body = Commits(Arc::clone(&commits), Some("done"));
        async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
    }));
    let response = cache.oneshot(write()).await.unwrap();
    drop(response);
    assert_eq!(committed.load(Ordering::SeqCst), 1);
    assert_eq!(layer.handle().metrics().invalidations, 1);
}

/// No invalidation holds a body for longer than the layer waits for any store.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_body_waits_for_a_store_that_hangs_for_a_quarter_of_a_second() {
    let store = Chaos::new(MemoryStore::new(), |call, count| match (call, count) {
        (StoreCall::Invalidate, 1) => Fault::Hang,
        _ => Fault::None,
    });
    let (cache, _, mut calls) = cache_over(store, cases(), [comment().key("case:{case}")]);
    let writing = send(&cache, write());
    let gate = calls.next().await.stream(Some(4));
    settle().await;
    gate.send("done");
    settle().await;
    assert!(!writing.is_finished());
    advance(Duration::from_millis(250)).await;
    gate.end();
    assert_eq!(got(writing).await.text(), "done");
}
