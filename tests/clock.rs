//! Time that only the clock of the day sees: a machine that was suspended, a clock that was set. It is
//! that of the whole process, so these tests are alone in theirs, and take turns.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

#[path = "support/server.rs"]
mod server;
#[path = "support/mod.rs"]
mod support;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use server::{PATIENCE, Server, until};
use support::{TTL, cache_with, fetch, get, got, response, send, settle};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::advance,
};
use tower::ServiceExt;
use tower_support_cache::{RedisStore, testing::step_time_of_day};

const HOUR: i64 = 3_600_000;

async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

#[tokio::test(start_paused = true)]
async fn time_that_only_the_clock_of_the_day_has_seen_is_age() {
    let _alone = alone().await;
    let (cache, _, calls) = cache_with(|route| route);
    calls.serve(|_| response(200, &[], "x"));
    fetch(&cache, "/cases/1").await;
    advance(Duration::from_secs(5)).await;
    step_time_of_day(20_100);
    let hit = fetch(&cache, "/cases/1").await;
    assert_eq!((hit.is_hit(), hit.age()), (true, Some(25)));
    step_time_of_day(35_100);
    assert!(
        !fetch(&cache, "/cases/1").await.is_hit(),
        "it was suspended for longer than it is fresh"
    );
    assert!(fetch(&cache, "/cases/1").await.is_hit(), "and is stored anew");
}

/// An hour back and forth again: both clocks have counted some of that time.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_nothing_younger() {
    let _alone = alone().await;
    let (cache, _, calls) = cache_with(|route| route);
    calls.serve(|_| response(200, &[], "x"));
    fetch(&cache, "/cases/1").await;
    step_time_of_day(-HOUR);
    advance(Duration::from_secs(5)).await;
    assert_eq!(fetch(&cache, "/cases/1").await.age(), Some(5));
    step_time_of_day(30_100);
    assert_eq!(fetch(&cache, "/cases/1").await.age(), Some(35));
    advance(Duration::from_secs(25)).await;
    assert!(!fetch(&cache, "/cases/1").await.is_hit());
    step_time_of_day(HOUR - 30_000);
    assert!(!fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_stale_window_is_over_after_a_suspension() {
    let _alone = alone().await;
    let (cache, _, mut calls) = cache_with(|route| route.stale_while_revalidate(TTL));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(first).await;
    step_time_of_day(HOUR);
    let late = send(&cache, get("/cases/1"));
    calls.now().await.expect("nothing stale answers").ok("new");
    assert_eq!(got(late).await.text(), "new");
}

/// Timers know the monotonic clock alone. A limit that is set after a suspension is no longer for that.
#[tokio::test(start_paused = true)]
async fn what_waits_waits_as_long_as_ever() {
    let _alone = alone().await;
    let (cache, _, mut calls) = cache_with(|route| route);
    // What a process has not seen before, it cannot have missed.
    let first = send(&cache, get("/cases/2"));
    calls.next().await.ok("x");
    got(first).await;
    step_time_of_day(HOUR);
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    advance(Duration::from_millis(4900)).await;
    assert!(calls.now().await.is_none(), "it still waits");
    advance(Duration::from_millis(200)).await;
    calls.now().await.expect("it has waited for five seconds").ok("own");
    assert_eq!(got(follower).await.text(), "own");
    call.ok("slow");
    got(leader).await;
}

/// The server's message that a key has changed may have been sent meanwhile.
#[tokio::test]
async fn a_near_cache_is_silent_after_a_suspension_until_the_link_is_proven_again() {
    let _alone = alone().await;
    let server = Server::start().await;
    let store = RedisStore::connect(server.url()).unwrap();
    let (cache, handle, calls) = support::cache_on(store, |route| route);
    calls.serve(|_| response(200, &[], "x"));
    let is_answered_at_once = || {
        let mut answer = pin!(cache.clone().oneshot(get("/cases/1")));
        answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    let has_near = async || {
        until(PATIENCE, "a copy answers", async || {
            fetch(&cache, "/cases/1").await;
            is_answered_at_once().then_some(())
        })
        .await;
    };
    has_near().await;
    step_time_of_day(1000);
    assert!(!is_answered_at_once());
    // It is as fresh as it was, but for that second.
    has_near().await;
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 1);
}
