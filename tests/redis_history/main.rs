//! The history checker over Redis: processes that read and write registers whose versions only grow,
//! through the layer and one server, while that server is killed, stopped, demoted, emptied and cut
//! off. After an acknowledged invalidation, by key, by tag or by group, no read that begins later may be
//! of an older version, and each body must belong to its key and its caller. After a soft invalidation
//! what is older has to say that it is stale. After an unknown outcome the same holds from the end of its
//! window on.
//!
//! ```sh
//! cargo test --all-features --test redis_history                     # about 20 s
//! cargo test --release --all-features --test redis_history long      # the one that counts
//! ```
//!
//! Scenarios: `short`, `cluster` and `imitated` (the default), the last one for each service that
//! `support/dialect.rs` imitates; `long`, and `cluster-long` over six nodes; with near caches, whose messages may be on their way,
//! `near`, and where keys are seldom written `near-rests`, `near-silent`; with writes whose process ends
//! before the window of their unknown outcome `doubts`; for known mistakes `quiet`, `heartbeats`,
//! `near-quiet`, `restarts`, `failovers`, `demotions`, `shutdowns`. Options: `--processes`, `--tasks`,
//! `--seconds`, `--seed`.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/dialect.rs"]
mod dialect;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/server.rs"]
mod server;

mod cluster_faults;
mod faults;
mod origin;
mod report;
mod scenario;
mod tally;
mod worker;
mod world;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use faults::Faults;
use report::Report;
use scenario::{Goal, Scenario, Settings};
use server::{new_folder, pause, until};
use tally::Tally;
use world::World;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(settings) = Settings::of_worker(&arguments) {
        worker::run(&settings);
        return ExitCode::SUCCESS;
    }
    let Some(runs) = Scenario::asked_for(&arguments) else {
        // As a filter that matches no test of a harness.
        println!("running 0 tests");
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let faultless: Vec<_> = runs.iter().map(|scenario| runtime.block_on(run(scenario))).collect();
    report::servers(&runs, &faultless);
    if faultless.iter().all(|is_faultless| *is_faultless) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a scenario. Returns whether its goal is reached.
async fn run(scenario: &Scenario) -> bool {
    println!("{scenario}");
    let mut faults = Faults::new(scenario).await;
    let folder = new_folder();
    World::create(&folder);
    let mut workers: Vec<_> = (0..scenario.processes)
        .map(|index| Worker::start(scenario, index, &faults.url(index), &folder))
        .collect();
    let total =
        |workers: &[Worker]| workers.iter().map(Worker::tally).fold(Tally::default(), Tally::plus);
    until(Duration::from_secs(20), "every process reads", async || {
        workers.iter().all(|worker| worker.tally().reads > 0).then_some(())
    })
    .await;
    let mut report = Report::new(scenario);
    while !report.progress(&total(&workers), &faults.injected()) {
        faults.next(&mut workers).await;
    }
    let late = workers.iter().map(|worker| Arc::clone(&worker.late)).collect::<Vec<_>>();
    let mut finished = Vec::new();
    for worker in workers {
        finished.push(worker.finish().await);
    }
    let workers = finished;
    let late = late.iter().flat_map(|late| std::mem::take(&mut *late.lock().unwrap())).collect();
    let total = workers.iter().copied().fold(Tally::default(), Tally::plus);
    report.table(&total, &workers, &faults.injected());
    report::lateness(late, total.near);
    let _ = std::fs::remove_dir_all(folder);
    Goal::verdict(scenario, &total)
}

/// A process that reads and writes, and those before it in its place.
struct Worker {
    settings: Settings,
    /// Counts of those before it.
    before: Tally,
    process: Child,
    /// It ends when this is closed, also if we die.
    alive: Option<ChildStdin>,
    tally: Arc<Mutex<Tally>>,
    /// Lateness of messages, in microseconds.
    late: Arc<Mutex<Vec<u64>>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    fn start(scenario: &Scenario, index: usize, url: &str, folder: &Path) -> Self {
        let settings = Settings {
            index,
            processes: scenario.processes,
            tasks: scenario.tasks,
            seed: scenario.seed.wrapping_add(index as u64),
            is_near: scenario.is_near,
            load: scenario.load,
            lookup_budget: scenario.lookup_budget(),
            url: url.to_owned(),
            folder: folder.to_owned(),
        };
        Self::run(settings, Tally::default(), Arc::default())
    }

    fn run(settings: Settings, before: Tally, late: Arc<Mutex<Vec<u64>>>) -> Self {
        let index = settings.index;
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(settings.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a worker starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (latest, told) = (Arc::clone(&tally), Arc::clone(&late));
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let late = line.strip_prefix(worker::LATE).and_then(|micros| micros.parse().ok());
                match (Tally::parse(&line), late) {
                    (Some(tally), _) => *latest.lock().unwrap() = tally,
                    (None, Some(micros)) => told.lock().unwrap().push(micros),
                    (None, None) => println!("process {index}: {line}"),
                }
            }
        });
        let alive = process.stdin.take();
        Self { settings, before, process, alive, tally, late, reading: Some(reading) }
    }

    fn tally(&self) -> Tally {
        self.before.plus(*self.tally.lock().unwrap())
    }

    /// Tells it to replace its rules.
    fn reload(&mut self) {
        if let Some(words) = &mut self.alive {
            writeln!(words, "{}", worker::life::RELOAD).unwrap();
        }
    }

    /// Tells it to end, and starts another in its place once it has.
    async fn replace(&mut self) {
        self.wait().await;
        let mut settings = self.settings.clone();
        settings.seed = settings.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        *self = Self::run(settings, self.tally(), Arc::clone(&self.late));
    }

    /// Tells it to end, and waits until it has. Meanwhile the proxies go on.
    async fn wait(&mut self) {
        drop(self.alive.take());
        let status = loop {
            match self.process.try_wait().unwrap() {
                Some(status) => break status,
                None => pause(Duration::from_millis(10)).await,
            }
        };
        if let Some(reading) = self.reading.take() {
            reading.join().unwrap();
        }
        assert!(status.success(), "a worker failed: {status}");
    }

    /// Lets it end, and returns its last word.
    async fn finish(mut self) -> Tally {
        self.wait().await;
        self.tally()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
