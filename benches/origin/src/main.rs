//! Simulated days of the support portal over an origin with a daily quota: without a cache, with fixed
//! lifetimes, and with a budget. Time is paused, and all chance has one seed.

#![allow(clippy::disallowed_methods)] // The clock of the simulation.

mod day;
mod parameters;
mod report;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    env, fs,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, ConfigError, InvalidateRoute, MemoryStore, OriginBudget, SupportCache,
    SupportCacheLayer,
};

use crate::{
    day::{Changes, Event, Random, events},
    parameters::{
        DAYS, Day, IF_ERROR, LATENCY, LIST_TTL, MESSAGES_TTL, QUOTA, SEED, WHILE_REVALIDATE,
    },
};

const WHOLE_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Cache between the portal and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    None,
    Fixed,
    Budget,
}

impl Policy {
    const ALL: [Self; 3] = [Self::None, Self::Fixed, Self::Budget];

    fn name(self) -> &'static str {
        match self {
            Self::None => "no cache",
            Self::Fixed => "fixed lifetimes",
            Self::Budget => "budget",
        }
    }

    fn layer(self) -> Result<SupportCacheLayer<MemoryStore>, ConfigError> {
        let builder = SupportCacheLayer::builder(MemoryStore::new());
        let list = CacheRoute::get("/accounts/{account}/cases")
            .bucket("case_list")
            .key("support:cases:{account}")
            .ttl(LIST_TTL);
        let messages = CacheRoute::get("/accounts/{account}/cases/{case}/messages")
            .bucket("messages")
            .key("support:messages:{account}:{case}")
            .ttl(MESSAGES_TTL);
        let controlled = |route: CacheRoute| {
            let route = route.early_refresh(1.0).stale_while_revalidate(WHILE_REVALIDATE);
            route.stale_if_error(IF_ERROR)
        };
        let builder = match self {
            Self::None => return builder.build(),
            Self::Fixed => builder.cache(list).cache(messages),
            Self::Budget => builder
                .origin_budget(OriginBudget::new(QUOTA, WHOLE_DAY))
                .cache(controlled(list))
                .cache(controlled(messages)),
        };
        let comments = InvalidateRoute::post("/accounts/{account}/cases/{case}/comments");
        let comments = comments.key("support:cases:{account}");
        builder.invalidate(comments.key("support:messages:{account}:{case}")).build()
    }
}

/// Origin, and what the portal's clients have seen of it.
struct World {
    midnight: Instant,
    changes: Changes,
    random: Mutex<Random>,
    calls: AtomicU32,
    /// Calls by the minute of the day.
    minutes: Vec<AtomicU32>,
    requests: AtomicU64,
    refused: AtomicU64,
    /// Milliseconds for which the answers were not true any more.
    staleness: Mutex<Vec<u64>>,
}

impl World {
    fn new() -> Self {
        Self {
            midnight: Instant::now(),
            changes: Changes::default(),
            random: Mutex::new(Random::new(SEED)),
            calls: AtomicU32::new(0),
            minutes: (0..24 * 60 + 2).map(|_| AtomicU32::new(0)).collect(),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            staleness: Mutex::default(),
        }
    }

    /// Returns the milliseconds of the day.
    fn now(&self) -> u64 {
        u64::try_from(self.midnight.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns one half of the time that a call takes.
    fn half(&self) -> Duration {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let range = (LATENCY.end - LATENCY.start) as usize;
        Duration::from_millis((LATENCY.start + random.below(range) as u64) / 2)
    }

    /// Enters a change of a case, which is one of its account's list, too.
    fn change(&self, account: usize, case: usize) {
        let at = self.now();
        self.changes.add(list_of(account), at);
        self.changes.add(messages_of(account, case), at);
    }
}

fn list_of(account: usize) -> String {
    format!("/accounts/{account}/cases")
}

fn messages_of(account: usize, case: usize) -> String {
    format!("/accounts/{account}/cases/{case}/messages")
}

/// System of record: slow, and with a quota.
#[derive(Clone)]
struct Origin(Arc<World>);

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            let calls = world.calls.fetch_add(1, Ordering::Relaxed);
            let minute = (world.now() / 60_000) as usize;
            world.minutes[minute.min(world.minutes.len() - 1)].fetch_add(1, Ordering::Relaxed);
            sleep(world.half()).await;
            let mut response = Response::new(Full::default());
            if calls >= QUOTA {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                return Ok(response);
            }
            if request.method() == Method::POST {
                let mut parts =
                    request.uri().path().split('/').filter_map(|part| part.parse().ok());
                if let (Some(account), Some(case)) = (parts.next(), parts.next()) {
                    world.change(account, case);
                }
            }
            *response.body_mut() = Full::from(world.now().to_string());
            sleep(world.half()).await;
            Ok(response)
        })
    }
}

/// Client of the portal.
#[derive(Clone)]
struct Client {
    portal: SupportCache<Origin, MemoryStore>,
    world: Arc<World>,
}

impl Client {
    async fn act(self, event: Event) {
        match event {
            Event::View { account, case } => {
                self.get(list_of(account)).await;
                if let Some(case) = case {
                    self.get(messages_of(account, case)).await;
                }
            }
            Event::Comment { account, case } => {
                let path = format!("/accounts/{account}/cases/{case}/comments");
                self.send(Method::POST, &path).await;
            }
            Event::Change { account, case } => self.world.change(account, case),
        }
    }

    async fn get(&self, path: String) {
        let Some(body) = self.send(Method::GET, &path).await else { return };
        let made = std::str::from_utf8(&body).ok().and_then(|text| text.parse().ok());
        let made = made.expect("the origin says when it made a response");
        let staleness = self.world.changes.staleness(&path, made, self.world.now());
        self.world.staleness.lock().unwrap_or_else(PoisonError::into_inner).push(staleness);
    }

    /// Returns the body of a response, unless it was refused.
    async fn send(&self, method: Method, path: &str) -> Option<Bytes> {
        self.world.requests.fetch_add(1, Ordering::Relaxed);
        let request = Request::builder().method(method).uri(path).body(Empty::new());
        let request = request.expect("a request");
        let Ok(response) = self.portal.clone().oneshot(request).await;
        if !response.status().is_success() {
            self.world.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(response.into_body().collect().await.ok()?.to_bytes())
    }
}

/// Result of a day with one policy.
struct Outcome {
    policy: Policy,
    requests: u64,
    calls: u32,
    refused: u64,
    minutes: Vec<u32>,
    /// Sorted milliseconds for which the answers were not true any more.
    staleness: Vec<u64>,
    spared: BTreeMap<&'static str, u64>,
}

async fn simulate(day: Day, policy: Policy) -> Result<Outcome, ConfigError> {
    let layer = policy.layer()?;
    let world = Arc::new(World::new());
    let portal = layer.layer(Origin(Arc::clone(&world)));
    let client = Client { portal, world: Arc::clone(&world) };
    for (at, event) in events(day) {
        sleep_until(world.midnight + at).await;
        tokio::spawn(client.clone().act(event));
    }
    sleep(Duration::from_secs(60)).await;
    let mut staleness =
        std::mem::take(&mut *world.staleness.lock().unwrap_or_else(PoisonError::into_inner));
    staleness.sort_unstable();
    let spared = layer.handle().metrics().origin.map_or_else(BTreeMap::new, |origin| {
        origin.spared.iter().map(|(call, count)| (call.as_str(), *count)).collect()
    });
    Ok(Outcome {
        policy,
        requests: world.requests.load(Ordering::Relaxed),
        calls: world.calls.load(Ordering::Relaxed),
        refused: world.refused.load(Ordering::Relaxed),
        minutes: world.minutes.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
        staleness,
        spared,
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut days = Vec::new();
    for day in DAYS {
        let mut outcomes = Vec::new();
        for policy in Policy::ALL {
            // A runtime of its own: nothing is left of the day before.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()?;
            let outcome = runtime.block_on(simulate(day, policy))?;
            eprintln!("{}, {}: {} calls", day.name, policy.name(), outcome.calls);
            outcomes.push(outcome);
        }
        days.push((day, outcomes));
    }
    let table = report::table(&days);
    match env::args().nth(1) {
        Some(folder) => {
            fs::write(format!("{folder}/origin.md"), table)?;
            fs::write(format!("{folder}/origin.svg"), report::plot(&days))?;
        }
        None => println!("{table}"),
    }
    Ok(())
}
