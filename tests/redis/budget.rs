//! Processes on one server spend one budget.

#![allow(clippy::disallowed_methods)] // Calls are counted against the server's time.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn};
use tower_support_cache::{
    CacheRoute, CallerKey, Exhausted, OriginBudget, RedisStore, SupportCacheHandle,
    SupportCacheLayer,
};

use crate::{
    far,
    server::{Disk, PATIENCE, Server, pause, until},
};

const PROCESSES: usize = 8;

/// Calls that are left at first, and those that are paid for in a second.
const FIRST: f64 = 600.0;
const RATE: f64 = 20.0;

fn budget() -> OriginBudget {
    OriginBudget::new(2200, Duration::from_secs(50)).burst(1200).name("records")
}

/// A layer with a link of its own, as a process has it.
fn process(url: &str) -> SupportCacheLayer<RedisStore> {
    let cases = CacheRoute::get("/cases/{case}").key("case:{case}").ttl(PATIENCE);
    SupportCacheLayer::builder(far(url).build().unwrap())
        .caller_key(CallerKey::new([1; 32]))
        .origin_budget(budget())
        .cache(cases.when_exhausted(Exhausted::Refuse))
        .build()
        .unwrap()
}

/// Processes whose clients ask for other cases all the time.
struct Crowd {
    calls: Arc<AtomicU64>,
    began: Instant,
    clients: JoinSet<()>,
}

impl Crowd {
    fn of(processes: Vec<SupportCacheLayer<RedisStore>>) -> Self {
        let (calls, next) = (Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for (number, layer) in processes.into_iter().enumerate() {
            let count = Arc::clone(&calls);
            let origin = service_fn(move |_: Request<Empty<Bytes>>| {
                count.fetch_add(1, Ordering::Relaxed);
                async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"case")))) }
            });
            let (cache, next) = (layer.layer(origin), Arc::clone(&next));
            // Some processes have more clients than others.
            for _ in 0..=number % 3 {
                let (cache, next) = (cache.clone(), Arc::clone(&next));
                clients.spawn(async move {
                    loop {
                        let case = next.fetch_add(1, Ordering::Relaxed);
                        let request = Request::get(format!("/cases/{case}"));
                        let request = request.body(Empty::new()).unwrap();
                        let status = cache.clone().oneshot(request).await.unwrap().status();
                        pause(Duration::from_millis(if status == 200 { 1 } else { 10 })).await;
                    }
                });
            }
        }
        Self { calls, began: Instant::now(), clients }
    }

    /// Returns the calls that were made, in parts of those that were left to all processes.
    fn spent(&self) -> f64 {
        let all = FIRST + RATE * self.began.elapsed().as_secs_f64();
        self.calls.load(Ordering::Relaxed) as f64 / all
    }

    /// Waits until all that was left at first is spent.
    async fn drains(&self) {
        let is_drained = || self.spent() > 0.95;
        until(PATIENCE, "the budget is spent", async || is_drained().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_spend_one_budget() {
    let server = Server::start().await;
    let crowd = Crowd::of((0..PROCESSES).map(|_| process(&server.url())).collect());
    crowd.drains().await;
    for _ in 0..3 {
        pause(Duration::from_secs(1)).await;
        let spent = crowd.spent();
        assert!((0.95..=1.05).contains(&spent), "{spent}");
    }
    drop(crowd.clients);
}

/// What the server has lost is restored from what each process knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_loses_everything_gives_no_calls_away() {
    let mut server = Server::start().await;
    let crowd = Crowd::of((0..PROCESSES).map(|_| process(&server.url())).collect());
    crowd.drains().await;
    pause(Duration::from_secs(1)).await;
    server.kill();
    pause(Duration::from_secs(2)).await;
    let away = crowd.spent();
    assert!(away <= 1.05, "while it is away: {away}");
    server.restart(Disk::Empty).await;
    pause(Duration::from_secs(3)).await;
    let after = crowd.spent();
    assert!((0.95..=1.05).contains(&after), "afterwards: {after}");
    drop(crowd.clients);
}

/// A process that begins late finds what the others have spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_begins_finds_what_others_have_spent() {
    let server = Server::start().await;
    let (first, second) = (process(&server.url()).handle(), process(&server.url()).handle());
    let left = |handle: &SupportCacheHandle| handle.metrics().origin.unwrap().left;
    until(PATIENCE, "the first has reported", async || {
        first.count_origin_calls(1);
        let key = "tower-support-cache:calls:records";
        let is_there: bool = server.command(&["EXISTS", key]).await;
        is_there.then_some(())
    })
    .await;
    first.count_origin_calls(250);
    until(PATIENCE, "the second has heard", async || {
        second.count_origin_calls(0);
        (left(&second) < 450).then_some(())
    })
    .await;
    // It adds nothing to what is left: only the first who ever comes is given one half.
    until(PATIENCE, "the first has heard", async || {
        first.count_origin_calls(0);
        (left(&first) < 450).then_some(())
    })
    .await;
}
