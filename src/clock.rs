//! The one place that reads the time.

pub(crate) use tokio::time::Instant;

/// Returns the current instant: tokio's clock, so that paused time in tests moves the cache too.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
