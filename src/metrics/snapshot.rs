//! Snapshot: the counts that users see, copied out at one moment.

use std::{collections::BTreeMap, time::Duration};

use super::{
    latency::Latency,
    operations::StoreSnapshot,
    outcome::{Alone, Bypass, Refusal, Shadow, SparedCall, Stale},
    switch::Switch,
};

/// Counts of a layer, copied out at one moment.
///
/// Counts grow from the layer's creation and are not reset.
///
/// ```
/// use tower_support_cache::{MemoryStore, SupportCacheLayer};
///
/// let snapshot = SupportCacheLayer::new(MemoryStore::new()).handle().metrics();
/// for (name, bucket) in &snapshot.buckets {
///     println!("cache_hits_total{{bucket=\"{name}\"}} {}", bucket.hits);
/// }
/// assert_eq!(snapshot.writes, 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The counts of each bucket, by name.
    pub buckets: BTreeMap<String, BucketSnapshot>,
    /// Forwards on their way now whose responses may be stored and shared.
    pub flights: u64,
    /// Fills and writes that go on without their callers now.
    pub detached: u64,
    /// Invalidations that the [hook](crate::InvalidationHook) was not given yet, or has not passed on.
    pub hook_pending: u64,
    /// Unsafe requests to which a rule or a cached route applies, and that were answered, whatever they
    /// invalidated.
    pub writes: u64,
    /// Unsafe requests to which neither applies. They were forwarded, and invalidated nothing.
    pub writes_unmatched: u64,
    /// Writes that ended with an error of the service, so that their outcome is unknown.
    pub writes_failed: u64,
    /// Writes whose handler panicked, so that their outcome is unknown.
    pub writes_panicked: u64,
    /// Keys invalidated, by call or by rule. An invalidation of everything counts once.
    pub invalidations: u64,
    /// Tags invalidated, by call, by rule or by a response (RFC 9875).
    pub tag_invalidations: u64,
    /// Writes for which a rule could not make a usable key or tag, so that it invalidated nothing.
    pub invalidation_failures: u64,
    /// Keys and tags of calls that no request makes, so that nothing is stored under them: a value that
    /// was not escaped, a misspelt template. Routes with closures are taken to make any.
    pub invalidations_unmatched: u64,
    /// Fills and writes that lost their callers, and refreshes in the background, that were dropped because
    /// there were too many of them.
    pub detached_dropped: u64,
    /// Stored responses that were encoded in a content coding.
    pub encoded: u64,
    /// Budget of the origin, if one is configured.
    pub origin: Option<OriginSnapshot>,
    /// The store's own counts, if it is over a network.
    pub store: Option<StoreSnapshot>,
}

impl Snapshot {
    /// Returns the counts of the bucket `name`, or `None` if no route names it.
    pub fn bucket(&self, name: &str) -> Option<&BucketSnapshot> {
        self.buckets.get(name)
    }
}

/// Budget of the origin, and what became of it.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{MemoryStore, OriginBudget, SupportCacheLayer};
///
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .origin_budget(OriginBudget::new(15_000, Duration::from_secs(86_400)))
///     .build()?;
/// let origin = layer.handle().metrics().origin.unwrap();
/// assert_eq!((origin.budget, origin.burst, origin.left), (15_000, 5_000, 2_500));
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OriginSnapshot {
    /// Name of the origin.
    pub name: String,
    /// Calls that the budget has in a period.
    pub budget: u64,
    /// Calls that may be made at once.
    pub burst: u64,
    /// Calls of these that are left now.
    pub left: u64,
    /// Calls that this process has counted: those that the layer has made, and those fed in by
    /// [`count_origin_calls`](crate::SupportCacheHandle::count_origin_calls).
    pub calls: u64,
    /// Requests for which the origin was not asked, by what the call would have been; those that never
    /// occurred are absent.
    pub spared: BTreeMap<SparedCall, u64>,
}

/// Counts of one bucket.
///
/// ```
/// use tower_support_cache::BucketSnapshot;
///
/// fn report(bucket: &BucketSnapshot) {
///     if let Some(ratio) = bucket.hit_ratio() {
///         println!("{:.1} % of {} requests", 100.0 * ratio, bucket.requests());
///     }
/// }
/// report(&BucketSnapshot::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BucketSnapshot {
    /// State of the bucket's switch.
    pub switch: Switch,
    /// Requests answered from the store.
    pub hits: u64,
    /// Requests that were looked up and forwarded.
    pub misses: u64,
    /// Requests answered with what another request's forward brought.
    pub coalesced: u64,
    /// Forwards that ended with an error of the service instead of a response.
    pub failed: u64,
    /// Forwards whose handler panicked.
    pub panicked: u64,
    /// Responses stored.
    pub stored: u64,
    /// Responses not stored because an invalidation overtook them.
    pub fenced: u64,
    /// Requests with `only-if-cached`, on routes that honour it, that were answered by 504.
    pub unsatisfied: u64,
    /// Requests with nothing to show that were answered by 503, because the budget of the origin is spent
    /// ([`Exhausted::Refuse`](crate::Exhausted::Refuse)).
    pub exhausted: u64,
    /// Requests answered from the store with what was no longer fresh, by reason; reasons that never
    /// occurred are absent.
    pub stale: BTreeMap<Stale, u64>,
    /// Forwards in the background that asked about what was stale, or soon would be (early refresh).
    pub refreshes: u64,
    /// Forwards whose handler was told of an invalidation a moment ago ([`Refill`](crate::Refill)).
    pub refills: u64,
    /// Misses that joined no flight and stored nothing, by reason; reasons that never occurred are
    /// absent.
    pub alone: BTreeMap<Alone, u64>,
    /// Requests that did not consult the cache, by reason; reasons that never occurred are absent.
    pub bypassed: BTreeMap<Bypass, u64>,
    /// Responses that were not stored, by reason; reasons that never occurred are absent.
    pub refused: BTreeMap<Refusal, u64>,
    /// Requests in [shadow](Switch::Shadow), by the answer that they would have had; they are in `bypassed`,
    /// too.
    pub shadow: BTreeMap<Shadow, u64>,
    /// Times that the service took from the forward to the head of its response, or to its error, of
    /// requests and of refreshes.
    pub origin: Latency,
    /// Time that hits and joins (`coalesced`) would have taken at the origin. Each counts with the mean of
    /// `origin` at the first snapshot after it, so snapshots at short intervals follow a changing mean.
    /// It does not fall.
    pub saved: Duration,
    /// Entries removed from memory to make room.
    pub evicted: u64,
    /// Entries in this process's memory now, expired ones included until they are replaced or
    /// evicted, and so are `Pass` entries.
    pub entries: u64,
    /// Memory of these entries in bytes, overhead included.
    pub bytes: u64,
}

impl BucketSnapshot {
    /// Returns the number of requests on the bucket's routes that have ended: hits, stale answers, joins,
    /// misses, bypasses, and those answered by 504 or 503. Refreshes in the background are none.
    pub fn requests(&self) -> u64 {
        let refused = self.unsatisfied + self.exhausted;
        self.reused() + self.misses + refused + self.bypassed.values().sum::<u64>()
    }

    /// Returns the share of [`requests`](Self::requests), bypasses included, that were answered with a
    /// response that another request had brought: hits, stale answers and joins. `None` before the first
    /// request.
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// let snapshot = SupportCacheLayer::new(MemoryStore::new()).handle().metrics();
    /// assert_eq!(snapshot.bucket("case_list").unwrap().hit_ratio(), None);
    /// ```
    pub fn hit_ratio(&self) -> Option<f64> {
        let requests = self.requests();
        (requests > 0).then(|| self.reused() as f64 / requests as f64)
    }

    fn reused(&self) -> u64 {
        self.hits + self.stale.values().sum::<u64>() + self.coalesced
    }
}
