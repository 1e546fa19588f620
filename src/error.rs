//! Errors that a user of the crate can meet. A request never meets one.

use std::{error::Error, fmt};

/// Kind of a configuration error, from [`ConfigError::kind`].
///
/// ```
/// use tower_support_cache::{ConfigErrorKind, MemoryStore};
///
/// let error = MemoryStore::builder().capacity(1).build().unwrap_err();
/// assert_eq!(error.kind(), ConfigErrorKind::Limit);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// A path pattern that cannot be parsed.
    Pattern,
    /// Two routes that match the same paths.
    Clash,
    /// A key template that cannot be parsed, is empty, or names a placeholder its pattern lacks.
    Key,
    /// A route without a key, or with both `.key(..)` and `.key_with(..)`.
    MissingKey,
    /// A lifetime that is missing, zero, or too long to add to a clock.
    Ttl,
    /// A bucket name unfit for metrics, or a bucket declared twice with different settings.
    Bucket,
    /// A limit that makes no sense, such as zero bytes.
    Limit,
    /// A status that cannot be stored.
    Status,
    /// A list of hosts that is empty, or has a text that is no host.
    Host,
    /// A scheme that is not HTTP's.
    Scheme,
    /// The operating system has no randomness to digest callers with.
    Randomness,
    /// A name that cannot stand in a header field.
    Name,
    /// A token of an [`OperatorService`](crate::OperatorService) that is too short.
    Token,
    /// A setting of a [`RedisStoreBuilder`](crate::store::RedisStoreBuilder), such as an address that cannot be used.
    Store,
    /// Routes that digest callers or fields over a store of several processes, and no key that is
    /// the same in all of them.
    CallerKey,
    /// A closure that a configuration file names and the code lacks.
    Closure,
    /// A secret that a configuration file names and that cannot be read, or is no key.
    Secret,
}

const LAYER: &str = "SupportCacheLayerBuilder";

/// Error of a `build` that refuses a configuration.
///
/// The message names the route, or else the builder, then the setter, the problem and the fix.
///
/// ```
/// use tower_support_cache::{CacheRoute, ConfigErrorKind, MemoryStore, SupportCacheLayer};
///
/// let route = CacheRoute::get("/cases/{case}").key("case:{case}");
/// let error = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap_err();
/// assert_eq!(error.kind(), ConfigErrorKind::Ttl);
/// assert_eq!(error.field(), "ttl");
/// assert!(error.to_string().starts_with("route `GET /cases/{case}`: ttl: is missing"));
/// ```
#[derive(Clone, Debug)]
pub struct ConfigError {
    kind: ConfigErrorKind,
    builder: &'static str,
    route: Option<String>,
    field: &'static str,
    problem: String,
}

impl ConfigError {
    /// Creates an error about a setter of the layer's builder. `problem` says what to write instead.
    pub(crate) fn new(
        kind: ConfigErrorKind,
        field: &'static str,
        problem: impl Into<String>,
    ) -> Self {
        Self { kind, builder: LAYER, route: None, field, problem: problem.into() }
    }

    /// Names another builder at fault.
    pub(crate) fn of(mut self, builder: &'static str) -> Self {
        self.builder = builder;
        self
    }

    /// Names the route at fault.
    pub(crate) fn at(mut self, route: &str) -> Self {
        self.route = Some(route.to_owned());
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ConfigErrorKind {
        self.kind
    }

    /// Returns the route at fault as method and pattern. `None` if the error is about a setting of the
    /// layer or the store.
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// Returns the problem, and the fix.
    #[cfg(feature = "config")]
    pub(crate) fn problem(&self) -> &str {
        &self.problem
    }

    /// Returns whether the error is about the layer's builder, and not about its store.
    #[cfg(feature = "config")]
    pub(crate) fn is_about_the_layer(&self) -> bool {
        self.builder == LAYER
    }

    /// Returns the name of the setter at fault, such as `"ttl"`.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Some(route) => write!(f, "route `{route}`: {}: {}", self.field, self.problem),
            None => write!(f, "`{}`: {}: {}", self.builder, self.field, self.problem),
        }
    }
}

impl Error for ConfigError {}

/// Error of an invalidation that the store has not acknowledged yet. It is in force in this process.
///
/// [`MemoryStore`](crate::MemoryStore) never returns it. A store over a network returns it if the server
/// does not answer in time; the store then retries in the background.
///
/// ```
/// use tower_support_cache::{Pending, SupportCacheHandle};
///
/// /// Removes a case from the cache, and reports it if other processes may still serve it.
/// async fn forget(cache: &SupportCacheHandle, case: &str) {
///     if let Err(Pending { .. }) = cache.invalidate(case).await {
///         eprintln!("{case} is pending until the store answers");
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Pending;

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalidation not yet acknowledged by the store")
    }
}

impl Error for Pending {}

/// Work that a [drain](crate::SupportCacheHandle::drain) has left unfinished.
///
/// ```
/// # use std::time::Duration;
/// # use tower_support_cache::SupportCacheHandle;
/// async fn shut_down(cache: &SupportCacheHandle) {
///     if let Err(unfinished) = cache.drain(Duration::from_secs(10)).await {
///         eprintln!("{unfinished}");
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Unfinished {
    given_up: u64,
    pending: u64,
}

impl Unfinished {
    pub(crate) fn new(given_up: u64, pending: u64) -> Self {
        Self { given_up, pending }
    }

    /// Returns the number of fills and writes that were given up at the limit. The outcome of such a
    /// write is unknown: what it changed was invalidated, and may be stale again if it commits later.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Returns the number of invalidations that the store has not acknowledged, or that were not passed on to
    /// the [hook](crate::InvalidationHook). They are lost if the process ends.
    pub fn pending(&self) -> u64 {
        self.pending
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given_up, pending } = self;
        write!(
            f,
            "{given_up} fills and writes were given up, and {pending} invalidations are not acknowledged"
        )
    }
}

impl Error for Unfinished {}
