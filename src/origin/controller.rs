//! Controller of the calls to an origin: what is asked of it, and what is spared as its budget drains.

use std::time::Duration;

use super::{
    budget::{OriginBudget, TokenBucket},
    ledger::{CallReport, Ledger, SharedBudget},
    pauses::Pauses,
};
use crate::{
    clock::{Instant, now},
    key::seeded_hash,
    metrics::{OriginSnapshot, outcome::SparedCall},
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// Controller of the calls of one layer to its origin.
pub(crate) struct OriginController {
    pub(crate) pauses: Pauses,
    /// `None` if no budget is configured: then calls are neither counted nor spared.
    budget: Option<SpentBudget>,
}

/// Budget, and what became of it.
struct SpentBudget {
    settings: OriginBudget,
    bucket: TokenBucket,
    ledger: Mutex<Ledger>,
    /// Number of this process among those that share the budget.
    process: u64,
    is_shared: bool,
    calls: AtomicU64,
    spared: Vec<AtomicU64>,
}

impl OriginController {
    /// Creates the controller of a budget and its bucket. `is_shared` says that other processes spend it, too.
    pub(crate) fn new(budget: Option<(OriginBudget, TokenBucket)>, is_shared: bool) -> Self {
        let budget = budget.map(|(settings, bucket)| SpentBudget {
            settings,
            bucket,
            ledger: Mutex::new(Ledger::new(bucket, is_shared, now())),
            process: seeded_hash(now()),
            is_shared,
            calls: AtomicU64::new(0),
            spared: SparedCall::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        });
        Self { pauses: Pauses::default(), budget }
    }

    pub(crate) fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// Returns whether enough of the budget is left for a call.
    pub(crate) fn admits(&self, call: SparedCall) -> bool {
        let Some(budget) = &self.budget else { return true };
        let share = lock(&budget.ledger).level.share(budget.bucket, now());
        share > least_share(call)
    }

    /// Returns the time until a call is left; zero if one is.
    pub(crate) fn wait(&self) -> Duration {
        let Some(budget) = &self.budget else { return Duration::ZERO };
        lock(&budget.ledger).level.wait(budget.bucket, now())
    }

    /// Counts a call that is not made.
    pub(crate) fn spared(&self, call: SparedCall) {
        if let Some(budget) = &self.budget {
            budget.spared[call as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts calls that are made, by this layer or beside it.
    pub(crate) fn spend(&self, calls: u32) {
        if let Some(budget) = &self.budget {
            budget.calls.fetch_add(calls.into(), Ordering::Relaxed);
            lock(&budget.ledger).spend(calls, now());
        }
    }

    /// Lowers what is left to the number that the origin states.
    pub(crate) fn lower(&self, left: u64) {
        if let Some(budget) = &self.budget {
            lock(&budget.ledger).lower(left, now());
        }
    }

    /// Returns the time at which the calls are to be reported to the other processes. `None` if there are none,
    /// or if a report is on its way.
    pub(crate) fn begin_exchange(&self) -> Option<Instant> {
        let budget = self.budget.as_ref().filter(|budget| budget.is_shared)?;
        lock(&budget.ledger).begin_exchange(now())
    }

    /// Reports the calls since the last exchange.
    pub(crate) fn report(&self) -> Option<CallReport> {
        let budget = self.budget.as_ref()?;
        Some(lock(&budget.ledger).report(&budget.settings.name, budget.process, now()))
    }

    /// Enters the answer to a report, `None` if there is none. Returns the time at which there is more to
    /// report.
    pub(crate) fn exchanged(
        &self,
        report: &CallReport,
        shared: Option<SharedBudget>,
    ) -> Option<Instant> {
        lock(&self.budget.as_ref()?.ledger).exchanged(report, shared, now())
    }

    pub(crate) fn snapshot(&self) -> Option<OriginSnapshot> {
        let budget = self.budget.as_ref()?;
        let counts = SparedCall::ALL.iter().copied().zip(&budget.spared);
        let counts = counts.map(|(call, count)| (call, count.load(Ordering::Relaxed)));
        Some(OriginSnapshot {
            name: budget.settings.name.clone(),
            budget: budget.settings.calls.into(),
            burst: budget.bucket.burst.into(),
            left: lock(&budget.ledger).level.left(budget.bucket, now()),
            calls: budget.calls.load(Ordering::Relaxed),
            spared: counts.filter(|(_, count)| *count > 0).collect(),
        })
    }
}

/// Returns the share of the burst that must be left for a call.
fn least_share(call: SparedCall) -> f64 {
    match call {
        SparedCall::EarlyRefresh => 0.5,
        SparedCall::Revalidation => 0.25,
        SparedCall::Stale => 0.1,
        SparedCall::Refused => 0.0,
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_spared_most_is_spared_first() {
        let budget = OriginBudget::new(1100, Duration::from_secs(1_000_000)).burst(100);
        let bucket = budget.bucket().unwrap();
        let origin = OriginController::new(Some((budget, bucket)), false);
        let admitted = || {
            let calls = SparedCall::ALL.iter().copied();
            calls.filter(|call| origin.admits(*call)).count()
        };
        // Fifty are left at first.
        for (spent, expected) in [(1, 3), (23, 3), (2, 2), (13, 2), (2, 1), (8, 1), (2, 0)] {
            origin.spend(spent);
            assert_eq!(admitted(), expected);
        }
        assert_eq!(origin.wait().as_secs().div_ceil(10), 200);
        assert!(OriginController::new(None, false).admits(SparedCall::EarlyRefresh));
    }
}
