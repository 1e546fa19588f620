use tracing::{
    Instrument, Level, Span, debug, dispatcher::get_default, enabled, info,
    instrument::Instrumented, level_filters::LevelFilter, warn,
};

use crate::{
    key::Strength,
    metrics::{cache_outcome::CacheOutcome, outcome::Outcome, switch::Switch},
};

/// Target of every event.
const TARGET: &str = "tower_support_cache";

/// Logs the end of a request, and records it on the current span. A write has no bucket.
#[inline]
pub(crate) fn ended(bucket: Option<&str>, outcome: &Outcome) {
    // Without a subscriber there is no span, either.
    if LevelFilter::current() == LevelFilter::OFF {
        return;
    }
    if enabled!(target: TARGET, Level::DEBUG) {
        log(bucket, outcome);
    }
    // Asked before the span is cloned, which costs more than the rest of a hit's report.
    let is_awaited = get_default(|dispatch| {
        let current = dispatch.current_span();
        current.metadata().is_some_and(|span| span.fields().field("cache.outcome").is_some())
    });
    if is_awaited {
        record(bucket, CacheOutcome::from(outcome));
    }
}

#[cold]
fn log(bucket: Option<&str>, outcome: &Outcome) {
    let status = outcome.forwarded_status();
    let outcome = CacheOutcome::from(outcome);
    let (reason, outcome) = (outcome.reason(), outcome.as_str());
    debug!(target: TARGET, bucket, outcome, reason, status, "request ended");
}

fn record(bucket: Option<&str>, outcome: CacheOutcome) {
    // The request of a refresh has ended before.
    if matches!(outcome, CacheOutcome::Refresh(_)) {
        return;
    }
    let span = Span::current();
    let fields = [
        ("cache.outcome", Some(outcome.as_str())),
        ("cache.reason", outcome.reason()),
        ("cache.bucket", bucket),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            span.record(field, value);
        }
    }
}

/// Keeps a future in the span of the code that runs now, whoever polls it later.
pub(crate) fn in_current_span<F>(future: F) -> Instrumented<F> {
    let span = match LevelFilter::current() {
        LevelFilter::OFF => Span::none(),
        _ => Span::current(),
    };
    future.instrument(span)
}

/// Logs an invalidation of this kind, with the buckets and templates of the routes that make its key or tag.
pub(crate) fn invalidated<'t, M>(kind: &str, strength: Strength, makers: impl FnOnce() -> M)
where
    M: Iterator<Item = (&'t str, &'t str)>,
{
    if !enabled!(target: TARGET, Level::INFO) {
        return;
    }
    let (mut buckets, mut templates): (Vec<_>, Vec<_>) = makers().unzip();
    buckets.dedup();
    templates.dedup();
    let (bucket, template) = (buckets.join(", "), templates.join(", "));
    let is_soft = strength == Strength::Soft;
    info!(target: TARGET, kind, bucket, template, is_soft, "invalidated");
}

/// Logs that other rules are in force.
pub(crate) fn reloaded() {
    info!(target: TARGET, "rules reloaded");
}

/// Logs that an operator has switched a bucket.
pub(crate) fn switched(bucket: &str, switch: Switch) {
    info!(target: TARGET, bucket, switch = switch.as_str(), "bucket switched");
}

/// Warns, once for each route, that requests with credentials bypass the cache there.
pub(crate) fn credentials_bypassed(route: &str) {
    warn!(
        target: TARGET,
        route,
        "requests with credentials bypass the cache here; choose a treatment with `.credentials(..)`"
    );
}

/// Warns, once, that requests cannot be repeated for audits.
pub(crate) fn audits_impossible() {
    warn!(
        target: TARGET,
        "nothing is audited: give the layer's builder `.empty_body(..)` for the type of request bodies"
    );
}

/// Warns, once for each route, that its requests bypass the cache because their content is not read.
pub(crate) fn content_unread(route: &str) {
    warn!(
        target: TARGET,
        route,
        "requests bypass the cache here, for nothing reads their content; wrap the service by `layer.reading_content()`"
    );
}

/// Warns of a write whose key could not be made, so that nothing was invalidated.
pub(crate) fn invalidation_failed(route: &str) {
    warn!(
        target: TARGET,
        route,
        "no usable key for a write: responses from before it may be served until they expire"
    );
}

/// Warns, once for each kind of call, of a key or tag that no request makes.
pub(crate) fn invalidation_unmatched(call: &str) {
    warn!(
        target: TARGET,
        call,
        "no route makes this key or tag, so nothing was invalidated; `key(..).with(..)` escapes its values as a route does"
    );
}

/// Warns, once for each bucket, that none of the layer's first thousand requests has reached it.
pub(crate) fn bucket_unreached(bucket: &str) {
    warn!(
        target: TARGET,
        bucket,
        "no request has reached this bucket: its patterns may match nothing; inside a nested router, write them without its prefix"
    );
}

/// Warns once of a layer within itself.
pub(crate) fn layer_nested(route: &str) {
    warn!(
        target: TARGET,
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

/// Warns that an invalidation was not passed on.
pub(crate) fn hook_panicked() {
    warn!(target: TARGET, "the invalidation hook panicked: a cache in front may keep what was invalidated");
}

/// Warns that the link to the store was lost: requests are forwarded until it is back.
#[cfg(feature = "redis")]
pub(crate) fn store_lost() {
    warn!(target: TARGET, "link to redis lost: the cache is bypassed until it is back");
}

/// Warns, once until there is a link again, why there is none.
#[cfg(feature = "redis")]
pub(crate) fn store_unreachable(problem: &str) {
    warn!(target: TARGET, problem, "no link to redis: the cache is bypassed");
}

#[cfg(feature = "redis")]
pub(crate) fn store_linked() {
    info!(target: TARGET, "link to redis");
}

/// Warns once of a record at the server that cannot be read.
#[cfg(feature = "redis")]
pub(crate) fn record_unreadable() {
    warn!(target: TARGET, "a record in redis cannot be used and counts as a miss; see `StoreSnapshot`");
}

/// Warns, once for each set, of capabilities that the server lacks, and what each costs.
#[cfg(feature = "redis")]
pub(crate) fn capabilities_missing(missing: &str) {
    warn!(target: TARGET, missing, "redis lacks capabilities");
}

/// Warns once of another program whose keys have no namespace either.
#[cfg(feature = "redis")]
pub(crate) fn namespace_shared(program: &str) {
    warn!(target: TARGET, program, "another program uses this redis without a namespace: give each its own");
}
