//! Stores of entries: the trait, and the implementations of this crate.
//!
//! A store keeps [`Entry`]s by [`Slot`]. What makes it more than a map is the *fence*: an invalidation
//! cannot be undone by a fill that was already in flight. Three rules hold that up, and the
//! `conformance` suite (feature `testing`) checks them:
//!
//! 1. [`Store::invalidate`] voids every fill of its subject that has begun, and then removes all entries of
//!    it, before it returns `Ok`. Its effect in this process happens when it is *called*, before
//!    its future is polled: the caller may be inside `Drop`.
//! 2. [`Store::commit`] stores nothing if the key was invalidated after the entry's [`Fence`] was taken.
//!    Check and insertion are one step, seen from an invalidation.
//! 3. An entry is found only by its own variant.
//!
//! Tags give the same guarantee as keys: for each of an entry's [`tags`](Slot::tags).
//!
//! [`Sequence`] gives the first two to a store in one process: it runs the insertion inside
//! [`Sequence::commit`] and the removal inside [`Sequence::invalidate`]. For tags it calls
//! [`Sequence::invalidate_tag`], and asks [`Sequence::are_current`] at each read.
//!
//! A store never makes a request fail and keeps its own time: what it cannot answer in time is
//! [`Lookup::Unavailable`], [`Begin::Unavailable`] or [`Commit::Failed`]. The layer drops every future
//! but that of [`Store::lookup`] after 250 ms.
//!
//! # Stores that several processes share
//!
//! There an invalidation by another process is seen in the store alone. So a request joins a fill only
//! if it has itself seen there, after it began, that the fill still has its right. Such a store names
//! each fill by a [`Token`] ([`Store::token`]), keeps the token of the fill that has the right with the
//! entries of its key, and answers with it ([`Lookup::Held`], [`Begin::Held`]).
//!
//! ```
//! use tower_support_cache::{MemoryStore, store::{PrimaryKey, Store, Strength}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let store = MemoryStore::new();
//! let key = PrimaryKey::new("support:cases:A1");
//! let fence = store.sequence().begin();
//! store.invalidate(&key.clone().into(), Strength::Hard).await.unwrap();
//! assert!(!store.sequence().is_current(&key, fence));      // a fill begun at `fence` stores nothing
//! # }
//! ```

mod chosen;
#[cfg(feature = "testing")]
pub mod conformance;
mod greedy_dual;
mod memory;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod timeout;

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use self::sealed::Sealed;
pub use crate::{
    entry::Entry,
    error::Pending,
    fence::{Fence, Sequence},
    key::{PrimaryKey, Slot, Strength, Subject, Tag, Tags, Token, Variant, VariantRef},
    metrics::latency::Latency,
    metrics::operations::{NearSnapshot, Operation, OperationSnapshot, StoreSnapshot},
    origin::{CallReport, SharedBudget},
};
pub use chosen::{ChosenLease, ChosenStore};
pub use memory::{MemoryStore, MemoryStoreBuilder};
#[cfg(all(any(test, fuzzing), feature = "redis"))]
pub(crate) use redis::read_anything;
#[cfg(feature = "redis")]
pub use redis::{
    RedisCredentials, RedisLease, RedisStore, RedisStoreBuilder, SealKey, ServerIdentity,
};

/// Guard of [`Store`] against implementations outside this crate, while its verbs may still change.
pub(crate) mod sealed {
    /// Marker of a store of this crate. The feature `testing` gives it to tests of the suite.
    #[allow(unnameable_types)] // Which seals it.
    pub trait Sealed {}
}

/// Boxed future of an invalidation's acknowledgement.
pub(crate) type Acknowledgement = Pin<Box<dyn Future<Output = Result<(), Pending>> + Send>>;

/// Result of [`Store::lookup`].
///
/// ```
/// use tower_support_cache::store::{Lookup, Slot, Store};
///
/// /// Returns whether a store has a fresh response for a slot.
/// async fn has_fresh(store: &impl Store, slot: &Slot) -> bool {
///     matches!(store.lookup(slot).await, Lookup::Found(entry) if entry.is_fresh())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Lookup {
    /// An entry, fresh or not.
    Found(Arc<Entry>),
    /// Nothing.
    Absent,
    /// Nothing that may answer; this fill has the right to change that.
    Held(Holder),
    /// The store could not be asked in its time. The request is forwarded; nothing is stored.
    Unavailable,
}

/// Holder of a slot in a store that several processes share.
///
/// ```
/// use tower_support_cache::store::{Holder, Token};
///
/// let holder = Holder::Fill(Token::new(7));
/// assert_eq!(holder.token(), Token::new(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A fill that may store its response. Others wait for it.
    Fill(Token),
    /// All fills of a slot for which nothing may be stored. Others join the one of their process, or begin
    /// one.
    Unsettled(Token),
}

impl Holder {
    /// Returns the token that a request has read.
    pub fn token(self) -> Token {
        match self {
            Self::Fill(token) | Self::Unsettled(token) => token,
        }
    }
}

/// Result of [`Store::begin`]: the right to fill, or the reason why there is none.
///
/// ```
/// use tower_support_cache::store::{Begin, Slot, Store};
///
/// /// Returns whether this process may fill a slot, and gives the right back.
/// async fn may_fill(store: &impl Store, slot: &Slot) -> bool {
///     match store.begin(slot, store.token(), None).await {
///         Begin::Granted(lease) => {
///             store.release(lease);
///             true
///         }
///         _ => false,
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Begin<L> {
    /// The right to commit.
    Granted(L),
    /// A fresh entry has appeared meanwhile.
    Found(Arc<Entry>),
    /// Another fill has the right.
    Held(Holder),
    /// Nothing may be stored for now: a write has an unknown outcome. Where fills have names, other requests
    /// can read this one's in the store.
    Unsettled,
    /// The store could not be asked in its time. The request is forwarded; nothing is stored.
    Unavailable,
}

impl<L> Begin<L> {
    /// Converts the right, if there is one.
    fn map<M>(self, convert: impl FnOnce(L) -> M) -> Begin<M> {
        match self {
            Self::Granted(lease) => Begin::Granted(convert(lease)),
            Self::Found(entry) => Begin::Found(entry),
            Self::Held(token) => Begin::Held(token),
            Self::Unsettled => Begin::Unsettled,
            Self::Unavailable => Begin::Unavailable,
        }
    }
}

/// Result of [`Store::commit`].
///
/// ```
/// use tower_support_cache::store::Commit;
///
/// /// Returns whether it is worth while to make the same request again.
/// fn may_succeed_later(commit: Commit) -> bool {
///     matches!(commit, Commit::Fenced | Commit::Failed)
/// }
/// assert!(!may_succeed_later(Commit::TooLarge));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// The entry is stored.
    Stored,
    /// An invalidation overtook the fill.
    Fenced,
    /// The store already has a response that was requested later, or one that may still answer in place of
    /// a response that may not be stored.
    Superseded,
    /// The store has no room for an entry of this weight.
    TooLarge,
    /// Nothing may be stored for now: a write has an unknown outcome.
    Unsettled,
    /// The store could not be reached in its time.
    Failed,
}

/// Store of entries. See the [module](self) for the rules that an implementation keeps.
///
/// The trait is sealed: its verbs may change until a version 1. It is implemented by [`MemoryStore`],
/// `RedisStore` (feature `redis`), and an [`Arc`] of either.
///
/// Every future may be dropped at any await: what has happened by then stays, and a lease that is
/// dropped is released.
///
/// ```
/// use tower_support_cache::{MemoryStore, Store, SupportCacheHandle, SupportCacheLayer};
///
/// /// Starts a cache over whatever store the service is configured with.
/// fn start<St: Store>(store: St) -> SupportCacheHandle {
///     SupportCacheLayer::new(store).handle()
/// }
/// start(MemoryStore::new());
/// ```
pub trait Store: Sealed + Send + Sync + 'static {
    /// Right to fill one slot. Dropping it gives the right back.
    type Lease: Send + Sync + 'static;

    /// Returns the sequence that orders invalidations and fills in this process.
    fn sequence(&self) -> &Sequence;

    /// Returns the entry that this process holds for a variant, fresh or not, without waiting. It is on
    /// the path of every hit: no lock is held across anything, and nothing is allocated.
    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>>;

    /// Looks a slot up, after [`peek`](Self::peek) found nothing that answers. It ends within a time of
    /// the store's own, whatever happens: the layer has no timer for it.
    fn lookup(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send;

    /// Looks a slot up as [`lookup`](Self::lookup) does, and leaves no trace: what is used least stays so,
    /// and nothing is kept, replaced or counted. A store over a network reads, and that is an operation of
    /// its own.
    fn inspect(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send;

    /// Names a fill that is about to begin. `None`, the default, means that all fills of this store are
    /// of this process and need no names.
    fn token(&self) -> Option<Token> {
        None
    }

    /// Asks for the right to fill a slot, just before the request is forwarded and after the flight took
    /// its [`Fence`]. The store looks once more: between the request's own look and this call another
    /// fill may have committed.
    ///
    /// `token` names the fill where the store does so. `seen` is the entry that the request has found
    /// and does not want: another fresh one counts as found, this one does not. Nor does an entry that is
    /// no [answer](Entry::is_answer). Followers of the flight share what is found here, so an entry
    /// counts only if [`Sequence::is_current`] holds for its own fence at this moment.
    fn begin(
        &self,
        slot: &Slot,
        token: Option<Token>,
        seen: Option<&Entry>,
    ) -> impl Future<Output = Begin<Self::Lease>> + Send;

    /// Waits until another process's fill is over, and looks the slot up then. It is called with the token
    /// of a [`Holder::Fill`], at most once at a time for each, and dropped at the
    /// request's deadline.
    ///
    /// By default it [looks](Self::lookup) at once, and then every 5 to 50 ms.
    fn wait(&self, slot: &Slot, token: Token) -> impl Future<Output = Lookup> + Send {
        async move {
            let mut pause = Duration::from_millis(5);
            loop {
                match self.lookup(slot).await {
                    Lookup::Held(holder) if holder.token() == token => {}
                    // A stale entry does not show whether the fill is over: the next look is later.
                    Lookup::Found(entry) if !entry.is_fresh() => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        return Lookup::Found(entry);
                    }
                    found => return found,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }

    /// Stores an entry unless its key or one of its tags was invalidated after its
    /// [`fence`](Entry::fence) was taken. That comes first: an entry that is refused for another reason,
    /// but for [`Commit::Failed`], may be shared with requests that wait for it.
    ///
    /// `note` is stored in the same step: another entry of the same key, which leads to `entry`.
    ///
    /// A pass [gives way](Entry::gives_way_to) to a response at its own place or at the note's. Nothing is
    /// stored then, which is [`Commit::Superseded`].
    fn commit(
        &self,
        lease: Self::Lease,
        entry: Arc<Entry>,
        note: Option<Arc<Entry>>,
    ) -> impl Future<Output = Commit> + Send;

    /// Gives the right to fill back without waiting: the response could not be stored. The same as
    /// dropping the lease, by name.
    fn release(&self, lease: Self::Lease) {
        drop(lease);
    }

    /// Invalidates a key or a tag: removes all entries that it is of or makes them stale, and voids every
    /// fill of one that has begun.
    ///
    /// In this process that has happened when the call returns its future. A store may do in full what is
    /// to be done softly.
    ///
    /// # Errors
    ///
    /// [`Pending`] if the store could not be reached: the store retries until it is acknowledged,
    /// and answers nothing for this subject until then.
    fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<Self>;

    /// Invalidates a key or a tag whose last write has an unknown outcome: until `window` is over, nothing
    /// may be stored for it. A store that processes share says so to all of them; the window begins when
    /// they can see it.
    ///
    /// By default it is [`invalidate`](Self::invalidate): in this process the layer keeps the window.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    fn unsettle(
        &self,
        subject: &Subject,
        strength: Strength,
        window: Duration,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<Self> {
        let _ = window;
        self.invalidate(subject, strength)
    }

    /// Invalidates the routes whose digests are `scopes`: removes all entries that they have stored or makes
    /// them stale, and voids every fill of one that has begun.
    ///
    /// By default it is [`invalidate_all`](Self::invalidate_all), which is right, and costs everything.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    fn invalidate_scopes(
        &self,
        scopes: &[[u8; 16]],
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<Self> {
        let _ = (scopes, strength);
        self.invalidate_all()
    }

    /// Removes all entries of all keys and voids every fill that has begun.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<Self>;

    /// Returns the time since a slot was last invalidated by a layer on the store: its key, one of its tags, its
    /// route, or everything. `None` if that is longer ago than every layer [settles](crate::CacheRoute::settle),
    /// and zero if the store cannot tell. It is called after the fill has got its right.
    ///
    /// By default it knows the invalidations of this process.
    fn since_invalidation(&self, slot: &Slot) -> impl Future<Output = Option<Duration>> + Send {
        ready(self.sequence().recent().since(slot))
    }

    /// Reports calls to an origin that has a budget, and returns what is left of it to all processes on the
    /// store. `None`, the default, if it shares nothing, or if the server could not be asked: the calls are
    /// reported again.
    fn share_calls(
        &self,
        report: &CallReport,
    ) -> impl Future<Output = Option<SharedBudget>> + Send {
        let _ = report;
        ready(None)
    }

    /// Copies the store's own counts out. `None`, the default, if it has none.
    fn snapshot(&self) -> Option<StoreSnapshot> {
        None
    }

    /// Waits until every invalidation so far is acknowledged.
    ///
    /// # Errors
    ///
    /// [`Pending`] if one is not when `limit` has passed.
    fn flush_pending(&self, limit: Duration) -> impl Future<Output = Result<(), Pending>> + Send {
        let _ = limit;
        ready(Ok(()))
    }
}

impl<St: Store> Sealed for Arc<St> {}

impl<St: Store> Store for Arc<St> {
    type Lease = St::Lease;

    fn sequence(&self) -> &Sequence {
        (**self).sequence()
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        (**self).peek(variant)
    }

    fn lookup(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        (**self).lookup(slot)
    }

    fn inspect(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        (**self).inspect(slot)
    }

    fn token(&self) -> Option<Token> {
        (**self).token()
    }

    fn begin(
        &self,
        slot: &Slot,
        token: Option<Token>,
        seen: Option<&Entry>,
    ) -> impl Future<Output = Begin<Self::Lease>> + Send {
        (**self).begin(slot, token, seen)
    }

    fn wait(&self, slot: &Slot, token: Token) -> impl Future<Output = Lookup> + Send {
        (**self).wait(slot, token)
    }

    fn commit(
        &self,
        lease: Self::Lease,
        entry: Arc<Entry>,
        note: Option<Arc<Entry>>,
    ) -> impl Future<Output = Commit> + Send {
        (**self).commit(lease, entry, note)
    }

    fn release(&self, lease: Self::Lease) {
        (**self).release(lease);
    }

    fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        (**self).invalidate(subject, strength)
    }

    fn unsettle(
        &self,
        subject: &Subject,
        strength: Strength,
        window: Duration,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        (**self).unsettle(subject, strength, window)
    }

    fn invalidate_scopes(
        &self,
        scopes: &[[u8; 16]],
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        (**self).invalidate_scopes(scopes, strength)
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        (**self).invalidate_all()
    }

    fn since_invalidation(&self, slot: &Slot) -> impl Future<Output = Option<Duration>> + Send {
        (**self).since_invalidation(slot)
    }

    fn share_calls(
        &self,
        report: &CallReport,
    ) -> impl Future<Output = Option<SharedBudget>> + Send {
        (**self).share_calls(report)
    }

    fn snapshot(&self) -> Option<StoreSnapshot> {
        (**self).snapshot()
    }

    fn flush_pending(&self, limit: Duration) -> impl Future<Output = Result<(), Pending>> + Send {
        (**self).flush_pending(limit)
    }
}
