//! A store that fails, waits or hangs by a plan.

use std::{
    fmt,
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    store::{
        Begin, Commit, Entry, Lookup, Pending, PrimaryKey, Sequence, Slot, Store, Tag, Token,
        VariantRef, sealed::Sealed, timeout::bounded,
    },
    sync::{AtomicU64, Ordering},
};

/// An operation of a [`Store`] that [`Chaos`] disturbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreCall {
    /// [`Store::peek`], on the path of every hit.
    Peek,
    /// [`Store::lookup`].
    Lookup,
    /// [`Store::begin`], which grants the right to fill.
    Begin,
    /// [`Store::wait`], for another process's fill.
    Wait,
    /// [`Store::commit`].
    Commit,
    /// [`Store::invalidate`], [`Store::soft_invalidate`] and [`Store::invalidate_tag`].
    Invalidate,
    /// [`Store::invalidate_all`].
    InvalidateAll,
    /// [`Store::flush_pending`].
    FlushPending,
}

/// What [`Chaos`] does to one operation.
///
/// What an invalidation does when it is called, before its future is polled, happens whatever the
/// fault: in this process it is in force, and a store over a network goes on delivering it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The store is asked, and nothing else.
    None,
    /// The operation says that it failed, and the store is not asked. A lease is given back.
    Fail,
    /// The operation says that it failed, although the store has done it: an unknown outcome.
    FailAfter,
    /// The store is asked after a time on the runtime's clock.
    Delay(Duration),
    /// The operation never returns, and the store is not asked.
    Hang,
}

/// A [`Store`] around another that disturbs its operations by a plan, to test what a stack makes of
/// it.
///
/// The plan is a closure from the kind of an operation, and how many of that kind there were before,
/// to the [`Fault`]. It runs on the path of every request, and several threads may be in it at once.
///
/// A failed [`StoreCall::Peek`] finds nothing; other faults leave it alone, since it does not wait.
/// So a plan that fails both `Peek` and `Lookup` around a [`MemoryStore`](crate::MemoryStore) is a
/// store that cannot be reached.
///
/// See the [module documentation](super) for an example.
pub struct Chaos<St> {
    store: St,
    plan: Box<Plan>,
    counts: [AtomicU64; OPERATIONS],
}

type Plan = dyn Fn(StoreCall, u64) -> Fault + Send + Sync;

const OPERATIONS: usize = StoreCall::FlushPending as usize + 1;

impl<St: Store> Chaos<St> {
    /// Wraps `store`. `plan` is asked once for each operation; the first of a kind has count 0.
    pub fn new(store: St, plan: impl Fn(StoreCall, u64) -> Fault + Send + Sync + 'static) -> Self {
        Self { store, plan: Box::new(plan), counts: Default::default() }
    }

    /// Returns how often an operation was called so far.
    pub fn count(&self, operation: StoreCall) -> u64 {
        self.counts[operation as usize].load(Ordering::Relaxed)
    }

    fn fault(&self, operation: StoreCall) -> Fault {
        let count = self.counts[operation as usize].fetch_add(1, Ordering::Relaxed);
        (self.plan)(operation, count)
    }
}

impl<St: fmt::Debug> fmt::Debug for Chaos<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<St: Store> Sealed for Chaos<St> {}

impl<St: Store> Store for Chaos<St> {
    type Lease = St::Lease;

    fn sequence(&self) -> &Sequence {
        self.store.sequence()
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        match self.fault(StoreCall::Peek) {
            Fault::Fail | Fault::FailAfter => None,
            Fault::None | Fault::Delay(_) | Fault::Hang => self.store.peek(variant),
        }
    }

    async fn lookup(&self, slot: &Slot) -> Lookup {
        let fault = self.fault(StoreCall::Lookup);
        // Bounded as a store's own look-up is: a plan may delay it for as long as it likes.
        let found = async { self.store.lookup(slot).await };
        let found = disturbed(fault, found, || Lookup::Unavailable);
        bounded(found).await.unwrap_or(Lookup::Unavailable)
    }

    fn token(&self) -> Option<Token> {
        self.store.token()
    }

    async fn begin(
        &self,
        slot: &Slot,
        token: Option<Token>,
        seen: Option<&Entry>,
    ) -> Begin<Self::Lease> {
        let fault = self.fault(StoreCall::Begin);
        // Made when it is polled, here and below: what is delayed sees what has happened by then.
        let begin = async { self.store.begin(slot, token, seen).await };
        disturbed(fault, begin, || Begin::Unavailable).await
    }

    async fn wait(&self, slot: &Slot, token: Token) -> Lookup {
        let fault = self.fault(StoreCall::Wait);
        disturbed(fault, self.store.wait(slot, token), || Lookup::Unavailable).await
    }

    async fn commit(
        &self,
        lease: Self::Lease,
        entry: Arc<Entry>,
        note: Option<Arc<Entry>>,
    ) -> Commit {
        let fault = self.fault(StoreCall::Commit);
        // Made when it is polled: a store may commit when it is called, and then it would not fail.
        let commit = async { self.store.commit(lease, entry, note).await };
        disturbed(fault, commit, || Commit::Failed).await
    }

    fn release(&self, lease: Self::Lease) {
        self.store.release(lease);
    }

    fn invalidate(
        &self,
        key: &PrimaryKey,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::Invalidate);
        // Called here and not when it is polled: that is when it is in force in this process.
        disturbed(fault, self.store.invalidate(key), || Err(Pending))
    }

    fn soft_invalidate(
        &self,
        key: &PrimaryKey,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::Invalidate);
        disturbed(fault, self.store.soft_invalidate(key), || Err(Pending))
    }

    fn invalidate_tag(
        &self,
        tag: &Tag,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::Invalidate);
        disturbed(fault, self.store.invalidate_tag(tag), || Err(Pending))
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::InvalidateAll);
        disturbed(fault, self.store.invalidate_all(), || Err(Pending))
    }

    async fn flush_pending(&self, limit: Duration) -> Result<(), Pending> {
        let fault = self.fault(StoreCall::FlushPending);
        disturbed(fault, self.store.flush_pending(limit), || Err(Pending)).await
    }
}

async fn disturbed<R>(fault: Fault, act: impl Future<Output = R>, failed: impl FnOnce() -> R) -> R {
    match fault {
        Fault::None => act.await,
        Fault::Fail => failed(),
        Fault::FailAfter => {
            act.await;
            failed()
        }
        Fault::Delay(time) => {
            sleep(time).await;
            act.await
        }
        Fault::Hang => pending().await,
    }
}
