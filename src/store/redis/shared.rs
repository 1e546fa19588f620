//! What all clones of a store share, and what they ask the server for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;

use super::{
    RedisLease,
    command::{Fault, LEASE, Leased, Looked, look, millis, token_text},
    connection::Connection,
    counts::count,
    digest,
    lease::Lease,
    link::Link,
    record::{Record, StoredContent, decode},
    stamps::{self, Granted, Stamps},
};
use crate::{
    clock::now,
    entry::{Content, Entry, Head, Provenance},
    gauge::Gauge,
    key::{Slot, Tags, Token},
    operations::Operation,
    sequence::{Fence, Sequence},
    store::{Begin, Lookup},
    telemetry,
};

pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    pub(super) sequence: Sequence,
    pub(super) gauge: Arc<Gauge>,
    pub(super) has_warned: AtomicBool,
}

impl Shared {
    /// Returns the connection that a slot may be asked for over, and the epoch there.
    fn usable(&self, slot: &Slot) -> Option<(Arc<Connection>, u64)> {
        let connection = self.link.connection()?;
        if connection.is_slow(self.link.settings.slow_lookups)
            || self.link.pending.is_quarantined(slot)
        {
            return None;
        }
        let epoch = connection.epoch()?;
        Some((connection, epoch))
    }

    /// Looks a slot up. While the fill `awaited` has its right, what is stale is not what is waited
    /// for.
    pub(super) async fn lookup(&self, slot: &Slot, awaited: Option<Token>) -> Option<Lookup> {
        // Before the epoch is read: what is read under an epoch that ends meanwhile is not kept.
        let near_fence = self.link.near.fence();
        let fence = self.sequence.begin();
        let (connection, epoch) = self.usable(slot)?;
        let look = look(&self.link.settings.key(&slot.key), &digest(slot, epoch));
        let mut wire = connection.wire();
        let asked = (Operation::Lookup, self.link.settings.lookup_budget);
        let answer = self.link.ask(&connection, asked, look.query_async(&mut wire)).await.ok()?;
        let Looked { generation, record, lease } = Looked::of(answer)?;
        let record = record.and_then(|record| self.decode(slot, &record));
        let stamps = self.stamps(slot, &connection, (record.as_ref(), lease.is_some())).await?;
        if !connection.proven.is_ahead() {
            return None;
        }
        let record = record.filter(|record| stamps.confirm(&record.tags));
        let found = record
            .and_then(|record| self.restore((slot, fence), &connection, (generation, record)));
        if let Some(entry) = found.as_ref().filter(|entry| entry.is_fresh()) {
            self.link.near.keep(entry, near_fence);
            return Some(Lookup::Found(Arc::clone(entry)));
        }
        let held = lease.filter(|lease| {
            lease.generation == generation
                && stamps.digest(&slot.tags).as_ref() == Some(&lease.stamps)
                && connection.is_of_its_time(lease.token)
                && lease.expiry > self.link.server_time(&connection, now())
        });
        let held = held.map(|lease| lease.token);
        let is_of_use = |entry: &Arc<Entry>| entry.kept_until() > now().max(entry.fresh_until());
        if let Some(stale) = found.filter(is_of_use)
            && (held.is_none() || held != awaited)
        {
            return Some(Lookup::Found(stale));
        }
        Some(held.map_or(Lookup::Absent, Lookup::Held))
    }

    pub(super) async fn begin(
        &self,
        slot: &Slot,
        token: Token,
        is_unwanted: bool,
    ) -> Option<Begin<RedisLease>> {
        let (connection, epoch) = self.usable(slot)?;
        if !connection.is_of_its_time(token) {
            return None;
        }
        let key = self.link.settings.key(&slot.key);
        let vk = digest(slot, epoch);
        let fence = self.sequence.begin();
        let known = self.link.stamps_for_a_fill(&connection, &slot.tags).await.ok()?;
        let stamps = stamps::digest(&known);
        for is_unwanted in [is_unwanted, true] {
            // Made before it is asked for: whatever the answer may be, or if there is none, it is
            // given back when it is dropped.
            let mut lease = Lease::new(&self.link, &connection, (&slot.key, &vk, epoch), token);
            let arguments = |call: &mut redis::Cmd| {
                call.arg(&vk).arg(token_text(token)).arg(millis(self.link.settings.lease));
                call.arg(if is_unwanted { "1" } else { "" }).arg(&stamps);
            };
            let mut wire = connection.wire();
            let asked = (Operation::Lease, self.link.settings.lookup_budget);
            let called = LEASE.call(&mut wire, &key, arguments);
            let answer = match self.link.ask(&connection, asked, called).await {
                Ok(answer) => answer,
                Err(Fault::TimedOut | Fault::Link) => return None,
                Err(Fault::Foreign | Fault::Refused) => {
                    lease.forget();
                    return None;
                }
            };
            if !connection.proven.is_ahead() {
                return None;
            }
            match Leased::of(answer)? {
                Leased::Granted(generation, time) => {
                    lease.generation = generation;
                    lease.granted = Granted { time, at: now() };
                    lease.known = known;
                    return Some(Begin::Granted(RedisLease(lease)));
                }
                Leased::Held(holder) => {
                    lease.forget();
                    return Some(Begin::Held(holder));
                }
                Leased::Found { generation, record } => {
                    lease.forget();
                    let found = self.read((slot, fence), &connection, (generation, record)).await;
                    if let Some(entry) = found.filter(|entry| entry.is_fresh() && entry.is_answer())
                    {
                        return Some(Begin::Found(entry));
                    }
                    // Fresh by its stamp and of no use: asked again, it is not wanted.
                }
            }
        }
        None
    }

    /// Reads the stamps that what was found depends on: those of a record, and those of the slot's own
    /// tags where another fill has the right.
    async fn stamps(
        &self,
        slot: &Slot,
        connection: &Arc<Connection>,
        (record, is_held): (Option<&Record>, bool),
    ) -> Option<Stamps> {
        let of_record = record.into_iter().flat_map(|record| &record.tags).map(|(tag, _)| tag);
        let of_slot = slot.tags.iter().filter(|_| is_held);
        let tags: Tags = of_record.chain(of_slot).cloned().collect();
        self.link.read_stamps(connection, &tags).await.ok()
    }

    /// Reads a record that was found for a slot. `fence` was taken before it was asked for.
    async fn read(
        &self,
        found_for: (&Slot, Fence),
        connection: &Arc<Connection>,
        (generation, record): (u64, Bytes),
    ) -> Option<Arc<Entry>> {
        let record = self.decode(found_for.0, &record)?;
        let stamps = self.stamps(found_for.0, connection, (Some(&record), false)).await?;
        let is_alive = stamps.confirm(&record.tags) && connection.proven.is_ahead();
        is_alive.then(|| self.restore(found_for, connection, (generation, record)))?
    }

    fn decode(&self, slot: &Slot, record: &Bytes) -> Option<Record> {
        let settings = &self.link.settings;
        let decoded = decode(record, &settings.namespace, slot, &settings.seal);
        if decoded.is_err() {
            count(&self.link.counts.unreadable);
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                telemetry::record_unreadable();
            }
        }
        decoded.ok()
    }

    /// Makes an entry of a record whose tags are alive. `fence` was taken before it was asked for.
    fn restore(
        &self,
        (slot, fence): (&Slot, Fence),
        connection: &Connection,
        (generation, record): (u64, Record),
    ) -> Option<Arc<Entry>> {
        // Another incarnation has lost what came after it, invalidations included.
        if record.stamp.incarnation != connection.incarnation {
            return None;
        }
        let received = self.link.local_time(connection, record.stamp.stored)?;
        let fresh_until = self.link.local_time(connection, record.stamp.fresh_until)?;
        // Softly invalidated since, nobody knows when: outdated from now on.
        let is_outdated = record.stamp.generation != generation;
        let until = if is_outdated { fresh_until.min(now()) } else { fresh_until };
        let content = match record.content {
            StoredContent::Response(head, body) => {
                let head = Arc::new(Head::restored(head, received, until));
                Content::Response { head, body }
            }
            StoredContent::Pass => Content::Pass,
            StoredContent::Nominated(nominated) => Content::Nominated(nominated),
        };
        let tags = record.tags.into_iter().map(|(tag, _)| tag).collect();
        let slot = Slot { tags, ..slot.clone() };
        if !slot.tags.is_empty() && self.link.pending.is_quarantined(&slot) {
            return None;
        }
        let provenance =
            Provenance { slot, fence, requested: received, gauge: Arc::clone(&self.gauge) };
        Some(Arc::new(Entry::restored(provenance, content, until)))
    }
}
