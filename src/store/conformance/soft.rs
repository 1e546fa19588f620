//! What is left after a soft invalidation.

use super::Place;
use crate::store::{PrimaryKey, Store};

/// After [`Store::soft_invalidate`] nothing of the key is fresh, and no fill that had begun is
/// stored. What is left is what may be used stale, and goes with an invalidation.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_soft_invalidation_leaves_nothing_fresh<St: Store>(store: &St) {
    let (place, filling, other) = (Place("a", "/1"), Place("a", "/2"), Place("b", "/3"));
    place.fill(store, "one").await;
    other.fill(store, "one").await;
    let fence = store.sequence().begin();
    let lease = filling.granted(store).await;
    let _ = store.soft_invalidate(&PrimaryKey::new("a")).await;
    let is_fresh = async |place: &Place| place.entry(store).await.is_some_and(|e| e.is_fresh());
    assert!(!is_fresh(&place).await, "a soft invalidation leaves nothing fresh");
    assert!(is_fresh(&other).await, "a soft invalidation is of one key");
    filling.refused(store, lease, fence).await;
    place.fill(store, "two").await;
    assert!(is_fresh(&place).await, "what is stored after a soft invalidation is fresh");
    let _ = store.soft_invalidate(&PrimaryKey::new("a")).await;
    let _ = store.invalidate(&PrimaryKey::new("a")).await;
    assert!(place.entry(store).await.is_none(), "an invalidation leaves nothing, stale or not");
}
