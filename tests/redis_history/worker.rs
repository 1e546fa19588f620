//! One process of a run: tasks that read and write through a layer of its own.

mod doubts;
pub(crate) mod life;
mod rests;

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use tokio::{task::JoinHandle, time::timeout};
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    Pending, RedisStore, RedisStoreBuilder, ResponseBody, SupportCache, SupportCacheHandle,
};

use self::life::Posted;
use crate::{
    origin::{Origin, PANIC, version_of},
    random::Random,
    scenario::{Load, Settings},
    server::pause,
    tally::{Counters, Tally},
    world::{BARE, By, GROUPED, KEYS, TAGS, World, micros, softly},
};

const CALLERS: u64 = 2;
/// After heartbeat and timeout a near cache that hears nothing is silent.
const PROVEN: Duration = Duration::from_millis(300);
/// Prefix of a line with the lateness of a message, in microseconds.
pub(crate) const LATE: &str = "late ";
/// Longer than any process waits for without knowing of it.
const LATE_HEARTBEAT: Duration = Duration::from_millis(2500);
const LIFETIME: Duration = Duration::from_secs(600);
/// In this time a pending invalidation is delivered, unless the server stays away.
const FLUSH: Duration = Duration::from_secs(3);

struct Run {
    cache: SupportCache<Origin, RedisStore>,
    handle: SupportCacheHandle,
    world: Arc<World>,
    posted: Arc<Posted>,
    is_near: bool,
    load: Load,
    url: String,
    counters: Counters,
    /// For invalidations by a program that knows nothing of us.
    foreign: Vec<redis::Client>,
}

pub(crate) fn run(settings: &Settings) {
    keep_quiet_about_handlers();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let run = Arc::new(Run::new(settings));
        let tasks = run.begin(settings);
        run.live().await;
        run.end(tasks).await;
        println!("{}", run.tally().line());
    });
    runtime.shutdown_background();
}

/// Handlers panic as part of the plan; any other panic is a failure.
fn keep_quiet_about_handlers() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<&str>().copied();
        let text = text.or(panic.payload().downcast_ref::<String>().map(String::as_str));
        if text != Some(PANIC) {
            report(panic);
            std::process::exit(101);
        }
    }));
}

impl Run {
    fn new(settings: &Settings) -> Self {
        let world = World::open(&settings.folder, settings.index, settings.processes);
        let world = Arc::new(world);
        let (url, direct) = settings.url.split_once('|').unwrap_or((&settings.url, &settings.url));
        let mut store = builder(url).lookup_budget(settings.lookup_budget);
        if settings.load == Load::Late && settings.index % 2 == 1 {
            store = store.heartbeat(LATE_HEARTBEAT);
        }
        match (settings.is_near, settings.load) {
            (false, _) => store = store.near_cache_capacity(0),
            // Copies are confirmed often, and renewed.
            (true, Load::Crowd | Load::Late | Load::Doubts) => {
                let limit = Duration::from_millis(20);
                store = store.near_cache_capacity(1 << 22).near_cache_limit(limit);
            }
            (true, Load::Rests) => {}
        }
        let layer = life::layer_over(store.build().unwrap());
        let (seed, posted) = (Arc::new(AtomicU64::new(settings.seed)), Arc::<Posted>::default());
        let origin = Origin { world: Arc::clone(&world), seed, posted: Arc::clone(&posted) };
        Self {
            cache: layer.layer(origin),
            handle: layer.handle(),
            world,
            posted,
            is_near: settings.is_near,
            load: settings.load,
            url: url.to_owned(),
            counters: Counters::default(),
            foreign: direct.split(',').map(|url| redis::Client::open(url).unwrap()).collect(),
        }
    }

    /// Begins the tasks of a process.
    fn begin(self: &Arc<Self>, settings: &Settings) -> Vec<JoinHandle<()>> {
        let seed = |task: usize| {
            Random(settings.seed ^ (task as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d))
        };
        let others = (0..KEYS).filter(|key| !self.world.is_own(*key)).cycle();
        let mut tasks = Vec::new();
        for (task, key) in (0..settings.tasks).zip(others) {
            let run = Arc::clone(self);
            tasks.push(match settings.load {
                Load::Crowd | Load::Doubts => tokio::spawn(run.task(seed(task), 1)),
                Load::Late => tokio::spawn(run.task(seed(task), 20)),
                Load::Rests => tokio::spawn(run.read_one(key, seed(task))),
            });
        }
        if settings.load == Load::Rests {
            for key in self.world.all_own() {
                tasks.push(tokio::spawn(
                    Arc::clone(self).write_one(key, seed(settings.tasks + key)),
                ));
            }
        } else {
            tasks.push(tokio::spawn(Arc::clone(self).doubt(seed(settings.tasks))));
        }
        tasks
    }

    fn origin(&self) -> Origin {
        let (world, seed) = (Arc::clone(&self.world), Arc::new(AtomicU64::new(micros())));
        Origin { world, seed, posted: Arc::clone(&self.posted) }
    }

    fn tally(&self) -> Tally {
        let store = self.handle.metrics().store.expect("a store over a network has counts");
        let near = store.near;
        Tally { near: near.hits, confirmed: near.confirmed, ..self.counters.tally() }
    }

    /// Reads and writes. Of 10,000 times this number is for everything.
    async fn task(self: Arc<Self>, mut random: Random, of_all: u64) {
        loop {
            match random.below(10_000) {
                kind if kind < of_all => self.write_all().await,
                ..350 => self.write(&mut random).await,
                // Readers come in bursts and pause, so that there are fills, joins and hits.
                350..650 => pause(Duration::from_micros(random.below(3000))).await,
                _ => self.read(&mut random).await,
            }
        }
    }

    // ----- reads -----

    async fn read(&self, random: &mut Random) {
        let key = random.below(KEYS as u64) as usize;
        self.read_as(key, random.below(1 + CALLERS), random).await;
    }

    /// Reads a key as one of the callers; as nobody in particular if that is 0.
    async fn read_as(&self, key: usize, caller: u64, random: &mut Random) {
        let (kind, caller) = match (key, caller) {
            (..BARE, 0) => ("shared", String::new()),
            (..BARE, caller) => ("mine", caller.to_string()),
            (_, 0) => ("bare", String::new()),
            (_, caller) => ("bare_mine", caller.to_string()),
        };
        let mut request = Request::get(path(kind, key));
        if !caller.is_empty() {
            request = request.header("x-caller", &caller);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let bound = self.world.acknowledged(key);
        let soft_bound = self.world.acknowledged(softly(key));
        let doubted_until = self.world.doubted_until(key);
        let begun = micros();
        let read = caught(async {
            let response = self.cache.clone().oneshot(request).await.expect("it is infallible");
            text(response).await
        });
        // Most clients give up some time, a few at once.
        let patience = match random.below(100) {
            0..10 => Duration::from_micros(random.below(3000)),
            10..95 => Duration::from_millis(200),
            _ => Duration::from_secs(30),
        };
        let before = now();
        let read = timeout(patience, read).await;
        if before.elapsed() > Duration::from_secs(1) {
            self.counters.slow.fetch_add(1, Relaxed);
        }
        let (status, body) = match read {
            Err(_) if patience < Duration::from_secs(1) => {
                self.counters.cancelled.fetch_add(1, Relaxed);
                return;
            }
            Ok(Err(_)) => {
                self.counters.panics.fetch_add(1, Relaxed);
                return;
            }
            Err(_) => return self.fails(&format!("a read of key {key} did not end")),
            Ok(Ok(Err(error))) => return self.fails(&format!("a read of key {key}: {error}")),
            Ok(Ok(Ok(answer))) => answer,
        };
        let bounds = [bound, soft_bound];
        let read = Asked { kind, key, caller, begun, bounds, doubted_until };
        self.judge(&read, &status, &body);
    }

    /// Counts a read, and asks whether its answer is one that it may have.
    fn judge(&self, read: &Asked, status: &str, body: &str) {
        let Asked { kind, key, caller, begun, bounds: [bound, soft_bound], .. } = read;
        let (key, begun) = (*key, *begun);
        let is_in_doubt = micros() < read.doubted_until;
        self.counters.reads.fetch_add(1, Relaxed);
        if status.contains(";hit") {
            self.counters.hits.fetch_add(1, Relaxed);
        } else if status.contains(";collapsed") && !status.contains("collapsed=?0") {
            self.counters.joins.fetch_add(1, Relaxed);
        }
        let is_stale = says_stale(status);
        if is_in_doubt && status.contains(";hit") && !is_stale {
            self.violates(&format!("key {key}: a hit within a window ({status})"));
        }
        self.counters.stale.fetch_add(u64::from(is_stale), Relaxed);
        let Some(version) = version_of(body, kind, key, caller) else {
            let start: String = body.chars().take(20).collect();
            return self.violates(&format!("key {key} of {caller}: another's body {start:?}"));
        };
        if version < *bound && !self.is_late_message(key, version, begun) {
            self.violates(&format!(
                "key {key}: version {version} after {bound} was acknowledged ({status})"
            ));
        }
        let is_outdated = version >= *bound && version < *soft_bound;
        if is_outdated && !is_stale && !self.is_late_message(softly(key), version, begun) {
            self.violates(&format!(
                "key {key}: version {version} is fresh after {soft_bound} was softly acknowledged ({status})"
            ));
        }
    }

    /// Returns whether a version that is out of date was read because a message was still on its way to
    /// this process's near cache.
    fn is_late_message(&self, key: usize, version: u64, begun: u64) -> bool {
        let found = self.world.out_of_date(key, version, begun).filter(|_| self.is_near);
        let Some((late, by_owner)) = found else { return false };
        println!("{LATE}{late}");
        late <= PROVEN.as_micros() as u64 && !(by_owner && self.world.is_own(key))
    }

    // ----- writes -----

    async fn write(self: &Arc<Self>, random: &mut Random) {
        let key = self.world.own(random.next());
        self.counters.invalidations.fetch_add(1, Relaxed);
        match random.below(20) {
            0..2 => self.post("written", key).await,
            2..4 if key < BARE => self.post("tagged", key).await,
            4..6 if GROUPED.contains(&key) => self.post("grouped", key).await,
            6..9 => {
                let written = vec![(key, self.world.write(key))];
                if self.delete(&format!("k:{key}")).await.is_ok() {
                    self.acknowledge(&written, By::Stranger);
                }
            }
            // A deletion of the version ends a window, too.
            9..11 if key < BARE && self.load != Load::Doubts => {
                let written = self.write_fellows(key);
                let stamp = format!("tower-support-cache:tag:t:{}", key % TAGS);
                if self.delete(&stamp).await.is_ok() {
                    self.acknowledge(&written, By::Stranger);
                }
            }
            11..13 if key < BARE => {
                let (written, tag) = (self.write_fellows(key), format!("t:{}", key % TAGS));
                self.invalidate(self.handle.invalidate_tag(&tag), written, random).await;
            }
            13..14 if key < BARE => {
                let fellows = self.world.own_fellows(key);
                let written = fellows.map(|key| (softly(key), self.world.write(key))).collect();
                let tag = format!("t:{}", key % TAGS);
                self.invalidate(self.handle.soft_invalidate_tag(&tag), written, random).await;
            }
            14..15 => {
                let written = vec![(softly(key), self.world.write(key))];
                let name = format!("k:{key}");
                self.invalidate(self.handle.soft_invalidate(&name), written, random).await;
            }
            _ => {
                let written = vec![(key, self.world.write(key))];
                let name = format!("k:{key}");
                self.invalidate(self.handle.invalidate(&name), written, random).await;
            }
        }
    }

    /// Writes all our keys that have the tag of one.
    fn write_fellows(&self, key: usize) -> Written {
        self.world.own_fellows(key).map(|key| (key, self.world.write(key))).collect()
    }

    async fn invalidate(
        self: &Arc<Self>,
        invalidation: impl Future<Output = Result<(), Pending>>,
        written: Written,
        random: &mut Random,
    ) {
        let is_cut = random.in_percent(5);
        let patience = if is_cut { random.below(300) } else { 30_000_000 };
        match timeout(Duration::from_micros(patience), invalidation).await {
            Ok(Ok(())) => self.acknowledge(&written, By::Owner),
            Ok(Err(_)) => {
                self.counters.pending.fetch_add(1, Relaxed);
                self.acknowledge_later(written);
            }
            // Dropped, and not lost for that.
            Err(_) if is_cut => {
                self.counters.dropped.fetch_add(1, Relaxed);
                self.acknowledge_later(written);
            }
            Err(_) => self.fails(&format!("no invalidation of {written:?}")),
        }
    }

    fn acknowledge(&self, written: &[(usize, u64)], by: By) {
        self.counters.acknowledged.fetch_add(1, Relaxed);
        for (key, version) in written {
            self.world.acknowledge(*key, *version, by);
        }
    }

    /// Waits elsewhere until what is pending has been delivered, if the server is there in time.
    fn acknowledge_later(self: &Arc<Self>, written: Written) {
        let run = Arc::clone(self);
        tokio::spawn(async move {
            if run.handle.flush_pending(FLUSH).await.is_ok() {
                run.acknowledge(&written, By::Owner);
            }
        });
    }

    async fn write_all(&self) {
        let versions: Vec<_> =
            self.world.all_own().map(|key| (key, self.world.write(key))).collect();
        self.counters.invalidations.fetch_add(1, Relaxed);
        if self.handle.invalidate_all().await.is_ok() {
            self.counters.acknowledged.fetch_add(1, Relaxed);
            for (key, version) in versions {
                self.world.acknowledge(key, version, By::Owner);
            }
        } else {
            self.counters.pending.fetch_add(1, Relaxed);
        }
    }

    /// Writes through the layer, which invalidates by a rule.
    async fn post(self: &Arc<Self>, rule: &str, key: usize) {
        let request = Request::builder().method(Method::POST).uri(path(rule, key));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = self.cache.clone().oneshot(request).await.expect("it is infallible");
        match text(response).await {
            Ok((_, version)) => self.acknowledge_later(vec![(key, version.parse().unwrap())]),
            Err(error) => self.fails(&format!("a write of key {key}: {error}")),
        }
    }

    /// Deletes a key as `redis-cli` would: in a cluster at the node that has it.
    async fn delete(&self, key: &str) -> redis::RedisResult<()> {
        let mut deleted = Err((redis::ErrorKind::Client, "there is no server").into());
        for node in &self.foreign {
            deleted = async {
                let mut connection = node.get_multiplexed_async_connection().await?;
                redis::cmd("DEL").arg(key).query_async(&mut connection).await
            }
            .await;
            if deleted.is_ok() {
                break;
            }
        }
        deleted
    }

    // ----- what must not be -----

    fn violates(&self, what: &str) {
        if self.counters.violations.fetch_add(1, SeqCst) < 5 {
            println!("VIOLATION {what}");
        }
    }

    fn fails(&self, what: &str) {
        if self.counters.failures.fetch_add(1, SeqCst) < 5 {
            println!("FAILURE {what}");
        }
    }
}

/// A read that was answered, with the newest versions whose invalidation was acknowledged when it began:
/// in full, and softly.
struct Asked {
    kind: &'static str,
    key: usize,
    caller: String,
    begun: u64,
    bounds: [u64; 2],
    /// Time until which nothing may be stored, as it was said when it began.
    doubted_until: u64,
}

/// Returns the builder of a store at an address, or over a cluster at several.
pub(super) fn builder(url: &str) -> RedisStoreBuilder {
    match url.contains(',') {
        true => RedisStore::cluster(url.split(',')),
        false => RedisStore::builder(url),
    }
}

/// Versions that were written, by the register of their acknowledgement.
type Written = Vec<(usize, u64)>;

fn path(kind: &str, key: usize) -> String {
    format!("/{kind}/{}/{key}", key % TAGS)
}

/// Returns whether a response says that it is stale. A follower that shares one in place of an error
/// gets a remaining lifetime of zero.
fn says_stale(status: &str) -> bool {
    status.contains("detail=stale-") || status.ends_with("collapsed;ttl=0")
}

/// Returns `Cache-Status` and the body.
async fn text<B>(response: Response<ResponseBody<B>>) -> Result<(String, String), String>
where
    B: http_body::Body,
    ResponseBody<B>: http_body::Body<Data = Bytes, Error: std::fmt::Display>,
{
    let (head, body) = response.into_parts();
    let status = head.headers.get("cache-status").map_or("", |status| status.to_str().unwrap());
    let body = body.collect().await.map_err(|error| error.to_string())?;
    Ok((status.to_owned(), String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// Runs `future`; `Err` if it panics, which drops it.
async fn caught<F: Future>(future: F) -> Result<F::Output, ()> {
    let mut future = Box::pin(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(_) => Poll::Ready(Err(())),
    })
    .await
}

#[allow(clippy::disallowed_methods)] // A wall clock for a report; nothing waits for it.
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
