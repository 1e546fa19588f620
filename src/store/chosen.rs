//! Store that is chosen at run time.

use std::{sync::Arc, time::Duration};

use super::{
    Acknowledgement, Begin, Commit, Lookup, MemoryStore, Pending, Store, StoreSnapshot,
    sealed::Sealed,
};
#[cfg(feature = "redis")]
use super::{RedisLease, RedisStore};
use crate::{
    entry::Entry,
    fence::Sequence,
    key::{Slot, Strength, Subject, Token, VariantRef},
    origin::{CallReport, SharedBudget},
};

/// Store that is chosen at run time, such as by a configuration.
///
/// ```
/// use tower_support_cache::{ChosenStore, MemoryStore, SupportCacheLayer};
///
/// let store = ChosenStore::from(MemoryStore::new()); // or `ChosenStore::from(RedisStore::connect(..)?)`
/// let layer: SupportCacheLayer<ChosenStore> = SupportCacheLayer::new(store);
/// # let _ = layer;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ChosenStore {
    /// Memory of this process.
    Memory(MemoryStore),
    /// Redis, shared by processes.
    #[cfg(feature = "redis")]
    Redis(RedisStore),
}

/// Right to fill a slot of a [`ChosenStore`].
///
/// ```
/// use tower_support_cache::{ChosenStore, Store, store::ChosenLease};
///
/// fn give_back(store: &ChosenStore, lease: ChosenLease) {
///     store.release(lease);
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ChosenLease {
    /// Of memory, which needs none.
    Memory,
    /// Of Redis.
    #[cfg(feature = "redis")]
    Redis(RedisLease),
}

impl From<MemoryStore> for ChosenStore {
    fn from(store: MemoryStore) -> Self {
        Self::Memory(store)
    }
}

#[cfg(feature = "redis")]
impl From<RedisStore> for ChosenStore {
    fn from(store: RedisStore) -> Self {
        Self::Redis(store)
    }
}

/// Calls the store that was chosen.
macro_rules! chosen {
    ($of:expr, $store:ident => $call:expr) => {
        match $of {
            ChosenStore::Memory($store) => $call,
            #[cfg(feature = "redis")]
            ChosenStore::Redis($store) => $call,
        }
    };
}

impl Sealed for ChosenStore {}

impl Store for ChosenStore {
    type Lease = ChosenLease;

    fn sequence(&self) -> &Sequence {
        chosen!(self, store => store.sequence())
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        chosen!(self, store => store.peek(variant))
    }

    async fn lookup(&self, slot: &Slot) -> Lookup {
        chosen!(self, store => store.lookup(slot).await)
    }

    async fn inspect(&self, slot: &Slot) -> Lookup {
        chosen!(self, store => store.inspect(slot).await)
    }

    fn token(&self) -> Option<Token> {
        chosen!(self, store => store.token())
    }

    async fn begin(
        &self,
        slot: &Slot,
        token: Option<Token>,
        seen: Option<&Entry>,
    ) -> Begin<Self::Lease> {
        match self {
            Self::Memory(store) => {
                store.begin(slot, token, seen).await.map(|()| ChosenLease::Memory)
            }
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.begin(slot, token, seen).await.map(ChosenLease::Redis),
        }
    }

    async fn wait(&self, slot: &Slot, token: Token) -> Lookup {
        chosen!(self, store => store.wait(slot, token).await)
    }

    async fn commit(
        &self,
        lease: Self::Lease,
        entry: Arc<Entry>,
        note: Option<Arc<Entry>>,
    ) -> Commit {
        match (self, lease) {
            (Self::Memory(store), _) => store.commit((), entry, note).await,
            #[cfg(feature = "redis")]
            (Self::Redis(store), ChosenLease::Redis(lease)) => {
                store.commit(lease, entry, note).await
            }
            #[cfg(feature = "redis")]
            (Self::Redis(_), ChosenLease::Memory) => Commit::Failed,
        }
    }

    fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        chosen!(self, store => Box::pin(store.invalidate(subject, strength)) as Acknowledgement)
    }

    fn unsettle(
        &self,
        subject: &Subject,
        strength: Strength,
        window: Duration,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        chosen!(self, store => Box::pin(store.unsettle(subject, strength, window)) as Acknowledgement)
    }

    fn invalidate_scopes(
        &self,
        scopes: &[[u8; 16]],
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        chosen!(self, store => Box::pin(store.invalidate_scopes(scopes, strength)) as Acknowledgement)
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        chosen!(self, store => Box::pin(store.invalidate_all()) as Acknowledgement)
    }

    async fn share_calls(&self, report: &CallReport) -> Option<SharedBudget> {
        chosen!(self, store => store.share_calls(report).await)
    }

    fn snapshot(&self) -> Option<StoreSnapshot> {
        chosen!(self, store => store.snapshot())
    }

    async fn flush_pending(&self, limit: Duration) -> Result<(), Pending> {
        chosen!(self, store => store.flush_pending(limit).await)
    }
}
