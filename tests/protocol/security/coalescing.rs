//! What requests that wait for each other share: `SEC-COAL-*`.

use std::time::Duration;

use http::Method;
use tokio::time::advance;
use tower_support_cache::Alone;

use super::support::{
    Cached, Call, Calls, Sent, cache, cache_with, fetch, get, got, request, send, settle, with,
};

/// A leader at the origin, and `count` requests that follow it.
async fn burst(cache: &Cached, calls: &mut Calls, count: usize) -> (Sent, Call, Vec<Sent>) {
    let leader = send(cache, get("/cases/1"));
    let call = calls.next().await;
    let followers = (0..count).map(|_| send(cache, get("/cases/1"))).collect();
    settle().await;
    assert_eq!(calls.count(), 1, "followers wait");
    (leader, call, followers)
}

#[tokio::test(start_paused = true)]
async fn sec_coal_1_no_follower_sees_what_may_not_be_stored_and_none_queues() {
    for (status, field) in [
        (200, ("set-cookie", "sid=leader")),
        (200, ("set-cookie2", "sid=leader")),
        (200, ("www-authenticate", "Basic")),
        (200, ("cache-control", "private")),
        (200, ("cache-control", "PRIVATE=\"x\"")),
        (200, ("cache-control", "no-store")),
        (200, ("cache-control", "no-cache")),
        (200, ("vary", "*")),
        (200, ("content-length", "2000000")),
        (206, ("content-range", "bytes 0-3/9")),
        (302, ("location", "/")),
        (401, ("www-authenticate", "Basic")),
        (404, ("x", "leader")),
        (500, ("x", "leader")),
    ] {
        let (cache, handle, mut calls) = cache();
        let (leader, call, followers) = burst(&cache, &mut calls, 20).await;
        call.with(status, field, "leader");
        got(leader).await;
        let own = calls.all().await;
        assert_eq!(own.len(), 20, "all at once, after {status} {field:?}");
        own.into_iter().for_each(|call| call.ok("own"));
        for follower in followers {
            let follower = got(follower).await;
            assert_eq!((follower.text(), follower.fields.get(field.0)), ("own", None));
        }
        assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0, "{status} {field:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_coal_1_a_body_that_turns_out_too_large_is_the_leaders_own() {
    let (cache, _, mut calls) = cache_with(|route| route.body_limit(4));
    let (leader, call, followers) = burst(&cache, &mut calls, 5).await;
    let gate = call.stream(None);
    gate.send("lead");
    // It is on its way to the leader, and still fits, when it turns out to be too large.
    settle().await;
    gate.send("er");
    gate.end();
    assert_eq!(got(leader).await.text(), "leader");
    let own = calls.all().await;
    assert_eq!(own.len(), 5);
    own.into_iter().for_each(|call| call.ok("own"));
    for follower in followers {
        assert_eq!(got(follower).await.text(), "own");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_coal_2_a_follower_with_another_value_of_a_nominated_field_asks_for_itself() {
    let (cache, _, mut calls) = cache();
    let speaking = |language| with(get("/cases/1"), "accept-language", language);
    let leader = send(&cache, speaking("de"));
    let call = calls.next().await;
    let (same, other) = (send(&cache, speaking("de")), send(&cache, speaking("fr")));
    settle().await;
    call.with(200, ("vary", "Accept-Language"), "hallo");
    assert_eq!((got(leader).await.text(), got(same).await.text()), ("hallo", "hallo"));
    calls.now().await.expect("French is asked for").with(200, ("vary", "accept-language"), "salut");
    assert_eq!(got(other).await.text(), "salut");
    assert_eq!(calls.count(), 2);
}

/// Waits for a follower, but not for ever.
async fn soon(follower: Sent) -> super::support::Got {
    tokio::time::timeout(Duration::from_secs(60), got(follower)).await.expect("nobody answers it")
}

/// How a leader comes to nothing.
#[derive(Clone, Copy, Debug)]
enum Ruin {
    Fails,
    Panics,
    BodyFails,
    BodyPanics,
}

#[tokio::test(start_paused = true)]
async fn sec_coal_3_a_ruined_leader_stores_nothing_and_leaves_nobody_waiting() {
    for ruin in [Ruin::Fails, Ruin::Panics, Ruin::BodyFails, Ruin::BodyPanics] {
        let (cache, handle, mut calls) = cache();
        let (leader, call, followers) = burst(&cache, &mut calls, 5).await;
        match ruin {
            Ruin::Fails => call.fail(),
            Ruin::Panics => call.panic(),
            Ruin::BodyFails | Ruin::BodyPanics => {
                // Of unknown length, so that followers wait for its end.
                let gate = call.stream(None);
                gate.send("half");
                settle().await;
                if let Ruin::BodyFails = ruin { gate.fail() } else { gate.panic() }
            }
        }
        let _ = leader.await;
        // One leads anew, or each asks for itself.
        loop {
            let own = calls.all().await;
            if own.is_empty() {
                break;
            }
            own.into_iter().for_each(|call| call.ok("whole"));
        }
        for follower in followers {
            assert_eq!(soon(follower).await.text(), "whole", "{ruin:?}");
        }
        assert_eq!(handle.metrics().flights, 0, "{ruin:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_coal_3_a_cancelled_leader_harms_no_follower() {
    for is_in_mid_body in [false, true] {
        let (cache, handle, mut calls) = cache();
        let (leader, call, followers) = burst(&cache, &mut calls, 5).await;
        let gate = if is_in_mid_body {
            let gate = call.stream(None);
            gate.send("who");
            settle().await;
            leader.abort();
            gate
        } else {
            leader.abort();
            settle().await;
            let gate = call.stream(None);
            gate.send("who");
            gate
        };
        settle().await;
        gate.send("le");
        gate.end();
        for follower in followers {
            assert_eq!(soon(follower).await.text(), "whole");
        }
        assert_eq!((calls.count(), handle.metrics().flights), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn sec_coal_4_a_leader_that_has_the_response_already_does_not_make_a_304_of_it_for_others() {
    let (cache, _, mut calls) = cache();
    let tagged = with(get("/cases/1"), "if-none-match", "\"v1\"");
    let attacker = send(&cache, tagged);
    let call = calls.next().await;
    let victims: Vec<_> = (0..5).map(|_| send(&cache, get("/cases/1"))).collect();
    settle().await;
    // An origin that sees the condition answers 304, as a real one does.
    let is_seen = call.head.headers.contains_key("if-none-match");
    call.with(if is_seen { 304 } else { 200 }, ("etag", "\"v1\""), if is_seen { "" } else { "v1" });
    assert_eq!(got(attacker).await.status, 304);
    for victim in victims {
        let victim = soon(victim).await;
        assert_eq!((victim.status.as_u16(), victim.text()), (200, "v1"));
    }
    let later = fetch(&cache, "/cases/1").await;
    assert_eq!((later.status.as_u16(), later.text(), calls.count()), (200, "v1", 1));
}

#[tokio::test(start_paused = true)]
async fn sec_coal_4_a_part_or_a_head_never_becomes_the_entity() {
    for (attacker, status, field) in [
        (with(get("/cases/1"), "range", "bytes=0-0"), 206, ("content-range", "bytes 0-0/5")),
        (request(Method::HEAD, "/cases/1"), 200, ("content-length", "5")),
        (with(get("/cases/1"), "if-match", "\"x\""), 412, ("x", "y")),
        (with(get("/cases/1"), "if-unmodified-since", "0"), 412, ("x", "y")),
    ] {
        let (cache, _, mut calls) = cache();
        let attacker = send(&cache, attacker);
        let call = calls.next().await;
        let victim = send(&cache, get("/cases/1"));
        let own = calls.now().await.expect("the victim does not wait for it");
        call.with(status, field, "");
        got(attacker).await;
        own.ok("whole");
        assert_eq!(got(victim).await.text(), "whole");
        assert_eq!(fetch(&cache, "/cases/1").await.text(), "whole");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_coal_5_followers_over_the_limit_forward_for_themselves() {
    const FOLLOWERS: usize = 10_000;
    let (cache, handle, mut calls) = cache();
    let (leader, call, followers) = burst(&cache, &mut calls, FOLLOWERS).await;
    let crowd: Vec<_> = (0..20).map(|_| send(&cache, get("/cases/1"))).collect();
    let own = calls.all().await;
    assert_eq!(own.len(), 20, "shed at once");
    own.into_iter().for_each(|call| call.ok("own"));
    for one in crowd {
        let one = got(one).await;
        assert!(one.text() == "own" && one.cache_status().ends_with("detail=crowd"), "{one:?}");
    }
    call.ok("shared");
    assert_eq!(got(leader).await.text(), "shared");
    for follower in followers {
        assert_eq!(got(follower).await.text(), "shared");
    }
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.coalesced, counts.alone[&Alone::Crowd]), (FOLLOWERS as u64, 20));
}

#[tokio::test(start_paused = true)]
async fn sec_coal_5_a_slow_leader_is_neither_waited_for_nor_joined_for_ever() {
    let (cache, _, mut calls) = cache();
    let (_leader, slow, followers) = burst(&cache, &mut calls, 3).await;
    advance(Duration::from_secs(5)).await;
    let own = calls.all().await;
    assert_eq!(own.len(), 3, "each forwards for itself");
    own.into_iter().for_each(|call| call.ok("own"));
    for follower in followers {
        assert!(got(follower).await.cache_status().ends_with("detail=deadline"));
    }
    let late = send(&cache, get("/cases/1"));
    calls.now().await.expect("a new flight").ok("new");
    assert_eq!(got(late).await.text(), "new");
    assert!(slow.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn sec_coal_6_a_request_after_an_invalidation_does_not_join_an_older_flight() {
    let (cache, handle, mut calls) = cache();
    let (leader, old, followers) = burst(&cache, &mut calls, 1).await;
    handle.invalidate("case:1").await.unwrap();
    let late = send(&cache, get("/cases/1"));
    let new = calls.now().await.expect("a flight of its own");
    old.ok("old");
    assert_eq!(got(leader).await.text(), "old");
    for follower in followers {
        assert_eq!(got(follower).await.text(), "old");
    }
    new.ok("new");
    assert_eq!(got(late).await.text(), "new");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}
