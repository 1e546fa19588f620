//! Keys whose last write ended with an unknown outcome: the origin may still commit it, so for a
//! while nothing is stored for them.

use std::{collections::HashMap, time::Duration};

use crate::{
    clock::{Instant, now},
    key::PrimaryKey,
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// Beyond this many keys, all keys are taken as unsettled.
const MAX_KEYS: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Unsettled {
    keys: Mutex<Keys>,
    /// The number of keys, so that reads take no lock while there are none.
    count: AtomicUsize,
    window: Duration,
}

#[derive(Debug, Default)]
struct Keys {
    until: HashMap<PrimaryKey, Instant>,
    all_until: Option<Instant>,
}

impl Unsettled {
    pub(crate) fn new(window: Duration) -> Self {
        Self { keys: Mutex::default(), count: AtomicUsize::new(0), window }
    }

    /// Enters a key. Enter it before it is invalidated, and ask [`contains`](Self::contains) after
    /// a fill has taken its number: then a fill either sees the key here or is fenced.
    ///
    /// Returns when the key is to be settled, or `None` where an earlier call sees to that.
    pub(crate) fn enter(&self, key: &PrimaryKey) -> Option<Instant> {
        let now = now();
        let until = now + self.window;
        let mut keys = lock(&self.keys);
        let is_new = if keys.until.len() >= MAX_KEYS && !keys.until.contains_key(key) {
            keys.all_until.replace(until).is_none()
        } else {
            // Once its time is over, who was to settle it may be gone with its runtime.
            let earlier = keys.until.insert(key.clone(), until);
            earlier.is_none_or(|earlier| earlier <= now)
        };
        self.count.store(keys.len(), Ordering::SeqCst);
        is_new.then_some(until)
    }

    pub(crate) fn contains(&self, key: &PrimaryKey) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let keys = lock(&self.keys);
        let now = now();
        let is_in_force = |until: Option<&Instant>| until.is_some_and(|until| now < *until);
        is_in_force(keys.until.get(key)) || is_in_force(keys.all_until.as_ref())
    }

    /// Takes a key off if its time is over; otherwise returns when that is.
    pub(crate) fn leave(&self, key: &PrimaryKey) -> Option<Instant> {
        let mut keys = lock(&self.keys);
        let now = now();
        let until = keys.until.get(key).copied().or(keys.all_until);
        if let Some(until) = until.filter(|until| now < *until) {
            return Some(until);
        }
        if keys.until.remove(key).is_none() {
            keys.all_until = None;
        }
        self.count.store(keys.len(), Ordering::SeqCst);
        None
    }
}

impl Keys {
    fn len(&self) -> usize {
        self.until.len() + usize::from(self.all_until.is_some())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_stays_until_its_last_entry_is_over() {
        let unsettled = Unsettled::new(Duration::from_secs(10));
        let key = PrimaryKey::new("a");
        assert!(unsettled.enter(&key).is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(unsettled.enter(&key).is_none());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(unsettled.leave(&key).is_some() && unsettled.contains(&key));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(unsettled.leave(&key).is_none() && !unsettled.contains(&key));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_nobody_settled_in_time_is_settled_by_who_enters_it_next() {
        let unsettled = Unsettled::new(Duration::from_secs(10));
        let key = PrimaryKey::new("a");
        assert!(unsettled.enter(&key).is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(unsettled.enter(&key).is_some() && unsettled.contains(&key));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_keys_make_every_key_unsettled() {
        let unsettled = Unsettled::new(Duration::from_secs(10));
        for n in 0..=MAX_KEYS {
            unsettled.enter(&PrimaryKey::new(n.to_string()));
        }
        assert!(unsettled.contains(&PrimaryKey::new("never entered")));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!unsettled.contains(&PrimaryKey::new("never entered")));
    }
}
