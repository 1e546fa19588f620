//! State that all services of a layer share.

use std::{
    any::Any,
    collections::{BTreeSet, HashSet},
    iter,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use http::HeaderName;
use tokio::sync::Semaphore;

use super::{
    notices::{FrontSettings, Invalidated, Notices},
    respond::{ResponseContext, SharedResponse},
    rules::{CachedRoute, CurrentRules, Rules, RulesGuard, Since},
};
use crate::{
    background::{Detachments, Revalidations, runtime},
    clock::{Instant, now, sleep_until},
    error::{ConfigError, Unfinished},
    flight::{Flights, Limits},
    insight::Audits,
    key::{Strength, Subject},
    metrics::{Metrics, Snapshot, reporter::Reporter, telemetry},
    origin::OriginController,
    recording::Budget,
    route::{Identity, RouteTable, Routes, WriteChange},
    store::{Acknowledgement, Pending, Store},
    sync::{Mutex, lock},
};

const MAX_FLIGHTS: usize = 65_536;
const MAX_FOLLOWERS: usize = 10_000;
const FOLLOWER_WAIT: Duration = Duration::from_secs(5);
const MAX_DETACHED: usize = 256;
const MAX_REFRESHES: usize = 256;
const DETACHED_TIME: Duration = Duration::from_secs(30);
/// Time that a drain gives to the store after its limit.
const LAST_FLUSH: Duration = Duration::from_secs(1);
/// Time that an invalidation may take to be delivered, before it is sent once more all the same.
const DELIVERY: Duration = Duration::from_secs(3600);
const BODIES_IN_FLIGHT: u64 = 64 * 1024 * 1024;

/// State that all services of a layer share.
///
/// Aligned to cache lines of its own: the count of its clones changes with every request.
#[repr(align(128))]
pub(crate) struct Cache<St> {
    pub(crate) store: Arc<St>,
    rules: CurrentRules,
    /// Held by a reload.
    reloading: Mutex<()>,
    pub(crate) identity: Identity,
    pub(crate) flights: Arc<Flights<SharedResponse>>,
    pub(crate) revalidations: Arc<Revalidations>,
    /// Encodings that run, by variant.
    pub(super) encodings: Arc<Revalidations>,
    /// Permits to encode.
    pub(super) encoders: Arc<Semaphore>,
    pub(crate) origin: OriginController,
    pub(crate) detachments: Arc<Detachments>,
    /// Bound on refreshes in the background.
    pub(crate) refreshes: Arc<Detachments>,
    pub(crate) bodies: Arc<Budget>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) follower_wait: Duration,
    /// Field that names what a response belongs to; `None` for none.
    pub(super) surrogate_key_field: Option<HeaderName>,
    pub(crate) audits: Audits,
    /// Maker of request bodies without content, a `fn() -> Q`.
    pub(super) empty_body: Option<Arc<dyn Any + Send + Sync>>,
    /// Notices of invalidations; `None` without a hook.
    notices: Option<Arc<Notices>>,
    /// Set once a response has named tags that its request does not tell.
    are_tags_named: AtomicBool,
    /// Set once a layer within itself was warned of.
    is_nested: AtomicBool,
    /// Routes, calls and fields whose failed invalidations were logged already.
    failed: Mutex<HashSet<String>>,
}

impl<St: Store> Cache<St> {
    pub(crate) fn new(
        store: Arc<St>,
        table: RouteTable,
        identity: Identity,
        name: sfv::Token,
        front: FrontSettings,
        origin: OriginController,
    ) -> Self {
        let limits = Limits { flights: MAX_FLIGHTS, followers: MAX_FOLLOWERS, wait: FOLLOWER_WAIT };
        let names: BTreeSet<_> =
            table.read_rules().iter().map(|rule| rule.bucket.clone()).collect();
        store.sequence().recent().remember_for(table.longest_settle());
        let metrics =
            Arc::new(Metrics::new(name.as_str(), names.into_iter().collect(), front.outcomes));
        let rules = Rules::new(table, &metrics, None, None).expect("there is room for the buckets");
        let bound = |count| Arc::new(Detachments::new(count, DETACHED_TIME, Arc::clone(&metrics)));
        let (detachments, refreshes) = (bound(MAX_DETACHED), bound(MAX_REFRESHES));
        Self {
            store,
            rules: CurrentRules::new(rules),
            reloading: Mutex::default(),
            identity,
            flights: Arc::new(Flights::new(limits)),
            revalidations: Arc::default(),
            encodings: Arc::default(),
            encoders: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
            origin,
            detachments,
            refreshes,
            bodies: Arc::new(Budget::new(BODIES_IN_FLIGHT)),
            reporter: Arc::new(Reporter::new(metrics, name, front.status_field)),
            follower_wait: FOLLOWER_WAIT,
            surrogate_key_field: front.surrogate_key_field,
            audits: Audits::default(),
            empty_body: front.empty_body,
            notices: front.hook.map(Notices::new),
            are_tags_named: AtomicBool::new(false),
            is_nested: AtomicBool::new(false),
            failed: Mutex::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.reporter.metrics
    }

    /// Returns the rules in force.
    pub(crate) fn rules(&self) -> RulesGuard<'_> {
        self.rules.read()
    }

    /// Replaces the rules. Requests that have begun finish under those that they began with.
    pub(crate) fn reload(&self, routes: &Routes) -> Result<(), ConfigError> {
        let table = routes.build(&self.identity)?;
        let _one_at_a_time = lock(&self.reloading);
        let (sequence, settled_at) = (self.store.sequence(), Arc::<OnceLock<_>>::default());
        sequence.recent().remember_for(table.longest_settle());
        let since =
            Since { at: now(), fence: sequence.begin(), settled_at: Arc::clone(&settled_at) };
        let rules = Rules::new(table, self.metrics(), Some(&self.rules()), Some(&since))?;
        self.rules.replace(rules);
        let _ = settled_at.set(sequence.unsettled().latest());
        telemetry::reloaded();
        Ok(())
    }

    /// Returns the context of a request in this bucket that ends now.
    pub(crate) fn context(&self, bucket: usize) -> ResponseContext<'_> {
        ResponseContext { reporter: &self.reporter, bucket, now: now() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.metrics().snapshot(self.flights.in_flight());
        snapshot.detached = self.detachments.len() as u64;
        snapshot.hook_pending = self.notices.as_ref().map_or(0, |notices| notices.len());
        snapshot.origin = self.origin.snapshot();
        snapshot.store = self.store.snapshot();
        snapshot
    }

    /// Waits until nothing goes on without a caller, and then until the store has acknowledged every
    /// invalidation. At the limit the work is given up: the outcome of a write is unknown then.
    pub(crate) async fn drain(&self, limit: Duration) -> Result<(), Unfinished> {
        let deadline = now() + limit;
        let mut given_up = 0;
        if !self.detachments.are_done(deadline).await {
            given_up = self.detachments.len() as u64;
            self.detachments.give_up();
            // A write that is dropped invalidates: that has to be on its way before it is flushed.
            self.detachments.are_done(now() + LAST_FLUSH).await;
        }
        let left = deadline.saturating_duration_since(now()).max(LAST_FLUSH);
        let mut pending = match self.store.flush_pending(left).await {
            Ok(()) => 0,
            Err(_) => self.store.snapshot().map_or(1, |store| store.pending.max(1)),
        };
        if let Some(notices) = &self.notices {
            let left = deadline.saturating_duration_since(now()).max(LAST_FLUSH);
            pending = pending.max(notices.flush(&self.store, left).await);
        }
        match (given_up, pending) {
            (0, 0) => Ok(()),
            (given_up, pending) => Err(Unfinished::new(given_up, pending)),
        }
    }

    /// Notes that a response has named tags that its request does not tell.
    pub(crate) fn tags_are_named(&self) {
        // Written once, because every thread reads it.
        if !self.are_tags_named.load(Ordering::Relaxed) {
            self.are_tags_named.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether a response may have this tag, as far as is known.
    pub(crate) fn can_make_tag(&self, tag: &str) -> bool {
        self.are_tags_named.load(Ordering::Relaxed) || self.rules().table.can_make_tag(tag)
    }

    /// Warns, once, that the layer is within itself or within one with the same rules and store.
    pub(crate) fn warn_of_nesting(&self, route: &CachedRoute) {
        if !self.is_nested.swap(true, Ordering::Relaxed) {
            telemetry::layer_nested(&route.rule.route);
        }
    }

    /// Warns, once, that audits cannot repeat requests.
    pub(super) fn warn_of_audits(&self) {
        if lock(&self.failed).insert("empty_body".to_owned()) {
            telemetry::audits_impossible();
        }
    }

    /// Counts a write for which no usable key or tag could be made, and warns of it once for each route.
    pub(crate) fn invalidation_failed(&self, route: &str) {
        self.metrics().invalidation_failed();
        if lock(&self.failed).insert(route.to_owned()) {
            telemetry::invalidation_failed(route);
        }
    }

    /// Counts a call of the handle with a key or tag that no route can make, probably a mistake. It is
    /// logged once for each kind of call, without the text, which may be private.
    pub(crate) fn invalidation_unmatched(&self, call: &str) {
        self.metrics().invalidation_unmatched();
        if lock(&self.failed).insert(call.to_owned()) {
            telemetry::invalidation_unmatched(call);
        }
    }

    /// Gives the right to fill back, if there is one.
    pub(crate) fn release(&self, lease: Option<St::Lease>) {
        if let Some(lease) = lease {
            self.store.release(lease);
        }
    }

    /// Invalidates a key or a tag. What happens in this process happens when this is called.
    pub(crate) fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        self.announce(subject, strength);
        let call = self.store.invalidate(subject, strength);
        self.notify(|| Invalidated::Subject(subject.clone(), strength));
        call
    }

    /// Invalidates all routes of a bucket; `None` if there is none of this name.
    pub(crate) fn invalidate_bucket(
        &self,
        bucket: &str,
        strength: Strength,
    ) -> Option<impl Future<Output = Result<(), Pending>> + Send + use<St>> {
        let rules = self.rules();
        let of_bucket = rules.table.read_rules().iter().filter(|rule| rule.bucket == bucket);
        let scopes: Vec<_> = of_bucket.map(|rule| rule.scope).collect();
        if scopes.is_empty() {
            return None;
        }
        self.metrics().invalidated();
        telemetry::invalidated("bucket", strength, || iter::once((bucket, "")));
        let call = self.store.invalidate_scopes(&scopes, strength);
        self.notify(|| Invalidated::Bucket(bucket.to_owned(), strength));
        Some(call)
    }

    /// Invalidates everything in the store, or makes what all routes have stored stale.
    pub(crate) fn invalidate_all(&self, strength: Strength) -> Acknowledgement {
        self.metrics().invalidated();
        telemetry::invalidated("all", strength, iter::empty);
        let call: Acknowledgement = match strength {
            Strength::Hard => Box::pin(self.store.invalidate_all()),
            Strength::Soft => {
                let rules = self.rules();
                let scopes: Vec<_> =
                    rules.table.read_rules().iter().map(|rule| rule.scope).collect();
                Box::pin(self.store.invalidate_scopes(&scopes, strength))
            }
        };
        self.notify(|| Invalidated::All(strength));
        call
    }

    /// Has the hook notified of an invalidation that the store was called with.
    fn notify(&self, invalidated: impl FnOnce() -> Invalidated) {
        if let Some(notices) = &self.notices {
            notices.add(invalidated(), &self.store);
        }
    }

    /// Counts and logs an invalidation.
    pub(crate) fn announce(&self, subject: &Subject, strength: Strength) {
        let kind = match subject {
            Subject::Key(_) => "key",
            Subject::Tag(tag) if tag.is_group() => "group",
            Subject::Tag(_) => "tag",
        };
        match subject {
            Subject::Key(_) => self.metrics().invalidated(),
            Subject::Tag(_) => self.metrics().invalidated_tag(),
        }
        let rules = self.rules();
        telemetry::invalidated(kind, strength, || {
            let rules = rules.table.read_rules().iter();
            rules.filter_map(|rule| Some((&*rule.bucket, rule.template_of(subject)?)))
        });
    }

    /// Invalidates what a write changes. Until `window` is over, the origin may still commit: nothing is
    /// stored for it, and then it is invalidated again. What happens in this process happens when this
    /// is called.
    pub(crate) fn apply(
        self: &Arc<Self>,
        change: &WriteChange,
        window: Duration,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let WriteChange { subject, strength, .. } = change;
        if !window.is_zero() {
            // Before it is invalidated, so that a fill sees the one or the other.
            let unsettled = self.store.sequence().unsettled();
            if let Some(until) = unsettled.enter(subject, *strength, window) {
                self.settle_later(subject.clone(), until);
            }
        }
        let call = self.store.unsettle(subject, *strength, window);
        self.notify(|| Invalidated::Subject(subject.clone(), *strength));
        call
    }

    /// Invalidates again once the windows of a key or a tag are over: a store may have lost them.
    fn settle_later(self: &Arc<Self>, subject: Subject, mut until: Instant) {
        // Without a runtime its time still runs out; the store has taken nothing for it.
        let Some(runtime) = runtime() else { return };
        let (shared, window) = (Arc::clone(self), until.saturating_duration_since(now()));
        runtime.spawn(telemetry::in_current_span(async move {
            // The store's window begins when the store has been reached.
            let _ = shared.store.flush_pending(DELIVERY).await;
            until = until.max(now() + window);
            loop {
                sleep_until(until).await;
                // Before it leaves, so that no fill slips in between.
                let strength = shared.store.sequence().unsettled().strength(&subject);
                let _ = shared.store.invalidate(&subject, strength).await;
                shared.notify(|| Invalidated::Subject(subject.clone(), strength));
                match shared.store.sequence().unsettled().leave(&subject) {
                    Some(later) => until = later,
                    None => return,
                }
            }
        }));
    }
}
