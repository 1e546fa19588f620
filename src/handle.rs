//! Handle of an operator to a running cache.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    error::Pending,
    exchange::Cache,
    key::{PrimaryKey, Tag},
    metrics::Snapshot,
    store::Store,
};

/// State of a bucket: cached or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The bucket is cached.
    On,
    /// Every request of the bucket is forwarded from now on and stores nothing; what was forwarded
    /// before may still be stored. Invalidations run, so what is stored is safe to use once the
    /// bucket is switched on again.
    Off,
}

/// A handle to a running cache, from [`SupportCacheLayer::handle`](crate::SupportCacheLayer::handle).
///
/// Clones are handles to the same cache.
#[derive(Clone)]
pub struct SupportCacheHandle {
    cache: Arc<dyn Operate>,
}

impl SupportCacheHandle {
    pub(crate) fn new(cache: Arc<dyn Operate>) -> Self {
        Self { cache }
    }

    /// Returns the counts so far.
    pub fn metrics(&self) -> Snapshot {
        self.cache.snapshot()
    }

    /// Invalidates `key`: removes every response stored under it, and lets no fill that has begun
    /// store one.
    ///
    /// # Errors
    ///
    /// [`Pending`] if the store has not acknowledged it. It is in force here all the same, and
    /// retried.
    ///
    /// # Cancellation
    ///
    /// In this process the invalidation is in force when this returns. A dropped future loses nothing:
    /// the store goes on until it is acknowledged.
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
    /// cache.invalidate("support:cases:A1").await.unwrap();
    /// # }
    /// ```
    pub fn invalidate(&self, key: &str) -> Invalidation {
        Invalidation(self.cache.invalidate(PrimaryKey::new(key)))
    }

    /// Makes what is stored under `key` stale: it answers only as far as
    /// [`stale_while_revalidate`](crate::CacheRoute::stale_while_revalidate) and
    /// [`stale_if_error`](crate::CacheRoute::stale_if_error) let it, from now on. What neither allows
    /// is removed, and no fill that has begun is stored.
    ///
    /// Use it where a short time of the old value is better than a wait; it is no invalidation in the
    /// sense of RFC 9111 §4.4.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    #[doc(alias = "soft purge")]
    pub fn soft_invalidate(&self, key: &str) -> Invalidation {
        Invalidation(self.cache.soft_invalidate(PrimaryKey::new(key)))
    }

    /// Invalidates a [tag](crate::CacheRoute::tag): every response that has it, whatever its key, and
    /// every fill of one that has begun. It costs no more than the invalidation of one key.
    ///
    /// The groups that responses name (RFC 9875) are no such tags: a write invalidates these, by the
    /// `Cache-Group-Invalidation` of its response.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn invalidate_tag(&self, tag: &str) -> Invalidation {
        Invalidation(self.cache.invalidate_tag(Tag::new(tag)))
    }

    /// Invalidates everything in the store, the keys of other layers on it included.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn invalidate_all(&self) -> Invalidation {
        Invalidation(self.cache.invalidate_all())
    }

    /// Waits until the store has acknowledged every invalidation so far, for at most `limit`. Call it
    /// before the process ends: what is still pending then is lost with it, and what was to be
    /// invalidated lives until it expires.
    ///
    /// # Errors
    ///
    /// [`Pending`] if the store has not acknowledged all of them in time.
    pub async fn flush_pending(&self, limit: Duration) -> Result<(), Pending> {
        self.cache.flush_pending(limit).await
    }

    /// Switches a bucket on or off. Returns whether there is a bucket of this name.
    pub fn switch(&self, bucket: &str, switch: Switch) -> bool {
        self.cache.switch(bucket, switch)
    }
}

impl fmt::Debug for SupportCacheHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupportCacheHandle").finish_non_exhaustive()
    }
}

type Acknowledgement = Pin<Box<dyn Future<Output = Result<(), Pending>> + Send>>;

/// Future of an invalidation's acknowledgement by the store.
///
/// The invalidation is in force in this process already. A dropped future loses nothing: the store
/// retries until the invalidation is acknowledged.
#[must_use = "the store may not have acknowledged the invalidation yet"]
pub struct Invalidation(Acknowledgement);

impl Future for Invalidation {
    type Output = Result<(), Pending>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Invalidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidation").finish_non_exhaustive()
    }
}

/// Operations of a handle, without the type of the store.
pub(crate) trait Operate: Send + Sync {
    fn snapshot(&self) -> Snapshot;
    fn invalidate(&self, key: PrimaryKey) -> Acknowledgement;
    fn soft_invalidate(&self, key: PrimaryKey) -> Acknowledgement;
    fn invalidate_tag(&self, tag: Tag) -> Acknowledgement;
    fn invalidate_all(&self) -> Acknowledgement;
    fn flush_pending(
        &self,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<(), Pending>> + Send + '_>>;
    fn switch(&self, bucket: &str, switch: Switch) -> bool;
}

impl<St: Store> Operate for Cache<St> {
    fn snapshot(&self) -> Snapshot {
        Self::snapshot(self)
    }

    fn invalidate(&self, key: PrimaryKey) -> Acknowledgement {
        Box::pin(Self::invalidate(self, &key))
    }

    fn soft_invalidate(&self, key: PrimaryKey) -> Acknowledgement {
        Box::pin(Self::soft_invalidate(self, &key))
    }

    fn invalidate_tag(&self, tag: Tag) -> Acknowledgement {
        Box::pin(Self::invalidate_tag(self, &tag))
    }

    fn invalidate_all(&self) -> Acknowledgement {
        self.metrics().invalidated();
        Box::pin(self.store.invalidate_all())
    }

    fn flush_pending(
        &self,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<(), Pending>> + Send + '_>> {
        Box::pin(self.store.flush_pending(limit))
    }

    fn switch(&self, bucket: &str, switch: Switch) -> bool {
        let known = self.metrics().position(bucket);
        if let Some(bucket) = known {
            self.switch_off(bucket, switch == Switch::Off);
        }
        known.is_some()
    }
}
