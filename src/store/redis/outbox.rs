//! Outbox: messages that the server has not acknowledged.
//!
//! They are invalidations, and leases that were given up.
//!
//! An invalidation is entered when it is called, before anything is awaited, so that a future that
//! is dropped loses nothing. While it is on its way nothing else happens. Once it failed or was
//! dropped it is *due*: the supervisor sends it again until it is acknowledged, and meanwhile its key
//! is bypassed in this process.
//!
//! A new incarnation of the server settles nothing by itself: another process may have reached it
//! first, and stored there what this invalidation is to remove.

use std::{collections::HashMap, iter, sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use tokio::sync::Notify;

use super::{
    link::{Connection, Link, LinkFault},
    record::VariantDigest,
};
use crate::{
    clock::{Instant, now, sleep_until},
    fence::RecentInvalidations,
    key::{PrimaryKey, Slot, Strength, Subject, Token},
    metrics::operations::Operation,
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// Limit of due invalidations: with more, everything is due until one invalidation of everything is
/// acknowledged.
const MAX_DUE: usize = 65_536;

/// Limit of leases to release. Others run out by themselves.
const MAX_RELEASES: usize = 4096;

/// Limit of invalidations that are sent at once, so that the heartbeat after them is in time.
const BATCH: usize = 512;

/// Messages of a store that the server has not acknowledged.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<OutboxState>,
    /// Number of due invalidations, so that reads take no lock while there are none.
    due: AtomicUsize,
    /// Notified whenever an invalidation is acknowledged.
    acknowledged: Notify,
    /// Wakes the supervisor, which delivers.
    wake: Arc<Notify>,
    recent: Arc<RecentInvalidations>,
}

#[derive(Debug, Default)]
struct OutboxState {
    /// Number of the last call.
    last: u64,
    calls: HashMap<InvalidationScope, LastCall>,
    due: usize,
    releases: Vec<Release>,
    /// Time at which every process has seen the last invalidation of everything.
    all_seen: Option<Instant>,
}

/// Last call of an invalidation that is not acknowledged.
#[derive(Clone, Copy, Debug)]
struct LastCall {
    number: u64,
    is_due: bool,
    /// Time from the delivery on for which nothing may be stored: the longest of the calls.
    window: Duration,
}

/// Scope of an invalidation at the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum InvalidationScope {
    All,
    /// A soft one that is acknowledged settles none that is not; failed, it is done in full. One without a
    /// window settles none with one.
    Of {
        subject: Subject,
        strength: Strength,
        doubt: Doubt,
    },
}

/// State of a write that an invalidation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doubt {
    /// It is committed.
    Settled,
    /// The origin may commit it yet, so nothing may be stored for a window.
    Unsettled,
}

/// Lease that is given back.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) key: PrimaryKey,
    pub(super) digest: VariantDigest,
    pub(super) token: Token,
}

/// Call of an invalidation. Dropped before it is acknowledged, it is due.
#[derive(Debug)]
pub(super) struct Ticket {
    outbox: Arc<Outbox>,
    scope: InvalidationScope,
    pub(super) window: Duration,
    number: u64,
    is_acknowledged: bool,
}

impl Outbox {
    /// Creates an empty outbox. `wake` wakes the supervisor; `recent` says for how long fills are told of an
    /// invalidation.
    pub(super) fn new(wake: Arc<Notify>, recent: Arc<RecentInvalidations>) -> Self {
        let (state, due, acknowledged) = Default::default();
        Self { state, due, acknowledged, wake, recent }
    }

    /// Enters a call.
    pub(super) fn enter(self: &Arc<Self>, scope: InvalidationScope, window: Duration) -> Ticket {
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        // A due invalidation stays due: this call is not acknowledged either.
        let before = state.calls.get(&scope);
        let is_due = before.is_some_and(|call| call.is_due);
        let window = before.map_or(window, |call| call.window.max(window));
        state.calls.insert(scope.clone(), LastCall { number, is_due, window });
        drop(state);
        Ticket { outbox: Arc::clone(self), scope, window, number, is_acknowledged: false }
    }

    /// Returns whether a slot is bypassed, because an invalidation of its key or of one of its tags is due.
    pub(super) fn is_quarantined(&self, slot: &Slot) -> bool {
        let tags = slot.tags.iter().cloned().map(Subject::Tag);
        self.is_any_due(iter::once_with(|| Subject::Key(slot.key.clone())).chain(tags))
    }

    /// Returns whether an invalidation of one of these subjects is due, or of everything.
    pub(super) fn is_any_due(&self, mut subjects: impl Iterator<Item = Subject>) -> bool {
        if self.due.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let calls = &lock(&self.state).calls;
        let is_due = |scope: &InvalidationScope| calls.get(scope).is_some_and(|call| call.is_due);
        is_due(&InvalidationScope::All)
            || subjects.any(|subject| InvalidationScope::all_of(&subject).iter().any(is_due))
    }

    /// Returns at most `limit` due invalidations with their numbers.
    fn due(&self, limit: usize) -> Vec<(InvalidationScope, LastCall)> {
        if self.due.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let state = lock(&self.state);
        let due = state.calls.iter().filter(|(_, call)| call.is_due);
        due.take(limit).map(|(scope, call)| (scope.clone(), *call)).collect()
    }

    /// Settles every call of an invalidation up to this one: the server has done it, and every process sees
    /// it `later`.
    fn acknowledge(&self, scope: &InvalidationScope, number: u64, later: Duration) {
        let mut state = lock(&self.state);
        if *scope == InvalidationScope::All {
            state.all_seen = state.all_seen.max(Some(now() + later));
        }
        if state.calls.get(scope).is_none_or(|call| call.number > number) {
            return;
        }
        let settled = state.calls.remove(scope);
        state.due -= usize::from(settled.is_some_and(|call| call.is_due));
        self.due.store(state.due, Ordering::SeqCst);
        drop(state);
        self.acknowledged.notify_waiters();
    }

    /// Enters a lease that is given up.
    pub(super) fn release(&self, release: Release) {
        self.keep_release(release);
        self.wake.notify_one();
    }

    fn keep_release(&self, release: Release) {
        let mut state = lock(&self.state);
        if state.releases.len() < MAX_RELEASES {
            state.releases.push(release);
        }
    }

    /// Returns the number of invalidations that are not acknowledged, or not seen by every process.
    pub(super) fn len(&self) -> usize {
        let state = lock(&self.state);
        state.calls.len() + usize::from(state.all_seen.is_some_and(|seen| now() < seen))
    }

    /// Waits until every invalidation is acknowledged, and seen by every process.
    pub(super) async fn flushed(&self) {
        loop {
            let acknowledged = self.acknowledged.notified();
            let (is_flushed, all_seen) = {
                let state = lock(&self.state);
                (state.calls.is_empty(), state.all_seen)
            };
            if is_flushed {
                if let Some(seen) = all_seen {
                    sleep_until(seen).await;
                }
                return;
            }
            acknowledged.await;
        }
    }

    /// Invalidates at the server, as [`InvalidationScope::send`] does, and leaves a mark for the fills that
    /// follow.
    pub(super) async fn send(
        &self,
        scope: &InvalidationScope,
        link: &Link,
        connection: &Arc<Connection>,
        strength: Strength,
        window: Duration,
    ) -> Result<Duration, LinkFault> {
        let told_for = self.recent.window();
        if !told_for.is_zero() {
            // Before it is invalidated: a fill that has a right from after that finds it. Where the server
            // refuses it, it must not hinder the invalidation.
            let mark = link.settings.invalidation_mark(scope.subject());
            let marked = connection.mark(&mark, told_for);
            let marked = link.ask(connection, Operation::Invalidate, marked).await;
            broken(marked.err())?;
        }
        scope.send(link, connection, strength, window).await
    }

    /// Sends releases and due invalidations, all at once: one after the other they would keep a heartbeat
    /// waiting for as many round trips. What fails stays.
    pub(super) async fn deliver(
        &self,
        link: &Link,
        connection: &Arc<Connection>,
    ) -> Result<(), LinkFault> {
        let releases = std::mem::take(&mut lock(&self.state).releases);
        let released = releases.into_iter().map(async |release| {
            let sent = broken(release.send(link, connection).await.err());
            if sent.is_err() {
                self.keep_release(release);
            }
            sent
        });
        let invalidated = self.due(BATCH).into_iter().map(async |(scope, call)| {
            let sent = self.send(&scope, link, connection, Strength::Hard, call.window).await;
            if let Ok(later) = sent {
                self.acknowledge(&scope, call.number, later);
            }
            // One that is refused is sent again with the next heartbeat.
            broken(sent.err())
        });
        let (released, invalidated) = join(join_all(released), join_all(invalidated)).await;
        // One primary of several that is away is no doubt about the others.
        let sent = released.into_iter().chain(invalidated);
        sent.filter(|sent| *sent != Err(LinkFault::Away)).collect()
    }

    fn fail(&self, scope: &InvalidationScope, number: u64) {
        let mut state = lock(&self.state);
        // Gone if a later call was acknowledged: that settled this one too.
        let call = state.calls.get_mut(scope).filter(|call| call.number >= number);
        let Some(call) = call.filter(|call| !call.is_due) else { return };
        call.is_due = true;
        state.due += 1;
        if state.due > MAX_DUE {
            state.last += 1;
            // The windows are lost with their calls: their writers invalidate again at the end of each.
            let window = Duration::ZERO;
            let all = LastCall { number: state.last, is_due: true, window };
            state.calls.retain(|_, call| !call.is_due);
            state.calls.insert(InvalidationScope::All, all);
            state.due = 1;
        }
        self.due.store(state.due, Ordering::SeqCst);
    }
}

impl InvalidationScope {
    pub(super) fn strength(&self) -> Strength {
        match self {
            Self::All => Strength::Hard,
            Self::Of { strength, .. } => *strength,
        }
    }

    /// Returns the key or the tag; `None` for everything.
    fn subject(&self) -> Option<&Subject> {
        match self {
            Self::All => None,
            Self::Of { subject, .. } => Some(subject),
        }
    }

    /// Returns every scope of a subject.
    fn all_of(subject: &Subject) -> [Self; 4] {
        let of = |strength, doubt| Self::Of { subject: subject.clone(), strength, doubt };
        [
            of(Strength::Hard, Doubt::Settled),
            of(Strength::Hard, Doubt::Unsettled),
            of(Strength::Soft, Doubt::Settled),
            of(Strength::Soft, Doubt::Unsettled),
        ]
    }

    /// Invalidates at the server. Nothing may be stored from then on for `window`. Returns the time after
    /// which every process sees it.
    async fn send(
        &self,
        link: &Link,
        connection: &Arc<Connection>,
        strength: Strength,
        window: Duration,
    ) -> Result<Duration, LinkFault> {
        let (operation, settings) = (Operation::Invalidate, &link.settings);
        match self {
            Self::Of { subject: Subject::Key(key), .. } => {
                let (key, mark) = (settings.key(key), settings.mark(key));
                let sent = connection.invalidate(&key, &mark, strength, window);
                link.ask(connection, operation, sent).await?;
            }
            Self::Of { subject: Subject::Tag(tag), .. } => {
                let key = settings.tag_key(tag);
                let sent = connection.renew_tag_version(&key, strength, window);
                link.ask(connection, operation, sent).await?;
            }
            Self::All => return link.begin_epoch(connection).await,
        }
        Ok(Duration::ZERO)
    }
}

impl Release {
    async fn send(&self, link: &Link, connection: &Arc<Connection>) -> Result<(), LinkFault> {
        let Self { key, digest, token } = self;
        if !connection.is_of_its_time(*token) {
            // Of another incarnation, where no fill waits for it.
            return Ok(());
        }
        let key = link.settings.key(key);
        let released = connection.release(&key, digest, *token);
        link.ask(connection, Operation::Release, released).await.map(drop)
    }
}

/// Fails by a fault of the connection, and by no other.
fn broken(fault: Option<LinkFault>) -> Result<(), LinkFault> {
    match fault {
        Some(fault @ (LinkFault::Lost | LinkFault::Away | LinkFault::TimedOut)) => Err(fault),
        None | Some(LinkFault::Foreign | LinkFault::Refused) => Ok(()),
    }
}

impl Ticket {
    pub(super) fn acknowledge(mut self, later: Duration) {
        self.is_acknowledged = true;
        self.outbox.acknowledge(&self.scope, self.number, later);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_acknowledged {
            self.outbox.fail(&self.scope, self.number);
            self.outbox.wake.notify_one();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::key::Tag;

    fn scope(subject: Subject, strength: Strength) -> InvalidationScope {
        InvalidationScope::Of { subject, strength, doubt: Doubt::Settled }
    }

    fn enter(outbox: &Arc<Outbox>, key: &str) -> Ticket {
        outbox.enter(scope(PrimaryKey::new(key).into(), Strength::Hard), Duration::ZERO)
    }

    fn is_quarantined(outbox: &Outbox, key: &str) -> bool {
        outbox.is_quarantined(&Slot { key: PrimaryKey::new(key), ..Slot::example() })
    }

    #[test]
    fn a_call_that_is_dropped_is_due_until_it_is_acknowledged() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        drop(enter(&outbox, "a"));
        assert!(is_quarantined(&outbox, "a") && !is_quarantined(&outbox, "b"));
        let due = outbox.due(10);
        assert_eq!((due.len(), outbox.len()), (1, 1));
        outbox.acknowledge(&due[0].0, due[0].1.number, Duration::ZERO);
        assert!(!is_quarantined(&outbox, "a") && outbox.len() == 0);
    }

    #[test]
    fn a_tag_that_is_due_is_that_of_every_key() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        drop(outbox.enter(scope(Tag::new("t").into(), Strength::Hard), Duration::ZERO));
        let slot = |tag: &str| {
            let tags = [Tag::new("other"), Tag::new(tag)].into_iter().collect();
            Slot { tags, ..Slot::example() }
        };
        assert!(outbox.is_quarantined(&slot("t")));
        assert!(!outbox.is_quarantined(&slot("u")) && !is_quarantined(&outbox, "t"));
    }

    #[test]
    fn an_acknowledgement_settles_earlier_calls_and_no_later_one() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        let (first, second) = (enter(&outbox, "a"), enter(&outbox, "a"));
        first.acknowledge(Duration::ZERO);
        assert_eq!(outbox.len(), 1, "the second has not been sent before it was called");
        let third = enter(&outbox, "a");
        drop(second);
        assert!(is_quarantined(&outbox, "a"));
        third.acknowledge(Duration::ZERO);
        assert!(!is_quarantined(&outbox, "a") && outbox.len() == 0);
    }

    /// The history over Redis has found it: a version that was invalidated answered as a stale one.
    #[test]
    fn a_soft_call_that_is_acknowledged_settles_none_that_is_not_soft() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        let softly = || {
            let scope = scope(PrimaryKey::new("a").into(), Strength::Soft);
            outbox.enter(scope, Duration::ZERO).acknowledge(Duration::ZERO);
        };
        drop(enter(&outbox, "a"));
        softly();
        assert!(is_quarantined(&outbox, "a") && outbox.len() == 1);
        enter(&outbox, "a").acknowledge(Duration::ZERO);
        let on_its_way = enter(&outbox, "a");
        softly();
        drop(on_its_way);
        assert!(is_quarantined(&outbox, "a"));
    }

    /// Without its mark another process could store what the origin has not committed yet.
    #[test]
    fn a_call_without_a_window_settles_none_with_one() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        let (subject, strength) = (Subject::Key(PrimaryKey::new("a")), Strength::Hard);
        let scope = InvalidationScope::Of { subject, strength, doubt: Doubt::Unsettled };
        let seconds = Duration::from_secs;
        drop(outbox.enter(scope.clone(), seconds(10)));
        enter(&outbox, "a").acknowledge(Duration::ZERO);
        assert!(is_quarantined(&outbox, "a"));
        // Nor does one with a shorter window shorten it.
        let shorter = outbox.enter(scope, seconds(2));
        assert_eq!((shorter.window, outbox.due(10)[0].1.window), (seconds(10), seconds(10)));
        shorter.acknowledge(Duration::ZERO);
        assert!(!is_quarantined(&outbox, "a") && outbox.len() == 0);
    }

    #[test]
    fn a_soft_call_that_fails_is_due() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        let scope = scope(PrimaryKey::new("a").into(), Strength::Soft);
        drop(outbox.enter(scope.clone(), Duration::ZERO));
        assert!(is_quarantined(&outbox, "a") && !is_quarantined(&outbox, "b"));
        assert_eq!(outbox.due(10)[0].0, scope);
    }

    #[test]
    fn a_call_that_failed_after_a_later_one_was_acknowledged_is_settled() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        let (first, second) = (enter(&outbox, "a"), enter(&outbox, "a"));
        second.acknowledge(Duration::ZERO);
        drop(first);
        assert!(!is_quarantined(&outbox, "a") && outbox.len() == 0);
    }

    #[test]
    fn too_many_keys_make_everything_due() {
        let outbox = Arc::new(Outbox::new(Arc::default(), Arc::default()));
        let on_its_way = enter(&outbox, "on its way");
        for n in 0..=MAX_DUE {
            drop(enter(&outbox, &n.to_string()));
        }
        assert!(is_quarantined(&outbox, "never called"));
        assert_eq!((outbox.len(), outbox.due(10).len()), (2, 1));
        let (scope, call) = outbox.due(10).remove(0);
        outbox.acknowledge(&scope, call.number, Duration::ZERO);
        assert!(!is_quarantined(&outbox, "0"));
        on_its_way.acknowledge(Duration::ZERO);
        assert_eq!(outbox.len(), 0);
    }
}
