//! Memory: what a store holds stays within its capacity, as the allocator sees it. A binary of
//! its own: the allocator counts for the whole process.

#![allow(clippy::unwrap_used)] // Clippy sees no test in a function that tests share.

use std::{
    alloc::System,
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Builder;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_support_cache::{
    BucketSnapshot, CacheRoute, Freshness, MemoryStore, SupportCache, SupportCacheHandle,
    SupportCacheLayer,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CAPACITY: u64 = 1024 * 1024;

/// Runs a test while no other does: the allocator counts for the whole process.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
}

fn live() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// Answers as a server's connection does: names that are no standard ones are allocated for each
/// response, values and body are cut from one large buffer.
#[derive(Clone)]
struct Origin {
    fields: usize,
    body: usize,
    groups: usize,
    differ: Differ,
    calls: Arc<AtomicUsize>,
    buffer: Bytes,
}

/// What responses differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differ {
    Nothing,
    HalfOfTheValues,
    Values,
    ValuesAndNames,
}

impl Origin {
    fn new(fields: usize, body: usize, differ: Differ) -> Self {
        let digits =
            (0..64 * 1024_usize).map(|n| b'0' + (n * n / 7 % 10) as u8).collect::<Vec<_>>();
        let (calls, buffer) = (Arc::default(), Bytes::from(digits));
        Self { fields, body, groups: 0, differ, calls, buffer }
    }

    fn fields(&self) -> HeaderMap {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        const NAMES: [&str; 6] =
            ["content-type", "content-length", "etag", "last-modified", "x-request-id", "date"];
        let fields = (0..self.fields).map(|n| {
            let name =
                NAMES.get(n).map_or(format!("x-field-number-{n}"), |name| (*name).to_owned());
            let own = match self.differ {
                Differ::Nothing => false,
                Differ::HalfOfTheValues => n % 2 == 0,
                Differ::Values | Differ::ValuesAndNames => true,
            };
            let at = n * 40 + if own { call * 29 % 60_000 } else { 0 };
            let value = match name.as_str() {
                "content-length" => HeaderValue::from(self.body),
                _ => HeaderValue::from_maybe_shared(self.buffer.slice(at..at + 24)).unwrap(),
            };
            let is_last = n + 1 == self.fields && self.differ == Differ::ValuesAndNames;
            let name = if is_last { format!("x-field-of-call-{call}") } else { name };
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
        });
        fields.collect()
    }
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        let mut response = Response::new(Full::new(self.buffer.slice(..self.body)));
        *response.headers_mut() = self.fields();
        if self.groups > 0 {
            let groups = (0..self.groups).map(|n| format!("\"{n}\"")).collect::<Vec<_>>();
            let line = HeaderValue::from_maybe_shared(groups.join(",")).unwrap();
            response.headers_mut().insert("cache-groups", line);
        }
        ready(Ok(response))
    }
}

type Cached = SupportCache<Origin, MemoryStore>;

/// A cache, its handle, and the bytes that the layer's own tables take.
fn cache(origin: Origin) -> (Cached, SupportCacheHandle, i64) {
    let store = MemoryStore::builder().capacity(CAPACITY).build().unwrap();
    let before = live();
    let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}");
    let layer = SupportCacheLayer::builder(store)
        .cache(route.ttl(Duration::from_secs(3600)))
        .build()
        .unwrap();
    let cache = layer.layer(origin);
    (cache, layer.handle(), live() - before)
}

async fn fetch(cache: &Cached, case: usize) {
    let uri = format!("/cases/{case}");
    let request = Request::get(uri).body(Empty::new()).unwrap();
    let response = cache.clone().oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

fn bucket(handle: &SupportCacheHandle) -> BucketSnapshot {
    handle.metrics().bucket("cases").cloned().unwrap()
}

/// Puts many times the keys that it has room for into a small store, and asserts that it never takes
/// more than 15 % over its capacity, nor wastes most of it.
async fn check((fields, body): (usize, usize), differ: Differ, keys: usize) {
    check_origin(Origin::new(fields, body, differ), keys).await;
}

async fn check_origin(origin: Origin, keys: usize) {
    let Origin { fields, body, differ, .. } = origin;
    fetch(&cache(origin.clone()).0, 0).await;
    let before = live();
    let (cache, handle, own) = cache(origin);
    let before = before + own;
    let (empty, mut most) = (live() - before, 0);
    for case in 0..keys {
        fetch(&cache, case).await;
        if case % 500 == 0 {
            most = most.max(live() - before);
        }
    }
    let (now, held) = (live() - before, bucket(&handle));
    most = most.max(now);
    let share = |bytes: i64| bytes as f64 / CAPACITY as f64 * 100.0;
    let text = format!(
        "{fields} fields, {body} bytes, {differ:?} differ: {} entries weigh {:.1} %, take {:.1} % now, {:.1} % at \
         most ({:.1} % empty)",
        held.entries,
        share(held.bytes as i64),
        share(now),
        share(most),
        share(empty),
    );
    println!("{text}");
    assert!(held.bytes <= CAPACITY, "the weights are within the capacity: {text}");
    assert!(most <= (CAPACITY + CAPACITY * 15 / 100) as i64, "and so is the memory: {text}");
    assert!(now >= (CAPACITY * 60 / 100) as i64, "the capacity is used: {text}");
    assert_eq!(held.stored, keys as u64);
    assert_eq!(held.evicted + held.entries, held.stored);
}

#[test]
fn small_bodies_stay_within_the_capacity() {
    alone(async {
        // A few bytes lost with each entry show after many.
        check((6, 100), Differ::HalfOfTheValues, 20_000).await;
        check((6, 100), Differ::Nothing, 5_000).await;
        check((20, 100), Differ::Values, 5_000).await;
        check((20, 100), Differ::ValuesAndNames, 5_000).await;
    });
}

#[test]
fn responses_with_tags_stay_within_the_capacity() {
    alone(async {
        let origin = Origin::new(6, 100, Differ::HalfOfTheValues);
        check_origin(Origin { groups: 1, ..origin.clone() }, 5_000).await;
        check_origin(Origin { groups: 32, ..origin }, 2_000).await;
    });
}

#[test]
fn middling_bodies_stay_within_the_capacity() {
    alone(async {
        check((6, 1024), Differ::HalfOfTheValues, 5_000).await;
        check((6, 1024), Differ::ValuesAndNames, 5_000).await;
        check((20, 1024), Differ::Values, 5_000).await;
    });
}

#[test]
fn large_bodies_stay_within_the_capacity() {
    alone(async {
        check((6, 20 * 1024), Differ::HalfOfTheValues, 1_000).await;
        check((20, 20 * 1024), Differ::ValuesAndNames, 1_000).await;
    });
}

#[test]
fn what_is_invalidated_or_evicted_is_given_back() {
    alone(async {
        let origin = Origin::new(6, 1024, Differ::HalfOfTheValues);
        let before = live();
        let (cache, handle, own) = cache(origin);
        for case in 0..5000 {
            fetch(&cache, case).await;
        }
        for case in 0..5000 {
            handle.invalidate(format!("case:{case}")).await.unwrap();
        }
        let held = bucket(&handle);
        assert_eq!((held.entries, held.bytes, held.stored), (0, 0, 5000));
        assert!(held.evicted > 3000 && held.evicted < 5000);
        fetch(&cache, 1).await;
        assert_eq!(bucket(&handle).entries, 1);
        handle.invalidate_all().await.unwrap();
        assert_eq!((bucket(&handle).entries, bucket(&handle).bytes), (0, 0));
        let left = live() - before - own;
        println!("{left} bytes left by an emptied store");
        assert!(left < CAPACITY as i64 / 3, "tables may keep their size, entries not: {left}");
        drop((cache, handle));
        let left = live() - before;
        assert!(left < 16 * 1024, "and nothing outlives the store: {left}");
    });
}

/// Answers as most handlers do: 1 KiB, and six standard fields, half of them the same each time.
async fn answer_with_six_fields(
    _: Request<Empty<Bytes>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let turn = CALLS.fetch_add(1, Ordering::Relaxed) % 4;
    let mut response = Response::new(Full::new(Bytes::from(vec![b'x'; 1024])));
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("cache-control", "public, max-age=3600"),
        ("date", &format!("Sun, 22 Nov 2026 12:00:{turn}0 GMT")),
        ("etag", &format!("\"33a64df551425fcc55e4d42a148795d{turn}\"")),
        ("last-modified", &format!("Sun, 22 Nov 2026 11:00:{turn}0 GMT")),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    Ok(response)
}

#[test]
fn an_entry_of_1_kib_takes_no_more_than_a_map_of_its_fields_and_its_body() {
    const ENTRIES: i64 = 25_000;
    /// Bytes that a path, a `HeaderMap` and the body take in a bare `quick_cache`.
    const MINIMUM: i64 = 1983;
    alone(async {
        let before = live();
        let store = MemoryStore::builder().capacity(ENTRIES as u64 * 2 * 4096).build().unwrap();
        let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}");
        let layer = SupportCacheLayer::builder(store)
            .cache(route.ttl(Duration::from_secs(3600)))
            .build()
            .unwrap();
        let cache = layer.layer(service_fn(answer_with_six_fields));
        for case in 100_000..100_000 + ENTRIES {
            let request = Request::get(format!("/cases/{case}")).body(Empty::new()).unwrap();
            let response = cache.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
        let each = (live() - before) / ENTRIES;
        println!("{each} bytes for an entry of 1 KiB");
        assert_eq!(bucket(&layer.handle()).entries, ENTRIES as u64);
        assert!(each <= MINIMUM, "{each} bytes");
    });
}

/// Answers with a head that is much longer than its body, and differs each time. Who asks whether what
/// it has is still good is told so, in as long a head.
async fn answer_with_a_long_head(
    request: Request<Empty<Bytes>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let is_asked_about = request.headers().contains_key("if-none-match");
    let body = if is_asked_about { Bytes::new() } else { Bytes::from(vec![b'x'; 100]) };
    let mut response = Response::new(Full::new(body));
    if is_asked_about {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fields = response.headers_mut();
    fields.insert("cache-control", HeaderValue::from_static("no-cache"));
    fields.insert("etag", HeaderValue::from_static("\"1\""));
    fields.insert("x-long", HeaderValue::try_from(format!("{call:08000}")).unwrap());
    Ok(response)
}

#[test]
fn a_head_that_was_freshened_keeps_nothing_of_the_one_before() {
    const CASES: i64 = 64;
    alone(async {
        let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}");
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(route.freshness(Freshness::Origin))
            .build()
            .unwrap();
        let cache = layer.layer(service_fn(answer_with_a_long_head));
        let before = live();
        let mut taken = [0; 2];
        for taken in &mut taken {
            for case in 0..CASES {
                let request = Request::get(format!("/cases/{case}")).body(Empty::new()).unwrap();
                let response = cache.clone().oneshot(request).await.unwrap();
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 100);
            }
            *taken = live() - before;
        }
        let [stored, freshened] = taken;
        assert_eq!(bucket(&layer.handle()).stored, 2 * CASES as u64);
        assert!(stored > CASES * 8000, "{stored} bytes are less than the heads have");
        assert!(freshened < stored + CASES * 500, "{stored} bytes became {freshened}");
    });
}
