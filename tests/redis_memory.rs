//! Memory over Redis: requests that meet a server that hangs leave nothing behind, as the allocator
//! sees it. A binary of its own: the allocator counts for the whole process.

#![allow(clippy::unwrap_used)] // Clippy sees no test in a function that tests share.

#[path = "support/server.rs"]
mod server;
mod support;

use std::{alloc::System, time::Duration};

use server::{PATIENCE, Server, pause, until};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{cache_on, fetch, response};
use tower_support_cache::{Bypass, RedisStore};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// Whoever asks a server that hangs leaves its question with the connection, which must therefore be
/// dropped.
#[tokio::test]
async fn requests_leave_nothing_behind_while_the_server_hangs() {
    let server = Server::start().await;
    let (cache, handle, calls) =
        cache_on(RedisStore::connect(server.url()).unwrap(), |route| route);
    calls.serve(|_| response(200, &[], "body"));
    until(PATIENCE, "responses are stored", async || {
        fetch(&cache, "/cases/1").await.is_hit().then_some(())
    })
    .await;
    let is_linked = || handle.metrics().store.unwrap().is_linked;
    server.stop();
    until(PATIENCE, "the link is given up", async || {
        fetch(&cache, "/cases/1").await;
        (!is_linked()).then_some(())
    })
    .await;
    let mut after = Vec::new();
    for _ in 0..3 {
        for case in 0..10_000 {
            assert_eq!(fetch(&cache, &format!("/cases/{case}")).await.status, 200);
        }
        // Whatever a task of ours was about to drop.
        pause(Duration::from_millis(100)).await;
        after.push(live());
    }
    let bypassed = handle.metrics().bucket("cases").unwrap().bypassed[&Bypass::Store];
    assert!(bypassed >= 30_000, "{bypassed} requests");
    let grown = after[2] - after[0];
    println!("live after 10,000, 20,000 and 30,000 requests: {after:?}");
    assert!(grown < 256 * 1024, "{grown} bytes more after 20,000 requests");
    server.cont();
    until(PATIENCE, "there are hits again", async || {
        fetch(&cache, "/cases/1").await.is_hit().then_some(())
    })
    .await;
}
