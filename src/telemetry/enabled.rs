use crate::outcome::Outcome;

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

/// One event for each request on a cache route.
pub(crate) fn ended(bucket: &str, outcome: &Outcome) {
    tracing::debug!(bucket, ?outcome, "request ended");
}
