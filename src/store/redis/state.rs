//! State that all clones of a store share, and what the requests for a slot have in common.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::PushInfo;
use tokio::sync::Notify;

use super::{
    link::{Connection, Dependents, Endpoint, Link, LinkFault, count},
    near::{Basis, Near},
    outbox::Outbox,
    record::{AHEAD, Record, Standing, StoredContent, VariantDigest, decode, digest},
    settings::RedisSettings,
    tag_versions::{self, TagVersions},
};
use crate::{
    clock::{self, Instant, now},
    entry::{Content, Entry, Head, MemoryGauge, Proofs, Provenance, SourceRecord},
    fence::{Fence, InvalidatedExtent, RecentInvalidations, Sequence},
    key::{Slot, Subject, Tag, Tags},
    metrics::telemetry,
};

/// Milliseconds by which the clocks here and at the server may have come apart since a copy was made,
/// whose times are instants here. A heartbeat measures them less exactly than it takes.
const DRIFT: u64 = 50;

/// State that all clones of a store share.
pub(super) struct StoreState {
    pub(super) link: Arc<Link>,
    pub(super) near: Arc<Near>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) sequence: Sequence,
    gauge: Arc<MemoryGauge>,
    has_warned: AtomicBool,
}

/// Parts of a store that follow its link.
struct Followers {
    near: Arc<Near>,
    outbox: Arc<Outbox>,
    recent: Arc<RecentInvalidations>,
    /// Incarnation of the server that was linked last; zero at first.
    incarnation: AtomicU64,
}

/// Request for a slot, and the fences that were taken before it.
pub(super) struct SlotQuery<'a> {
    pub(super) slot: &'a Slot,
    pub(super) connection: Arc<Connection>,
    pub(super) epoch: u64,
    pub(super) fence: Fence,
    near_fence: Fence,
    /// Proofs of the connections that the key is read over.
    proofs: Proofs,
    /// Number of replies before that have led elsewhere.
    redirects: u64,
    /// Set if nothing that is read is kept.
    pub(super) is_inspection: bool,
}

impl StoreState {
    pub(super) fn new(endpoint: Endpoint, settings: RedisSettings) -> Arc<Self> {
        let wake = Arc::<Notify>::default();
        let near = Arc::new(Near::new(&settings));
        let sequence = Sequence::new();
        let recent = Arc::clone(sequence.recent());
        let outbox = Arc::new(Outbox::new(Arc::clone(&wake), Arc::clone(&recent)));
        let followers = Followers {
            near: Arc::clone(&near),
            outbox: Arc::clone(&outbox),
            recent,
            incarnation: AtomicU64::new(0),
        };
        let link = Arc::new(Link::new(endpoint, settings, wake, followers));
        link.supervise();
        let (gauge, has_warned) = (Arc::default(), AtomicBool::new(false));
        Arc::new(Self { link, near, outbox, sequence, gauge, has_warned })
    }

    /// Prepares a request for a slot; `None` if the server may not be asked about it now.
    pub(super) fn query<'a>(&self, slot: &'a Slot) -> Option<SlotQuery<'a>> {
        // Before the epoch is read: entries of an epoch that ends meanwhile are not kept.
        let near_fence = self.near.fence();
        let fence = self.sequence.begin();
        let connection = self.link.connection()?;
        if connection.is_slow(self.link.settings.slow_lookups) || self.outbox.is_quarantined(slot) {
            return None;
        }
        let epoch = connection.epoch()?;
        let mut proofs = Proofs::from_elem(Arc::clone(&connection.proven), 1);
        let key = || self.link.settings.key(&slot.key);
        proofs.extend(connection.proof(key).ok()?);
        let (redirects, is_inspection) = (connection.redirects(), false);
        Some(SlotQuery {
            slot,
            connection,
            epoch,
            fence,
            near_fence,
            proofs,
            redirects,
            is_inspection,
        })
    }

    /// Reads the versions of tags; `None` if the reply may not be used.
    pub(super) async fn tag_versions(
        &self,
        query: &SlotQuery<'_>,
        tags: &[Tag],
    ) -> Option<TagVersions> {
        if tags.is_empty() {
            return Some(TagVersions::default());
        }
        // Asked first: an invalidation that is due now may be acknowledged before the reply is used, and
        // the reply may be from before it.
        if self.outbox.is_any_due(tags.iter().cloned().map(Subject::Tag)) {
            return None;
        }
        let versions = tag_versions::read(&self.link, &query.connection, tags).await.ok()?;
        query.proven_by(&versions.proofs, now(), &self.link).await?;
        Some(versions)
    }

    /// Decodes a record that was found for a slot.
    pub(super) fn decode(&self, slot: &Slot, record: &Bytes) -> Option<Record> {
        let settings = &self.link.settings;
        let decoded = decode(record, &settings.namespace, slot, &settings.form.seal);
        if decoded.is_none() {
            count(&self.link.counts.unreadable);
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                telemetry::record_unreadable();
            }
        }
        decoded
    }

    /// Creates the entry of a record, unless one of its tags is dead. `outdated` is the time since which the
    /// record is.
    pub(super) fn revive(
        &self,
        query: &SlotQuery<'_>,
        record: Record,
        versions: &TagVersions,
        outdated: Option<u64>,
    ) -> Option<Entry> {
        match versions.standing(&record.tags) {
            Standing::Dead => None,
            Standing::InForce => self.restore(query, record, outdated),
            Standing::Outdated { since } => {
                let since = outdated.map_or(since, |outdated| outdated.min(since));
                self.restore(query, record, Some(since))
            }
        }
    }

    /// Creates the entry of a record whose tags are alive. `outdated` is the time since which it is.
    pub(super) fn restore(
        &self,
        query: &SlotQuery<'_>,
        record: Record,
        outdated: Option<u64>,
    ) -> Option<Entry> {
        let SlotQuery { slot, connection, fence, .. } = query;
        // Another incarnation has lost later changes, invalidations included.
        if record.stamp.incarnation != connection.incarnation {
            return None;
        }
        let now = now();
        let latest = self.link.server_time(connection, now).saturating_add(AHEAD);
        if record.stamp.stored > latest || outdated.is_some_and(|since| since > latest) {
            return None;
        }
        // Not later than now, whatever the difference of two clocks is,
        let received = self.link.local_time(connection, record.stamp.stored)?.min(now);
        let mut until = self.link.local_time(connection, record.stamp.fresh_until)?;
        if let Some(since) = outdated {
            // and then never fresh.
            until = until.min(self.link.local_time(connection, since)?).min(now);
        }
        let content = match record.content {
            StoredContent::Response(head, body, coded) => {
                let head = Head::restored(head, received, until);
                Content::Response { head, body, coded }
            }
            StoredContent::Pass => Content::Pass,
            StoredContent::Nominated(nominated) => Content::Nominated(nominated),
        };
        let tags = match record.tags.is_empty() {
            true => Tags::none(),
            false => record.tags.into_iter().map(|versioned| versioned.tag).collect(),
        };
        let slot = Slot { key: slot.key.clone(), variant: slot.variant.clone(), tags };
        let gauge = Arc::clone(&self.gauge);
        let provenance = Provenance { slot, fence: *fence, requested: received, gauge };
        Some(Entry::new(provenance, content, until))
    }
}

impl Dependents for Followers {
    fn on_link(&self, incarnation: u64) {
        let before = self.incarnation.swap(incarnation, Ordering::SeqCst);
        if before != 0 && before != incarnation {
            // It may have lost the marks of invalidations.
            self.recent.note(|| InvalidatedExtent::All);
        }
    }

    fn on_push(&self, push: PushInfo) -> bool {
        self.near.on_push(push)
    }

    fn on_proof(&self, took: Duration) {
        self.near.note_lag(took);
    }

    fn on_new_epoch(&self) {
        self.recent.note(|| InvalidatedExtent::All);
        self.near.invalidate_all();
    }

    fn on_loss(&self) {
        self.near.on_silence();
    }

    fn deliver<'a>(
        &'a self,
        link: &'a Link,
        connection: &'a Arc<Connection>,
    ) -> Pin<Box<dyn Future<Output = Result<(), LinkFault>> + Send + 'a>> {
        Box::pin(self.outbox.deliver(link, connection))
    }
}

impl SlotQuery<'_> {
    /// Returns the query of one of which nothing is kept.
    pub(super) fn inspecting(self) -> Self {
        Self { is_inspection: true, ..self }
    }

    /// Returns the digest by which the server knows the slot's variant.
    pub(super) fn digest(&self) -> VariantDigest {
        digest(self.slot, self.epoch)
    }

    /// Returns the time at which a reply for the key that is here at `now` may be used; `None` if it may not.
    pub(super) async fn proven_at(&self, now: Instant, link: &Link) -> Option<Instant> {
        self.proven_by(&Proofs::new(), now, link).await
    }

    /// Does the same for a reply that came over other connections as well.
    ///
    /// That is at once while they are proven. A process that was too late for a heartbeat waits for one that is
    /// sent after the reply: if the epoch is the same then, it was when the server replied.
    async fn proven_by(&self, others: &Proofs, now: Instant, link: &Link) -> Option<Instant> {
        let proofs = || self.proofs.iter().chain(others);
        let are_ahead_at = |now| proofs().all(|proof| proof.is_ahead_at(now));
        if are_ahead_at(now) {
            return Some(now);
        }
        // Boxed: it is rare, and a lookup has no room for it.
        let until = Box::pin(link.next_proof(&self.connection)).await?;
        (self.connection.epoch() == Some(self.epoch) && are_ahead_at(until)).then(clock::now)
    }

    /// Returns the state on which a copy depends of what was read with these versions of its tags.
    pub(super) fn basis(&self, versions: &TagVersions) -> Basis {
        let mut basis = Basis { fence: self.near_fence, proofs: Proofs::new() };
        // A reply from elsewhere came over another connection than that of the proofs.
        if self.connection.is_tracked() && self.connection.redirects() == self.redirects {
            self.proofs.iter().chain(&versions.proofs).for_each(|proof| basis.depend_on(proof));
        }
        basis
    }

    /// Returns whether decoding a record again would give the same entry.
    pub(super) fn would_repeat(&self, source: &SourceRecord) -> bool {
        let drift = source.clock.abs_diff(self.connection.clock.load(Ordering::Relaxed));
        (source.epoch, source.incarnation) == (self.epoch, self.connection.incarnation)
            && drift <= DRIFT
    }
}
