//! Entries after an invalidation of a tag.

use std::sync::Arc;

use tokio::task::yield_now;

use super::sample::{PATIENCE, Response, Sample, text};
use crate::{
    clock::now,
    entry::Entry,
    fence::Fence,
    key::{Slot, Tag, Tags},
    store::{Commit, Lookup, PrimaryKey, Store, Strength},
};

/// Slot with tags that its request shows, and others that only its response shows.
pub(super) struct Tagged {
    pub(super) sample: Sample,
    pub(super) known: &'static [&'static str],
    pub(super) named: &'static [&'static str],
}

impl Tagged {
    pub(super) fn slot(&self) -> Slot {
        Slot { tags: self.known.iter().map(Tag::new).collect(), ..self.sample.slot() }
    }

    fn tags(&self) -> Tags {
        self.slot().tags.with(self.named.iter().map(Tag::new))
    }

    pub(super) async fn commit<St: Store>(
        &self,
        store: &St,
        lease: St::Lease,
        fence: Fence,
        body: &str,
    ) -> Commit {
        let response = Response { tags: self.tags(), ..Response::new(body) };
        store.commit(lease, self.sample.response(fence, response), None).await
    }

    /// Stores a response. A store may have to read the version of a tag first that only the response
    /// shows.
    async fn fill<St: Store>(&self, store: &St, body: &str) {
        let deadline = now() + PATIENCE;
        loop {
            let fence = store.sequence().begin();
            let lease = Sample::granted_at(store, &self.slot()).await;
            match self.commit(store, lease, fence, body).await {
                Commit::Stored => return,
                Commit::Fenced if !self.named.is_empty() && now() < deadline => yield_now().await,
                commit => panic!("a fill that nothing overtook is stored, and not {commit:?}"),
            }
        }
    }

    pub(super) async fn find<St: Store>(&self, store: &St) -> Option<String> {
        text(&*self.entry(store).await?)
    }

    async fn entry<St: Store>(&self, store: &St) -> Option<Arc<Entry>> {
        if let Some(entry) = store.peek(&self.sample.variant().borrowed()) {
            return Some(entry);
        }
        match store.lookup(&self.slot()).await {
            Lookup::Found(entry) => Some(entry),
            Lookup::Absent | Lookup::Held(_) | Lookup::Unavailable => None,
        }
    }
}

/// Checks that an invalidation of a tag removes everything that has it, under whatever key, when it is
/// called. Later fills are stored.
pub(super) async fn an_invalidation_of_a_tag_removes_what_has_it<St: Store>(store: &St) {
    let all = [
        Tagged { sample: Sample("a", "/1"), known: &["t"], named: &[] },
        Tagged { sample: Sample("a", "/2"), known: &["u", "t"], named: &[] },
        Tagged { sample: Sample("b", "/3"), known: &[], named: &["t"] },
        Tagged { sample: Sample("c", "/4"), known: &["u"], named: &["v", "t"] },
    ];
    for is_awaited in [true, false] {
        for tagged in &all {
            tagged.fill(store, "one").await;
            let found = tagged.find(store).await;
            assert_eq!(found.as_deref(), Some("one"), "an entry with tags is found");
        }
        let tag = Tag::new("t");
        let before = store.sequence().begin();
        let rule = "an invalidation of a tag removes all that has it";
        if is_awaited {
            assert!(
                store.invalidate(&tag.clone().into(), Strength::Hard).await.is_ok(),
                "an invalidation is acknowledged"
            );
        } else {
            drop(store.invalidate(&tag.clone().into(), Strength::Hard));
        }
        for tagged in &all {
            let slot = Slot { tags: tagged.tags(), ..tagged.slot() };
            assert!(!store.sequence().is_slot_current(&slot, before), "{rule}: fence");
            assert!(store.peek(&tagged.sample.variant().borrowed()).is_none(), "{rule}: memory");
            assert_eq!(tagged.find(store).await, None, "{rule}: store");
        }
    }
    // Neither does one of the key bring back what a tag has removed, nor the reverse.
    for key in ["a", "b", "c"] {
        let _ = store.invalidate(&PrimaryKey::new(key).into(), Strength::Soft).await;
    }
    for tagged in &all {
        assert_eq!(tagged.find(store).await, None, "what a tag has removed does not come back");
    }
}

/// Checks that a fill whose fence was taken before an invalidation of one of its tags stores nothing. The
/// request or only the response shows the tag.
pub(super) async fn an_invalidation_of_a_tag_voids_fills_in_flight<St: Store>(store: &St) {
    for tagged in [
        Tagged { sample: Sample("a", "/1"), known: &["t"], named: &[] },
        Tagged { sample: Sample("b", "/2"), known: &["u"], named: &["t"] },
    ] {
        // The store has seen these tags before.
        tagged.fill(store, "one").await;
        let _ = store.invalidate(&PrimaryKey::new(tagged.sample.0).into(), Strength::Hard).await;
        let fence = store.sequence().begin();
        let lease = Sample::granted_at(store, &tagged.slot()).await;
        let _ = store.invalidate(&Tag::new("t").into(), Strength::Hard).await;
        let commit = tagged.commit(store, lease, fence, "overtaken").await;
        assert_eq!(
            commit,
            Commit::Fenced,
            "a fill that an invalidation of a tag overtook is fenced"
        );
        assert_eq!(tagged.find(store).await, None, "a fill that is fenced stores nothing");
        tagged.fill(store, "two").await;
        assert_eq!(tagged.find(store).await.as_deref(), Some("two"), "a later fill is stored");
    }
}

/// Checks that a soft invalidation of a tag leaves nothing fresh that has it, voids fills that had begun, and
/// that an invalidation of it leaves nothing afterwards.
pub(super) async fn a_soft_invalidation_of_a_tag_leaves_nothing_fresh<St: Store>(store: &St) {
    let tagged = [
        Tagged { sample: Sample("a", "/1"), known: &["t"], named: &[] },
        Tagged { sample: Sample("b", "/2"), known: &["u"], named: &["t"] },
    ];
    let other = Tagged { sample: Sample("c", "/3"), known: &["u"], named: &[] };
    other.fill(store, "one").await;
    let tag = Tag::new("t").into();
    let is_fresh = async |of: &Tagged| of.entry(store).await.is_some_and(|entry| entry.is_fresh());
    for tagged in &tagged {
        tagged.fill(store, "one").await;
        assert!(is_fresh(tagged).await, "what is stored is fresh");
        let _ = store.invalidate(&tag, Strength::Soft).await;
        assert!(!is_fresh(tagged).await, "a soft invalidation of a tag leaves nothing fresh");
        assert!(is_fresh(&other).await, "a soft invalidation of a tag is of that one");
        let fence = store.sequence().begin();
        let lease = Sample::granted_at(store, &tagged.slot()).await;
        let _ = store.invalidate(&tag, Strength::Soft).await;
        let commit = tagged.commit(store, lease, fence, "overtaken").await;
        assert_eq!(commit, Commit::Fenced, "a fill that a soft invalidation overtook is fenced");
        tagged.fill(store, "two").await;
        assert!(is_fresh(tagged).await, "what is stored after a soft invalidation is fresh");
        let _ = store.invalidate(&tag, Strength::Soft).await;
        let _ = store.invalidate(&tag, Strength::Hard).await;
        let _ = store.invalidate(&tag, Strength::Soft).await;
        assert!(tagged.entry(store).await.is_none(), "an invalidation leaves nothing");
    }
}
