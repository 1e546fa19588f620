//! Requests that wait for a key to change at the server.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::Notify;

use crate::{
    key::PrimaryKey,
    sync::{Mutex, lock},
};

/// Requests that wait, by key.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_key: Mutex<HashMap<PrimaryKey, Arc<Notify>>>,
}

/// Request that waits. The last of a key removes it.
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    key: PrimaryKey,
    pub(super) changed: Arc<Notify>,
}

impl Waiters {
    /// Registers a request.
    pub(super) fn enter(&self, key: &PrimaryKey) -> Waiter<'_> {
        let changed = Arc::clone(lock(&self.by_key).entry(key.clone()).or_default());
        Waiter { waiters: self, key: key.clone(), changed }
    }

    pub(super) fn wake(&self, key: &PrimaryKey) {
        if let Some(changed) = lock(&self.by_key).get(key) {
            changed.notify_waiters();
        }
    }

    pub(super) fn wake_all(&self) {
        lock(&self.by_key).values().for_each(|changed| changed.notify_waiters());
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut by_key = lock(&self.waiters.by_key);
        // The map has one reference and this waiter another.
        if Arc::strong_count(&self.changed) <= 2 {
            by_key.remove(&self.key);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_forgotten_with_the_last_who_waits_for_it() {
        let (waiters, key) = (Waiters::default(), PrimaryKey::new("a"));
        let (first, second) = (waiters.enter(&key), waiters.enter(&key));
        drop(first);
        assert_eq!(lock(&waiters.by_key).len(), 1);
        drop(second);
        assert!(lock(&waiters.by_key).is_empty());
    }
}
