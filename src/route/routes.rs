//! Routes of a layer, as users give them.

use super::{
    admission::Identity, cache_route::CacheRoute, invalidate_route::InvalidateRoute,
    table::RouteTable,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    origin::Exhausted,
};

/// Routes that are cached, and rules that say what writes invalidate: for
/// [`SupportCacheLayerBuilder::routes`](crate::SupportCacheLayerBuilder::routes) and
/// [`SupportCacheHandle::reload`](crate::SupportCacheHandle::reload).
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, InvalidateRoute, MemoryStore, Routes, SupportCacheLayer};
///
/// fn routes(ttl: Duration) -> Routes {
///     Routes::new()
///         .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(ttl))
///         .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
/// }
///
/// let store = MemoryStore::new();
/// let layer = SupportCacheLayer::builder(store).routes(routes(Duration::from_secs(60))).build()?;
/// layer.handle().reload(routes(Duration::from_secs(10)))?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "routes do nothing until they are given to a builder or a handle"]
pub struct Routes {
    cached: Vec<CacheRoute>,
    invalidating: Vec<InvalidateRoute>,
}

impl Routes {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route whose responses are cached.
    pub fn cache(mut self, route: CacheRoute) -> Self {
        self.cached.push(route);
        self
    }

    /// Adds a rule that says what a write invalidates.
    ///
    /// A successful write to the path of a cached route invalidates that route's key without a
    /// rule (RFC 9111 §4.4).
    pub fn invalidate(mut self, route: InvalidateRoute) -> Self {
        self.invalidating.push(route);
        self
    }

    /// Adds the routes of another set.
    pub(crate) fn extend(&mut self, other: Self) {
        self.cached.extend(other.cached);
        self.invalidating.extend(other.invalidating);
    }

    /// Checks the routes for a layer.
    pub(crate) fn build(&self, identity: &Identity) -> Result<RouteTable, ConfigError> {
        let mut cached = Vec::with_capacity(self.cached.len());
        for route in &self.cached {
            let mut rule = route.clone().build(&identity.credentials)?;
            rule.tag_field = identity.tag_field.clone();
            rule.set_scope(identity.scope.clone());
            cached.push(rule);
        }
        let invalidating = self.invalidating.iter().map(|route| route.clone().build());
        let invalidating = invalidating.collect::<Result<_, _>>()?;
        let digesting = cached.iter().find(|rule| rule.digests_by_the_caller_key());
        if let Some(rule) = digesting.filter(|_| identity.lacks_caller_key) {
            let problem = "is missing: give `.caller_key(CallerKey::new(..))` to the layer's builder, \
                           the same in all processes that share the store";
            let error = ConfigError::new(ConfigErrorKind::CallerKey, "caller_key", problem);
            return Err(error.at(&rule.route));
        }
        let refusing = cached.iter().find(|rule| rule.when_exhausted == Exhausted::Refuse);
        if let Some(rule) = refusing.filter(|_| !identity.has_budget) {
            let problem =
                "needs a budget: give `.origin_budget(..)` to the layer's builder, or remove it";
            let error = ConfigError::new(ConfigErrorKind::Limit, "when_exhausted", problem);
            return Err(error.at(&rule.route));
        }
        RouteTable::build(cached, invalidating)
    }
}
