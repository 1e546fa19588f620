//! What all clones of a store share, and what they ask the server for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::future::join;

use super::{
    Digest, RedisLease,
    command::{
        Fault, Further, LEASE, Leased, Outdated, Sought, look_for_all, look_further, millis,
        token_text,
    },
    connection::Connection,
    counts::count,
    digest,
    lease::Lease,
    link::Link,
    record::{Record, StoredContent, decode, stamped},
    stamps::{self, Granted, Stamped, Stamps},
};
use crate::{
    clock::{Instant, now},
    entry::{Content, Entry, Head, MemoryGauge, Provenance, Reading},
    fence::{Fence, Sequence},
    key::{Slot, Tags, Token},
    metrics::operations::Operation,
    metrics::telemetry,
    store::{Begin, Lookup},
};

pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    pub(super) sequence: Sequence,
    pub(super) gauge: Arc<MemoryGauge>,
    pub(super) has_warned: AtomicBool,
}

/// A look, and what was known before it was made.
struct Looking<'a> {
    slot: &'a Slot,
    connection: Arc<Connection>,
    epoch: u64,
    vk: Digest,
    fence: Fence,
    near_fence: Fence,
}

/// What a look has found in force, if anything, and how it was read.
struct Found<'a> {
    looking: Looking<'a>,
    record: Option<(Record, Reading)>,
}

/// Whether the tags of a record have the stamps that they had.
fn are_confirmed(record: &Bytes, stamps: Option<&Stamps>) -> bool {
    stamps.zip(stamped(record)).is_some_and(|(stamps, stamped)| stamps.confirm(&stamped))
}

/// By how many milliseconds the clocks here and at the server may have come apart since a copy was made,
/// whose times are instants here. What a heartbeat measures varies by the time that it takes.
const DRIFT: u64 = 50;

/// Whether a copy is what the same record would be made into over a connection, in an epoch.
fn is_good(read: &Reading, connection: &Connection, epoch: u64) -> bool {
    let drift = read.clock.abs_diff(connection.clock.load(Ordering::Relaxed));
    (read.epoch, read.incarnation) == (epoch, connection.incarnation) && drift <= DRIFT
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

    pub(super) async fn lookup(&self, slot: &Slot) -> Option<Lookup> {
        match self.link.near.recall(&slot.variant.borrowed()) {
            Some(copy) => self.confirm(slot, &copy).await,
            None => self.look(slot).await,
        }
    }

    /// Looks a slot up of which there is a copy: where the server still has the record that it was made
    /// of, the copy is found.
    pub(super) async fn confirm(&self, slot: &Slot, copy: &Arc<Entry>) -> Option<Lookup> {
        let near_fence = self.link.near.fence();
        let (connection, epoch) = self.usable(slot)?;
        let read = copy.reading().filter(|read| is_good(read, &connection, epoch));
        let Some(read) = read.filter(|_| copy.is_fresh_at(now())) else {
            return Box::pin(self.look(slot)).await;
        };
        let look = self.link.look(&connection, (&slot.key, Sought::Number, &read.digest));
        // It knows also those tags that only the response tells.
        let tags = &copy.slot().tags;
        let (number, stamps) = match tags.is_empty() {
            true => (look.await, None),
            // Both are of after this request began, whichever is first.
            false => Box::pin(join(look, self.stamps(copy.slot(), &connection, &[]))).await,
        };
        let number = number.ok()?;
        let now = now();
        if !connection.proven.is_ahead_at(now) || (stamps.is_none() && !tags.is_empty()) {
            return None;
        }
        if number.is_some_and(|number| number[..] == read.number.to_be_bytes())
            && copy.is_fresh_at(now)
            && (tags.is_empty() || are_confirmed(&read.record, stamps.as_ref()))
        {
            return Some(Lookup::Found(self.link.near.renew(copy, near_fence)));
        }
        self.link.near.refute(copy);
        Box::pin(self.look_for_all(slot, None)).await
    }

    /// Looks a slot up.
    async fn look(&self, slot: &Slot) -> Option<Lookup> {
        let looking = self.begin_to_look(slot)?;
        let asked = (&slot.key, Sought::Record, &looking.vk);
        let look = self.link.look(&looking.connection, asked);
        let (record, stamps) = match slot.tags.is_empty() {
            true => (look.await, Some(Stamps::default())),
            // Both are of after this request began, whichever is first.
            false => Box::pin(join(look, self.stamps(slot, &looking.connection, &[]))).await,
        };
        let now = now();
        let mut found = self.found(looking, record.ok()?, now)?;
        let stamps = stamps?;
        if let Some(hit) = self.plain_hit(&mut found, now) {
            return Some(hit);
        }
        Box::pin(self.look_on(found, (stamps, None), None)).await
    }

    /// Does the same, and asks for all at once that may matter, where a hit is not to be expected. While the
    /// fill `awaited` has its right, what is stale is not what is waited for.
    pub(super) async fn look_for_all(&self, slot: &Slot, awaited: Option<Token>) -> Option<Lookup> {
        let looking = self.begin_to_look(slot)?;
        let connection = &looking.connection;
        let look = look_for_all(&self.link.settings.key(&slot.key), &looking.vk);
        let look = self.link.look_with(connection, &look);
        let (answer, stamps) = join(look, self.stamps(slot, connection, &[])).await;
        let (record, further) = Further::with_record(answer.ok()?)?;
        let found = self.found(looking, record, now())?;
        self.look_on(found, (stamps?, Some(further)), awaited).await
    }

    fn begin_to_look<'a>(&self, slot: &'a Slot) -> Option<Looking<'a>> {
        // Before the epoch is read: what is read under an epoch that ends meanwhile is not kept.
        let near_fence = self.link.near.fence();
        let fence = self.sequence.begin();
        let (connection, epoch) = self.usable(slot)?;
        Some(Looking { slot, connection, epoch, vk: digest(slot, epoch), fence, near_fence })
    }

    /// Reads what was found at an instant; `None` if the answer may not be used.
    fn found<'a>(
        &self,
        looking: Looking<'a>,
        record: Option<Bytes>,
        now: Instant,
    ) -> Option<Found<'a>> {
        let Looking { slot, connection, epoch, vk, .. } = &looking;
        if !connection.proven.is_ahead_at(now) {
            return None;
        }
        let record = record.and_then(|record| {
            let decoded = self.decode(slot, &record)?;
            let reading = Reading {
                record,
                number: decoded.stamp.number,
                digest: *vk,
                epoch: *epoch,
                incarnation: connection.incarnation,
                // Before an entry is made of it: a clock that is set meanwhile makes it one to be read
                // anew.
                clock: connection.clock.load(Ordering::Relaxed),
            };
            Some((decoded, reading))
        });
        Some(Found { looking, record })
    }

    /// Takes a record that answers without a further question.
    fn plain_hit(&self, found: &mut Found<'_>, now: Instant) -> Option<Lookup> {
        let Looking { slot, connection, fence, near_fence, .. } = &found.looking;
        let (record, reading) = found.record.take_if(|(record, _)| {
            let until = self.link.local_time(connection, record.stamp.fresh_until);
            let is_fresh = until.is_some_and(|until| now < until);
            is_fresh && record.tags.is_empty() && slot.tags.is_empty()
        })?;
        let entry = self.restore((slot, *fence), connection, (record, None))?;
        Some(Lookup::Found(self.link.near.keep(entry, Some(reading), *near_fence)))
    }

    /// Goes on where the record that is in force has tags, is not fresh, or is not there.
    async fn look_on(
        &self,
        found: Found<'_>,
        (mut stamps, further): (Stamps, Option<Further>),
        awaited: Option<Token>,
    ) -> Option<Lookup> {
        let Found { looking, record } = found;
        let Looking { slot, connection, vk, fence, near_fence, .. } = looking;
        let is_there = record.is_some();
        if let Some((record, _)) = &record
            && !stamps.are_of_all(&record.tags)
        {
            // It names groups as well, which only it tells of.
            stamps = self.stamps(slot, &connection, &record.tags).await?;
        }
        let record = record.filter(|(record, _)| stamps.confirm(&record.tags));
        let mut found = record.and_then(|(record, reading)| {
            Some((self.restore((slot, fence), &connection, (record, None))?, reading))
        });
        if let Some((entry, reading)) = found.take_if(|(entry, _)| entry.is_fresh()) {
            return Some(Lookup::Found(self.link.near.keep(entry, Some(reading), near_fence)));
        }
        let is_of_use = |entry: &Arc<Entry>| entry.kept_until() > now().max(entry.fresh_until());
        let stale = found.map(|(entry, _)| entry).filter(is_of_use);
        if awaited.is_none()
            && let Some(stale) = stale
        {
            return Some(Lookup::Found(stale));
        }
        let Further { outdated, lease } = match further {
            Some(further) => further,
            None => self.look_further(&connection, slot, &vk).await?,
        };
        let outdated = outdated.and_then(|Outdated { since, record }| {
            Some((self.decode(slot, &record)?, Some(since)))
        });
        if !is_there && (outdated.is_some() || lease.is_some()) {
            let tags = outdated.as_ref().map_or(&[][..], |(record, _)| &record.tags);
            stamps = self.stamps(slot, &connection, tags).await?;
        }
        let held = lease.filter(|lease| {
            stamps.digest(&slot.tags).as_ref() == Some(&lease.stamps)
                && connection.is_of_its_time(lease.token)
                && lease.expiry > self.link.server_time(&connection, now())
        });
        let held = held.map(|lease| lease.token);
        let outdated = || {
            let outdated = outdated.filter(|(record, _)| stamps.confirm(&record.tags))?;
            self.restore((slot, fence), &connection, outdated)
        };
        if (held.is_none() || held != awaited)
            && let Some(stale) = stale.or_else(outdated).filter(is_of_use)
        {
            return Some(Lookup::Found(stale));
        }
        Some(held.map_or(Lookup::Absent, Lookup::Held))
    }

    /// Asks for what matters where nothing is in force; `None` if the answer may not be used.
    async fn look_further(
        &self,
        connection: &Arc<Connection>,
        slot: &Slot,
        vk: &Digest,
    ) -> Option<Further> {
        let look = look_further(&self.link.settings.key(&slot.key), vk);
        let answer = self.link.look_with(connection, &look).await.ok()?;
        connection.proven.is_ahead().then(|| Further::of(answer))?
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
            let mut lease = Lease::new(&self.link, &connection, (&slot.key, vk, epoch), token);
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
                Leased::Granted(time) => {
                    lease.granted = Granted { time, at: now() };
                    lease.known = known;
                    return Some(Begin::Granted(RedisLease(lease)));
                }
                Leased::Held(holder) => {
                    lease.forget();
                    return Some(Begin::Held(holder));
                }
                Leased::Found(record) => {
                    lease.forget();
                    let found = self.read((slot, fence), &connection, record).await;
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

    /// Reads the stamps of a record's tags, and of those that every response of the slot has.
    async fn stamps(
        &self,
        slot: &Slot,
        connection: &Arc<Connection>,
        stamped: &[Stamped],
    ) -> Option<Stamps> {
        if stamped.is_empty() && slot.tags.is_empty() {
            return Some(Stamps::default());
        }
        let tags = slot.tags.with(stamped.iter().map(|(tag, _)| tag.clone()));
        let stamps = self.link.read_stamps(connection, &tags).await.ok()?;
        connection.proven.is_ahead().then_some(stamps)
    }

    /// Reads a record that was found for a slot. `fence` was taken before it was asked for.
    async fn read(
        &self,
        found_for: (&Slot, Fence),
        connection: &Arc<Connection>,
        record: Bytes,
    ) -> Option<Arc<Entry>> {
        let record = self.decode(found_for.0, &record)?;
        let stamps = self.stamps(found_for.0, connection, &record.tags).await?;
        let record = Some(record).filter(|record| stamps.confirm(&record.tags))?;
        self.restore(found_for, connection, (record, None))
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

    /// Makes an entry of a record whose tags are alive, and since when it is outdated, if it is.
    /// `fence` was taken before it was asked for.
    fn restore(
        &self,
        (slot, fence): (&Slot, Fence),
        connection: &Connection,
        (record, outdated): (Record, Option<u64>),
    ) -> Option<Arc<Entry>> {
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
                let head = Head::restored(head, received, until);
                Content::Response { head, body }
            }
            StoredContent::Pass => Content::Pass,
            StoredContent::Nominated(nominated) => Content::Nominated(nominated),
        };
        let tags = match record.tags.is_empty() {
            true => Tags::none(),
            false => record.tags.into_iter().map(|(tag, _)| tag).collect(),
        };
        let slot = Slot { key: slot.key.clone(), variant: slot.variant.clone(), tags };
        if !slot.tags.is_empty() && self.link.pending.is_quarantined(&slot) {
            return None;
        }
        let provenance =
            Provenance { slot, fence, requested: received, gauge: Arc::clone(&self.gauge) };
        Some(Arc::new(Entry::restored(provenance, content, until)))
    }
}
