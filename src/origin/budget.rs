//! Budget of calls to an origin, as a token bucket.

use std::time::Duration;

use crate::clock::Instant;

const DEFAULT_NAME: &str = "origin";

/// Share of the calls that may be made at once.
const DEFAULT_BURST_SHARE: u32 = 10;

/// Budget of calls to an origin: a number of calls in a period.
///
/// It is a token bucket. A tenth of the calls may be made at once ([`burst`](Self::burst)); the others
/// become available evenly. So a period never sees more calls than the budget has, as long as there are calls
/// that can be spared.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, MemoryStore, OriginBudget, SupportCacheLayer};
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .origin_budget(OriginBudget::new(15_000, day).name("salesforce"))
///     .cache(
///         CacheRoute::get("/cases/{case}")
///             .key("case:{case}")
///             .ttl(Duration::from_secs(60))
///             .stale_while_revalidate(Duration::from_secs(300))
///             .stale_if_error(Duration::from_secs(3600)),
///     )
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginBudget {
    pub(crate) name: String,
    pub(crate) calls: u32,
    pub(crate) per: Duration,
    pub(crate) burst: Option<u32>,
}

impl OriginBudget {
    /// Sets a number of calls in a period.
    pub fn new(calls: u32, per: Duration) -> Self {
        Self { name: DEFAULT_NAME.to_owned(), calls, per, burst: None }
    }

    /// Names the origin. Defaults to `origin`.
    ///
    /// Processes on one store share the budgets of one name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the number of calls that may be made at once. Defaults to a tenth of all.
    #[must_use]
    pub fn burst(mut self, calls: u32) -> Self {
        self.burst = Some(calls);
        self
    }

    /// Returns the checked form; `None` if a number is zero, the burst is all of the calls or more, or the
    /// calls are too many for the period.
    pub(crate) fn check(&self) -> Option<Bucket> {
        let burst = self.burst.unwrap_or((self.calls / DEFAULT_BURST_SHARE).max(1));
        let evenly = self.calls.checked_sub(burst).filter(|evenly| *evenly > 0)?;
        let interval = self.per / evenly;
        (burst > 0 && !interval.is_zero()).then_some(Bucket { interval, burst })
    }
}

/// Token bucket: `burst` calls at once, and one more in each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
}

/// Level of a bucket: the time at which all calls so far will be paid for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level(Instant);

impl Level {
    /// Returns the level of a full bucket.
    pub(crate) fn full(now: Instant) -> Self {
        Self(now)
    }

    /// Returns the level of a bucket whose calls are paid for after `debt`.
    pub(crate) fn owing(debt: Duration, now: Instant) -> Self {
        Self(now + debt)
    }

    /// Returns the time after which the calls so far are paid for.
    pub(crate) fn debt(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Takes calls, whether they are available or not.
    pub(crate) fn spend(&mut self, bucket: Bucket, calls: u32, now: Instant) {
        self.0 = self.0.max(now) + bucket.interval.saturating_mul(calls);
    }

    /// Lowers the level to a number of calls that remain.
    pub(crate) fn lower(&mut self, bucket: Bucket, remaining: u64, now: Instant) {
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX).min(bucket.burst);
        self.0 = self.0.max(now + bucket.interval * (bucket.burst - remaining));
    }

    /// Returns the share of the bucket that is left: 1 if it is full, 0 if no call is left, and less if
    /// more were made.
    pub(crate) fn share(self, bucket: Bucket, now: Instant) -> f64 {
        let depth = (bucket.interval * bucket.burst).as_secs_f64();
        1.0 - self.debt(now).as_secs_f64() / depth
    }

    /// Returns the time until a call is available.
    pub(crate) fn wait(self, bucket: Bucket, now: Instant) -> Duration {
        let depth = bucket.interval * (bucket.burst - 1);
        self.debt(now).saturating_sub(depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn bucket() -> Bucket {
        // Ten at once, and one a second.
        OriginBudget::new(100, 90 * SECOND).check().unwrap()
    }

    #[test]
    fn a_budget_that_makes_no_sense_is_refused() {
        assert_eq!(bucket(), Bucket { interval: SECOND, burst: 10 });
        for budget in [
            OriginBudget::new(0, SECOND),
            OriginBudget::new(1, SECOND),
            OriginBudget::new(10, SECOND).burst(10),
            OriginBudget::new(10, SECOND).burst(0),
            OriginBudget::new(10, Duration::ZERO),
        ] {
            assert_eq!(budget.check(), None, "{budget:?}");
        }
    }

    #[test]
    fn a_period_has_no_more_calls_than_the_budget() {
        let (bucket, begin) = (bucket(), now());
        let mut level = Level::full(begin);
        let mut calls = 0;
        for millisecond in 0..90_000 {
            let now = begin + Duration::from_millis(millisecond);
            while level.wait(bucket, now).is_zero() {
                level.spend(bucket, 1, now);
                calls += 1;
            }
        }
        assert_eq!(calls, 99, "and the hundredth is due as the period ends");
    }

    #[test]
    fn the_share_that_is_left_falls_below_zero() {
        let (bucket, now) = (bucket(), now());
        let mut level = Level::full(now);
        let share = |level: Level| (level.share(bucket, now) * 100.0).round();
        for expected in [100.0, 50.0, 0.0, -50.0] {
            assert_eq!(share(level), expected);
            level.spend(bucket, 5, now);
        }
        assert_eq!(level.wait(bucket, now), 11 * SECOND, "until the first of ten is back");
        assert_eq!(Level::owing(level.debt(now), now).debt(now), 20 * SECOND);
    }

    #[test]
    fn what_the_origin_says_lowers_the_level_only() {
        let (bucket, now) = (bucket(), now());
        let mut level = Level::full(now);
        level.lower(bucket, 7, now);
        assert_eq!(level.debt(now), 3 * SECOND);
        level.lower(bucket, 1_000_000, now);
        assert_eq!(level.debt(now), 3 * SECOND);
        level.lower(bucket, 0, now);
        assert_eq!(level.wait(bucket, now), SECOND);
    }
}
