//! Runtimes that end, that nobody drives any more, or that have no timers: the cache goes on in another
//! one, and fails no request.

use std::time::Duration;

use http::Method;
use tokio::{
    runtime::{Builder, Runtime},
    time::advance,
};
use tower_support_cache::{Alone, CacheRoute, Refusal};

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn runtime_without_timers() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn comment(case: &str) -> http::Request<http_body_util::Empty<bytes::Bytes>> {
    request(Method::POST, &format!("/cases/{case}/comments"))
}

// ===== writes with an unknown outcome =====

#[test]
fn an_unknown_outcome_is_over_in_time_whatever_became_of_the_runtime_it_was_entered_in() {
    let leave: [fn(Runtime) -> Option<Runtime>; 2] = [|_ended| None, Some];
    for leave in leave {
        let (cache, _, mut calls) = cache();
        let first = runtime();
        first.block_on(async {
            let write = send(&cache, comment("1"));
            calls.next().await.with(503, ("x", "y"), "");
            got(write).await;
        });
        let _left = leave(first);
        runtime().block_on(async {
            advance(11 * SECOND).await;
            let read = send(&cache, get("/cases/1"));
            calls.next().await.ok("new");
            assert!(got(read).await.cache_status().ends_with(";stored"));
        });
    }
}

// ===== permits and rights =====

#[test]
fn what_nobody_drives_any_more_holds_no_permit_to_go_on_without_a_caller() {
    let (cache, handle, mut calls) = cache();
    let first = runtime();
    let held = first.block_on(async {
        let requests: Vec<_> =
            (0..256).map(|n| send(&cache, get(&format!("/cases/{n}")))).collect();
        let held = calls.all().await;
        requests.iter().for_each(|request| request.abort());
        settle().await;
        held
    });
    assert!(held.iter().all(Call::is_wanted));
    runtime().block_on(async {
        for (seconds, goes_on) in [(0, false), (31, true)] {
            advance(seconds * SECOND).await;
            let request = send(&cache, get("/cases/other"));
            let call = calls.next().await;
            request.abort();
            settle().await;
            assert_eq!(call.is_wanted(), goes_on, "after {seconds} s");
        }
    });
    assert_eq!(handle.metrics().detached_dropped, 1);
    drop(first);
}

#[test]
fn a_refresh_that_nobody_drives_any_more_does_not_keep_others_from_it() {
    let (cache, _, mut calls) = cache_with(|route| route.stale_while_revalidate(1000 * SECOND));
    let first = runtime();
    let _held = first.block_on(async {
        let fill = send(&cache, get("/cases/1"));
        calls.next().await.ok("old");
        got(fill).await;
        advance(61 * SECOND).await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        calls.next().await
    });
    runtime().block_on(async {
        advance(70 * SECOND).await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        assert!(calls.now().await.is_none(), "it may still be on its way");
        advance(60 * SECOND).await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
        calls.now().await.expect("it is asked about again").ok("new");
        settle().await;
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
    });
    drop(first);
}

/// What is left of a body is read by the client itself.
#[test]
fn a_body_goes_on_where_its_recorder_ended_with_its_runtime() {
    let (cache, handle, mut calls) = cache();
    let first = runtime();
    let (reply, gate) = first.block_on(async {
        use tower::ServiceExt;
        let reply = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
        let gate = calls.next().await.stream(None);
        gate.send("be");
        (reply.await.unwrap().unwrap(), gate)
    });
    drop(first);
    gate.send("fore");
    gate.end();
    assert_eq!(runtime().block_on(read(reply)).text(), "before");
    assert_eq!(
        (handle.metrics().flights, handle.metrics().bucket("cases").unwrap().stored),
        (0, 0)
    );
}

// ===== timers =====

#[test]
fn without_timers_who_would_wait_forwards_for_itself() {
    let (cache, handle, mut calls) = cache();
    runtime_without_timers().block_on(async {
        let leader = send(&cache, get("/cases/1"));
        let call = calls.next().await;
        let followers: Vec<_> = (0..3).map(|_| send(&cache, get("/cases/1"))).collect();
        let own = calls.all().await;
        assert_eq!(own.len(), 3);
        own.into_iter().for_each(|call| call.ok("own"));
        for follower in followers {
            let follower = got(follower).await;
            assert_eq!(follower.text(), "own");
            assert!(follower.cache_status().ends_with("detail=runtime"), "{follower:?}");
        }
        call.ok("led");
        assert!(got(leader).await.cache_status().ends_with(";stored"));
        assert!(fetch(&cache, "/cases/1").await.is_hit());
    });
    assert_eq!(handle.metrics().bucket("cases").unwrap().alone[&Alone::Runtime], 3);
}

#[test]
fn without_timers_nothing_goes_on_without_its_caller_and_nothing_panics() {
    let stale = |route: CacheRoute| {
        route.stale_while_revalidate(100 * SECOND).soft_timeout(SECOND).stale_if_error(100 * SECOND)
    };
    let (cache, handle, mut calls) = cache_with(stale);
    runtime_without_timers().block_on(async {
        // A body that takes longer than its head.
        let first = send(&cache, get("/cases/1"));
        let gate = calls.next().await.stream(Some(4));
        settle().await;
        gate.send("bo");
        settle().await;
        gate.send("dy");
        gate.end();
        let first = got(first).await;
        assert_eq!(first.text(), "body");
        assert!(first.cache_status().ends_with("detail=runtime"), "{first:?}");
        // Requests whose callers go away.
        for dropped in [get("/cases/1"), comment("1")] {
            let request = send(&cache, dropped);
            let call = calls.next().await;
            request.abort();
            settle().await;
            assert!(!call.is_wanted());
        }
        let filled = send(&cache, get("/cases/2"));
        calls.next().await.ok("old");
        got(filled).await;
        handle.soft_invalidate("case:2").await.unwrap();
        assert_eq!(fetch(&cache, "/cases/2").await.text(), "old");
        assert!(calls.now().await.is_none(), "nothing is refreshed");
        assert_eq!(handle.metrics().bucket("cases").unwrap().refused[&Refusal::Runtime], 1);
    });
    // In another runtime all of it works.
    runtime().block_on(async {
        assert_eq!(fetch(&cache, "/cases/2").await.text(), "old");
        calls.next().await.ok("new");
        settle().await;
        assert_eq!(fetch(&cache, "/cases/2").await.text(), "new");
    });
}

/// An executor of another kind.
#[test]
fn without_a_runtime_who_would_wait_forwards_for_itself() {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use tower::ServiceExt;

    let (cache, _, mut calls) = cache();
    let mut cx = Context::from_waker(Waker::noop());
    let mut leader = pin!(cache.clone().oneshot(get("/cases/1")));
    assert!(leader.as_mut().poll(&mut cx).is_pending());
    let mut follower = pin!(cache.clone().oneshot(get("/cases/1")));
    assert!(follower.as_mut().poll(&mut cx).is_pending());
    let both = futures_now(&mut calls);
    assert_eq!(both.len(), 2);
    both.into_iter().for_each(|call| call.ok("own"));
    for mut request in [leader, follower] {
        let Poll::Ready(Ok(reply)) = request.as_mut().poll(&mut cx) else { panic!("answered") };
        assert_eq!(reply.status(), 200);
    }
}

fn futures_now(calls: &mut Calls) -> Vec<Call> {
    runtime().block_on(calls.all())
}
