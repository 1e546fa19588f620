//! Atomic deadline.

use crate::{
    clock::{Instant, now},
    sync::{AtomicU64, Ordering},
};

/// Atomic deadline: one writer, many readers.
#[derive(Debug)]
pub(crate) struct Deadline {
    anchor: Instant,
    /// Microseconds since the anchor; zero while there is none.
    micros: AtomicU64,
}

impl Deadline {
    pub(crate) fn none() -> Self {
        Self { anchor: now(), micros: AtomicU64::new(0) }
    }

    pub(crate) fn set(&self, instant: Instant) {
        self.micros.store(self.micros(instant), Ordering::SeqCst);
    }

    /// Removes the deadline, and returns whether there was one.
    pub(crate) fn clear(&self) -> bool {
        self.micros.swap(0, Ordering::SeqCst) != 0
    }

    pub(crate) fn is_set(&self) -> bool {
        self.micros.load(Ordering::SeqCst) != 0
    }

    /// Clears it, and returns another in its place with the time that it had.
    #[cfg(feature = "redis-cluster")]
    pub(crate) fn replace(&self) -> Self {
        Self { anchor: self.anchor, micros: AtomicU64::new(self.micros.swap(0, Ordering::SeqCst)) }
    }

    /// Returns whether there is a deadline that has not passed.
    pub(crate) fn is_ahead(&self) -> bool {
        self.is_ahead_at(now())
    }

    /// Does the same for a caller that has just read the time.
    pub(crate) fn is_ahead_at(&self, now: Instant) -> bool {
        let micros = self.micros.load(Ordering::SeqCst);
        micros != 0 && self.micros(now) <= micros
    }

    fn micros(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.anchor);
        since.as_secs().saturating_mul(1_000_000) + u64::from(since.subsec_micros())
    }
}

#[cfg(all(test, not(shuttle), feature = "redis-cluster"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_replaced_is_over_and_the_other_has_its_time() {
        let (deadline, minute) = (Deadline::none(), Duration::from_secs(60));
        deadline.set(now() + minute);
        let other = deadline.replace();
        assert!(!deadline.is_ahead() && other.is_ahead());
        assert!(!other.is_ahead_at(now() + 2 * minute));
    }
}
