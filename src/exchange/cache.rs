//! State that all services of a layer share.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    nesting::Nesting,
    respond::{ResponseContext, SharedResponse},
};
use crate::{
    background::{Detachments, EarlyRefresh, Revalidations},
    clock::{Instant, now, sleep_until},
    entry::ShapeCache,
    error::Unfinished,
    flight::{Flights, Limits},
    key::{Strength, Subject},
    metrics::{Metrics, Snapshot, reporter::Reporter, telemetry},
    recording::Budget,
    route::{CacheRule, Identity, RouteTable, WriteChange},
    store::{Pending, Store},
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
    pub(crate) table: RouteTable,
    pub(crate) identity: Identity,
    pub(crate) flights: Arc<Flights<SharedResponse>>,
    pub(crate) revalidations: Arc<Revalidations>,
    pub(crate) routes: Vec<RouteState>,
    pub(crate) detachments: Arc<Detachments>,
    /// Bound on refreshes in the background.
    pub(crate) refreshes: Arc<Detachments>,
    pub(crate) bodies: Arc<Budget>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) follower_wait: Duration,
    /// Set once a response has named tags that its request does not tell.
    are_tags_named: AtomicBool,
    /// Set once a layer within itself was warned of.
    is_nested: AtomicBool,
    /// Routes, calls and fields whose failed invalidations were logged already.
    failed: Mutex<HashSet<String>>,
}

/// State of a cached route.
pub(crate) struct RouteState {
    /// Position of its bucket in the metrics.
    pub(crate) bucket: usize,
    is_switched_off: AtomicBool,
    pub(crate) early: EarlyRefresh,
    pub(crate) shapes: ShapeCache,
    pub(crate) nesting: Arc<Nesting>,
    has_warned: AtomicBool,
}

impl<St: Store> Cache<St> {
    pub(crate) fn new(
        store: Arc<St>,
        table: RouteTable,
        identity: Identity,
        name: sfv::Token,
    ) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut routes = Vec::new();
        for rule in table.read_rules() {
            let known = names.iter().position(|name| *name == rule.bucket);
            routes.push(RouteState {
                bucket: known.unwrap_or(names.len()),
                is_switched_off: AtomicBool::new(false),
                early: EarlyRefresh::new(rule.early_refresh),
                shapes: ShapeCache::default(),
                nesting: Arc::new(Nesting::new()),
                has_warned: AtomicBool::new(false),
            });
            if known.is_none() {
                names.push(rule.bucket.clone());
            }
        }
        let limits = Limits { flights: MAX_FLIGHTS, followers: MAX_FOLLOWERS, wait: FOLLOWER_WAIT };
        let metrics = Arc::new(Metrics::new(name.as_str(), names));
        let bound = |count| Arc::new(Detachments::new(count, DETACHED_TIME, Arc::clone(&metrics)));
        let (detachments, refreshes) = (bound(MAX_DETACHED), bound(MAX_REFRESHES));
        Self {
            store,
            table,
            identity,
            flights: Arc::new(Flights::new(limits)),
            revalidations: Arc::default(),
            routes,
            detachments,
            refreshes,
            bodies: Arc::new(Budget::new(BODIES_IN_FLIGHT)),
            reporter: Arc::new(Reporter::new(metrics, name)),
            follower_wait: FOLLOWER_WAIT,
            are_tags_named: AtomicBool::new(false),
            is_nested: AtomicBool::new(false),
            failed: Mutex::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.reporter.metrics
    }

    pub(crate) fn rule(&self, route: usize) -> &CacheRule {
        &self.table.read_rules()[route]
    }

    /// Returns the context of a request on this route that ends now.
    pub(crate) fn context(&self, route: usize) -> ResponseContext<'_> {
        ResponseContext { reporter: &self.reporter, bucket: self.bucket(route), now: now() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.metrics().snapshot(self.flights.in_flight());
        snapshot.detached = self.detachments.len() as u64;
        for (name, bucket) in &mut snapshot.buckets {
            let position = self.metrics().position(name);
            let mut routes = self.routes.iter().filter(|route| Some(route.bucket) == position);
            bucket.is_off = routes.any(|route| route.is_switched_off.load(Ordering::Relaxed));
        }
        snapshot.store = self.store.snapshot();
        snapshot
    }

    pub(crate) fn bucket(&self, route: usize) -> usize {
        self.routes[route].bucket
    }

    pub(crate) fn is_switched_off(&self, route: usize) -> bool {
        self.routes[route].is_switched_off.load(Ordering::Relaxed)
    }

    pub(crate) fn switch_off(&self, bucket: usize, is_off: bool) {
        for route in self.routes.iter().filter(|route| route.bucket == bucket) {
            route.is_switched_off.store(is_off, Ordering::Relaxed);
        }
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
        let flushed = self.store.flush_pending(left).await;
        let pending = self.store.snapshot().map_or(0, |store| store.pending);
        match (given_up, flushed) {
            (0, Ok(())) => Ok(()),
            (given_up, Ok(())) => Err(Unfinished::new(given_up, 0)),
            (given_up, Err(_)) => Err(Unfinished::new(given_up, pending.max(1))),
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
        self.are_tags_named.load(Ordering::Relaxed) || self.table.can_make_tag(tag)
    }

    /// Warns, once for each route, that requests with credentials bypass the cache there.
    pub(crate) fn warn_of_credentials(&self, route: usize) {
        if !self.routes[route].has_warned.swap(true, Ordering::Relaxed) {
            telemetry::credentials_bypassed(&self.table.read_rules()[route].route);
        }
    }

    /// Warns, once, that the layer is within itself or within one with the same rules and store.
    pub(crate) fn warn_of_nesting(&self, route: usize) {
        if !self.is_nested.swap(true, Ordering::Relaxed) {
            telemetry::layer_nested(&self.table.read_rules()[route].route);
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
        self.count(subject);
        self.store.invalidate(subject, strength)
    }

    /// Invalidates all routes of a bucket; `None` if there is none of this name.
    pub(crate) fn invalidate_bucket(
        &self,
        bucket: &str,
        strength: Strength,
    ) -> Option<impl Future<Output = Result<(), Pending>> + Send + use<St>> {
        let rules = self.table.read_rules().iter().filter(|rule| rule.bucket == bucket);
        let scopes: Vec<_> = rules.map(|rule| rule.scope).collect();
        if scopes.is_empty() {
            return None;
        }
        self.metrics().invalidated();
        Some(self.store.invalidate_scopes(&scopes, strength))
    }

    pub(crate) fn count(&self, subject: &Subject) {
        match subject {
            Subject::Key(_) => self.metrics().invalidated(),
            Subject::Tag(_) => self.metrics().invalidated_tag(),
        }
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
        let (settled, unsettled) = match window.is_zero() {
            true => (Some(self.store.invalidate(subject, *strength)), None),
            false => {
                // Before it is invalidated, so that a fill sees the one or the other.
                if let Some(until) =
                    self.store.sequence().unsettled().enter(subject, *strength, window)
                {
                    self.settle_later(subject.clone(), until);
                }
                (None, Some(self.store.unsettle(subject, *strength, window)))
            }
        };
        async move {
            match (settled, unsettled) {
                (Some(call), _) => call.await,
                (None, Some(call)) => call.await,
                (None, None) => Ok(()),
            }
        }
    }

    /// Invalidates again once the windows of a key or a tag are over: a store may have lost them.
    fn settle_later(self: &Arc<Self>, subject: Subject, mut until: Instant) {
        // Without a runtime its time still runs out; the store has taken nothing for it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, window) = (Arc::clone(self), until.saturating_duration_since(now()));
        runtime.spawn(async move {
            // The store's window begins when the store has been reached.
            let _ = shared.store.flush_pending(DELIVERY).await;
            until = until.max(now() + window);
            loop {
                sleep_until(until).await;
                // Before it leaves, so that no fill slips in between.
                let strength = shared.store.sequence().unsettled().strength(&subject);
                let _ = shared.store.invalidate(&subject, strength).await;
                match shared.store.sequence().unsettled().leave(&subject) {
                    Some(later) => until = later,
                    None => return,
                }
            }
        });
    }
}
