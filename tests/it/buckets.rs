//! Invalidations of a bucket: everything that its routes have stored.

use std::time::Duration;

use tokio::time::advance;
use tower::Layer;
use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheHandle, SupportCacheLayer};

use crate::support::{Cached, Calls, TTL, fetch, get, got, origin, response, send, settle};

const WINDOW: Duration = Duration::from_secs(10);

/// Two routes of one bucket, and one of another.
fn shop(store: MemoryStore) -> (Cached, SupportCacheHandle, Calls) {
    let route = |pattern: &str, bucket: &str| {
        let route = CacheRoute::get(pattern).bucket(bucket).key(pattern.trim_start_matches('/'));
        route.ttl(TTL).jitter(0).stale_while_revalidate(WINDOW)
    };
    let layer = SupportCacheLayer::builder(store)
        .cache(route("/lists", "lists"))
        .cache(route("/more-lists", "lists"))
        .cache(route("/items", "items"))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

const TARGETS: [&str; 3] = ["/lists", "/more-lists", "/items"];

async fn are_hits(cache: &Cached) -> Vec<bool> {
    let mut hits = Vec::new();
    for target in TARGETS {
        hits.push(fetch(cache, target).await.is_hit());
    }
    hits
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_all_of_its_routes_and_nothing_else() {
    let store = MemoryStore::new();
    let (cache, handle, calls) = shop(store.clone());
    let (other, _, other_calls) = shop(store);
    calls.serve(|_| response(200, &[], "x"));
    other_calls.serve(|_| response(200, &[], "x"));
    are_hits(&cache).await;
    handle.invalidate_bucket("lists").await.unwrap();
    // By a layer that means the same, too.
    assert_eq!(are_hits(&other).await, [false, false, true]);
    assert_eq!(are_hits(&cache).await, [true; 3]);
    let before = handle.metrics();
    handle.invalidate_bucket("none").await.unwrap();
    handle.soft_invalidate_bucket("none").await.unwrap();
    assert_eq!(are_hits(&cache).await, [true; 3]);
    let after = handle.metrics();
    assert_eq!(after.invalidations_unmatched - before.invalidations_unmatched, 2);
    assert_eq!((before.invalidations, after.invalidations), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_soft_one_leaves_what_may_be_stale() {
    let (cache, handle, calls) = shop(MemoryStore::new());
    calls.serve(|_| response(200, &[], "x"));
    are_hits(&cache).await;
    handle.soft_invalidate_bucket("lists").await.unwrap();
    for (target, is_stale) in TARGETS.into_iter().zip([true, true, false]) {
        let read = fetch(&cache, target).await;
        assert!(read.is_hit(), "{target}");
        assert_eq!(
            read.cache_status().contains("detail=stale-while-revalidate"),
            is_stale,
            "{target}"
        );
    }
    settle().await;
    handle.soft_invalidate_bucket("lists").await.unwrap();
    advance(WINDOW).await;
    assert_eq!(are_hits(&cache).await, [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_has_begun_is_not_stored_and_late_comers_do_not_join_it() {
    for is_soft in [false, true] {
        let (cache, handle, mut calls) = shop(MemoryStore::new());
        let early = send(&cache, get("/lists"));
        let old = calls.next().await;
        let elsewhere = send(&cache, get("/items"));
        let item = calls.next().await;
        match is_soft {
            true => handle.soft_invalidate_bucket("lists").await.unwrap(),
            false => handle.invalidate_bucket("lists").await.unwrap(),
        }
        let late = send(&cache, get("/lists"));
        let new = calls.now().await.expect("who comes after it asks for itself");
        old.ok("old");
        let read = got(early).await;
        assert!(read.cache_status().ends_with("detail=fenced"), "{}", read.cache_status());
        new.ok("new");
        assert_eq!(got(late).await.text(), "new");
        assert_eq!(fetch(&cache, "/lists").await.text(), "new");
        item.ok("item");
        got(elsewhere).await;
        assert!(fetch(&cache, "/items").await.is_hit(), "of another bucket");
    }
}
