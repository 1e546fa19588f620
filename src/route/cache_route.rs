//! Settings of a cached route.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, Method, StatusCode, response};

use super::{
    cache_rule::Coalescing,
    content::{ContentRule, Judge, ReadMethod},
    credentials::Credentials,
    host::HostPolicy,
    key_builder::KeySource,
    query::QueryPolicy,
    request::{Extract, KeyRequest},
};
#[cfg(feature = "encode")]
use crate::coding::ContentCoding;
use crate::{
    coding::CodingPolicy,
    origin::{Exhausted, Quota},
    policy::{Freshness, HeadRule, Lifetimes, RequestDirectives, StoragePolicy},
};

const DEFAULT_BODY_LIMIT: u64 = 1024 * 1024;
const DEFAULT_JITTER: u8 = 10;

/// Route whose responses are cached: its requests, their keys, and the lifetime of responses.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::CacheRoute;
///
/// CacheRoute::get("/accounts/{account}/cases")
///     .bucket("case_list")
///     .key("support:cases:{account}")
///     .ttl(Duration::from_secs(120));
/// ```
///
/// Key and tags, of the path or of the request's head:
///
/// ```
/// use tower_support_cache::CacheRoute;
///
/// # #[derive(Clone)] struct Tenant(String);
/// CacheRoute::get("/cases/{case}")
///     .key_with(|request| {
///         let Tenant(tenant) = request.extensions().get()?;
///         Some(format!("case:{tenant}:{}", request.param("case")?))
///     })
///     .tag("case:{case}")
///     .tag_with(|request| Some(format!("tenant:{}", request.extensions().get::<Tenant>()?.0)));
/// ```
///
/// What tells responses apart, and who may share them:
///
/// ```
/// use http::header::ACCEPT_LANGUAGE;
/// use tower_support_cache::{CacheRoute, Credentials, HostPolicy, QueryPolicy, RequestDirectives};
///
/// CacheRoute::get("/articles")
///     .credentials(Credentials::SameForEverybody)
///     .vary([ACCEPT_LANGUAGE])
///     .query_policy(QueryPolicy::Only(vec!["page".to_owned()]))
///     .host(HostPolicy::Ignore)
///     .request_directives(RequestDirectives::Honour);
/// ```
///
/// What is stored, and for how long:
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderName, StatusCode, header::SET_COOKIE};
/// use tower_support_cache::{CacheRoute, Freshness};
///
/// CacheRoute::get("/pages/{page}")
///     .freshness(Freshness::Origin)
///     .heuristic(10)
///     .targeted([HeaderName::from_static("bff-cache-control")])
///     .statuses([StatusCode::OK, StatusCode::MOVED_PERMANENTLY])
///     .negative_ttl(Duration::from_secs(5))
///     .jitter(20)
///     .strip([SET_COOKIE])
///     .body_limit(4 * 1024 * 1024);
/// ```
///
/// An origin that is slow, fails, takes few calls, or has replicas:
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, Coalescing, Exhausted, Quota};
///
/// CacheRoute::get("/reports/{report}")
///     .stale_while_revalidate(Duration::from_secs(600))
///     .stale_if_error(Duration::from_secs(24 * 3600))
///     .soft_timeout(Duration::from_millis(800))
///     .early_refresh(1.0)
///     .audit(0.001)
///     .coalescing(Coalescing::On)
///     .quota(Quota::Service)
///     .when_exhausted(Exhausted::Refuse)
///     .settle(Duration::from_secs(5));
/// ```
#[derive(Clone)]
#[must_use = "a route does nothing until it is given to `SupportCacheLayerBuilder::cache`"]
pub struct CacheRoute {
    pub(super) method: ReadMethod,
    pub(super) pattern: String,
    pub(super) content: Option<ContentRule>,
    pub(super) ignored_writes: Vec<Method>,
    pub(super) bucket: String,
    pub(super) template: Option<String>,
    pub(super) key_with: Option<Extract>,
    pub(super) tags: Vec<KeySource>,
    pub(super) storage: StoragePolicy,
    pub(super) soft_timeout: Option<Duration>,
    pub(super) early_refresh: f32,
    pub(super) audit: f64,
    pub(super) credentials: Option<Credentials>,
    pub(super) query: QueryPolicy,
    pub(super) no_vary_search: bool,
    pub(super) host: HostPolicy,
    pub(super) request_directives: RequestDirectives,
    pub(super) vary: Vec<HeaderName>,
    pub(super) body_limit: u64,
    pub(super) makes_etag: bool,
    pub(super) codings: CodingPolicy,
    pub(super) coalescing: Coalescing,
    pub(super) quota: Quota,
    pub(super) when_exhausted: Exhausted,
    pub(super) settle: Option<Duration>,
}

impl CacheRoute {
    /// Caches GET requests whose path matches `pattern`. HEAD is answered from stored GET responses.
    ///
    /// The syntax is that of axum 0.8: `{name}` matches one segment, `{*rest}` the remaining ones. A
    /// literal brace is doubled. Patterns of other routers, such as `/a/:id`, are refused by
    /// [`build`](crate::SupportCacheLayerBuilder::build).
    ///
    /// A pattern is matched with the path that reaches the layer. Inside `axum::Router::nest` that is
    /// the path without the prefix of the nest; around the nest it is the whole path:
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::{Router, body::Body, routing::get};
    /// use http::Request;
    /// use tower::ServiceExt;
    /// use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let layer = |pattern: &str| {
    ///     let route = CacheRoute::get(pattern).key("cases").ttl(Duration::from_secs(60));
    ///     SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap()
    /// };
    /// let cases = || Router::new().route("/cases", get(async || "the cases"));
    /// let inside = Router::new().nest("/api", cases().layer(layer("/cases")));
    /// let around = Router::new().nest("/api", cases()).layer(layer("/api/cases"));
    /// for router in [inside, around] {
    ///     let request = Request::get("/api/cases").body(Body::empty()).unwrap();
    ///     let response = router.oneshot(request).await.unwrap();
    ///     assert!(response.headers().contains_key("cache-status"));
    /// }
    /// # }
    /// ```
    ///
    /// A warning names a [bucket](Self::bucket) that none of the layer's first thousand requests has
    /// reached.
    pub fn get(pattern: impl Into<String>) -> Self {
        Self::new(ReadMethod::Get, pattern.into())
    }

    /// Caches QUERY requests (RFC 10008) whose path matches `pattern`.
    ///
    /// QUERY is safe, and its content says what is asked. So the content is read before the request is looked
    /// up, up to a [limit](Self::content_limit), and its digest is part of what identifies a response, with
    /// `Content-Type`, `Content-Encoding`, `Content-Language`, `Content-Location` and the trailers. Everything
    /// else is as for [`get`](Self::get).
    ///
    /// Wrap the service by [`reading_content`](crate::SupportCacheLayer::reading_content). Otherwise the
    /// requests bypass the cache ([`Bypass::Content`](crate::Bypass::Content)).
    ///
    /// The service gets each body whole, as it was sent. Four kinds of requests bypass the cache: those
    /// without `Content-Type`, those with content over the limit, those whose content fails, and those whose
    /// content takes longer than five seconds. A client that sends `Expect: 100-continue` is asked to go on,
    /// since the content is needed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::{Router, body::Body, routing::any};
    /// use http::Request;
    /// use tower::ServiceExt;
    /// use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let route = CacheRoute::query("/search").key("search").ttl(Duration::from_secs(60));
    /// let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
    /// let app = Router::new()
    ///     .route("/search", any(async |asked: String| format!("found {asked}")))
    ///     .layer(layer.reading_content());
    /// for asked in ["cats", "dogs", "cats"] {
    ///     let request = Request::builder().method("QUERY").uri("/search");
    ///     let request = request.header("content-type", "text/plain").body(Body::from(asked)).unwrap();
    ///     let response = app.clone().oneshot(request).await.unwrap();
    ///     let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
    ///     assert_eq!(body, format!("found {asked}"));
    /// }
    /// # }
    /// ```
    pub fn query(pattern: impl Into<String>) -> Self {
        Self {
            content: Some(ContentRule::default()),
            ..Self::new(ReadMethod::Query, pattern.into())
        }
    }

    /// Caches POST requests whose path matches `pattern` and of which `reads` says that they only read, such as
    /// searches and the queries of GraphQL.
    ///
    /// `reads` is given the head and the whole content of a request. A request that it accepts is treated as
    /// one of [`query`](Self::query), with two differences: `Content-Type` may be missing, and a request with
    /// a condition or a range bypasses the cache. It invalidates nothing, whatever rules match it.
    ///
    /// Any other POST is a write. It is one, too, if it cannot be judged: its content is over the
    /// [limit](Self::content_limit), fails, is late, or has a `Content-Encoding`. A write invalidates the key
    /// of this route, and what [`InvalidateRoute`](crate::InvalidateRoute)s say.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::CacheRoute;
    ///
    /// CacheRoute::post_read("/search", |_, content| !content.starts_with(b"{\"save\""))
    ///     .key("search")
    ///     .ttl(Duration::from_secs(60));
    /// ```
    pub fn post_read(
        pattern: impl Into<String>,
        reads: impl Fn(&KeyRequest<'_>, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        let content = ContentRule { judge: Some(Judge::new(reads)), ..ContentRule::default() };
        Self { content: Some(content), ..Self::new(ReadMethod::Post, pattern.into()) }
    }

    fn new(method: ReadMethod, pattern: String) -> Self {
        let lifetimes = Lifetimes { jitter_percent: DEFAULT_JITTER, ..Lifetimes::default() };
        Self {
            method,
            pattern,
            content: None,
            ignored_writes: Vec::new(),
            bucket: "default".to_owned(),
            template: None,
            key_with: None,
            tags: Vec::new(),
            storage: StoragePolicy { lifetimes, ..StoragePolicy::default() },
            soft_timeout: None,
            early_refresh: 0.0,
            audit: 0.0,
            credentials: None,
            query: QueryPolicy::AsSent,
            no_vary_search: false,
            host: HostPolicy::AsSent,
            request_directives: RequestDirectives::Ignore,
            vary: Vec::new(),
            body_limit: DEFAULT_BODY_LIMIT,
            makes_etag: false,
            codings: CodingPolicy::default(),
            coalescing: Coalescing::On,
            quota: Quota::Caller,
            when_exhausted: Exhausted::Forward,
            settle: None,
        }
    }

    /// Names the group of routes that are counted and switched together. Defaults to `default`.
    ///
    /// A name has lower-case letters, digits and `_`, at most 64, and begins with a letter. Routes of one
    /// bucket have the same lifetimes, windows and limits; give a route with others a bucket of its own.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.bucket = name.into();
        self
    }

    /// Sets the primary key, as a template over the pattern's parameters: `support:cases:{account}`.
    ///
    /// The key groups responses for invalidation. It never decides which client receives a response.
    /// A successful unsafe request to the same path invalidates the key without a rule (RFC 9111
    /// §4.4).
    ///
    /// Values are percent-decoded once and then escaped. A request is bypassed if a value is blank or
    /// no UTF-8, or if the key is longer than 512 bytes.
    pub fn key(mut self, template: impl Into<String>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// Sets the primary key by a closure over the request's head. `None` bypasses the cache.
    ///
    /// The text is used as it is. A request is bypassed if the text is blank, has control characters
    /// or is longer than 512 bytes. The closure is also called for unsafe requests to the same path,
    /// to invalidate their key.
    pub fn key_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key_with = Some(Arc::new(builder));
        self
    }

    /// Adds a tag to all responses, as a template over the pattern's parameters: `account:{account}`.
    /// Call it again to add further tags.
    ///
    /// A tag invalidates responses of many keys at the cost of one, with
    /// [`SupportCacheHandle::invalidate_tag`](crate::SupportCacheHandle::invalidate_tag) or
    /// [`InvalidateRoute::tag`](crate::InvalidateRoute::tag). Values are treated like those of a
    /// [`key`](Self::key), and a request whose tag cannot be made is bypassed.
    ///
    /// A response names further tags by [`CacheTags`](crate::CacheTags), or by a
    /// [field](crate::SupportCacheLayerBuilder::tag_field). The groups that it names in `Cache-Groups`
    /// (RFC 9875) are tags of another kind: the same text is not the same tag. A response with more than
    /// 128 tags is not stored.
    #[doc(alias = "surrogate key")]
    pub fn tag(mut self, template: impl Into<String>) -> Self {
        self.tags.push(KeySource::Template(template.into()));
        self
    }

    /// Adds a tag to all responses, made by a closure over the request's head. `None` bypasses the
    /// cache. Requests with different tags share no responses.
    pub fn tag_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(KeySource::Closure(Arc::new(builder)));
        self
    }

    /// Sets the time for which a response is fresh, from the arrival of its head. Required, unless
    /// the origin decides about freshness or [`ttl_with`](Self::ttl_with) is given.
    ///
    /// With [`Freshness::Origin`] it applies to responses that state no lifetime and whose status is
    /// one of [`statuses`](Self::statuses), or else 200.
    ///
    /// Routes that differ in lifetimes and windows alone share what they store, where their layers share a
    /// store. A response that another route has stored is fresh until the earlier end of both lifetimes,
    /// and may be stale within both windows. A lifetime that the response was given is not cut.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.storage.lifetimes.ttl = Some(ttl);
        self.storage.lifetimes.least_ttl = None;
        self
    }

    /// Sets the time for which a response is fresh by what is left of the
    /// [budget](crate::SupportCacheLayerBuilder::origin_budget) of the origin, instead of [`ttl`](Self::ttl).
    /// Off by default.
    ///
    /// It is `least` while the whole burst is left, `most` once nothing is, and in proportion in between. It
    /// is decided when the response arrives. Where changes reach the cache as invalidations, a long lifetime
    /// costs nothing; where they do not, responses are the more outdated the less is left.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{CacheRoute, MemoryStore, OriginBudget, SupportCacheLayer};
    ///
    /// let minute = Duration::from_secs(60);
    /// let layer = SupportCacheLayer::builder(MemoryStore::new())
    ///     .origin_budget(OriginBudget::new(15_000, 24 * 60 * minute))
    ///     .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl_between(minute, 30 * minute))
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    pub fn ttl_between(mut self, least: Duration, most: Duration) -> Self {
        self.storage.lifetimes.ttl = Some(most);
        self.storage.lifetimes.least_ttl = Some(least);
        self
    }

    /// Sets the time for which a response is fresh by a closure over its head. `None` leaves it to the
    /// response ([`Freshness::Origin`]) or to [`ttl`](Self::ttl). With it `ttl` is optional.
    ///
    /// As by [`ResponsePolicy::ttl`](crate::ResponsePolicy::ttl), which comes first, other statuses than
    /// 200 can be given a lifetime.
    ///
    /// `version` stands for the closure where layers and processes share a store: give it another number
    /// when the closure changes, so that what was stored before is not used.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::CacheRoute;
    ///
    /// CacheRoute::get("/articles/{article}").key("article:{article}").ttl_with(1, |head| {
    ///     let is_draft = head.headers.contains_key("x-draft");
    ///     Some(Duration::from_secs(if is_draft { 5 } else { 600 }))
    /// });
    /// ```
    pub fn ttl_with(
        mut self,
        version: u32,
        ttl: impl Fn(&response::Parts) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.storage.rules.ttl_with = Some(HeadRule::new(version, ttl));
        self
    }

    /// Stores only responses whose heads a closure accepts. Defaults to all.
    ///
    /// It is asked about responses that nothing else forbids to store. One that it refuses is shared with
    /// no request either. `version` stands for the closure, as in [`ttl_with`](Self::ttl_with).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::CacheRoute;
    ///
    /// CacheRoute::get("/search")
    ///     .key("search")
    ///     .ttl(Duration::from_secs(60))
    ///     .store_if(1, |head| !head.headers.contains_key("x-partial-result"));
    /// ```
    pub fn store_if(
        mut self,
        version: u32,
        accept: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.storage.rules.store_if = Some(HeadRule::new(version, accept));
        self
    }

    /// Sets the source of freshness lifetimes. Defaults to [`Freshness::Fixed`]: the route.
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.storage.lifetimes.freshness = freshness;
        self
    }

    /// Sets the heuristic lifetime of responses that state none, in percent of the time since their
    /// `Last-Modified` (RFC 9111 §4.2.2). Defaults to 0, at most 10.
    ///
    /// A heuristic lifetime is never longer than seven days. For [`Freshness::Origin`].
    pub fn heuristic(mut self, percent: u8) -> Self {
        self.storage.lifetimes.heuristic_percent = percent;
        self
    }

    /// Sets the time for which a stale response may still answer while it is revalidated in the
    /// background (RFC 5861 §3). Defaults to zero: never.
    ///
    /// The request that finds a stale response is answered at once, and one origin request at a time
    /// follows for each response; fewer while the origin fails. A response with
    /// `stale-while-revalidate` sets its own time. One with `must-revalidate`, `proxy-revalidate`,
    /// `s-maxage` or `no-cache` is never served stale.
    #[doc(alias = "grace")]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.storage.windows.while_revalidate = window;
        self
    }

    /// Sets the time for which a stale response may answer if the origin fails, answers 500, 502, 503 or
    /// 504 (RFC 5861 §4), or limits its requests (429, [`quota`](Self::quota)). Defaults to zero: never.
    ///
    /// A response with `stale-if-error` sets its own time. The exceptions are those of
    /// [`stale_while_revalidate`](Self::stale_while_revalidate). After a failure the origin is not
    /// asked again for one second; each further failure doubles that time, up to 30 s.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.storage.windows.if_error = window;
        self
    }

    /// Sets the time after which a stale response answers instead of a slow origin, within
    /// [`stale_if_error`](Self::stale_if_error). Defaults to no limit.
    ///
    /// The origin request goes on, and its response is stored.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.soft_timeout = Some(limit);
        self
    }

    /// Refreshes responses in use before they are stale, by the probabilistic method of XFetch.
    /// Defaults to 0: never. At most 10.
    ///
    /// The nearer the end of a lifetime, the likelier a hit starts an origin request in the
    /// background. `beta` weighs the average time that fills of the route take. With 1, which suits
    /// most routes, the chance is 37 % at one such time before the end, and 5 % at three.
    ///
    /// The hit itself is answered at once. One such request runs at a time for each response; fewer
    /// while the origin fails.
    pub fn early_refresh(mut self, beta: f32) -> Self {
        self.early_refresh = beta;
        self
    }

    /// Audits a share of the stored responses: a later hit is answered at once, and in the background the origin
    /// is asked the same. Defaults to 0: none. 0.001 is one response in a thousand.
    ///
    /// [`SupportCacheHandle::audits`](crate::SupportCacheHandle::audits) reports what came of it: responses that
    /// have changed without an invalidation, and since when; rules that seem to be missing; handlers that are
    /// not deterministic, or read fields that neither the route nor `Vary` names. The page
    /// [`trust`](crate::guide::trust) of the guide says how to read it.
    ///
    /// The origin is asked with the request of the hit, for its own caller. An answer that differs is asked for
    /// again; then each field in which the request differs from that of the fill is tried, with two requests mostly
    /// and 22 at most. An audit needs as much of the
    /// [budget](crate::SupportCacheLayerBuilder::origin_budget) as an early refresh. GET must be safe to repeat.
    ///
    /// The request is repeated without content, so routes whose requests have content have no audits. Where its body is no `axum::body::Body` (feature `axum`), the
    /// layer needs to [make one](crate::SupportCacheLayerBuilder::empty_body).
    #[doc(alias = "staleness")]
    #[doc(alias = "sampling")]
    pub fn audit(mut self, share: f64) -> Self {
        self.audit = share;
        self
    }

    /// Sets the treatment of requests with credentials. Defaults to the layer's setting
    /// ([`SupportCacheLayerBuilder::credentials`](crate::SupportCacheLayerBuilder::credentials)), and that to
    /// [`Credentials::Bypass`].
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets the part of the query that tells responses apart. Defaults to all of it, as sent.
    pub fn query_policy(mut self, query: QueryPolicy) -> Self {
        self.query = query;
        self
    }

    /// Honours `No-Vary-Search`, by which a response says what of the query counts: the values of some
    /// parameters, all but those of some, or the same in any order. Off by default.
    ///
    /// The field is the one of draft-ietf-httpbis-no-vary-search-10: `params=("utm_source" "ref")`,
    /// `except=("id")` and `key-order`. A field that is malformed, that has both lists (as browsers have it:
    /// `params, except=("id")`), or that is longer than 1024 bytes is as good as none: the query counts as it
    /// was sent. It says more of what [`query_policy`](Self::query_policy) leaves of the query.
    ///
    /// What the field says is learned from the response that was stored last for an authority and path: for 1024
    /// of them, by each process for itself. So the first request for a path is forwarded whatever its query, and
    /// so is one whose query was not sent before if responses for one path differ in the field, or some have none.
    /// Each response answers only requests that its own field makes equivalent. Key and tags of a closure
    /// tell requests apart all the same.
    ///
    /// The origin must not leave out a parameter that decides who may see the response.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::{Router, body::Body, routing::get};
    /// use http::Request;
    /// use tower::ServiceExt;
    /// use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let route = CacheRoute::get("/cases").key("cases").ttl(Duration::from_secs(60)).no_vary_search();
    /// let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
    /// let cases = async || ([("no-vary-search", "except=(\"page\")")], "the cases");
    /// let app = Router::new().route("/cases", get(cases)).layer(layer);
    /// for (target, is_hit) in [("/cases?page=2&utm_source=mail", false), ("/cases?page=2", true)] {
    ///     let request = Request::get(target).body(Body::empty()).unwrap();
    ///     let response = app.clone().oneshot(request).await.unwrap();
    ///     let status = response.headers()["cache-status"].to_str().unwrap();
    ///     assert_eq!(status.contains(";hit"), is_hit, "{status}");
    /// }
    /// # }
    /// ```
    pub fn no_vary_search(mut self) -> Self {
        self.no_vary_search = true;
        self
    }

    /// Sets the part of the host that tells responses apart. Defaults to all of it, normalized.
    pub fn host(mut self, host: HostPolicy) -> Self {
        self.host = host;
        self
    }

    /// Sets the treatment of cache directives that clients send. Defaults to
    /// [`RequestDirectives::Ignore`].
    pub fn request_directives(mut self, directives: RequestDirectives) -> Self {
        self.request_directives = directives;
        self
    }

    /// Names request fields that tell responses apart even if no response nominates them in `Vary`.
    /// Defaults to none.
    ///
    /// Fields that responses nominate are learned and need no declaration. Declare every field that
    /// the handler reads and that no response nominates.
    ///
    /// Values are compared byte by byte, except that case and optional whitespace do not count in
    /// `Accept-Encoding` and `Accept-Language` (RFC 9111 §4.1).
    #[doc(alias = "vary by")]
    pub fn vary(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.vary = names.into_iter().collect();
        self
    }

    /// Names response fields that replace `Cache-Control` for this cache (RFC 9213), such as
    /// `BFF-Cache-Control`. Defaults to none.
    ///
    /// The first of them that is present, and that is a well-formed dictionary with members, counts
    /// alone: `Cache-Control` and `Expires` are then for other caches. So a response with
    /// `BFF-Cache-Control: public` is stored here, in spite of its `Cache-Control: no-store` for all
    /// caches downstream. Clients receive the fields unless an outer layer removes them.
    ///
    /// A lifetime in it counts as one in `Cache-Control` does: `max-age=30` sets 30 seconds with
    /// [`Freshness::Origin`]. With [`Freshness::Fixed`], the default, each response is fresh for the
    /// route's `ttl`; a handler sets another by a [`ResponsePolicy`](crate::ResponsePolicy).
    pub fn targeted(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.storage.targeted = names.into_iter().collect();
        self
    }

    /// Names response fields that are not stored, such as request ids. Defaults to none.
    ///
    /// The client of the origin request receives them. A field that otherwise prevents storage, such
    /// as `Set-Cookie`, does not if it is named here.
    pub fn strip(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.storage.stripped = names.into_iter().collect();
        self
    }

    /// Sets the statuses that are stored. Defaults to 200 alone; with [`Freshness::Origin`] to any
    /// status whose response states a lifetime.
    ///
    /// A handler or a closure that gives a response a lifetime ([`ResponsePolicy`](crate::ResponsePolicy),
    /// [`ttl_with`](Self::ttl_with)) adds its status where the route names none.
    /// [`negative_ttl`](Self::negative_ttl) adds 404 and 410. 1xx, 206, 304, 401, 407 and 5xx cannot be
    /// named.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.storage.lifetimes.statuses = Some(statuses.into_iter().collect());
        self
    }

    /// Stores 404 and 410 too, and sets the time for which they are fresh. Defaults to not storing
    /// them.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.storage.lifetimes.negative_ttl = Some(ttl);
        self
    }

    /// Sets the largest random cut of a lifetime, in percent, so that responses stored together do
    /// not expire together. Defaults to 10, at most 50.
    pub fn jitter(mut self, percent: u8) -> Self {
        self.storage.lifetimes.jitter_percent = percent;
        self
    }

    /// Gives a 200 without a validator an `ETag` when it is stored, so that a browser that has it is answered with
    /// a 304. Defaults to none.
    ///
    /// The tag is made of the content, so it is the same in every process and after each refill with the same
    /// content. It is weak, since an outer layer may encode the content: conditions on GET compare it, `If-Match`
    /// and `If-Range` do not (RFC 9110 §8.8.3). A response with `ETag` or `Last-Modified` keeps those. Where a body
    /// streams, the request that fills has no tag in its head, which is sent before the end of the body. The
    /// content is digested once a fill: about a millisecond for 1 MiB.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::CacheRoute;
    ///
    /// let route = CacheRoute::get("/cases").key("cases").ttl(Duration::from_secs(60)).etag();
    /// ```
    #[doc(alias = "304")]
    pub fn etag(mut self) -> Self {
        self.makes_etag = true;
        self
    }

    /// Sets the largest body that is stored, in bytes. Defaults to 1 MiB.
    ///
    /// Larger responses pass through unchanged, frame by frame. Raise the limit only together with
    /// the store's capacity: one entry can occupy this much.
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Names methods of writes to the route's own path that do not invalidate its key, which they would
    /// otherwise (RFC 9111 §4.4). Defaults to none.
    ///
    /// For a path where a POST changes nothing that is cached, or says so in another way. An
    /// [`InvalidateRoute`](crate::InvalidateRoute) acts all the same, and so do groups and locations that the
    /// response names.
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::Method;
    /// use tower_support_cache::CacheRoute;
    ///
    /// // A POST here records that the article was seen.
    /// CacheRoute::get("/articles/{article}")
    ///     .key("article:{article}")
    ///     .ttl(Duration::from_secs(60))
    ///     .ignore_writes([Method::POST]);
    /// ```
    pub fn ignore_writes(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.ignored_writes = methods.into_iter().collect();
        self
    }

    /// Answers with a coded form where a request prefers one of these codings (RFC 9110 §12.5.3): of those that it
    /// likes most the first here. Defaults to none.
    ///
    /// A response is stored as the origin sends it, which is asked for the plain form
    /// (`Accept-Encoding: identity`). The first hit that prefers a coding has the stored response encoded, once, on
    /// a thread for blocking work; until that is done, requests are answered with the plain form. The store holds
    /// the coded form beside the plain one, so both leave it together, and another process finds both.
    ///
    /// Left plain are responses other than 200, under 860 bytes, with a `Content-Encoding` or
    /// `Cache-Control: no-transform`, and of types that do not shrink, such as images; and the answers to requests
    /// with a `Range` or with `no-transform`. So are responses for a caller, unless
    /// [`encode_per_caller`](Self::encode_per_caller) is called.
    ///
    /// Responses of the route have `Vary: accept-encoding`. The entity tag of a coded form is that of the plain one
    /// with a suffix, `"1;coded=gzip"`. In `If-Match` and `If-None-Match` of requests for the path, writes
    /// included, the origin gets its own back.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{CacheRoute, ContentCoding};
    ///
    /// CacheRoute::get("/articles/{article}")
    ///     .key("article:{article}")
    ///     .ttl(Duration::from_secs(60))
    ///     .encode([ContentCoding::Zstd, ContentCoding::Brotli, ContentCoding::Gzip]);
    /// ```
    #[cfg(feature = "encode")]
    pub fn encode(mut self, codings: impl IntoIterator<Item = ContentCoding>) -> Self {
        self.codings.offered = codings.into_iter().collect();
        self
    }

    /// Encodes responses that are for a caller, too: those of [`Credentials::PerCaller`], and the answers to
    /// requests with credentials, unless these are the same for everybody. Off by default.
    ///
    /// The length of a coded form tells who can see it, and can put text of their own into the response, whether
    /// that text is like a secret in it (BREACH). Turn it on only where responses repeat nothing of the request.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use tower_support_cache::{Caller, CacheRoute, ContentCoding, Credentials};
    ///
    /// CacheRoute::get("/inbox")
    ///     .key("inbox")
    ///     .ttl(Duration::from_secs(60))
    ///     .credentials(Credentials::PerCaller(Caller::cookies(["session"])))
    ///     .encode([ContentCoding::Gzip])
    ///     .encode_per_caller();
    /// ```
    #[cfg(feature = "encode")]
    pub fn encode_per_caller(mut self) -> Self {
        self.codings.is_for_callers = true;
        self
    }

    /// Sets the coalescing of concurrent misses. Defaults to [`Coalescing::On`].
    #[doc(alias = "stampede")]
    #[doc(alias = "single flight")]
    #[doc(alias = "dedup")]
    pub fn coalescing(mut self, coalescing: Coalescing) -> Self {
        self.coalescing = coalescing;
        self
    }

    /// Sets the requests that the origin counts together when it limits their number. Defaults to
    /// [`Quota::Caller`].
    ///
    /// An origin that answers 429, or 503 with `Retry-After`, is asked nothing in the background for the
    /// time that it names, at most 5 minutes; after a 429 without a time for one second. The same holds if
    /// its `RateLimit` field says that no request remains. Meanwhile stale responses answer within
    /// [`stale_while_revalidate`](Self::stale_while_revalidate) and [`stale_if_error`](Self::stale_if_error),
    /// and what has no such response is forwarded.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = quota;
        self
    }

    /// Sets the answer to a request that has nothing to show, once the
    /// [budget](crate::SupportCacheLayerBuilder::origin_budget) of the origin is spent. Defaults to
    /// [`Exhausted::Forward`]. Writes, and requests that bypass the cache, are never refused.
    pub fn when_exhausted(mut self, answer: Exhausted) -> Self {
        self.when_exhausted = answer;
        self
    }

    /// Sets the time after an invalidation in which a replica of the origin may not have seen the change yet: the
    /// longest lag that is to be expected. Off by default, and an hour at most.
    ///
    /// A request that fills within it carries a [`Refill`](crate::Refill), so that its handler can read the
    /// primary. Unless the handler says that it has, the response is fresh until the time is over at most, and
    /// the origin is asked once more then: in the background for a request within as long again, where the route
    /// has [`stale_while_revalidate`](Self::stale_while_revalidate). So an answer is outdated for no longer than
    /// this time and the lag, or for twice this time where stale responses answer.
    ///
    /// It holds for invalidations by all layers on the store, in every process, that have a route with such a
    /// time. A layer leaves word of them for the longest of its routes. A tag that only the response names
    /// is known too late for a `Refill`, and shortens the lifetime all the same. A deletion by another program is
    /// not seen.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::CacheRoute;
    ///
    /// CacheRoute::get("/cases/{case}")
    ///     .key("case:{case}")
    ///     .ttl(Duration::from_secs(600))
    ///     .settle(Duration::from_secs(5));
    /// ```
    #[doc(alias = "replica")]
    #[doc(alias = "read your writes")]
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = Some(time);
        self
    }

    /// Returns the request fields that the route declares.
    #[cfg(feature = "testing")]
    pub(crate) fn declared(&self) -> &[HeaderName] {
        &self.vary
    }
}

impl fmt::Debug for CacheRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheRoute")
            .field("pattern", &self.pattern)
            .field("bucket", &self.bucket)
            .field("key", &self.template)
            .field("ttl", &self.storage.lifetimes.ttl)
            .finish_non_exhaustive()
    }
}
