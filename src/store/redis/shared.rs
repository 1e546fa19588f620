//! What all clones of a store share, and what they ask the server for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use redis::{Cmd, Value};

use super::{
    RedisLease,
    command::{
        Fault, Further, LEASE, Leased, Outdated, bulk, look, look_further, millis, token_text,
    },
    connection::Connection,
    counts::count,
    digest,
    lease::Lease,
    link::Link,
    record::{StoredContent, decode},
};
use crate::{
    clock::now,
    entry::{Content, Entry, Head, Provenance},
    gauge::Gauge,
    key::{PrimaryKey, Slot, Token},
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
    /// Returns the connection that a key may be asked for over, and the epoch there.
    fn usable(&self, key: &PrimaryKey) -> Option<(Arc<Connection>, u64)> {
        let connection = self.link.connection()?;
        if connection.is_slow(self.link.settings.slow_lookups)
            || self.link.pending.is_quarantined(key)
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
        let (connection, epoch) = self.usable(&slot.key)?;
        let (key, vk) = (self.link.settings.key(&slot.key), digest(slot, epoch));
        let answer = self.look(&connection, look(&key, &vk)).await?;
        let record = bulk(answer).map(|record| (record, None));
        let found = record.and_then(|record| self.read((slot, fence), &connection, record));
        if let Some(entry) = found.as_ref().filter(|entry| entry.is_fresh()) {
            self.link.near.keep(entry, near_fence);
            return Some(Lookup::Found(Arc::clone(entry)));
        }
        let is_of_use = |entry: &Arc<Entry>| entry.kept_until() > now().max(entry.fresh_until());
        let stale = found.filter(is_of_use);
        if awaited.is_none()
            && let Some(stale) = stale
        {
            return Some(Lookup::Found(stale));
        }
        let answer = self.look(&connection, look_further(&key, &vk)).await?;
        let Further { outdated, lease } = Further::of(answer)?;
        let held = lease.filter(|lease| {
            connection.is_of_its_time(lease.token)
                && lease.expiry > self.link.server_time(&connection, now())
        });
        let held = held.map(|lease| lease.token);
        let outdated = || {
            let Outdated { since, record } = outdated?;
            self.read((slot, fence), &connection, (record, Some(since)))
        };
        if (held.is_none() || held != awaited)
            && let Some(stale) = stale.or_else(outdated).filter(is_of_use)
        {
            return Some(Lookup::Found(stale));
        }
        Some(held.map_or(Lookup::Absent, Lookup::Held))
    }

    /// Asks within the budget of a lookup; `None` if the answer may not be used.
    async fn look(&self, connection: &Arc<Connection>, look: Cmd) -> Option<Value> {
        let answer = self.link.look(connection, look).await.ok()?;
        connection.proven.is_ahead().then_some(answer)
    }

    pub(super) async fn begin(
        &self,
        slot: &Slot,
        token: Token,
        is_unwanted: bool,
    ) -> Option<Begin<RedisLease>> {
        let (connection, epoch) = self.usable(&slot.key)?;
        if !connection.is_of_its_time(token) {
            return None;
        }
        let key = self.link.settings.key(&slot.key);
        let vk = digest(slot, epoch);
        let fence = self.sequence.begin();
        for is_unwanted in [is_unwanted, true] {
            // Made before it is asked for: whatever the answer may be, or if there is none, it is
            // given back when it is dropped.
            let lease = Lease::new(&self.link, &connection, (&slot.key, vk, epoch), token);
            let arguments = |call: &mut redis::Cmd| {
                call.arg(&vk).arg(token_text(token)).arg(millis(self.link.settings.lease));
                call.arg(if is_unwanted { "1" } else { "" });
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
                Leased::Granted => return Some(Begin::Granted(RedisLease(lease))),
                Leased::Held(holder) => {
                    lease.forget();
                    return Some(Begin::Held(holder));
                }
                Leased::Found(record) => {
                    lease.forget();
                    let found = self.read((slot, fence), &connection, (record, None));
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

    /// Reads a record that was found for a slot, and since when it is outdated, if it is. `fence` was
    /// taken before it was asked for.
    fn read(
        &self,
        (slot, fence): (&Slot, Fence),
        connection: &Connection,
        (record, outdated): (Bytes, Option<u64>),
    ) -> Option<Arc<Entry>> {
        let settings = &self.link.settings;
        let Ok(record) = decode(&record, &settings.namespace, slot, &settings.seal) else {
            count(&self.link.counts.unreadable);
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                telemetry::record_unreadable();
            }
            return None;
        };
        // Another incarnation has lost what came after it, invalidations included.
        if record.stamp.incarnation != connection.incarnation {
            return None;
        }
        let received = self.link.local_time(connection, record.stamp.stored)?;
        let mut until = self.link.local_time(connection, record.stamp.fresh_until)?;
        if let Some(since) = outdated {
            // Never fresh, whatever two clocks make of the last millisecond.
            until = until.min(self.link.local_time(connection, since)?).min(now());
        }
        let content = match record.content {
            StoredContent::Response(head, body) => {
                let head = Arc::new(Head::restored(head, received, until));
                Content::Response { head, body }
            }
            StoredContent::Pass => Content::Pass,
            StoredContent::Nominated(nominated) => Content::Nominated(nominated),
        };
        let provenance = Provenance {
            slot: slot.clone(),
            fence,
            requested: received,
            gauge: Arc::clone(&self.gauge),
        };
        Some(Arc::new(Entry::restored(provenance, content, until)))
    }
}
