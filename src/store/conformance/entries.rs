//! Entries that are found and replaced.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::sample::{LIFETIME, PATIENCE, Response, Sample, text};
use crate::{
    clock::now,
    entry::{Entry, Provenance},
    store::{Begin, Commit, Lookup, PrimaryKey, Store, Strength},
};

/// Checks that an entry is found by its own variant, and not by another one of the same key.
pub(super) async fn an_entry_is_found_by_its_own_variant<St: Store>(store: &St) {
    let (first, second) = (Sample("a", "/1"), Sample("a", "/2"));
    assert_eq!(first.find(store).await, None, "a store that is made for the suite is empty");
    first.fill(store, "one").await;
    assert_eq!(first.find(store).await.as_deref(), Some("one"), "a stored entry is found");
    assert_eq!(second.find(store).await, None, "an entry is found by its own variant only");
    second.fill(store, "two").await;
    assert_eq!(first.find(store).await.as_deref(), Some("one"), "each variant has its own entry");
    assert_eq!(second.find(store).await.as_deref(), Some("two"), "each variant has its own entry");
}

/// Checks that an inspection finds what a look-up finds.
pub(super) async fn an_inspection_finds_what_is_stored<St: Store>(store: &St) {
    let sample = Sample("a", "/1");
    let inspected = async || match store.inspect(&sample.slot()).await {
        Lookup::Found(entry) => text(&entry),
        _ => None,
    };
    assert_eq!(inspected().await, None, "an inspection finds nothing in an empty store");
    sample.fill(store, "one").await;
    assert_eq!(inspected().await.as_deref(), Some("one"), "an inspection finds what is stored");
    let key = sample.slot().key.into();
    store.invalidate(&key, Strength::Hard).await.expect("an invalidation is acknowledged");
    assert_eq!(inspected().await, None, "an inspection finds nothing that was invalidated");
}

/// Checks that a `Pass` entry is kept like a response.
pub(super) async fn a_pass_entry_is_found<St: Store>(store: &St) {
    let sample = Sample("a", "/1");
    assert_eq!(refuse(store, &sample, None).await, Commit::Stored, "a `Pass` entry is stored");
    let found = sample.entry(store).await.expect("a `Pass` entry is found");
    assert!(found.is_pass(), "a `Pass` entry is found as one");
}

/// Checks that neither a `Pass` entry nor the note that leads to it replaces a response that may still
/// answer.
pub(super) async fn a_refusal_replaces_no_response_that_may_answer<St: Store>(store: &St) {
    let (sample, other) = (Sample("a", "/1"), Sample("a", "/2"));
    sample.fill(store, "one").await;
    assert_eq!(refuse(store, &sample, None).await, Commit::Superseded, "a response may answer");
    let noted = refuse(store, &other, Some(&sample)).await;
    assert_eq!(noted, Commit::Superseded, "a response may answer where the note would be");
    assert_eq!(sample.find(store).await.as_deref(), Some("one"), "the response stays");
    let key = sample.slot().key.into();
    store.invalidate(&key, Strength::Hard).await.expect("an invalidation is acknowledged");
    let commit = refuse(store, &sample, None).await;
    assert_eq!(commit, Commit::Stored, "an invalidated response answers no request");
}

/// Commits a `Pass` entry, and a note at another sample that leads to it.
async fn refuse<St: Store>(store: &St, sample: &Sample, noted_at: Option<&Sample>) -> Commit {
    let fence = store.sequence().begin();
    let (slot, seen) = (sample.slot(), sample.entry(store).await);
    let begin = store.begin(&slot, store.token(), seen.as_deref());
    let Ok(Begin::Granted(lease)) = timeout(PATIENCE, begin).await else {
        panic!("the right to fill is granted")
    };
    let provenance = Provenance { slot, fence, requested: now(), gauge: Arc::default() };
    let pass = Entry::pass(provenance, now() + LIFETIME);
    store.commit(lease, Arc::new(pass), noted_at.map(|sample| sample.note(fence))).await
}

/// Checks that a fill may begin over a stale entry, and replaces it.
pub(super) async fn a_stale_entry_is_replaced<St: Store>(store: &St) {
    let sample = Sample("a", "/1");
    let fence = store.sequence().begin();
    let lease = sample.granted(store).await;
    let stale = Response { lifetime: Duration::ZERO, ..Response::new("stale") };
    store.commit(lease, sample.response(fence, stale), None).await;
    assert!(
        sample.entry(store).await.is_none_or(|entry| !entry.is_fresh()),
        "an entry is no fresher when it is found than when it was stored",
    );
    sample.fill(store, "fresh").await;
    assert_eq!(sample.find(store).await.as_deref(), Some("fresh"), "a stale entry is replaced");
}

/// Checks that of two responses for one slot the one stays that was requested from the origin later,
/// whichever is committed last. A store that grants one right to fill at a time keeps this by that.
pub(super) async fn an_older_response_does_not_replace_a_newer_one<St: Store>(store: &St) {
    for is_older_first in [true, false] {
        let sample = Sample("a", if is_older_first { "/1" } else { "/2" });
        let (older, newer) = (Response::new("older"), Response::new("newer"));
        let older = Response { requested: older.requested, ..older };
        let newer = Response { requested: older.requested + Duration::from_millis(1), ..newer };
        let fence = store.sequence().begin();
        let first = sample.granted(store).await;
        let Ok(Begin::Granted(second)) =
            timeout(PATIENCE, store.begin(&sample.slot(), store.token(), None)).await
        else {
            continue;
        };
        if is_older_first {
            store.commit(first, sample.response(fence, older), None).await;
            store.commit(second, sample.response(fence, newer), None).await;
        } else {
            store.commit(first, sample.response(fence, newer), None).await;
            let commit = store.commit(second, sample.response(fence, older), None).await;
            assert_ne!(commit, Commit::Stored, "an older response does not replace a newer one");
        }
        let found = sample.find(store).await;
        assert_eq!(found.as_deref(), Some("newer"), "the newer of two responses stays");
    }
}

/// Checks that an entry and the note that leads to it are stored in one step, or neither, and that a note
/// answers no request.
pub(super) async fn a_note_is_stored_with_its_entry<St: Store>(store: &St) {
    let (base, sample) = (Sample("a", "/base"), Sample("a", "/1"));
    let is_noted = async || base.entry(store).await.is_some_and(|note| !note.is_answer());
    for is_overtaken in [true, false] {
        let fence = store.sequence().begin();
        let lease = sample.granted(store).await;
        if is_overtaken {
            let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await;
        }
        let note = Some(base.note(fence));
        store.commit(lease, sample.response(fence, Response::new("one")), note).await;
        assert_eq!(is_noted().await, !is_overtaken, "a note is stored if its entry is");
    }
    assert_eq!(sample.find(store).await.as_deref(), Some("one"), "an entry with a note is stored");
    drop(base.granted(store).await);
    let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await;
    assert!(!is_noted().await, "an invalidation removes the notes of its key");
}
