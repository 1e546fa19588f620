//! What every store must hold, as a suite that a store of your own can run.
//!
//! [`check`] runs all of it; each property is a function as well, to be run alone while a store is
//! being written. They need a tokio runtime with its clock. Run them on a runtime of several
//! threads: one property lets fills and invalidations race.
//!
//! ```
//! use tower_support_cache::{MemoryStore, store::conformance};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! conformance::check(async || MemoryStore::new()).await;
//! # }
//! ```

mod race;
mod recalled;
mod soft;
mod tags;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{timeout, timeout_at};

use super::{Begin, Commit, Entry, Fence, Lookup, PrimaryKey, Slot, Store, Tags, Variant};
use crate::{
    clock::now,
    entry::{Head, MemoryGauge, Provenance, Timing},
    key::{Nominated, VariantParts},
};

pub use race::invalidations_win_races;
pub use recalled::a_response_that_was_read_often_is_found_only_while_it_is_there;
pub use soft::a_soft_invalidation_leaves_nothing_fresh;
pub use tags::{
    an_invalidation_of_a_tag_removes_what_has_it, an_invalidation_of_a_tag_voids_fills_in_flight,
};

/// How long a store may take to grant the right to fill.
const PATIENCE: Duration = Duration::from_secs(5);
const LIFETIME: Duration = Duration::from_secs(600);

/// Runs every property on a store of its own; `make` creates an empty one that nobody else uses.
///
/// # Panics
///
/// If the store does not hold a property. The message says which.
pub async fn check<St: Store>(make: impl AsyncFn() -> St) {
    an_entry_is_found_by_its_own_variant(&make().await).await;
    a_pass_entry_is_found(&make().await).await;
    a_fill_finds_what_another_has_stored(&make().await).await;
    a_fill_does_not_find_what_its_request_has_seen(&make().await).await;
    a_stale_entry_is_replaced(&make().await).await;
    an_older_response_does_not_replace_a_newer_one(&make().await).await;
    a_right_given_back_is_granted_again(&make().await).await;
    an_invalidation_removes_all_variants_of_its_key(&make().await).await;
    an_invalidation_voids_fills_in_flight(&make().await).await;
    an_invalidation_of_everything_leaves_nothing(&make().await).await;
    a_soft_invalidation_leaves_nothing_fresh(&make().await).await;
    an_invalidation_of_a_tag_removes_what_has_it(&make().await).await;
    an_invalidation_of_a_tag_voids_fills_in_flight(&make().await).await;
    an_invalidation_is_in_force_before_it_is_polled(&make().await).await;
    a_note_is_stored_with_its_entry(&make().await).await;
    a_response_that_was_read_often_is_found_only_while_it_is_there(&make().await).await;
    what_is_removed_is_let_go(&make().await).await;
    invalidations_win_races(make().await).await;
}

/// What is committed is found by its own variant, and not by another one of the same key.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn an_entry_is_found_by_its_own_variant<St: Store>(store: &St) {
    let (first, second) = (Place("a", "/1"), Place("a", "/2"));
    assert_eq!(first.find(store).await, None, "a store that is made for the suite is empty");
    first.fill(store, "one").await;
    assert_eq!(first.find(store).await.as_deref(), Some("one"), "a stored entry is found");
    assert_eq!(second.find(store).await, None, "an entry is found by its own variant only");
    second.fill(store, "two").await;
    assert_eq!(first.find(store).await.as_deref(), Some("one"), "each variant has its own entry");
    assert_eq!(second.find(store).await.as_deref(), Some("two"), "each variant has its own entry");
}

/// The note that a slot's responses may not be stored is kept like a response.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_pass_entry_is_found<St: Store>(store: &St) {
    let place = Place("a", "/1");
    let fence = store.sequence().begin();
    let lease = place.granted(store).await;
    let provenance =
        Provenance { slot: place.slot(), fence, requested: now(), gauge: Arc::default() };
    let pass = Entry::pass(provenance, now() + LIFETIME);
    let commit = store.commit(lease, Arc::new(pass), None).await;
    assert_eq!(commit, Commit::Stored, "a `Pass` entry is stored");
    let found = place.entry(store).await.expect("a `Pass` entry is found");
    assert!(found.as_response().is_none(), "a `Pass` entry is found as one");
}

/// [`Store::begin`] looks once more, so that a fill that came too late forwards nothing.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_fill_finds_what_another_has_stored<St: Store>(store: &St) {
    let place = Place("a", "/1");
    place.fill(store, "one").await;
    let Begin::Found(found) = store.begin(&place.slot(), store.token(), None).await else {
        panic!("`begin` finds a fresh entry");
    };
    assert_eq!(text(&found).as_deref(), Some("one"), "`begin` finds the slot's own entry");
    Place("a", "/2").granted(store).await;
}

/// What a request has seen and does not want, it is not given again: the fill goes on.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_fill_does_not_find_what_its_request_has_seen<St: Store>(store: &St) {
    let place = Place("a", "/1");
    place.fill(store, "one").await;
    let seen = place.entry(store).await.expect("a stored entry is found");
    let begun = timeout(PATIENCE, store.begin(&place.slot(), store.token(), Some(&seen))).await;
    assert!(matches!(begun, Ok(Begin::Granted(_))), "`begin` does not find what was seen before");
}

/// An entry that is no longer fresh does not keep a fill from beginning, nor from replacing it.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_stale_entry_is_replaced<St: Store>(store: &St) {
    let place = Place("a", "/1");
    let fence = store.sequence().begin();
    let lease = place.granted(store).await;
    let stale = Response { lifetime: Duration::ZERO, ..Response::new("stale") };
    store.commit(lease, place.response(fence, stale), None).await;
    assert!(
        place.entry(store).await.is_none_or(|entry| !entry.is_fresh()),
        "an entry is no fresher when it is found than when it was stored",
    );
    place.fill(store, "fresh").await;
    assert_eq!(place.find(store).await.as_deref(), Some("fresh"), "a stale entry is replaced");
}

/// Of two responses for one slot, the one that was asked of the origin later stays, whichever is
/// committed last. A store whose rights to fill exclude each other holds this by that.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn an_older_response_does_not_replace_a_newer_one<St: Store>(store: &St) {
    for is_older_first in [true, false] {
        let place = Place("a", if is_older_first { "/1" } else { "/2" });
        let (older, newer) = (Response::new("older"), Response::new("newer"));
        let older = Response { requested: older.requested, ..older };
        let newer = Response { requested: older.requested + Duration::from_millis(1), ..newer };
        let fence = store.sequence().begin();
        let first = place.granted(store).await;
        let Ok(Begin::Granted(second)) =
            timeout(PATIENCE, store.begin(&place.slot(), store.token(), None)).await
        else {
            continue;
        };
        if is_older_first {
            store.commit(first, place.response(fence, older), None).await;
            store.commit(second, place.response(fence, newer), None).await;
        } else {
            store.commit(first, place.response(fence, newer), None).await;
            let commit = store.commit(second, place.response(fence, older), None).await;
            assert_ne!(commit, Commit::Stored, "an older response does not replace a newer one");
        }
        let found = place.find(store).await;
        assert_eq!(found.as_deref(), Some("newer"), "the newer of two responses stays");
    }
}

/// A lease that is dropped or released, and a call of `begin` that is dropped, block nobody.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_right_given_back_is_granted_again<St: Store>(store: &St) {
    let place = Place("a", "/1");
    drop(place.granted(store).await);
    store.release(place.granted(store).await);
    drop(store.begin(&place.slot(), store.token(), None));
    drop(place.granted(store).await);
    place.fill(store, "one").await;
    assert_eq!(place.find(store).await.as_deref(), Some("one"), "a later fill is stored");
}

/// An invalidation removes every variant of its key and nothing of any other, and what is filled
/// afterwards is stored.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn an_invalidation_removes_all_variants_of_its_key<St: Store>(store: &St) {
    let variants = ["/1", "/2", "/3"].map(|target| Place("a", target));
    let neighbours = [Place("a:b", "/1a"), Place("b", "/1b"), Place("A", "/1A")];
    for place in variants.iter().chain(&neighbours) {
        place.fill(store, "one").await;
    }
    for round in 0..2 {
        let acknowledged = store.invalidate(&PrimaryKey::new("a")).await;
        assert!(acknowledged.is_ok(), "an invalidation is acknowledged");
        for place in &variants {
            let found = place.find(store).await;
            assert_eq!(found, None, "an invalidation removes every variant of its key");
            place.fill(store, "again").await;
            let found = place.find(store).await;
            assert_eq!(found.as_deref(), Some("again"), "round {round}: a later fill is stored");
        }
        for place in &neighbours {
            let found = place.find(store).await;
            assert_eq!(found.as_deref(), Some("one"), "an invalidation removes no other key");
        }
    }
}

/// A fill whose fence was taken before an invalidation stores nothing, wherever in its life the
/// invalidation comes; and the fills of other keys are stored.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn an_invalidation_voids_fills_in_flight<St: Store>(store: &St) {
    let place = Place("a", "/1");
    let fence = store.sequence().begin();
    let lease = place.granted(store).await;
    let _ = store.invalidate(&PrimaryKey::new("a")).await;
    place.refused(store, lease, fence).await;

    let fence = store.sequence().begin();
    let _ = store.invalidate(&PrimaryKey::new("a")).await;
    if let Begin::Granted(lease) = store.begin(&place.slot(), store.token(), None).await {
        place.refused(store, lease, fence).await;
    }

    // One key may share another's fence by chance; not all of these do.
    let mut stored = 0;
    for (key, other) in [("c", "d"), ("e", "f"), ("g", "h"), ("i", "j"), ("k", "l"), ("m", "n")] {
        let place = Place(key, key);
        let fence = store.sequence().begin();
        let lease = place.granted(store).await;
        let _ = store.invalidate(&PrimaryKey::new(other)).await;
        let commit = store.commit(lease, place.response(fence, Response::new("one")), None).await;
        stored += usize::from(commit == Commit::Stored);
    }
    assert!(stored > 0, "an invalidation does not void the fills of other keys");
}

/// What [`Store::invalidate`] and [`Store::invalidate_all`] do in this process they have done when
/// they return their futures; dropping those loses nothing.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn an_invalidation_is_in_force_before_it_is_polled<St: Store>(store: &St) {
    for is_for_all in [false, true] {
        let (filled, filling) = (Place("a", "/1"), Place("a", "/2"));
        filled.fill(store, "one").await;
        let fence = store.sequence().begin();
        let lease = filling.granted(store).await;
        let key = PrimaryKey::new("a");
        if is_for_all {
            drop(store.invalidate_all());
        } else {
            drop(store.invalidate(&key));
        }
        let rule = "an invalidation is in force when it is called, not when it is polled";
        assert!(store.peek(&filled.variant().borrowed()).is_none(), "{rule}: memory");
        assert!(!store.sequence().is_current(&key, fence), "{rule}: fence");
        assert_eq!(filled.find(store).await, None, "{rule}: store");
        filling.refused(store, lease, fence).await;
    }
}

/// An invalidation of everything removes all entries and voids all fills; what is filled afterwards
/// is stored.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn an_invalidation_of_everything_leaves_nothing<St: Store>(store: &St) {
    let filled = [Place("a", "/1"), Place("a", "/2"), Place("b", "/3")];
    for place in &filled {
        place.fill(store, "one").await;
    }
    let filling = Place("c", "/4");
    let fence = store.sequence().begin();
    let lease = filling.granted(store).await;
    assert!(store.invalidate_all().await.is_ok(), "an invalidation is acknowledged");
    for place in &filled {
        let found = place.find(store).await;
        assert_eq!(found, None, "an invalidation of everything removes everything");
    }
    filling.refused(store, lease, fence).await;
    for place in &filled {
        place.fill(store, "again").await;
        assert_eq!(place.find(store).await.as_deref(), Some("again"), "a later fill is stored");
    }
}

/// An entry and the note of how it is found are stored in one step, and fall together. A note
/// answers no request.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn a_note_is_stored_with_its_entry<St: Store>(store: &St) {
    let (base, place) = (Place("a", "/base"), Place("a", "/1"));
    let is_noted = async || base.entry(store).await.is_some_and(|note| !note.is_answer());
    for is_overtaken in [true, false] {
        let fence = store.sequence().begin();
        let lease = place.granted(store).await;
        if is_overtaken {
            let _ = store.invalidate(&PrimaryKey::new("a")).await;
        }
        let note = Some(base.note(fence));
        store.commit(lease, place.response(fence, Response::new("one")), note).await;
        assert_eq!(is_noted().await, !is_overtaken, "a note is stored if its entry is");
    }
    assert_eq!(place.find(store).await.as_deref(), Some("one"), "an entry with a note is stored");
    drop(base.granted(store).await);
    let _ = store.invalidate(&PrimaryKey::new("a")).await;
    assert!(!is_noted().await, "an invalidation removes the notes of its key");
}

/// What was held in this process and then replaced or removed is no longer held: entries and bytes
/// in the metrics return to zero.
///
/// # Panics
///
/// If the store does not hold this.
pub async fn what_is_removed_is_let_go<St: Store>(store: &St) {
    let gauge = Arc::<MemoryGauge>::default();
    for (key, target) in [("a", "/1"), ("a", "/2"), ("b", "/3")] {
        for lifetime in [Duration::ZERO, LIFETIME] {
            let place = Place(key, target);
            let fence = store.sequence().begin();
            let lease = place.granted(store).await;
            let gauge = Arc::clone(&gauge);
            let response = Response { lifetime, gauge, ..Response::new("one") };
            store.commit(lease, place.response(fence, response), None).await;
        }
    }
    let held = gauge.entries();
    assert!(held <= 3, "what is replaced is let go: {held} entries held for 3 slots");
    let _ = store.invalidate(&PrimaryKey::new("a")).await;
    let _ = store.invalidate_all().await;
    let held = (gauge.entries(), gauge.bytes());
    assert_eq!(held, (0, 0), "what is removed is let go: entries and bytes still held");
}

/// A slot, named by its key and its target. As in the layer, a target has one key.
struct Place(&'static str, &'static str);

/// A response to store.
struct Response<'a> {
    body: &'a str,
    requested: crate::clock::Instant,
    lifetime: Duration,
    gauge: Arc<MemoryGauge>,
    tags: Tags,
}

impl<'a> Response<'a> {
    fn new(body: &'a str) -> Self {
        let (gauge, tags) = (Arc::default(), Tags::none());
        Self { body, requested: now(), lifetime: LIFETIME, gauge, tags }
    }
}

impl Place {
    fn variant(&self) -> Variant {
        let parts = VariantParts {
            scope: &[0; 16],
            scheme: b"https",
            authority: b"conformance.example",
            host: b"",
            target: self.1.as_bytes(),
            extras: b"",
            nominated: b"",
        };
        parts.to_variant()
    }

    fn slot(&self) -> Slot {
        let (key, variant) = (PrimaryKey::new(self.0), self.variant());
        Slot { key, variant, tags: Tags::none() }
    }

    fn response(&self, fence: Fence, response: Response<'_>) -> Arc<Entry> {
        let Response { body, requested, lifetime, gauge, tags } = response;
        let (origin, ()) = http::Response::new(()).into_parts();
        let head = Head::new(&origin, Timing { requested, received: now(), lifetime });
        let body = Bytes::copy_from_slice(body.as_bytes());
        let slot = Slot { tags, ..self.slot() };
        let provenance = Provenance { slot, fence, requested, gauge };
        Arc::new(Entry::response(provenance, head, body))
    }

    fn note(&self, fence: Fence) -> Arc<Entry> {
        let provenance =
            Provenance { slot: self.slot(), fence, requested: now(), gauge: Arc::default() };
        let nominated = Nominated::new(vec![http::header::ACCEPT_LANGUAGE]);
        Arc::new(Entry::nominated(provenance, nominated, now() + LIFETIME))
    }

    /// Returns what the layer would find: in this process, and then further away.
    async fn entry<St: Store>(&self, store: &St) -> Option<Arc<Entry>> {
        if let Some(entry) = store.peek(&self.variant().borrowed()) {
            return Some(entry);
        }
        match store.lookup(&self.slot()).await {
            Lookup::Found(entry) => Some(entry),
            Lookup::Absent | Lookup::Held(_) | Lookup::Unavailable => None,
        }
    }

    /// Returns the body of what the layer would find.
    async fn find<St: Store>(&self, store: &St) -> Option<String> {
        text(&*self.entry(store).await?)
    }

    async fn granted<St: Store>(&self, store: &St) -> St::Lease {
        Self::granted_at(store, &self.slot()).await
    }

    async fn granted_at<St: Store>(store: &St, slot: &Slot) -> St::Lease {
        let deadline = now() + PATIENCE;
        loop {
            match timeout_at(deadline, store.begin(slot, store.token(), None)).await {
                Ok(Begin::Granted(lease)) => return lease,
                Ok(Begin::Found(_)) => {
                    panic!("`begin` finds nothing where nothing fresh is stored")
                }
                // What was given back or invalidated without waiting may still be on its way.
                Ok(Begin::Held(_) | Begin::Unavailable) if now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(Begin::Held(_)) | Err(_) => {
                    panic!("the right to fill is granted: nobody else has it")
                }
                Ok(Begin::Unavailable) => {
                    panic!("the right to fill is granted: the store is there")
                }
            }
        }
    }

    async fn fill<St: Store>(&self, store: &St, body: &str) {
        let fence = store.sequence().begin();
        let lease = self.granted(store).await;
        let commit = store.commit(lease, self.response(fence, Response::new(body)), None).await;
        assert_eq!(commit, Commit::Stored, "a fill that nothing overtook is stored");
    }

    async fn refused<St: Store>(&self, store: &St, lease: St::Lease, fence: Fence) {
        let response = self.response(fence, Response::new("overtaken"));
        let commit = store.commit(lease, response, None).await;
        assert_eq!(commit, Commit::Fenced, "a fill that an invalidation overtook is fenced");
        assert_eq!(self.find(store).await, None, "a fill that is fenced stores nothing");
    }
}

fn text(entry: &Entry) -> Option<String> {
    let (_, body) = entry.as_response()?;
    Some(String::from_utf8_lossy(body).into_owned())
}
