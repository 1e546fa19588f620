//! The table and the pictures of a run.

use std::{
    fmt::Write as _,
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::atomic::Ordering,
    time::Duration,
};

use tower_support_cache_hostile::{provenance, write as write_table};

use crate::{
    faults::Fault,
    fleet::SERVERS,
    plot::{Line, Panel, draw},
    run::Settings,
    tally::Tally,
};

/// Time after which a run must be steady: by then the stores are full.
const STEADY_AFTER: Duration = Duration::from_secs(20 * 60);

/// Figures at one second.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Reads so far, and hits among them.
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    /// Times of the reads since the last sample.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Resident memory of each server, in KiB.
    pub(crate) memory: [u64; SERVERS],
    /// Open files of each.
    pub(crate) files: [u64; SERVERS],
    /// Tasks of each.
    pub(crate) tasks: [u64; SERVERS],
}

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Reads that were answered.
    pub reads: u64,
    /// Reads that the cache answered.
    pub hits: u64,
    /// Changes that were answered.
    pub changes: u64,
    /// Changes that were acknowledged for all processes.
    pub acknowledged: u64,
    /// Requests that were sent again because their server had ended.
    pub moved: u64,
    /// Reads of a version older than one that had been acknowledged.
    pub stale: u64,
    /// Requests without a response, or with a wrong one.
    pub failed: u64,
    /// Processes that ended and left something unfinished.
    pub undrained: u64,
    /// Reads of the origin.
    pub origin_reads: u64,
    pub(crate) samples: Vec<Sample>,
    counts: [u64; Fault::ALL.len()],
    texts: Vec<String>,
    setting: String,
}

impl Report {
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings { cases, clients, seed, .. } = settings;
        Self {
            reads: 0,
            hits: 0,
            changes: 0,
            acknowledged: 0,
            moved: 0,
            stale: 0,
            failed: 0,
            undrained: 0,
            origin_reads: 0,
            samples: Vec::new(),
            counts: [0; Fault::ALL.len()],
            texts: Vec::new(),
            setting: format!("{cases} cases, {clients} clients, {SERVERS} servers, seed {seed}"),
        }
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        let place = Fault::ALL.iter().position(|known| *known == fault);
        self.counts[place.expect("all faults are listed")] += 1;
    }

    /// Returns how many faults were injected.
    pub fn injected(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn end(&mut self, tally: &Tally, origin_reads: u64) {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        self.reads = count(&tally.reads);
        self.hits = count(&tally.hits);
        self.changes = count(&tally.changes);
        self.acknowledged = count(&tally.acknowledged);
        self.moved = count(&tally.moved);
        self.stale = count(&tally.stale);
        self.failed = count(&tally.failed);
        self.origin_reads = origin_reads;
        self.texts = tally.faults();
    }

    /// Returns the most memory that a server has had, in bytes.
    pub fn most_memory(&self) -> u64 {
        self.samples.iter().flat_map(|sample| sample.memory).max().unwrap_or_default() * 1024
    }

    /// Returns what must not be: stale reads, failed requests, figures that grow. A process that says what it has left
    /// is none: its clients know of no acknowledgement by it for all.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.texts.clone();
        for (count, what) in [(self.stale, "stale reads"), (self.failed, "failed requests")] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        let is_long = self.samples.last().is_some_and(|sample| sample.at >= STEADY_AFTER);
        if is_long {
            for row in self.steadiness() {
                if row.last > row.middle * row.most {
                    faults.push(format!("{}: {:.1}, then {:.1}", row.name, row.middle, row.last));
                }
            }
        }
        faults
    }

    /// Returns the medians of the middle and of the last third, of the server that is never replaced.
    fn steadiness(&self) -> [Row; 4] {
        let third = self.samples.len() / 3;
        let row = |name, most, value: &dyn Fn(usize) -> f64| {
            let median = |from: usize| {
                let mut values: Vec<_> = (from..from + third).map(value).collect();
                values.sort_by(f64::total_cmp);
                values.get(third / 2).copied().unwrap_or_default()
            };
            Row { name, most, middle: median(third), last: median(2 * third) }
        };
        let reads = |at: usize| self.samples[at].reads - self.samples[at.max(1) - 1].reads;
        [
            // Attacks move it by half.
            row("memory, MiB", 1.25, &|at| self.samples[at].memory[0] as f64 / 1024.0),
            row("open files", 1.2, &|at| self.samples[at].files[0] as f64),
            row("tasks", 1.2, &|at| self.samples[at].tasks[0] as f64),
            row("ms for a read that takes as long as the others", 1.2, &|at| {
                1000.0 / reads(at).max(1) as f64
            }),
        ]
    }

    /// Returns the table.
    pub fn table(&self) -> String {
        let seconds = self.samples.last().map_or(0, |sample| sample.at.as_secs());
        let share = |part: u64| part as f64 * 100.0 / self.reads.max(1) as f64;
        let mut text = format!("| {}, {seconds} s | |\n|---|--:|\n", self.setting);
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "| {name} | {value} |");
        };
        row("reads", self.reads.to_string());
        row("answered by the cache", format!("{:.1} %", share(self.hits)));
        row("reads of the origin", self.origin_reads.to_string());
        row("changes", self.changes.to_string());
        row("of these acknowledged for all processes", self.acknowledged.to_string());
        row("sent again, because a process had ended", self.moved.to_string());
        for (fault, count) in Fault::ALL.iter().zip(self.counts) {
            row(fault.name(), count.to_string());
        }
        row("**stale reads**", format!("**{}**", self.stale));
        row("**failed requests**", format!("**{}**", self.failed));
        row("processes that left something unfinished", self.undrained.to_string());
        for steady in self.steadiness() {
            let name = format!("{}: middle third → last third", steady.name);
            row(&name, format!("{:.2} → {:.2}", steady.middle, steady.last));
        }
        text
    }

    fn pictures(&self) -> String {
        let line = |name, value: &dyn Fn(usize) -> f64| Line {
            name,
            values: (1..self.samples.len()).map(value).collect(),
        };
        let sample = |at: usize| &self.samples[at];
        let ratio = |at: usize| {
            let (before, now) = (sample(at - 1), sample(at));
            (now.hits - before.hits) as f64 * 100.0 / (now.reads - before.reads).max(1) as f64
        };
        let panels = [
            Panel {
                title: "resident memory, MiB",
                lines: vec![
                    line("stays", &|at| sample(at).memory[0] as f64 / 1024.0),
                    line("ends and starts", &|at| sample(at).memory[1] as f64 / 1024.0),
                ],
            },
            Panel {
                title: "time of a read, ms",
                lines: vec![
                    line("p50", &|at| sample(at).p50.as_secs_f64() * 1000.0),
                    line("p99", &|at| sample(at).p99.as_secs_f64() * 1000.0),
                ],
            },
            Panel { title: "hit ratio, %", lines: vec![line("", &ratio)] },
        ];
        draw(&panels, sample(self.samples.len() - 1).at.as_secs())
    }
}

/// Figure that must not grow.
struct Row {
    name: &'static str,
    /// The most that the last third may be of the middle one.
    most: f64,
    middle: f64,
    last: f64,
}

/// Puts the table in the place of an older one in a file, and the pictures beside it.
///
/// # Errors
///
/// A file cannot be read or written, or has no place for the table.
pub fn write(file: &Path, report: &Report) -> io::Result<()> {
    fs::write(file.with_extension("svg"), report.pictures())?;
    write_table(file, "soak", &(report.table() + &provenance("bash benches/soak.sh")))
}

/// Draws the bar where someone looks, and a line each minute elsewhere.
pub(crate) fn progress(done: Duration, all: Duration, tally: &Tally) {
    const WIDTH: u64 = 30;
    let mut output = io::stderr();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let figures = format!(
        "{} of {} s, {} reads, {} stale, {} failed",
        done.as_secs(),
        all.as_secs(),
        count(&tally.reads),
        count(&tally.stale),
        count(&tally.failed)
    );
    let _ = if output.is_terminal() {
        let bar = "#".repeat((done.as_secs() * WIDTH / all.as_secs().max(1)).min(WIDTH) as usize);
        write!(output, "\r[{bar:.<30}] {figures} ").and_then(|()| output.flush())
    } else if done.as_secs() % 60 == 59 {
        writeln!(output, "{figures}")
    } else {
        Ok(())
    };
}
