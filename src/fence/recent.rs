//! Invalidations of a short while ago. A fill that follows one may be answered by a replica that has not seen
//! the change.

use std::{collections::HashMap, iter, time::Duration};

use crate::{
    clock::{Instant, now},
    key::{Slot, Subject},
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// Number of invalidations beyond which they are taken as one of everything.
const MAX_EXTENTS: usize = 65_536;

/// InvalidatedExtent of an invalidation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum InvalidatedExtent {
    All,
    /// All that routes of a scope have stored.
    Scope(Box<[u8]>),
    Of(Subject),
}

/// Last invalidation of each extent, as long as it is recent.
#[derive(Debug, Default)]
pub(crate) struct RecentInvalidations {
    /// Milliseconds for which they are remembered. Zero, at first, for none.
    window: AtomicU64,
    times: Mutex<HashMap<InvalidatedExtent, Instant>>,
}

impl RecentInvalidations {
    /// Remembers invalidations for a time from now on, or for longer if that was asked for before.
    pub(crate) fn remember_for(&self, window: Duration) {
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self.window.fetch_max(millis, Ordering::SeqCst);
    }

    /// Returns the time for which they are remembered; zero for none.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.window.load(Ordering::SeqCst))
    }

    /// Notes an invalidation. Note it before it is in force, and call [`since`](Self::since) after a fill has
    /// taken its sequence number: then the fill either finds it here or is fenced.
    pub(crate) fn note(&self, extent: impl FnOnce() -> InvalidatedExtent) {
        let window = self.window();
        if window.is_zero() {
            return;
        }
        let (extent, now) = (extent(), now());
        let mut times = lock(&self.times);
        if times.len() >= MAX_EXTENTS {
            times.retain(|_, at| now < *at + window);
        }
        if times.len() >= MAX_EXTENTS {
            times.clear();
            times.insert(InvalidatedExtent::All, now);
        }
        times.insert(extent, now);
    }

    /// Returns the time since a slot was last invalidated, if that is remembered.
    pub(crate) fn since(&self, slot: &Slot) -> Option<Duration> {
        let (times, now) = (lock(&self.times), now());
        let subjects = slot.tags.iter().cloned().map(Subject::Tag);
        let subjects = subjects.chain(iter::once_with(|| Subject::Key(slot.key.clone())));
        let others =
            [InvalidatedExtent::All, InvalidatedExtent::Scope(slot.variant.scope().into())];
        let extents = others.into_iter().chain(subjects.map(InvalidatedExtent::Of));
        let last = extents.filter_map(|extent| times.get(&extent)).max()?;
        Some(now.saturating_duration_since(*last)).filter(|since| *since < self.window())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::key::{PrimaryKey, Tag};

    const SECOND: Duration = Duration::from_secs(1);

    fn key(text: impl Into<String>) -> Subject {
        Subject::Key(PrimaryKey::new(text.into()))
    }

    fn recent() -> RecentInvalidations {
        let recent = RecentInvalidations::default();
        recent.remember_for(10 * SECOND);
        recent
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_invalidation_of_a_slot_is_remembered_for_a_time() {
        let tags = [Tag::new("t"), Tag::new("u")].into_iter().collect();
        let slot = Slot { key: PrimaryKey::new("a"), tags, ..Slot::example() };
        let others = [key("b"), Subject::Tag(Tag::new("a"))];
        for extent in [
            InvalidatedExtent::All,
            InvalidatedExtent::Scope(slot.variant.scope().into()),
            InvalidatedExtent::Of(key("a")),
            InvalidatedExtent::Of(Subject::Tag(Tag::new("u"))),
        ] {
            let recent = recent();
            others.iter().for_each(|other| recent.note(|| InvalidatedExtent::Of(other.clone())));
            recent.note(|| InvalidatedExtent::Scope(b"another".as_slice().into()));
            assert_eq!(recent.since(&slot), None, "{extent:?}");
            recent.note(|| extent.clone());
            advance(4 * SECOND).await;
            assert_eq!(recent.since(&slot), Some(4 * SECOND), "{extent:?}");
            recent.note(|| InvalidatedExtent::Of(key("a")));
            assert_eq!(recent.since(&slot), Some(Duration::ZERO), "{extent:?}");
            advance(10 * SECOND).await;
            assert_eq!(recent.since(&slot), None, "{extent:?}");
        }
    }

    #[test]
    fn nothing_is_remembered_unless_a_route_settles() {
        let recent = RecentInvalidations::default();
        recent.note(|| InvalidatedExtent::All);
        assert_eq!((recent.since(&Slot::example()), lock(&recent.times).len()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_are_one_of_everything_and_make_room_once_they_are_over() {
        let recent = recent();
        (0..MAX_EXTENTS).for_each(|n| recent.note(|| InvalidatedExtent::Of(key(n.to_string()))));
        assert_eq!(recent.since(&Slot::example()), None);
        recent.note(|| InvalidatedExtent::Of(key("one more")));
        assert_eq!(recent.since(&Slot::example()), Some(Duration::ZERO));
        (0..MAX_EXTENTS - 2)
            .for_each(|n| recent.note(|| InvalidatedExtent::Of(key(n.to_string()))));
        advance(10 * SECOND).await;
        recent.note(|| InvalidatedExtent::Of(key("the only one")));
        assert_eq!(lock(&recent.times).len(), 1);
    }
}
