//! The layer and its builder.

use std::{fmt, sync::Arc};

use http::HeaderName;
use sfv::Token;
use tower_layer::Layer;

use crate::{
    error::{ConfigError, ConfigErrorKind},
    exchange::{Cache, FrontSettings, InvalidationHook},
    handle::SupportCacheHandle,
    key::DigestKey,
    metrics::{recent_outcomes::MAX_OUTCOMES, status_field::StatusField},
    origin::{OriginBudget, OriginController},
    policy::CredentialFields,
    read_content::ReadContentLayer,
    route::{CacheRoute, Credentials, Identity, InvalidateRoute, Routes},
    service::SupportCache,
    store::Store,
};

/// Layer that caches responses of the services it wraps.
///
/// Clones share everything, and so do the services made by them. The [crate documentation](crate) says
/// where it belongs in a stack.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};
///
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(Duration::from_secs(60)))
///     .build()?;
/// let router: axum::Router = axum::Router::new().layer(layer);
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
pub struct SupportCacheLayer<St> {
    cache: Arc<Cache<St>>,
    settings: Arc<LayerSettings>,
}

impl<St: Store> SupportCacheLayer<St> {
    /// Sets [`CacheRoute::credentials`] for every route that does not set it itself.
    ///
    /// Call it before you take a handle or wrap a service: the layer it returns shares the store
    /// with those, but neither flights nor metrics. Over a store that processes share use the
    /// [builder](Self::builder) for routes per caller: here each process digests callers by a key of
    /// its own, so that none finds what another has stored.
    #[must_use = "it returns another layer"]
    pub fn credentials(self, credentials: Credentials) -> Self {
        let store = Arc::clone(&self.cache.store);
        let is_caller_key_optional = true;
        let settings =
            LayerSettings { credentials, is_caller_key_optional, ..(*self.settings).clone() };
        SupportCacheLayerBuilder { store, settings }
            .build()
            .expect("credentials do not make valid routes invalid")
    }

    /// Returns a builder without routes.
    pub fn builder(store: St) -> SupportCacheLayerBuilder<St> {
        let settings = LayerSettings {
            routes: Routes::new(),
            credentials: Credentials::Bypass,
            credential_fields: Credentials::default_fields(),
            caller_key: None,
            is_caller_key_optional: false,
            tag_field: None,
            name: "support-cache".to_owned(),
            mount: String::new(),
            scheme: String::new(),
            front: FrontSettings::default(),
            origin_budget: None,
        };
        SupportCacheLayerBuilder { store: Arc::new(store), settings }
    }

    #[cfg(test)]
    pub(crate) fn cache(&self) -> &Arc<Cache<St>> {
        &self.cache
    }

    /// Returns a layer that also reads the content of requests, for routes such as
    /// [`CacheRoute::query`]. It shares everything with this one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::{Router, routing::any};
    /// use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};
    ///
    /// let layer = SupportCacheLayer::builder(MemoryStore::new())
    ///     .cache(CacheRoute::query("/search").key("search").ttl(Duration::from_secs(60)))
    ///     .build()?;
    /// let handle = layer.handle();
    /// let app: Router = Router::new()
    ///     .route("/search", any(async |asked: String| format!("found {asked}")))
    ///     .layer(layer.reading_content());
    /// # let _ = (handle, app);
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    #[must_use = "it returns another layer"]
    pub fn reading_content(&self) -> ReadContentLayer<St> {
        ReadContentLayer::new(Arc::clone(&self.cache))
    }

    /// Returns a handle to the running cache: metrics, invalidations, switches.
    pub fn handle(&self) -> SupportCacheHandle {
        SupportCacheHandle::new(self.cache.clone())
    }
}

impl<St> Clone for SupportCacheLayer<St> {
    fn clone(&self) -> Self {
        Self { cache: Arc::clone(&self.cache), settings: Arc::clone(&self.settings) }
    }
}

impl<St> fmt::Debug for SupportCacheLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupportCacheLayer").finish_non_exhaustive()
    }
}

impl<S, St> Layer<S> for SupportCacheLayer<St> {
    type Service = SupportCache<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        SupportCache::new(inner, Arc::clone(&self.cache))
    }
}

/// Key of the digests that stand for callers and for values of nominated fields in the store.
///
/// Processes that share a store need the same, and keep it secret: with the key and the store one can
/// try out whether a caller's responses are there.
///
/// ```
/// use tower_support_cache::CallerKey;
///
/// let key = CallerKey::new([7; 32]);
/// assert_eq!(format!("{key:?}"), "CallerKey(..)");
/// ```
#[derive(Clone, Copy)]
pub struct CallerKey([u8; 32]);

impl CallerKey {
    /// Takes 32 random bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerKey(..)")
    }
}

/// Builder of a [`SupportCacheLayer`], from [`SupportCacheLayer::builder`].
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, InvalidateRoute, MemoryStore, SupportCacheLayer};
///
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .name("portal")
///     .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(Duration::from_secs(60)))
///     .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
///     .build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
///
/// What all routes have in common:
///
/// ```
/// use http::{HeaderName, header::AUTHORIZATION};
/// use tower_support_cache::{
///     CallerKey, Caller, Credentials, MemoryStore, Routes, StatusField, SupportCacheLayer,
/// };
///
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .routes(Routes::new())
///     .credential_fields([AUTHORIZATION, HeaderName::from_static("x-session")])
///     .credentials(Credentials::PerCaller(Caller::authorization()))
///     .caller_key(CallerKey::new([7; 32])) // 32 random bytes, from the service's secrets.
///     .status_field(StatusField::Hidden)
///     .invalidation_hook(|invalidated| async move { println!("purge {invalidated:?}") })
///     .mount("admin")
///     .scheme("https")
///     .build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[must_use = "a builder does nothing itself, use `.build()` to build it"]
pub struct SupportCacheLayerBuilder<St> {
    store: Arc<St>,
    settings: LayerSettings,
}

#[derive(Clone)]
struct LayerSettings {
    routes: Routes,
    credentials: Credentials,
    credential_fields: Vec<HeaderName>,
    caller_key: Option<CallerKey>,
    /// Permission to have digests that differ among processes on one store.
    is_caller_key_optional: bool,
    tag_field: Option<HeaderName>,
    name: String,
    mount: String,
    /// Scheme of requests that name none; empty if it is unknown.
    scheme: String,
    front: FrontSettings,
    origin_budget: Option<OriginBudget>,
}

impl<St: Store> SupportCacheLayerBuilder<St> {
    /// Adds a route whose responses are cached.
    pub fn cache(mut self, route: CacheRoute) -> Self {
        self.settings.routes = self.settings.routes.cache(route);
        self
    }

    /// Adds a rule that says what a write invalidates.
    ///
    /// A successful write to the path of a cached route invalidates that route's key without a
    /// rule (RFC 9111 §4.4).
    pub fn invalidate(mut self, route: InvalidateRoute) -> Self {
        self.settings.routes = self.settings.routes.invalidate(route);
        self
    }

    /// Adds the routes of a set, such as one that is also for
    /// [`SupportCacheHandle::reload`].
    pub fn routes(mut self, routes: Routes) -> Self {
        self.settings.routes.extend(routes);
        self
    }

    /// Sets [`CacheRoute::credentials`] for every route that does not set it itself.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.settings.credentials = credentials;
        self
    }

    /// Sets the request fields that carry credentials. Defaults to [`Credentials::default_fields`]:
    /// `Authorization`, `Cookie`, `X-Api-Key`, and the fields by which proxies name a caller, such as
    /// `X-Forwarded-User`.
    ///
    /// Leave one out only if nothing behind the layer reads it. Otherwise the response made for one
    /// client answers another.
    pub fn credential_fields(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings.credential_fields = names.into_iter().collect();
        self
    }

    /// Sets the key of the digest that stands for a caller. Defaults to a random one in each
    /// process.
    ///
    /// Give the same key to processes that share a store, and keep it secret: who has it and the
    /// store can try out whether a caller's responses are there. Without it [`build`](Self::build)
    /// refuses such a store for routes per caller and routes with [`CacheRoute::vary`].
    pub fn caller_key(mut self, key: CallerKey) -> Self {
        self.settings.caller_key = Some(key);
        self
    }

    /// Names a response field whose values are tags of the response, such as `Surrogate-Key` or `Cache-Tag`.
    /// Defaults to none.
    ///
    /// It lists tags as [`CacheRoute::tag`] makes them, separated by spaces or commas, on all cached routes.
    /// A handler that builds a tag of values escapes them by [`key`](crate::key()); for a tag that has a
    /// comma it uses [`CacheTags`](crate::CacheTags). A response with more than 128 tags, or with one that
    /// is longer than 512 bytes or no UTF-8, is not stored. Clients receive the field unless an outer layer
    /// removes it. A 304 adds the tags that it names to those of the stored response.
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::HeaderName;
    /// use tower_support_cache::{CacheRoute, InvalidateRoute, MemoryStore, SupportCacheLayer};
    ///
    /// // A list of products answers with `Surrogate-Key: product:7 product:8`.
    /// let layer = SupportCacheLayer::builder(MemoryStore::new())
    ///     .tag_field(HeaderName::from_static("surrogate-key"))
    ///     .cache(CacheRoute::get("/products").key("products").ttl(Duration::from_secs(60)))
    ///     .invalidate(InvalidateRoute::put("/products/{product}").tag("product:{product}"))
    ///     .build()?;
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    #[doc(alias = "surrogate key", alias = "cache tag")]
    pub fn tag_field(mut self, name: HeaderName) -> Self {
        self.settings.tag_field = Some(name);
        self
    }

    /// Names this cache in `Cache-Status` (RFC 9211). Defaults to `support-cache`.
    ///
    /// A token: it begins with a letter or `*`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Sets the field in which clients see how the cache answered. Defaults to `Cache-Status`.
    ///
    /// Other than the default, it costs a request that is no hit one allocation.
    pub fn status_field(mut self, field: StatusField) -> Self {
        self.settings.front.status_field = field;
        self
    }

    /// Sets the response field that names what a response belongs to, for a CDN that purges by it. Defaults to
    /// none.
    ///
    /// It lists bucket, key and tags, separated by spaces. Spaces, commas and what is not ASCII are
    /// percent-encoded in them. They are the names of
    /// [`Invalidated::surrogate_key`](crate::Invalidated::surrogate_key), so an
    /// [`invalidation_hook`](Self::invalidation_hook) purges by them. A field of this name that the handler has
    /// set is replaced.
    ///
    /// A request that bypasses the cache has no key, and its response keeps no such field: have the CDN store
    /// only what has one, and remove it, for it tells clients the keys.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// let layer = SupportCacheLayer::builder(MemoryStore::new())
    ///     .surrogate_key_field(HeaderName::from_static("surrogate-key"))
    ///     .build()?;
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    #[doc(alias = "cdn")]
    pub fn surrogate_key_field(mut self, name: HeaderName) -> Self {
        self.settings.front.surrogate_key_field = Some(name);
        self
    }

    /// Sets the hook that is given each invalidation of this process, once the store has acknowledged it.
    /// Defaults to none.
    ///
    /// [`drain`](SupportCacheHandle::drain) waits for it. More than 10,000 invalidations that wait for it become
    /// one of everything.
    pub fn invalidation_hook(mut self, hook: impl InvalidationHook) -> Self {
        self.settings.front.hook = Some(Arc::new(hook));
        self
    }

    /// Sets how many outcomes are kept of each bucket, for
    /// [`recent_outcomes`](SupportCacheHandle::recent_outcomes). Defaults to 0: none, and then it costs nothing.
    /// At most 65,536.
    ///
    /// One outcome takes up to 500 bytes: threads write to rings of their own, and each has room for all. A hit
    /// costs about 1 % more.
    #[doc(alias = "flight recorder", alias = "access log")]
    pub fn record_outcomes(mut self, count: usize) -> Self {
        self.settings.front.outcomes = count;
        self
    }

    /// Sets how a request body without content is made, for [audits](CacheRoute::audit): they repeat a request.
    /// `axum::body::Body` needs no maker with the feature `axum`. Defaults to none: then nothing is audited,
    /// and a warning is logged.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::Empty;
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// let layer = SupportCacheLayer::builder(MemoryStore::new()).empty_body(Empty::<Bytes>::new);
    /// ```
    pub fn empty_body<Q: 'static>(mut self, make: fn() -> Q) -> Self {
        self.settings.front.empty_body = Some(Arc::new(make));
        self
    }

    /// Sets the number of calls that the origin takes in a period. Defaults to no limit.
    ///
    /// As it is spent, the cache makes fewer calls: first no early refreshes, then no revalidations in the
    /// background, and then stale responses answer within
    /// [`stale_if_error`](CacheRoute::stale_if_error) what would have been forwarded. A request with
    /// nothing to show is forwarded all the same, unless its route
    /// [refuses](CacheRoute::when_exhausted) it. Writes are never held back. The page
    /// [`rate_limited_origin`](crate::guide::rate_limited_origin) of the guide has the shares.
    ///
    /// Requests of cached routes and writes that a rule is for count as one call each. Feed others in by
    /// [`count_origin_calls`](SupportCacheHandle::count_origin_calls).
    #[doc(alias = "quota", alias = "rate limit")]
    pub fn origin_budget(mut self, budget: OriginBudget) -> Self {
        self.settings.origin_budget = Some(budget);
        self
    }

    /// Names the place where the layer is mounted. Defaults to none.
    ///
    /// It is part of what identifies a response: layers with different mounts share no responses,
    /// whatever else they share. Needed where two nests of a router have one store and the feature
    /// `axum` is off, or where layers on one store wrap different services.
    pub fn mount(mut self, name: impl Into<String>) -> Self {
        self.settings.mount = name.into();
        self
    }

    /// Names the scheme of requests that do not name it themselves, `https` or `http`. Defaults to
    /// none: unknown.
    ///
    /// A request in HTTP/1.1 mostly names no scheme, and one in HTTP/2 does. They share responses only
    /// where the layer is given the scheme, and only then is a default port of a request in HTTP/1.1
    /// left out of what identifies a response. Set it if all such requests come over this scheme.
    pub fn scheme(mut self, scheme: impl Into<String>) -> Self {
        self.settings.scheme = scheme.into().to_ascii_lowercase();
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the route and the field at fault: a pattern or a template that cannot
    /// be parsed, an unknown placeholder, routes that match the same paths, a missing key, a
    /// missing or zero lifetime, a bucket with two meanings, a name that cannot be sent, a budget without calls, too many outcomes
    /// to record, a missing
    /// [`caller_key`](Self::caller_key).
    pub fn build(self) -> Result<SupportCacheLayer<St>, ConfigError> {
        let Self { store, settings } = self;
        let Ok(name) = Token::from_string(settings.name.clone()) else {
            let problem = "is no token: write letters, digits and `-`, a letter first";
            return Err(ConfigError::new(ConfigErrorKind::Name, "name", problem));
        };
        if !matches!(&*settings.scheme, "" | "http" | "https") {
            let problem = "is neither `http` nor `https`: write one of them";
            return Err(ConfigError::new(ConfigErrorKind::Scheme, "scheme", problem));
        }
        if settings.front.outcomes > MAX_OUTCOMES {
            let problem = format!("is too many: keep at most {MAX_OUTCOMES}");
            return Err(ConfigError::new(ConfigErrorKind::Limit, "record_outcomes", problem));
        }
        let budget = settings.origin_budget.clone().map(|budget| match budget.bucket() {
            Ok(bucket) => Ok((budget, bucket)),
            Err(problem) => Err(ConfigError::new(ConfigErrorKind::Limit, "origin_budget", problem)),
        });
        let origin = OriginController::new(budget.transpose()?, store.token().is_some());
        let secret = match settings.caller_key {
            Some(CallerKey(key)) => DigestKey::new(key),
            None => DigestKey::of_process().map_err(|error| {
                let problem = format!("no random bytes ({error}): give `.caller_key(..)`");
                ConfigError::new(ConfigErrorKind::Randomness, "caller_key", problem)
            })?,
        };
        let is_shared = store.token().is_some();
        let is_caller_key_missing = is_shared && settings.caller_key.is_none();
        let identity = Identity {
            credentials: settings.credentials.clone(),
            tag_field: settings.tag_field.clone(),
            lacks_caller_key: is_caller_key_missing && !settings.is_caller_key_optional,
            has_budget: origin.has_budget(),
            scope: scope(&settings),
            scheme: settings.scheme.clone(),
            secret,
            credential_fields: CredentialFields::new(&settings.credential_fields),
        };
        let table = settings.routes.build(&identity)?;
        let front = settings.front.clone();
        let cache = Arc::new(Cache::new(store, table, identity, name, front, origin));
        Ok(SupportCacheLayer { cache, settings: Arc::new(settings) })
    }
}

impl<St> fmt::Debug for SupportCacheLayerBuilder<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupportCacheLayerBuilder")
            .field("routes", &self.settings.routes)
            .finish_non_exhaustive()
    }
}

/// Digests what the rules of a layer share and what decides the meaning of their entries.
fn scope(settings: &LayerSettings) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &str| {
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    };
    part(&settings.mount);
    part(&settings.scheme);
    // What is no credential to one layer may be what another protects.
    let mut fields: Vec<_> = settings.credential_fields.iter().map(HeaderName::as_str).collect();
    fields.sort_unstable();
    fields.dedup();
    part(&fields.join(","));
    let name =
        |field: &Option<HeaderName>| field.as_ref().map_or("", HeaderName::as_str).to_owned();
    part(&name(&settings.tag_field));
    // A cache in front could not purge a response that another layer has stored without it.
    part(&name(&settings.front.surrogate_key_field));
    hasher
}
