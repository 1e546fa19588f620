//! Cancellation is local: dropping one request harms no other and leaves nothing behind.

use std::time::Duration;

use http::Method;
use tokio::{task::JoinHandle, time::advance};
use tower::ServiceExt;

use crate::support::{
    self, Cached, OriginError, Reply, cache, fetch, get, got, request, send, settle,
};

async fn cancel<T>(request: JoinHandle<T>) {
    request.abort();
    let _ = request.await;
    settle().await;
}

fn open(cache: &Cached) -> JoinHandle<Result<Reply, OriginError>> {
    tokio::spawn(cache.clone().oneshot(get("/cases/1")))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_still_make_one_call_when_the_leader_is_cancelled_before_the_head() {
    let (cache, handle, mut calls) = cache();
    let mut requests: Vec<_> = (0..1000).map(|_| send(&cache, get("/cases/1"))).collect();
    let call = calls.next().await;
    settle().await;
    cancel(requests.remove(0)).await;
    assert!(call.is_wanted());
    call.ok("body");
    for request in requests {
        assert_eq!(got(request).await.text(), "body");
    }
    assert_eq!((calls.count(), handle.metrics().flights), (1, 0));
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_entry_is_complete_when_the_leader_is_cancelled_after_the_head_or_in_mid_body() {
    for declared in [None, Some(8)] {
        for sends_before in [false, true] {
            let (cache, handle, mut calls) = cache();
            let leader = open(&cache);
            let gate = calls.next().await.stream(declared);
            let leader = leader.await.unwrap().unwrap();
            let followers: Vec<_> = (0..10).map(|_| send(&cache, get("/cases/1"))).collect();
            if sends_before {
                gate.send("half");
            }
            settle().await;
            drop(leader);
            settle().await;
            if !sends_before {
                gate.send("half");
            }
            gate.send("rest");
            gate.end();
            for follower in followers {
                assert_eq!(got(follower).await.text(), "halfrest");
            }
            assert_eq!((calls.count(), handle.metrics().flights), (1, 0));
            assert_eq!(fetch(&cache, "/cases/1").await.text(), "halfrest");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_nobody_waits_for_completes_and_is_stored() {
    let (cache, _, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    cancel(leader).await;
    call.ok("kept");
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "kept");
}

#[tokio::test(start_paused = true)]
async fn at_most_256_fills_live_on_without_their_callers() {
    let (cache, handle, mut calls) = cache();
    let uri = |n| format!("/cases/{n}");
    let requests: Vec<_> = (0..300).map(|n| send(&cache, get(&uri(n)))).collect();
    let waiting = calls.all().await;
    assert_eq!(waiting.len(), 300);
    for request in requests {
        cancel(request).await;
    }
    assert_eq!(waiting.iter().filter(|call| call.is_wanted()).count(), 256);
    assert_eq!((handle.metrics().detached_dropped, handle.metrics().flights), (44, 256));
    waiting.into_iter().for_each(|call| call.ok("kept"));
    settle().await;
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 256);
    assert_eq!(handle.metrics().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn at_most_256_recordings_live_on_without_readers_and_a_follower_leads_for_the_rest() {
    let (cache, handle, mut calls) = cache();
    let mut gates = Vec::new();
    for n in 0..257 {
        let reply = tokio::spawn(cache.clone().oneshot(get(&format!("/cases/{n}"))));
        let gate = calls.next().await.stream(None);
        let reply = reply.await.unwrap().unwrap();
        gates.push((gate, reply));
    }
    let follower = send(&cache, get("/cases/256"));
    settle().await;
    let (gates, replies): (Vec<_>, Vec<_>) = gates.into_iter().unzip();
    replies.into_iter().for_each(drop);
    let own = calls.now().await.expect("the follower leads");
    assert_eq!(gates.iter().filter(|gate| !gate.is_abandoned()).count(), 256);
    own.ok("own");
    assert_eq!(got(follower).await.text(), "own");
    assert_eq!(handle.metrics().flights, 256);
}

#[tokio::test(start_paused = true)]
async fn a_fill_without_a_caller_has_thirty_seconds() {
    let (cache, handle, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    cancel(leader).await;
    advance(Duration::from_millis(29_999)).await;
    settle().await;
    assert!(call.is_wanted());
    advance(Duration::from_millis(1)).await;
    settle().await;
    assert!(!call.is_wanted());
    assert_eq!(handle.metrics().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_recording_without_readers_has_thirty_seconds() {
    let (cache, handle, mut calls) = cache();
    let leader = open(&cache);
    let gate = calls.next().await.stream(None);
    let leader = leader.await.unwrap().unwrap();
    // The body has stalled: nothing but the reader that goes wakes the recorder.
    advance(Duration::from_secs(6)).await;
    settle().await;
    drop(leader);
    settle().await;
    advance(Duration::from_secs(29)).await;
    settle().await;
    assert!(!gate.is_abandoned());
    advance(Duration::from_secs(1)).await;
    settle().await;
    assert!(gate.is_abandoned());
    assert_eq!(handle.metrics().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_recording_with_a_streaming_follower_is_never_dropped() {
    let (cache, _, mut calls) = cache();
    let leader = open(&cache);
    let gate = calls.next().await.stream(Some(8));
    let leader = leader.await.unwrap().unwrap();
    gate.send("com");
    let follower = open(&cache).await.unwrap().unwrap();
    drop(leader);
    settle().await;
    advance(Duration::from_secs(120)).await;
    settle().await;
    assert!(!gate.is_abandoned());
    gate.send("plete");
    gate.end();
    assert_eq!(support::read(follower).await.text(), "complete");
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_goes_away_takes_nothing_with_it() {
    let (cache, handle, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    cancel(follower).await;
    call.ok("body");
    assert_eq!(got(leader).await.text(), "body");
    assert_eq!((calls.count(), handle.metrics().flights), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_forward_that_is_shared_with_nobody_ends_with_its_caller() {
    let (cache, _, mut calls) = cache();
    let head = support::request(http::Method::HEAD, "/cases/1");
    for request in [head, support::with(get("/cases/1"), "cookie", "a=b"), get("/unmatched")] {
        let request = send(&cache, request);
        let call = calls.next().await;
        cancel(request).await;
        assert!(!call.is_wanted(), "{:?}", call.head);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_before_it_began_is_never_forwarded() {
    let (cache, handle, mut calls) = cache();
    for request in [get("/cases/1"), support::request(http::Method::POST, "/cases/1/comments")] {
        drop(tower::Service::call(&mut cache.clone(), request));
    }
    assert!(calls.now().await.is_none());
    assert_eq!((handle.metrics().flights, handle.metrics().invalidations), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_the_caller_went_away_harms_nobody() {
    let (cache, handle, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    cancel(leader).await;
    call.panic();
    calls.now().await.expect("the follower leads").ok("own");
    assert_eq!(got(follower).await.text(), "own");
    assert_eq!(handle.metrics().flights, 0);
}

// ===== shutdown =====

/// A client leaves during a slow write; the server stops; what the write changed is invalidated first.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_write_whose_client_has_left() {
    let (cache, handle, mut calls) = cache();
    let filled = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(filled).await;
    let write = send(&cache, request(Method::POST, "/cases/1/comments"));
    let call = calls.next().await;
    write.abort();
    settle().await;
    assert_eq!(handle.metrics().detached, 1);
    let draining = tokio::spawn({
        let handle = handle.clone();
        async move { handle.drain(Duration::from_secs(10)).await }
    });
    advance(Duration::from_secs(5)).await;
    settle().await;
    assert!(!draining.is_finished());
    call.ok("written");
    draining.await.unwrap().unwrap();
    assert_eq!((handle.metrics().invalidations, handle.metrics().detached), (1, 0));
    let read = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(got(read).await.text(), "new");
}

/// At its limit a drain gives work up, and a write then has an unknown outcome.
#[tokio::test(start_paused = true)]
async fn a_drain_gives_up_at_its_limit_and_invalidates() {
    let (cache, handle, mut calls) = cache();
    let filled = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(filled).await;
    let write = send(&cache, request(Method::POST, "/cases/1/comments"));
    let call = calls.next().await;
    write.abort();
    settle().await;
    let unfinished = handle.drain(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!((unfinished.given_up(), unfinished.pending()), (1, 0));
    assert!(!call.is_wanted());
    let counts = handle.metrics();
    assert_eq!((counts.invalidations, counts.detached), (1, 0));
    let read = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert_eq!(
        got(read).await.cache_status(),
        "support-cache;fwd=uri-miss;fwd-status=200;detail=unsettled"
    );
}
