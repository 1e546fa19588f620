//! Pauses that the origin has asked for.

use std::{collections::HashMap, hash::BuildHasherDefault};

use crate::{
    clock::{Instant, now},
    key::Prehashed,
    sync::{Mutex, lock},
};

/// Number of callers and resources that may be paused at a time. Beyond it none is added.
const MAX_PAUSED: usize = 65_536;

/// Requests that a pause is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    /// All requests of the layer.
    Service,
    /// Those of one caller, or of one resource, by a seeded hash.
    Part(u64),
}

/// Pauses of one layer.
#[derive(Default)]
pub(crate) struct Pauses(Mutex<State>);

#[derive(Default)]
struct State {
    /// End of the pause for all; `None` before the first.
    service: Option<Instant>,
    parts: HashMap<u64, Instant, BuildHasherDefault<Prehashed>>,
}

impl Pauses {
    /// Pauses requests until this time, or until an earlier pause ends if that is later.
    pub(crate) fn begin(&self, paused: Paused, until: Instant) {
        let mut state = lock(&self.0);
        let end = match paused {
            Paused::Service => state.service.get_or_insert(until),
            Paused::Part(hash) => {
                if state.parts.len() >= MAX_PAUSED {
                    let now = now();
                    state.parts.retain(|_, end| now < *end);
                }
                if state.parts.len() >= MAX_PAUSED {
                    return;
                }
                state.parts.entry(hash).or_insert(until)
            }
        };
        *end = until.max(*end);
    }

    /// Returns whether a request is paused. `hashes` are those of its caller and its resource; they are
    /// computed only if there are pauses.
    pub(crate) fn contain(&self, hashes: impl FnOnce() -> [u64; 2]) -> bool {
        let state = lock(&self.0);
        if state.service.is_none() && state.parts.is_empty() {
            return false;
        }
        let now = now();
        state.service.is_some_and(|end| now < end)
            || hashes().iter().any(|hash| state.parts.get(hash).is_some_and(|end| now < *end))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_for_its_requests_and_ends_at_the_latest_of_its_ends() {
        let pauses = Pauses::default();
        assert!(!pauses.contain(|| unreachable!("nothing is paused")));
        pauses.begin(Paused::Part(1), now() + 2 * SECOND);
        pauses.begin(Paused::Part(1), now() + SECOND);
        assert!(pauses.contain(|| [1, 2]) && pauses.contain(|| [2, 1]));
        assert!(!pauses.contain(|| [2, 3]));
        pauses.begin(Paused::Service, now() + SECOND);
        assert!(pauses.contain(|| [2, 3]));
        advance(SECOND).await;
        assert!(!pauses.contain(|| [2, 3]));
        assert!(pauses.contain(|| [1, 2]));
        advance(SECOND).await;
        assert!(!pauses.contain(|| [1, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_paused_than_there_is_room_for() {
        let pauses = Pauses::default();
        let begin = |hash| pauses.begin(Paused::Part(hash), now() + SECOND);
        (0..=MAX_PAUSED as u64).for_each(begin);
        assert!(!pauses.contain(|| [MAX_PAUSED as u64; 2]), "there is no room");
        advance(SECOND).await;
        begin(MAX_PAUSED as u64);
        assert!(pauses.contain(|| [MAX_PAUSED as u64; 2]), "what is over has made room");
        assert_eq!(lock(&pauses.0).parts.len(), 1);
    }
}
