//! Flights: one forward for many requests, and what each of its ends means for those who wait.

use std::time::Duration;

use tokio::time::advance;
use tower::Service;
use tower_support_cache::{Alone, Coalescing, Refusal};

use crate::support::{self, Call, Calls, Sent, cache, cache_with, fetch, get, got, send, settle};

/// Sends `count` requests for one key and returns them with the leader's call.
async fn burst(cache: &support::Cached, calls: &mut Calls, count: usize) -> (Vec<Sent>, Call) {
    let requests = (0..count).map(|_| send(cache, get("/cases/1"))).collect();
    let call = calls.next().await;
    settle().await;
    (requests, call)
}

/// How long it has waited counts from when it began to, not from the call.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_polled_late_follows_all_the_same() {
    let (mut cache, _, mut calls) = cache();
    let late = cache.call(get("/cases/1"));
    advance(Duration::from_secs(6)).await;
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let late = tokio::spawn(late);
    settle().await;
    call.ok("shared");
    assert_eq!(got(leader).await.text(), "shared");
    late.await.unwrap().unwrap();
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_stored_and_answers_the_next_request() {
    let (cache, handle, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("hello");
    let first = got(first).await;
    assert_eq!(first.cache_status(), "support-cache;fwd=uri-miss;fwd-status=200;stored");
    assert_eq!(first.text(), "hello");
    let second = fetch(&cache, "/cases/1").await;
    assert_eq!(second.cache_status(), "support-cache;hit;ttl=60");
    assert_eq!((second.text(), second.age()), ("hello", Some(0)));
    assert_eq!((handle.metrics().bucket("cases").unwrap().hits, calls.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_fresh_for_its_lifetime_and_no_longer() {
    let (cache, _, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(first).await;
    advance(Duration::from_millis(59_999)).await;
    let hit = fetch(&cache, "/cases/1").await;
    assert_eq!(
        (hit.text(), hit.age(), hit.cache_status()),
        ("old", Some(59), "support-cache;hit;ttl=0")
    );
    advance(Duration::from_millis(1)).await;
    let next = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    let next = got(next).await;
    assert_eq!(next.text(), "new");
    assert_eq!(next.cache_status(), "support-cache;fwd=stale;fwd-status=200;stored");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_on_a_cold_key_make_one_call() {
    let (cache, handle, mut calls) = cache();
    let (requests, call) = burst(&cache, &mut calls, 1000).await;
    call.ok("one");
    for request in requests {
        assert_eq!(got(request).await.text(), "one");
    }
    assert_eq!(calls.count(), 1);
    let metrics = handle.metrics();
    let bucket = metrics.bucket("cases").unwrap();
    assert_eq!((bucket.misses, bucket.coalesced, metrics.flights), (1, 999, 0));
}

#[tokio::test(start_paused = true)]
async fn a_follower_says_that_it_collapsed_and_carries_an_age() {
    let (cache, _, mut calls) = cache();
    let (mut requests, call) = burst(&cache, &mut calls, 2).await;
    advance(Duration::from_secs(3)).await;
    call.ok("one");
    let follower = got(requests.pop().unwrap()).await;
    assert_eq!(follower.cache_status(), "support-cache;fwd=uri-miss;collapsed;ttl=60");
    // RFC 9111 §4.2.3: the response's delay counts.
    assert_eq!(follower.age(), Some(3));
}

/// Each of these may not be stored, so it may not be shared either.
#[tokio::test(start_paused = true)]
async fn what_may_not_be_stored_is_not_shared() {
    for (status, field, reason) in [
        (200, ("cache-control", "no-store"), "no-store"),
        (200, ("cache-control", "no-cache"), "no-cache"),
        (200, ("cache-control", "private"), "private"),
        (200, ("set-cookie", "sid=1"), "set-cookie"),
        (200, ("vary", "*"), "vary"),
        (200, ("content-type", "text/event-stream"), "stream"),
        (404, ("x", "y"), "status"),
        (500, ("x", "y"), "status"),
    ] {
        let (cache, handle, mut calls) = cache();
        let (mut requests, call) = burst(&cache, &mut calls, 3).await;
        call.with(status, field, "for the leader alone");
        let leader = got(requests.remove(0)).await;
        assert_eq!(leader.text(), "for the leader alone");
        assert!(leader.cache_status().ends_with(&format!("detail={reason}")), "{leader:?}");
        let own = calls.all().await;
        assert_eq!(own.len(), 2, "both followers forward at once, after {reason}");
        own.into_iter().for_each(|call| call.ok("own"));
        for request in requests {
            let follower = got(request).await;
            assert_eq!((follower.text(), follower.fields.get(field.0)), ("own", None));
            assert!(follower.cache_status().ends_with("collapsed=?0;detail=declined"));
        }
        assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn two_bursts_on_an_uncacheable_key_never_queue() {
    let (cache, handle, mut calls) = cache();
    let (requests, call) = burst(&cache, &mut calls, 200).await;
    assert_eq!(calls.count(), 1);
    call.with(200, ("cache-control", "no-store"), "a");
    let first: Vec<_> = calls.all().await;
    assert_eq!(first.len(), 199, "all others at once after the first answer");
    first.into_iter().for_each(|call| call.with(200, ("cache-control", "no-store"), "b"));
    for request in requests {
        got(request).await;
    }
    let (mut requests, call) = burst(&cache, &mut calls, 200).await;
    let second = calls.all().await;
    assert_eq!(second.len(), 199, "nobody waits while the refusal is remembered");
    std::iter::once(call)
        .chain(second)
        .for_each(|call| call.with(200, ("cache-control", "no-store"), "c"));
    let leader = got(requests.remove(0)).await;
    assert!(leader.cache_status().ends_with("detail=no-store"), "one finds out if it is still so");
    for request in requests {
        assert!(got(request).await.cache_status().ends_with("detail=pass"));
    }
    assert_eq!(handle.metrics().bucket("cases").unwrap().alone[&Alone::Pass], 199);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_forgotten_after_ten_seconds() {
    let (cache, _, mut calls) = cache();
    let refused = send(&cache, get("/cases/1"));
    calls.next().await.with(200, ("cache-control", "no-store"), "a");
    got(refused).await;
    advance(Duration::from_secs(10)).await;
    let storable = send(&cache, get("/cases/1"));
    calls.next().await.ok("b");
    assert!(got(storable).await.cache_status().ends_with("stored"));
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_not_remembered() {
    let (cache, _, mut calls) = cache();
    let failed = send(&cache, get("/cases/1"));
    calls.next().await.with(503, ("retry-after", "1"), "");
    got(failed).await;
    let (requests, call) = burst(&cache, &mut calls, 2).await;
    assert_eq!(calls.count(), 2, "the next burst collapses again");
    call.ok("back");
    for request in requests {
        assert_eq!(got(request).await.text(), "back");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_the_leaders_own_and_followers_ask_for_themselves_at_once() {
    let (cache, handle, mut calls) = cache();
    let (mut requests, call) = burst(&cache, &mut calls, 50).await;
    call.fail();
    assert!(requests.remove(0).await.unwrap().is_err());
    let own = calls.all().await;
    assert_eq!(own.len(), 49, "a failing origin is not asked one by one");
    own.into_iter().for_each(|call| call.ok("own"));
    for request in requests {
        assert_eq!(got(request).await.text(), "own");
    }
    assert_eq!(handle.metrics().bucket("cases").unwrap().refused[&Refusal::Failed], 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_leaders_own_and_one_follower_leads() {
    let (cache, handle, mut calls) = cache();
    let (mut requests, call) = burst(&cache, &mut calls, 50).await;
    call.panic();
    assert!(requests.remove(0).await.unwrap_err().is_panic());
    let mut led = calls.all().await;
    assert_eq!(led.len(), 1, "one follower leads");
    led.remove(0).ok("second");
    for request in requests {
        assert_eq!(got(request).await.text(), "second");
    }
    assert_eq!(handle.metrics().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn after_two_dead_fills_followers_forward_for_themselves() {
    let (cache, _, mut calls) = cache();
    let (mut requests, call) = burst(&cache, &mut calls, 10).await;
    call.panic();
    calls.next().await.panic();
    let own = calls.all().await;
    assert_eq!(own.len(), 8);
    own.into_iter().for_each(|call| call.ok("own"));
    let mut panicked = 0;
    for request in requests.drain(..) {
        panicked += usize::from(request.await.is_err());
    }
    assert_eq!(panicked, 2);
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_no_longer_than_its_deadline_and_then_stores_nothing() {
    let (cache, handle, mut calls) = cache();
    let (mut requests, leader) = burst(&cache, &mut calls, 2).await;
    advance(Duration::from_millis(4_999)).await;
    assert!(calls.now().await.is_none());
    advance(Duration::from_millis(1)).await;
    calls.now().await.expect("the follower forwards for itself").ok("own");
    let follower = got(requests.pop().unwrap()).await;
    assert_eq!(follower.text(), "own");
    assert!(follower.cache_status().ends_with("collapsed=?0;detail=deadline"));
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0);
    leader.ok("late");
    assert_eq!(got(requests.pop().unwrap()).await.text(), "late");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "late");
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_hangs_is_not_joined_for_ever() {
    let (cache, _, mut calls) = cache();
    let hung = send(&cache, get("/cases/1"));
    let _never = calls.next().await;
    advance(Duration::from_secs(5)).await;
    let next = send(&cache, get("/cases/1"));
    calls.now().await.expect("a new flight").ok("new");
    assert_eq!(got(next).await.text(), "new");
    assert!(!hung.is_finished());
}

/// A body that is shared before it comes, and does not come.
#[tokio::test(start_paused = true)]
async fn a_follower_of_a_body_that_stalls_forwards_for_itself_if_it_has_sent_nothing() {
    let (cache, handle, mut calls) = cache();
    let (mut requests, call) = burst(&cache, &mut calls, 2).await;
    let gate = call.stream(Some(4));
    settle().await;
    advance(Duration::from_secs(2)).await;
    requests.push(send(&cache, get("/cases/1")));
    settle().await;
    for (follower, seconds) in [(1, 3), (1, 2)] {
        advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
        assert!(calls.now().await.is_none());
        advance(Duration::from_millis(1)).await;
        calls.now().await.expect("it has waited for five seconds").ok("own");
        let follower = got(requests.remove(follower)).await;
        assert_eq!(follower.text(), "own");
        assert!(follower.cache_status().ends_with("collapsed=?0;detail=deadline"));
    }
    // The leader has what the origin sends, and what that is stored.
    gate.send("late");
    gate.end();
    assert_eq!(got(requests.remove(0)).await.text(), "late");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "late");
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!((bucket.coalesced, bucket.alone[&Alone::Deadline]), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_has_sent_bytes_goes_on_as_long_as_the_leaders_body_and_nobody_joins() {
    let (cache, _, mut calls) = cache();
    let (requests, call) = burst(&cache, &mut calls, 3).await;
    let gate = call.stream(Some(4));
    settle().await;
    advance(Duration::from_secs(4)).await;
    gate.send("la");
    settle().await;
    advance(Duration::from_secs(5)).await;
    // A new flight, which is stored.
    let late = send(&cache, get("/cases/1"));
    calls.now().await.expect("nobody joins a body that has stalled").ok("new!");
    assert_eq!(got(late).await.text(), "new!");
    advance(Duration::from_secs(600)).await;
    settle().await;
    assert!(requests.iter().all(|request| !request.is_finished()));
    gate.send("te");
    gate.end();
    for request in requests {
        assert_eq!(got(request).await.text(), "late");
    }
}

/// It has nothing of the body yet, so the end of that is not its own.
#[tokio::test(start_paused = true)]
async fn a_follower_of_a_body_that_fails_before_its_first_byte_forwards_for_itself() {
    let ends: [fn(support::BodyGate); 2] = [support::BodyGate::fail, support::BodyGate::panic];
    for end in ends {
        let (cache, handle, mut calls) = cache();
        let (mut requests, call) = burst(&cache, &mut calls, 3).await;
        let gate = call.stream(Some(4));
        settle().await;
        end(gate);
        let own = calls.all().await;
        assert!(!own.is_empty());
        own.into_iter().for_each(|call| call.ok("own"));
        calls.all().await.into_iter().for_each(|call| call.ok("own"));
        drop(requests.remove(0));
        for request in requests {
            assert_eq!(got(request).await.text(), "own");
        }
        assert_eq!(handle.metrics().flights, 0);
    }
}

/// It is answered by its own copy, whatever becomes of the body.
#[tokio::test(start_paused = true)]
async fn a_follower_that_has_the_response_waits_for_no_body() {
    let (cache, _, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let conditional = support::with(get("/cases/1"), "if-none-match", "\"a\"");
    let follower = send(&cache, conditional);
    settle().await;
    let (body, gate) = support::GatedBody::gated(Some(4));
    call.respond(http::Response::builder().header("etag", "\"a\"").body(body).unwrap());
    settle().await;
    assert!(follower.is_finished());
    let follower = got(follower).await;
    assert_eq!(follower.status, 304);
    assert!(follower.cache_status().contains("collapsed"));
    gate.send("body");
    gate.end();
    assert_eq!(got(leader).await.text(), "body");
}

/// What it may have instead of waiting, it has.
#[tokio::test(start_paused = true)]
async fn a_follower_of_a_body_that_stalls_has_what_is_stale() {
    let second = Duration::from_secs(1);
    let (cache, _, mut calls) =
        cache_with(|route| route.stale_if_error(100 * second).soft_timeout(second));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(first).await;
    advance(61 * second).await;
    let (mut requests, call) = burst(&cache, &mut calls, 2).await;
    let gate = call.stream(Some(3));
    settle().await;
    advance(second).await;
    let follower = got(requests.remove(1)).await;
    assert!(follower.text() == "old" && follower.cache_status().ends_with("detail=timeout"));
    gate.send("new");
    gate.end();
    assert_eq!(got(requests.remove(0)).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn an_older_fill_does_not_replace_a_newer_one() {
    let (cache, _, mut calls) = cache();
    let hung = send(&cache, get("/cases/1"));
    let slow = calls.next().await;
    advance(Duration::from_secs(5)).await;
    let next = send(&cache, get("/cases/1"));
    calls.now().await.unwrap().ok("new");
    got(next).await;
    slow.ok("old");
    got(hung).await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn without_coalescing_each_request_forwards_and_stores() {
    let (cache, _, mut calls) = cache_with(|route| route.coalescing(Coalescing::Off));
    let requests: Vec<_> = (0..3).map(|_| send(&cache, get("/cases/1"))).collect();
    let all = calls.all().await;
    assert_eq!(all.len(), 3);
    all.into_iter().for_each(|call| call.ok("each"));
    for request in requests {
        assert!(got(request).await.cache_status().ends_with("stored"));
    }
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_leader_looks_once_more_before_it_forwards() {
    let (cache, _, mut calls) = cache_with(|route| route.coalescing(Coalescing::Off));
    // `call` looks and finds nothing; before its future is polled, another request fills.
    let late = tower::Service::call(&mut cache.clone(), get("/cases/1"));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("first");
    got(first).await;
    let late = tokio::time::timeout(Duration::from_secs(1), late).await;
    let late = late.expect("it is answered without the origin");
    let late = support::read(late.unwrap()).await;
    assert!(late.is_hit(), "{late:?}");
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_request_is_answered_from_get_and_never_the_reverse() {
    let (cache, _, mut calls) = cache();
    let head = || support::request(http::Method::HEAD, "/cases/1");
    let miss = send(&cache, head());
    calls.next().await.with(200, ("content-length", "5"), "");
    assert!(got(miss).await.cache_status().ends_with("detail=head"));
    let get = send(&cache, get("/cases/1"));
    calls.next().await.ok("hello");
    assert_eq!(got(get).await.text(), "hello");
    let hit = got(send(&cache, head())).await;
    assert!(hit.is_hit());
    assert_eq!((hit.text(), hit.fields["content-length"].to_str().unwrap()), ("", "5"));
}

#[tokio::test(start_paused = true)]
async fn a_leaders_conditional_does_not_reach_the_origin() {
    let (cache, _, mut calls) = cache();
    let conditional = support::with(get("/cases/1"), "if-none-match", "\"a\"");
    let conditional =
        support::with(conditional, "if-modified-since", "Sun, 22 Nov 2026 00:00:00 GMT");
    let request = send(&cache, conditional);
    let call = calls.next().await;
    assert!(!call.head.headers.contains_key("if-none-match"));
    assert!(!call.head.headers.contains_key("if-modified-since"));
    call.ok("whole");
    assert_eq!(got(request).await.text(), "whole");
}
