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
//! Scenarios: `short` (the default), `long`; with near caches, whose messages may be on their way,
//! `near`, and where keys are seldom written `near-rests`, `near-silent`; with writes whose process ends
//! before the window of their unknown outcome `doubts`; for known mistakes `quiet`, `heartbeats`,
//! `near-quiet`, `restarts`, `failovers`, `demotions`. Options: `--processes`, `--tasks`, `--seconds`,
//! `--seed`.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/server.rs"]
mod server;

mod faults;
mod origin;
mod report;
mod scenario;
mod tally;
mod worker;
mod world;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use faults::Faults;
use report::Report;
use scenario::{Goal, Scenario, Settings};
use server::{new_folder, until};
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
    let faultless = runs.iter().filter(|scenario| runtime.block_on(run(scenario))).count();
    if faultless == runs.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a scenario. Returns whether its goal is reached.
async fn run(scenario: &Scenario) -> bool {
    println!("{scenario}");
    let mut faults = Faults::new(scenario).await;
    let folder = new_folder();
    World::create(&folder);
    let workers: Vec<_> = (0..scenario.processes)
        .map(|index| Worker::start(scenario, index, &faults.url(index), &folder))
        .collect();
    let total = || workers.iter().map(Worker::tally).fold(Tally::default(), Tally::plus);
    until(Duration::from_secs(20), "every process reads", async || {
        workers.iter().all(|worker| worker.tally().reads > 0).then_some(())
    })
    .await;
    let mut report = Report::new(scenario);
    while !report.progress(&total(), &faults.injected()) {
        faults.next().await;
    }
    let late = workers.iter().map(|worker| Arc::clone(&worker.late)).collect::<Vec<_>>();
    let workers: Vec<_> = workers.into_iter().map(Worker::finish).collect();
    let late = late.iter().flat_map(|late| std::mem::take(&mut *late.lock().unwrap())).collect();
    let total = workers.iter().copied().fold(Tally::default(), Tally::plus);
    report.table(&total, &workers, &faults.injected());
    report::lateness(late, total.near);
    let _ = std::fs::remove_dir_all(folder);
    Goal::verdict(scenario, &total)
}

/// A process that reads and writes.
struct Worker {
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
            url: url.to_owned(),
            folder: folder.to_owned(),
        };
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(settings.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a worker starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let late = Arc::new(Mutex::new(Vec::new()));
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
        Self { process, alive, tally, late, reading: Some(reading) }
    }

    fn tally(&self) -> Tally {
        *self.tally.lock().unwrap()
    }

    /// Lets it end, and returns its last word.
    fn finish(mut self) -> Tally {
        drop(self.alive.take());
        let status = self.process.wait().unwrap();
        if let Some(reading) = self.reading.take() {
            reading.join().unwrap();
        }
        assert!(status.success(), "a worker failed: {status}");
        self.tally()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
