//! Stale responses that are revalidated in the background, one request for each variant, and the pauses
//! after the origin has failed.

use std::{collections::HashMap, hash::BuildHasherDefault, sync::Arc, time::Duration};

use crate::{
    clock::{Instant, now},
    key::{Prehashed, Variant},
    sync::{Mutex, lock},
};

/// Pause after the first failure of the origin; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Number of variants that are tracked. Beyond it nothing is revalidated in the background.
const MAX_KNOWN: usize = 65_536;

/// Revalidations of one layer, by variant.
#[derive(Default)]
pub(crate) struct Revalidations {
    known: Mutex<Known>,
}

type Known = HashMap<Variant, VariantState, BuildHasherDefault<Prehashed>>;

#[derive(Clone, Copy, Debug, Default)]
struct VariantState {
    is_running: bool,
    failures: u32,
    /// `None` before the first failure.
    paused_until: Option<Instant>,
    /// Set if a response could not be stored, and one that may still answer has kept its place.
    refused_until: Option<Instant>,
}

impl VariantState {
    fn is_paused(self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    fn is_refused(self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }

    /// Returns whether it says nothing that holds now.
    fn is_over(self, now: Instant) -> bool {
        !self.is_running && !self.is_paused(now) && !self.is_refused(now)
    }
}

impl Revalidations {
    /// Returns the right to revalidate a variant: one at a time, and none during a pause.
    pub(crate) fn begin(self: &Arc<Self>, variant: &Variant) -> Option<Revalidation> {
        let now = now();
        let mut known = lock(&self.known);
        let state = Self::state(&mut known, variant, now)?;
        if state.is_running || state.is_paused(now) {
            return None;
        }
        state.is_running = true;
        Some(Revalidation { revalidations: Arc::clone(self), variant: variant.clone() })
    }

    /// Returns whether the origin failed a moment ago and is not to be asked again yet.
    pub(crate) fn is_paused(&self, variant: &Variant) -> bool {
        lock(&self.known).get(variant).is_some_and(|state| state.is_paused(now()))
    }

    /// Notes that the origin has failed, and begins a pause.
    pub(crate) fn failed(&self, variant: &Variant) {
        let now = now();
        let mut known = lock(&self.known);
        let Some(state) = Self::state(&mut known, variant, now) else { return };
        let is_long_ago = |until| until + LONGEST_PAUSE < now;
        if state.paused_until.is_some_and(is_long_ago) {
            state.failures = 0;
        }
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(state.failures.min(8));
        state.failures += 1;
        state.paused_until = Some(now + pause.min(LONGEST_PAUSE));
    }

    /// Notes that a response could not be stored, which holds until then.
    pub(crate) fn refused(&self, variant: &Variant, until: Instant) {
        let mut known = lock(&self.known);
        if let Some(state) = Self::state(&mut known, variant, now()) {
            state.refused_until = Some(until);
        }
    }

    /// Returns whether a response could not be stored a moment ago.
    pub(crate) fn is_refused(&self, variant: &Variant) -> bool {
        lock(&self.known).get(variant).is_some_and(|state| state.is_refused(now()))
    }

    /// Returns the state of a variant; `None` if there is no room for it.
    fn state<'k>(
        known: &'k mut Known,
        variant: &Variant,
        now: Instant,
    ) -> Option<&'k mut VariantState> {
        if known.len() >= MAX_KNOWN && !known.contains_key(variant) {
            known.retain(|_, state| !state.is_over(now));
            if known.len() >= MAX_KNOWN {
                return None;
            }
        }
        Some(known.entry(variant.clone()).or_default())
    }

    /// Notes that the origin has answered, and ends the pause.
    pub(crate) fn answered(&self, variant: &Variant) {
        let mut known = lock(&self.known);
        if let Some(state) = known.get_mut(variant) {
            *state = VariantState { is_running: state.is_running, ..VariantState::default() };
            if !state.is_running {
                known.remove(variant);
            }
        }
    }
}

/// Right to revalidate one variant, until it is dropped.
pub(crate) struct Revalidation {
    revalidations: Arc<Revalidations>,
    variant: Variant,
}

impl Drop for Revalidation {
    fn drop(&mut self) {
        let mut known = lock(&self.revalidations.known);
        if let Some(state) = known.get_mut(&self.variant) {
            state.is_running = false;
            if state.failures == 0 && state.refused_until.is_none() {
                known.remove(&self.variant);
            }
        }
    }
}
