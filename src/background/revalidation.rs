//! Which stale responses are being asked about in the background, and which are let be for a while
//! because the origin has just failed.

use std::{collections::HashMap, fmt, hash::BuildHasherDefault, sync::Arc, time::Duration};

use crate::{
    clock::{Instant, now},
    key::{Prehashed, Variant},
    sync::{Mutex, lock},
};

/// How long the origin is let be after its first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Beyond this many, what is stale is not refreshed in the background.
const MAX_KNOWN: usize = 65_536;

/// The refreshes of one layer, by variant.
#[derive(Default)]
pub(crate) struct Refreshes {
    known: Mutex<HashMap<Variant, State, BuildHasherDefault<Prehashed>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_running: bool,
    failures: u32,
    /// `None` before the first failure.
    paused_until: Option<Instant>,
}

impl State {
    fn is_paused(self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }
}

impl Refreshes {
    /// Returns the right to refresh a variant: one at a time, and none while the origin is let be.
    pub(crate) fn begin(self: &Arc<Self>, variant: &Variant) -> Option<Refresh> {
        let now = now();
        let mut known = lock(&self.known);
        if known.len() >= MAX_KNOWN {
            known.retain(|_, state| state.is_running || state.is_paused(now));
        }
        let has_room = known.len() < MAX_KNOWN || known.contains_key(variant);
        if !has_room {
            return None;
        }
        let state = known.entry(variant.clone()).or_default();
        if state.is_running || state.is_paused(now) {
            return None;
        }
        state.is_running = true;
        Some(Refresh { refreshes: Arc::clone(self), variant: variant.clone() })
    }

    /// Whether the origin has failed a moment ago and is let be.
    pub(crate) fn is_paused(&self, variant: &Variant) -> bool {
        lock(&self.known).get(variant).is_some_and(|state| state.is_paused(now()))
    }

    /// Notes that the origin has failed.
    pub(crate) fn failed(&self, variant: &Variant) {
        let mut known = lock(&self.known);
        if known.len() >= MAX_KNOWN && !known.contains_key(variant) {
            return;
        }
        let state = known.entry(variant.clone()).or_default();
        let is_long_ago = |until| until + LONGEST_PAUSE < now();
        if state.paused_until.is_some_and(is_long_ago) {
            state.failures = 0;
        }
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(state.failures.min(8));
        state.failures += 1;
        state.paused_until = Some(now() + pause.min(LONGEST_PAUSE));
    }

    /// Notes that the origin has answered.
    pub(crate) fn answered(&self, variant: &Variant) {
        let mut known = lock(&self.known);
        if let Some(state) = known.get_mut(variant) {
            *state = State { is_running: state.is_running, ..State::default() };
            if !state.is_running {
                known.remove(variant);
            }
        }
    }
}

impl fmt::Debug for Refreshes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refreshes").finish_non_exhaustive()
    }
}

/// The right to refresh one variant, until it is dropped.
#[derive(Debug)]
pub(crate) struct Refresh {
    refreshes: Arc<Refreshes>,
    variant: Variant,
}

impl Drop for Refresh {
    fn drop(&mut self) {
        let mut known = lock(&self.refreshes.known);
        if let Some(state) = known.get_mut(&self.variant) {
            state.is_running = false;
            if state.failures == 0 {
                known.remove(&self.variant);
            }
        }
    }
}
