//! Handle of an operator to a running cache.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;

use crate::{
    error::{ConfigError, Pending, Unfinished},
    exchange::{Cache, acknowledged},
    insight::{AuditReport, Explanation},
    key::{IntoKey, PrimaryKey, Strength, Subject, Tag, is_reserved, origin},
    metrics::{Snapshot, recent_outcomes::RecordedOutcome, switch::Switch, telemetry},
    route::{CacheRule, HeadRef, Routes},
    store::{Acknowledgement, Store},
};

/// Handle to a running cache, from [`SupportCacheLayer::handle`](crate::SupportCacheLayer::handle):
/// metrics, invalidations, switches.
///
/// Clones are handles to the same cache.
///
/// ```
/// use tower_support_cache::{MemoryStore, SupportCacheLayer, key};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let layer = SupportCacheLayer::new(MemoryStore::new());
/// let cache = layer.handle();
/// cache.invalidate(key("support:cases:{account}").with("account", "A1")).await.unwrap();
/// assert_eq!(cache.metrics().invalidations, 1);
/// # }
/// ```
#[derive(Clone)]
pub struct SupportCacheHandle {
    cache: Arc<dyn Operate>,
}

impl SupportCacheHandle {
    pub(crate) fn new(cache: Arc<dyn Operate>) -> Self {
        Self { cache }
    }

    /// Returns the name of the layer.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(&self) -> Arc<str> {
        self.cache.name()
    }

    /// Returns the cached routes in force.
    pub(crate) fn routes(&self) -> Vec<RouteName> {
        self.cache.routes()
    }

    /// Returns the counts so far.
    pub fn metrics(&self) -> Snapshot {
        self.cache.snapshot()
    }

    /// Invalidates a key: removes every response stored under it, and lets no fill that has begun store
    /// one.
    ///
    /// A text is taken as it is. Where values are not plain, use [`key`](crate::key()), which escapes
    /// them as the template of a route does. A key that no route makes is counted in
    /// [`Snapshot::invalidations_unmatched`].
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer, key};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
    /// cache.invalidate("support:cases:A1").await.unwrap();
    /// cache.invalidate(key("support:cases:{account}").with("account", "A 1")).await.unwrap();
    /// # }
    /// ```
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
    #[doc(alias = "purge")]
    #[doc(alias = "ban")]
    pub fn invalidate(&self, key: impl IntoKey) -> Invalidation {
        self.invalidate_many([key])
    }

    /// Invalidates several keys, and waits for their acknowledgements together.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), if one of them is not acknowledged.
    pub fn invalidate_many<K: IntoKey>(&self, keys: impl IntoIterator<Item = K>) -> Invalidation {
        self.run(Verb::Invalidate, keys)
    }

    /// Makes the responses under a key stale: they answer only as far as
    /// [`stale_while_revalidate`](crate::CacheRoute::stale_while_revalidate) and
    /// [`stale_if_error`](crate::CacheRoute::stale_if_error) let them, from now on. Those that neither
    /// allows are removed, and no fill that has begun is stored.
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
    pub fn soft_invalidate(&self, key: impl IntoKey) -> Invalidation {
        self.soft_invalidate_many([key])
    }

    /// Makes the responses under several keys stale, and waits for the acknowledgements together.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), if one of them is not acknowledged.
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn soft_invalidate_many<K: IntoKey>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Invalidation {
        self.run(Verb::SoftInvalidate, keys)
    }

    /// Invalidates a [tag](crate::CacheRoute::tag): every response that has it, by its route or by its
    /// [handler](crate::CacheTags), whatever its key, and every fill of one that has begun. It costs no more than the invalidation of one key.
    ///
    /// The groups that responses name (RFC 9875) are no such tags:
    /// [`invalidate_group`](Self::invalidate_group) is for them.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn invalidate_tag(&self, tag: impl IntoKey) -> Invalidation {
        self.invalidate_tags([tag])
    }

    /// Invalidates several tags, and waits for their acknowledgements together.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), if one of them is not acknowledged.
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn invalidate_tags<K: IntoKey>(&self, tags: impl IntoIterator<Item = K>) -> Invalidation {
        self.run(Verb::InvalidateTag, tags)
    }

    /// Makes the responses that have a tag stale, as [`soft_invalidate`](Self::soft_invalidate) does it to
    /// those under a key. It costs no more than for one key.
    ///
    /// A response that nobody reads while its tag is softly invalidated five times is removed.
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer, key};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
    /// cache.soft_invalidate_tag(key("account:{account}").with("account", "A1")).await.unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    #[doc(alias = "soft purge")]
    pub fn soft_invalidate_tag(&self, tag: impl IntoKey) -> Invalidation {
        self.soft_invalidate_tags([tag])
    }

    /// Makes the responses that have one of several tags stale, and waits for the acknowledgements
    /// together.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), if one of them is not acknowledged.
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn soft_invalidate_tags<K: IntoKey>(
        &self,
        tags: impl IntoIterator<Item = K>,
    ) -> Invalidation {
        self.run(Verb::SoftInvalidateTag, tags)
    }

    /// Invalidates a group that responses name in `Cache-Groups` (RFC 9875). `authority` is the host that
    /// the responses are of, with its port unless it is 80 or 443.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn invalidate_group(&self, authority: &str, group: &str) -> Invalidation {
        self.run_group(authority, group, Strength::Hard)
    }

    /// Makes the responses of a group stale, as [`soft_invalidate`](Self::soft_invalidate) does it to those
    /// under a key. `authority` is that of [`invalidate_group`](Self::invalidate_group).
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    #[doc(alias = "soft purge")]
    pub fn soft_invalidate_group(&self, authority: &str, group: &str) -> Invalidation {
        self.run_group(authority, group, Strength::Soft)
    }

    /// Invalidates a [bucket](crate::CacheRoute::bucket): every response of its routes, and of routes of other
    /// layers on the store that mean the same, and every fill of one that has begun. A bucket that the layer
    /// does not have is counted in [`Snapshot::invalidations_unmatched`].
    ///
    /// It goes through all entries in memory. Over Redis it is [`invalidate_all`](Self::invalidate_all): give
    /// the routes a [tag](crate::CacheRoute::tag) where that is too much.
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
    /// cache.invalidate_bucket("case_list").await.unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn invalidate_bucket(&self, bucket: &str) -> Invalidation {
        self.run_bucket("invalidate_bucket", bucket, Strength::Hard)
    }

    /// Makes the responses of a bucket stale, as [`soft_invalidate`](Self::soft_invalidate) does it to those
    /// under a key. Over Redis it is [`invalidate_all`](Self::invalidate_all).
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    #[doc(alias = "soft purge")]
    pub fn soft_invalidate_bucket(&self, bucket: &str) -> Invalidation {
        self.run_bucket("soft_invalidate_bucket", bucket, Strength::Soft)
    }

    /// Invalidates everything in the store, the keys of other layers on it included.
    ///
    /// Over Redis it takes as long as the longest heartbeat of all processes, one second at least. Where that
    /// is not known it takes ten: within ten seconds after this process has come to the server, if the
    /// processes there could not be read, or where the user may not use the key `tower-support-cache:heartbeats:…`.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate). Until every process has seen it, it is pending:
    /// [`flush_pending`](Self::flush_pending) and [`drain`](Self::drain) wait for it.
    #[doc(alias = "clear")]
    pub fn invalidate_all(&self) -> Invalidation {
        Invalidation(self.cache.invalidate_all(Strength::Hard))
    }

    /// Makes the responses of all routes of the layer stale, as [`soft_invalidate`](Self::soft_invalidate) does
    /// it to those under a key. Over Redis it is [`invalidate_all`](Self::invalidate_all).
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As for [`invalidate`](Self::invalidate).
    #[doc(alias = "soft purge")]
    pub fn soft_invalidate_all(&self) -> Invalidation {
        Invalidation(self.cache.invalidate_all(Strength::Soft))
    }

    /// Waits for the fills and writes that go on without their callers, then until the store has
    /// acknowledged every invalidation, and then until the
    /// [hook](crate::SupportCacheLayerBuilder::invalidation_hook) has passed them on. Call it before the process ends, after the server has stopped
    /// and its connections are closed.
    ///
    /// It takes `limit` at most, up to two seconds more for the store, and one for the hook. At the limit the work is given
    /// up: a write then has an unknown outcome, and what it may have changed is invalidated.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use axum::Router;
    /// # use tokio::net::TcpListener;
    /// # use tower_support_cache::SupportCacheHandle;
    /// # async fn signal() {}
    /// async fn serve(listener: TcpListener, app: Router, cache: SupportCacheHandle) {
    ///     let served = axum::serve(listener, app).with_graceful_shutdown(signal()).await;
    ///     if let Err(unfinished) = cache.drain(Duration::from_secs(10)).await {
    ///         eprintln!("{unfinished}");
    ///     }
    ///     # drop(served);
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unfinished`] says how much was given up, and how many invalidations are not acknowledged or not passed
    /// on.
    ///
    /// # Cancellation
    ///
    /// A dropped future changes nothing: no work is given up before the limit.
    #[doc(alias = "graceful shutdown")]
    pub async fn drain(&self, limit: Duration) -> Result<(), Unfinished> {
        self.cache.drain(limit).await
    }

    /// Waits until the store has acknowledged every invalidation so far, for at most `limit`. Before the
    /// process ends [`drain`](Self::drain) does more: it waits for writes that will invalidate.
    ///
    /// # Errors
    ///
    /// [`Pending`] if the store has not acknowledged all of them in time.
    pub async fn flush_pending(&self, limit: Duration) -> Result<(), Pending> {
        self.cache.flush_pending(limit).await
    }

    /// Counts calls to the origin that were made beside the layer, against its
    /// [budget](crate::SupportCacheLayerBuilder::origin_budget): by a job, by a handler that makes several
    /// calls for one request. Without a budget it does nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{MemoryStore, OriginBudget, SupportCacheLayer};
    ///
    /// let layer = SupportCacheLayer::builder(MemoryStore::new())
    ///     .origin_budget(OriginBudget::new(15_000, Duration::from_secs(86_400)))
    ///     .build()?;
    /// layer.handle().count_origin_calls(3);
    /// assert_eq!(layer.handle().metrics().origin.unwrap().calls, 3);
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    pub fn count_origin_calls(&self, calls: u32) {
        Arc::clone(&self.cache).count_origin_calls(calls);
    }

    /// Explains a request: its route, bucket, key, tags, what is in its variant, what would happen to it now
    /// and why, and which writes would invalidate its response. For a write: the keys and tags that it would
    /// invalidate. It is taken to have no content;
    /// [`explain_with_content`](Self::explain_with_content) is for one that has.
    ///
    /// The closures of routes and rules are called with it. It changes nothing: neither counters nor what is
    /// stored, nor what is evicted next. Over Redis it reads, which counts as an operation of the store.
    ///
    /// An authentication layer around the cache has added extensions to real requests; closures that read
    /// them find them here only if you add them, too.
    ///
    /// ```
    /// use http::Request;
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
    /// let request = Request::get("/accounts/A1/cases/C7/messages").body(()).unwrap();
    /// let explanation = cache.explain(&request).await;
    /// assert_eq!(explanation.bucket.as_deref(), Some("messages"));
    /// assert!(explanation.to_string().contains("now         miss: uri-miss"));
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// A dropped future changes nothing.
    #[doc(alias = "debug", alias = "dry run")]
    pub async fn explain(&self, request: &Request<()>) -> Explanation {
        self.cache.explain(HeadRef::of(request), Bytes::new()).await
    }

    /// Explains a request with content, as a layer that
    /// [reads it](crate::SupportCacheLayer::reading_content) treats it, and as [`explain`](Self::explain) does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tower_support_cache::{CacheRoute, Forecast, ForwardReason, MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let layer = SupportCacheLayer::builder(MemoryStore::new())
    ///     .cache(CacheRoute::query("/search").key("search").ttl(Duration::from_secs(60)))
    ///     .build()
    ///     .unwrap();
    /// let query = Request::builder().method("QUERY").uri("/search").header("content-type", "text/plain");
    /// let query = query.body(Bytes::from("cats")).unwrap();
    /// let explanation = layer.handle().explain_with_content(&query).await;
    /// assert_eq!(explanation.forecast, Forecast::Miss(ForwardReason::UriMiss));
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// A dropped future changes nothing.
    pub async fn explain_with_content(&self, request: &Request<Bytes>) -> Explanation {
        self.cache.explain(HeadRef::of(request), request.body().clone()).await
    }

    /// Returns the last outcomes of a bucket, the oldest first, if the layer
    /// [records](crate::SupportCacheLayerBuilder::record_outcomes) them.
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// let layer = SupportCacheLayer::builder(MemoryStore::new()).record_outcomes(100).build()?;
    /// for recorded in layer.handle().recent_outcomes("case_list") {
    ///     println!("{} after {:?}", recorded.outcome.as_str(), recorded.origin_time);
    /// }
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    pub fn recent_outcomes(&self, bucket: &str) -> Vec<RecordedOutcome> {
        self.cache.recent_outcomes(bucket)
    }

    /// Returns what came of the [audits](crate::CacheRoute::audit), by bucket.
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
    /// for (bucket, report) in cache.audits() {
    ///     for rule in report.missing_rules {
    ///         println!("{bucket}: {} ({} of {})", rule.line, rule.held, rule.held + rule.failed);
    ///     }
    /// }
    /// ```
    pub fn audits(&self) -> BTreeMap<String, AuditReport> {
        self.cache.audits()
    }

    /// Switches a bucket on, off, or into shadow. Returns whether there is a bucket of this name.
    pub fn switch(&self, bucket: &str, switch: Switch) -> bool {
        self.cache.switch(bucket, switch)
    }

    /// Replaces the routes. Requests that have begun finish under those that they began with; a write
    /// invalidates by those, and by the ones in force at its end.
    ///
    /// Counters and switches of buckets go on. So does everything that is stored for a route that means the
    /// same as one before, whatever its lifetimes, windows and limits are: these apply from the next read
    /// on. A route that is new, or that means something else, uses nothing from before. All other settings
    /// of the layer stay.
    ///
    /// Each process reloads for itself. The page [`life_cycle`](crate::guide::life_cycle) says how keys and tags
    /// are changed where processes share a store.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{CacheRoute, MemoryStore, Routes, SupportCacheLayer};
    ///
    /// let cache = SupportCacheLayer::builder(MemoryStore::new()).build()?.handle();
    /// let route = CacheRoute::get("/cases/{case}").key("case:{case}");
    /// cache.reload(Routes::new().cache(route.clone().ttl(Duration::from_secs(10))))?;
    ///
    /// let error = cache.reload(Routes::new().cache(route.ttl(Duration::ZERO))).unwrap_err();
    /// assert_eq!(error.field(), "ttl");
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`build`](crate::SupportCacheLayerBuilder::build), and also if the routes of all reloads have
    /// named over 256 buckets. Nothing has changed then.
    #[doc(alias = "hot reload")]
    #[expect(clippy::needless_pass_by_value, reason = "a set of routes is made for one use")]
    pub fn reload(&self, routes: Routes) -> Result<(), ConfigError> {
        self.cache.reload(&routes)
    }

    fn run_group(&self, authority: &str, group: &str, strength: Strength) -> Invalidation {
        let tag = Tag::group(&origin(authority.as_bytes()), group);
        Invalidation(self.cache.invalidate(&tag.into(), strength))
    }

    fn run_bucket(&self, call: &str, bucket: &str, strength: Strength) -> Invalidation {
        let begun = self.cache.invalidate_bucket(bucket, strength);
        if begun.is_none() {
            self.cache.invalidation_unmatched(call);
        }
        Invalidation(begun.unwrap_or_else(|| Box::pin(ready(Ok(())))))
    }

    fn run<K: IntoKey>(&self, verb: Verb, texts: impl IntoIterator<Item = K>) -> Invalidation {
        // All of them are in force here before the first is waited for.
        let calls: Vec<_> = texts.into_iter().filter_map(|text| self.begin(verb, text)).collect();
        Invalidation(Box::pin(acknowledged(calls)))
    }

    /// Begins an invalidation; `None` if no request makes its key or tag, so that nothing is stored
    /// under it.
    fn begin(&self, verb: Verb, text: impl IntoKey) -> Option<Acknowledgement> {
        let text = text.into_key().filter(|text| !is_reserved(text));
        let is_matched = text.as_ref().is_some_and(|text| match verb {
            Verb::Invalidate | Verb::SoftInvalidate => self.cache.can_make_key(text),
            Verb::InvalidateTag | Verb::SoftInvalidateTag => self.cache.can_make_tag(text),
        });
        if !is_matched {
            self.cache.invalidation_unmatched(verb.name());
        }
        // A text that no route of this layer makes may be one of another layer's on the store.
        let text = text?;
        let (subject, strength) = match verb {
            Verb::Invalidate => (PrimaryKey::new(text).into(), Strength::Hard),
            Verb::SoftInvalidate => (PrimaryKey::new(text).into(), Strength::Soft),
            Verb::InvalidateTag => (Tag::new(text).into(), Strength::Hard),
            Verb::SoftInvalidateTag => (Tag::new(text).into(), Strength::Soft),
        };
        Some(self.cache.invalidate(&subject, strength))
    }
}

impl fmt::Debug for SupportCacheHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupportCacheHandle").finish_non_exhaustive()
    }
}

/// Invalidation that a handle is called for.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Invalidate,
    SoftInvalidate,
    InvalidateTag,
    SoftInvalidateTag,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Invalidate => "invalidate",
            Self::SoftInvalidate => "soft_invalidate",
            Self::InvalidateTag => "invalidate_tag",
            Self::SoftInvalidateTag => "soft_invalidate_tag",
        }
    }
}

/// Future of an invalidation's acknowledgement by the store.
///
/// The invalidation is in force in this process as soon as the handle's method returns, before the future
/// is polled.
///
/// # Errors
///
/// [`Pending`] if the store has not acknowledged it in time. The store retries.
///
/// # Cancellation
///
/// A dropped future loses nothing: the store retries until the invalidation is acknowledged.
///
/// ```
/// use tower_support_cache::{Invalidation, MemoryStore, SupportCacheLayer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
/// let invalidation: Invalidation = cache.invalidate("support:cases:A1");
/// invalidation.await.unwrap();
/// # }
/// ```
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

/// Cached route and its bucket, for operators.
pub(crate) struct RouteName {
    pub(crate) route: String,
    pub(crate) bucket: String,
}

/// Operations of a handle, without the type of the store.
pub(crate) trait Operate: Send + Sync {
    #[cfg(feature = "metrics")]
    fn name(&self) -> Arc<str>;
    fn routes(&self) -> Vec<RouteName>;
    fn snapshot(&self) -> Snapshot;
    fn can_make_key(&self, key: &str) -> bool;
    fn can_make_tag(&self, tag: &str) -> bool;
    fn invalidation_unmatched(&self, call: &str);
    fn invalidate(&self, subject: &Subject, strength: Strength) -> Acknowledgement;
    fn invalidate_bucket(&self, bucket: &str, strength: Strength) -> Option<Acknowledgement>;
    fn invalidate_all(&self, strength: Strength) -> Acknowledgement;
    fn drain(
        &self,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<(), Unfinished>> + Send + '_>>;
    fn flush_pending(
        &self,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<(), Pending>> + Send + '_>>;
    fn count_origin_calls(self: Arc<Self>, calls: u32);
    fn explain<'a>(
        &'a self,
        head: HeadRef<'a>,
        content: Bytes,
    ) -> Pin<Box<dyn Future<Output = Explanation> + Send + 'a>>;
    fn audits(&self) -> BTreeMap<String, AuditReport>;
    fn recent_outcomes(&self, bucket: &str) -> Vec<RecordedOutcome>;
    fn switch(&self, bucket: &str, switch: Switch) -> bool;
    fn reload(&self, routes: &Routes) -> Result<(), ConfigError>;
}

impl<St: Store> Operate for Cache<St> {
    #[cfg(feature = "metrics")]
    fn name(&self) -> Arc<str> {
        self.metrics().name()
    }

    fn routes(&self) -> Vec<RouteName> {
        let rules = self.rules();
        let named = |rule: &Arc<CacheRule>| RouteName {
            route: rule.route.clone(),
            bucket: rule.bucket.clone(),
        };
        rules.table.read_rules().iter().map(named).collect()
    }

    fn snapshot(&self) -> Snapshot {
        Self::snapshot(self)
    }

    fn can_make_key(&self, key: &str) -> bool {
        self.rules().table.can_make_key(key)
    }

    fn can_make_tag(&self, tag: &str) -> bool {
        Self::can_make_tag(self, tag)
    }

    fn invalidation_unmatched(&self, call: &str) {
        Self::invalidation_unmatched(self, call);
    }

    fn invalidate(&self, subject: &Subject, strength: Strength) -> Acknowledgement {
        Box::pin(Self::invalidate(self, subject, strength))
    }

    fn invalidate_bucket(&self, bucket: &str, strength: Strength) -> Option<Acknowledgement> {
        Some(Box::pin(Self::invalidate_bucket(self, bucket, strength)?))
    }

    fn invalidate_all(&self, strength: Strength) -> Acknowledgement {
        Self::invalidate_all(self, strength)
    }

    fn drain(
        &self,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<(), Unfinished>> + Send + '_>> {
        Box::pin(Self::drain(self, limit))
    }

    fn flush_pending(
        &self,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<(), Pending>> + Send + '_>> {
        Box::pin(self.store.flush_pending(limit))
    }

    fn count_origin_calls(self: Arc<Self>, calls: u32) {
        self.spend(calls);
    }

    fn explain<'a>(
        &'a self,
        head: HeadRef<'a>,
        content: Bytes,
    ) -> Pin<Box<dyn Future<Output = Explanation> + Send + 'a>> {
        Box::pin(Self::explain(self, head, content))
    }

    fn audits(&self) -> BTreeMap<String, AuditReport> {
        self.audits.reports()
    }

    fn recent_outcomes(&self, bucket: &str) -> Vec<RecordedOutcome> {
        self.metrics().recent_outcomes(bucket)
    }

    fn switch(&self, bucket: &str, switch: Switch) -> bool {
        let is_known = self.metrics().switch(bucket, switch);
        if is_known {
            telemetry::switched(bucket, switch);
        }
        is_known
    }

    fn reload(&self, routes: &Routes) -> Result<(), ConfigError> {
        Self::reload(self, routes)
    }
}
