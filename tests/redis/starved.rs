//! Processes whose runtime is starved, not driven, or without timers, while the server is up.

#![allow(clippy::disallowed_methods)] // Blocks are of the machine's time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use tower_support_cache::{Bypass, RedisStore, RedisStoreBuilder};

use crate::{
    PATIENCE, Site,
    server::{Server, until},
    support::{Cached, fetch, get, got, response, send},
};

const WORKERS: usize = 2;
const BLOCKED: Duration = Duration::from_millis(400);
const FREE: Duration = Duration::from_millis(20);
const ROUNDS: u32 = 12;

/// Limits that are shorter than a block, and that the server of a busy machine keeps.
fn prompt(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url)
        .lookup_budget(Duration::from_millis(200))
        .heartbeat_timeout(Duration::from_millis(150))
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap()
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Blocks every worker at the same time, again and again. There are more tasks than workers, since one that
/// a worker is about to run cannot be taken over by another.
async fn starve() {
    let begin = Instant::now();
    let blocking = || {
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let end = begin + (round + 1) * (FREE + BLOCKED);
                tokio::time::sleep_until((end - BLOCKED).into()).await;
                std::thread::sleep(end.saturating_duration_since(Instant::now()));
            }
        })
    };
    let blocking: Vec<_> = (0..3 * WORKERS).map(|_| blocking()).collect();
    for each in blocking {
        each.await.unwrap();
    }
}

/// Reads until it is stopped, and returns the number of reads.
async fn read(cache: Cached<RedisStore>, is_over: impl Fn() -> bool, yields: bool) -> usize {
    let mut count = 0;
    while !is_over() {
        let reply = cache.clone().oneshot(get("/cases/1")).await.unwrap();
        assert_eq!(reply.status(), 200);
        count += 1;
        if yields {
            tokio::task::yield_now().await;
        }
    }
    count
}

async fn is_stored(cache: &Cached<RedisStore>) {
    until(PATIENCE, "a response is stored", async || {
        fetch(cache, "/cases/1").await.is_hit().then_some(())
    })
    .await;
}

/// With a link that stays proven in time, none of these reads would ask the origin.
#[test]
fn a_starved_runtime_takes_no_read_to_the_origin() {
    for near in [0, 32 << 20] {
        multi_thread().block_on(async {
            let server = Server::start().await;
            let store = prompt(&server.url()).near_cache_capacity(near).build().unwrap();
            let Site { cache, handle, calls } = Site::over(store).await;
            let asked = calls.serve(|_| response(200, &[], "stored"));
            is_stored(&cache).await;
            let (before, is_over) = (asked.load(SeqCst), Arc::new(AtomicBool::new(false)));
            let reading = || {
                let is_over = Arc::clone(&is_over);
                tokio::spawn(read(cache.clone(), move || is_over.load(SeqCst), true))
            };
            let readers: Vec<_> = (0..32).map(|_| reading()).collect();
            starve().await;
            is_over.store(true, SeqCst);
            let mut reads = 0;
            for reader in readers {
                reads += reader.await.unwrap();
            }
            let store = handle.metrics().store.unwrap();
            let forwarded = asked.load(SeqCst) - before;
            println!("near cache of {near} bytes: {forwarded} of {reads} reads asked the origin");
            assert_eq!(forwarded, 0, "of {reads} reads: {store:?}");
            assert!(reads > 0 && store.late_timers > 0, "{reads} {store:?}");
            assert_eq!(store.links_lost, 0);
        });
    }
}

/// Hits of the near cache that keep the runtime from anything else, heartbeats included.
#[test]
fn readers_that_never_yield_take_no_read_to_the_origin() {
    current_thread().block_on(async {
        let server = Server::start().await;
        let Site { cache, calls, .. } = Site::over(prompt(&server.url()).build().unwrap()).await;
        let asked = calls.serve(|_| response(200, &[], "stored"));
        is_stored(&cache).await;
        let (before, end) = (asked.load(SeqCst), Instant::now() + 8 * BLOCKED);
        let reading = || tokio::spawn(read(cache.clone(), move || Instant::now() > end, false));
        let readers: Vec<_> = (0..64).map(|_| reading()).collect();
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(asked.load(SeqCst) - before, 0);
    });
}

#[test]
fn a_link_moves_to_a_runtime_that_is_driven() {
    let server = multi_thread();
    let (server, url) = server.block_on(async {
        let server = Server::start().await;
        let url = server.url();
        (server, url)
    });
    for is_linked in [true, false] {
        let first = current_thread();
        let mut site = first.block_on(async {
            let store = prompt(&url).near_cache_capacity(0).build().unwrap();
            let mut site = Site::lazy(store, |route| route);
            if is_linked {
                site = site.linked().await;
                site.fill("stored").await;
            }
            site
        });
        // It is alive, and nobody drives it.
        multi_thread().block_on(async {
            site.is_linked_again().await;
            site.fill("stored").await;
            site.hits("stored").await;
            site.handle.invalidate("case:1").await.unwrap();
        });
        drop(first);
    }
    drop(server);
}

#[test]
fn without_timers_the_server_is_not_asked_and_no_request_fails() {
    let other = multi_thread();
    let server = other.block_on(Server::start());
    let site = other.block_on(async { Site::on(&server.url()).await });
    let Site { cache, handle, mut calls } = site;
    Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
        for _ in 0..3 {
            let forwarded = send(&cache, get("/cases/1"));
            calls.next().await.ok("forwarded");
            assert_eq!(got(forwarded).await.text(), "forwarded");
        }
        assert!(handle.invalidate("case:1").await.is_err(), "it is pending");
    });
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!(counts.bypassed.get(&Bypass::Store), Some(&3), "{counts:?}");
    other.block_on(async {
        until(PATIENCE, "the invalidation is delivered", async || {
            (handle.metrics().store.unwrap().pending == 0).then_some(())
        })
        .await;
    });
}
