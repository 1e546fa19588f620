//! Changes by a write: what it invalidates, how, and for how long it stays in doubt.

use std::time::Duration;

use crate::{
    key::{Strength, Subject},
    policy::WriteEffect,
};

/// Time for which nothing is stored after a write that is not settled, unless its rule says otherwise.
const WINDOW: Duration = Duration::from_secs(10);

/// Times for which nothing is stored after a write that the origin may commit later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteWindows {
    /// After an unknown outcome.
    pub(crate) unknown: Duration,
    /// After 202.
    pub(crate) accepted: Duration,
}

/// Key or tag that a write changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteChange {
    pub(crate) subject: Subject,
    pub(crate) strength: Strength,
    pub(crate) windows: WriteWindows,
}

/// Everything that a write changes, each key and tag once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    each: Vec<WriteChange>,
    /// Longest windows of the rules that match; `None` if none does.
    of_rules: Option<WriteWindows>,
}

impl Default for WriteWindows {
    fn default() -> Self {
        Self { unknown: WINDOW, accepted: WINDOW }
    }
}

impl WriteWindows {
    /// Returns the time for which the origin may still commit a write with this effect.
    pub(crate) fn after(self, effect: WriteEffect) -> Duration {
        match effect {
            WriteEffect::Accepted => self.accepted,
            WriteEffect::Unknown => self.unknown,
            WriteEffect::Changed | WriteEffect::Unchanged => Duration::ZERO,
        }
    }

    fn longest(self, other: Self) -> Self {
        Self {
            unknown: self.unknown.max(other.unknown),
            accepted: self.accepted.max(other.accepted),
        }
    }
}

impl Changes {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &WriteChange> {
        self.each.iter()
    }

    /// Returns the windows of implied changes: the longest of the rules that match.
    pub(crate) fn windows(&self) -> WriteWindows {
        self.of_rules.unwrap_or_default()
    }

    /// Notes that a rule with these windows matches.
    pub(super) fn match_rule(&mut self, windows: WriteWindows) {
        let longest = self.of_rules.map_or(windows, |others| others.longest(windows));
        self.of_rules = Some(longest);
    }

    /// Adds all changes of others.
    pub(crate) fn merge(&mut self, others: Self) {
        others.of_rules.into_iter().for_each(|windows| self.match_rule(windows));
        others.each.into_iter().for_each(|change| self.add(change));
    }

    /// Adds a change. Of two for one subject, the stronger one and the longer windows hold.
    pub(crate) fn add(&mut self, change: WriteChange) {
        let Some(known) = self.each.iter_mut().find(|known| known.subject == change.subject) else {
            return self.each.push(change);
        };
        known.windows = known.windows.longest(change.windows);
        if change.strength == Strength::Hard {
            known.strength = Strength::Hard;
        }
    }

    /// Adds what the request or its response implies (RFC 9111 §4.4).
    pub(crate) fn imply(&mut self, subject: Subject) {
        let windows = self.windows();
        self.add(WriteChange { subject, strength: Strength::Hard, windows });
    }
}
