//! Bodies: recorded while they stream, whole or not at all.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, Version};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::{task::JoinHandle, time::advance};
use tower::ServiceExt;
use tower_support_cache::{Bypass, Refusal};

use crate::support::{
    self, GatedBody, OriginError, Reply, cache, cache_with, fetch, get, got, send, settle,
};

/// Sends a request and returns its response as soon as the head is there.
fn open(cache: &support::Cached) -> JoinHandle<Result<Reply, OriginError>> {
    tokio::spawn(cache.clone().oneshot(get("/cases/1")))
}

async fn opened(reply: JoinHandle<Result<Reply, OriginError>>) -> Reply {
    reply.await.unwrap().unwrap()
}

/// Reads the next frame; it must be there without anybody's help.
async fn chunk(reply: &mut Reply) -> Bytes {
    reply.body_mut().frame().await.unwrap().unwrap().into_data().unwrap()
}

fn declared(length: &str, body: GatedBody) -> Response<GatedBody> {
    Response::builder().header("content-length", length).body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_is_sent_when_the_origin_sends_it() {
    let (cache, _, mut calls) = cache();
    let reply = open(&cache);
    let gate = calls.next().await.stream(None);
    let mut reply = opened(reply).await;
    gate.send("first");
    assert_eq!(chunk(&mut reply).await, "first");
    gate.send("second");
    assert_eq!(chunk(&mut reply).await, "second");
    gate.end();
    assert!(reply.body_mut().frame().await.is_none());
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "firstsecond");
}

#[tokio::test(start_paused = true)]
async fn who_has_read_a_body_to_its_end_finds_it_stored() {
    let (cache, _, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(None);
    settle().await;
    gate.send("body");
    gate.end();
    got(first).await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_follower_streams_along_once_the_length_is_known_to_fit() {
    let (cache, _, mut calls) = cache();
    let leader = open(&cache);
    let call = calls.next().await;
    let waiting = open(&cache);
    settle().await;
    let gate = call.stream(Some(10));
    let mut leader = opened(leader).await;
    settle().await;
    assert!(!waiting.is_finished(), "with nothing to send it could still forward for itself");
    gate.send("first");
    let mut waiting = opened(waiting).await;
    assert_eq!(
        (chunk(&mut leader).await, chunk(&mut waiting).await),
        ("first".into(), "first".into())
    );
    let mut late = opened(open(&cache)).await;
    assert_eq!(late.body().size_hint().exact(), Some(10));
    assert_eq!(chunk(&mut late).await, "first");
    gate.send("after");
    gate.end();
    for reply in [leader, waiting, late] {
        assert_eq!(support::read(reply).await.text(), "after");
    }
    assert_eq!(calls.count(), 1);
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_unknown_length_waits_for_the_end() {
    let (cache, _, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(None);
    settle().await;
    let follower = open(&cache);
    gate.send("body");
    settle().await;
    assert!(!follower.is_finished(), "its length may turn out not to fit");
    gate.end();
    let follower = support::read(opened(follower).await).await;
    assert!(follower.cache_status().contains("collapsed"));
    assert_eq!((follower.text(), got(leader).await.text()), ("body", "body"));
}

/// The number of frames is the origin's, and says nothing of what a body is worth.
#[tokio::test(start_paused = true)]
async fn a_shared_body_in_any_number_of_frames_reaches_all_who_share_it() {
    for (length, frame) in [(20_000, 1), (40_000, 2), (500_000, 25), (1_000_000, 1023)] {
        let (cache, handle, mut calls) = cache();
        let leader = open(&cache);
        let gate = calls.next().await.stream(Some(length));
        gate.send("x");
        let mut replies = vec![opened(leader).await];
        replies.push(opened(open(&cache)).await);
        replies.push(opened(open(&cache)).await);
        let reading = send(&cache, get("/cases/1"));
        let mut left = length as usize - 1;
        while left > 0 {
            gate.send(vec![b'x'; left.min(frame)]);
            left -= left.min(frame);
            // Some read along, and the others all at once.
            if left.is_multiple_of(977) {
                settle().await;
            }
        }
        gate.send("");
        gate.end();
        for reply in replies {
            let body = support::read(reply).await.body;
            assert_eq!(body.map(|body| body.len()), Ok(length as usize), "frames of {frame}");
        }
        assert_eq!(got(reading).await.body.unwrap().len(), length as usize);
        assert!(fetch(&cache, "/cases/1").await.is_hit());
        let bucket = handle.metrics().bucket("cases").cloned().unwrap();
        assert_eq!((bucket.stored, bucket.coalesced), (1, 3));
    }
}

/// On the wire a body ends with the last byte that it declared.
#[tokio::test(start_paused = true)]
async fn a_follower_has_a_whole_body_whatever_comes_after_its_declared_length() {
    for excess in [1, 10, 3_000_000] {
        let (cache, _, mut calls) = cache();
        let leader = open(&cache);
        let gate = calls.next().await.stream(Some(4));
        gate.send("12");
        let (leader, follower) = (opened(leader).await, opened(open(&cache)).await);
        gate.send("34");
        settle().await;
        gate.send(vec![b'x'; excess]);
        settle().await;
        gate.fail();
        let follower = support::read(follower).await.body.expect("no error");
        assert!(follower.starts_with(b"1234"));
        assert_eq!(support::read(leader).await.body, Err("the origin failed".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_slows_nobody() {
    let (cache, _, mut calls) = cache();
    let leader = open(&cache);
    let gate = calls.next().await.stream(Some(4));
    let _idle_leader = opened(leader).await;
    gate.send("bo");
    let _idle_follower = opened(open(&cache)).await;
    let reading = send(&cache, get("/cases/1"));
    gate.send("dy");
    gate.end();
    assert_eq!(got(reading).await.text(), "body");
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_passes_byte_for_byte_with_back_pressure() {
    let (cache, handle, mut calls) = cache_with(|route| route.body_limit(8));
    let reply = open(&cache);
    let gate = calls.next().await.stream(None);
    let mut reply = opened(reply).await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    for part in ["12345", "67890"] {
        gate.send(part);
    }
    settle().await;
    calls.now().await.expect("the follower is let go at once").ok("own");
    assert_eq!(got(follower).await.text(), "own");
    gate.send("after");
    settle().await;
    // The third part is still the origin's: nobody has asked for it.
    assert_eq!(reply.body().size_hint().lower(), 10);
    for part in ["12345", "67890", "after"] {
        assert_eq!(chunk(&mut reply).await, part);
    }
    gate.end();
    assert!(reply.body_mut().frame().await.is_none());
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!((bucket.stored, bucket.refused[&Refusal::TooLarge]), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_declared_length_over_the_limit_is_not_recorded_at_all() {
    let (cache, _, mut calls) = cache_with(|route| route.body_limit(8));
    let reply = open(&cache);
    let gate = calls.next().await.stream(Some(9));
    let mut reply = opened(reply).await;
    assert!(reply.headers()["cache-status"].to_str().unwrap().ends_with("detail=too-large"));
    gate.send("123456789");
    gate.end();
    assert_eq!(chunk(&mut reply).await, "123456789");
    assert!(reply.body_mut().frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn bodies_in_flight_have_a_total_budget() {
    const MIB: usize = 1024 * 1024;
    let (cache, handle, mut calls) = cache_with(|route| route.body_limit(40 * MIB as u64));
    let open = |uri| tokio::spawn(cache.clone().oneshot(get(uri)));
    let first = open("/cases/1");
    let gate = calls.next().await.stream(Some(40 * MIB as u64));
    let first = opened(first).await;
    let second = open("/cases/2");
    let _other = calls.next().await.stream(Some(40 * MIB as u64));
    let second = opened(second).await;
    assert!(second.headers()["cache-status"].to_str().unwrap().ends_with("detail=budget"));
    drop((first, second));
    gate.end();
    settle().await;
    // What the first recording had reserved is free again.
    let third = open("/cases/3");
    let _gate = calls.next().await.stream(Some(40 * MIB as u64));
    assert!(opened(third).await.headers()["cache-status"].to_str().unwrap().ends_with("stored"));
    assert_eq!(handle.metrics().bucket("cases").unwrap().refused[&Refusal::Budget], 1);
}

/// What a client has not read yet is its own: it is no longer being recorded.
#[tokio::test(start_paused = true)]
async fn clients_that_do_not_read_turn_storing_off_for_nobody() {
    const MIB: usize = 1024 * 1024;
    /// Ends of a body that is not stored.
    #[derive(Clone, Copy, Debug)]
    enum End {
        TooLarge,
        TooLargeAtOnce,
        Incomplete,
        Failed,
        Fenced,
    }
    for end in [End::TooLarge, End::TooLargeAtOnce, End::Incomplete, End::Failed, End::Fenced] {
        let (cache, handle, mut calls) = cache_with(|route| route.body_limit(8 * MIB as u64));
        let mut stalled = Vec::new();
        for n in 0..9 {
            let reply = tokio::spawn(cache.clone().oneshot(get(&format!("/cases/{n}"))));
            let call = calls.next().await;
            let (body, gate) = GatedBody::gated(None);
            let length = if matches!(end, End::Incomplete) { "1" } else { "8388608" };
            let mut response = declared(length, body);
            if matches!(end, End::TooLarge | End::TooLargeAtOnce) {
                response.headers_mut().clear();
            }
            let is_too_large = response.headers().is_empty();
            let send = || {
                (0..8).for_each(|_| gate.send(vec![b'x'; MIB]));
                gate.send(if is_too_large { "x" } else { "" });
            };
            if matches!(end, End::TooLargeAtOnce) {
                send();
            }
            call.respond(response);
            stalled.push(opened(reply).await);
            if !matches!(end, End::TooLargeAtOnce) {
                send();
            }
            if matches!(end, End::Fenced) {
                handle.invalidate(format!("case:{n}")).await.unwrap();
            }
            match end {
                End::Failed => gate.fail(),
                _ => gate.end(),
            }
            settle().await;
        }
        let other = send(&cache, get("/cases/other"));
        calls.next().await.ok("stored");
        assert!(got(other).await.cache_status().ends_with(";stored"), "{end:?}");
        let bucket = handle.metrics().bucket("cases").cloned().unwrap();
        assert!(!bucket.refused.contains_key(&Refusal::Budget), "{end:?}");
        for reply in stalled {
            let body = support::read(reply).await.body;
            assert_eq!(body.is_err(), matches!(end, End::Failed), "{end:?}");
        }
    }
}

/// Bytes that an origin announces and does not send are nobody's memory.
#[tokio::test(start_paused = true)]
async fn bodies_that_stall_turn_storing_off_for_nobody() {
    const MIB: u64 = 1024 * 1024;
    let (cache, handle, mut calls) = cache_with(|route| route.body_limit(4 * MIB));
    let (mut replies, mut gates) = (Vec::new(), Vec::new());
    for n in 0..16 {
        let reply = tokio::spawn(cache.clone().oneshot(get(&format!("/cases/{n}"))));
        gates.push(calls.next().await.stream(Some(4 * MIB)));
        gates[n].send(vec![b'x'; MIB as usize]);
        replies.push(opened(reply).await);
    }
    let follower = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    let follower = opened(follower).await;
    let early = send(&cache, get("/cases/other"));
    calls.next().await.respond(declared("1", GatedBody::full("x")));
    assert!(got(early).await.cache_status().ends_with("detail=budget"));
    advance(Duration::from_secs(5)).await;
    settle().await;
    let late = send(&cache, get("/cases/other"));
    calls.next().await.respond(declared("1", GatedBody::full("x")));
    assert!(got(late).await.cache_status().ends_with(";stored"));
    // Others take the room. Who is alone goes on without being recorded, and who shares goes on.
    let mut greedy = Vec::new();
    for n in 20..36 {
        let reply = tokio::spawn(cache.clone().oneshot(get(&format!("/cases/{n}"))));
        greedy.push((calls.next().await.stream(Some(4 * MIB)), opened(reply).await));
    }
    for gate in gates {
        gate.send(vec![b'x'; 3 * MIB as usize]);
        settle().await;
        gate.end();
    }
    for reply in replies.into_iter().chain([follower]) {
        assert_eq!(support::read(reply).await.body.unwrap().len() as u64, 4 * MIB);
    }
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!(bucket.refused[&Refusal::Budget], 1 + 15, "all but the one that is shared");
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

/// The body's length and what it declared, with how it ends for a client of the bare origin.
#[tokio::test(start_paused = true)]
async fn bodies_that_contradict_their_length_reach_the_client_and_are_not_stored() {
    for (length, body) in [("4", "12345"), ("6", "12345"), ("x", "12345"), ("0", "1")] {
        for at_once in [true, false] {
            let (cache, handle, mut calls) = cache();
            let first = send(&cache, get("/cases/1"));
            let call = calls.next().await;
            let (gated, gate) = GatedBody::gated(None);
            if at_once {
                gate.send(body);
                drop(gate);
                call.respond(declared(length, gated));
            } else {
                call.respond(declared(length, gated));
                settle().await;
                gate.send(body);
                drop(gate);
            }
            assert_eq!(got(first).await.text(), body, "declared {length}, at once: {at_once}");
            let bucket = handle.metrics().bucket("cases").cloned().unwrap();
            assert_eq!((bucket.stored, bucket.refused[&Refusal::Incomplete]), (0, 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_fails_for_its_client_and_is_not_stored() {
    for at_once in [true, false] {
        let (cache, handle, mut calls) = cache();
        let first = send(&cache, get("/cases/1"));
        let call = calls.next().await;
        let (gated, gate) = GatedBody::gated(None);
        gate.send("half");
        if at_once {
            gate.fail();
            call.respond(Response::new(gated));
        } else {
            call.respond(Response::new(gated));
            settle().await;
            gate.fail();
        }
        assert_eq!(got(first).await.body, Err("the origin failed".to_owned()));
        assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0);
        assert_eq!(handle.metrics().flights, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_follower_shares_the_end_of_a_body_that_fails() {
    let (cache, _, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(10));
    gate.send("half");
    let mut follower = opened(open(&cache)).await;
    assert_eq!(chunk(&mut follower).await, "half");
    gate.fail();
    let error = follower.body_mut().frame().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the shared response body ended early");
    assert!(error.into_origin().is_none());
    assert_eq!(got(leader).await.body, Err("the origin failed".to_owned()));
}

/// It has failed before any of them reads.
#[tokio::test(start_paused = true)]
async fn every_reader_reads_what_came_before_a_body_failed() {
    let (cache, _, mut calls) = cache();
    let leader = open(&cache);
    let gate = calls.next().await.stream(Some(10));
    gate.send("half");
    let mut readers = [opened(leader).await, opened(open(&cache)).await];
    gate.fail();
    settle().await;
    for reader in &mut readers {
        assert_eq!(chunk(reader).await, "half");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_body_is_its_own_callers_alone() {
    let (cache, handle, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(10));
    gate.send("half");
    let follower = opened(open(&cache)).await;
    gate.panic();
    assert!(leader.await.unwrap_err().is_panic());
    assert_eq!(
        support::read(follower).await.body.unwrap_err(),
        "the shared response body ended early"
    );
    assert_eq!(handle.metrics().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_through_and_are_no_fields_of_a_hit() {
    for at_once in [true, false] {
        let (cache, _, mut calls) = cache();
        let first = send(&cache, get("/cases/1"));
        let call = calls.next().await;
        let (gated, gate) = GatedBody::gated(None);
        let response = Response::new(gated);
        let mut trailers = HeaderMap::new();
        trailers.insert("digest", "x".parse().unwrap());
        if at_once {
            gate.send("body");
            gate.trailers(trailers);
            drop(gate);
            call.respond(response);
        } else {
            call.respond(response);
            settle().await;
            gate.send("body");
            gate.trailers(trailers);
            drop(gate);
        }
        let first = got(first).await;
        assert_eq!(
            (first.text(), &first.trailers.as_ref().unwrap()["digest"]),
            ("body", &"x".parse().unwrap())
        );
        let hit = fetch(&cache, "/cases/1").await;
        assert!(hit.is_hit() && hit.trailers.is_none() && !hit.fields.contains_key("digest"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_is_neither_stored_nor_delayed() {
    let (cache, _, mut calls) = cache();
    let reply = open(&cache);
    let (body, gate) = GatedBody::gated(None);
    let response = Response::builder().header("content-type", "text/event-stream").body(body);
    calls.next().await.respond(response.unwrap());
    let mut reply = opened(reply).await;
    assert!(reply.headers()["cache-status"].to_str().unwrap().ends_with("detail=stream"));
    gate.send("data: 1\n\n");
    assert_eq!(chunk(&mut reply).await, "data: 1\n\n");
}

/// RFC 9110 §7.8: a field that asks for nothing leaves the request what it is.
#[tokio::test(start_paused = true)]
async fn only_an_upgrade_that_may_be_honoured_bypasses_the_cache() {
    let of = |version, connection, protocol| {
        let upgrade = support::with(get("/cases/1"), "upgrade", protocol);
        let mut request = support::with(upgrade, "connection", connection);
        *request.version_mut() = version;
        request
    };
    let (cache, handle, mut calls) = cache();
    for (version, connection, protocol) in [
        (Version::HTTP_11, "upgrade, http2-settings", "h2c"),
        (Version::HTTP_11, "Upgrade", "TLS/1.2"),
        (Version::HTTP_11, "keep-alive", "websocket"),
        (Version::HTTP_10, "upgrade", "websocket"),
    ] {
        let request = send(&cache, of(version, connection, protocol));
        // The first of them fills.
        if let Some(call) = calls.now().await {
            assert_eq!(call.head.headers["upgrade"], *protocol);
            call.ok("stored");
        }
        assert_eq!(got(request).await.text(), "stored");
    }
    assert_eq!(calls.count(), 1);
    let upgrade = send(&cache, of(Version::HTTP_11, "keep-alive, Upgrade", "WebSocket"));
    calls.next().await.ok("switched");
    let said = "support-cache;fwd=bypass;fwd-status=200;detail=upgrade";
    assert_eq!(got(upgrade).await.cache_status(), said);
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.hits, counts.misses, counts.bypassed[&Bypass::Upgrade]), (3, 1, 1));
}

/// An origin that switches all the same says nothing of the resource.
#[tokio::test(start_paused = true)]
async fn a_switch_that_one_request_provokes_is_not_remembered() {
    let (cache, _, mut calls) = cache();
    let upgrade = support::with(get("/cases/1"), "upgrade", "h2c");
    let upgrade = send(&cache, support::with(upgrade, "connection", "upgrade"));
    calls.next().await.with(101, ("upgrade", "h2c"), "");
    assert_eq!(got(upgrade).await.status, 101);
    let request = send(&cache, get("/cases/1"));
    calls.next().await.ok("whole");
    assert!(got(request).await.cache_status().ends_with(";stored"));
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_stored() {
    let (cache, _, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("");
    got(first).await;
    let hit = fetch(&cache, "/cases/1").await;
    assert!(hit.is_hit() && hit.text().is_empty());
}
