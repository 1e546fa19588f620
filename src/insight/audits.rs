//! Audits: samples of what was stored, and what came of asking the origin about them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use http::{HeaderName, Method};

use super::{
    digests::{FieldDigests, ResponseDigest},
    examination::Finding,
    write_log::{MissingRule, ReadTarget, WriteKinds, WriteLog},
};
use crate::{
    clock::{Instant, now, time_of_day},
    entry::Entry,
    key::{Variant, seeded_hash},
    metrics::outcome::AuditResult,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// Number of samples that are kept. A newer one takes the place of an older one.
const SAMPLES: usize = 1024;
/// Number of fields and parts that are named for a bucket.
const MAX_NAMES: usize = 64;
/// Number of changes whose intervals are kept.
const MAX_CHANGES: usize = 32;

/// Results of the audits of a bucket, from [`SupportCacheHandle::audits`](crate::SupportCacheHandle::audits).
///
/// It names fields, and neither values nor paths nor callers; a path of a rule may have literal parts.
///
/// ```
/// use tower_support_cache::{AuditReport, AuditResult};
///
/// /// Share of the audited responses that the origin confirmed.
/// fn confirmed(report: &AuditReport) -> f64 {
///     let count = |result| report.results.get(&result).copied().unwrap_or(0) as f64;
///     let wrong = count(AuditResult::Changed) + count(AuditResult::Undeclared);
///     count(AuditResult::Confirmed) / (count(AuditResult::Confirmed) + wrong).max(1.0)
/// }
/// assert_eq!(confirmed(&AuditReport::default()), 0.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AuditReport {
    /// Audits that have ended, by result.
    pub results: BTreeMap<AuditResult, u64>,
    /// Parts in which two answers to one request differed: `status`, `body`, or the name of a field.
    pub not_deterministic: BTreeMap<String, u64>,
    /// Request fields on which responses depend, although neither the route nor `Vary` names them. Each was
    /// confirmed by requests with this field changed.
    pub undeclared: BTreeMap<String, u64>,
    /// Request fields that differed from those of the fill. They are not accused.
    pub suspects: BTreeMap<String, SuspectField>,
    /// Longest time for which a changed response can have been stale: the number of changes by its upper bound
    /// in seconds, a power of two.
    pub staleness: BTreeMap<u64, u64>,
    /// Intervals in which the last 32 changes must have happened.
    pub changes: Vec<ChangeInterval>,
    /// Rules that seem to be missing, the most certain first.
    pub missing_rules: Vec<MissingRule>,
}

/// Counts of a request field that differed from the one of the fill.
///
/// ```
/// use tower_support_cache::SuspectField;
///
/// /// Whether it differed about as often where nothing had changed.
/// fn is_probably_innocent(field: &SuspectField) -> bool {
///     field.confirmed > 10 * field.changed
/// }
/// assert!(!is_probably_innocent(&SuspectField::default()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SuspectField {
    /// Audits with another response in which it differed.
    pub changed: u64,
    /// Audits with the same response in which it differed.
    pub confirmed: u64,
}

/// Interval in which a response has changed without an invalidation.
///
/// ```
/// use tower_support_cache::ChangeInterval;
///
/// /// Line for whoever reads the log of the database.
/// fn line(change: &ChangeInterval) -> String {
///     format!("between {:?} and {:?}", change.from, change.to)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ChangeInterval {
    /// Time at which the origin was asked for what was stored.
    pub from: SystemTime,
    /// Time at which it answered something else.
    pub to: SystemTime,
}

/// Sample of a stored response, for an audit.
#[derive(Debug)]
pub(crate) struct AuditSample {
    variant: Variant,
    pub(crate) response: ResponseDigest,
    /// Fields of the request that filled it.
    pub(crate) fields: FieldDigests,
    pub(crate) requested: Instant,
    /// Time from which a hit is audited.
    due: Instant,
}

/// Examination that has ended.
pub(crate) struct Examination<'e> {
    pub(crate) finding: &'e Finding,
    pub(crate) suspects: &'e [HeaderName],
    /// Time at which the origin was asked for the stored response.
    pub(crate) from: Instant,
    /// Time at which it was asked about it.
    pub(crate) to: Instant,
    pub(crate) target: &'e ReadTarget,
}

/// Audits of a layer.
#[derive(Default)]
pub(crate) struct Audits {
    /// Made with the first sample: a layer without audits has no room for them.
    samples: OnceLock<Box<[Place]>>,
    buckets: Mutex<BTreeMap<String, BucketAudits>>,
    writes: WriteLog,
}

/// Place of a sample. Its hash tells without a lock that a hit is no sample.
#[derive(Default)]
struct Place {
    hash: AtomicU64,
    sample: Mutex<Option<Box<AuditSample>>>,
}

#[derive(Default)]
struct BucketAudits {
    report: AuditReport,
    changes: VecDeque<ChangeInterval>,
    writes: WriteKinds,
}

/// Tosses whether a fill is sampled.
pub(crate) fn is_sampled(share: f64, variant: &Variant) -> bool {
    share > 0.0 && dice(variant, "sample") < share
}

/// Throws a number from 0 to 1.
fn dice(variant: &Variant, purpose: &str) -> f64 {
    seeded_hash((variant.seeded_hash(), now(), purpose)) as f64 / u64::MAX as f64
}

impl AuditSample {
    /// Takes a sample of a stored response. A hit in some part of its lifetime is audited.
    pub(crate) fn of(entry: &Entry, response: ResponseDigest, fields: FieldDigests) -> Self {
        let (variant, now) = (entry.slot().variant.clone(), now());
        let lifetime = entry.fresh_until().saturating_duration_since(now);
        // Near its end few hits are left.
        let due = now + lifetime.mul_f64(0.9 * dice(&variant, "due"));
        Self { variant, response, fields, requested: entry.requested(), due }
    }
}

impl Audits {
    pub(crate) fn keep(&self, sample: AuditSample) {
        let samples = self.samples.get_or_init(|| (0..SAMPLES).map(|_| Place::default()).collect());
        let hash = sample.variant.seeded_hash();
        let place = &samples[hash as usize % SAMPLES];
        *lock(&place.sample) = Some(Box::new(sample));
        place.hash.store(hash, Ordering::Relaxed);
    }

    fn place(&self, variant: &Variant) -> Option<&Place> {
        let hash = variant.seeded_hash();
        let place = &self.samples.get()?[hash as usize % SAMPLES];
        (place.hash.load(Ordering::Relaxed) == hash).then_some(place)
    }

    /// Returns whether a hit on a variant is to be audited.
    #[inline]
    pub(crate) fn is_due(&self, variant: &Variant, now: Instant) -> bool {
        self.place(variant).is_some_and(|place| {
            lock(&place.sample).as_ref().is_some_and(|sample| sample.is_due(variant, now))
        })
    }

    /// Takes the sample of a hit that is to be audited.
    pub(crate) fn take(&self, variant: &Variant, now: Instant) -> Option<Box<AuditSample>> {
        let place = self.place(variant)?;
        let sample = lock(&place.sample).take_if(|sample| sample.is_due(variant, now))?;
        place.hash.store(0, Ordering::Relaxed);
        Some(sample)
    }

    /// Notes a write that may have changed something.
    pub(crate) fn note_write(&self, method: &Method, path: &str) {
        if self.samples.get().is_some() {
            self.writes.note(method, path);
        }
    }

    /// Counts an audit that has found nothing.
    pub(crate) fn ended(&self, bucket: &str, result: AuditResult) {
        self.with(bucket, |audits| audits.count(result));
    }

    /// Counts what an examination has found.
    pub(crate) fn found(&self, bucket: &str, examined: &Examination<'_>) {
        let Examination { finding, suspects, from, to, target } = *examined;
        let writes = self.writes.between(from, to);
        self.with(bucket, |audits| {
            audits.count(result_of(finding));
            let is_confirmed = *finding == Finding::Confirmed;
            for suspect in suspects {
                let count = bounded(&mut audits.report.suspects, suspect.as_str());
                if let Some(count) = count {
                    match is_confirmed {
                        true => count.confirmed += 1,
                        false => count.changed += 1,
                    }
                }
            }
            match finding {
                Finding::Confirmed => audits.writes.count(&writes, target, false),
                Finding::NotDeterministic(part) => {
                    let parts = &mut audits.report.not_deterministic;
                    bounded(parts, part.as_str()).into_iter().for_each(|count| *count += 1);
                }
                Finding::Undeclared(field) => {
                    let fields = &mut audits.report.undeclared;
                    bounded(fields, field.as_str()).into_iter().for_each(|count| *count += 1);
                }
                Finding::Changed => {
                    audits.writes.count(&writes, target, true);
                    audits.changed(from, to);
                }
            }
        });
    }

    fn with(&self, bucket: &str, change: impl FnOnce(&mut BucketAudits)) {
        let mut buckets = lock(&self.buckets);
        match buckets.get_mut(bucket) {
            Some(audits) => change(audits),
            None => change(buckets.entry(bucket.to_owned()).or_default()),
        }
    }

    pub(crate) fn reports(&self) -> BTreeMap<String, AuditReport> {
        let buckets = lock(&self.buckets);
        let report = |audits: &BucketAudits| AuditReport {
            changes: audits.changes.iter().copied().collect(),
            missing_rules: audits.writes.report(),
            ..audits.report.clone()
        };
        buckets.iter().map(|(name, audits)| (name.clone(), report(audits))).collect()
    }
}

impl AuditSample {
    fn is_due(&self, variant: &Variant, now: Instant) -> bool {
        self.variant == *variant && self.due <= now
    }
}

impl BucketAudits {
    fn count(&mut self, result: AuditResult) {
        *self.report.results.entry(result).or_default() += 1;
    }

    fn changed(&mut self, from: Instant, to: Instant) {
        let longest = to.saturating_duration_since(from);
        let bound = (longest + Duration::from_millis(999)).as_secs().max(1).next_power_of_two();
        *self.report.staleness.entry(bound).or_default() += 1;
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
        }
        let (now, time) = (now(), time_of_day());
        let at = |instant: Instant| time - now.saturating_duration_since(instant);
        self.changes.push_back(ChangeInterval { from: at(from), to: at(to) });
    }
}

/// Returns the count of a name; `None` if there are too many others.
fn bounded<'m, C: Default>(counts: &'m mut BTreeMap<String, C>, name: &str) -> Option<&'m mut C> {
    if counts.len() >= MAX_NAMES && !counts.contains_key(name) {
        return None;
    }
    Some(counts.entry(name.to_owned()).or_default())
}

fn result_of(finding: &Finding) -> AuditResult {
    match finding {
        Finding::Confirmed => AuditResult::Confirmed,
        Finding::NotDeterministic(_) => AuditResult::NotDeterministic,
        Finding::Undeclared(_) => AuditResult::Undeclared,
        Finding::Changed => AuditResult::Changed,
    }
}
