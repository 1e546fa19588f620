//! Lookups of slots at the server.
//!
//! A hit needs one field: a record in force answers, unless it has tags (`tag_versions.rs`). Where this
//! process remembers a response that it has read, it asks for the number of the record alone. Every
//! reply is waited for within the budget of a lookup.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join;
use tokio::time::timeout;

use super::{
    link::{OutdatedRecord, RestOfVariant, Sought, lookup_all, lookup_rest, millis},
    record::{AHEAD, Record, Standing, VariantDigest, VersionedTag, tags_of},
    state::{SlotQuery, StoreState},
    tag_versions::TagVersions,
};
use crate::{
    clock::now,
    entry::{Entry, SourceRecord},
    key::{Slot, Tags, Token},
    store::{Holder, Lookup},
};

/// Pauses between looks at another process's fill. Mostly a message of the server ends them.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Record in force.
struct InForce {
    record: Record,
    source: SourceRecord,
}

impl StoreState {
    /// Looks a slot up.
    pub(super) async fn lookup(&self, slot: &Slot) -> Lookup {
        let found = match self.near.remembered(&slot.variant.borrowed()) {
            Some(copy) => self.confirm(slot, &copy).await,
            None => self.read(slot).await,
        };
        found.unwrap_or(Lookup::Unavailable)
    }

    /// Looks a slot up at the server, and keeps no copy.
    pub(super) async fn inspect(&self, slot: &Slot) -> Lookup {
        let found = async {
            let query = self.query(slot)?.inspecting();
            self.read_fields(query, None).await
        };
        found.await.unwrap_or(Lookup::Unavailable)
    }

    /// Waits until a fill of another process is over, and returns what there is then.
    pub(super) async fn wait(&self, slot: &Slot, token: Token) -> Lookup {
        let waiter = self.near.waiters.enter(&slot.key);
        let mut pause = MIN_PAUSE;
        loop {
            // Before the look: a message that comes after it wakes this.
            let mut changed = pin!(waiter.changed.notified());
            changed.as_mut().enable();
            match Box::pin(self.read_all(slot, Some(token))).await {
                Some(Lookup::Held(holder)) if holder.token() == token => {}
                found => return found.unwrap_or(Lookup::Unavailable),
            }
            if timeout(pause, changed).await.is_err() {
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }

    /// Looks a slot up of which there is a copy. If the server still has its record, the copy is found.
    async fn confirm(&self, slot: &Slot, copy: &Arc<Entry>) -> Option<Lookup> {
        let query = self.query(slot)?;
        let source = copy.source().filter(|source| query.would_repeat(source));
        let Some(source) = source.filter(|_| copy.is_fresh_at(now())) else {
            return Box::pin(self.read(slot)).await;
        };
        let connection = &query.connection;
        let number = self.link.lookup(connection, &slot.key, Sought::Number, &source.digest);
        // Also tags that only the response names.
        let tags = &copy.slot().tags;
        let (number, versions) = match tags.is_empty() {
            true => (number.await, Some(TagVersions::default())),
            // Both are asked for after this request began, whichever is first.
            false => Box::pin(join(number, self.tag_versions(&query, tags))).await,
        };
        let (number, versions) = (number.ok()?, versions?);
        let now = query.proven_at(now(), &self.link).await?;
        if number.is_some_and(|number| number[..] == source.number.to_be_bytes())
            && copy.is_fresh_at(now)
            && (tags.is_empty() || are_alive(&source.record, &versions))
        {
            return Some(Lookup::Found(self.near.confirm(copy, query.basis(&versions))));
        }
        self.near.refute(copy);
        Box::pin(self.read_all(slot, None)).await
    }

    /// Reads the record in force, and goes on where it is no hit.
    async fn read(&self, slot: &Slot) -> Option<Lookup> {
        let query = self.query(slot)?;
        let digest = query.digest();
        let record = self.link.lookup(&query.connection, &slot.key, Sought::Record, &digest);
        let (record, versions) = match slot.tags.is_empty() {
            true => (record.await, Some(TagVersions::default())),
            // Both are asked for after this request began, whichever is first.
            false => Box::pin(join(record, self.tag_versions(&query, &slot.tags))).await,
        };
        let (record, versions) = (record.ok()?, versions?);
        let now = query.proven_at(now(), &self.link).await?;
        let mut in_force = self.in_force(&query, &digest, record);
        let is_plain_hit = |InForce { record, .. }: &mut InForce| {
            let until = self.link.local_time(&query.connection, record.stamp.fresh_until);
            record.tags.is_empty() && slot.tags.is_empty() && until.is_some_and(|until| now < until)
        };
        if let Some(InForce { record, source }) = in_force.take_if(is_plain_hit)
            && let Some(entry) = self.restore(&query, record, None)
        {
            return Some(Lookup::Found(self.keep(&query, entry, source, &versions)));
        }
        Box::pin(self.go_on(query, in_force, versions, None, None)).await
    }

    /// Reads all fields of a variant at once, where a hit is not to be expected. While the fill `awaited`
    /// has its lease, a stale entry does not end the wait for it.
    async fn read_all(&self, slot: &Slot, awaited: Option<Token>) -> Option<Lookup> {
        self.read_fields(self.query(slot)?, awaited).await
    }

    async fn read_fields(&self, query: SlotQuery<'_>, awaited: Option<Token>) -> Option<Lookup> {
        let (slot, digest) = (query.slot, query.digest());
        let command = lookup_all(&self.link.settings.key(&slot.key), &digest);
        let fields = self.link.look(&query.connection, &command);
        let (fields, versions) = join(fields, self.tag_versions(&query, &slot.tags)).await;
        let (record, rest) = RestOfVariant::parse_with_record(fields.ok()?)?;
        query.proven_at(now(), &self.link).await?;
        let in_force = self.in_force(&query, &digest, record);
        self.go_on(query, in_force, versions?, Some(rest), awaited).await
    }

    fn in_force(
        &self,
        query: &SlotQuery<'_>,
        digest: &VariantDigest,
        bytes: Option<Bytes>,
    ) -> Option<InForce> {
        let record = self.decode(query.slot, &bytes?)?;
        let source = SourceRecord {
            record: record.opened.clone(),
            number: record.stamp.number,
            digest: *digest,
            epoch: query.epoch,
            incarnation: query.connection.incarnation,
            // Before an entry is made of it: if a clock is set meanwhile, the record is read again.
            clock: query.connection.clock.load(Ordering::Relaxed),
        };
        Some(InForce { record, source })
    }

    fn keep(
        &self,
        query: &SlotQuery<'_>,
        entry: Entry,
        source: SourceRecord,
        versions: &TagVersions,
    ) -> Arc<Entry> {
        match query.is_inspection {
            true => Arc::new(entry),
            false => self.near.keep(entry, source, query.basis(versions)),
        }
    }

    /// Goes on where the record in force has tags, is not fresh, or is missing.
    async fn go_on(
        &self,
        query: SlotQuery<'_>,
        in_force: Option<InForce>,
        mut versions: TagVersions,
        rest: Option<RestOfVariant>,
        awaited: Option<Token>,
    ) -> Option<Lookup> {
        let is_there = in_force.is_some();
        if let Some(InForce { record, .. }) = &in_force
            && !versions.cover(&record.tags)
        {
            // It has groups as well, which only it names.
            versions = self.tag_versions(&query, &with(query.slot, &record.tags)).await?;
        }
        let mut stale = None;
        if let Some(InForce { record, source }) = in_force
            && let Some(entry) = self.revive(&query, record, &versions, None)
        {
            if entry.is_fresh() {
                return Some(Lookup::Found(self.keep(&query, entry, source, &versions)));
            }
            stale = Some(entry).filter(is_of_use);
        }
        if awaited.is_none()
            && let Some(stale) = stale
        {
            return Some(Lookup::Found(Arc::new(stale)));
        }
        let (outdated, held) = self.rest(&query, rest, is_there.then_some(versions)).await?;
        if (awaited.is_none() || held.map(Holder::token) != awaited)
            && let Some(stale) = stale.or(outdated)
        {
            return Some(Lookup::Found(Arc::new(stale)));
        }
        Some(held.map_or(Lookup::Absent, Lookup::Held))
    }

    /// Returns the outdated entry of a variant, and the fill that holds its lease. Fields and versions of
    /// tags are read where they are not at hand.
    async fn rest(
        &self,
        query: &SlotQuery<'_>,
        fields: Option<RestOfVariant>,
        versions: Option<TagVersions>,
    ) -> Option<(Option<Entry>, Option<Holder>)> {
        let RestOfVariant { outdated, lease } = match fields {
            Some(fields) => fields,
            None => self.read_rest(query).await?,
        };
        let outdated = outdated.and_then(|OutdatedRecord { since, record }| {
            Some((self.decode(query.slot, &record)?, since))
        });
        let versions = match versions {
            Some(versions) => versions,
            None if outdated.is_none() && lease.is_none() => return Some((None, None)),
            None => {
                let tags = outdated.as_ref().map_or(&[][..], |(record, _)| &record.tags);
                self.tag_versions(query, &with(query.slot, tags)).await?
            }
        };
        let now = self.link.server_time(&query.connection, now());
        let latest = now.saturating_add(millis(self.link.settings.lease) + AHEAD);
        let held = lease.filter(|lease| {
            versions.digest(&query.slot.tags).as_ref() == Some(&lease.tag_versions)
                && query.connection.is_of_its_time(lease.holder.token())
                && now < lease.expiry
                // A window may be longer than any fill.
                && (lease.expiry <= latest || matches!(lease.holder, Holder::Unsettled(_)))
        });
        let revive = |(record, since)| self.revive(query, record, &versions, Some(since));
        let outdated = outdated.and_then(revive);
        Some((outdated.filter(is_of_use), held.map(|lease| lease.holder)))
    }

    /// Reads the fields that matter where no record is in force; `None` if the reply may not be used.
    async fn read_rest(&self, query: &SlotQuery<'_>) -> Option<RestOfVariant> {
        let command = lookup_rest(&self.link.settings.key(&query.slot.key), &query.digest());
        let reply = self.link.look(&query.connection, &command).await.ok()?;
        query.proven_at(now(), &self.link).await?;
        RestOfVariant::parse(reply)
    }
}

/// Returns the tags of a slot, and those of a record for it.
fn with(slot: &Slot, tags: &[VersionedTag]) -> Tags {
    slot.tags.with(tags.iter().map(|versioned| versioned.tag.clone()))
}

/// Returns whether the tags of a record have the versions that they had.
fn are_alive(record: &Bytes, versions: &TagVersions) -> bool {
    tags_of(record).is_some_and(|tags| versions.standing(&tags) == Standing::InForce)
}

/// Returns whether a stale entry may be of some use.
fn is_of_use(entry: &Entry) -> bool {
    entry.kept_until() > now().max(entry.fresh_until())
}
