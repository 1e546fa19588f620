//! The right to fill, as this process holds it.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use redis::Value;

use super::{
    Digest,
    command::{COMMIT, Fault, token_text},
    connection::Connection,
    counts::count,
    digest,
    link::Link,
    pending::Release,
    record::{Marks, Stamp, encode},
    stamps::{Granted, Stamped},
};
use crate::{
    clock::now,
    entry::{Content, Entry},
    key::{PrimaryKey, Token},
    metrics::operations::Operation,
    store::Commit,
};

/// What a record is kept for longer than it is fresh, in milliseconds: clocks are read at different
/// moments.
pub(super) const SLACK: u64 = 1000;

/// The right to fill a slot of a [`RedisStore`](super::RedisStore).
pub struct RedisLease(pub(super) Lease);

impl fmt::Debug for RedisLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLease").finish_non_exhaustive()
    }
}

/// The right to fill, granted or asked for. Dropped, it is given back, over the next connection if
/// this one is gone: otherwise all others would wait until it runs out.
pub(super) struct Lease {
    link: Arc<Link>,
    /// The very connection that it was granted over. A lease does not keep a connection that was
    /// given up.
    connection: Weak<Connection>,
    release: Option<Release>,
    epoch: u64,
    /// The stamps of the tags that are known before there is a response.
    pub(super) known: Vec<Stamped>,
    pub(super) granted: Granted,
}

impl Lease {
    pub(super) fn new(
        link: &Arc<Link>,
        connection: &Arc<Connection>,
        (key, vk, epoch): (&PrimaryKey, Digest, u64),
        token: Token,
    ) -> Self {
        let release = Release { key: key.clone(), vk, token };
        let connection = Arc::downgrade(connection);
        let (known, granted) = (Vec::new(), Granted { time: 0, at: now() });
        let link = Arc::clone(link);
        Self { link, connection, release: Some(release), epoch, known, granted }
    }

    /// Takes note that the server has not granted it, or has taken it back.
    pub(super) fn forget(mut self) {
        self.release = None;
    }

    pub(super) async fn commit(self, entry: &Entry, note: Option<&Entry>) -> Commit {
        let Some(connection) = self.connection.upgrade() else { return Commit::Failed };
        let Some(release) = self.release.clone() else { return Commit::Failed };
        let settings = &self.link.settings;
        let mut records = Vec::with_capacity(2);
        let mut retention = 1;
        for entry in note.into_iter().chain([entry]) {
            let (stamp, kept) = self.stamp(&connection, (entry, release.token));
            retention = retention.max(kept);
            let tags = (&entry.slot().tags, Duration::from_millis(kept));
            let began = (&self.known[..], self.granted);
            let tags = match self.link.stamps_for_a_commit(&connection, tags, began).await {
                Ok(Some(tags)) => tags,
                Ok(None) => {
                    count(&self.link.counts.fenced);
                    return Commit::Fenced;
                }
                Err(_) => return Commit::Failed,
            };
            let marks = Marks { stamp, tags: &tags };
            let record = encode(entry, &settings.namespace, marks, &settings.seal);
            records.push((digest(entry.slot(), self.epoch), record));
        }
        let key = settings.key(&release.key);
        let number = number_of(release.token).to_be_bytes();
        let arguments = |call: &mut redis::Cmd| {
            call.arg(&release.vk).arg(token_text(release.token));
            call.arg(retention).arg(settings.max_fields);
            call.arg(entry.as_response().map(|_| &number[..]).unwrap_or_default());
            for (vk, record) in &records {
                call.arg(vk).arg(record);
            }
        };
        let mut wire = connection.wire();
        let asked = (Operation::Commit, settings.invalidate_budget);
        let called = COMMIT.call(&mut wire, &key, arguments);
        match self.link.ask(&connection, asked, called).await {
            Ok(Value::Int(1)) => {
                self.forget();
                Commit::Stored
            }
            Ok(Value::Int(_)) => {
                count(&self.link.counts.fenced);
                self.forget();
                Commit::Fenced
            }
            // Refused, or an outcome that is not known: given back as it is dropped.
            Ok(_) | Err(Fault::TimedOut | Fault::Link | Fault::Foreign | Fault::Refused) => {
                Commit::Failed
            }
        }
    }

    /// Returns what a record is stamped with, and for how many milliseconds it is kept.
    fn stamp(&self, connection: &Connection, (entry, token): (&Entry, Token)) -> (Stamp, u64) {
        let time = |instant| self.link.server_time(connection, instant);
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

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            self.link.pending.give_back(release);
            self.link.wake.notify_one();
        }
    }
}
