//! The progress bar and the final table.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::{
    faults::Fault,
    scenario::{Scenario, Topology},
    server::server_name,
    tally::Tally,
};

const WIDTH: u64 = 30;
/// Pause between lines of progress where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

pub(crate) struct Report {
    scenario: Scenario,
    begun: Instant,
    last: Duration,
}

impl Report {
    #[allow(clippy::disallowed_methods)] // A wall clock for a report.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self { scenario: scenario.clone(), begun: Instant::now(), last: Duration::ZERO }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Shows how far the run is. Returns whether it is over.
    pub(crate) fn progress(&mut self, tally: &Tally, injected: &BTreeMap<Fault, u64>) -> bool {
        let fewest = self.scenario.faults.iter().map(|fault| injected.get(fault).copied());
        let fewest = fewest.map(Option::unwrap_or_default).min().unwrap_or_default();
        let percent = self.scenario.goal.percent(tally, self.elapsed(), fewest);
        let faults: u64 = injected.values().sum();
        let filled = (percent * WIDTH / 100) as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH as usize - filled));
        let Tally { reads, invalidations, violations, .. } = tally;
        let line = format!(
            "[{bar}] {percent:3} %  {:4} s  {reads} reads  {invalidations} invalidations  {faults} faults  {violations} violations",
            self.elapsed().as_secs()
        );
        if std::io::stderr().is_terminal() {
            eprint!("\r{line}");
            let _ = std::io::stderr().flush();
        } else if self.elapsed() >= self.last + LINE {
            self.last = self.elapsed();
            eprintln!("{line}");
        }
        percent == 100
    }

    pub(crate) fn table(&self, total: &Tally, workers: &[Tally], injected: &BTreeMap<Fault, u64>) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        let seconds = self.elapsed().as_secs_f64();
        println!("\n{:<28}{:>12}{:>12}", "", "all", "per second");
        let row = |name: &str, count: u64| {
            println!("{name:<28}{count:>12}{:>12.0}", count as f64 / seconds);
        };
        row("reads", total.reads);
        row("  hits", total.hits);
        row("    of near caches", total.near);
        row("    confirmed by the server", total.confirmed);
        row("    stale, and said so", total.stale);
        row("  joins", total.joins);
        row("  over a second", total.slow);
        row("reads cancelled", total.cancelled);
        row("handler panics", total.panics);
        row("invalidations", total.invalidations);
        row("  acknowledged", total.acknowledged);
        row("  pending at first", total.pending);
        row("  dropped on the way", total.dropped);
        row("unknown outcomes", total.doubts);
        row("  committed in time", total.settled);
        row("processes drained", total.drained);
        for (fault, count) in injected {
            println!("{:<28}{count:>12}", format!("fault: {}", fault.name()));
        }
        for (index, worker) in workers.iter().enumerate() {
            println!("{:<28}{:>12}", format!("reads of process {index}"), worker.reads);
        }
        println!("{:<28}{:>12}", "failed requests", total.failures);
        println!("{:<28}{:>12}", "VIOLATIONS", total.violations);
        println!("{seconds:.1} s\n");
    }
}

/// Shows how late the messages to near caches were, as far as a read has seen it.
pub(crate) fn lateness(mut micros: Vec<u64>, of: u64) {
    micros.sort_unstable();
    let Some(worst) = micros.last() else { return };
    let at = |percent: usize| micros[(micros.len() - 1) * percent / 100] as f64 / 1000.0;
    println!(
        "{} of {of} reads of a near cache before the message: p50 {:.2} ms, p90 {:.2}, p99 {:.2}, worst {:.2}\n",
        micros.len(),
        at(50),
        at(90),
        at(99),
        *worst as f64 / 1000.0
    );
}

/// Shows over which servers the runs were.
pub(crate) fn servers(runs: &[Scenario], faultless: &[bool]) {
    let real = server_name();
    let cluster = format!("{real}, six nodes");
    println!("{:<28}{:>12}  result", "server", "");
    for (scenario, is_faultless) in runs.iter().zip(faultless) {
        let (name, how) = match scenario.dialect {
            Some(dialect) => (dialect.name, "imitated"),
            None if scenario.topology == Topology::Cluster => (&*cluster, "real"),
            None => (&*real, "real"),
        };
        let result = if *is_faultless { "as it must be" } else { "FAILED" };
        println!("{name:<28}{how:>12}  {result}");
    }
    for other in ["redis", "valkey"].iter().filter(|other| !real.contains(**other)) {
        println!("{other:<28}{:>12}  not run", "real");
    }
}
