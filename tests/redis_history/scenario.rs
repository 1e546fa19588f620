//! Scenarios: processes, tasks, faults and goals.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cluster_faults,
    dialect::{self, Dialect},
    faults::Fault,
    tally::Tally,
    world::KEYS,
};

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    name: &'static str,
    pub(crate) processes: usize,
    /// In each process.
    pub(crate) tasks: usize,
    pub(crate) seed: u64,
    /// Whether processes have near caches.
    pub(crate) is_near: bool,
    pub(crate) load: Load,
    pub(crate) faults: &'static [Fault],
    pub(crate) topology: Topology,
    /// Service that the servers imitate.
    pub(crate) dialect: Option<Dialect>,
    pub(crate) goal: Goal,
}

/// Servers of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    One,
    Cluster,
}

/// Use of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Every task reads and writes any key.
    Crowd,
    /// Each task reads one key of another process, which is seldom written.
    Rests,
    /// As the crowd. Everything is invalidated often, and every second process learns of it late.
    Late,
    /// As in a crowd, and many writes have an unknown outcome.
    Doubts,
}

/// When a run is over: all of it must be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) time: Duration,
    pub(crate) reads: u64,
    pub(crate) invalidations: u64,
    /// Of each kind.
    pub(crate) faults: u64,
    /// Percentage of reads that must be hits or joins: a cache that only forwards proves nothing.
    shared: u64,
}

/// Faults over servers that imitate a service: each run is short.
const IMITATED: &[Fault] = &[Fault::RestartFromRdb, Fault::Failover, Fault::ScriptFlush];

/// Percentage of reads that the server must confirm without near caches.
const CONFIRMED: u64 = 3;
/// Percentage of reads that near caches must answer where there are any.
const NEAR: u64 = 5;
/// Number of them over a cluster.
const NEAR_OF_CLUSTER: u64 = 100;

impl Scenario {
    /// Returns what the command line asks for; `None` if it names something else.
    pub(crate) fn asked_for(arguments: &[String]) -> Option<Vec<Self>> {
        let mut words = arguments.iter();
        let mut names = vec!["short", "cluster", "imitated"];
        let mut changes: Vec<(&str, u64)> = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                option @ ("--processes" | "--tasks" | "--seconds" | "--seed") => {
                    changes.push((option, words.next()?.parse().ok()?));
                }
                // Options of the test harness mean nothing here.
                option if option.starts_with('-') => {}
                word => names = vec![word],
            }
        }
        let named = names.into_iter().map(Self::named).collect::<Option<Vec<_>>>()?;
        let mut scenarios = named.concat();
        for scenario in &mut scenarios {
            for (option, value) in &changes {
                match *option {
                    "--processes" => scenario.processes = *value as usize,
                    "--tasks" => scenario.tasks = *value as usize,
                    "--seconds" => scenario.goal.time = Duration::from_secs(*value),
                    _ => scenario.seed = *value,
                }
            }
        }
        Some(scenarios)
    }

    fn named(name: &str) -> Option<Vec<Self>> {
        let time = Duration::from_secs;
        let some = |seconds| Goal {
            time: time(seconds),
            reads: 1000,
            invalidations: 100,
            faults: 0,
            shared: 10,
        };
        let scenario = |name, faults, goal| Self {
            name,
            processes: 2,
            tasks: 24,
            seed: 20_261_122,
            is_near: false,
            load: Load::Crowd,
            faults,
            topology: Topology::One,
            dialect: None,
            goal,
        };
        let rests = |name, faults| Self {
            tasks: KEYS,
            is_near: true,
            load: Load::Rests,
            ..scenario(name, faults, some(8))
        };
        Some(match name {
            "imitated" => return Self::imitated(),
            _ if name.starts_with("cluster") => return Self::over_cluster(name),
            "short" => vec![scenario("short", Fault::ALL, Goal { faults: 1, ..some(12) })],
            "long" => {
                let enough = Goal {
                    time: time(60),
                    reads: 1_000_000,
                    invalidations: 100_000,
                    faults: 20,
                    shared: 50,
                };
                // Each key is written by one process, and four fill for themselves more often.
                let goal = Goal { shared: 35, ..enough };
                let four = Self { processes: 4, ..scenario("long", Fault::ALL, goal) };
                vec![scenario("long", Fault::ALL, enough), four]
            }
            "near" => vec![Self {
                is_near: true,
                ..scenario("near", Fault::ALL, Goal { faults: 1, ..some(12) })
            }],
            "near-quiet" => vec![Self { is_near: true, ..scenario("near-quiet", &[], some(8)) }],
            "near-rests" => vec![rests("near-rests", &[])],
            "near-silent" => vec![rests("near-silent", &[Fault::BlackHole])],
            "doubts" => vec![Self { load: Load::Doubts, ..scenario("doubts", &[], some(12)) }],
            "heartbeats" => {
                vec![Self { load: Load::Late, ..scenario("heartbeats", &[], some(8)) }]
            }
            "quiet" => vec![scenario("quiet", &[], some(8))],
            "restarts" => vec![scenario("restarts", &[Fault::RestartFromRdb], some(10))],
            "failovers" => vec![scenario("failovers", &[Fault::Failover], some(10))],
            "shutdowns" => vec![scenario("shutdowns", &[Fault::Shutdown, Fault::Reload], some(15))],
            "demotions" => vec![scenario("demotions", &[Fault::Demotion], some(10))],
            _ => return None,
        })
    }

    /// Returns a run over a cluster, with near caches. While a primary is replaced all is forwarded, and fast.
    fn over_cluster(name: &str) -> Option<Vec<Self>> {
        let quiet = Self::named("near-quiet")?.pop()?;
        let (name, faults, seconds, times) = match name {
            "cluster" => ("cluster", cluster_faults::KINDS, 12, 1),
            "cluster-long" => ("cluster-long", cluster_faults::KINDS, 120, 10),
            "cluster-quiet" => ("cluster-quiet", &[][..], 8, 0),
            _ => return None,
        };
        let time = Duration::from_secs(seconds);
        let goal = Goal { time, faults: times, shared: 3, ..quiet.goal };
        Some(vec![Self { name, faults, goal, topology: Topology::Cluster, ..quiet }])
    }

    /// Returns the wait for a lookup: the default, and to a server that is far some ways there and back more.
    pub(crate) fn lookup_budget(&self) -> Duration {
        let round_trip = self.dialect.map_or(Duration::ZERO, |dialect| dialect.round_trip);
        Duration::from_millis(50) + 4 * round_trip
    }

    /// Returns a brief run over each imitated service, and over servers that are 1 ms and 30 ms away.
    fn imitated() -> Option<Vec<Self>> {
        let goal = |dialect: &Dialect, goal| {
            // While a server is away, reads are faster than those that ask one that is far.
            let shared = if dialect.round_trip > Duration::from_millis(10) { 1 } else { 3 };
            Goal { time: Duration::from_secs(3), faults: 1, shared, ..goal }
        };
        let quiet = Self::named("quiet")?.pop()?;
        let imitating = |dialect: &Dialect| Self {
            name: "imitated",
            faults: IMITATED,
            dialect: Some(*dialect),
            goal: goal(dialect, quiet.goal),
            ..quiet.clone()
        };
        let away = [dialect::ONE_MS, dialect::FAR];
        Some(away.iter().chain(dialect::ALL).map(imitating).collect())
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, processes, tasks, seed, dialect, .. } = self;
        write!(f, "history `{name}`: {processes} processes of {tasks} tasks, seed {seed}")?;
        if self.topology == Topology::Cluster {
            write!(f, ", a cluster of six nodes")?;
        }
        dialect.map_or(Ok(()), |dialect| write!(f, ", {} imitated", dialect.name))
    }
}

impl Goal {
    /// Returns how much of the goal is reached, in percent.
    pub(crate) fn percent(&self, tally: &Tally, elapsed: Duration, fewest: u64) -> u64 {
        let part = |is: u64, of: u64| (is * 100).checked_div(of).map_or(100, |part| part.min(100));
        let parts = [
            part(elapsed.as_millis() as u64, self.time.as_millis() as u64),
            part(tally.reads, self.reads),
            part(tally.invalidations, self.invalidations),
            part(fewest, self.faults),
        ];
        parts.into_iter().min().unwrap_or(100)
    }

    /// Says what is missing. Returns whether the run is as it must be.
    pub(crate) fn verdict(scenario: &Scenario, tally: &Tally) -> bool {
        let is_brief = scenario.dialect.is_some();
        let shared = tally.hits + tally.joins;
        let is_enough = shared * 100 >= tally.reads * scenario.goal.shared;
        if !is_enough {
            println!(
                "only {shared} of {} reads were hits or joins: that proves little",
                tally.reads
            );
        }
        let near = match scenario.topology {
            Topology::One => tally.reads * NEAR / 100,
            Topology::Cluster => NEAR_OF_CLUSTER,
        };
        let is_near = !scenario.is_near || tally.near >= near;
        if !is_near {
            println!("only {} of {} reads were of a near cache", tally.near, tally.reads);
        }
        let is_confirmed =
            is_brief || scenario.is_near || tally.confirmed * 100 >= tally.reads * CONFIRMED;
        if !is_confirmed {
            println!("the server confirmed only {} of {} reads", tally.confirmed, tally.reads);
        }
        let is_doubted = is_brief || scenario.load == Load::Rests || tally.settled > 0;
        if !is_doubted {
            println!("no unknown outcome was committed in time");
        }
        // Those at the end of the run do not count.
        let ended = scenario.faults.contains(&Fault::Shutdown);
        let is_drained = !ended || tally.drained > scenario.processes as u64;
        if !is_drained {
            println!("no process has ended in the run and seen to what it owed");
        }
        is_enough
            && is_doubted
            && is_drained
            && is_near
            && is_confirmed
            && tally.violations == 0
            && tally.failures == 0
    }
}

/// Settings that a process gets from its parent.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) index: usize,
    pub(crate) processes: usize,
    pub(crate) tasks: usize,
    pub(crate) seed: u64,
    pub(crate) is_near: bool,
    pub(crate) load: Load,
    pub(crate) lookup_budget: Duration,
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
}

const WORKER: &str = "--worker";

impl Settings {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { index, processes, tasks, seed, is_near, load, lookup_budget, url, folder } =
            self;
        let [index, processes, tasks] = [index, processes, tasks].map(|number| *number as u64);
        let (is_near, budget) = (u64::from(*is_near), lookup_budget.as_millis() as u64);
        let numbers = [index, processes, tasks, *seed, is_near, *load as u64, budget];
        let mut arguments = vec![WORKER.to_owned()];
        arguments.extend(numbers.map(|number| number.to_string()));
        arguments.extend([url.clone(), folder.to_str().unwrap().to_owned()]);
        arguments
    }

    /// Returns the settings if this process is a worker.
    pub(crate) fn of_worker(arguments: &[String]) -> Option<Self> {
        let [mark, index, processes, tasks, seed, is_near, load, budget, url, folder] = arguments
        else {
            return None;
        };
        if mark != WORKER {
            return None;
        }
        let [index, processes, tasks] = [index, processes, tasks].map(|text| text.parse().unwrap());
        let (url, folder) = (url.clone(), Path::new(folder).to_owned());
        let (seed, is_near) = (seed.parse().unwrap(), is_near == "1");
        let loads = [Load::Crowd, Load::Rests, Load::Late, Load::Doubts];
        let load = loads.into_iter().find(|known| *load == (*known as u64).to_string()).unwrap();
        let lookup_budget = Duration::from_millis(budget.parse().unwrap());
        Some(Self { index, processes, tasks, seed, is_near, load, lookup_budget, url, folder })
    }
}
