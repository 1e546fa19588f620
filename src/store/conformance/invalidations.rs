//! Invalidations by key, and of everything.

use std::{sync::Arc, time::Duration};

use super::sample::{LIFETIME, Response, Sample};
use crate::{
    entry::MemoryGauge,
    store::{Begin, Commit, PrimaryKey, Slot, Store, Strength, Tag},
};

/// Number of reads after which a store may remember an entry.
const READS: usize = 3;

/// Checks that an invalidation removes every variant of a key and nothing of any other, and that later
/// fills are stored.
pub(super) async fn an_invalidation_removes_all_variants_of_its_key<St: Store>(store: &St) {
    let variants = ["/1", "/2", "/3"].map(|target| Sample("a", target));
    let neighbours = [Sample("a:b", "/1a"), Sample("b", "/1b"), Sample("A", "/1A")];
    for sample in variants.iter().chain(&neighbours) {
        sample.fill(store, "one").await;
    }
    for round in 0..2 {
        let acknowledged = store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await;
        assert!(acknowledged.is_ok(), "an invalidation is acknowledged");
        for sample in &variants {
            let found = sample.find(store).await;
            assert_eq!(found, None, "an invalidation removes every variant of its key");
            sample.fill(store, "again").await;
            let found = sample.find(store).await;
            assert_eq!(found.as_deref(), Some("again"), "round {round}: a later fill is stored");
        }
        for sample in &neighbours {
            let found = sample.find(store).await;
            assert_eq!(found.as_deref(), Some("one"), "an invalidation removes no other key");
        }
    }
}

/// Checks that a store tells the fills of a slot of an invalidation of its key and of its tags.
pub(super) async fn an_invalidation_is_told_to_the_fills_that_follow<St: Store>(store: &St) {
    store.sequence().recent().remember_for(LIFETIME);
    let tags = [Tag::new("t")].into_iter().collect();
    let slot = Slot { tags, ..Sample("a", "/1").slot() };
    let is_told = async || store.since_invalidation(&slot).await.is_some_and(|ago| ago < LIFETIME);
    for other in [PrimaryKey::new("b").into(), Tag::new("u").into()] {
        let _ = store.invalidate(&other, Strength::Hard).await;
    }
    assert!(!is_told().await, "a fill is told of no invalidation of anything else");
    let subjects = [PrimaryKey::new("a").into(), Tag::new("t").into()];
    for subject in subjects {
        let _ = store.invalidate(&subject, Strength::Hard).await;
        assert!(is_told().await, "a fill is told of an invalidation of {subject:?}");
    }
}

/// Checks that a fill whose fence was taken before an invalidation stores nothing, whenever in its life
/// the invalidation comes. Fills of other keys are stored.
pub(super) async fn an_invalidation_voids_fills_in_flight<St: Store>(store: &St) {
    let sample = Sample("a", "/1");
    let fence = store.sequence().begin();
    let lease = sample.granted(store).await;
    let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await;
    sample.refused(store, lease, fence).await;

    let fence = store.sequence().begin();
    let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await;
    if let Begin::Granted(lease) = store.begin(&sample.slot(), store.token(), None).await {
        sample.refused(store, lease, fence).await;
    }

    // One key may share another's fence by chance; not all of these do.
    let mut stored = 0;
    for (key, other) in [("c", "d"), ("e", "f"), ("g", "h"), ("i", "j"), ("k", "l"), ("m", "n")] {
        let sample = Sample(key, key);
        let fence = store.sequence().begin();
        let lease = sample.granted(store).await;
        let _ = store.invalidate(&PrimaryKey::new(other).into(), Strength::Hard).await;
        let commit = store.commit(lease, sample.response(fence, Response::new("one")), None).await;
        stored += usize::from(commit == Commit::Stored);
    }
    assert!(stored > 0, "an invalidation does not void the fills of other keys");
}

/// Checks that [`Store::invalidate`] and [`Store::invalidate_all`] act in this process when they are
/// called, and that dropping their futures loses nothing.
pub(super) async fn an_invalidation_is_in_force_before_it_is_polled<St: Store>(store: &St) {
    for is_for_all in [false, true] {
        let (filled, filling) = (Sample("a", "/1"), Sample("a", "/2"));
        filled.fill(store, "one").await;
        let fence = store.sequence().begin();
        let lease = filling.granted(store).await;
        let key = PrimaryKey::new("a");
        if is_for_all {
            drop(store.invalidate_all());
        } else {
            drop(store.invalidate(&key.clone().into(), Strength::Hard));
        }
        let rule = "an invalidation is in force when it is called, not when it is polled";
        assert!(store.peek(&filled.variant().borrowed()).is_none(), "{rule}: memory");
        assert!(!store.sequence().is_current(&key, fence), "{rule}: fence");
        assert_eq!(filled.find(store).await, None, "{rule}: store");
        filling.refused(store, lease, fence).await;
    }
}

/// Checks that an invalidation of everything removes all entries and voids all fills, and that later fills
/// are stored.
pub(super) async fn an_invalidation_of_everything_leaves_nothing<St: Store>(store: &St) {
    let filled = [Sample("a", "/1"), Sample("a", "/2"), Sample("b", "/3")];
    for sample in &filled {
        sample.fill(store, "one").await;
    }
    let filling = Sample("c", "/4");
    let fence = store.sequence().begin();
    let lease = filling.granted(store).await;
    assert!(store.invalidate_all().await.is_ok(), "an invalidation is acknowledged");
    for sample in &filled {
        let found = sample.find(store).await;
        assert_eq!(found, None, "an invalidation of everything removes everything");
    }
    filling.refused(store, lease, fence).await;
    for sample in &filled {
        sample.fill(store, "again").await;
        assert_eq!(sample.find(store).await.as_deref(), Some("again"), "a later fill is stored");
    }
}

/// Checks that entries that are replaced or removed are released: entries and bytes in the metrics return
/// to zero.
pub(super) async fn a_removed_entry_is_released<St: Store>(store: &St) {
    let gauge = Arc::<MemoryGauge>::default();
    for (key, target) in [("a", "/1"), ("a", "/2"), ("b", "/3")] {
        for lifetime in [Duration::ZERO, LIFETIME] {
            let sample = Sample(key, target);
            let fence = store.sequence().begin();
            let lease = sample.granted(store).await;
            let gauge = Arc::clone(&gauge);
            let response = Response { lifetime, gauge, ..Response::new("one") };
            store.commit(lease, sample.response(fence, response), None).await;
        }
    }
    let held = gauge.entries();
    assert!(held <= 3, "a replaced entry is released: {held} entries held for 3 slots");
    let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await;
    let _ = store.invalidate_all().await;
    let held = (gauge.entries(), gauge.bytes());
    assert_eq!(held, (0, 0), "a removed entry is released: entries and bytes still held");
}

/// Checks that [`Store::soft_invalidate`] leaves nothing of the key fresh and voids fills that had begun.
/// Entries that may be used stale stay until an invalidation.
pub(super) async fn a_soft_invalidation_leaves_nothing_fresh<St: Store>(store: &St) {
    let (sample, filling, other) = (Sample("a", "/1"), Sample("a", "/2"), Sample("b", "/3"));
    sample.fill(store, "one").await;
    other.fill(store, "one").await;
    let fence = store.sequence().begin();
    let lease = filling.granted(store).await;
    let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Soft).await;
    let is_fresh = async |sample: &Sample| sample.entry(store).await.is_some_and(|e| e.is_fresh());
    assert!(!is_fresh(&sample).await, "a soft invalidation leaves nothing fresh");
    assert!(is_fresh(&other).await, "a soft invalidation is of one key");
    filling.refused(store, lease, fence).await;
    sample.fill(store, "two").await;
    assert!(is_fresh(&sample).await, "what is stored after a soft invalidation is fresh");
    let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Soft).await;
    let _ = store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await;
    assert!(sample.entry(store).await.is_none(), "an invalidation leaves nothing, stale or not");
}

/// Checks that a response that was read often is found only while the store has it.
pub(super) async fn a_response_that_was_read_often_is_found_only_while_it_is_there<St: Store>(
    store: &St,
) {
    let (sample, key) = (Sample("a", "/1"), PrimaryKey::new("a"));
    for is_for_all in [false, true] {
        sample.fill(store, "one").await;
        for _ in 0..READS {
            assert_eq!(sample.find(store).await.as_deref(), Some("one"), "a stored entry is found");
        }
        let found = async || sample.find(store).await;
        let rule = "a response that was read often is found while it is there, and no longer";
        assert_eq!(found().await.as_deref(), Some("one"), "{rule}");
        let removed = match is_for_all {
            true => store.invalidate_all().await,
            false => store.invalidate(&key.clone().into(), Strength::Hard).await,
        };
        assert!(removed.is_ok(), "an invalidation is acknowledged");
        assert_eq!(found().await, None, "{rule}");
        sample.fill(store, "two").await;
        assert_eq!(found().await.as_deref(), Some("two"), "{rule}");
        assert!(
            store.invalidate(&key.clone().into(), Strength::Hard).await.is_ok(),
            "an invalidation is acknowledged"
        );
    }
}
