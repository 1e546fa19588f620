//! The store that several processes share.
//!
//! Each primary key is one hash at the server, under its own name:
//!
//! ```text
//! support:messages:C42      HASH
//!    v:<digest>  record     a response, or the note that there is none to be had
//!    l:<digest>  lease      which fill has the right to store the variant of this digest
//!    g           number     how often the key was invalidated softly
//! ```
//!
//! The right to fill lives in the same key as what is stored, so whatever removes the key voids every
//! fill in flight: `redis-cli DEL support:messages:C42` is a full invalidation, and so are expiry,
//! eviction and a flush.

mod command;
mod connection;
mod counts;
mod deadline;
mod lease;
mod link;
mod near;
mod pending;
mod record;
mod settings;
mod supervisor;
mod waiters;

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use self::{
    command::{Fault, LEASE as LEASE_SCRIPT, Leased, Looked, look, millis, token_text},
    connection::Connection,
    counts::count,
    lease::Lease,
    link::Link,
    pending::{Target, Ticket},
    record::{StoredContent, decode},
};
use super::{
    Begin, Commit, Entry, Lookup, Pending, PrimaryKey, Sequence, Slot, Store, Token, VariantRef,
};
use crate::{
    clock::now,
    entry::{Content, Head, Provenance},
    error::ConfigError,
    gauge::Gauge,
    operations::{Operation, StoreSnapshot},
    sequence::Fence,
    telemetry,
};

pub use self::{lease::RedisLease, settings::RedisStoreBuilder};

/// Who waits for another process's fill is woken by a message of the server, and looks by itself for
/// the case that there is none.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// A store in Redis 7 or Valkey, for services of more than one process.
///
/// While the server is away, slow or full, requests are forwarded as if there were no cache. An
/// invalidation that cannot be delivered is retried, and its key is bypassed in this process until
/// the server has acknowledged it.
///
/// Clones share one connection. Give layers whose routes use
/// [`Credentials::PerCaller`](crate::Credentials::PerCaller) or [`CacheRoute::vary`](crate::CacheRoute::vary)
/// a [`caller_key`](crate::Builder::caller_key), the same in all processes.
///
/// ```
/// use tower_support_cache::{RedisStore, SupportCacheLayer};
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379/")?;
/// let layer = SupportCacheLayer::new(store);
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    sequence: Sequence,
    gauge: Arc<Gauge>,
    has_warned: AtomicBool,
}

impl RedisStore {
    /// Creates a store at an address: `redis://[user:password@]host[:port][/database]`, `rediss://…`
    /// for TLS (feature `redis-tls`), `redis+unix:///path` for a socket.
    ///
    /// # Errors
    ///
    /// As for [`RedisStoreBuilder::build`].
    pub fn connect(url: impl Into<String>) -> Result<Self, ConfigError> {
        Self::builder(url).build()
    }

    /// Returns a builder, for other settings.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url)
    }

    fn new(link: Arc<Link>) -> Self {
        link.supervise();
        let sequence = Sequence::new();
        let (gauge, has_warned) = (Arc::default(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { link, sequence, gauge, has_warned }) }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("link", &self.shared.link).finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    type Lease = RedisLease;

    fn sequence(&self) -> &Sequence {
        &self.shared.sequence
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        self.shared.link.near.peek(variant)
    }

    async fn lookup(&self, slot: &Slot) -> Lookup {
        match self.shared.lookup(slot).await {
            Some(found) => found,
            None => Lookup::Unavailable,
        }
    }

    fn token(&self) -> Option<Token> {
        // Without a connection the fill will not begin, but it needs a name of its own all the same.
        let incarnation = self.shared.link.connection().map_or(0, |link| link.incarnation);
        Some(Token::new(u128::from(incarnation) << 64 | random() >> 64))
    }

    async fn begin(
        &self,
        slot: &Slot,
        token: Option<Token>,
        seen: Option<&Entry>,
    ) -> Begin<RedisLease> {
        let begun = match token {
            Some(token) => self.shared.begin(slot, token, seen.is_some()).await,
            None => None,
        };
        begun.unwrap_or(Begin::Unavailable)
    }

    async fn wait(&self, slot: &Slot, token: Token) -> Lookup {
        let waiter = self.shared.link.near.waiters.enter(&slot.key);
        let mut pause = MIN_PAUSE;
        loop {
            // Before it looks: a message that comes after that wakes it.
            let mut changed = pin!(waiter.changed.notified());
            changed.as_mut().enable();
            match self.lookup(slot).await {
                Lookup::Held(holder) if holder == token => {}
                found => return found,
            }
            if timeout(pause, changed).await.is_err() {
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }

    async fn commit(
        &self,
        lease: RedisLease,
        entry: Arc<Entry>,
        note: Option<Arc<Entry>>,
    ) -> Commit {
        let slot = entry.slot();
        if !self.shared.sequence.is_current(&slot.key, entry.fence()) {
            count(&self.shared.link.counts.fenced);
            return Commit::Fenced;
        }
        let commit = lease.0.commit(&entry, note.as_deref()).await;
        if commit == Commit::Stored
            && let Some(note) = note
        {
            self.shared.remember(&note);
        }
        commit
    }

    fn invalidate(&self, key: &PrimaryKey) -> impl Future<Output = Result<(), Pending>> + Send {
        self.shared.sequence.invalidate(key, || ());
        self.shared.invalidate(Target::Key(key.clone()), Duration::ZERO)
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send {
        self.shared.sequence.invalidate_all(|_| ());
        let settings = &self.shared.link.settings;
        // By then each process has seen the epoch, or knows that its link is not proven.
        let until_seen = settings.heartbeat + settings.heartbeat_timeout;
        self.shared.invalidate(Target::All, until_seen)
    }

    async fn flush_pending(&self, limit: Duration) -> Result<(), Pending> {
        let link = &self.shared.link;
        link.supervise();
        link.wake.notify_one();
        timeout(limit, link.pending.flushed()).await.map_err(|_| Pending)
    }

    fn snapshot(&self) -> Option<StoreSnapshot> {
        let link = &self.shared.link;
        Some(StoreSnapshot {
            is_linked: link.is_published(),
            is_breaker_open: link.is_breaker_open(),
            pending: link.pending.len() as u64,
            near: link.near.snapshot(),
            ..link.counts.snapshot()
        })
    }
}

impl Shared {
    /// Returns the connection that a key may be asked for over, and the epoch there.
    fn usable(&self, key: &PrimaryKey) -> Option<(Arc<Connection>, u64)> {
        let connection = self.link.connection()?;
        if connection.is_slow() || self.link.pending.is_quarantined(key) {
            return None;
        }
        let epoch = connection.epoch()?;
        Some((connection, epoch))
    }

    async fn lookup(&self, slot: &Slot) -> Option<Lookup> {
        let (connection, epoch) = self.usable(&slot.key)?;
        let fence = self.link.near.fence();
        let look = look(&self.link.settings.key(&slot.key), &digest(slot, epoch));
        let mut multiplexed = connection.multiplexed();
        let asked = (Operation::Lookup, self.link.settings.lookup_budget);
        let answer =
            self.link.ask(&connection, asked, look.query_async(&mut multiplexed)).await.ok()?;
        if !connection.proven.is_ahead() {
            return None;
        }
        let looked = Looked::of(answer)?;
        let found = looked
            .record
            .and_then(|record| self.read((slot, fence), &connection, (looked.generation, record)));
        if let Some(entry) = found.filter(|entry| entry.is_fresh()) {
            self.link.near.keep(&entry);
            return Some(Lookup::Found(entry));
        }
        let held = looked.lease.filter(|lease| {
            lease.generation == looked.generation
                && (lease.token.number() >> 64) as u64 == connection.incarnation
                && lease.expiry > self.link.server_time(&connection, now())
        });
        Some(held.map_or(Lookup::Absent, |lease| Lookup::Held(lease.token)))
    }

    async fn begin(
        &self,
        slot: &Slot,
        token: Token,
        is_unwanted: bool,
    ) -> Option<Begin<RedisLease>> {
        let (connection, epoch) = self.usable(&slot.key)?;
        if (token.number() >> 64) as u64 != connection.incarnation {
            return None;
        }
        let key = self.link.settings.key(&slot.key);
        let vk = digest(slot, epoch);
        let fence = self.link.near.fence();
        for is_unwanted in [is_unwanted, true] {
            // Made before it is asked for: whatever the answer may be, or if there is none, it is
            // given back when it is dropped.
            let mut lease = Lease::new(&self.link, &connection, (&slot.key, &vk, epoch), token);
            let arguments = |call: &mut redis::Cmd| {
                call.arg(&vk).arg(token_text(token)).arg(millis(self.link.settings.lease));
                call.arg(if is_unwanted { "1" } else { "" });
            };
            let mut multiplexed = connection.multiplexed();
            let asked = (Operation::Lease, self.link.settings.lookup_budget);
            let called = LEASE_SCRIPT.call(&mut multiplexed, &key, arguments);
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
                Leased::Granted(generation) => {
                    lease.generation = generation;
                    return Some(Begin::Granted(RedisLease(lease)));
                }
                Leased::Held(holder) => {
                    lease.forget();
                    return Some(Begin::Held(holder));
                }
                Leased::Found { generation, record } => {
                    lease.forget();
                    let found = self.read((slot, fence), &connection, (generation, record));
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

    /// Reads a record that was found for a slot. `fence` was taken before it was asked for.
    fn read(
        &self,
        (slot, fence): (&Slot, Fence),
        connection: &Connection,
        (generation, record): (u64, Bytes),
    ) -> Option<Arc<Entry>> {
        let Ok(record) = decode(&record, slot, &self.link.settings.seal) else {
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
        let fresh_until = self.link.local_time(connection, record.stamp.fresh_until)?;
        // Softly invalidated since.
        let is_outdated = record.stamp.generation != generation;
        let until = if is_outdated { received } else { fresh_until };
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
        // The copy is looked up again before the response is stale.
        let until = match content {
            Content::Nominated(_) => until,
            Content::Response { .. } | Content::Pass => self.link.near.fresh_until(until),
        };
        Some(Arc::new(Entry::restored(provenance, content, until)))
    }

    /// Remembers the nominated fields that this process has just stored a note of.
    fn remember(&self, note: &Entry) {
        let Content::Nominated(nominated) = note.content() else { return };
        let provenance = Provenance {
            slot: note.slot().clone(),
            fence: self.link.near.fence(),
            requested: now(),
            gauge: Arc::clone(&self.gauge),
        };
        let hint = Entry::nominated(provenance, nominated.clone(), note.fresh_until());
        self.link.near.keep(&Arc::new(hint));
    }

    /// Invalidates at the server; acknowledged `later` than the server has. What happens in this
    /// process has happened when this returns.
    fn invalidate(
        &self,
        target: Target,
        later: Duration,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        let call = Call::new(&self.link, target);
        async move {
            let connection = call.link.connection().ok_or(Pending)?;
            call.link.invalidate(&connection, &call.target).await.map_err(|_| Pending)?;
            call.acknowledge();
            if !later.is_zero() {
                sleep(later).await;
            }
            Ok(())
        }
    }
}

/// One call of an invalidation. Dropped before the server has acknowledged it, it is due.
struct Call {
    link: Arc<Link>,
    target: Target,
    ticket: Option<Ticket>,
}

impl Call {
    fn new(link: &Arc<Link>, target: Target) -> Self {
        link.forget(&target);
        let ticket = Some(link.pending.enter(target.clone(), &link.wake));
        Self { link: Arc::clone(link), target, ticket }
    }

    fn acknowledge(mut self) {
        // What was read between the call and the server's doing.
        self.link.forget(&self.target);
        self.ticket.take().map(Ticket::acknowledge);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            // From here on nobody reads the key, and what was read before is forgotten.
            drop(ticket);
            self.link.forget(&self.target);
        }
    }
}

/// Returns the digest by which the server knows a variant in an epoch.
fn digest(slot: &Slot, epoch: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(slot.variant.as_bytes()).update(&epoch.to_be_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_ne_bytes(bytes),
        // The layer's keys come from the same source, so it worked when the process began.
        Err(_) => u128::from(crate::key::seeded_hash(now())) << 64 | 1,
    }
}
