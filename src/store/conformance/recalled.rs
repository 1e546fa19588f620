//! Repeated look-ups of one slot.

use super::Place;
use crate::store::{PrimaryKey, Store};

/// How often a store may have to read something before it remembers it.
const READS: usize = 3;

/// A response that was read often is found only while the store has it.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_response_that_was_read_often_is_found_only_while_it_is_there<St: Store>(store: &St) {
    let (place, key) = (Place("a", "/1"), PrimaryKey::new("a"));
    for is_for_all in [false, true] {
        place.fill(store, "one").await;
        for _ in 0..READS {
            assert_eq!(place.find(store).await.as_deref(), Some("one"), "a stored entry is found");
        }
        let found = async || place.find(store).await;
        let rule = "a response that was read often is found while it is there, and no longer";
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
