//! The store that several processes share.
//!
//! Each primary key is one hash at the server, under its own name:
//!
//! ```text
//! support:messages:C42      HASH
//!    v:<digest>   record     a response, or the note that there is none to be had
//!    v:<digest>n  number     of the response: who remembers what it has read asks for no more
//!    s:<digest>   outdated   when it was invalidated softly, and the record that was there
//!    l:<digest>   lease      which fill has the right to store the variant of this digest
//! tower-support-cache:tag:account:A1        STRING    the stamp of a tag
//! ```
//!
//! So what a hit needs is one field: whatever is at `v:…` is in force, but for what has tags
//! (`stamps.rs`), and its number tells whether it is still what was read before.
//!
//! The right to fill lives in the same key as what is stored, so whatever removes the key voids every
//! fill in flight: `redis-cli DEL support:messages:C42` is a full invalidation, and so are expiry,
//! eviction and a flush.

mod command;
mod connection;
mod counts;
mod deadline;
mod familiar;
mod invalidation;
mod lease;
mod link;
mod looks;
mod names;
mod near;
mod pending;
mod record;
mod settings;
mod shared;
mod stamps;
mod supervisor;
mod waiters;
mod wire;

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use siphasher::sip128::SipHasher13;
use tokio::time::timeout;

use self::{
    counts::count, invalidation::Call, link::Link, pending::Target, settings::Address,
    shared::Shared,
};
use super::{
    Begin, Commit, Entry, Lookup, Pending, PrimaryKey, Sequence, Slot, Store, Tag, Token,
    VariantRef, sealed::Sealed,
};
use crate::{clock::now, error::ConfigError, metrics::operations::StoreSnapshot};

#[cfg(any(test, fuzzing))]
pub(crate) use self::record::read_anything;
pub use self::{lease::RedisLease, settings::RedisStoreBuilder};

/// What the names of tags' stamps begin with, after the namespace; no tag is called `epoch`.
const TAGS: &str = "tower-support-cache:";

/// How long connecting to a server may take; to find it and ask it who it is, four times that.
const CONNECT: Duration = Duration::from_millis(300);

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
/// a [`caller_key`](crate::SupportCacheLayerBuilder::caller_key), the same in all processes.
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
        RedisStoreBuilder::new(Address::One(url.into()))
    }

    /// Returns a builder for the primary that sentinels call `name`. The addresses are the sentinels';
    /// user, password and database of the primary are set on the builder.
    ///
    /// They are asked at every new connection, and the link notices a failover within a heartbeat and
    /// its timeout. After one the cache is empty: nobody knows which invalidations the new primary has
    /// not seen.
    #[cfg(feature = "redis-sentinel")]
    pub fn sentinel(
        name: impl Into<String>,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> RedisStoreBuilder {
        let urls = urls.into_iter().map(Into::into).collect();
        RedisStoreBuilder::new(Address::Sentinels(name.into(), urls))
    }

    /// Returns a builder for a cluster, of which some nodes are given.
    ///
    /// There is no near cache over a cluster. The cache is empty after any primary went away, was
    /// restarted or failed over; the keys of one that is away are bypassed. A failover is noticed once the cluster tells of
    /// it: until then a primary that is cut off from the others may still answer, with what was
    /// invalidated elsewhere. The clocks of the nodes should agree to within a second: a response of a
    /// group (RFC 9875) that was invalidated less than that ago is not stored, and one that a clock further
    /// off makes look older may be.
    #[cfg(feature = "redis-cluster")]
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(Address::Cluster(urls.into_iter().map(Into::into).collect()))
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

impl Sealed for RedisStore {}

impl Store for RedisStore {
    type Lease = RedisLease;

    fn sequence(&self) -> &Sequence {
        &self.shared.sequence
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        self.shared.link.near.peek(variant)
    }

    async fn lookup(&self, slot: &Slot) -> Lookup {
        self.shared.lookup(slot).await.unwrap_or(Lookup::Unavailable)
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
            // Boxed, as all but the first look is: a future has room for every way at once, and what
            // most requests need is to be short.
            Some(token) => {
                let is_unwanted = seen.is_some_and(Entry::is_fresh);
                Box::pin(self.shared.begin(slot, token, is_unwanted)).await
            }
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
            match Box::pin(self.shared.look_for_all(slot, Some(token))).await {
                Some(Lookup::Held(holder)) if holder == token => {}
                found => return found.unwrap_or(Lookup::Unavailable),
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
        if !entry.is_current(&self.shared.sequence) {
            count(&self.shared.link.counts.fenced);
            return Commit::Fenced;
        }
        let commit = Box::pin(lease.0.commit(&entry, note.as_deref())).await;
        if commit == Commit::Stored
            && let Some(note) = note
        {
            // A hint of how to find what has just been stored.
            let near = &self.shared.link.near;
            near.keep(note, None, near.fence());
        }
        commit
    }

    fn invalidate(
        &self,
        key: &PrimaryKey,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.shared.sequence.invalidate(key, || ());
        Call::new(&self.shared.link, Target::Key(key.clone())).run(Duration::ZERO)
    }

    fn soft_invalidate(
        &self,
        key: &PrimaryKey,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.shared.sequence.invalidate(key, || ());
        Call::new(&self.shared.link, Target::Softly(key.clone())).run_softly()
    }

    fn invalidate_tag(
        &self,
        tag: &Tag,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.shared.sequence.invalidate_tag(tag);
        Call::new(&self.shared.link, Target::Tag(tag.clone())).run(Duration::ZERO)
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.shared.sequence.invalidate_all(|_| ());
        let until_seen = self.shared.link.settings.until_seen();
        Call::new(&self.shared.link, Target::All).run(until_seen)
    }

    async fn flush_pending(&self, limit: Duration) -> Result<(), Pending> {
        let link = &self.shared.link;
        link.supervise();
        link.wake.notify_one();
        timeout(limit, link.pending.flushed(link.settings.until_seen())).await.map_err(|_| Pending)
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

/// In hexadecimal.
type Digest = [u8; 32];

/// Returns the digest by which the server knows a variant in an epoch.
///
/// The epoch is a secret of the server's, so nobody who chooses targets can make two variants share
/// a digest. Where two do all the same, a record says which it is of, and the other is a miss. Versions
/// that write records of another form look elsewhere.
fn digest(slot: &Slot, epoch: u64) -> Digest {
    let version = !epoch ^ u64::from(record::VERSION);
    let hash = SipHasher13::new_with_keys(epoch, version).hash(slot.variant.as_bytes());
    let mut text = Digest::default();
    for (digits, bytes) in text.as_chunks_mut().0.iter_mut().zip(hash.as_bytes().as_chunks().0) {
        *digits = hexadecimal(u32::from_be_bytes(*bytes));
    }
    text
}

/// Writes all digits at once: each stands in a byte of its own.
fn hexadecimal(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Sixteen shows in a bit that no digit has: where six is added to ten or more.
    let letters = (digits + 6 * ONES) >> 4 & ONES;
    (digits + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_ne_bytes(bytes),
        // The layer's keys come from the same source, so it worked when the process began.
        Err(_) => u128::from(crate::key::seeded_hash(now())) << 64 | 1,
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_in_hexadecimal() {
        for number in [0, 1, 0x0123_4567, 0x89ab_cdef, 0x9a0f_f0a9, u32::MAX] {
            assert_eq!(hexadecimal(number), *format!("{number:08x}").as_bytes());
        }
    }

    /// Other processes may be of an older version, which looks there if its records are of the same form.
    #[test]
    fn a_variant_is_where_it_was() {
        const EXPECTED: [&str; 2] =
            ["e4f525053e2813416f834078a0e3f840", "f93417d90fa52246f54b3f0fd565798c"];
        let slot = Slot::example();
        let found = [1, 0xfedc_ba98_7654_3210].map(|epoch| digest(&slot, epoch));
        assert_eq!(found.map(|text| String::from_utf8(text.into()).unwrap()), EXPECTED);
    }
}
