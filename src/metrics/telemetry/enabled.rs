use crate::metrics::outcome::Outcome;

/// Warns, once for each route, that requests with credentials bypass the cache there.
pub(crate) fn credentials_bypassed(route: &str) {
    tracing::warn!(
        route,
        "requests with credentials bypass the cache here; choose a treatment with `.credentials(..)`"
    );
}

/// Warns of a write whose key could not be made, so that nothing was invalidated.
pub(crate) fn invalidation_failed(route: &str) {
    tracing::warn!(
        route,
        "no usable key for a write: responses from before it may be served until they expire"
    );
}

/// Warns, once for each kind of call, of a key or tag that no request makes.
pub(crate) fn invalidation_unmatched(call: &str) {
    tracing::warn!(
        call,
        "no route makes this key or tag, so nothing was invalidated; `key(..).with(..)` escapes its values as a route does"
    );
}

/// Warns, once for each bucket, that none of the layer's first thousand requests has reached it.
pub(crate) fn bucket_unreached(bucket: &str) {
    tracing::warn!(
        bucket,
        "no request has reached this bucket: its patterns may match nothing; inside a nested router, write them without its prefix"
    );
}

/// Warns once of a layer within itself.
pub(crate) fn layer_nested(route: &str) {
    tracing::warn!(
        route,
        "this cache is within itself, or within another with the same rules and store; the inner one forwards: remove one of them"
    );
}

/// Reports a runtime without a time driver: nothing there can wait for a limited time.
pub(crate) fn timers_missing() {
    tracing::error!(
        "the tokio runtime has no timers: requests share no forwards; call `enable_time` on its builder"
    );
}

/// Logs the end of a request on a cache route.
pub(crate) fn ended(bucket: &str, outcome: &Outcome) {
    tracing::debug!(bucket, ?outcome, "request ended");
}

/// Warns that the link to the store was lost: requests are forwarded until it is back.
#[cfg(feature = "redis")]
pub(crate) fn store_lost() {
    tracing::warn!("link to redis lost: the cache is bypassed until it is back");
}

/// Warns, once until there is a link again, why there is none.
#[cfg(feature = "redis")]
pub(crate) fn store_unreachable(problem: &str) {
    tracing::warn!(problem, "no link to redis: the cache is bypassed");
}

#[cfg(feature = "redis")]
pub(crate) fn store_linked() {
    tracing::info!("link to redis");
}

/// Warns once of a record at the server that cannot be read.
#[cfg(feature = "redis")]
pub(crate) fn record_unreadable() {
    tracing::warn!("a record in redis cannot be used and counts as a miss; see `StoreSnapshot`");
}

/// Warns once that the server does not track changes for this process.
#[cfg(feature = "redis")]
pub(crate) fn near_cache_off() {
    tracing::warn!("redis has no RESP3 or no CLIENT TRACKING for us: the near cache stays off");
}
