//! Ledger of a budget: what is left of it, as far as this process knows.
//!
//! Processes on one store exchange how many calls they have made. In between, and while the store is away,
//! each process takes one half of what it knows to be left for its own and divides it by the number of
//! processes: the other half is for what the others have spent already and not reported. So all of them together
//! spend no more than there is.

use std::time::Duration;

use super::budget::{Level, TokenBucket};
use crate::clock::Instant;

/// Time from an exchange of counts to the next.
const EXCHANGE_EVERY: Duration = Duration::from_millis(250);

/// Number of processes that are taken to share a budget until the store tells.
const UNKNOWN_PROCESSES: u32 = 8;

/// Time after which another exchange may begin, whatever became of the one before: its runtime may have ended.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(5);

/// Calls that a process reports to the others on its store.
///
/// ```
/// use tower_support_cache::store::CallReport;
///
/// fn log(report: &CallReport) {
///     println!("{} calls to {}", report.calls(), report.origin());
/// }
/// ```
#[derive(Clone, Debug)]
pub struct CallReport {
    origin: String,
    process: u64,
    calls: u32,
    spent: Duration,
    owed: Duration,
    initial: Duration,
    longest_debt: Duration,
}

impl CallReport {
    /// Returns the name of the origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the number of the process.
    pub fn process(&self) -> u64 {
        self.process
    }

    /// Returns the number of calls since the last report.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Returns the time that pays for these calls.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Returns the time that was still to be paid for at the last exchange, less what has passed: the others
    /// cannot have less to pay for. Zero before the first.
    pub fn owed(&self) -> Duration {
        self.owed
    }

    /// Returns the time that is to be paid for where nothing is known yet.
    pub fn initial(&self) -> Duration {
        self.initial
    }

    /// Returns the time beyond which nothing is owed.
    pub fn longest_debt(&self) -> Duration {
        self.longest_debt
    }
}

/// Budget that is left to all processes on a store.
///
/// ```
/// use tower_support_cache::store::SharedBudget;
///
/// fn log(budget: SharedBudget) {
///     println!("shared by {} processes", budget.processes());
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SharedBudget {
    pub(crate) owed: Duration,
    pub(crate) processes: u32,
}

impl SharedBudget {
    /// Returns the number of processes that have reported calls within the last ten seconds.
    pub fn processes(self) -> u32 {
        self.processes
    }
}

/// Ledger of one layer.
pub(super) struct Ledger {
    bucket: TokenBucket,
    /// Level of all processes at the last exchange.
    base: Level,
    /// The same, with the calls since.
    pub(super) level: Level,
    unsent: u32,
    processes: u32,
    is_shared: bool,
    /// `None` before the first exchange.
    exchanged: Option<Instant>,
    /// Earliest begin of the next exchange.
    due: Instant,
}

impl Ledger {
    /// Creates the ledger of a budget that other processes spend, too, or that none does.
    pub(super) fn new(bucket: TokenBucket, is_shared: bool, now: Instant) -> Self {
        let level = Level::half(bucket, now);
        let (base, processes) = (level, UNKNOWN_PROCESSES);
        Self { bucket, base, level, unsent: 0, processes, is_shared, exchanged: None, due: now }
    }

    pub(super) fn spend(&mut self, calls: u32, now: Instant) {
        self.unsent = self.unsent.saturating_add(calls);
        self.take(calls, now);
    }

    /// Takes calls that are not reported yet.
    fn take(&mut self, calls: u32, now: Instant) {
        let weight = if self.is_shared { 2 * self.processes } else { 1 };
        self.level.spend(self.bucket, calls.saturating_mul(weight), now);
    }

    pub(super) fn lower(&mut self, left: u64, now: Instant) {
        self.base.lower(self.bucket, left, now);
        self.level.lower(self.bucket, left, now);
    }

    /// Returns the time at which an exchange is due, and reserves it. `None` if another one is on its way.
    pub(super) fn begin_exchange(&mut self, now: Instant) -> Option<Instant> {
        let next = self.exchanged.map_or(now, |last| last + EXCHANGE_EVERY);
        (self.due <= now).then(|| self.reserve(next.max(now)))
    }

    fn reserve(&mut self, due: Instant) -> Instant {
        self.due = due + LONGEST_EXCHANGE;
        due
    }

    /// Reports the calls since the last exchange, for an origin and from a process.
    pub(super) fn report(&self, origin: &str, process: u64, now: Instant) -> CallReport {
        let TokenBucket { interval, longest_debt, .. } = self.bucket;
        // After a long silence a part of them is paid for: the time in which the bucket was full otherwise,
        // of which each process has its share.
        let unused = self.base.full_for(now).saturating_sub(LONGEST_EXCHANGE);
        let paid = match self.exchanged {
            Some(_) => unused / self.processes,
            None => Duration::ZERO,
        };
        let spent = interval.saturating_mul(self.unsent).saturating_sub(paid).min(longest_debt);
        let debt = self.base.debt(now);
        let owed = self.exchanged.map_or(Duration::ZERO, |_| debt);
        let (calls, origin) = (self.unsent, origin.to_owned());
        CallReport { origin, process, calls, spent, owed, initial: debt, longest_debt }
    }

    /// Enters what is left to all processes, `None` if the store was away. Returns the time at which the next
    /// exchange is due, if there is more to report.
    pub(super) fn exchanged(
        &mut self,
        report: &CallReport,
        shared: Option<SharedBudget>,
        now: Instant,
    ) -> Option<Instant> {
        if let Some(SharedBudget { owed, processes }) = shared {
            self.unsent = self.unsent.saturating_sub(report.calls);
            // It falls slowly: others that have begun at the same time may not have reported yet.
            self.processes = processes.max(self.processes - 1).max(1);
            self.exchanged = Some(now);
            self.base = Level::owing(owed, now);
            self.level = self.base;
            self.take(self.unsent, now);
        }
        if self.unsent == 0 {
            self.due = now;
            return None;
        }
        Some(self.reserve(now + EXCHANGE_EVERY))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{OriginBudget, clock::now};

    const SECOND: Duration = Duration::from_secs(1);

    /// One hundred at once, of which fifty are left at first, and one more a second.
    fn ledger(now: Instant) -> Ledger {
        let budget = OriginBudget::new(1000, 900 * SECOND).burst(100);
        Ledger::new(budget.bucket().expect("a budget"), true, now)
    }

    fn left(ledger: &Ledger, now: Instant) -> u64 {
        ledger.level.left(ledger.bucket, now)
    }

    #[test]
    fn until_the_next_exchange_a_call_counts_for_all_processes() {
        let now = now();
        let mut ledger = ledger(now);
        ledger.spend(10, now);
        assert_eq!(left(&ledger, now), 0, "nothing is known of others");
        let report = ledger.report("o", 1, now);
        assert_eq!((report.spent, report.owed), (10 * SECOND, Duration::ZERO));
        ledger.spend(1, now);
        let shared = SharedBudget { owed: 20 * SECOND, processes: 8 };
        let due = ledger.exchanged(&report, Some(shared), now);
        assert_eq!(due, Some(now + EXCHANGE_EVERY), "one call is not reported yet");
        assert_eq!(left(&ledger, now), 80 - 16);
        ledger.spend(2, now);
        assert_eq!(left(&ledger, now), 80 - 48);
        let report = ledger.report("o", 1, now);
        assert_eq!((report.calls, report.owed), (3, 20 * SECOND));
    }

    #[test]
    fn what_could_not_be_reported_is_reported_later() {
        let now = now();
        let mut ledger = ledger(now);
        ledger.spend(10, now);
        let report = ledger.report("o", 1, now);
        assert_eq!(ledger.exchanged(&report, None, now), Some(now + EXCHANGE_EVERY));
        assert!(ledger.begin_exchange(now + EXCHANGE_EVERY).is_none(), "one is on its way");
        let late = now + EXCHANGE_EVERY + LONGEST_EXCHANGE;
        assert_eq!(ledger.begin_exchange(late), Some(late), "its runtime has ended");
        assert_eq!(ledger.report("o", 1, late).calls, 10);
    }

    /// Four processes were away for 1000 s and made 100 calls each. That is less than is paid for in the time.
    #[test]
    fn after_a_long_silence_what_is_paid_for_does_not_count() {
        let now = now();
        let mut ledger = ledger(now);
        let report = ledger.report("o", 1, now);
        for _ in 0..4 {
            let shared = SharedBudget { owed: 95 * SECOND, processes: 4 };
            ledger.exchanged(&report, Some(shared), now);
        }
        let late = now + 1000 * SECOND;
        (0..100).for_each(|call| ledger.spend(1, now + call * 10 * SECOND));
        assert_eq!(ledger.report("o", 1, late).spent, Duration::ZERO);
        ledger.spend(150, late);
        let report = ledger.report("o", 1, late);
        assert_eq!((report.calls, report.spent), (250, 25 * SECOND));
    }
}
