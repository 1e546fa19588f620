//! What is found of what a store remembers.

use super::{Place, text};
use crate::store::{Lookup, PrimaryKey, Store};

/// How often a store may have to read something before it remembers it.
const READS: usize = 3;

/// What [`Store::recall`] returns [`Store::confirm`] finds only while it is what the store has.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn what_is_recalled_is_found_only_while_it_is_there<St: Store>(store: &St) {
    let (place, key) = (Place("a", "/1"), PrimaryKey::new("a"));
    for is_for_all in [false, true] {
        place.fill(store, "one").await;
        for _ in 0..READS {
            assert_eq!(place.find(store).await.as_deref(), Some("one"), "a stored entry is found");
        }
        // A store need not remember anything.
        let Some(recalled) = store.recall(&place.variant().borrowed()) else { return };
        let found = async || match store.confirm(&recalled).await {
            Lookup::Found(entry) => text(&entry),
            Lookup::Absent | Lookup::Held(_) | Lookup::Unavailable => None,
        };
        let rule = "what is recalled is found while it is there, and no longer";
        assert_eq!(found().await.as_deref(), Some("one"), "{rule}");
        let removed = match is_for_all {
            true => store.invalidate_all().await,
            false => store.invalidate(&key).await,
        };
        assert!(removed.is_ok(), "an invalidation is acknowledged");
        assert_eq!(found().await, None, "{rule}");
        place.fill(store, "two").await;
        assert_eq!(found().await.as_deref(), Some("two"), "{rule}");
        assert!(store.invalidate(&key).await.is_ok(), "an invalidation is acknowledged");
    }
}
