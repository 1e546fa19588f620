//! Flights: one forward for many requests, and what each of its ends means for those who wait.

mod support;

use support::{cache, fetch, get, send, settle};

#[tokio::test(start_paused = true)]
async fn a_response_is_stored_and_answers_the_next_request() {
    let (cache, handle, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("hello");
    let first = first.await.unwrap().unwrap();
    assert_eq!(first.cache_status(), "support-cache;fwd=uri-miss;fwd-status=200;stored");
    assert_eq!(first.text(), "hello");
    let second = fetch(&cache, "/cases/1").await;
    assert_eq!(second.cache_status(), "support-cache;hit;ttl=60");
    assert_eq!((second.text(), second.age()), ("hello", Some(0)));
    assert_eq!((handle.metrics().bucket("cases").unwrap().hits, calls.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_on_a_cold_key_make_one_call() {
    let (cache, handle, mut calls) = cache();
    let requests: Vec<_> = (0..1000).map(|_| send(&cache, get("/cases/1"))).collect();
    let call = calls.next().await;
    settle().await;
    call.ok("one");
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().text(), "one");
    }
    assert_eq!(calls.count(), 1);
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!((bucket.misses, bucket.coalesced), (1, 999));
}
