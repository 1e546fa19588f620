//! Counters of a Redis store.

use std::time::Duration;

use crate::{
    metrics::{
        facade,
        latency::LatencyCounter,
        operations::{Operation, OperationEnd, OperationSnapshot, StoreSnapshot},
    },
    sync::{AtomicU64, Ordering},
};

const OPERATIONS: [Operation; 8] = [
    Operation::Lookup,
    Operation::Lease,
    Operation::Commit,
    Operation::Release,
    Operation::Invalidate,
    Operation::InvalidateAll,
    Operation::Heartbeat,
    Operation::ShareCalls,
];

/// Counters of one store.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    operations: [OperationCounts; OPERATIONS.len()],
    pub(crate) links_lost: AtomicU64,
    pub(crate) late_timers: AtomicU64,
    pub(crate) fenced: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) foreign: AtomicU64,
}

#[derive(Debug, Default)]
struct OperationCounts {
    answered: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    latency: LatencyCounter,
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
        counts.latency.add(took, number);
        facade::store_operation(operation, end, took, number);
    }

    /// Copies the counts out; the store adds the rest.
    pub(crate) fn snapshot(&self) -> StoreSnapshot {
        let operations =
            OPERATIONS.into_iter().zip(self.operations.iter().map(OperationCounts::snapshot));
        StoreSnapshot {
            operations: operations.filter(|(_, counts)| counts.latency.count() > 0).collect(),
            links_lost: self.links_lost.load(Ordering::Relaxed),
            late_timers: self.late_timers.load(Ordering::Relaxed),
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
            latency: self.latency.snapshot(),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
