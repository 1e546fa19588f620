//! Store that fails, waits or hangs by a plan.

use std::{
    fmt,
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    store::{
        Begin, CallReport, Commit, Entry, Lookup, Pending, Sequence, SharedBudget, Slot, Store,
        Strength, Subject, Token, VariantRef, sealed::Sealed, timeout::bounded,
    },
    sync::{AtomicU64, Ordering},
};

/// Call of a [`Store`] that [`Chaos`] disturbs.
///
/// ```
/// use tower_support_cache::{MemoryStore, testing::{Chaos, Fault, StoreCall}};
///
/// let store = Chaos::new(MemoryStore::new(), |call, _| match call {
///     StoreCall::Commit => Fault::Fail,
///     _ => Fault::None,
/// });
/// assert_eq!(store.count(StoreCall::Commit), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreCall {
    /// [`Store::peek`], on the path of every hit.
    Peek,
    /// [`Store::lookup`].
    Lookup,
    /// [`Store::begin`], which grants the right to fill.
    Begin,
    /// [`Store::wait`], for the fill of another process.
    Wait,
    /// [`Store::commit`].
    Commit,
    /// [`Store::invalidate`] and [`Store::unsettle`].
    Invalidate,
    /// [`Store::invalidate_all`] and [`Store::invalidate_scopes`].
    InvalidateAll,
    /// [`Store::flush_pending`].
    FlushPending,
    /// [`Store::share_calls`].
    ShareCalls,
}

/// Disturbance of one call by [`Chaos`].
///
/// An invalidation acts in this process as soon as it is called, whatever the fault, and a store over
/// a network goes on delivering it.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{MemoryStore, testing::{Chaos, Fault}};
///
/// // Every tenth call of a kind takes a second.
/// let store = Chaos::new(MemoryStore::new(), |_, count| match count % 10 {
///     9 => Fault::Delay(Duration::from_secs(1)),
///     _ => Fault::None,
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call reaches the store undisturbed.
    None,
    /// The call fails without reaching the store. A lease is released.
    Fail,
    /// The call fails after the store has completed it: an unknown outcome.
    FailAfter,
    /// The call reaches the store after a time on the runtime's clock.
    Delay(Duration),
    /// The call never returns and does not reach the store.
    Hang,
}

/// [`Store`] around another one that disturbs its calls by a plan, to test a stack against failures.
///
/// The plan is a closure. It is given a call and the number of earlier calls of that kind, and returns
/// the [`Fault`]. It runs on the path of every request, in several threads at once.
///
/// A failed [`StoreCall::Peek`] finds nothing; other faults do not apply to it, since it does not wait.
/// So a plan that fails both `Peek` and `Lookup` around a [`MemoryStore`](crate::MemoryStore) makes it a
/// store that cannot be reached.
///
/// ```
/// use tower_support_cache::{
///     MemoryStore, SupportCacheLayer,
///     testing::{Chaos, Fault, StoreCall},
/// };
///
/// let store = Chaos::new(MemoryStore::new(), |call, _| match call {
///     StoreCall::Peek | StoreCall::Lookup => Fault::Fail,
///     _ => Fault::None,
/// });
/// let layer = SupportCacheLayer::new(store);
/// ```
pub struct Chaos<St> {
    store: St,
    plan: Box<Plan>,
    counts: [AtomicU64; CALLS],
}

type Plan = dyn Fn(StoreCall, u64) -> Fault + Send + Sync;

const CALLS: usize = StoreCall::ShareCalls as usize + 1;

impl<St: Store> Chaos<St> {
    /// Wraps `store`. `plan` is called once for each call; the first call of a kind has number 0.
    pub fn new(store: St, plan: impl Fn(StoreCall, u64) -> Fault + Send + Sync + 'static) -> Self {
        Self { store, plan: Box::new(plan), counts: Default::default() }
    }

    /// Returns the number of calls of a kind so far.
    pub fn count(&self, call: StoreCall) -> u64 {
        self.counts[call as usize].load(Ordering::Relaxed)
    }

    fn fault(&self, call: StoreCall) -> Fault {
        let count = self.counts[call as usize].fetch_add(1, Ordering::Relaxed);
        (self.plan)(call, count)
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

    fn inspect(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        self.store.inspect(slot)
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
        // Called when polled: a store may commit as soon as it is called, and then it would not fail.
        let commit = async { self.store.commit(lease, entry, note).await };
        disturbed(fault, commit, || Commit::Failed).await
    }

    fn release(&self, lease: Self::Lease) {
        self.store.release(lease);
    }

    fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::Invalidate);
        // Called here and not when it is polled: that is when it is in force in this process.
        disturbed(fault, self.store.invalidate(subject, strength), || Err(Pending))
    }

    fn unsettle(
        &self,
        subject: &Subject,
        strength: Strength,
        window: Duration,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::Invalidate);
        disturbed(fault, self.store.unsettle(subject, strength, window), || Err(Pending))
    }

    fn invalidate_scopes(
        &self,
        scopes: &[[u8; 16]],
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::InvalidateAll);
        disturbed(fault, self.store.invalidate_scopes(scopes, strength), || Err(Pending))
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<St> {
        let fault = self.fault(StoreCall::InvalidateAll);
        disturbed(fault, self.store.invalidate_all(), || Err(Pending))
    }

    async fn share_calls(&self, report: &CallReport) -> Option<SharedBudget> {
        let fault = self.fault(StoreCall::ShareCalls);
        let shared = async { self.store.share_calls(report).await };
        disturbed(fault, shared, || None).await
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
