//! What is counted, and the copy that users see.

pub(crate) mod operations;
pub(crate) mod outcome;
pub(crate) mod reporter;
pub(crate) mod sharded_counter;
pub(crate) mod telemetry;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    entry::gauge::Gauge,
    metrics::operations::StoreSnapshot,
    metrics::outcome::{Alone, Bypass, Outcome, Refusal},
    metrics::sharded_counter::ShardedCounter,
    sync::{AtomicU64, Ordering},
};

/// The counters of one layer.
#[derive(Debug)]
pub(crate) struct Metrics {
    buckets: Vec<Bucket>,
    writes: AtomicU64,
    invalidations: AtomicU64,
    tag_invalidations: AtomicU64,
    invalidation_failures: AtomicU64,
    detached_dropped: AtomicU64,
}

/// The counters of one bucket.
#[derive(Debug)]
struct Bucket {
    name: String,
    /// By far the most frequent.
    hits: ShardedCounter,
    misses: AtomicU64,
    coalesced: AtomicU64,
    stored: AtomicU64,
    fenced: AtomicU64,
    unsatisfied: AtomicU64,
    stale: AtomicU64,
    refreshes: AtomicU64,
    alone: Vec<AtomicU64>,
    bypassed: Vec<AtomicU64>,
    refused: Vec<AtomicU64>,
    gauge: Arc<Gauge>,
}

impl Metrics {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            buckets: names.into_iter().map(Bucket::new).collect(),
            writes: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
            tag_invalidations: AtomicU64::new(0),
            invalidation_failures: AtomicU64::new(0),
            detached_dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.buckets.iter().position(|bucket| bucket.name == name)
    }

    pub(crate) fn gauge(&self, bucket: usize) -> Arc<Gauge> {
        Arc::clone(&self.buckets[bucket].gauge)
    }

    /// Counts and logs how a request on a cache route ended.
    #[inline]
    pub(crate) fn ended(&self, bucket: usize, outcome: &Outcome) {
        let bucket = &self.buckets[bucket];
        match outcome {
            Outcome::Hit { .. } => bucket.hits.add(),
            Outcome::Stale { .. } | Outcome::Rescued { .. } => add(&bucket.stale),
            Outcome::Refreshed { .. } => add(&bucket.refreshes),
            Outcome::Collapsed { .. } => add(&bucket.coalesced),
            Outcome::Led { .. } => add(&bucket.misses),
            Outcome::Alone { reason, .. } => {
                add(&bucket.misses);
                add(&bucket.alone[*reason as usize]);
            }
            Outcome::Bypassed { reason, .. } => add(&bucket.bypassed[*reason as usize]),
            // Counted by `written`: a write belongs to no bucket.
            Outcome::Written { .. } => {}
        }
        telemetry::ended(&bucket.name, outcome);
    }

    pub(crate) fn stored(&self, bucket: usize) {
        add(&self.buckets[bucket].stored);
    }

    /// Counts a response that an invalidation overtook.
    pub(crate) fn fenced(&self, bucket: usize) {
        add(&self.buckets[bucket].fenced);
    }

    /// Counts a request that asked for what is cached or nothing, and got nothing.
    pub(crate) fn unsatisfied(&self, bucket: usize) {
        add(&self.buckets[bucket].unsatisfied);
    }

    pub(crate) fn refused(&self, bucket: usize, refusal: Refusal) {
        add(&self.buckets[bucket].refused[refusal as usize]);
    }

    /// Counts an unsafe request that was answered.
    pub(crate) fn written(&self) {
        add(&self.writes);
    }

    pub(crate) fn invalidated(&self) {
        add(&self.invalidations);
    }

    pub(crate) fn invalidated_tag(&self) {
        add(&self.tag_invalidations);
    }

    /// Counts a write for which no usable key or tag could be made.
    pub(crate) fn invalidation_failed(&self) {
        add(&self.invalidation_failures);
    }

    /// Counts a fill or a write that was dropped because too many had lost their callers.
    pub(crate) fn detached_dropped(&self) {
        add(&self.detached_dropped);
    }

    /// Copies the counts out; `flights` is known elsewhere.
    pub(crate) fn snapshot(&self, flights: usize) -> Snapshot {
        Snapshot {
            buckets: self.buckets.iter().map(|b| (b.name.clone(), b.snapshot())).collect(),
            flights: flights as u64,
            writes: get(&self.writes),
            invalidations: get(&self.invalidations),
            tag_invalidations: get(&self.tag_invalidations),
            invalidation_failures: get(&self.invalidation_failures),
            detached_dropped: get(&self.detached_dropped),
            // Known elsewhere: see `Shared::snapshot`.
            store: None,
        }
    }
}

impl Bucket {
    fn new(name: String) -> Self {
        let counters = |length: usize| (0..length).map(|_| AtomicU64::new(0)).collect();
        Self {
            name,
            hits: ShardedCounter::new(),
            misses: AtomicU64::new(0),
            coalesced: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            unsatisfied: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            refreshes: AtomicU64::new(0),
            alone: counters(Alone::ALL.len()),
            bypassed: counters(Bypass::ALL.len()),
            refused: counters(Refusal::ALL.len()),
            gauge: Arc::default(),
        }
    }

    fn snapshot(&self) -> BucketSnapshot {
        BucketSnapshot {
            // Known elsewhere: see `Shared::snapshot`.
            is_off: false,
            hits: self.hits.get(),
            misses: get(&self.misses),
            coalesced: get(&self.coalesced),
            stored: get(&self.stored),
            fenced: get(&self.fenced),
            unsatisfied: get(&self.unsatisfied),
            stale: get(&self.stale),
            refreshes: get(&self.refreshes),
            alone: by_reason(Alone::ALL, &self.alone),
            bypassed: by_reason(Bypass::ALL, &self.bypassed),
            refused: by_reason(Refusal::ALL, &self.refused),
            evicted: self.gauge.evicted(),
            entries: self.gauge.entries(),
            bytes: self.gauge.bytes(),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn by_reason<R: Copy + Ord>(reasons: &[R], counters: &[AtomicU64]) -> BTreeMap<R, u64> {
    let counts = reasons.iter().copied().zip(counters.iter().map(get));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The counts of a layer, copied out at one moment.
///
/// Counts grow from the layer's creation and are not reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The counts of each bucket, by name.
    pub buckets: BTreeMap<String, BucketSnapshot>,
    /// Forwards on their way now whose responses may be stored and shared.
    pub flights: u64,
    /// Unsafe requests that were forwarded and answered, whatever they invalidated.
    pub writes: u64,
    /// Keys invalidated, by call or by rule. An invalidation of everything counts once.
    pub invalidations: u64,
    /// Tags invalidated, by call, by rule or by a response (RFC 9875).
    pub tag_invalidations: u64,
    /// Writes for which a rule could not make a usable key or tag, so that it invalidated nothing.
    pub invalidation_failures: u64,
    /// Fills and writes that lost their callers and were dropped because too many had.
    pub detached_dropped: u64,
    /// The store's own counts, if it is over a network.
    pub store: Option<StoreSnapshot>,
}

impl Snapshot {
    /// Returns the counts of the bucket `name`, or `None` if no route names it.
    pub fn bucket(&self, name: &str) -> Option<&BucketSnapshot> {
        self.buckets.get(name)
    }
}

/// The counts of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BucketSnapshot {
    /// Whether the bucket is switched off.
    pub is_off: bool,
    /// Requests answered from the store.
    pub hits: u64,
    /// Requests that were looked up and forwarded.
    pub misses: u64,
    /// Requests answered with what another request's forward brought.
    pub coalesced: u64,
    /// Responses stored.
    pub stored: u64,
    /// Responses not stored because an invalidation overtook them.
    pub fenced: u64,
    /// Requests with `only-if-cached`, on routes that honour it, that were answered by 504.
    pub unsatisfied: u64,
    /// Requests answered from the store with what was no longer fresh.
    pub stale: u64,
    /// Forwards in the background that asked about what was stale, or soon would be (early refresh).
    pub refreshes: u64,
    /// Misses that joined no flight and stored nothing, by reason; reasons that never occurred are
    /// absent.
    pub alone: BTreeMap<Alone, u64>,
    /// Requests that did not consult the cache, by reason; reasons that never occurred are absent.
    pub bypassed: BTreeMap<Bypass, u64>,
    /// Responses that were not stored, by reason; reasons that never occurred are absent.
    pub refused: BTreeMap<Refusal, u64>,
    /// Entries removed from memory to make room.
    pub evicted: u64,
    /// Entries in this process's memory now, expired ones included until they are replaced or
    /// evicted, and so are `Pass` entries.
    pub entries: u64,
    /// What these entries weigh, in bytes, overhead included.
    pub bytes: u64,
}
