//! Budget of calls to an origin: a token bucket by the generic cell rate algorithm (GCRA). Its level is the
//! time at which all calls are paid for.

use std::time::Duration;

use crate::clock::Instant;

const DEFAULT_NAME: &str = "origin";

/// Divisor of the calls that gives the burst, unless a budget says otherwise.
const BURST_PART: u32 = 3;

/// Shortest time between two calls. The clock of a shared server counts microseconds.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(1);

/// Budget of calls to an origin: a number of calls in a period.
///
/// It is a token bucket. One third of the calls may be made at once ([`burst`](Self::burst)); the others become
/// available evenly over the period. So no period has more calls than the budget, as long as there are calls
/// that can be spared. A new bucket is half full, because what was spent before is unknown.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, MemoryStore, OriginBudget, SupportCacheLayer};
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .origin_budget(OriginBudget::new(15_000, day).name("records").burst(1_000))
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
    /// Creates a budget of a number of calls in a period.
    pub fn new(calls: u32, per: Duration) -> Self {
        Self { name: DEFAULT_NAME.to_owned(), calls, per, burst: None }
    }

    /// Names the origin. Defaults to `origin`.
    ///
    /// Layers that share a store share the budgets of the same name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the number of calls that may be made at once. Defaults to one third of all.
    ///
    /// The others become available evenly, so a period without idle time loses this many calls. One third is
    /// best where work comes within twelve hours of a day: two thirds of the calls can then be used. Give fewer
    /// where work comes evenly.
    #[must_use]
    pub fn burst(mut self, calls: u32) -> Self {
        self.burst = Some(calls);
        self
    }

    /// Returns the bucket.
    ///
    /// # Errors
    ///
    /// The problem of a budget that makes no sense, and its fix.
    pub(crate) fn bucket(&self) -> Result<TokenBucket, &'static str> {
        let burst = self.burst.unwrap_or((self.calls / BURST_PART).max(1));
        let evenly = self.calls.saturating_sub(burst);
        if burst == 0 || evenly == 0 {
            return Err(
                "leaves no calls for the burst, or none after it: give at least 2 calls, and a \
                        smaller burst",
            );
        }
        let interval = self.per / evenly;
        if interval < SHORTEST_INTERVAL {
            return Err("has over a million calls a second: give fewer, or a longer period");
        }
        let longest_debt = interval * burst + self.per;
        Ok(TokenBucket { interval, burst, longest_debt })
    }
}

/// Token bucket: `burst` calls at once, and one more in each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenBucket {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
    /// Largest debt; more calls do not raise it. So what was overspent is paid for within a period.
    pub(crate) longest_debt: Duration,
}

impl TokenBucket {
    /// Returns the debt of a bucket without a call left.
    fn depth(self) -> Duration {
        self.interval * self.burst
    }
}

/// Level of a bucket: the time at which all calls so far will be paid for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level(Instant);

impl Level {
    /// Returns the level of a bucket that is half full.
    pub(crate) fn half(bucket: TokenBucket, now: Instant) -> Self {
        Self(now + bucket.depth() / 2)
    }

    /// Returns the level of a bucket with a debt.
    pub(crate) fn owing(debt: Duration, now: Instant) -> Self {
        Self(now + debt)
    }

    /// Returns the time for which the bucket has been full.
    pub(crate) fn full_for(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0)
    }

    /// Returns the time after which the calls so far are paid for.
    pub(crate) fn debt(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Takes calls, even if none are left.
    pub(crate) fn spend(&mut self, bucket: TokenBucket, calls: u32, now: Instant) {
        let paid = self.0.max(now) + bucket.interval.saturating_mul(calls).min(bucket.longest_debt);
        self.0 = paid.min(now + bucket.longest_debt);
    }

    /// Lowers the level to a number of calls that are left.
    pub(crate) fn lower(&mut self, bucket: TokenBucket, left: u64, now: Instant) {
        let left = u32::try_from(left).unwrap_or(u32::MAX).min(bucket.burst);
        self.0 = self.0.max(now + bucket.interval * (bucket.burst - left));
    }

    /// Returns the share of the burst that is left: 1 if all of it is, and 0 if no call is. It is negative once
    /// the bucket is overspent.
    pub(crate) fn share(self, bucket: TokenBucket, now: Instant) -> f64 {
        1.0 - self.debt(now).as_secs_f64() / bucket.depth().as_secs_f64()
    }

    /// Returns the number of calls that are left.
    pub(crate) fn left(self, bucket: TokenBucket, now: Instant) -> u64 {
        let paid = bucket.depth().saturating_sub(self.debt(now));
        u64::try_from(paid.as_nanos() / bucket.interval.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns the time until a call is available.
    pub(crate) fn wait(self, bucket: TokenBucket, now: Instant) -> Duration {
        self.debt(now).saturating_sub(bucket.interval * (bucket.burst - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns a bucket of ten calls at once, and one a second.
    fn bucket() -> TokenBucket {
        OriginBudget::new(100, 90 * SECOND).burst(10).bucket().unwrap()
    }

    fn full(now: Instant) -> Level {
        Level(now)
    }

    #[test]
    fn a_budget_that_makes_no_sense_is_refused() {
        assert_eq!(
            bucket(),
            TokenBucket { interval: SECOND, burst: 10, longest_debt: 100 * SECOND }
        );
        for budget in [
            OriginBudget::new(0, SECOND),
            OriginBudget::new(1, SECOND),
            OriginBudget::new(10, SECOND).burst(10),
            OriginBudget::new(10, SECOND).burst(0),
            OriginBudget::new(10, Duration::ZERO),
            OriginBudget::new(4_000_000, SECOND),
        ] {
            assert!(budget.bucket().is_err(), "{budget:?}");
        }
        assert!(OriginBudget::new(2, SECOND).bucket().is_ok());
    }

    #[test]
    fn a_period_has_no_more_calls_than_the_budget() {
        let (bucket, begin) = (bucket(), now());
        let mut level = full(begin);
        let mut calls = 0;
        for millisecond in 0..90_000 {
            let now = begin + Duration::from_millis(millisecond);
            while level.wait(bucket, now).is_zero() {
                level.spend(bucket, 1, now);
                calls += 1;
            }
        }
        assert_eq!(calls, 99, "the hundredth is left as the period ends");
    }

    #[test]
    fn the_share_that_is_left_falls_below_zero() {
        let (bucket, now) = (bucket(), now());
        let mut level = full(now);
        for (share, left) in [(100.0, 10), (50.0, 5), (0.0, 0), (-50.0, 0)] {
            assert_eq!((level.share(bucket, now) * 100.0).round(), share);
            assert_eq!(level.left(bucket, now), left);
            level.spend(bucket, 5, now);
        }
        assert_eq!(level.wait(bucket, now), 11 * SECOND, "until the first of ten is back");
        assert_eq!(Level::half(bucket, now).left(bucket, now), 5);
    }

    #[test]
    fn what_was_overspent_is_paid_for_within_a_period() {
        let now = now();
        for burst in [10, 500, 990] {
            let bucket = OriginBudget::new(1000, 90 * SECOND).burst(burst).bucket().unwrap();
            let mut level = full(now);
            level.spend(bucket, u32::MAX, now);
            assert!(level.share(bucket, now) < 0.0, "{burst}");
            let later = now + 90 * SECOND + bucket.interval;
            assert!(level.left(bucket, later) > 0, "{burst}");
        }
    }

    #[test]
    fn what_the_origin_says_lowers_the_level_only() {
        let (bucket, now) = (bucket(), now());
        let mut level = full(now);
        level.lower(bucket, 7, now);
        assert_eq!(level.debt(now), 3 * SECOND);
        level.lower(bucket, 1_000_000, now);
        assert_eq!(level.debt(now), 3 * SECOND);
        level.lower(bucket, 0, now);
        assert_eq!(level.wait(bucket, now), SECOND);
    }
}
