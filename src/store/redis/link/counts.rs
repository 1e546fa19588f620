//! Counters of a Redis store.

use std::time::Duration;

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

/// End of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationEnd {
    Answered,
    Failed,
    TimedOut,
}

/// Number of histogram buckets: one for each power of two of microseconds, up to half a minute.
const BUCKETS: usize = 26;

/// Counters of one store.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    operations: [OperationCounts; OPERATIONS.len()],
    pub(crate) links_lost: AtomicU64,
    pub(crate) fenced: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) foreign: AtomicU64,
}

#[derive(Debug, Default)]
struct OperationCounts {
    answered: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

impl Counts {
    /// Counts `number` operations that were sent together.
    pub(crate) fn ended(
        &self,
        operation: Operation,
        number: u64,
        end: OperationEnd,
        took: Duration,
    ) {
        let counts = &self.operations[operation as usize];
        let counter = match end {
            OperationEnd::Answered => &counts.answered,
            OperationEnd::Failed => &counts.failed,
            OperationEnd::TimedOut => &counts.timed_out,
        };
        counter.fetch_add(number, Ordering::Relaxed);
        counts.latency[bucket(took)].fetch_add(number, Ordering::Relaxed);
    }

    /// Copies the counts out; the store adds the rest.
    pub(crate) fn snapshot(&self) -> StoreSnapshot {
        let operations =
            OPERATIONS.into_iter().zip(self.operations.iter().map(OperationCounts::snapshot));
        StoreSnapshot {
            operations: operations.filter(|(_, counts)| counts.latency.count() > 0).collect(),
            links_lost: self.links_lost.load(Ordering::Relaxed),
            fenced: self.fenced.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
            foreign: self.foreign.load(Ordering::Relaxed),
            ..StoreSnapshot::default()
        }
    }
}

impl OperationCounts {
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

pub(crate) fn count(counter: &AtomicU64) {
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
            let took = Duration::from_micros(micros);
            counts.ended(Operation::Lookup, 1, OperationEnd::Answered, took);
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
