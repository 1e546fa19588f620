//! One cold key and several processes: each sends 500 requests for it at once, to a handler that
//! takes 50 ms. Prints how often a handler was called and how long the slowest request took, with
//! messages of the server (near cache on) and with polling alone (off).
//!
//! Starts its own `redis-server`, and itself again for each process.

#[path = "../../../tests/support/server.rs"]
mod server;
#[path = "../../support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    env,
    error::Error,
    future::Future,
    io::{BufRead, BufReader, Lines, Write, stdin, stdout},
    pin::Pin,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{Empty, Full};
use tokio::{runtime::Runtime, task::JoinSet, time::sleep};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, Credentials, RedisStore, SupportCache, SupportCacheHandle, SupportCacheLayer,
};

use server::Server;
use support::{origin, read, request};

const PROCESSES: [usize; 2] = [2, 8];
const REQUESTS: usize = 500;
const HANDLER: Duration = Duration::from_millis(50);
const ROUNDS: usize = 10;
const TTL: Duration = Duration::from_secs(60);
/// A machine with fewer cores than processes is no fault of the server.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|text| text != "--bench").collect();
    let runtime = Runtime::new()?;
    match arguments.as_slice() {
        [url, near] => work(&runtime, url, near == "pushes"),
        _ => lead(&runtime),
    }
}

// ===== the process that leads =====

fn lead(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let server = runtime.block_on(Server::start());
    println!("{REQUESTS} requests of each process, {HANDLER:?} handler, {ROUNDS} rounds");
    println!(
        "{:>9}  {:8}{:>14}{:>16}{:>14}",
        "processes", "woken by", "calls a round", "median", "slowest"
    );
    for processes in PROCESSES {
        for how in ["pushes", "polling"] {
            let mut workers = Worker::start(processes, &server.url(), how)?;
            let mut rounds = Vec::new();
            for round in 0..ROUNDS {
                rounds.push(Worker::round(
                    &mut workers,
                    &format!("/cases/{processes}-{how}-{round}"),
                )?);
            }
            let (least, most) =
                (rounds.iter().map(|one| one.0).min(), rounds.iter().map(|one| one.0).max());
            rounds.sort_by_key(|(_, slowest)| *slowest);
            let millis = |(_, micros): (u64, u64)| format!("{:.1} ms", micros as f64 / 1000.0);
            println!(
                "{processes:9}  {how:8}{:>14}{:>16}{:>14}",
                format!("{}-{}", least.unwrap_or(0), most.unwrap_or(0)),
                millis(rounds[ROUNDS / 2]),
                millis(rounds[ROUNDS - 1]),
            );
        }
    }
    Ok(())
}

/// A process that sends requests when it is told a target.
struct Worker {
    process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(count: usize, url: &str, how: &str) -> Result<Vec<Self>, Box<dyn Error>> {
        let mut workers = Vec::new();
        for _ in 0..count {
            let mut command = Command::new(env::current_exe()?);
            command.args([url, how]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = command.spawn()?;
            let orders = process.stdin.take().ok_or("it has a pipe")?;
            let answers = BufReader::new(process.stdout.take().ok_or("it has a pipe")?).lines();
            workers.push(Self { process, orders, answers });
        }
        for worker in &mut workers {
            worker.answer()?;
        }
        Ok(workers)
    }

    /// Lets all ask for a target at once. Returns how often a handler was called, and the longest
    /// that a request took, in microseconds.
    fn round(workers: &mut [Self], target: &str) -> Result<(u64, u64), Box<dyn Error>> {
        for worker in &mut *workers {
            writeln!(worker.orders, "{target}")?;
        }
        let (mut calls, mut slowest) = (0, 0);
        for worker in workers {
            let answer = worker.answer()?;
            let (own, took) = answer.split_once(' ').ok_or("two numbers")?;
            (calls, slowest) = (calls + own.parse::<u64>()?, slowest.max(took.parse()?));
        }
        Ok((calls, slowest))
    }

    fn answer(&mut self) -> Result<String, Box<dyn Error>> {
        Ok(self.answers.next().ok_or("the process has ended")??)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ===== a process that is led =====

fn work(runtime: &Runtime, url: &str, has_near: bool) -> Result<(), Box<dyn Error>> {
    let (cache, handle) = runtime.block_on(async { cache(url, has_near) })?;
    runtime.block_on(linked(&handle, has_near));
    println!("ready");
    for target in stdin().lines() {
        let slowest = runtime.block_on(crowd(&cache, &target?));
        println!("{} {}", CALLS.swap(0, Ordering::Relaxed), slowest.as_micros());
        stdout().flush()?;
    }
    Ok(())
}

fn cache(
    url: &str,
    has_near: bool,
) -> Result<(SupportCache<Slow, RedisStore>, SupportCacheHandle), Box<dyn Error>> {
    let store = RedisStore::builder(url).lookup_budget(PATIENCE).invalidate_budget(PATIENCE);
    let store = store.heartbeat_timeout(PATIENCE);
    let store = if has_near { store } else { store.near_cache_capacity(0) };
    let layer = SupportCacheLayer::builder(store.build()?)
        .cache(CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL))
        .credentials(Credentials::CoveredByKey)
        .build()?;
    Ok((layer.layer(Slow), layer.handle()))
}

async fn linked(handle: &SupportCacheHandle, has_near: bool) {
    let is_ready = |store: tower_support_cache::StoreSnapshot| {
        store.is_linked && (store.near.is_proven || !has_near)
    };
    while !handle.metrics().store.is_some_and(is_ready) {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends the requests, each on a task of its own; returns how long the slowest took.
async fn crowd(cache: &SupportCache<Slow, RedisStore>, target: &str) -> Duration {
    let mut tasks = JoinSet::new();
    for _ in 0..REQUESTS {
        let (cache, request) = (cache.clone(), request(Method::GET, target));
        tasks.spawn(async move {
            let sent = now();
            let Ok(response) = cache.oneshot(request).await;
            assert_eq!(read(response.into_body()).await, origin::BODY_LENGTH, "it is whole");
            sent.elapsed()
        });
    }
    tasks.join_all().await.into_iter().max().unwrap_or_default()
}

#[allow(clippy::disallowed_methods)] // Time that passes, not the cache's.
fn now() -> Instant {
    Instant::now()
}

/// How often the handler of this process was called.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// The origin, after a while.
#[derive(Clone)]
struct Slow;

impl Service<Request<Empty<Bytes>>> for Slow {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            sleep(HANDLER).await;
            Ok(origin::response(0))
        })
    }
}
