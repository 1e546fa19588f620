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

/// Time after which another request has the right, whatever became of the one before: its runtime may have
/// ended, or may not be driven. A refresh has half of it for its head, and half for its body.
const LONGEST_RUN: Duration = Duration::from_secs(60);

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
    /// End of the right of the request that has it, whether it gives that back or not.
    running_until: Option<Instant>,
    failures: u32,
    /// `None` before the first failure.
    paused_until: Option<Instant>,
    /// Set if a response could not be stored, and one that may still answer has kept its place.
    refused_until: Option<Instant>,
}

impl VariantState {
    fn is_running(self, now: Instant) -> bool {
        self.running_until.is_some_and(|until| now < until)
    }

    fn is_paused(self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    fn may_begin(self, now: Instant) -> bool {
        !self.is_running(now) && !self.is_paused(now)
    }

    fn is_refused(self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }

    /// Returns whether it says nothing that holds now.
    fn is_over(self, now: Instant) -> bool {
        !self.is_running(now) && !self.is_paused(now) && !self.is_refused(now)
    }
}

impl Revalidations {
    /// Returns the right to revalidate a variant: one at a time, and none during a pause.
    pub(crate) fn begin(self: &Arc<Self>, variant: &Variant) -> Option<Revalidation> {
        let now = now();
        let mut known = lock(&self.known);
        let state = Self::state(&mut known, variant, now)?;
        if !state.may_begin(now) {
            return None;
        }
        let until = now + LONGEST_RUN;
        state.running_until = Some(until);
        Some(Revalidation { revalidations: Arc::clone(self), variant: variant.clone(), until })
    }

    /// Returns whether [`begin`](Self::begin) would give the right.
    pub(crate) fn may_begin(&self, variant: &Variant) -> bool {
        let (now, known) = (now(), lock(&self.known));
        match known.get(variant) {
            Some(state) => state.may_begin(now),
            None => known.len() < MAX_KNOWN || known.values().any(|state| state.is_over(now)),
        }
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
            *state = VariantState { running_until: state.running_until, ..VariantState::default() };
            if state.running_until.is_none() {
                known.remove(variant);
            }
        }
    }
}

/// Right to revalidate one variant, until it is dropped.
pub(crate) struct Revalidation {
    revalidations: Arc<Revalidations>,
    variant: Variant,
    until: Instant,
}

impl Drop for Revalidation {
    fn drop(&mut self) {
        let mut known = lock(&self.revalidations.known);
        let state = known.get_mut(&self.variant);
        // Another request has the right by now if this one took too long.
        if let Some(state) = state.filter(|state| state.running_until == Some(self.until)) {
            state.running_until = None;
            if state.failures == 0 && state.refused_until.is_none() {
                known.remove(&self.variant);
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::key::Slot;

    const SECOND: Duration = Duration::from_secs(1);

    fn variant(number: usize) -> Variant {
        Slot::example().variant.nominating(&number.to_be_bytes())
    }

    /// Fails once, and returns the seconds of the pause.
    async fn pause(revalidations: &Revalidations) -> u64 {
        let begun = now();
        revalidations.failed(&variant(0));
        while revalidations.is_paused(&variant(0)) {
            advance(SECOND).await;
        }
        (now() - begun).as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_until_the_origin_answers_or_has_not_failed_for_long() {
        let revalidations = Revalidations::default();
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(pause(&revalidations).await, expected);
        }
        advance(LONGEST_PAUSE).await;
        assert_eq!(pause(&revalidations).await, 30);
        advance(LONGEST_PAUSE + SECOND).await;
        assert_eq!(pause(&revalidations).await, 1);
        revalidations.failed(&variant(0));
        revalidations.answered(&variant(0));
        assert!(lock(&revalidations.known).is_empty());
        assert_eq!(pause(&revalidations).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_pause_and_not_the_revalidation() {
        let revalidations = Arc::new(Revalidations::default());
        let running = revalidations.begin(&variant(0));
        revalidations.failed(&variant(0));
        revalidations.answered(&variant(0));
        assert!(!revalidations.is_paused(&variant(0)));
        assert!(revalidations.begin(&variant(0)).is_none(), "one runs");
        drop(running);
        assert!(lock(&revalidations.known).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_variants_are_known_than_there_is_room_for() {
        let revalidations = Arc::new(Revalidations::default());
        let variants: Vec<_> = (0..=MAX_KNOWN).map(variant).collect();
        let (late, known) = variants.split_last().expect("there are some");
        let running = revalidations.begin(&known[0]);
        known[1..].iter().for_each(|variant| revalidations.failed(variant));
        revalidations.refused(&known[1], now() + LONGEST_PAUSE);
        assert!(revalidations.begin(late).is_none(), "there is no room");
        revalidations.failed(late);
        assert!(!revalidations.is_paused(late));
        revalidations.failed(&known[2]);
        advance(FIRST_PAUSE).await;
        assert!(revalidations.is_paused(&known[2]), "it has failed twice");
        assert!(revalidations.begin(late).is_some(), "what is over has made room");
        let left = lock(&revalidations.known).len();
        assert_eq!(left, 3, "the one that runs, the one that was refused, the one that is paused");
        drop(running);
    }
}
