//! The run.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tower_support_cache_hostile::{Attack, Scale};

use crate::{
    client,
    faults::Fault,
    fleet::{Fleet, Process, SERVERS},
    redis_server::Server,
    report::{Report, Sample, progress},
    tally::{Tally, percentile},
    truth::{self, Truth},
};

/// Time from one fault to the next.
const FAULT_EVERY: Duration = Duration::from_secs(4);
/// Time from one attack to the next, and how long it lasts.
const ATTACK_EVERY: Duration = Duration::from_secs(6);
const ATTACK: Duration = Duration::from_secs(3);
/// Attacks that leave the servers, which share the machine with all clients, room for these.
const SCALE: Scale = Scale { time: ATTACK, connections: 200, stalled: 40, unread: 1 };

/// Extent of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This crate's binary.
    pub program: PathBuf,
    /// Time of the run.
    pub time: Duration,
    /// Cases that clients ask for.
    pub cases: usize,
    /// Clients.
    pub clients: u64,
    /// Start of all random choices.
    pub seed: u64,
}

/// Runs servers, clients, faults and attacks for a time.
pub async fn run(settings: &Settings) -> Report {
    let (truth, fleet, tally) =
        (Truth::new(settings.cases), Fleet::new(settings.cases), Arc::new(Tally::default()));
    let mut redis = Server::start().await;
    redis.option("maxmemory", "512mb");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = [format!("http://{}", listener.local_addr().unwrap()), redis.url()];
    let mut background = JoinSet::new();
    background.spawn(truth::serve(listener, Arc::clone(&truth)));
    let start = || Process::start(&settings.program, &urls, &fleet, settings.cases);
    let mut processes = [start().await, start().await];
    for number in 0..settings.clients {
        let (fleet, tally) = (Arc::clone(&fleet), Arc::clone(&tally));
        background.spawn(client::run(fleet, tally, settings.cases, settings.seed + number));
    }
    background.spawn(attack(Arc::clone(&fleet)));

    let began = Instant::now();
    let mut report = Report::new(settings);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_fault = began + FAULT_EVERY;
    while began.elapsed() < settings.time {
        seconds.tick().await;
        report.samples.push(sample(&processes, &tally, began.elapsed()).await);
        progress(began.elapsed(), settings.time, &tally);
        if Instant::now() < next_fault {
            continue;
        }
        next_fault += FAULT_EVERY;
        let fault = Fault::ALL[report.injected() as usize % Fault::ALL.len()];
        if !fault.inject(&mut redis).await {
            match fault {
                Fault::ProcessEnds => {
                    // The first process stays, so that it grows old.
                    let [_, last] = &mut processes;
                    let ended = std::mem::replace(last, start().await);
                    report.undrained += u64::from(!ended.end(&fleet).await);
                }
                _ => {
                    for process in &processes {
                        assert_eq!(process.ask("reload").await, "true", "the rules are reloaded");
                    }
                }
            }
        }
        report.count(fault);
    }
    background.shutdown().await;
    report.end(&tally, truth.reads.load(Ordering::Relaxed));
    report
}

/// Attacks one server after the other.
async fn attack(fleet: Arc<Fleet>) {
    let attacks = Attack::ALL.into_iter().filter(|attack| *attack != Attack::Nothing);
    let attacks = attacks.flat_map(|attack| attack.protocols().iter().map(move |by| (attack, *by)));
    let attacks: Vec<_> = attacks.collect();
    for number in 0_u64.. {
        let next = Instant::now() + ATTACK_EVERY;
        let (attack, protocol) = attacks[number as usize % attacks.len()];
        let address = fleet.member(number).address;
        let mut running = JoinSet::new();
        running.spawn(attack.run(address, protocol, SCALE));
        sleep(ATTACK).await;
        running.shutdown().await;
        sleep_until(next).await;
    }
}

async fn sample(processes: &[Process; SERVERS], tally: &Tally, at: Duration) -> Sample {
    let times = tally.take_times();
    let mut tasks = [0; SERVERS];
    for (tasks, process) in tasks.iter_mut().zip(processes) {
        *tasks = process.ask("tasks").await.parse().unwrap_or_default();
    }
    Sample {
        at,
        reads: tally.reads.load(Ordering::Relaxed),
        hits: tally.hits.load(Ordering::Relaxed),
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
        memory: processes.each_ref().map(Process::memory),
        files: processes.each_ref().map(Process::files),
        tasks,
    }
}
