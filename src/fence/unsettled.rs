//! Keys and tags whose last write ended with an unknown outcome: the origin may still commit it, so
//! for a while nothing is stored for them.

use std::{collections::HashMap, time::Duration};

use crate::{
    clock::{Instant, now},
    key::{Slot, Subject},
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// Beyond this many, all keys are taken as unsettled.
const MAX_SUBJECTS: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Unsettled {
    state: Mutex<UnsettledState>,
    /// The number of subjects, so that reads take no lock while there are none.
    count: AtomicUsize,
    window: Duration,
}

#[derive(Debug, Default)]
struct UnsettledState {
    until: HashMap<Subject, Instant>,
    all_until: Option<Instant>,
}

impl Unsettled {
    pub(crate) fn new(window: Duration) -> Self {
        Self { state: Mutex::default(), count: AtomicUsize::new(0), window }
    }

    /// Enters a key or a tag. Enter it before it is invalidated, and ask [`contains`](Self::contains) after
    /// a fill has taken its number: then a fill either sees it here or is fenced.
    ///
    /// Returns when it is to be settled, or `None` where an earlier call sees to that.
    pub(crate) fn enter(&self, subject: &Subject) -> Option<Instant> {
        let now = now();
        let until = now + self.window;
        let mut state = lock(&self.state);
        let is_new = if state.until.len() >= MAX_SUBJECTS && !state.until.contains_key(subject) {
            state.all_until.replace(until).is_none()
        } else {
            // Once its time is over, who was to settle it may be gone with its runtime.
            let earlier = state.until.insert(subject.clone(), until);
            earlier.is_none_or(|earlier| earlier <= now)
        };
        self.count.store(state.len(), Ordering::SeqCst);
        is_new.then_some(until)
    }

    /// Whether nothing may be stored for a slot: for its key, or for one of its tags.
    pub(crate) fn contains(&self, slot: &Slot) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let state = lock(&self.state);
        let now = now();
        let is_in_force = |until: Option<&Instant>| until.is_some_and(|until| now < *until);
        let is_entered = |subject: &Subject| is_in_force(state.until.get(subject));
        is_entered(&Subject::Key(slot.key.clone()))
            || slot.tags.iter().any(|tag| is_entered(&Subject::Tag(tag.clone())))
            || is_in_force(state.all_until.as_ref())
    }

    /// Takes it off if its time is over; otherwise returns when that is.
    pub(crate) fn leave(&self, subject: &Subject) -> Option<Instant> {
        let mut state = lock(&self.state);
        let now = now();
        let until = state.until.get(subject).copied().or(state.all_until);
        if let Some(until) = until.filter(|until| now < *until) {
            return Some(until);
        }
        if state.until.remove(subject).is_none() {
            state.all_until = None;
        }
        self.count.store(state.len(), Ordering::SeqCst);
        None
    }
}

impl UnsettledState {
    fn len(&self) -> usize {
        self.until.len() + usize::from(self.all_until.is_some())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::key::{PrimaryKey, Tag, Tags};

    fn slot(key: &str, tags: Tags) -> Slot {
        Slot { key: PrimaryKey::new(key), tags, ..Slot::example() }
    }

    fn key(text: &str) -> Subject {
        Subject::Key(PrimaryKey::new(text))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_stays_until_its_last_entry_is_over() {
        let unsettled = Unsettled::new(Duration::from_secs(10));
        let (key, slot) = (key("a"), slot("a", Tags::none()));
        assert!(unsettled.enter(&key).is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(unsettled.enter(&key).is_none());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(unsettled.leave(&key).is_some() && unsettled.contains(&slot));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(unsettled.leave(&key).is_none() && !unsettled.contains(&slot));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_nobody_settled_in_time_is_settled_by_who_enters_it_next() {
        let unsettled = Unsettled::new(Duration::from_secs(10));
        let (key, slot) = (key("a"), slot("a", Tags::none()));
        assert!(unsettled.enter(&key).is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(unsettled.enter(&key).is_some() && unsettled.contains(&slot));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_keys_make_every_key_unsettled() {
        let unsettled = Unsettled::new(Duration::from_secs(10));
        for n in 0..=MAX_SUBJECTS {
            unsettled.enter(&key(&n.to_string()));
        }
        assert!(unsettled.contains(&slot("never entered", Tags::none())));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!unsettled.contains(&slot("never entered", Tags::none())));
    }

    #[test]
    fn a_tag_is_that_of_every_slot_that_has_it() {
        let unsettled = Unsettled::new(Duration::from_secs(10));
        let tags = |text: &str| [Tag::new("other"), Tag::new(text)].into_iter().collect::<Tags>();
        unsettled.enter(&Subject::Tag(Tag::new("a")));
        assert!(
            unsettled.contains(&slot("a", tags("a"))) && unsettled.contains(&slot("b", tags("a")))
        );
        assert!(!unsettled.contains(&slot("a", tags("b"))));
    }
}
