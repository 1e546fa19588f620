//! Controller of the calls to an origin: what is made, and what is spared as its budget drains.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::budget::{Bucket, Level, OriginBudget};
use crate::{
    clock::{Instant, now},
    policy::StatedLimits,
    sync::{Mutex, lock},
};

/// Reason for a call to the origin, the most dispensable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// The response in the store is fresh.
    EarlyRefresh,
    /// A stale response has answered.
    Revalidation,
    /// A stale response could answer.
    Replaceable,
    /// Nothing can answer.
    Miss,
}

impl Priority {
    const ALL: [Self; 4] = [Self::EarlyRefresh, Self::Revalidation, Self::Replaceable, Self::Miss];

    /// Returns the share of the budget that must be left for the call.
    fn threshold(self) -> f64 {
        match self {
            Self::EarlyRefresh => 0.5,
            Self::Revalidation => 0.25,
            Self::Replaceable => 0.1,
            Self::Miss => 0.0,
        }
    }
}

/// Controller of the calls of one layer to its origin. Without a budget every call is admitted.
#[derive(Debug)]
pub(crate) struct OriginController {
    limited: Option<Limited>,
}

struct Limited {
    name: String,
    bucket: Bucket,
    state: Mutex<State>,
    calls: AtomicU64,
    spared: [AtomicU64; Priority::ALL.len()],
}

#[derive(Clone, Copy)]
struct State {
    level: Level,
    /// Moment until which the origin wants no further request.
    paused_until: Instant,
}

impl OriginController {
    /// Returns a controller that admits every call.
    pub(crate) fn unlimited() -> Self {
        Self { limited: None }
    }

    /// Returns the controller of a budget, of which nothing is spent yet.
    pub(crate) fn new(budget: &OriginBudget, bucket: Bucket) -> Self {
        let state = State { level: Level::full(now()), paused_until: now() };
        Self {
            limited: Some(Limited {
                name: budget.name.clone(),
                bucket,
                state: Mutex::new(state),
                calls: AtomicU64::new(0),
                spared: Default::default(),
            }),
        }
    }

    /// Returns whether a call may be made, and counts one that may not.
    pub(crate) fn admits(&self, priority: Priority) -> bool {
        let Some(limited) = &self.limited else { return true };
        let now = now();
        let State { level, paused_until } = *lock(&limited.state);
        let is_paused = now < paused_until && priority < Priority::Miss;
        let has_enough = match priority {
            Priority::Miss => level.wait(limited.bucket, now).is_zero(),
            _ => level.share(limited.bucket, now) > priority.threshold(),
        };
        let is_admitted = has_enough && !is_paused;
        if !is_admitted {
            limited.spared[priority as usize].fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }

    /// Counts calls that are made, here or elsewhere.
    pub(crate) fn spend(&self, calls: u32) {
        if let Some(limited) = &self.limited {
            limited.calls.fetch_add(u64::from(calls), Ordering::Relaxed);
            lock(&limited.state).level.spend(limited.bucket, calls, now());
        }
    }

    /// Notes the limits that a response states.
    pub(crate) fn hear(&self, stated: StatedLimits) {
        let Some(limited) = &self.limited else { return };
        let now = now();
        let mut state = lock(&limited.state);
        if let Some(remaining) = stated.remaining {
            state.level.lower(limited.bucket, remaining, now);
        }
        if let Some(pause) = stated.pause {
            state.paused_until = state.paused_until.max(now + pause);
        }
    }

    /// Returns the time until a call is available.
    pub(crate) fn wait(&self) -> Duration {
        let Some(limited) = &self.limited else { return Duration::ZERO };
        let now = now();
        let state = *lock(&limited.state);
        let pause = state.paused_until.saturating_duration_since(now);
        state.level.wait(limited.bucket, now).max(pause)
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("name", &self.name).finish_non_exhaustive()
    }
}
