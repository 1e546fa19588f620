//! A hit over Redis beside the crate's own calls for the same bytes, and beside hits in memory.
//!
//! Starts its own `redis-server`. With a mode and a count it sends that many requests instead of
//! timing them, for callgrind: see `redis.sh`. With `rounds` the sides take turns, and each is compared
//! with the others of its round: for a machine that has other things to do.

#[path = "../../../tests/support/server.rs"]
mod server;
#[path = "../../support/mod.rs"]
mod support;

use std::{
    env,
    hint::black_box,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput};
use http::Method;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, Value, aio::MultiplexedConnection};
use tokio::{
    runtime::{self, Runtime},
    task::{JoinSet, yield_now},
};
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheRoute, Credentials, MemoryStore, RedisStore, Store, SupportCache, SupportCacheHandle,
    SupportCacheLayer,
};

use server::{PATIENCE, Server, until};
use support::{
    origin::{BODY_LENGTH, Origin},
    read, request,
};

const TTL: Duration = Duration::from_secs(3600);
/// How many resources are asked for in turn.
const SPREAD: usize = 256;
/// Too many to be remembered.
const WIDE_SPREAD: usize = 8 * 1024;
/// Their numbers begin here, so that all have the same length.
const FIRST: usize = 100_000;
const IN_FLIGHT: [usize; 3] = [1, 64, 256];
/// For callgrind, which counts instructions and no times.
const COUNTED_IN_FLIGHT: usize = 64;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|text| text != "--bench").collect();
    let runtime = runtime();
    let server = runtime.block_on(Server::start());
    if let [mode, count] = arguments.as_slice() {
        let (Some(mode), Ok(count)) = (Mode::named(mode), count.parse()) else {
            eprintln!("usage: redis [{} COUNT]", Mode::ALL.map(Mode::name).join("|"));
            return ExitCode::FAILURE;
        };
        runtime.block_on(async {
            Course::new(mode, &server).await.run(count, COUNTED_IN_FLIGHT).await
        });
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "rounds") {
        IN_FLIGHT.iter().for_each(|in_flight| runtime.block_on(take_turns(&server, *in_flight)));
        return ExitCode::SUCCESS;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for in_flight in IN_FLIGHT {
        compare(&mut criterion, (&runtime, &server), in_flight);
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn compare(criterion: &mut Criterion, (runtime, server): (&Runtime, &Server), in_flight: usize) {
    let mut group = criterion.benchmark_group("redis");
    group.throughput(Throughput::Elements(1));
    for mode in Mode::ALL {
        let course = runtime.block_on(Course::new(mode, server));
        group.bench_function(BenchmarkId::new(mode.name(), in_flight), |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(async {
                    let begun = now();
                    course.run(count as usize, in_flight).await;
                    begun.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// Prints the medians of what each side does in a second, and of its share of the raw commands' in the
/// same round.
async fn take_turns(server: &Server, in_flight: usize) {
    const ROUNDS: usize = 31;
    const REQUESTS: usize = 10_000;
    let mut courses = Vec::new();
    for mode in Mode::ALL {
        courses.push(Course::new(mode, server).await);
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut rates = Vec::new();
        for course in &courses {
            let begun = now();
            course.run(REQUESTS, in_flight).await;
            rates.push(REQUESTS as f64 / begun.elapsed().as_secs_f64());
        }
        rounds.push(rates);
    }
    let median = |of: &dyn Fn(&Vec<f64>) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    println!("{in_flight} in flight: a second, of GET, of HMGET, of HGET, of memory");
    for (index, mode) in Mode::ALL.into_iter().enumerate() {
        let rate = median(&|rates| rates[index]);
        let memory = Mode::ALL.len() - 1;
        let shares = [0, 1, 2, memory].map(|other| median(&|rates| rates[index] / rates[other]));
        let shares = shares.map(|share| format!("{share:>8.2}")).concat();
        println!("  {:16}{rate:>10.0}{shares}", mode.name());
    }
}

#[allow(clippy::disallowed_methods)] // Time that passes, not the cache's.
fn now() -> Instant {
    Instant::now()
}

/// One thread for the client; the server has its own.
fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

// ===== what is compared =====

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// `GET` of a string as long as the record.
    RawGet,
    /// `HMGET` of the record and of two fields beside it, as other caches read.
    RawHmget,
    /// `HGET` of the record: what a hit asks of what this process has not read of late.
    RawHget,
    /// A hit through the layer that asks the server.
    RedisHit,
    /// The same, of one resource alone.
    RedisHotHit,
    /// The same, of so many that each record is read anew.
    RedisReadHit,
    /// A hit in the near cache.
    NearHit,
    /// A hit in a `MemoryStore`.
    MemoryHit,
}

impl Mode {
    const ALL: [Self; 8] = [
        Self::RawGet,
        Self::RawHmget,
        Self::RawHget,
        Self::RedisHit,
        Self::RedisHotHit,
        Self::RedisReadHit,
        Self::NearHit,
        Self::MemoryHit,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RawGet => "redis_raw_get",
            Self::RawHmget => "redis_raw_hmget",
            Self::RawHget => "redis_raw_hget",
            Self::RedisHit => "redis_hit",
            Self::RedisHotHit => "redis_hot_hit",
            Self::RedisReadHit => "redis_read_hit",
            Self::NearHit => "near_hit",
            Self::MemoryHit => "memory_hit",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// One side, warm.
enum Course {
    Raw(MultiplexedConnection, Arc<[Vec<String>]>),
    Far(Site<RedisStore>),
    Near(Site<RedisStore>),
    Memory(Site<MemoryStore>),
}

struct Site<St: Store> {
    cache: SupportCache<Origin, St>,
    handle: SupportCacheHandle,
    targets: Arc<[String]>,
}

impl Course {
    async fn new(mode: Mode, server: &Server) -> Self {
        let course = match mode {
            Mode::RawGet | Mode::RawHmget | Mode::RawHget => {
                let mut asked = Vec::new();
                for (key, field, record) in records(server).await {
                    let lease = field.replacen('v', "l", 1);
                    asked.push(match mode {
                        Mode::RawHmget => {
                            vec!["HMGET".to_owned(), key, "g".to_owned(), field, lease]
                        }
                        Mode::RawHget => vec!["HGET".to_owned(), key, field],
                        _ => {
                            let copy = format!("copy:{key}");
                            let words = [b"SET", copy.as_bytes(), &record];
                            let set = server.ask_bytes::<Value>(&words).await;
                            set.expect("the server stores it");
                            vec!["GET".to_owned(), copy]
                        }
                    });
                }
                Self::Raw(connection(server).await, asked.into())
            }
            Mode::RedisHit => Self::Far(Site::far(server, 0, SPREAD).await),
            Mode::RedisHotHit => Self::Far(Site::far(server, 0, 1).await),
            Mode::RedisReadHit => Self::Far(Site::far(server, 0, WIDE_SPREAD).await),
            Mode::NearHit => Self::Near(Site::far(server, 1 << 22, SPREAD).await),
            Mode::MemoryHit => Self::Memory(Site::over(MemoryStore::new(), SPREAD)),
        };
        course.run(course.spread().max(4 * SPREAD), 1).await;
        course.check().await;
        course
    }

    fn spread(&self) -> usize {
        match self {
            Self::Raw(_, asked) => asked.len(),
            Self::Far(site) | Self::Near(site) => site.targets.len(),
            Self::Memory(site) => site.targets.len(),
        }
    }

    /// Sends requests, so many at a time, and reads each answer to its end.
    async fn run(&self, count: usize, in_flight: usize) {
        match self {
            Self::Raw(connection, asked) => {
                share(count, in_flight, || {
                    let (mut connection, all) = (connection.clone(), Arc::clone(asked));
                    async move |own| {
                        for _ in 0..own {
                            let words = &all[next() % all.len()];
                            let mut asked = redis::cmd(&words[0]);
                            for word in &words[1..] {
                                asked.arg(word);
                            }
                            let answer = asked.query_async::<Value>(&mut connection).await;
                            black_box(answer.expect("the server answers"));
                        }
                    }
                })
                .await;
            }
            Self::Far(site) | Self::Near(site) => site.run(count, in_flight).await,
            Self::Memory(site) => site.run(count, in_flight).await,
        }
    }

    /// Makes sure that each side does what its name says.
    async fn check(&self) {
        const REQUESTS: usize = 100;
        let (site, is_near) = match self {
            Self::Far(site) => (site, false),
            Self::Near(site) => (site, true),
            Self::Raw(..) | Self::Memory(_) => return,
        };
        let counts = || {
            let counts = site.handle.metrics();
            let store = counts.store.clone().expect("it has counts");
            let lookups = store.operations.get(&tower_support_cache::Operation::Lookup);
            let lookups = lookups.map_or(0, |lookups| lookups.answered);
            let hits = counts.bucket("cases").expect("there is one").hits;
            (hits, store.near.hits, lookups, store.near.confirmed)
        };
        let before = counts();
        self.run(REQUESTS, 1).await;
        let after = counts();
        assert_eq!(after.0 - before.0, REQUESTS as u64, "all are hits");
        let (near, far) = (after.1 - before.1, after.2 - before.2);
        assert_eq!((near > 0, far > 0), (is_near, !is_near), "{near} near, {far} lookups");
        let (confirmed, is_wide) = (after.3 - before.3, self.spread() == WIDE_SPREAD);
        assert_eq!(confirmed > REQUESTS as u64 / 2, !is_near && !is_wide, "{confirmed} confirmed");
    }
}

impl Site<RedisStore> {
    async fn far(server: &Server, near_capacity: u64, spread: usize) -> Self {
        // Under callgrind everything takes its time.
        let store = RedisStore::builder(server.url())
            .lookup_budget(PATIENCE)
            .invalidate_budget(PATIENCE)
            .heartbeat_timeout(Duration::from_secs(8))
            .near_cache_capacity(near_capacity)
            .near_cache_limit(TTL)
            .build()
            .expect("these are settings");
        let site = Self::over(store, spread);
        until(PATIENCE, "there is a link", async || {
            let store = site.handle.metrics().store?;
            (store.is_linked && (near_capacity == 0 || store.near.is_proven)).then_some(())
        })
        .await;
        site
    }
}

impl<St: Store> Site<St> {
    fn over(store: St, spread: usize) -> Self {
        let layer = SupportCacheLayer::builder(store)
            .cache(CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL))
            .credentials(Credentials::CoveredByKey)
            .build()
            .expect("the route is valid");
        let targets = (0..spread).map(|number| format!("/cases/{}", FIRST + number)).collect();
        Self { cache: layer.layer(Origin), handle: layer.handle(), targets }
    }

    async fn run(&self, count: usize, in_flight: usize) {
        share(count, in_flight, || {
            let (cache, targets) = (self.cache.clone(), Arc::clone(&self.targets));
            async move |own| {
                for number in 0..own {
                    let request = request(Method::GET, &targets[next() % targets.len()]);
                    let Ok(response) = cache.clone().oneshot(request).await;
                    assert_eq!(read(response.into_body()).await, BODY_LENGTH);
                    // A hit in memory never waits, and the heartbeat has to.
                    if number % 64 == 63 {
                        yield_now().await;
                    }
                }
            }
        })
        .await;
    }
}

/// Shares a number of requests out among clients.
async fn share<F, W>(count: usize, in_flight: usize, client: impl Fn() -> W)
where
    W: FnOnce(usize) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut clients = JoinSet::new();
    for number in 0..in_flight {
        let own = (count + number) / in_flight;
        clients.spawn(client()(own));
    }
    clients.join_all().await;
}

/// Which resource is asked for: each in turn, whoever asks.
fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Stores the responses, and returns the key, the field and the bytes of each.
async fn records(server: &Server) -> Vec<(String, String, Vec<u8>)> {
    let site = Site::far(server, 0, SPREAD).await;
    site.run(2 * SPREAD, 1).await;
    let mut records = Vec::new();
    for number in 0..SPREAD {
        let key = format!("case:{}", FIRST + number);
        let fields: Vec<(String, Vec<u8>)> = server.command(&["HGETALL", &key]).await;
        let record = fields.into_iter().find(|(field, _)| !field.ends_with('n'));
        let (field, record) = record.expect("it is stored");
        records.push((key, field, record));
    }
    records
}

/// As the crate makes it, but for the protocol, which is the store's.
async fn connection(server: &Server) -> MultiplexedConnection {
    let info = redis::IntoConnectionInfo::into_connection_info(server.url()).expect("an address");
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp));
    let config = AsyncConnectionConfig::new();
    let client = client.expect("an address");
    client.get_multiplexed_async_connection_with_config(&config).await.expect("it is there")
}
