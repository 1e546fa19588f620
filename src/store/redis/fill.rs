//! Fills: the lease of a slot, and the commit.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use redis::{Cmd, Value};

use super::{
    link::{COMMIT, Connection, LEASE, LeaseReply, LinkFault, count, millis, token_text},
    outbox::Release,
    record::{SLACK, Stamp, VersionedTag, digest, encode},
    state::{SlotQuery, StoreState},
    tag_versions::{self, ForFill, GrantTime},
};
use crate::{
    clock::now,
    entry::{Content, Entry},
    key::{Slot, Token},
    metrics::operations::Operation,
    store::{Begin, Commit},
};

/// Limit of fields of a key: a variant, its number and its lease are one each.
const MAX_FIELDS: usize = 1024;

/// Lease of a slot in a [`RedisStore`](super::RedisStore): the right to fill it.
///
/// Dropped, it is given back, over the next connection if this one is gone: otherwise all others would
/// wait until it runs out.
///
/// ```
/// use tower_support_cache::{RedisStore, Store, store::RedisLease};
///
/// fn give_back(store: &RedisStore, lease: RedisLease) {
///     store.release(lease);
/// }
/// ```
pub struct RedisLease {
    state: Arc<StoreState>,
    /// Connection that it was granted over. A lease does not keep a connection that was given up.
    connection: Weak<Connection>,
    release: Option<Release>,
    epoch: u64,
    /// Versions of the tags that are known before there is a response.
    known: Vec<VersionedTag>,
    granted: GrantTime,
}

impl fmt::Debug for RedisLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLease").finish_non_exhaustive()
    }
}

impl StoreState {
    /// Asks for the lease of a slot. A fresh entry is not wanted if the request has seen one.
    pub(super) async fn begin(
        self: &Arc<Self>,
        slot: &Slot,
        token: Token,
        seen: Option<&Entry>,
    ) -> Option<Begin<RedisLease>> {
        let query = self.query(slot)?;
        let connection = &query.connection;
        if !connection.is_of_its_time(token) {
            return None;
        }
        let settings = &self.link.settings;
        let (key, digest) = (settings.key(&slot.key), query.digest());
        let keys = [&*key, &*settings.mark(&slot.key)];
        let ForFill { known, unsettled } =
            tag_versions::for_fill(&self.link, connection, &slot.tags).await.ok()?;
        let versions = tag_versions::digest(&known);
        for is_unwanted in [seen.is_some_and(Entry::is_fresh), true] {
            // Made before it is asked for: whatever the reply is, or if there is none, it is given back
            // when it is dropped.
            let mut lease = RedisLease::new(self, &query, token);
            let arguments = |call: &mut Cmd| {
                call.arg(&digest).arg(token_text(token)).arg(millis(settings.lease));
                call.arg(if is_unwanted { "1" } else { "" }).arg(&versions);
                call.arg(unsettled.as_millis() as u64);
            };
            let mut transport = connection.transport();
            let called = LEASE.call_on(&mut transport, &keys, arguments);
            let reply = match self.link.ask(connection, Operation::Lease, called).await {
                Ok(reply) => reply,
                Err(LinkFault::TimedOut | LinkFault::Lost | LinkFault::Away) => return None,
                Err(LinkFault::Foreign | LinkFault::Refused) => {
                    lease.forget();
                    return None;
                }
            };
            query.proven_at(now(), &self.link).await?;
            match LeaseReply::parse(reply)? {
                LeaseReply::Granted(server) => {
                    lease.granted = GrantTime { server, local: now() };
                    lease.known = known;
                    return Some(Begin::Granted(lease));
                }
                LeaseReply::Held(holder) => {
                    lease.forget();
                    return Some(Begin::Held(holder));
                }
                LeaseReply::Unsettled => {
                    // It stays for the other fills of the slot until nothing is unsettled any more.
                    lease.forget();
                    return Some(Begin::Unsettled);
                }
                LeaseReply::Found(record) => {
                    lease.forget();
                    let found = self.entry_of(&query, &record).await;
                    if let Some(entry) = found.filter(|entry| entry.is_fresh() && entry.is_answer())
                    {
                        return Some(Begin::Found(Arc::new(entry)));
                    }
                    // Fresh by its stamp and of no use: asked again, it is not wanted.
                }
            }
        }
        None
    }

    /// Decodes a record that was found, if its tags are alive.
    async fn entry_of(&self, query: &SlotQuery<'_>, record: &Bytes) -> Option<Entry> {
        let record = self.decode(query.slot, record)?;
        let tags = query.slot.tags.with(record.tags.iter().map(|versioned| versioned.tag.clone()));
        let versions = self.tag_versions(query, &tags).await?;
        self.revive(query, record, &versions, None)
    }
}

impl RedisLease {
    fn new(state: &Arc<StoreState>, query: &SlotQuery<'_>, token: Token) -> Self {
        let release = Release { key: query.slot.key.clone(), digest: query.digest(), token };
        Self {
            state: Arc::clone(state),
            connection: Arc::downgrade(&query.connection),
            release: Some(release),
            epoch: query.epoch,
            known: Vec::new(),
            granted: GrantTime { server: 0, local: now() },
        }
    }

    /// Drops a lease that the server has not granted, or has taken back.
    fn forget(mut self) {
        self.release = None;
    }

    /// Stores an entry, and the note that tells how it is found, if the fill still has the lease.
    pub(super) async fn commit(self, entry: &Entry, note: Option<&Entry>) -> Commit {
        let Some(connection) = self.connection.upgrade() else { return Commit::Failed };
        let Some(release) = self.release.clone() else { return Commit::Failed };
        let link = &self.state.link;
        let settings = &link.settings;
        let mut records = Vec::with_capacity(2);
        let mut retention = 1;
        for entry in note.into_iter().chain([entry]) {
            let (stamp, kept) = self.stamp(&connection, entry, release.token);
            retention = retention.max(kept);
            let (tags, kept) = (&entry.slot().tags, Duration::from_millis(kept));
            let (known, granted) = (&self.known[..], self.granted);
            let versions =
                tag_versions::for_commit(link, &connection, tags, kept, known, granted).await;
            let tags = match versions {
                Ok(Some(tags)) => tags,
                Ok(None) => {
                    count(&link.counts.fenced);
                    return Commit::Fenced;
                }
                Err(_) => return Commit::Failed,
            };
            let record = encode(entry, &settings.namespace, stamp, &tags, &settings.form);
            let Some(record) = record else { return Commit::Failed };
            records.push((digest(entry.slot(), self.epoch), record));
        }
        let keys = [&*settings.key(&release.key), &*settings.mark(&release.key)];
        let number = number_of(release.token).to_be_bytes();
        let arguments = |call: &mut Cmd| {
            call.arg(&release.digest).arg(token_text(release.token));
            call.arg(retention).arg(MAX_FIELDS);
            call.arg(entry.as_response().map(|_| &number[..]).unwrap_or_default());
            for (digest, record) in &records {
                call.arg(digest).arg(record);
            }
        };
        let mut transport = connection.transport();
        let called = COMMIT.call_on(&mut transport, &keys, arguments);
        match link.ask(&connection, Operation::Commit, called).await {
            Ok(Value::Int(1)) => {
                self.forget();
                Commit::Stored
            }
            // Given back as it is dropped.
            Ok(Value::Int(2)) => Commit::Unsettled,
            Ok(Value::Int(_)) => {
                count(&link.counts.fenced);
                self.forget();
                Commit::Fenced
            }
            // Refused, or with an unknown outcome: given back as it is dropped.
            Ok(_) | Err(_) => Commit::Failed,
        }
    }

    /// Returns the stamp of an entry's record, and the milliseconds for which it is kept.
    fn stamp(&self, connection: &Connection, entry: &Entry, token: Token) -> (Stamp, u64) {
        let time = |instant| self.state.link.server_time(connection, instant);
        let now = time(now());
        let fresh_until = time(entry.fresh_until());
        let stored = match entry.content() {
            Content::Response { head, .. } => time(head.received),
            Content::Pass | Content::Nominated(_) => now,
        };
        let kept_until = time(entry.kept_until()).saturating_add(SLACK);
        let (incarnation, number) = (connection.incarnation, number_of(token));
        let stamp = Stamp { incarnation, stored, fresh_until, kept_until, number };
        (stamp, kept_until.saturating_sub(now).max(1))
    }
}

/// Returns the number of the record that a fill stores: the random part of its token.
fn number_of(token: Token) -> u64 {
    token.number() as u64
}

impl Drop for RedisLease {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            self.state.outbox.release(release);
        }
    }
}
