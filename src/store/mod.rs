//! Where entries live: the trait that a store implements, and the stores of this crate.
//!
//! # Writing a store
//!
//! A store keeps [`Entry`]s by [`Slot`]. What makes it more than a map is the *fence*: an
//! invalidation cannot be undone by a fill that was already in flight. Three rules hold that up,
//! and [`conformance`] (feature `testing`) checks them:
//!
//! 1. [`Store::invalidate`] voids every fill of the key that has begun, and then removes all
//!    entries of the key, before it returns `Ok`. What it does in this process it does when it is
//!    *called*, before its future is polled: the caller may be inside `Drop`.
//! 2. [`Store::commit`] stores nothing if the key was invalidated after the entry's [`Fence`] was
//!    taken. Check and insertion are one step, seen from an invalidation.
//! 3. An entry is found only by its own variant.
//!
//! [`Sequence`] does the first two for a store in one process: run the insertion inside
//! [`Sequence::commit`] and the removal inside [`Sequence::invalidate`].
//!
//! A store never makes a request fail and keeps its own time budgets: what it cannot answer in time
//! is [`Lookup::Unavailable`], [`Begin::Unavailable`] or [`Commit::Failed`].
//!
//! ```
//! use tower_support_cache::{MemoryStore, store::{PrimaryKey, Store}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let store = MemoryStore::new();
//! let key = PrimaryKey::new("support:cases:A1");
//! let fence = store.sequence().begin();
//! store.invalidate(&key).await.unwrap();
//! assert!(!store.sequence().is_current(&key, fence));      // a fill begun at `fence` stores nothing
//! # }
//! ```

#[cfg(feature = "testing")]
pub mod conformance;
mod memory;

use std::{future::Future, sync::Arc};

pub use crate::{
    entry::Entry,
    error::Pending,
    key::{PrimaryKey, Slot, Variant, VariantRef},
    sequence::{Fence, Sequence},
};
pub use memory::{MemoryStore, MemoryStoreBuilder};

/// What [`Store::lookup`] found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lookup {
    /// An entry; whether it is fresh is for the caller to ask.
    Found(Arc<Entry>),
    /// Nothing.
    Absent,
    /// The store could not be asked within its budget. The request is forwarded; nothing is stored.
    Unavailable,
}

/// Whether a fill may begin, from [`Store::begin`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Begin<L> {
    /// It may, and this is its right to commit.
    Granted(L),
    /// A fresh entry has appeared meanwhile.
    Found(Arc<Entry>),
    /// The store could not be asked within its budget. The request is forwarded; nothing is stored.
    Unavailable,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// The entry is stored.
    Stored,
    /// An invalidation overtook the fill.
    Fenced,
    /// The store already has a response that was asked of the origin later.
    Superseded,
    /// The store has no room for an entry of this weight.
    TooLarge,
    /// The store could not be reached within its budget.
    Failed,
}

/// Where entries live. See the [module](self) for what an implementation must hold.
///
/// Every future may be dropped at any await: what has happened by then stays, and a lease that is
/// dropped is released.
pub trait Store: Send + Sync + 'static {
    /// The right to fill one slot. Dropping it gives the right back.
    type Lease: Send + Sync + 'static;

    /// Returns the sequence that orders invalidations and fills in this process.
    fn sequence(&self) -> &Sequence;

    /// Returns what this process holds for a variant, fresh or not, without waiting. It is on the
    /// path of every hit: no lock is held across anything, and nothing is allocated.
    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>>;

    /// Looks a slot up, after [`peek`](Self::peek) found nothing fresh. A store that holds all its
    /// entries in this process returns [`Lookup::Absent`] at once.
    fn lookup(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send;

    /// Asks for the right to fill a slot, just before the request is forwarded and after the
    /// flight took its [`Fence`]. The store looks once more: between the request's own look and
    /// this call another fill may have committed.
    ///
    /// Others join the flight by its fence and share what is found here, so an entry counts only
    /// if [`Sequence::is_current`] says so of its own fence at this moment.
    fn begin(&self, slot: &Slot) -> impl Future<Output = Begin<Self::Lease>> + Send;

    /// Stores an entry unless its key was invalidated after its [`fence`](Entry::fence) was taken.
    fn commit(&self, lease: Self::Lease, entry: Arc<Entry>) -> impl Future<Output = Commit> + Send;

    /// Gives the right to fill back without waiting: the response could not be stored. The same as
    /// dropping the lease, by name.
    fn release(&self, lease: Self::Lease) {
        drop(lease);
    }

    /// Removes all entries of a key and voids every fill of it that has begun.
    ///
    /// In this process that has happened when the call returns its future.
    ///
    /// # Errors
    ///
    /// [`Pending`] if the store could not be reached: the store retries until it is acknowledged,
    /// and answers nothing for this key until then.
    fn invalidate(&self, key: &PrimaryKey) -> impl Future<Output = Result<(), Pending>> + Send;

    /// The same for all keys.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send;
}
