//! An operator's grip on a running cache.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{
    error::Pending,
    exchange::Cache,
    key::{PrimaryKey, Tag},
    metrics::Snapshot,
    store::Store,
};

/// Whether a bucket is read from.
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
    /// In this process the invalidation happens when the future is first polled. A future dropped
    /// after that loses nothing.
    pub async fn invalidate(&self, key: &str) -> Result<(), Pending> {
        self.cache.invalidate(PrimaryKey::new(key)).await
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
    pub async fn soft_invalidate(&self, key: &str) -> Result<(), Pending> {
        self.cache.soft_invalidate(PrimaryKey::new(key)).await
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
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), Pending> {
        self.cache.invalidate_tag(Tag::new(tag)).await
    }

    /// Invalidates everything in the store, the keys of other layers on it included.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub async fn invalidate_all(&self) -> Result<(), Pending> {
        self.cache.invalidate_all().await
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

type Acknowledged<'a> = Pin<Box<dyn Future<Output = Result<(), Pending>> + Send + 'a>>;

/// What a handle does, without the type of the store.
pub(crate) trait Operate: Send + Sync {
    fn snapshot(&self) -> Snapshot;
    fn invalidate(&self, key: PrimaryKey) -> Acknowledged<'_>;
    fn soft_invalidate(&self, key: PrimaryKey) -> Acknowledged<'_>;
    fn invalidate_tag(&self, tag: Tag) -> Acknowledged<'_>;
    fn invalidate_all(&self) -> Acknowledged<'_>;
    fn flush_pending(&self, limit: Duration) -> Acknowledged<'_>;
    fn switch(&self, bucket: &str, switch: Switch) -> bool;
}

impl<St: Store> Operate for Cache<St> {
    fn snapshot(&self) -> Snapshot {
        Self::snapshot(self)
    }

    fn invalidate(&self, key: PrimaryKey) -> Acknowledged<'_> {
        Box::pin(async move { Self::invalidate(self, &key).await })
    }

    fn soft_invalidate(&self, key: PrimaryKey) -> Acknowledged<'_> {
        Box::pin(async move { Self::soft_invalidate(self, &key).await })
    }

    fn invalidate_tag(&self, tag: Tag) -> Acknowledged<'_> {
        Box::pin(async move { Self::invalidate_tag(self, &tag).await })
    }

    fn invalidate_all(&self) -> Acknowledged<'_> {
        self.metrics().invalidated();
        Box::pin(self.store.invalidate_all())
    }

    fn flush_pending(&self, limit: Duration) -> Acknowledged<'_> {
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
