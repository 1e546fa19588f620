//! The chaos wrapper does what its plan says, and no request suffers from a store that is not well.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Response};
use tokio::time::timeout;
use tower_support_cache::{
    BucketSnapshot, Bypass, MemoryStore, Refusal, RequestDirectives, Store, SupportCacheHandle,
    store::conformance,
    testing::{Chaos, Fault, StoreCall},
};

use crate::support::{
    self, Cached, Calls, GatedBody, Got, cache_on, fetch, get, got, request, send, settle, with,
};

/// What a request may take beyond what the origin does, on a store that hangs for ever.
const BOUND: Duration = Duration::from_secs(1);

const ALL: [StoreCall; 8] = [
    StoreCall::Peek,
    StoreCall::Lookup,
    StoreCall::Begin,
    StoreCall::Wait,
    StoreCall::Commit,
    StoreCall::Invalidate,
    StoreCall::InvalidateAll,
    StoreCall::FlushPending,
];

/// A cache over a chaotic memory store, whose origin waits for the test.
struct Site {
    cache: Cached<Chaos<MemoryStore>>,
    handle: SupportCacheHandle,
    calls: Calls,
}

impl Site {
    fn new(plan: impl Fn(StoreCall, u64) -> Fault + Send + Sync + 'static) -> Self {
        let (cache, handle, calls) = cache_on(Chaos::new(MemoryStore::new(), plan), |route| route);
        Self { cache, handle, calls }
    }

    /// One operation has one fault, always.
    fn with(operation: StoreCall, fault: Fault) -> Self {
        Self::new(move |called, _| if called == operation { fault } else { Fault::None })
    }

    /// Sends a request that the origin answers.
    async fn forwarded(&mut self, body: &'static str) -> Got {
        let reading = send(&self.cache, get("/cases/1"));
        self.calls.next().await.ok(body);
        got(reading).await
    }

    fn counts(&self) -> BucketSnapshot {
        self.handle.metrics().bucket("cases").unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_chaos_that_has_no_fault_conforms() {
    conformance::check(async || Chaos::new(MemoryStore::new(), |_, _| Fault::None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_late_conforms() {
    let plan = |_, count| match count % 3 {
        0 => Fault::Delay(Duration::from_millis(1)),
        _ => Fault::None,
    };
    conformance::check(async move || Chaos::new(MemoryStore::new(), plan)).await;
}

#[tokio::test(start_paused = true)]
async fn the_plan_is_told_the_operation_and_how_many_there_were() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let mut site = Site::new(move |operation, count| {
        log.lock().unwrap().push((operation, count));
        Fault::None
    });
    site.forwarded("one").await;
    assert!(fetch(&site.cache, "/cases/1").await.is_hit());
    site.handle.invalidate("case:1").await.unwrap();
    site.handle.invalidate_all().await.unwrap();
    use StoreCall::*;
    let expected = [
        (Peek, 0),
        (Lookup, 0),
        (Begin, 0),
        (Commit, 0),
        (Peek, 1),
        (Invalidate, 0),
        (InvalidateAll, 0),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn operations_are_counted() {
    let store = Chaos::new(MemoryStore::new(), |_, _| Fault::Fail);
    for _ in 0..3 {
        assert!(store.invalidate_all().await.is_err());
    }
    let counts = ALL.map(|operation| store.count(operation));
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_is_a_bypass() {
    let mut site = Site::with(StoreCall::Lookup, Fault::Fail);
    assert!(site.forwarded("one").await.cache_status().ends_with("detail=store"));
    assert!(site.forwarded("two").await.cache_status().ends_with("detail=store"));
    assert_eq!(site.counts().bypassed[&Bypass::Store], 2);
}

#[tokio::test(start_paused = true)]
async fn a_right_to_fill_that_is_not_given_is_a_bypass() {
    let mut site = Site::with(StoreCall::Begin, Fault::Fail);
    assert!(site.forwarded("one").await.cache_status().ends_with("detail=store"));
    assert_eq!(site.counts().bypassed[&Bypass::Store], 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_is_an_answer_that_is_not_stored() {
    let mut site = Site::with(StoreCall::Commit, Fault::Fail);
    assert_eq!(site.forwarded("one").await.text(), "one");
    assert_eq!(site.forwarded("two").await.text(), "two");
    assert_eq!(site.counts().refused[&Refusal::Store], 2);
    assert_eq!(site.handle.metrics().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_with_an_unknown_outcome_may_have_been_stored() {
    let mut site = Site::with(StoreCall::Commit, Fault::FailAfter);
    assert_eq!(site.forwarded("one").await.text(), "one");
    assert_eq!(site.counts().refused[&Refusal::Store], 1);
    assert!(fetch(&site.cache, "/cases/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_peeked_at_is_found_no_longer() {
    let is_away = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_away);
    let mut site = Site::new(move |operation, _| match operation {
        StoreCall::Peek | StoreCall::Lookup if switch.load(Ordering::SeqCst) => Fault::Fail,
        _ => Fault::None,
    });
    site.forwarded("one").await;
    is_away.store(true, Ordering::SeqCst);
    assert!(site.forwarded("two").await.cache_status().ends_with("detail=store"));
    is_away.store(false, Ordering::SeqCst);
    assert_eq!(fetch(&site.cache, "/cases/1").await.text(), "one", "it is back as it was");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_fails_is_pending_and_in_force_here() {
    let mut site = Site::with(StoreCall::Invalidate, Fault::Fail);
    site.forwarded("one").await;
    assert!(site.handle.invalidate("case:1").await.is_err());
    assert_eq!(site.forwarded("two").await.text(), "two");
    let writing = send(&site.cache, request(Method::POST, "/cases/1/comments"));
    site.calls.next().await.with(201, ("x", "y"), "");
    assert_eq!(got(writing).await.status, 201, "a write is answered all the same");
    assert_eq!(site.forwarded("three").await.text(), "three");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_everything_that_fails_is_pending_and_in_force_here() {
    let mut site = Site::with(StoreCall::InvalidateAll, Fault::Fail);
    site.forwarded("one").await;
    assert!(site.handle.invalidate_all().await.is_err());
    assert_eq!(site.forwarded("two").await.text(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_waited_for_and_changes_nothing_else() {
    const DELAY: Duration = Duration::from_millis(30);
    for operation in [StoreCall::Lookup, StoreCall::Begin, StoreCall::Commit] {
        let mut site = Site::with(operation, Fault::Delay(DELAY));
        let waited = timeout(DELAY + Duration::from_millis(1), site.forwarded("one"));
        let read = waited.await.expect("it is waited for no longer than the delay");
        assert!(read.cache_status().ends_with(";stored"), "{operation:?}");
        assert!(fetch(&site.cache, "/cases/1").await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_fails_no_request() {
    for fault in [Fault::Fail, Fault::FailAfter] {
        for operation in ALL {
            let mut site = Site::with(operation, fault);
            for body in ["one", "two", "three"] {
                let reading = send(&site.cache, get("/cases/1"));
                if let Some(call) = site.calls.now().await {
                    call.ok(body);
                }
                assert_eq!(got(reading).await.status, 200, "{operation:?}");
                let _ = site.handle.invalidate("case:1").await;
                let _ = site.handle.invalidate_all().await;
            }
            assert_eq!(site.handle.metrics().flights, 0, "{operation:?} leaks no flight");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_no_request() {
    for operation in [StoreCall::Lookup, StoreCall::Begin, StoreCall::Commit] {
        let site = Site::with(operation, Fault::Hang);
        let calls = site.calls.serve(|_| support::response(200, &[], "body"));
        for _ in 0..2 {
            let reading = timeout(BOUND, got(send(&site.cache, get("/cases/1")))).await;
            let read = reading.unwrap_or_else(|_| panic!("{operation:?} keeps a request"));
            assert_eq!((read.status.as_u16(), read.text()), (200, "body"), "{operation:?}");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2, "{operation:?}: each is forwarded once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_of_the_budget_until_the_store_has_answered() {
    const LENGTH: usize = 40 * 1024 * 1024;
    let plan = |called, _| if called == StoreCall::Commit { Fault::Hang } else { Fault::None };
    let store = Chaos::new(MemoryStore::new(), plan);
    let (cache, _handle, mut calls) = cache_on(store, |route| route.body_limit(LENGTH as u64));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.respond(Response::new(GatedBody::full(vec![b'x'; LENGTH])));
    settle().await;
    let second = send(&cache, get("/cases/2"));
    calls.next().await.respond(Response::new(GatedBody::full(vec![b'x'; LENGTH])));
    assert!(got(second).await.cache_status().ends_with("detail=budget"));
    assert!(got(first).await.cache_status().ends_with("detail=store"));
}

/// Its flight is over only once the store has noted that the response may not be stored.
#[tokio::test(start_paused = true)]
async fn who_comes_after_a_shared_body_grew_too_large_is_not_given_a_part_of_it() {
    let plan = |call, _| match call {
        StoreCall::Commit => Fault::Delay(Duration::from_millis(100)),
        _ => Fault::None,
    };
    let store = Chaos::new(MemoryStore::new(), plan);
    let (cache, _, mut calls) = cache_on(store, |route| route.body_limit(8));
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(3));
    settle().await;
    gate.send("more than was declared");
    settle().await;
    let late = send(&cache, get("/cases/1"));
    calls.now().await.expect("it asks the origin itself").ok("whole");
    assert_eq!(got(late).await.text(), "whole");
    drop(leader);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_no_follower_and_leaks_no_flight() {
    for operation in [StoreCall::Lookup, StoreCall::Begin, StoreCall::Commit] {
        let site = Site::with(operation, Fault::Hang);
        site.calls.serve(|_| support::response(200, &[], "body"));
        let readings: Vec<_> = (0..100).map(|_| send(&site.cache, get("/cases/1"))).collect();
        for reading in readings {
            let read = timeout(BOUND, got(reading)).await;
            let read = read.unwrap_or_else(|_| panic!("{operation:?} keeps a follower"));
            assert_eq!(read.text(), "body", "{operation:?}");
        }
        support::settle().await;
        assert_eq!(site.handle.metrics().flights, 0, "{operation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_no_writer() {
    let site = Site::with(StoreCall::Invalidate, Fault::Hang);
    let cache = site.cache;
    site.calls.serve(|_| support::response(201, &[], ""));
    let writing = send(&cache, request(Method::POST, "/cases/1/comments"));
    let written = timeout(BOUND, got(writing)).await.expect("the writer is answered");
    assert_eq!(written.status, 201);
}

/// RFC 9111 §5.2.1.7: the request must not be forwarded, whatever the state of the store.
#[tokio::test(start_paused = true)]
async fn only_if_cached_is_not_forwarded_where_the_store_is_away() {
    let away = Chaos::new(MemoryStore::new(), |operation, _| match operation {
        StoreCall::Lookup => Fault::Fail,
        _ => Fault::None,
    });
    let (cache, handle, mut calls) =
        cache_on(away, |route| route.request_directives(RequestDirectives::Honour));
    let asked = with(get("/cases/1"), "cache-control", "only-if-cached");
    assert_eq!(got(send(&cache, asked)).await.status, 504);
    assert!(calls.all().await.is_empty());
    assert_eq!(handle.metrics().bucket("cases").unwrap().unsatisfied, 1);
}
