//! A history: registers whose versions only grow, readers and writers in random interleavings with
//! cancellations, errors and panics; after an acknowledged invalidation no later read is older.
//!
//! The seed is printed where a read is stale; `HISTORY_SEED` and `HISTORY_OPERATIONS` set their own.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

mod support;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response};
use support::{GatedBody, get, request};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, SupportCache, SupportCacheHandle, SupportCacheLayer,
};

const KEYS: usize = 6;
const TASKS: u64 = 48;

/// SplitMix64: random enough, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn in_percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

async fn wander(random: &mut Random, most: u64) {
    for _ in 0..random.below(most) {
        tokio::task::yield_now().await;
    }
}

#[derive(Default)]
struct World {
    /// What the origin holds.
    version: [AtomicU64; KEYS],
    /// The newest version whose invalidation was acknowledged.
    acknowledged: [AtomicU64; KEYS],
    seed: AtomicU64,
    forwards: AtomicU64,
}

#[derive(Clone)]
struct Origin(Arc<World>);

type Answer = Result<Response<GatedBody>, Infallible>;

impl<B: Send + 'static> Service<Request<B>> for Origin {
    type Response = Response<GatedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let world = Arc::clone(&self.0);
        world.forwards.fetch_add(1, SeqCst);
        let mut random = Random(world.seed.fetch_add(0x1234_5677, SeqCst));
        let key: usize = request.uri().path().split('/').nth(2).unwrap().parse().unwrap();
        let is_write = *request.method() == Method::POST;
        Box::pin(async move {
            wander(&mut random, 6).await;
            if is_write {
                return Ok(world.write(key, &mut random).await);
            }
            let version = world.version[key].load(SeqCst);
            Ok(world.read(key, version, random).await)
        })
    }
}

impl World {
    async fn write(self: &Arc<Self>, key: usize, random: &mut Random) -> Response<GatedBody> {
        if random.below(1000) < 5 {
            // Given up, and committed all the same, later.
            let (world, late) = (Arc::clone(self), 1 + random.below(40));
            tokio::spawn(async move {
                for _ in 0..late {
                    tokio::task::yield_now().await;
                }
                world.version[key].fetch_add(1, SeqCst);
            });
            return support::response(503, &[], "");
        }
        let version = self.version[key].fetch_add(1, SeqCst) + 1;
        wander(random, 4).await;
        let body = GatedBody::full(version.to_string());
        Response::builder().status(201).body(body).unwrap()
    }

    async fn read(&self, key: usize, version: u64, mut random: Random) -> Response<GatedBody> {
        wander(&mut random, 10).await;
        match random.below(100) {
            0..2 => panic!("a handler panics now and then"),
            2..4 => return support::response(500, &[], ""),
            _ => {}
        }
        let body = format!("{key}:{version}");
        let declared = random.in_percent(50).then_some(body.len() as u64);
        let mut response = Response::builder();
        if random.in_percent(5) {
            response = response.header("cache-control", "no-store");
        }
        if random.in_percent(50) {
            return response.body(GatedBody::full(body)).unwrap();
        }
        let (gated, gate) = GatedBody::gated(declared);
        tokio::spawn(async move {
            for byte in body.into_bytes() {
                gate.send(vec![byte]);
                wander(&mut random, 3).await;
            }
            if random.in_percent(5) { gate.fail() } else { gate.end() }
        });
        response.body(gated).unwrap()
    }
}

type Cached = SupportCache<Origin, MemoryStore>;

struct Run {
    world: Arc<World>,
    cache: Cached,
    handle: SupportCacheHandle,
}

impl Run {
    fn new(seed: u64) -> Self {
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(CacheRoute::get("/k/{key}").key("k:{key}").ttl(Duration::from_secs(60)))
            .invalidate(InvalidateRoute::post("/k/{key}/writes").key("k:{key}"))
            .build()
            .unwrap();
        let world = Arc::new(World { seed: AtomicU64::new(seed), ..World::default() });
        let cache = layer.layer(Origin(Arc::clone(&world)));
        Self { world, cache, handle: layer.handle() }
    }

    async fn read(&self, key: usize) {
        let acknowledged = self.world.acknowledged[key].load(SeqCst);
        let Ok(response) = self.cache.clone().oneshot(get(&format!("/k/{key}"))).await;
        let got = support::read(response).await;
        if got.status != 200 || got.body.is_err() {
            return;
        }
        let (of, version) = got.text().split_once(':').unwrap();
        assert_eq!(of, key.to_string(), "another key's response");
        let version: u64 = version.parse().unwrap();
        assert!(version >= acknowledged, "stale: {version} after {acknowledged}, {got:?}");
    }

    async fn write(&self, key: usize) {
        let request = request(Method::POST, &format!("/k/{key}/writes"));
        let Ok(response) = self.cache.clone().oneshot(request).await;
        let got = support::read(response).await;
        if got.status == 201 {
            self.world.acknowledged[key].fetch_max(got.text().parse().unwrap(), SeqCst);
        }
    }

    async fn write_elsewhere(&self, key: usize, is_everything: bool) {
        let version = self.world.version[key].fetch_add(1, SeqCst) + 1;
        if is_everything {
            self.handle.invalidate_all().await.unwrap();
        } else {
            self.handle.invalidate(&format!("k:{key}")).await.unwrap();
        }
        self.world.acknowledged[key].fetch_max(version, SeqCst);
    }

    async fn step(self: Arc<Self>, mut random: Random) {
        let key = random.below(KEYS as u64) as usize;
        match random.below(1000) {
            0..40 => self.write(key).await,
            40..55 => self.write_elsewhere(key, false).await,
            55..60 => self.write_elsewhere(key, true).await,
            // Time passes: slow enough that what an origin commits late is within its window.
            60..160 => tokio::time::advance(Duration::from_millis(50)).await,
            _ => self.read(key).await,
        }
    }
}

/// Polls `future` at most `polls` times and then drops it.
async fn cut_short<F: Future<Output = ()>>(future: F, mut polls: u64) {
    let mut future = Box::pin(future);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        polls = polls.saturating_sub(1);
        if polls == 0 { Poll::Ready(()) } else { polled }
    })
    .await;
}

async fn run(seed: u64, operations: u64) {
    println!("HISTORY_SEED={seed}");
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<&str>();
        if !text.is_some_and(|text| text.contains("now and then")) {
            report(panic);
        }
    }));
    let run = Arc::new(Run::new(seed));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let run = Arc::clone(&run);
            let mut random = Random(seed ^ task.wrapping_mul(0x5851_f42d_4c95_7f2d));
            tokio::spawn(async move {
                for _ in 0..operations / TASKS {
                    let step = Arc::clone(&run).step(Random(random.next()));
                    let is_cut = random.in_percent(15);
                    let polls = if is_cut { 1 + random.below(8) } else { u64::MAX };
                    // A task of its own: a handler's panic is its request's alone.
                    let step = tokio::spawn(cut_short(step, polls));
                    if let Err(error) = step.await {
                        let panic = error.into_panic();
                        let text = panic.downcast_ref::<&str>();
                        assert!(
                            text.is_some_and(|text| text.contains("now and then")),
                            "see above"
                        );
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    finish(&run).await;
}

/// Once the windows of unknown outcomes are over, every read is of the newest version.
async fn finish(run: &Run) {
    support::settle().await;
    tokio::time::advance(Duration::from_secs(11)).await;
    support::settle().await;
    for key in 0..KEYS {
        let newest = run.world.version[key].load(SeqCst);
        run.world.acknowledged[key].store(newest, SeqCst);
    }
    for key in 0..KEYS {
        for _ in 0..20 {
            let read = run.cache.clone().oneshot(get(&format!("/k/{key}")));
            let Ok(Ok(response)) = tokio::spawn(read).await else { continue };
            let got = support::read(response).await;
            if got.status == 200 && got.body.is_ok() {
                assert_eq!(got.text(), format!("{key}:{}", run.world.version[key].load(SeqCst)));
            }
        }
    }
    let metrics = run.handle.metrics();
    let bucket = metrics.bucket("default").unwrap();
    println!("{bucket:?}, {} forwards", run.world.forwards.load(SeqCst));
    assert_eq!(metrics.flights, 0, "no flight is left behind");
    let shared = bucket.hits + bucket.coalesced;
    let others = bucket.misses + bucket.bypassed.values().sum::<u64>();
    assert!(shared > others, "a cache that only forwards proves nothing");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn no_read_is_stale_in_a_hundred_thousand_operations() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime
        .block_on(run(setting("HISTORY_SEED", 20_261_122), setting("HISTORY_OPERATIONS", 100_000)));
}
