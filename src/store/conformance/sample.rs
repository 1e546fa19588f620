//! Sample slots, and responses to store for them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    clock::{now, timeout_at},
    entry::{Entry, Head, MemoryGauge, Provenance, Timing},
    fence::Fence,
    key::{Nominated, PrimaryKey, Slot, Tags, Variant, VariantParts},
    store::{Begin, Commit, Lookup, Store},
};

/// Time in which a store must grant the right to fill.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Lifetime of the responses that are stored.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);

/// Sample slot, named by its key and its target. As in the layer, a target has one key.
pub(super) struct Sample(pub(super) &'static str, pub(super) &'static str);

/// Response to store.
pub(super) struct Response<'a> {
    pub(super) body: &'a str,
    pub(super) requested: crate::clock::Instant,
    pub(super) lifetime: Duration,
    pub(super) gauge: Arc<MemoryGauge>,
    pub(super) tags: Tags,
}

impl<'a> Response<'a> {
    pub(super) fn new(body: &'a str) -> Self {
        let (gauge, tags) = (Arc::default(), Tags::none());
        Self { body, requested: now(), lifetime: LIFETIME, gauge, tags }
    }
}

impl Sample {
    pub(super) fn variant(&self) -> Variant {
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

    pub(super) fn slot(&self) -> Slot {
        let (key, variant) = (PrimaryKey::new(self.0), self.variant());
        Slot { key, variant, tags: Tags::none() }
    }

    pub(super) fn response(&self, fence: Fence, response: Response<'_>) -> Arc<Entry> {
        let Response { body, requested, lifetime, gauge, tags } = response;
        let (origin, ()) = http::Response::new(()).into_parts();
        let head = Head::new(&origin, Timing { requested, received: now(), lifetime });
        let body = Bytes::copy_from_slice(body.as_bytes());
        let slot = Slot { tags, ..self.slot() };
        let provenance = Provenance { slot, fence, requested, gauge };
        Arc::new(Entry::response(provenance, head, body))
    }

    pub(super) fn note(&self, fence: Fence) -> Arc<Entry> {
        let provenance =
            Provenance { slot: self.slot(), fence, requested: now(), gauge: Arc::default() };
        let nominated = Nominated::new(vec![http::header::ACCEPT_LANGUAGE]);
        Arc::new(Entry::nominated(provenance, nominated, now() + LIFETIME))
    }

    /// Returns the entry that the layer would find: in this process, or else further away.
    pub(super) async fn entry<St: Store>(&self, store: &St) -> Option<Arc<Entry>> {
        if let Some(entry) = store.peek(&self.variant().borrowed()) {
            return Some(entry);
        }
        match store.lookup(&self.slot()).await {
            Lookup::Found(entry) => Some(entry),
            Lookup::Absent | Lookup::Held(_) | Lookup::Unavailable => None,
        }
    }

    /// Returns the body of the response that the layer would find.
    pub(super) async fn find<St: Store>(&self, store: &St) -> Option<String> {
        text(&*self.entry(store).await?)
    }

    pub(super) async fn granted<St: Store>(&self, store: &St) -> St::Lease {
        Self::granted_at(store, &self.slot()).await
    }

    pub(super) async fn granted_at<St: Store>(store: &St, slot: &Slot) -> St::Lease {
        let deadline = now() + PATIENCE;
        loop {
            match timeout_at(deadline, store.begin(slot, store.token(), None)).await {
                Ok(Begin::Granted(lease)) => return lease,
                Ok(Begin::Found(_)) => {
                    panic!("`begin` finds nothing where nothing fresh is stored")
                }
                // The release of an earlier right, or an invalidation, may still be on its way.
                Ok(Begin::Held(_) | Begin::Unavailable) if now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(Begin::Held(_) | Begin::Unsettled) | Err(_) => {
                    panic!("the right to fill is granted: nobody else has it")
                }
                Ok(Begin::Unavailable) => {
                    panic!("the right to fill is granted: the store is there")
                }
            }
        }
    }

    pub(super) async fn fill<St: Store>(&self, store: &St, body: &str) {
        let fence = store.sequence().begin();
        let lease = self.granted(store).await;
        let commit = store.commit(lease, self.response(fence, Response::new(body)), None).await;
        assert_eq!(commit, Commit::Stored, "a fill that nothing overtook is stored");
    }

    pub(super) async fn refused<St: Store>(&self, store: &St, lease: St::Lease, fence: Fence) {
        let response = self.response(fence, Response::new("overtaken"));
        let commit = store.commit(lease, response, None).await;
        assert_eq!(commit, Commit::Fenced, "a fill that an invalidation overtook is fenced");
        assert_eq!(self.find(store).await, None, "a fill that is fenced stores nothing");
    }
}

pub(super) fn text(entry: &Entry) -> Option<String> {
    let (_, body) = entry.as_response()?;
    Some(String::from_utf8_lossy(body).into_owned())
}
