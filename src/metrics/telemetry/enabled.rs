use crate::metrics::outcome::Outcome;

/// Tells once for each route that requests with credentials bypass the cache there.
pub(crate) fn credentials_bypassed(route: &str) {
    tracing::warn!(
        route,
        "requests with credentials bypass the cache here; say whom a response is for with `.credentials(..)`"
    );
}

/// Tells that a write went through whose key could not be made, so that nothing was invalidated.
pub(crate) fn invalidation_failed(route: &str) {
    tracing::warn!(
        route,
        "no usable key for a write: what it changed may be served until it expires"
    );
}

/// Tells once for each kind of call that its key or tag is one that no request makes.
pub(crate) fn invalidation_unmatched(call: &str) {
    tracing::warn!(
        call,
        "no route makes this key or tag, so nothing was invalidated; `key(..).with(..)` escapes its values as a route does"
    );
}

/// One event for each request on a cache route.
pub(crate) fn ended(bucket: &str, outcome: &Outcome) {
    tracing::debug!(bucket, ?outcome, "request ended");
}

/// Tells that the link to the store was lost: requests are forwarded until it is back.
#[cfg(feature = "redis")]
pub(crate) fn store_lost() {
    tracing::warn!("link to redis lost: the cache is bypassed until it is back");
}

/// Tells, once until there is a link again, why there is none.
#[cfg(feature = "redis")]
pub(crate) fn store_unreachable(problem: &str) {
    tracing::warn!(problem, "no link to redis: the cache is bypassed");
}

#[cfg(feature = "redis")]
pub(crate) fn store_linked() {
    tracing::info!("link to redis");
}

/// Tells once that something at the server cannot be read.
#[cfg(feature = "redis")]
pub(crate) fn record_unreadable() {
    tracing::warn!("a record in redis cannot be used and counts as a miss; see `StoreSnapshot`");
}

/// Tells once that the server does not say what changes.
#[cfg(feature = "redis")]
pub(crate) fn near_cache_off() {
    tracing::warn!("redis has no RESP3 or no CLIENT TRACKING for us: the near cache stays off");
}
