//! Distributions of times, in fixed buckets.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// Number of buckets: one for each power of two of microseconds, up to half a minute.
const BUCKETS: usize = 26;

/// Distribution of times, to within a factor of two.
///
/// ```
/// use tower_support_cache::Latency;
///
/// let none = Latency::default();
/// assert_eq!((none.count(), none.mean(), none.quantile(0.99)), (0, None, None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Latency {
    /// At each index, the number of times under 2^index microseconds and not less than half of that. The
    /// last one has no upper bound.
    counts: Vec<u64>,
    sum: Duration,
}

impl Latency {
    /// Returns the number of times.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of the times.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns the mean of the times. `None` if there are none.
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum.as_nanos().checked_div(self.count().into())?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Returns the buckets in order: the upper bound of each, and the number of times under it and not
    /// under the bound before. The bound of the last one is [`Duration::MAX`].
    ///
    /// ```
    /// use tower_support_cache::{Latency, MemoryStore, SupportCacheLayer};
    ///
    /// /// Share of the origin requests that took longer than 65 ms.
    /// fn share_of_slow(origin: &Latency) -> f64 {
    ///     let slow = origin.buckets().filter(|(bound, _)| bound.as_millis() > 66);
    ///     slow.map(|(_, count)| count).sum::<u64>() as f64 / origin.count().max(1) as f64
    /// }
    /// let snapshot = SupportCacheLayer::new(MemoryStore::new()).handle().metrics();
    /// assert_eq!(share_of_slow(&snapshot.bucket("case_list").unwrap().origin), 0.0);
    /// ```
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let last = self.counts.len().saturating_sub(1);
        self.counts.iter().enumerate().map(move |(index, count)| {
            let bound = if index == last { Duration::MAX } else { upper_bound(index) };
            (bound, *count)
        })
    }

    /// Returns the time that a share of them took at most, `0.99` for the 99th percentile, to
    /// within a factor of two. `None` if there were none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        index.map(upper_bound)
    }
}

fn upper_bound(index: usize) -> Duration {
    Duration::from_micros(1 << index)
}

/// Counter of times.
#[derive(Debug, Default)]
pub(crate) struct LatencyCounter {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl LatencyCounter {
    /// Counts `number` events that took this time together.
    pub(crate) fn add(&self, took: Duration, number: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let index = ((u64::BITS - micros.leading_zeros()) as usize).min(BUCKETS - 1);
        self.counts[index].fetch_add(number, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos.saturating_mul(number), Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Latency {
        Latency {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_micros(times: &[u64]) -> Latency {
        let counter = LatencyCounter::default();
        times.iter().for_each(|micros| counter.add(Duration::from_micros(*micros), 1));
        counter.snapshot()
    }

    #[test]
    fn a_quantile_is_within_a_factor_of_two() {
        let latency = of_micros(&[0, 1, 3, 90, 1000]);
        assert_eq!(latency.count(), 5);
        for (share, micros) in [(0.0, 1), (0.2, 1), (0.4, 2), (0.6, 4), (0.8, 128), (1.0, 1024)] {
            let expected = Duration::from_micros(micros);
            assert_eq!(latency.quantile(share), Some(expected), "{share}");
        }
        assert_eq!(Latency::default().quantile(0.5), None);
    }

    #[test]
    fn a_mean_is_exact() {
        let latency = of_micros(&[1, 3, 1_000_000]);
        assert_eq!(latency.sum(), Duration::from_micros(1_000_004));
        assert_eq!(latency.mean(), Some(Duration::from_nanos(333_334_666)));
    }

    #[test]
    fn each_time_is_in_the_one_bucket_whose_bounds_enclose_it() {
        for micros in [0, 1, 2, 3, 4, 1023, 1024, 16_777_215, 16_777_216, u64::MAX / 2000] {
            let latency = of_micros(&[micros]);
            let mut below = Duration::ZERO;
            for (bound, count) in latency.buckets() {
                let is_inside = (below..bound).contains(&Duration::from_micros(micros));
                assert_eq!(count, u64::from(is_inside), "{micros} below {bound:?}");
                below = bound;
            }
            assert_eq!(below, Duration::MAX);
        }
    }
}
