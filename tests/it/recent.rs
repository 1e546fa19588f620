//! The recorder of the last outcomes: bounded, and nothing in it names a caller or a resource.

use std::time::Duration;

use tokio::time::advance;
use tower::Layer;
use tower_support_cache::{
    Bypass, CacheOutcome, CacheRoute, ConfigErrorKind, MemoryStore, RecordedOutcome, Routes,
    SupportCacheHandle, SupportCacheLayer,
};

use crate::support::{Cached, Calls, TTL, fetch, get, got, origin, response, send, with};

const SECOND: Duration = Duration::from_secs(1);

fn route() -> CacheRoute {
    CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL).jitter(0)
}

fn recording(count: usize) -> (Cached, SupportCacheHandle, Calls) {
    let builder = SupportCacheLayer::builder(MemoryStore::new()).record_outcomes(count);
    let layer = builder.cache(route()).build().unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

fn names(recorded: &[RecordedOutcome]) -> Vec<&'static str> {
    recorded.iter().map(|recorded| recorded.outcome.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_recorded_with_its_times_and_its_size() {
    let (cache, handle, mut calls) = recording(10);
    let miss = send(&cache, get("/cases/7"));
    let call = calls.next().await;
    advance(2 * SECOND).await;
    call.respond(response(200, &[("content-length", "4")], "case"));
    got(miss).await;
    advance(3 * SECOND).await;
    fetch(&cache, "/cases/7").await;
    let bypass = send(&cache, with(get("/cases/7"), "authorization", "a"));
    calls.next().await.ok("");
    got(bypass).await;
    let recorded = handle.recent_outcomes("cases");
    let outcomes: Vec<_> = recorded.iter().map(|recorded| recorded.outcome).collect();
    let bypassed = CacheOutcome::Bypass(Bypass::Credentials);
    assert_eq!(outcomes, [CacheOutcome::Miss(Ok(())), CacheOutcome::Hit, bypassed]);
    let [miss, hit, bypass] = recorded[..] else { panic!("{recorded:?}") };
    assert_eq!((miss.age, miss.origin_time, miss.size), (None, Some(2 * SECOND), Some(4)));
    assert_eq!((hit.age, hit.origin_time, hit.size), (Some(5 * SECOND), None, Some(4)));
    assert_eq!((bypass.age, bypass.size), (None, None));
    assert_eq!(hit.at.duration_since(miss.at).unwrap().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_last_ones_are_kept_and_no_more() {
    let (cache, handle, calls) = recording(3);
    calls.serve(|_| response(200, &[], "case"));
    for case in 0..5 {
        fetch(&cache, &format!("/cases/{case}")).await;
        advance(SECOND).await;
    }
    fetch(&cache, "/cases/0").await;
    assert_eq!(names(&handle.recent_outcomes("cases")), ["miss", "miss", "hit"]);
    assert!(handle.recent_outcomes("another").is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recorded_unless_it_is_asked_for() {
    let (cache, handle, calls) = recording(0);
    calls.serve(|_| response(200, &[], "case"));
    fetch(&cache, "/cases/7").await;
    assert!(handle.recent_outcomes("cases").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_a_reload_brings_is_recorded_too() {
    let (cache, handle, calls) = recording(3);
    calls.serve(|_| response(200, &[], "case"));
    handle.reload(Routes::new().cache(route().bucket("new"))).unwrap();
    fetch(&cache, "/cases/7").await;
    assert_eq!(names(&handle.recent_outcomes("new")), ["miss"]);
}

#[test]
fn more_than_memory_should_hold_is_refused() {
    let builder = SupportCacheLayer::builder(MemoryStore::new()).record_outcomes(65_537);
    let error = builder.cache(route()).build().unwrap_err();
    assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Limit, "record_outcomes"));
}

/// Threads write to rings of their own; none is lost among them.
#[test]
fn what_all_threads_record_is_there() {
    let builder = SupportCacheLayer::builder(MemoryStore::new()).record_outcomes(1000);
    let layer = builder.cache(route()).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let layer = layer.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.unwrap().block_on(async {
                    let (origin, calls) = origin();
                    calls.serve(|_| response(200, &[], "case"));
                    let cache = layer.layer(origin);
                    for case in 0..50 {
                        fetch(&cache, &format!("/cases/{thread}-{case}")).await;
                    }
                });
            });
        }
    });
    assert_eq!(layer.handle().recent_outcomes("cases").len(), 400);
}
