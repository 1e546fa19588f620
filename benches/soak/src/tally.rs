//! Observations of the clients.

use std::{
    mem,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Most violations and failures whose text is kept.
const KEPT: usize = 5;

/// Counts of the whole run, and times since they were taken last.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) reads: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) changes: AtomicU64,
    /// Changes that were acknowledged for all processes.
    pub(crate) acknowledged: AtomicU64,
    /// Requests that were sent again, because their server had ended.
    pub(crate) moved: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) failed: AtomicU64,
    faults: Mutex<Vec<String>>,
    times: Mutex<Vec<Duration>>,
}

impl Tally {
    pub(crate) fn read(&self, taken: Duration, is_hit: bool) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(u64::from(is_hit), Ordering::Relaxed);
        self.times.lock().unwrap().push(taken);
    }

    pub(crate) fn changed(&self, is_for_all: bool) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.acknowledged.fetch_add(u64::from(is_for_all), Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(why);
    }

    pub(crate) fn stale(&self, why: String) {
        self.stale.fetch_add(1, Ordering::Relaxed);
        self.note(why);
    }

    fn note(&self, why: String) {
        eprintln!("\n{why}");
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < KEPT {
            faults.push(why);
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// Takes the times since the last call, sorted.
    pub(crate) fn take_times(&self) -> Vec<Duration> {
        let mut times = mem::take(&mut *self.times.lock().unwrap());
        times.sort_unstable();
        times
    }
}

/// Returns the time within which a share of sorted times lies, in per cent.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
}
