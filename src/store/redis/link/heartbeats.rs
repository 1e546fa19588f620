//! Heartbeats of all processes that use a server: how late each may see that another epoch has begun.
//!
//! Each process enters its own in a register at the server, before it reads the epoch. The register may be
//! lost and is then filled again; meanwhile a process counts on what it has seen there before.

use std::{sync::OnceLock, time::Duration};

use super::command::{Register, millis};
use crate::{
    clock::Instant,
    store::redis::settings::{LEAST_UNTIL_SEEN, LONGEST_UNTIL_SEEN},
    sync::{AtomicU64, Ordering},
};

/// Heartbeats that this process has seen in the register.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    /// Milliseconds, and this process's own at least.
    longest: AtomicU64,
    /// Time from which on every process has been seen.
    complete_at: OnceLock<Instant>,
}

impl Heartbeats {
    pub(super) fn new(own: Duration) -> Self {
        let longest = AtomicU64::new(millis(own.max(LEAST_UNTIL_SEEN)));
        Self { longest, complete_at: OnceLock::new() }
    }

    /// Notes the longest of the register. The server has been up for a time.
    pub(super) fn note(&self, longest: u64, uptime: Duration, now: Instant) {
        self.longest.fetch_max(longest, Ordering::Relaxed);
        // Every process has come to a server that is new after it was started.
        let wait = if uptime < LONGEST_UNTIL_SEEN { Duration::ZERO } else { LONGEST_UNTIL_SEEN };
        self.complete_at.get_or_init(|| now + wait);
    }

    /// Returns how long after an epoch began every process has seen it, or knows that its link is not
    /// proven.
    pub(super) fn until_seen(&self, register: Register, now: Instant) -> Duration {
        let Register { longest, age } = register;
        let is_known = self.complete_at.get().is_some_and(|complete| *complete <= now);
        let is_old = age >= millis(LONGEST_UNTIL_SEEN);
        if longest == 0 || !(is_known || is_old) {
            return LONGEST_UNTIL_SEEN;
        }
        let longest = self.longest.fetch_max(longest, Ordering::Relaxed).max(longest);
        Duration::from_millis(longest).min(LONGEST_UNTIL_SEEN)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn register(longest: u64, age: u64) -> Register {
        Register { longest, age }
    }

    #[test]
    fn a_process_waits_for_the_longest_heartbeat_that_it_has_ever_seen() {
        let (heartbeats, began) = (Heartbeats::new(SECOND * 3 / 2), now());
        let until_seen = |longest, after| {
            heartbeats.until_seen(register(longest, 60_000), began + after).as_millis()
        };
        assert_eq!(until_seen(300, SECOND), 1500, "its own");
        assert_eq!(until_seen(2000, SECOND), 2000);
        heartbeats.note(7000, 60 * SECOND, began);
        assert_eq!(until_seen(300, 60 * SECOND), 7000);
        assert_eq!(until_seen(0, 60 * SECOND), 10_000, "the register is missing");
        assert_eq!(until_seen(u64::MAX, 60 * SECOND), 10_000, "no process has a longer one");
        let prompt = Heartbeats::new(SECOND / 10);
        assert_eq!(prompt.until_seen(register(100, 60_000), began), SECOND, "as all do");
    }

    /// Another process may have been in it, and not be in it again yet.
    #[test]
    fn a_register_is_relied_upon_once_every_process_must_be_in_it_or_was_seen() {
        let (heartbeats, began) = (Heartbeats::new(SECOND), now());
        let is_known = |age, after| {
            heartbeats.until_seen(register(1000, age), began + after) < LONGEST_UNTIL_SEEN
        };
        assert!(!is_known(0, SECOND) && !is_known(9999, SECOND) && is_known(10_000, SECOND));
        heartbeats.note(1000, 60 * SECOND, began);
        assert!(!is_known(0, 9 * SECOND) && is_known(0, 10 * SECOND));
        // Every process has come to this server after it was started.
        let heartbeats = Heartbeats::new(SECOND);
        heartbeats.note(1000, 9 * SECOND, began);
        assert_eq!(heartbeats.until_seen(register(1000, 0), began), SECOND);
    }
}
