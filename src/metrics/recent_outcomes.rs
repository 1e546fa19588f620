//! Recorder of the last outcomes of a bucket.

use std::time::{Duration, SystemTime};

use super::{cache_outcome::CacheOutcome, outcome::Outcome};
use crate::{
    clock::{Instant, now, time_of_day},
    sync::{Mutex, lane, lock},
};

/// Threads that share a ring wait for each other. A few rings suffice: a hit does more than a recording.
const LANES: usize = 4;

/// Number of outcomes that can be kept at most.
pub(crate) const MAX_OUTCOMES: usize = 65_536;

/// End of one request, from [`SupportCacheHandle::recent_outcomes`](crate::SupportCacheHandle::recent_outcomes).
///
/// It names neither key nor path nor caller.
///
/// ```
/// use tower_support_cache::RecordedOutcome;
///
/// /// Line of a log.
/// fn line(recorded: &RecordedOutcome) -> String {
///     let reason = recorded.outcome.reason().unwrap_or("-");
///     format!("{:?} {} {reason}", recorded.at, recorded.outcome.as_str())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecordedOutcome {
    /// Time at which the request ended.
    pub at: SystemTime,
    /// Outcome and its reason.
    pub outcome: CacheOutcome,
    /// Age of the stored response that has answered; `None` if none has.
    pub age: Option<Duration>,
    /// Time until the service began its response; `None` if it was not asked.
    pub origin_time: Option<Duration>,
    /// Bytes of the response's body, as far as its head tells.
    pub size: Option<u64>,
}

/// Details of an outcome, for the recorder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutcomeDetails {
    /// Time at which the request ended.
    pub(crate) at: Instant,
    pub(crate) age: Option<Duration>,
    pub(crate) origin_time: Option<Duration>,
    pub(crate) size: Option<u64>,
}

/// The last outcomes of a bucket.
#[derive(Debug)]
pub(crate) struct RecentOutcomes {
    /// Outcomes that are kept. Each ring has room for all of them.
    capacity: usize,
    rings: [Mutex<Ring>; LANES],
}

#[derive(Debug, Default)]
struct Ring {
    kept: Vec<RecentOutcome>,
    /// Position of the oldest, once the ring is full.
    oldest: usize,
}

#[derive(Clone, Copy, Debug)]
struct RecentOutcome {
    outcome: Outcome,
    details: OutcomeDetails,
}

impl OutcomeDetails {
    /// Returns the details of a request that ends now, without a response of which more is known.
    pub(crate) fn now() -> Self {
        Self { at: now(), age: None, origin_time: None, size: None }
    }
}

impl RecentOutcomes {
    /// Creates a recorder of this many outcomes; `None` if none are to be kept.
    pub(crate) fn new(capacity: usize) -> Option<Self> {
        (capacity > 0).then(|| Self { capacity, rings: Default::default() })
    }

    #[inline]
    pub(crate) fn record(&self, outcome: Outcome, details: OutcomeDetails) {
        let recorded = RecentOutcome { outcome, details };
        let mut ring = lock(&self.rings[lane(LANES)]);
        let oldest = ring.oldest;
        if ring.kept.len() < self.capacity {
            return ring.kept.push(recorded);
        }
        ring.kept[oldest] = recorded;
        ring.oldest = if oldest + 1 == self.capacity { 0 } else { oldest + 1 };
    }

    /// Returns the last outcomes, the oldest first.
    pub(crate) fn snapshot(&self) -> Vec<RecordedOutcome> {
        let mut kept = Vec::new();
        for ring in &self.rings {
            let ring = lock(ring);
            let (newer, older) = ring.kept.split_at(ring.oldest);
            kept.extend(older.iter().chain(newer).copied());
        }
        // Stable: outcomes of one moment stay in their order.
        kept.sort_by_key(|recorded| recorded.details.at);
        let (now, time_of_day) = (now(), time_of_day());
        let last = kept.len().saturating_sub(self.capacity);
        let named = kept[last..].iter().map(|RecentOutcome { outcome, details }| RecordedOutcome {
            at: time_of_day.checked_sub(now - details.at).unwrap_or(time_of_day),
            outcome: outcome.into(),
            age: details.age,
            origin_time: details.origin_time,
            size: details.size,
        });
        named.collect()
    }
}
