//! Keys and tags whose last write ended with an unknown outcome. The origin may still commit it, so
//! nothing is stored for them for a while.

use std::{collections::HashMap, time::Duration};

use crate::{
    clock::{Instant, now},
    key::{Slot, Strength, Subject},
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// Number of keys and tags beyond which all are taken as unsettled.
const MAX_SUBJECTS: usize = 65_536;

/// Keys and tags for which nothing is stored for now.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    deadlines: Mutex<Deadlines>,
    /// Number of deadlines, so that reads take no lock while there are none.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Deadlines {
    each: HashMap<Subject, SettlingTime>,
    /// Settling time of everything, once there are too many subjects.
    all: Option<SettlingTime>,
    /// Latest end of a window, including those of writes without a rule.
    latest: Option<Instant>,
}

/// End of the time for which nothing is stored for a subject.
#[derive(Clone, Copy, Debug)]
struct SettlingTime {
    until: Instant,
    /// Strength of the invalidation at the end.
    strength: Strength,
}

impl Unsettled {
    /// Enters a key or a tag for a time. Returns the deadline at which the caller must settle it, or `None` if an
    /// earlier caller does.
    ///
    /// Enter it before it is invalidated, and call [`contains`](Self::contains) after a fill has taken its
    /// sequence number. Then a fill either sees it here or is fenced.
    pub(crate) fn enter(
        &self,
        subject: &Subject,
        strength: Strength,
        window: Duration,
    ) -> Option<Instant> {
        let now = now();
        let mut deadlines = lock(&self.deadlines);
        if deadlines.each.len() >= MAX_SUBJECTS {
            // The tasks that were to settle these are gone with their runtime.
            deadlines.each.retain(|_, deadline| now < deadline.until);
        }
        let is_full = deadlines.each.len() >= MAX_SUBJECTS;
        let new = SettlingTime { until: now, strength };
        let deadline = if is_full && !deadlines.each.contains_key(subject) {
            deadlines.all.get_or_insert(new)
        } else {
            deadlines.each.entry(subject.clone()).or_insert(new)
        };
        // After its deadline, the task that was to settle it may be gone with its runtime.
        let is_new = deadline.until <= now;
        deadline.until = deadline.until.max(now + window);
        if strength == Strength::Hard {
            deadline.strength = Strength::Hard;
        }
        let until = deadline.until;
        self.count.store(deadlines.len(), Ordering::SeqCst);
        is_new.then_some(until)
    }

    /// Notes that the origin may commit a write within a window, whatever it changes.
    pub(crate) fn note(&self, window: Duration) {
        let latest = &mut lock(&self.deadlines).latest;
        *latest = (*latest).max(Some(now() + window));
    }

    /// Returns the time at which every write so far is settled, if one was unsettled.
    pub(crate) fn latest(&self) -> Option<Instant> {
        lock(&self.deadlines).latest
    }

    /// Returns whether the key or one of the tags of a slot is unsettled.
    pub(crate) fn contains(&self, slot: &Slot) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let deadlines = lock(&self.deadlines);
        let now = now();
        let is_in_force =
            |deadline: Option<&SettlingTime>| deadline.is_some_and(|it| now < it.until);
        let is_entered = |subject: &Subject| is_in_force(deadlines.each.get(subject));
        is_entered(&Subject::Key(slot.key.clone()))
            || slot.tags.iter().any(|tag| is_entered(&Subject::Tag(tag.clone())))
            || is_in_force(deadlines.all.as_ref())
    }

    /// Returns the strength with which a subject is to be invalidated at its deadline.
    pub(crate) fn strength(&self, subject: &Subject) -> Strength {
        let deadline = lock(&self.deadlines).each.get(subject).copied();
        deadline.map_or(Strength::Hard, |deadline| deadline.strength)
    }

    /// Removes a subject after its deadline; before it, returns the deadline.
    pub(crate) fn leave(&self, subject: &Subject) -> Option<Instant> {
        let mut deadlines = lock(&self.deadlines);
        let now = now();
        let deadline = deadlines.each.get(subject).copied().or(deadlines.all);
        if let Some(deadline) = deadline.filter(|deadline| now < deadline.until) {
            return Some(deadline.until);
        }
        if deadlines.each.remove(subject).is_none() {
            deadlines.all = None;
        }
        self.count.store(deadlines.len(), Ordering::SeqCst);
        None
    }
}

impl Deadlines {
    fn len(&self) -> usize {
        self.each.len() + usize::from(self.all.is_some())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::key::{PrimaryKey, Tag, Tags};

    const WINDOW: Duration = Duration::from_secs(10);

    fn slot(key: &str, tags: Tags) -> Slot {
        Slot { key: PrimaryKey::new(key), tags, ..Slot::example() }
    }

    fn key(text: &str) -> Subject {
        Subject::Key(PrimaryKey::new(text))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_stays_until_its_last_entry_is_over() {
        let unsettled = Unsettled::default();
        let (key, slot) = (key("a"), slot("a", Tags::none()));
        assert!(unsettled.enter(&key, Strength::Hard, WINDOW).is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(unsettled.enter(&key, Strength::Hard, WINDOW).is_none());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(unsettled.leave(&key).is_some() && unsettled.contains(&slot));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(unsettled.leave(&key).is_none() && !unsettled.contains(&slot));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_not_settled_in_time_is_settled_by_the_next_that_enters_it() {
        let unsettled = Unsettled::default();
        let (key, slot) = (key("a"), slot("a", Tags::none()));
        assert!(unsettled.enter(&key, Strength::Hard, WINDOW).is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(
            unsettled.enter(&key, Strength::Hard, WINDOW).is_some() && unsettled.contains(&slot)
        );
    }

    #[test]
    fn the_end_is_hard_if_one_of_the_writes_was() {
        let unsettled = Unsettled::default();
        let key = key("a");
        unsettled.enter(&key, Strength::Soft, WINDOW);
        assert_eq!(unsettled.strength(&key), Strength::Soft);
        unsettled.enter(&key, Strength::Hard, WINDOW);
        unsettled.enter(&key, Strength::Soft, WINDOW);
        assert_eq!(unsettled.strength(&key), Strength::Hard);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_keys_make_every_key_unsettled() {
        let unsettled = Unsettled::default();
        for n in 0..=MAX_SUBJECTS {
            unsettled.enter(&key(&n.to_string()), Strength::Hard, WINDOW);
        }
        assert!(unsettled.contains(&slot("never entered", Tags::none())));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!unsettled.contains(&slot("never entered", Tags::none())));
        // No task has settled them, and they make nothing else unsettled any more.
        unsettled.enter(&key("one"), Strength::Hard, WINDOW);
        assert!(!unsettled.contains(&slot("never entered", Tags::none())));
        assert!(unsettled.contains(&slot("one", Tags::none())));
    }

    #[tokio::test(start_paused = true)]
    async fn every_key_stays_unsettled_once_those_that_were_entered_have_left() {
        let unsettled = Unsettled::default();
        let keys: Vec<_> = (0..MAX_SUBJECTS).map(|n| key(&n.to_string())).collect();
        assert!(keys.iter().all(|key| unsettled.enter(key, Strength::Hard, WINDOW).is_some()));
        tokio::time::advance(WINDOW / 2).await;
        assert!(unsettled.enter(&key("one more"), Strength::Hard, WINDOW).is_some());
        tokio::time::advance(WINDOW / 2).await;
        assert!(keys.iter().all(|key| unsettled.leave(key).is_none()));
        assert!(unsettled.contains(&slot("never entered", Tags::none())));
    }

    #[test]
    fn a_tag_is_that_of_every_slot_that_has_it() {
        let unsettled = Unsettled::default();
        let tags = |text: &str| [Tag::new("other"), Tag::new(text)].into_iter().collect::<Tags>();
        unsettled.enter(&Subject::Tag(Tag::new("a")), Strength::Hard, WINDOW);
        assert!(
            unsettled.contains(&slot("a", tags("a"))) && unsettled.contains(&slot("b", tags("a")))
        );
        assert!(!unsettled.contains(&slot("a", tags("b"))));
    }
}
