//! Hit ratio, and time of the origin saved, of the memory store beside other caches over public traces.

mod gdsf;
mod objects;
mod ours;
mod policies;
mod report;
mod workload;

use std::{env, error::Error, fs, path::PathBuf};

use crate::{
    gdsf::Gdsf,
    objects::{Distribution, Random, fill_time},
    ours::Ours,
    policies::{Fill, Moka, Policy, QuickCache, Room, S3Fifo},
    workload::{ROOMS, Workload},
};

/// Runs of each row, each with other sizes, times and hashes.
const SEEDS: u64 = 5;

/// Caches, in the order of the tables. The first is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Ours,
    QuickCache,
    QuickCache90,
    Moka,
    S3Fifo,
    GdsfSize,
    GdsfTime,
}

impl Column {
    pub const ALL: [Self; 7] = [
        Self::Ours,
        Self::QuickCache,
        Self::QuickCache90,
        Self::Moka,
        Self::S3Fifo,
        Self::GdsfSize,
        Self::GdsfTime,
    ];

    /// Returns the cache; `None` for ours, which is asked by requests.
    fn policy(self, room: Room) -> Option<Box<dyn Policy>> {
        Some(match self {
            Self::Ours => return None,
            Self::QuickCache => Box::new(QuickCache::new(room, None)),
            Self::QuickCache90 => Box::new(QuickCache::new(room, Some(0.90))),
            Self::Moka => Box::new(Moka::new(room)),
            Self::S3Fifo => Box::new(S3Fifo::new(room)),
            Self::GdsfSize => Box::new(Gdsf::new(room.bytes, |fill| 1.0 / fill.weight as f64)),
            Self::GdsfTime => {
                Box::new(Gdsf::new(room.bytes, |fill| fill.time as f64 / fill.weight as f64))
            }
        })
    }
}

/// Result of one cache with one seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Share of the requests that were hits.
    pub hits: f64,
    /// Share of the origin's time, if each request went there, that hits have saved.
    pub saved: f64,
    /// Seconds of the origin that hits have saved, for each MiB of the capacity.
    pub seconds_per_mib: f64,
}

/// Runs of all caches over one workload, one distribution, and one room.
pub struct Row {
    pub workload: &'static str,
    pub distribution: Distribution,
    /// Share of all objects' weight that the caches have room for.
    pub room: f64,
    /// Mean capacity in bytes.
    pub bytes: u64,
    /// Runs by seed, in the order of [`Column::ALL`].
    pub columns: Vec<Vec<Run>>,
}

/// Result of each request, which every cache is asked with one seed.
struct Trial<'a> {
    workload: &'a Workload,
    distribution: Distribution,
    seed: u64,
    overhead: u64,
    room: Room,
}

impl Trial<'_> {
    async fn run(&self, column: Column) -> Run {
        let (mut hits, mut saved, mut all) = (0, 0.0, 0.0);
        let mut random = Random::new(self.seed);
        let mut policy = column.policy(self.room);
        let ours = policy.is_none().then(|| Ours::new(self.room.bytes));
        for key in &self.workload.requests {
            let object = self.distribution.object(self.seed, *key);
            let time = fill_time(object, &mut random);
            let is_hit = match (&mut policy, &ours) {
                (Some(policy), _) => {
                    let is_hit = policy.get(*key);
                    if !is_hit {
                        let weight = object.size as u64 + self.overhead;
                        policy.insert(*key, Fill { weight, time });
                    }
                    is_hit
                }
                (None, Some(ours)) => ours.get(*key, object.size, time).await,
                (None, None) => false,
            };
            all += object.cost;
            if is_hit {
                hits += 1;
                saved += object.cost;
            }
        }
        let mib = self.room.bytes as f64 / f64::from(1 << 20);
        Run {
            hits: f64::from(hits) / self.workload.requests.len() as f64,
            saved: saved / all,
            seconds_per_mib: saved / 1000.0 / mib,
        }
    }
}

async fn measure(workload: &Workload, distribution: Distribution, room: f64, overhead: u64) -> Row {
    let mut columns = vec![Vec::new(); Column::ALL.len()];
    let mut bytes = 0;
    for seed in 1..=SEEDS {
        let weight = |key: &u32| distribution.object(seed, *key).size as u64 + overhead;
        let all: u64 = workload.objects.iter().map(weight).sum();
        let room = Room {
            bytes: (all as f64 * room) as u64,
            entries: (workload.objects.len() as f64 * room) as usize,
        };
        bytes += room.bytes / SEEDS;
        let trial = Trial { workload, distribution, seed, overhead, room };
        for (runs, column) in columns.iter_mut().zip(Column::ALL) {
            runs.push(trial.run(column).await);
        }
    }
    Row { workload: workload.name, distribution, room, bytes, columns }
}

fn main() -> Result<(), Box<dyn Error>> {
    let traces = env::var_os("TRACES").map_or_else(|| PathBuf::from("traces"), PathBuf::from);
    let workloads = workload::all(&traces)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let overhead = runtime.block_on(Ours::overhead());
    let mut rows = Vec::new();
    for distribution in Distribution::ALL {
        for workload in &workloads {
            for room in ROOMS {
                eprintln!("{}, {}, {room}", distribution.name(), workload.name);
                let row = runtime.block_on(measure(workload, distribution, room, overhead));
                rows.push(row);
            }
        }
    }
    let page = report::page(&workloads, &rows, &env::var("NOTE").unwrap_or_default());
    match env::args().nth(1) {
        Some(folder) => {
            fs::write(format!("{folder}/hit_ratio.md"), page)?;
            fs::write(format!("{folder}/hit_ratio.svg"), report::plot(&rows))?;
        }
        None => println!("{page}"),
    }
    Ok(())
}
