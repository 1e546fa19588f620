//! The right to fill.

use tokio::time::timeout;

use super::sample::{PATIENCE, Sample, text};
use crate::store::{Begin, Store};

/// Checks that [`Store::begin`] looks once more, so that a fill that comes too late does not forward.
pub(super) async fn a_fill_finds_what_another_has_stored<St: Store>(store: &St) {
    let sample = Sample("a", "/1");
    sample.fill(store, "one").await;
    let Begin::Found(found) = store.begin(&sample.slot(), store.token(), None).await else {
        panic!("`begin` finds a fresh entry");
    };
    assert_eq!(text(&found).as_deref(), Some("one"), "`begin` finds the slot's own entry");
    Sample("a", "/2").granted(store).await;
}

/// Checks that [`Store::begin`] does not find the entry that the request has seen and does not want.
pub(super) async fn a_fill_does_not_find_what_its_request_has_seen<St: Store>(store: &St) {
    let sample = Sample("a", "/1");
    sample.fill(store, "one").await;
    let seen = sample.entry(store).await.expect("a stored entry is found");
    let begun = timeout(PATIENCE, store.begin(&sample.slot(), store.token(), Some(&seen))).await;
    assert!(matches!(begun, Ok(Begin::Granted(_))), "`begin` does not find what was seen before");
}

/// Checks that the right to fill is granted again after a lease or a call of `begin` was dropped.
pub(super) async fn a_right_given_back_is_granted_again<St: Store>(store: &St) {
    let sample = Sample("a", "/1");
    drop(sample.granted(store).await);
    store.release(sample.granted(store).await);
    drop(store.begin(&sample.slot(), store.token(), None));
    drop(sample.granted(store).await);
    sample.fill(store, "one").await;
    assert_eq!(sample.find(store).await.as_deref(), Some("one"), "a later fill is stored");
}
