//! The one place that reads the time.

use std::time::SystemTime;

pub(crate) use tokio::time::Instant;

/// Returns the current instant: tokio's clock, so that paused time in tests moves the cache too.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the current time of day, moved along with the instant where tests move that.
#[allow(clippy::disallowed_methods)]
pub(crate) fn time_of_day() -> SystemTime {
    let (moved, actual) = (now().into_std(), std::time::Instant::now());
    let time = SystemTime::now();
    let shifted = match moved.checked_duration_since(actual) {
        Some(ahead) => time.checked_add(ahead),
        None => time.checked_sub(actual.saturating_duration_since(moved)),
    };
    shifted.unwrap_or(time)
}
