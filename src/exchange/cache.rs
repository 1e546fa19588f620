//! What all services made by one layer share.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    background::detach::Detachments,
    background::early_refresh::Early,
    background::revalidation::Refreshes,
    clock::{Instant, now},
    entry::{Entry, Mould},
    exchange::respond::{Asks, Fill, Telling},
    flight::{Flights, Limits},
    key::{PrimaryKey, Subject, Tag, seeded_hash},
    metrics::reporter::Reporter,
    metrics::telemetry,
    metrics::{Metrics, Snapshot},
    policy::Wishes,
    recording::budget::Budget,
    route::{Identity, Table},
    store::{Pending, Store},
    sync::{Mutex, lock},
};

const MAX_FLIGHTS: usize = 65_536;
const MAX_FOLLOWERS: usize = 10_000;
const FOLLOWER_WAIT: Duration = Duration::from_secs(5);
const MAX_DETACHED: usize = 256;
const DETACHED_TIME: Duration = Duration::from_secs(30);
const BODIES_IN_FLIGHT: u64 = 64 * 1024 * 1024;

/// Aligned to lines of its own: those that count its clones, one for each request, change all the time.
#[repr(align(128))]
pub(crate) struct Shared<St> {
    pub(crate) store: Arc<St>,
    pub(crate) table: Table,
    pub(crate) identity: Identity,
    pub(crate) flights: Arc<Flights<Fill>>,
    pub(crate) refreshes: Arc<Refreshes>,
    pub(crate) routes: Vec<RouteState>,
    pub(crate) detachments: Arc<Detachments>,
    pub(crate) bodies: Arc<Budget>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) follower_wait: Duration,
    /// The routes whose failed invalidations have been warned of.
    failed: Mutex<HashSet<String>>,
}

/// What is known of a cached route besides its rule.
pub(crate) struct RouteState {
    /// Its bucket, as a position in the metrics.
    pub(crate) bucket: usize,
    is_switched_off: AtomicBool,
    pub(crate) early: Early,
    pub(crate) mould: Mould,
    has_warned: AtomicBool,
}

impl<St: Store> Shared<St> {
    pub(crate) fn new(store: Arc<St>, table: Table, identity: Identity, name: sfv::Token) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut routes = Vec::new();
        for rule in table.read_rules() {
            let known = names.iter().position(|name| *name == rule.bucket);
            routes.push(RouteState {
                bucket: known.unwrap_or(names.len()),
                is_switched_off: AtomicBool::new(false),
                early: Early::new(rule.early_refresh),
                mould: Mould::default(),
                has_warned: AtomicBool::new(false),
            });
            if known.is_none() {
                names.push(rule.bucket.clone());
            }
        }
        let limits = Limits { flights: MAX_FLIGHTS, followers: MAX_FOLLOWERS, wait: FOLLOWER_WAIT };
        let metrics = Arc::new(Metrics::new(names));
        let detachments = Detachments::new(MAX_DETACHED, DETACHED_TIME, Arc::clone(&metrics));
        Self {
            store,
            table,
            identity,
            flights: Arc::new(Flights::new(limits)),
            refreshes: Arc::default(),
            routes,
            detachments: Arc::new(detachments),
            bodies: Arc::new(Budget::new(BODIES_IN_FLIGHT)),
            reporter: Arc::new(Reporter::new(metrics, name)),
            follower_wait: FOLLOWER_WAIT,
            failed: Mutex::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.reporter.metrics
    }

    /// Where and when a request on this route ends, if it ends now.
    pub(crate) fn telling(&self, route: usize) -> Telling<'_> {
        Telling { reporter: &self.reporter, bucket: self.bucket(route), now: now() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.metrics().snapshot(self.flights.airborne());
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

    /// Whether a hit on a fresh entry may have to refresh it: it is near enough to its end.
    pub(crate) fn may_be_due(&self, route: usize, entry: &Entry, now: Instant) -> bool {
        self.routes[route].early.may_be_due(|| entry.fresh_until() - now)
    }

    /// Whether this hit on a fresh entry is to refresh it. One whose request says what it accepts is
    /// not.
    pub(crate) fn is_due(
        &self,
        (route, asks): (usize, &Asks),
        entry: &Entry,
        now: Instant,
    ) -> bool {
        asks.wishes == Wishes::NONE && self.may_be_due(route, entry, now) && {
            let dice = seeded_hash((entry.slot().variant.seeded_hash(), now));
            self.routes[route].early.is_due(entry.fresh_until() - now, dice)
        }
    }

    /// Warns, once for each route, that requests with credentials bypass the cache there.
    pub(crate) fn warn_of_credentials(&self, route: usize) {
        if !self.routes[route].has_warned.swap(true, Ordering::Relaxed) {
            telemetry::credentials_bypassed(&self.table.read_rules()[route].route);
        }
    }

    /// Counts a write for which no usable key or tag could be made, and warns of it once for each route.
    pub(crate) fn invalidation_failed(&self, route: &str) {
        self.metrics().invalidation_failed();
        if lock(&self.failed).insert(route.to_owned()) {
            telemetry::invalidation_failed(route);
        }
    }

    /// Invalidates a key. What happens in this process happens when this is called.
    pub(crate) fn invalidate(
        &self,
        key: &PrimaryKey,
    ) -> impl Future<Output = Result<(), Pending>> + Send {
        self.metrics().invalidated();
        self.store.invalidate(key)
    }

    /// Makes what is stored under a key stale; what may not be used stale goes.
    pub(crate) fn soft_invalidate(
        &self,
        key: &PrimaryKey,
    ) -> impl Future<Output = Result<(), Pending>> + Send {
        self.metrics().invalidated();
        self.store.soft_invalidate(key)
    }

    /// Invalidates everything that has a tag. What happens in this process happens when this is called.
    pub(crate) fn invalidate_tag(
        &self,
        tag: &Tag,
    ) -> impl Future<Output = Result<(), Pending>> + Send {
        self.metrics().invalidated_tag();
        self.store.invalidate_tag(tag)
    }

    /// Invalidates a key or a tag. What happens in this process happens when this is called.
    pub(crate) fn invalidate_subject(
        &self,
        subject: &Subject,
    ) -> impl Future<Output = Result<(), Pending>> + Send {
        let (key, tag) = match subject {
            Subject::Key(key) => (Some(self.invalidate(key)), None),
            Subject::Tag(tag) => (None, Some(self.invalidate_tag(tag))),
        };
        async move {
            match (key, tag) {
                (Some(key), _) => key.await,
                (None, Some(tag)) => tag.await,
                (None, None) => Ok(()),
            }
        }
    }

    /// Invalidates what was changed by a write with an unknown outcome: at once, and again when the
    /// origin can be taken to have made up its mind. Until then nothing is stored for it.
    pub(crate) fn invalidate_unknown(
        self: &Arc<Self>,
        subject: &Subject,
    ) -> impl Future<Output = Result<(), Pending>> + Send {
        if let Some(until) = self.store.sequence().unsettled().enter(subject) {
            self.settle_later(subject.clone(), until);
        }
        self.invalidate_subject(subject)
    }

    fn settle_later(self: &Arc<Self>, subject: Subject, mut until: Instant) {
        // Without a runtime its time still runs out; the store has taken nothing for it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep_until(until).await;
                // Before it leaves, so that no fill slips in between.
                let _ = match &subject {
                    Subject::Key(key) => shared.store.invalidate(key).await,
                    Subject::Tag(tag) => shared.store.invalidate_tag(tag).await,
                };
                match shared.store.sequence().unsettled().leave(&subject) {
                    Some(later) => until = later,
                    None => return,
                }
            }
        });
    }
}

impl<St> fmt::Debug for Shared<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("flights", &self.flights).finish_non_exhaustive()
    }
}
