//! Rules in force, and the state of each cached route.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use super::nesting::Nesting;
use crate::{
    background::EarlyRefresh,
    clock::{Instant, now},
    entry::{Entry, ShapeCache},
    error::{ConfigError, ConfigErrorKind},
    fence::Fence,
    metrics::{Metrics, outcome::Bypass, telemetry},
    route::{CacheRule, RouteTable, Variations},
};

/// Rules of a layer: those that it was built with, or those of a reload. They never change.
pub(crate) struct Rules {
    pub(crate) table: RouteTable,
    routes: Vec<Arc<CachedRoute>>,
}

/// Rules in force. Every request reads them: without a lock, and without a count that all processors share.
/// A layer that is never reloaded does not pay for reloads.
pub(crate) struct CurrentRules {
    built: Arc<Rules>,
    reloaded: OnceLock<ArcSwap<Rules>>,
}

/// Rules that were in force when they were read.
pub(crate) enum RulesGuard<'c> {
    Built(&'c Arc<Rules>),
    Reloaded(Guard<Arc<Rules>>),
}

/// Cached route: its rule and its state. A request keeps the one that it began with.
pub(crate) struct CachedRoute {
    pub(crate) rule: Arc<CacheRule>,
    /// Position of its bucket in the metrics.
    pub(crate) bucket: usize,
    pub(crate) early: EarlyRefresh,
    pub(crate) shapes: ShapeCache,
    pub(crate) nesting: Arc<Nesting>,
    /// Set where responses may say what of the query counts.
    pub(crate) variations: Option<Arc<Variations>>,
    since: Option<Since>,
    has_warned: AtomicBool,
}

/// Beginning of a route by a reload. The rules before may have let writes pass that invalidate what the
/// route answers with, so it uses nothing from before.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    pub(crate) at: Instant,
    pub(crate) fence: Fence,
    /// Time at which the writes from before are settled. It is set once the rules are in force: writes that
    /// end later invalidate by these rules, too.
    pub(crate) settled_at: Arc<OnceLock<Option<Instant>>>,
}

impl Rules {
    /// Creates the rules of a table, which replace those `before`. A route that means the same as one
    /// before goes on with its entries.
    ///
    /// # Errors
    ///
    /// Too many buckets over the life of a layer.
    pub(crate) fn new(
        table: RouteTable,
        metrics: &Metrics,
        before: Option<&Self>,
        reloaded: Option<&Since>,
    ) -> Result<Self, ConfigError> {
        let rules = table.read_rules();
        let names: Vec<_> = rules.iter().map(|rule| &*rule.bucket).collect();
        let Some(buckets) = metrics.positions(&names) else {
            let problem = "has too many names, those of earlier routes included: name fewer";
            return Err(ConfigError::new(ConfigErrorKind::Bucket, "bucket", problem));
        };
        let routes = rules.iter().zip(buckets).map(|(rule, bucket)| {
            let same = before.and_then(|before| before.same(rule));
            let since = same.map_or(reloaded, |route| route.since.as_ref()).cloned();
            Arc::new(CachedRoute::new(Arc::clone(rule), bucket, since, same))
        });
        let routes = routes.collect();
        Ok(Self { table, routes })
    }

    pub(crate) fn route(&self, position: usize) -> &Arc<CachedRoute> {
        &self.routes[position]
    }

    /// Returns the route that means the same as a rule.
    fn same(&self, rule: &CacheRule) -> Option<&CachedRoute> {
        self.routes.iter().map(|route| &**route).find(|route| route.rule.scope == rule.scope)
    }
}

impl Since {
    /// Returns whether an entry is from before. One that was read at a server has a number of its look-up
    /// here, so its time counts, too.
    fn is_after(&self, entry: &Entry) -> bool {
        entry.fence() < self.fence || entry.requested() < self.at
    }
}

impl CurrentRules {
    pub(crate) fn new(built: Rules) -> Self {
        Self { built: Arc::new(built), reloaded: OnceLock::new() }
    }

    #[inline]
    pub(crate) fn read(&self) -> RulesGuard<'_> {
        match self.reloaded.get() {
            None => RulesGuard::Built(&self.built),
            Some(reloaded) => RulesGuard::Reloaded(reloaded.load()),
        }
    }

    /// Replaces the rules. One thread at a time may do that.
    pub(crate) fn replace(&self, rules: Rules) {
        let rules = Arc::new(rules);
        self.reloaded.get_or_init(|| ArcSwap::new(Arc::clone(&rules))).store(rules);
    }
}

impl Deref for RulesGuard<'_> {
    type Target = Arc<Rules>;

    #[inline]
    fn deref(&self) -> &Arc<Rules> {
        match self {
            Self::Built(rules) => rules,
            Self::Reloaded(rules) => rules,
        }
    }
}

impl CachedRoute {
    fn new(
        rule: Arc<CacheRule>,
        bucket: usize,
        since: Option<Since>,
        before: Option<&Self>,
    ) -> Self {
        let has_warned = before.is_some_and(|route| route.has_warned.load(Ordering::Relaxed));
        let early = EarlyRefresh::new(rule.early_refresh);
        if let Some(route) = before {
            early.continue_from(&route.early);
        }
        let known = before.and_then(|route| route.variations.clone());
        let variations = rule.no_vary_search.then(|| known.unwrap_or_default());
        Self {
            rule,
            bucket,
            early,
            shapes: ShapeCache::default(),
            nesting: Arc::new(Nesting::new()),
            variations,
            since,
            has_warned: AtomicBool::new(has_warned),
        }
    }

    /// Returns a stored entry as the route may use it ([`CacheRule::adopt`]). `None` if it may not.
    pub(crate) fn adopt(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        match &self.since {
            Some(since) if since.is_after(&entry) => None,
            _ => self.rule.adopt(entry),
        }
    }

    /// Returns whether requests on the route may join a flight that began at a number.
    pub(crate) fn uses_flights_of(&self, fence: Fence) -> bool {
        self.since.as_ref().is_none_or(|since| since.fence <= fence)
    }

    /// Returns whether the origin may still commit a write from before the route began.
    pub(crate) fn is_unsettled(&self) -> bool {
        let settled_at = self.since.as_ref().map(|since| since.settled_at.get());
        settled_at.is_some_and(|at| at.is_none_or(|at| at.is_some_and(|at| now() < at)))
    }

    /// Warns, once, that requests bypass the cache here for a reason that another configuration removes.
    pub(crate) fn warn_of(&self, reason: Bypass) {
        let warn = match reason {
            Bypass::Credentials => telemetry::credentials_bypassed,
            Bypass::Content if self.rule.content.is_some() => telemetry::content_unread,
            _ => return,
        };
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            warn(&self.rule.route);
        }
    }
}
