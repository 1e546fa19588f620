//! How much is done in a second: the columns take turns, and each is compared with the others of its
//! round.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{Bench, columns, in_memory, median_of};
use crate::{
    columns::{Entry, Keeps},
    course::{FIRST, SPREAD, Spent, runtime},
    origin::Script,
    report::Cell,
    site::{AnySite, Plan, Wish},
};

const TURN: Duration = Duration::from_millis(150);

// ===== two threads =====

const KEYS: u32 = 100_000;
const THREADS: u64 = 2;
const TURNS: usize = 15;

/// Hits by two threads, among 100,000 keys by Zipf's law with 0.99.
pub fn throughput(bench: &mut Bench) -> Vec<Cell> {
    let numbers: Vec<_> = (0..THREADS).map(|thread| zipf(thread + 1)).collect();
    let columns: Vec<_> = in_memory().into_iter().map(|column| (column, warm(column))).collect();
    let rounds = bench.rounds(TURNS, &columns, |_, site, _| together(site, &numbers));
    columns
        .iter()
        .enumerate()
        .map(|(index, (column, _))| {
            let rate = median_of(&rounds, index, |rate| *rate);
            let least = rounds.iter().map(|round| round[index] / round[0]).collect();
            Cell::new(column.name, [("rate", rate), ("of_minimum", super::median(least))])
        })
        .collect()
}

fn warm(column: &'static Entry) -> AnySite {
    runtime().block_on(async {
        let site = (column.build)(Plan::new(Script::work()).entries(2 * KEYS as usize)).await;
        let numbers: Vec<u32> = (FIRST..FIRST + KEYS).collect();
        site.run(&Wish::get(), &numbers).await;
        site
    })
}

/// Returns requests in a second.
fn together(site: &AnySite, numbers: &[Vec<u32>]) -> f64 {
    let done = AtomicU64::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for numbers in numbers {
            let done = &done;
            scope.spawn(move || {
                runtime().block_on(async {
                    let wish = Wish::get();
                    for some in numbers.chunks(256).cycle() {
                        site.run(&wish, some).await;
                        done.fetch_add(some.len() as u64, Relaxed);
                        if begun.elapsed() > TURN {
                            break;
                        }
                    }
                });
            });
        }
    });
    done.load(Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Returns numbers of targets, the k-th most asked for with a weight of k^-0.99. Which these are is
/// strewn over all.
fn zipf(seed: u64) -> Vec<u32> {
    const DRAWN: usize = 1 << 17;
    let mut sums: Vec<f64> = Vec::with_capacity(KEYS as usize);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += f64::from(rank).powf(-0.99);
        sums.push(sum);
    }
    let mut state = seed;
    let mut draw = || {
        let drawn = random(&mut state) * sum;
        let rank = sums.partition_point(|sum| *sum < drawn).min(KEYS as usize - 1) as u64;
        // A prime that does not divide the number of keys: each rank has a key of its own.
        FIRST + (rank * 48_271 % u64::from(KEYS)) as u32
    };
    (0..DRAWN).map(|_| draw()).collect()
}

/// SplitMix64, as a fraction of one.
pub fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

// ===== over Redis =====

/// Hits over Redis by one thread, with 1, 64 and 256 on their way, each on another of so many keys.
pub fn redis(bench: &mut Bench) -> Vec<Cell> {
    let runtime = runtime();
    let url = bench.server.url();
    let mut built = Vec::new();
    for column in columns(&[Keeps::RawRedis, Keeps::Redis]) {
        let plan = Plan { redis: Some(url.clone()), ..Plan::new(Script::work()) };
        let site = runtime.block_on((column.build)(plan));
        let numbers: Vec<u32> = (FIRST..FIRST + SPREAD).collect();
        runtime.block_on(site.run(&Wish::get(), &numbers));
        built.push((column, site));
    }
    let mut cells = Vec::new();
    for in_flight in [1, 64, 256] {
        let rounds = bench.rounds(TURNS, &built, |_, site, _| {
            runtime.block_on(in_turns(site, in_flight, TURN)).0
        });
        let raw = |name: &str| built.iter().position(|(column, _)| column.name == name);
        let (get, hmget) = (raw("raw-GET"), raw("raw-HMGET"));
        for (index, (column, site)) in built.iter().enumerate() {
            let of = |other: Option<usize>| {
                let other = other.expect("it is a column");
                super::median(rounds.iter().map(|round| round[index] / round[other]).collect())
            };
            let (client, server) = runtime.block_on(spent(bench, site, in_flight));
            let values = [
                ("rate", median_of(&rounds, index, |rate| *rate)),
                ("of_get", of(get)),
                ("of_hmget", of(hmget)),
                ("client_us", client),
                ("server_us", server),
            ];
            cells.push(Cell::new(column.name, values).at(in_flight));
        }
    }
    cells
}

/// Returns microseconds of work that a hit takes here and at the server. A link's heartbeat is within.
async fn spent(bench: &Bench, site: &AnySite, in_flight: usize) -> (f64, f64) {
    let at_server = async || {
        let user: f64 = bench.server.info("cpu", "used_cpu_user").await.parse().unwrap_or(0.0);
        let system: f64 = bench.server.info("cpu", "used_cpu_sys").await.parse().unwrap_or(0.0);
        user + system
    };
    let (before, begun) = (at_server().await, Spent::begin());
    let (_, done) = in_turns(site, in_flight, 4 * TURN).await;
    let client = begun.nanoseconds() / 1000.0;
    let server = (at_server().await - before) * 1e6;
    (client / done, server / done)
}

/// Returns hits in a second, and how many there were.
async fn in_turns(site: &AnySite, in_flight: usize, turn: Duration) -> (f64, f64) {
    let done = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..in_flight as u32 {
        let (site, done) = (Arc::clone(site), Arc::clone(&done));
        clients.spawn(async move {
            let wish = Wish::get();
            let mut next = client.wrapping_mul(37);
            while begun.elapsed() < turn {
                let numbers: [u32; 16] =
                    std::array::from_fn(|n| FIRST + next.wrapping_add(n as u32) % SPREAD);
                next = next.wrapping_add(16);
                site.run(&wish, &numbers).await;
                done.fetch_add(16, Relaxed);
                tokio::task::yield_now().await;
            }
        });
    }
    clients.join_all().await;
    let done = done.load(Relaxed) as f64;
    (done / begun.elapsed().as_secs_f64(), done)
}
