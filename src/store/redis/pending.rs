//! What the server still has to be told: invalidations that it has not acknowledged, and rights to
//! fill that somebody gave up.
//!
//! An invalidation is entered when it is called, before anything is awaited, so that a future that
//! is dropped loses nothing. While it is on its way nothing else happens. Once it failed or was
//! dropped it is *due*: the supervisor sends it again until it is acknowledged, and meanwhile its key
//! is bypassed in this process.
//!
//! A new incarnation of the server settles nothing by itself: another process may have reached it
//! first, and stored there what this invalidation is to remove.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep_until};

use super::Digest;
use crate::{
    clock::{Instant, now},
    key::{PrimaryKey, Slot, Tag, Token},
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// More keys than this, and everything is due until one invalidation of everything is acknowledged.
const MAX_KEYS: usize = 65_536;

/// More rights than this are left to run out by themselves.
const MAX_RELEASES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    /// The number of due invalidations, so that reads take no lock while there are none.
    due: AtomicUsize,
    /// Told whenever something is acknowledged.
    acknowledged: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last call.
    last: u64,
    calls: HashMap<Target, Call>,
    due: usize,
    releases: Vec<Release>,
    /// When the last invalidation of everything was done at the server.
    all_done: Option<Instant>,
}

/// The last call of an invalidation that is not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u64,
    is_due: bool,
}

/// What an invalidation is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    All,
    Key(PrimaryKey),
    /// A soft one: acknowledged, it settles none that is not; failed, it is done in full.
    Softly(PrimaryKey),
    Tag(Tag),
}

/// A right to fill that is given back.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) key: PrimaryKey,
    pub(super) vk: Digest,
    pub(super) token: Token,
}

/// One call of an invalidation. Dropped before it is acknowledged, it is due.
#[derive(Debug)]
pub(super) struct Ticket {
    pending: Arc<Pending>,
    wake: Arc<Notify>,
    target: Target,
    number: u64,
    is_acknowledged: bool,
}

impl Pending {
    /// Enters a call; `wake` wakes who is to send it again should it fail.
    pub(super) fn enter(self: &Arc<Self>, target: Target, wake: &Arc<Notify>) -> Ticket {
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        // What was due stays so: this call is not acknowledged either.
        let is_due = state.calls.get(&target).is_some_and(|call| call.is_due);
        state.calls.insert(target.clone(), Call { number, is_due });
        drop(state);
        let (pending, wake) = (Arc::clone(self), Arc::clone(wake));
        Ticket { pending, wake, target, number, is_acknowledged: false }
    }

    /// Whether a slot is bypassed, because an invalidation of its key or of one of its tags is due.
    pub(super) fn is_quarantined(&self, slot: &Slot) -> bool {
        if self.due.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let calls = &lock(&self.state).calls;
        let is_due = |target: &Target| calls.get(target).is_some_and(|call| call.is_due);
        is_due(&Target::All)
            || is_due(&Target::Key(slot.key.clone()))
            || is_due(&Target::Softly(slot.key.clone()))
            || slot.tags.iter().any(|tag| is_due(&Target::Tag(tag.clone())))
    }

    /// Returns what is due now, at most `limit` of it: to be sent, and then acknowledged by number.
    pub(super) fn due(&self, limit: usize) -> Vec<(Target, u64)> {
        if self.due.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let state = lock(&self.state);
        let due = state.calls.iter().filter(|(_, call)| call.is_due);
        due.take(limit).map(|(target, call)| (target.clone(), call.number)).collect()
    }

    /// Takes note that the server has done it, which settles every call up to this one.
    pub(super) fn acknowledge(&self, target: &Target, number: u64) {
        let mut state = lock(&self.state);
        if *target == Target::All {
            state.all_done = Some(now());
        }
        if state.calls.get(target).is_none_or(|call| call.number > number) {
            return;
        }
        let settled = state.calls.remove(target);
        state.due -= usize::from(settled.is_some_and(|call| call.is_due));
        self.due.store(state.due, Ordering::SeqCst);
        drop(state);
        self.acknowledged.notify_waiters();
    }

    pub(super) fn give_back(&self, release: Release) {
        let mut state = lock(&self.state);
        if state.releases.len() < MAX_RELEASES {
            state.releases.push(release);
        }
    }

    pub(super) fn take_releases(&self) -> Vec<Release> {
        std::mem::take(&mut lock(&self.state).releases)
    }

    /// Returns how many invalidations are not acknowledged.
    pub(super) fn len(&self) -> usize {
        lock(&self.state).calls.len()
    }

    /// Waits until every invalidation is acknowledged, and one of everything `until_seen` longer.
    pub(super) async fn flushed(&self, until_seen: Duration) {
        loop {
            let acknowledged = self.acknowledged.notified();
            let (is_flushed, all_done) = {
                let state = lock(&self.state);
                (state.calls.is_empty(), state.all_done)
            };
            if is_flushed {
                if let Some(done) = all_done {
                    sleep_until(done + until_seen).await;
                }
                return;
            }
            acknowledged.await;
        }
    }

    fn fail(&self, target: &Target, number: u64) {
        let mut state = lock(&self.state);
        // Gone if a later call was acknowledged: that settled this one too.
        let call = state.calls.get_mut(target).filter(|call| call.number >= number);
        let Some(call) = call.filter(|call| !call.is_due) else { return };
        call.is_due = true;
        state.due += 1;
        if state.due > MAX_KEYS {
            state.last += 1;
            let all = Call { number: state.last, is_due: true };
            state.calls.retain(|_, call| !call.is_due);
            state.calls.insert(Target::All, all);
            state.due = 1;
        }
        self.due.store(state.due, Ordering::SeqCst);
    }
}

impl Ticket {
    pub(super) fn acknowledge(mut self) {
        self.is_acknowledged = true;
        self.pending.acknowledge(&self.target, self.number);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_acknowledged {
            self.pending.fail(&self.target, self.number);
            self.wake.notify_one();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn enter(pending: &Arc<Pending>, key: &str) -> Ticket {
        pending.enter(Target::Key(PrimaryKey::new(key)), &Arc::default())
    }

    fn is_quarantined(pending: &Pending, key: &str) -> bool {
        pending.is_quarantined(&Slot { key: PrimaryKey::new(key), ..Slot::example() })
    }

    #[test]
    fn a_call_that_is_dropped_is_due_until_it_is_acknowledged() {
        let pending = Arc::new(Pending::default());
        drop(enter(&pending, "a"));
        assert!(is_quarantined(&pending, "a") && !is_quarantined(&pending, "b"));
        let due = pending.due(10);
        assert_eq!((due.len(), pending.len()), (1, 1));
        pending.acknowledge(&due[0].0, due[0].1);
        assert!(!is_quarantined(&pending, "a") && pending.len() == 0);
    }

    #[test]
    fn a_tag_that_is_due_is_that_of_every_key() {
        let pending = Arc::new(Pending::default());
        drop(pending.enter(Target::Tag(Tag::new("t")), &Arc::default()));
        let slot = |tag: &str| {
            let tags = [Tag::new("other"), Tag::new(tag)].into_iter().collect();
            Slot { tags, ..Slot::example() }
        };
        assert!(pending.is_quarantined(&slot("t")));
        assert!(!pending.is_quarantined(&slot("u")) && !is_quarantined(&pending, "t"));
    }

    #[test]
    fn an_acknowledgement_settles_earlier_calls_and_no_later_one() {
        let pending = Arc::new(Pending::default());
        let (first, second) = (enter(&pending, "a"), enter(&pending, "a"));
        first.acknowledge();
        assert_eq!(pending.len(), 1, "the second has not been sent before it was called");
        let third = enter(&pending, "a");
        drop(second);
        assert!(is_quarantined(&pending, "a"));
        third.acknowledge();
        assert!(!is_quarantined(&pending, "a") && pending.len() == 0);
    }

    /// The history over Redis has found it: a version that was invalidated answered as a stale one.
    #[test]
    fn a_soft_call_that_is_acknowledged_settles_none_that_is_not_soft() {
        let pending = Arc::new(Pending::default());
        let softly = || {
            let target = Target::Softly(PrimaryKey::new("a"));
            pending.enter(target, &Arc::default()).acknowledge();
        };
        drop(enter(&pending, "a"));
        softly();
        assert!(is_quarantined(&pending, "a") && pending.len() == 1);
        enter(&pending, "a").acknowledge();
        let on_its_way = enter(&pending, "a");
        softly();
        drop(on_its_way);
        assert!(is_quarantined(&pending, "a"));
    }

    #[test]
    fn a_soft_call_that_fails_is_due() {
        let pending = Arc::new(Pending::default());
        let target = Target::Softly(PrimaryKey::new("a"));
        drop(pending.enter(target.clone(), &Arc::default()));
        assert!(is_quarantined(&pending, "a") && !is_quarantined(&pending, "b"));
        assert_eq!(pending.due(10)[0].0, target);
    }

    #[test]
    fn a_call_that_failed_after_a_later_one_was_acknowledged_is_settled() {
        let pending = Arc::new(Pending::default());
        let (first, second) = (enter(&pending, "a"), enter(&pending, "a"));
        second.acknowledge();
        drop(first);
        assert!(!is_quarantined(&pending, "a") && pending.len() == 0);
    }

    #[test]
    fn too_many_keys_make_everything_due() {
        let pending = Arc::new(Pending::default());
        let on_its_way = enter(&pending, "on its way");
        for n in 0..=MAX_KEYS {
            drop(enter(&pending, &n.to_string()));
        }
        assert!(is_quarantined(&pending, "never called"));
        assert_eq!((pending.len(), pending.due(10).len()), (2, 1));
        let (target, number) = pending.due(10).remove(0);
        pending.acknowledge(&target, number);
        assert!(!is_quarantined(&pending, "0"));
        on_its_way.acknowledge();
        assert_eq!(pending.len(), 0);
    }
}
