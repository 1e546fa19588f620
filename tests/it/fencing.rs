//! Fences: a fill that began before an invalidation is not stored, whoever invalidates.

use http::Method;
use tokio::task::JoinHandle;
use tower_support_cache::{Alone, MemoryStore, SupportCacheHandle};

use crate::support::{
    self, BodyGate, Cached, Calls, Got, OriginError, cache, cache_on, fetch, get, request, send,
    settle,
};

const FENCED: &str = "support-cache;fwd=uri-miss;fwd-status=200;detail=fenced";

type Reading = JoinHandle<Result<Got, OriginError>>;

async fn got(reading: Reading) -> Got {
    reading.await.unwrap().unwrap()
}

/// Asserts that the one fill so far was fenced and that nothing is stored.
async fn assert_fenced(cache: &Cached, handle: &SupportCacheHandle, calls: &mut Calls) {
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!((bucket.fenced, bucket.stored, bucket.entries), (1, 0, 0));
    let next = send(cache, get("/cases/1"));
    calls.now().await.expect("nothing is stored, so the origin is asked").ok("new");
    assert!(got(next).await.cache_status().ends_with(";stored"), "a later fill is stored");
    assert_eq!(fetch(cache, "/cases/1").await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_the_key_fences_a_fill() {
    let (cache, handle, mut calls) = cache();
    let reading = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    call.ok("old");
    let read = got(reading).await;
    assert_eq!((read.text(), read.cache_status()), ("old", FENCED));
    assert_fenced(&cache, &handle, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_everything_fences_a_fill() {
    let (cache, handle, mut calls) = cache();
    let reading = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    handle.invalidate_all().await.unwrap();
    call.ok("old");
    assert_eq!(got(reading).await.cache_status(), FENCED);
    assert_fenced(&cache, &handle, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_through_the_layer_fences_a_fill() {
    let (cache, handle, mut calls) = cache();
    let reading = send(&cache, get("/cases/1"));
    let read = calls.next().await;
    let writing = send(&cache, request(Method::POST, "/cases/1/comments"));
    calls.next().await.with(201, ("location", "/x"), "");
    got(writing).await;
    read.ok("old");
    assert_eq!(got(reading).await.cache_status(), FENCED);
    assert_fenced(&cache, &handle, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_to_the_cached_path_fences_a_fill() {
    let (cache, handle, mut calls) = cache();
    let reading = send(&cache, get("/cases/1"));
    let read = calls.next().await;
    let writing = send(&cache, request(Method::PUT, "/cases/1"));
    calls.next().await.ok("");
    got(writing).await;
    read.ok("old");
    assert_eq!(got(reading).await.cache_status(), FENCED);
    assert_fenced(&cache, &handle, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_refused_fences_nothing() {
    let (cache, _, mut calls) = cache();
    let reading = send(&cache, get("/cases/1"));
    let read = calls.next().await;
    let writing = send(&cache, request(Method::POST, "/cases/1/comments"));
    calls.next().await.with(403, ("x", "y"), "");
    got(writing).await;
    read.ok("still true");
    assert!(got(reading).await.cache_status().ends_with(";stored"));
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn another_layers_handle_on_the_store_fences_a_fill() {
    for is_for_all in [false, true] {
        let store = MemoryStore::new();
        let (cache, handle, mut calls) = cache_on(store.clone(), |route| route);
        let (_, other, _) = cache_on(store, |route| route.bucket("another"));
        let reading = send(&cache, get("/cases/1"));
        let call = calls.next().await;
        match is_for_all {
            true => other.invalidate_all().await.unwrap(),
            false => other.invalidate("case:1").await.unwrap(),
        }
        call.ok("old");
        assert_eq!(got(reading).await.cache_status(), FENCED);
        assert_fenced(&cache, &handle, &mut calls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_layers_write_on_the_store_fences_a_fill() {
    let store = MemoryStore::new();
    let (cache, handle, mut calls) = cache_on(store.clone(), |route| route);
    let (other, _, mut other_calls) = cache_on(store, |route| route);
    let reading = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let writing = send(&other, request(Method::POST, "/cases/1/comments"));
    other_calls.next().await.ok("");
    got(writing).await;
    call.ok("old");
    assert_eq!(got(reading).await.cache_status(), FENCED);
    assert_fenced(&cache, &handle, &mut calls).await;
}

/// A fill whose head has been sent and whose body is on the way.
async fn streaming(cache: &Cached, calls: &mut Calls) -> (Reading, BodyGate) {
    let reading = send(cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(6));
    gate.send("old");
    settle().await;
    (reading, gate)
}

#[tokio::test(start_paused = true)]
async fn a_fill_is_fenced_while_its_body_is_on_the_way() {
    let (cache, handle, mut calls) = cache();
    let (reading, gate) = streaming(&cache, &mut calls).await;
    handle.invalidate("case:1").await.unwrap();
    gate.send("er!");
    gate.end();
    let read = got(reading).await;
    assert_eq!(read.text(), "older!");
    // The head had gone before anyone could know.
    assert!(read.cache_status().ends_with(";stored"));
    assert_fenced(&cache, &handle, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_after_an_invalidation_joins_no_older_flight() {
    let (cache, handle, mut calls) = cache();
    let before = [send(&cache, get("/cases/1")), send(&cache, get("/cases/1"))];
    let old = calls.next().await;
    settle().await;
    handle.invalidate("case:1").await.unwrap();
    let after = [send(&cache, get("/cases/1")), send(&cache, get("/cases/1"))];
    let new = calls.next().await;
    settle().await;
    assert_eq!(calls.count(), 2, "those who came after have one flight of their own");
    new.ok("new");
    for reading in after {
        assert_eq!(got(reading).await.text(), "new");
    }
    old.ok("old");
    for reading in before {
        assert_eq!(got(reading).await.text(), "old");
    }
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new", "the older fill changes nothing");
    assert_eq!(handle.metrics().bucket("cases").unwrap().fenced, 1);
}

#[tokio::test(start_paused = true)]
async fn an_older_flight_that_ends_leaves_the_newer_one_to_be_joined() {
    let (cache, handle, mut calls) = cache();
    let before = send(&cache, get("/cases/1"));
    let old = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    let after = send(&cache, get("/cases/1"));
    let new = calls.next().await;
    old.ok("old");
    got(before).await;
    let later = send(&cache, get("/cases/1"));
    assert!(calls.now().await.is_none(), "it joins the newer flight");
    new.ok("new");
    assert_eq!([got(after).await.text(), got(later).await.text()], ["new", "new"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_after_an_invalidation_joins_no_older_stream() {
    let (cache, handle, mut calls) = cache();
    let (reading, gate) = streaming(&cache, &mut calls).await;
    handle.invalidate_all().await.unwrap();
    let after = send(&cache, get("/cases/1"));
    calls.now().await.expect("the origin is asked again").ok("new");
    assert_eq!(got(after).await.text(), "new");
    gate.send("er!");
    gate.end();
    assert_eq!(got(reading).await.text(), "older!");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn followers_from_before_an_invalidation_share_what_they_waited_for() {
    let (cache, handle, mut calls) = cache();
    let readings = [0; 3].map(|_| send(&cache, get("/cases/1")));
    let call = calls.next().await;
    settle().await;
    handle.invalidate("case:1").await.unwrap();
    call.ok("old");
    for reading in readings {
        assert_eq!(got(reading).await.text(), "old");
    }
    assert_eq!(calls.count(), 1);
    assert_fenced(&cache, &handle, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_another_key_fences_nothing() {
    let (cache, handle, mut calls) = cache();
    let mut stored = 0;
    // One of them may share its fence with the other key by chance; not all do.
    for case in 0..4 {
        let reading = send(&cache, get(&format!("/cases/{case}")));
        let call = calls.next().await;
        handle.invalidate(format!("another:{case}")).await.unwrap();
        call.ok("true");
        stored += usize::from(got(reading).await.cache_status().ends_with(";stored"));
    }
    assert!(stored > 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_from_before_an_invalidation_is_not_remembered() {
    let (cache, handle, mut calls) = cache();
    let reading = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    call.with(200, ("cache-control", "no-store"), "old");
    assert!(got(reading).await.cache_status().ends_with(";detail=no-store"));
    let reading = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert!(got(reading).await.cache_status().ends_with(";stored"));
    assert!(!handle.metrics().bucket("cases").unwrap().alone.contains_key(&Alone::Pass));
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_began_after_an_invalidation_is_stored() {
    let (cache, handle, mut calls) = cache();
    handle.invalidate("case:1").await.unwrap();
    handle.invalidate_all().await.unwrap();
    let reading = send(&cache, get("/cases/1"));
    calls.next().await.ok("new");
    assert!(got(reading).await.cache_status().ends_with(";stored"));
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

/// What one layer does not know the outcome of, no layer on the store may fill.
#[tokio::test(start_paused = true)]
async fn another_layer_stores_nothing_after_a_write_with_an_unknown_outcome() {
    let store = MemoryStore::new();
    let (cache, _, mut calls) = cache_on(store.clone(), |route| route);
    let (other, handle, mut others) = cache_on(store, |route| route);
    let write = send(&cache, request(Method::POST, "/cases/1/comments"));
    calls.next().await.with(503, ("x", "y"), "");
    support::got(write).await;
    let between = send(&other, get("/cases/1"));
    others.next().await.ok("still old");
    assert!(support::got(between).await.cache_status().ends_with("detail=unsettled"));
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0);
}
