//! One process of a run: tasks that read and write through a layer of its own.

use std::{
    future::{Future, poll_fn},
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
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
use tokio::time::timeout;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheRoute, Caller, Credentials, InvalidateRoute, RedisStore, ResponseBody, SupportCache,
    SupportCacheHandle, SupportCacheLayer,
};

use crate::{
    origin::{Origin, PANIC, version_of},
    random::Random,
    scenario::Settings,
    server::pause,
    tally::Counters,
    world::{By, KEYS, World, micros},
};

const CALLERS: u64 = 2;
/// After heartbeat and timeout a near cache that hears nothing is silent.
const PROVEN: Duration = Duration::from_millis(300);
/// What a line begins with that tells how late a message was, in microseconds.
pub(crate) const LATE: &str = "late ";
const LIFETIME: Duration = Duration::from_secs(600);
/// In this time a pending invalidation is delivered, unless the server stays away.
const FLUSH: Duration = Duration::from_secs(3);

struct Run {
    cache: SupportCache<Origin, RedisStore>,
    handle: SupportCacheHandle,
    world: Arc<World>,
    is_near: bool,
    counters: Counters,
    /// For invalidations by a program that knows nothing of us.
    foreign: redis::Client,
}

pub(crate) fn run(settings: &Settings) {
    keep_quiet_about_handlers();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let run = Arc::new(Run::new(settings));
        for task in 0..settings.tasks {
            let seed = settings.seed ^ (task as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d);
            tokio::spawn(Arc::clone(&run).task(Random(seed)));
        }
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            // Closed when the parent has seen enough, or has died.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = ended.send(());
        });
        let mut end = pin!(end);
        while timeout(Duration::from_millis(100), end.as_mut()).await.is_err() {
            println!("{}", run.counters.tally().line());
        }
        println!("{}", run.counters.tally().line());
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
        let caller = Caller::with(|request| {
            Some(request.headers().get("x-caller")?.to_str().ok()?.to_owned())
        });
        let mut store = RedisStore::builder(&settings.url);
        if !settings.is_near {
            store = store.near_cache(0, Duration::ZERO);
        }
        let layer = SupportCacheLayer::builder(store.build().unwrap())
            .caller_key([7; 32])
            .cache(CacheRoute::get("/shared/{key}").bucket("shared").key("k:{key}").ttl(LIFETIME))
            .cache(
                CacheRoute::get("/mine/{key}")
                    .bucket("mine")
                    .key("k:{key}")
                    .ttl(LIFETIME)
                    .credentials(Credentials::PerCaller(caller)),
            )
            .invalidate(InvalidateRoute::post("/written/{key}").key("k:{key}"))
            .build()
            .unwrap();
        let origin =
            Origin { world: Arc::clone(&world), seed: Arc::new(AtomicU64::new(settings.seed)) };
        Self {
            cache: layer.layer(origin),
            handle: layer.handle(),
            world,
            is_near: settings.is_near,
            counters: Counters::default(),
            foreign: redis::Client::open(settings.url.as_str()).unwrap(),
        }
    }

    async fn task(self: Arc<Self>, mut random: Random) {
        loop {
            match random.below(10_000) {
                0 => self.write_all().await,
                1..700 => self.write(&mut random).await,
                // Readers come in bursts and pause, so that there are fills, joins and hits.
                700..1000 => pause(Duration::from_micros(random.below(3000))).await,
                _ => self.read(&mut random).await,
            }
        }
    }

    // ----- reads -----

    async fn read(&self, random: &mut Random) {
        let key = random.below(KEYS as u64) as usize;
        let (kind, caller) = match random.below(1 + CALLERS) {
            0 => ("shared", String::new()),
            caller => ("mine", caller.to_string()),
        };
        let mut request = Request::get(format!("/{kind}/{key}"));
        if !caller.is_empty() {
            request = request.header("x-caller", &caller);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let bound = self.world.acknowledged(key);
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
        self.counters.reads.fetch_add(1, Relaxed);
        if status.contains(";hit") {
            self.counters.hits.fetch_add(1, Relaxed);
        } else if status.contains(";collapsed") && !status.contains("collapsed=?0") {
            self.counters.joins.fetch_add(1, Relaxed);
        }
        match version_of(&body, kind, key, &caller) {
            Some(version) if version >= bound => {}
            Some(version) if self.is_late_message(key, version, begun) => {}
            Some(version) => self.violates(&format!(
                "key {key}: version {version} after {bound} was acknowledged ({status})"
            )),
            None => {
                let start: String = body.chars().take(20).collect();
                self.violates(&format!("key {key} of {caller}: another's body {start:?}"));
            }
        }
    }

    /// Whether a version that is out of date was read because a message was still on its way to
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
        match random.below(10) {
            0..2 => {
                if let Some(version) = self.post(key).await {
                    self.acknowledge_later(key, version);
                }
            }
            2..4 => {
                let version = self.world.write(key);
                if self.delete(key).await.is_ok() {
                    self.acknowledge(key, version, By::Stranger);
                }
            }
            _ => self.invalidate(key, random).await,
        }
    }

    async fn invalidate(self: &Arc<Self>, key: usize, random: &mut Random) {
        let version = self.world.write(key);
        let is_cut = random.in_percent(5);
        let patience = if is_cut { random.below(300) } else { 30_000_000 };
        let name = format!("k:{key}");
        let invalidation = self.handle.invalidate(&name);
        match timeout(Duration::from_micros(patience), invalidation).await {
            Ok(Ok(())) => self.acknowledge(key, version, By::Owner),
            Ok(Err(_)) => {
                self.counters.pending.fetch_add(1, Relaxed);
                self.acknowledge_later(key, version);
            }
            // Dropped, and not lost for that.
            Err(_) if is_cut => {
                self.counters.dropped.fetch_add(1, Relaxed);
                self.acknowledge_later(key, version);
            }
            Err(_) => self.fails(&format!("no invalidation of key {key}")),
        }
    }

    fn acknowledge(&self, key: usize, version: u64, by: By) {
        self.counters.acknowledged.fetch_add(1, Relaxed);
        self.world.acknowledge(key, version, by);
    }

    /// Waits elsewhere until what is pending has been delivered, if the server is there in time.
    fn acknowledge_later(self: &Arc<Self>, key: usize, version: u64) {
        let run = Arc::clone(self);
        tokio::spawn(async move {
            if run.handle.flush_pending(FLUSH).await.is_ok() {
                run.acknowledge(key, version, By::Owner);
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

    /// Writes through the layer, which invalidates by its rule.
    async fn post(&self, key: usize) -> Option<u64> {
        let request = Request::builder().method(Method::POST).uri(format!("/written/{key}"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = self.cache.clone().oneshot(request).await.expect("it is infallible");
        match text(response).await {
            Ok((_, version)) => version.parse().ok(),
            Err(error) => {
                self.fails(&format!("a write of key {key}: {error}"));
                None
            }
        }
    }

    /// Deletes the key as `redis-cli` would.
    async fn delete(&self, key: usize) -> redis::RedisResult<()> {
        let mut connection = self.foreign.get_multiplexed_async_connection().await?;
        redis::cmd("DEL").arg(format!("k:{key}")).query_async(&mut connection).await
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
