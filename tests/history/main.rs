//! A history: registers whose versions only grow, readers and writers in random interleavings with
//! cancellations, errors and panics; after an acknowledged invalidation, by key, by tag or by group, no
//! later read is older. After a soft one what is older says that it is stale, and only for a while.
//!
//! The seed is printed where a read is stale; `HISTORY_SEED` and `HISTORY_OPERATIONS` set their own.
//! A binary of its own: its panic hook is the whole process's.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

mod lagging;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/replica.rs"]
mod replica;
#[path = "../support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response};
use random::Random;
use support::{GatedBody, Got, get, request};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, SupportCache, SupportCacheHandle, SupportCacheLayer,
};

/// Each of two tags is that of half of them, and so is each of two groups that the latter half of those
/// name.
const KEYS: usize = 8;
const GROUPED: usize = 4;

/// For how long what is stale may answer.
const WINDOW: Duration = Duration::from_secs(20);

fn path(key: usize) -> String {
    format!("/k/{}/{key}", key % 2)
}

/// The keys that have the same tag as one, or the same group.
fn fellows(key: usize, is_group: bool) -> impl Iterator<Item = usize> {
    let first = if is_group { GROUPED } else { 0 };
    (first..KEYS).filter(move |other| other % 2 == key % 2)
}

const TASKS: u64 = 48;

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
    /// The versions whose soft invalidation was acknowledged, and when.
    softly: [Mutex<Vec<(u64, Instant)>>; KEYS],
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
        let mut parts = request.uri().path().split('/').skip(3);
        let key: usize = parts.next().unwrap().parse().unwrap();
        let is_group = parts.next() == Some("group");
        let is_write = *request.method() == Method::POST;
        Box::pin(async move {
            wander(&mut random, 6).await;
            if is_write {
                return Ok(world.write(key, is_group, &mut random).await);
            }
            let version = world.version[key].load(SeqCst);
            Ok(world.read(key, version, random).await)
        })
    }
}

impl World {
    async fn write(
        self: &Arc<Self>,
        key: usize,
        is_group: bool,
        random: &mut Random,
    ) -> Response<GatedBody> {
        // An error names no group.
        if !is_group && random.below(1000) < 5 {
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
        let mut response = Response::builder().status(201);
        if is_group {
            response = response.header("cache-group-invalidation", format!("\"{}\"", key % 2));
        }
        response.body(body).unwrap()
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
        if key >= GROUPED {
            response = response.header("cache-groups", format!("\"other\", \"{}\"", key % 2));
        }
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

/// What is invalidated where a register was written by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Elsewhere {
    Everything,
    Key,
    Tag,
    Softly,
    TagSoftly,
}

/// Whether a response says that it is not fresh any more. Who shares one that stands in for an error
/// is told how long it is fresh: not at all.
fn says_stale(got: &Got) -> bool {
    let said = got.cache_status();
    said.contains("detail=stale-") || said.ends_with("collapsed;ttl=0")
}

struct Run {
    world: Arc<World>,
    cache: Cached,
    handle: SupportCacheHandle,
}

impl Run {
    fn new(seed: u64) -> Self {
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(
                CacheRoute::get("/k/{half}/{key}")
                    .key("k:{key}")
                    .tag("half:{half}")
                    .ttl(Duration::from_secs(60))
                    .stale_while_revalidate(WINDOW)
                    .stale_if_error(WINDOW),
            )
            .invalidate(InvalidateRoute::post("/k/{half}/{key}/writes").key("k:{key}"))
            .invalidate(InvalidateRoute::post("/k/{half}/{key}/tag").tag("half:{half}"))
            .invalidate(InvalidateRoute::post("/k/{half}/{key}/group").groups())
            .build()
            .unwrap();
        let world = Arc::new(World { seed: AtomicU64::new(seed), ..World::default() });
        let cache = layer.layer(Origin(Arc::clone(&world)));
        Self { world, cache, handle: layer.handle() }
    }

    #[allow(clippy::disallowed_methods)] // Nothing waits for it.
    async fn read(&self, key: usize) {
        let acknowledged = self.world.acknowledged[key].load(SeqCst);
        let softly = self.world.softly[key].lock().unwrap().len();
        let Ok(response) = self.cache.clone().oneshot(get(&path(key))).await;
        let answered = Instant::now();
        let got = support::read(response).await;
        if got.status != 200 || got.body.is_err() {
            return;
        }
        let (of, version) = got.text().split_once(':').unwrap();
        assert_eq!(of, key.to_string(), "another key's response");
        let version: u64 = version.parse().unwrap();
        assert!(version >= acknowledged, "stale: {version} after {acknowledged}, {got:?}");
        let known = self.world.softly[key].lock().unwrap()[..softly].to_vec();
        if let Some((newer, since)) = known.into_iter().find(|(newer, _)| version < *newer) {
            assert!(says_stale(&got), "fresh: {version} after {newer} softly, {got:?}");
            assert!(answered < since + WINDOW, "for too long: {version} after {newer}, {got:?}");
        }
    }

    /// Writes one register; `what` names the rule.
    async fn write(&self, key: usize, what: &str) {
        // What its fellows hold goes as well, as far as it was there before.
        let fellows: Vec<_> = match what {
            "writes" => vec![key],
            _ => fellows(key, what == "group").collect(),
        };
        let before: Vec<_> =
            fellows.iter().map(|other| (*other, self.world.version[*other].load(SeqCst))).collect();
        let request = request(Method::POST, &format!("{}/{what}", path(key)));
        let Ok(response) = self.cache.clone().oneshot(request).await;
        let got = support::read(response).await;
        if got.status == 201 {
            for (other, version) in before {
                self.world.acknowledged[other].fetch_max(version, SeqCst);
            }
            self.world.acknowledged[key].fetch_max(got.text().parse().unwrap(), SeqCst);
        }
    }

    #[allow(clippy::disallowed_methods)] // Nothing waits for it.
    async fn write_elsewhere(&self, key: usize, how: Elsewhere) {
        let version = self.world.version[key].fetch_add(1, SeqCst) + 1;
        match how {
            Elsewhere::Everything => self.handle.invalidate_all().await,
            Elsewhere::Key => self.handle.invalidate(format!("k:{key}")).await,
            Elsewhere::Tag => self.handle.invalidate_tag(format!("half:{}", key % 2)).await,
            Elsewhere::Softly => self.handle.soft_invalidate(format!("k:{key}")).await,
            Elsewhere::TagSoftly => {
                self.handle.soft_invalidate_tag(format!("half:{}", key % 2)).await
            }
        }
        .unwrap();
        if matches!(how, Elsewhere::Softly | Elsewhere::TagSoftly) {
            self.world.softly[key].lock().unwrap().push((version, Instant::now()));
        } else {
            self.world.acknowledged[key].fetch_max(version, SeqCst);
        }
    }

    async fn step(self: Arc<Self>, mut random: Random) {
        let key = random.below(KEYS as u64) as usize;
        match random.below(1000) {
            0..20 => self.write(key, "writes").await,
            20..30 => self.write(key, "tag").await,
            30..40 => self.write(GROUPED + key % (KEYS - GROUPED), "group").await,
            40..46 => self.write_elsewhere(key, Elsewhere::Key).await,
            46..50 => self.write_elsewhere(key, Elsewhere::Tag).await,
            50..54 => self.write_elsewhere(key, Elsewhere::Softly).await,
            54..58 => self.write_elsewhere(key, Elsewhere::TagSoftly).await,
            58..60 => self.write_elsewhere(key, Elsewhere::Everything).await,
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

/// Once the windows of unknown outcomes and of what is stale are over, every read is of the newest
/// version.
async fn finish(run: &Run) {
    support::settle().await;
    tokio::time::advance(WINDOW + Duration::from_secs(1)).await;
    support::settle().await;
    for key in 0..KEYS {
        let newest = run.world.version[key].load(SeqCst);
        run.world.acknowledged[key].store(newest, SeqCst);
    }
    for key in 0..KEYS {
        for _ in 0..20 {
            let read = run.cache.clone().oneshot(get(&path(key)));
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
