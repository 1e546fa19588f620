//! Counters of a layer and its buckets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8},
    },
    time::Duration,
};

use super::{
    append_list::AppendList,
    facade,
    latency::{Latency, LatencyCounter},
    outcome::{Alone, Bypass, Outcome, Refusal, Shadow, Stale},
    recent_outcomes::{OutcomeDetails, RecentOutcomes, RecordedOutcome},
    sharded_counter::ShardedCounter,
    snapshot::{BucketSnapshot, Snapshot},
    switch::Switch,
    telemetry,
};
use crate::{
    entry::MemoryGauge,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// Number of requests after which every bucket should have had one.
const WARM: u64 = 1000;

/// Number of buckets that reloads may add to those at first.
const MORE_BUCKETS: usize = 256;

/// Counters of one layer.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Name of the layer.
    name: Arc<str>,
    buckets: AppendList<Bucket>,
    /// Number of outcomes that each bucket records.
    outcomes: usize,
    writes: AtomicU64,
    writes_unmatched: AtomicU64,
    writes_failed: AtomicU64,
    writes_panicked: AtomicU64,
    invalidations: AtomicU64,
    tag_invalidations: AtomicU64,
    invalidation_failures: AtomicU64,
    invalidations_unmatched: AtomicU64,
    detached_dropped: AtomicU64,
    encoded: AtomicU64,
    /// Requests that no rule is for, counted until the layer is warm.
    passed: AtomicU64,
    is_warm: AtomicBool,
}

/// Counters and switch of one bucket.
#[derive(Debug)]
struct Bucket {
    name: Arc<str>,
    switch: AtomicU8,
    /// By far the most frequent.
    hits: ShardedCounter,
    misses: AtomicU64,
    coalesced: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    stored: AtomicU64,
    fenced: AtomicU64,
    unsatisfied: AtomicU64,
    exhausted: AtomicU64,
    refreshes: AtomicU64,
    refills: AtomicU64,
    stale: Vec<AtomicU64>,
    alone: Vec<AtomicU64>,
    bypassed: Vec<AtomicU64>,
    refused: Vec<AtomicU64>,
    shadow: Vec<AtomicU64>,
    /// Times from a forward to the head of its response.
    origin: LatencyCounter,
    saved: Mutex<OriginTimeSaved>,
    gauge: Arc<MemoryGauge>,
    /// The last outcomes, where they are recorded.
    recent: Option<RecentOutcomes>,
}

/// Time that hits and joins did not take.
#[derive(Debug, Default)]
struct OriginTimeSaved {
    /// Number of hits and joins that are in `time`.
    counted: u64,
    time: Duration,
}

impl Metrics {
    /// Creates the counters of a layer of this name and of its buckets, with this number of outcomes that each
    /// records.
    pub(crate) fn new(name: &str, buckets: Vec<String>, outcomes: usize) -> Self {
        let buckets = buckets.into_iter().map(|name| Bucket::new(name, outcomes));
        Self {
            name: name.into(),
            buckets: AppendList::new(buckets, MORE_BUCKETS),
            outcomes,
            writes: AtomicU64::new(0),
            writes_unmatched: AtomicU64::new(0),
            writes_failed: AtomicU64::new(0),
            writes_panicked: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
            tag_invalidations: AtomicU64::new(0),
            invalidation_failures: AtomicU64::new(0),
            invalidations_unmatched: AtomicU64::new(0),
            detached_dropped: AtomicU64::new(0),
            encoded: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            is_warm: AtomicBool::new(false),
        }
    }

    /// Returns the name of the layer.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Counts a request that no rule is for. After the first thousand requests of the layer it warns of
    /// buckets that none has reached: their patterns may match nothing.
    ///
    /// Only such a request can show that a pattern is wrong, so a hit does not pay for this.
    pub(crate) fn passed(&self) {
        if self.is_warm.load(Ordering::Relaxed) {
            return;
        }
        add(&self.passed);
        let reached: u64 = self.buckets.iter().map(Bucket::requests).sum();
        let is_warm = get(&self.passed) + get(&self.writes) + reached >= WARM;
        if !is_warm || self.is_warm.swap(true, Ordering::Relaxed) {
            return;
        }
        for bucket in self.buckets.iter().filter(|bucket| bucket.requests() == 0) {
            telemetry::bucket_unreached(&bucket.name);
        }
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.buckets.iter().position(|bucket| *bucket.name == *name)
    }

    /// Returns the positions of buckets, and adds those that are new. `None` if there is no room for all.
    pub(crate) fn positions(&self, names: &[&str]) -> Option<Vec<usize>> {
        let is_new = |name: &&str| self.position(name).is_none();
        let new: BTreeSet<_> = names.iter().copied().filter(is_new).collect();
        if self.buckets.room() < new.len() {
            return None;
        }
        new.into_iter()
            .for_each(|name| self.buckets.push(Bucket::new(name.to_owned(), self.outcomes)));
        names.iter().map(|name| self.position(name)).collect()
    }

    /// Switches a bucket. Returns whether there is a bucket of this name.
    pub(crate) fn switch(&self, name: &str, switch: Switch) -> bool {
        let position = self.position(name);
        if let Some(position) = position {
            self.buckets[position].switch.store(switch as u8, Ordering::Relaxed);
        }
        position.is_some()
    }

    #[inline]
    pub(crate) fn switch_of(&self, bucket: usize) -> Switch {
        Switch::of(self.buckets[bucket].switch.load(Ordering::Relaxed))
    }

    /// Returns the last outcomes of a bucket, the oldest first.
    pub(crate) fn recent_outcomes(&self, bucket: &str) -> Vec<RecordedOutcome> {
        let recent = self.position(bucket).and_then(|bucket| self.buckets[bucket].recent.as_ref());
        recent.map(RecentOutcomes::snapshot).unwrap_or_default()
    }

    /// Counts the answer that a request in shadow would have had.
    pub(crate) fn shadowed(&self, bucket: usize, result: Shadow) {
        add(&self.buckets[bucket].shadow[result as usize]);
    }

    pub(crate) fn gauge(&self, bucket: usize) -> Arc<MemoryGauge> {
        Arc::clone(&self.buckets[bucket].gauge)
    }

    /// Counts, logs and records how a request on a cache route ended.
    #[inline]
    pub(crate) fn ended(
        &self,
        bucket: usize,
        outcome: &Outcome,
        details: impl FnOnce() -> OutcomeDetails,
    ) {
        let bucket = &self.buckets[bucket];
        if let Some(recent) = &bucket.recent {
            recent.record(*outcome, details());
        }
        match outcome {
            Outcome::Hit { .. } => bucket.hits.add(),
            Outcome::Stale { why, .. } => add(&bucket.stale[*why as usize]),
            Outcome::Rescued { .. } => add(&bucket.stale[Stale::Error as usize]),
            Outcome::Refreshed { .. } => add(&bucket.refreshes),
            Outcome::Collapsed { .. } => add(&bucket.coalesced),
            Outcome::Led { .. } => add(&bucket.misses),
            Outcome::Alone { reason, .. } => {
                add(&bucket.misses);
                add(&bucket.alone[*reason as usize]);
            }
            Outcome::Bypassed { reason, .. } => add(&bucket.bypassed[*reason as usize]),
            Outcome::Unsatisfied => add(&bucket.unsatisfied),
            Outcome::Exhausted => add(&bucket.exhausted),
            // Counted by `written`: a write belongs to no bucket.
            Outcome::Written { .. } => {}
        }
        telemetry::ended(Some(&bucket.name), outcome);
    }

    pub(crate) fn stored(&self, bucket: usize) {
        add(&self.buckets[bucket].stored);
    }

    /// Counts a forward whose handler is told of an invalidation a moment ago.
    pub(crate) fn refilled(&self, bucket: usize) {
        add(&self.buckets[bucket].refills);
    }

    /// Counts a response that an invalidation overtook.
    pub(crate) fn fenced(&self, bucket: usize) {
        add(&self.buckets[bucket].fenced);
    }

    pub(crate) fn refused(&self, bucket: usize, refusal: Refusal) {
        add(&self.buckets[bucket].refused[refusal as usize]);
    }

    /// Counts and logs an unsafe request that was answered.
    pub(crate) fn written(&self, outcome: &Outcome) {
        add(&self.writes);
        telemetry::ended(None, outcome);
    }

    /// Counts an unsafe request that no rule is for.
    pub(crate) fn unmatched_write(&self) {
        add(&self.writes_unmatched);
    }

    pub(crate) fn failed_write(&self) {
        add(&self.writes_failed);
    }

    pub(crate) fn panicked_write(&self) {
        add(&self.writes_panicked);
    }

    /// Counts the time that the service took to begin its response, or to fail.
    pub(crate) fn origin_answered(&self, bucket: usize, took: Duration) {
        let bucket = &self.buckets[bucket];
        bucket.origin.add(took, 1);
        facade::origin_request(&self.name, &bucket.name, took);
    }

    /// Counts a forward that ended with an error of the service.
    pub(crate) fn failed(&self, bucket: usize) {
        add(&self.buckets[bucket].failed);
    }

    /// Counts a forward whose handler panicked.
    pub(crate) fn panicked(&self, bucket: usize) {
        add(&self.buckets[bucket].panicked);
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

    /// Counts a key or a tag of a call that no request makes.
    pub(crate) fn invalidation_unmatched(&self) {
        add(&self.invalidations_unmatched);
    }

    /// Counts a fill, a write or a refresh that was dropped because too many went on without a caller.
    pub(crate) fn detached_dropped(&self) {
        add(&self.detached_dropped);
    }

    /// Counts a stored response that was encoded.
    pub(crate) fn encoded(&self) {
        add(&self.encoded);
    }

    /// Copies the counts out; `flights` is known elsewhere.
    pub(crate) fn snapshot(&self, flights: usize) -> Snapshot {
        Snapshot {
            buckets: self.buckets.iter().map(|b| (b.name.to_string(), b.snapshot())).collect(),
            flights: flights as u64,
            // Known elsewhere: see `Cache::snapshot`.
            detached: 0,
            hook_pending: 0,
            writes: get(&self.writes),
            writes_unmatched: get(&self.writes_unmatched),
            writes_failed: get(&self.writes_failed),
            writes_panicked: get(&self.writes_panicked),
            invalidations: get(&self.invalidations),
            tag_invalidations: get(&self.tag_invalidations),
            invalidation_failures: get(&self.invalidation_failures),
            invalidations_unmatched: get(&self.invalidations_unmatched),
            detached_dropped: get(&self.detached_dropped),
            encoded: get(&self.encoded),
            // Known elsewhere: see `Cache::snapshot`.
            origin: None,
            store: None,
        }
    }
}

impl Bucket {
    fn new(name: String, outcomes: usize) -> Self {
        let counters = |length: usize| (0..length).map(|_| AtomicU64::new(0)).collect();
        Self {
            name: name.into(),
            switch: AtomicU8::new(Switch::On as u8),
            hits: ShardedCounter::new(),
            misses: AtomicU64::new(0),
            coalesced: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            unsatisfied: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            refreshes: AtomicU64::new(0),
            refills: AtomicU64::new(0),
            stale: counters(Stale::ALL.len()),
            alone: counters(Alone::ALL.len()),
            bypassed: counters(Bypass::ALL.len()),
            refused: counters(Refusal::ALL.len()),
            shadow: counters(Shadow::ALL.len()),
            origin: LatencyCounter::default(),
            saved: Mutex::default(),
            gauge: Arc::default(),
            recent: RecentOutcomes::new(outcomes),
        }
    }

    /// Returns the number of requests that have ended on its routes.
    fn requests(&self) -> u64 {
        let answered = [&self.misses, &self.coalesced].into_iter();
        self.hits.get() + answered.chain(&self.stale).chain(&self.bypassed).map(get).sum::<u64>()
    }

    /// Returns the time that hits and joins have saved so far, those since the last call at the mean of
    /// `origin`. It never falls, whatever the mean does.
    fn saved(&self, origin: &Latency) -> Duration {
        let mut saved = lock(&self.saved);
        // Without a mean they wait for one.
        if let Some(mean) = origin.mean() {
            let answered = self.hits.get() + get(&self.coalesced);
            let more = answered.saturating_sub(saved.counted);
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            saved.time = saved.time.saturating_add(mean.saturating_mul(more));
            saved.counted += u64::from(more);
        }
        saved.time
    }

    fn snapshot(&self) -> BucketSnapshot {
        let origin = self.origin.snapshot();
        BucketSnapshot {
            switch: Switch::of(self.switch.load(Ordering::Relaxed)),
            shadow: by_reason(Shadow::ALL, &self.shadow),
            hits: self.hits.get(),
            misses: get(&self.misses),
            coalesced: get(&self.coalesced),
            failed: get(&self.failed),
            panicked: get(&self.panicked),
            stored: get(&self.stored),
            fenced: get(&self.fenced),
            unsatisfied: get(&self.unsatisfied),
            exhausted: get(&self.exhausted),
            stale: by_reason(Stale::ALL, &self.stale),
            refreshes: get(&self.refreshes),
            refills: get(&self.refills),
            alone: by_reason(Alone::ALL, &self.alone),
            bypassed: by_reason(Bypass::ALL, &self.bypassed),
            refused: by_reason(Refusal::ALL, &self.refused),
            saved: self.saved(&origin),
            origin,
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
