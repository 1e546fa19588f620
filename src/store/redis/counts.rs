//! What a Redis store counts.

use std::time::Duration;

use super::command::Fault;
use crate::{
    metrics::operations::{Latency, Operation, OperationSnapshot, StoreSnapshot},
    sync::{AtomicU64, Ordering},
};

const OPERATIONS: [Operation; 7] = [
    Operation::Lookup,
    Operation::Lease,
    Operation::Commit,
    Operation::Release,
    Operation::Invalidate,
    Operation::InvalidateAll,
    Operation::Heartbeat,
];

/// How one operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Answered,
    Failed,
    TimedOut,
}

impl Ended {
    pub(super) fn by(fault: Option<Fault>) -> Self {
        match fault {
            None => Self::Answered,
            Some(Fault::TimedOut) => Self::TimedOut,
            Some(Fault::Link | Fault::Foreign | Fault::Refused) => Self::Failed,
        }
    }
}

/// One histogram bucket for each power of two of microseconds, up to half a minute.
const BUCKETS: usize = 26;

/// The counters of one store.
#[derive(Debug, Default)]
pub(super) struct Counts {
    kinds: [Kind; OPERATIONS.len()],
    pub(super) links_lost: AtomicU64,
    pub(super) fenced: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) foreign: AtomicU64,
}

#[derive(Debug, Default)]
struct Kind {
    answered: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

impl Counts {
    pub(super) fn ended(&self, operation: Operation, ended: Ended, took: Duration) {
        self.all_ended((operation, 1), ended, took);
    }

    /// Counts several that were sent together.
    pub(super) fn all_ended(
        &self,
        (operation, number): (Operation, u64),
        ended: Ended,
        took: Duration,
    ) {
        let kind = &self.kinds[operation as usize];
        let counter = match ended {
            Ended::Answered => &kind.answered,
            Ended::Failed => &kind.failed,
            Ended::TimedOut => &kind.timed_out,
        };
        counter.fetch_add(number, Ordering::Relaxed);
        kind.latency[bucket(took)].fetch_add(number, Ordering::Relaxed);
    }

    /// Copies the counts out; the rest is known elsewhere.
    pub(super) fn snapshot(&self) -> StoreSnapshot {
        let kinds = OPERATIONS.into_iter().zip(self.kinds.iter().map(Kind::snapshot));
        StoreSnapshot {
            operations: kinds.filter(|(_, snapshot)| snapshot.latency.count() > 0).collect(),
            links_lost: self.links_lost.load(Ordering::Relaxed),
            fenced: self.fenced.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
            foreign: self.foreign.load(Ordering::Relaxed),
            ..StoreSnapshot::default()
        }
    }
}

impl Kind {
    fn snapshot(&self) -> OperationSnapshot {
        OperationSnapshot {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            latency: Latency {
                counts: self.latency.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            },
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    ((u64::BITS - micros.leading_zeros()) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_factor_of_two() {
        let counts = Counts::default();
        for micros in [0, 1, 3, 90, 1000] {
            counts.ended(Operation::Lookup, Ended::Answered, Duration::from_micros(micros));
        }
        let snapshot = counts.snapshot();
        let latency = &snapshot.operations[&Operation::Lookup].latency;
        assert_eq!(latency.count(), 5);
        for (share, micros) in [(0.0, 1), (0.2, 1), (0.4, 2), (0.6, 4), (0.8, 128), (1.0, 1024)] {
            let expected = Duration::from_micros(micros);
            assert_eq!(latency.quantile(share), Some(expected), "{share}");
        }
        assert_eq!(Latency::default().quantile(0.5), None);
    }
}
