//! Registers with a primary and a replica that lags, and their clients: how outdated is what they read?

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response};
use tokio::{task::JoinSet, time::Instant};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, Refill, Store, SupportCache, SupportCacheHandle, SupportCacheLayer,
};

use crate::{
    random::Random,
    support::{self, GatedBody, get, request},
};

/// Each of two tags is that of half of them, and so is each of two groups that their responses name.
const REGISTERS: u64 = 6;

/// Handlers of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// They read the primary where they are told, and say so.
    Heeding,
    /// They always read the replica.
    Heedless,
}

/// Times of a database and of the routes over it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Longest lag of the replica.
    pub(crate) lag: Duration,
    /// Settling time of the routes; zero for none.
    pub(crate) settle: Duration,
}

/// Database, and what its clients know of it.
pub(crate) struct Database {
    times: Times,
    reads: Reads,
    /// Times of the commits of each register: its version is their number.
    commits: Vec<Mutex<Vec<Instant>>>,
    /// Versions whose invalidation was acknowledged, and when.
    acknowledged: Vec<Mutex<Vec<(u64, Instant)>>>,
    /// Longest time between an acknowledged invalidation and a read of an older version, in microseconds.
    outdated: AtomicU64,
    /// Longest read of the database, in microseconds.
    slowest: AtomicU64,
    told: AtomicU64,
    seed: AtomicU64,
}

impl Database {
    pub(crate) fn new(times: Times, reads: Reads, seed: u64) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self {
            times,
            reads,
            commits: (0..REGISTERS).map(|_| Mutex::default()).collect(),
            acknowledged: (0..REGISTERS).map(|_| Mutex::default()).collect(),
            outdated: zero(),
            slowest: zero(),
            told: zero(),
            seed: AtomicU64::new(seed),
        })
    }

    /// Returns the longest time for which a read was outdated, beyond the time that the database took.
    pub(crate) fn outdated(&self) -> Duration {
        let micros = self.outdated.load(SeqCst).saturating_sub(self.slowest.load(SeqCst));
        Duration::from_micros(micros)
    }

    pub(crate) fn told(&self) -> u64 {
        self.told.load(SeqCst)
    }

    fn random(&self) -> Random {
        Random(self.seed.fetch_add(0x1234_5677, SeqCst))
    }

    #[allow(clippy::disallowed_methods)] // Nothing waits for it.
    async fn read(&self, register: usize, refill: Option<Refill>) -> Response<GatedBody> {
        let (mut random, began) = (self.random(), Instant::now());
        wander(&mut random).await;
        let is_primary = refill.is_some() && self.reads == Reads::Heeding;
        let lag = match is_primary {
            true => Duration::ZERO,
            false => self.times.lag * random.below(101) as u32 / 100,
        };
        let now = Instant::now();
        let commits = self.commits[register].lock().unwrap().clone();
        let version = commits.iter().filter(|at| **at + lag <= now).count();
        wander(&mut random).await;
        self.told.fetch_add(u64::from(refill.is_some()), SeqCst);
        let took = began.elapsed().as_micros() as u64;
        self.slowest.fetch_max(took, SeqCst);
        let mut response = support::response(200, &[], "");
        *response.body_mut() = GatedBody::full(version.to_string());
        let group = format!("\"{}\"", register % 2);
        response.headers_mut().insert("cache-groups", group.parse().unwrap());
        if let Some(refill) = refill.filter(|_| is_primary) {
            response.extensions_mut().insert(refill);
        }
        response
    }

    #[allow(clippy::disallowed_methods)] // Nothing waits for it.
    async fn write(&self, register: usize, how: &str) -> Response<GatedBody> {
        let mut random = self.random();
        wander(&mut random).await;
        let version = {
            let mut commits = self.commits[register].lock().unwrap();
            commits.push(Instant::now());
            commits.len()
        };
        wander(&mut random).await;
        let mut response = support::response(201, &[], "");
        *response.body_mut() = GatedBody::full(version.to_string());
        if how == "group" {
            let group = format!("\"{}\"", register % 2);
            response.headers_mut().insert("cache-group-invalidation", group.parse().unwrap());
        }
        response
    }

    #[allow(clippy::disallowed_methods)] // Nothing waits for it.
    fn acknowledge(&self, register: usize, version: u64) {
        self.acknowledged[register].lock().unwrap().push((version, Instant::now()));
    }

    /// Enters what a read has brought that began then, and when this was acknowledged.
    fn enter(&self, began: Instant, acknowledged: &[(u64, Instant)], version: u64) {
        let newer = acknowledged.iter().filter(|(newer, _)| version < *newer);
        if let Some(first) = newer.map(|(_, at)| *at).min() {
            // At least one: it is outdated.
            let micros = (began - first).as_micros().max(1) as u64;
            self.outdated.fetch_max(micros, SeqCst);
        }
    }
}

async fn wander(random: &mut Random) {
    for _ in 0..random.below(8) {
        tokio::task::yield_now().await;
    }
}

/// Service over the database.
#[derive(Clone)]
pub(crate) struct Handlers(Arc<Database>);

impl<B: Send + 'static> Service<Request<B>> for Handlers {
    type Response = Response<GatedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<GatedBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let database = Arc::clone(&self.0);
        Box::pin(async move {
            let mut parts = request.uri().path().split('/').skip(3);
            let register = parts.next().unwrap().parse().unwrap();
            Ok(match parts.next() {
                Some(how) => database.write(register, how).await,
                None => database.read(register, request.extensions().get().copied()).await,
            })
        })
    }
}

/// Process with a cache over the database.
#[derive(Clone)]
pub(crate) struct Process<St> {
    database: Arc<Database>,
    cache: SupportCache<Handlers, St>,
    pub(crate) handle: SupportCacheHandle,
}

impl<St: Store> Process<St> {
    pub(crate) fn new(database: &Arc<Database>, store: St) -> Self {
        let Times { settle, .. } = database.times;
        let mut route = CacheRoute::get("/r/{half}/{register}").key("r:{register}");
        route = route.tag("half:{half}").ttl(Duration::from_secs(600));
        if !settle.is_zero() {
            route = route.settle(settle);
        }
        let layer = SupportCacheLayer::builder(store)
            .cache(route)
            .invalidate(InvalidateRoute::post("/r/{half}/{register}/key").key("r:{register}"))
            .invalidate(InvalidateRoute::post("/r/{half}/{register}/tag").tag("half:{half}"))
            .invalidate(InvalidateRoute::post("/r/{half}/{register}/group").groups())
            .build()
            .unwrap();
        let cache = layer.layer(Handlers(Arc::clone(database)));
        Self { database: Arc::clone(database), cache, handle: layer.handle() }
    }

    pub(crate) fn hits(&self) -> u64 {
        self.handle.metrics().bucket("default").unwrap().hits
    }

    #[allow(clippy::disallowed_methods)] // Nothing waits for it.
    async fn read(self, register: usize) {
        let acknowledged = self.database.acknowledged[register].lock().unwrap().clone();
        let began = Instant::now();
        let path = format!("/r/{}/{register}", register % 2);
        let Ok(response) = self.cache.clone().oneshot(get(&path)).await;
        let version = support::read(response).await.text().parse().unwrap();
        self.database.enter(began, &acknowledged, version);
    }

    async fn write(self, register: usize, how: &'static str) {
        let path = format!("/r/{}/{register}/{how}", register % 2);
        let Ok(response) = self.cache.oneshot(request(Method::POST, &path)).await;
        let version = support::read(response).await.text().parse().unwrap();
        // A write is answered before a server that is slow has acknowledged; a call tells.
        if self.handle.flush_pending(Duration::from_secs(60)).await.is_ok() {
            self.database.acknowledge(register, version);
        }
    }

    /// Commits beside the cache, and invalidates by a call.
    async fn write_elsewhere(self, register: usize, is_everything: bool) {
        let written = self.database.write(register, "elsewhere").await;
        let version = self.database.commits[register].lock().unwrap().len() as u64;
        drop(written);
        let call = match is_everything {
            true => self.handle.invalidate_all(),
            false => self.handle.invalidate(format!("r:{register}")),
        };
        if call.await.is_ok() {
            self.database.acknowledge(register, version);
        }
    }
}

/// Lets clients read and write through processes, in steps. Some time passes after each.
pub(crate) async fn live<St: Store + Clone>(
    processes: &[Process<St>],
    steps: u64,
    mut pass: impl AsyncFnMut(u64),
) {
    let mut random = processes[0].database.random();
    // What a handler of reads is told too late is for those that are not.
    let is_heeding = processes[0].database.reads == Reads::Heeding;
    for _ in 0..steps {
        let mut clients = JoinSet::new();
        for _ in 0..1 + random.below(6) {
            let process = processes[random.below(processes.len() as u64) as usize].clone();
            let register = random.below(REGISTERS) as usize;
            match random.below(200) {
                0..5 => drop(clients.spawn(process.write(register, "key"))),
                5..8 => drop(clients.spawn(process.write(register, "tag"))),
                8..10 if !is_heeding => drop(clients.spawn(process.write(register, "group"))),
                10..13 => drop(clients.spawn(process.write_elsewhere(register, false))),
                13 if random.in_percent(20) => {
                    drop(clients.spawn(process.write_elsewhere(register, true)));
                }
                _ => drop(clients.spawn(process.read(register))),
            }
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        pass(random.below(100)).await;
    }
}
