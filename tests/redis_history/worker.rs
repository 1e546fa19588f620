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
    world::{KEYS, World},
};

const CALLERS: u64 = 2;
const LIFETIME: Duration = Duration::from_secs(600);
/// In this time a pending invalidation is delivered, unless the server stays away.
const FLUSH: Duration = Duration::from_secs(3);

struct Run {
    cache: SupportCache<Origin, RedisStore>,
    handle: SupportCacheHandle,
    world: Arc<World>,
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
        let layer = SupportCacheLayer::builder(RedisStore::connect(&settings.url).unwrap())
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
            counters: Counters::default(),
            foreign: redis::Client::open(settings.url.as_str()).unwrap(),
        }
    }

    async fn task(self: Arc<Self>, mut random: Random) {
        loop {
            match random.below(1000) {
                0..60 => self.write(&mut random).await,
                60 => self.write_all().await,
                // Readers come in bursts and pause, so that there are fills, joins and hits.
                61..100 => pause(Duration::from_micros(random.below(3000))).await,
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
        let read = caught(async {
            let response = self.cache.clone().oneshot(request).await.expect("it is infallible");
            text(response).await
        });
        let patience = match random.below(10) {
            0 => Duration::from_micros(random.below(3000)),
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
            Some(version) => self.violates(&format!(
                "key {key}: version {version} after {bound} was acknowledged ({status})"
            )),
            None => {
                let start: String = body.chars().take(20).collect();
                self.violates(&format!("key {key} of {caller}: another's body {start:?}"));
            }
        }
    }

    // ----- writes -----

    async fn write(&self, random: &mut Random) {
        let key = self.world.own(random.next());
        self.counters.invalidations.fetch_add(1, Relaxed);
        let (version, is_acknowledged) = match random.below(10) {
            0..2 => match self.post(key).await {
                Some(version) => (version, self.flush().await),
                None => return,
            },
            2..4 => {
                let version = self.world.write(key);
                (version, self.delete(key).await.is_ok())
            }
            _ => {
                let version = self.world.write(key);
                let is_cut = random.in_percent(5);
                let patience = if is_cut { random.below(300) } else { 30_000_000 };
                let name = format!("k:{key}");
                let invalidation = self.handle.invalidate(&name);
                match timeout(Duration::from_micros(patience), invalidation).await {
                    Ok(Ok(())) => (version, true),
                    Ok(Err(_)) => {
                        self.counters.pending.fetch_add(1, Relaxed);
                        (version, self.flush().await)
                    }
                    // Dropped, and not lost for that.
                    Err(_) if is_cut => {
                        self.counters.dropped.fetch_add(1, Relaxed);
                        (version, self.flush().await)
                    }
                    Err(_) => return self.fails(&format!("no invalidation of key {key}")),
                }
            }
        };
        if is_acknowledged {
            self.counters.acknowledged.fetch_add(1, Relaxed);
            self.world.acknowledge(key, version);
        }
    }

    async fn write_all(&self) {
        let versions: Vec<_> =
            self.world.all_own().map(|key| (key, self.world.write(key))).collect();
        self.counters.invalidations.fetch_add(1, Relaxed);
        if self.handle.invalidate_all().await.is_ok() {
            self.counters.acknowledged.fetch_add(1, Relaxed);
            versions.iter().for_each(|(key, version)| self.world.acknowledge(*key, *version));
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

    /// Waits until what is pending has been acknowledged, if the server is there.
    async fn flush(&self) -> bool {
        self.handle.flush_pending(FLUSH).await.is_ok()
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
