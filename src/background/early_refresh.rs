//! Early refresh of entries in use: XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic
//! Cache Stampede Prevention, VLDB 2015).
//!
//! Each hit tosses for itself, so processes that share a store need not agree on who refreshes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{clock::Instant, entry::Entry, key::seeded_hash};

/// Negative logarithm of the smallest chance: no toss reaches further.
const LONGEST_REACH: f64 = 44.4;

/// The latest fill counts for one part in this number of the mean.
const WEIGHT: u64 = 8;

/// Decides which hits on a route refresh the entry that answers them.
#[derive(Debug)]
pub(crate) struct EarlyRefresh {
    /// Eagerness; 0 switches it off.
    beta: f64,
    /// Moving mean of the time that fills take, in microseconds; 0 before the first.
    mean: AtomicU64,
}

impl EarlyRefresh {
    pub(crate) fn new(beta: f32) -> Self {
        Self { beta: beta.into(), mean: AtomicU64::default() }
    }

    /// Takes over the mean that another has measured.
    pub(crate) fn continue_from(&self, other: &Self) {
        self.mean.store(other.mean.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts a fill. An update that is lost to a concurrent one changes the mean little.
    pub(crate) fn note(&self, took: impl FnOnce() -> Duration) {
        if self.beta == 0.0 {
            return;
        }
        let took = u64::try_from(took().as_micros()).unwrap_or(u64::MAX).max(1);
        let mean = match self.mean.load(Ordering::Relaxed) {
            0 => took,
            mean => mean - mean / WEIGHT + took / WEIGHT,
        };
        self.mean.store(mean, Ordering::Relaxed);
    }

    /// Tosses for a hit on `entry`, which is fresh at `now`.
    pub(crate) fn is_due(&self, entry: &Entry, now: Instant) -> bool {
        let left = || entry.fresh_until() - now;
        self.beta > 0.0
            && left().as_secs_f64() < self.reach() * LONGEST_REACH
            && self.reaches(left(), seeded_hash((entry.slot().variant.seeded_hash(), now)))
    }

    fn reaches(&self, left: Duration, dice: u64) -> bool {
        // Never 0, whose logarithm is infinite.
        let chance = (dice as f64 + 1.0) / (u64::MAX as f64 + 1.0);
        left.as_secs_f64() <= self.reach() * -chance.ln()
    }

    fn reach(&self) -> f64 {
        self.beta * Duration::from_micros(self.mean.load(Ordering::Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_nearer_the_end_the_likelier_is_a_refresh() {
        let early = EarlyRefresh::new(0.5);
        early.note(|| 4 * SECOND);
        let due_of_1000 = |left: Duration| {
            let dice = (0..1000).map(|n| n * (u64::MAX / 1000) + u64::MAX / 2000);
            dice.filter(|&dice| early.reaches(left, dice)).count()
        };
        // e^(-left / (beta * mean))
        assert_eq!(due_of_1000(Duration::ZERO), 1000);
        assert_eq!(due_of_1000(2 * SECOND), 368);
        assert_eq!(due_of_1000(6 * SECOND), 50);
        assert_eq!(due_of_1000(100 * SECOND), 0);
    }

    #[test]
    fn no_toss_reaches_beyond_the_longest() {
        let early = EarlyRefresh::new(1.0);
        early.note(|| 2 * SECOND);
        let longest = Duration::from_secs_f64(2.0 * LONGEST_REACH);
        assert!(!early.reaches(longest, 0));
        assert!(early.reaches(longest - SECOND, 0));
    }

    #[test]
    fn one_slow_fill_does_not_make_the_mean() {
        let early = EarlyRefresh::new(1.0);
        early.note(|| SECOND);
        assert_eq!(early.mean.load(Ordering::Relaxed), 1_000_000);
        early.note(|| 9 * SECOND);
        assert_eq!(early.mean.load(Ordering::Relaxed), 2_000_000);
        for _ in 0..100 {
            early.note(|| SECOND);
        }
        assert!(early.mean.load(Ordering::Relaxed) < 1_010_000);
    }
}
