//! The settings of one cached route.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, StatusCode};

use super::{
    pattern::Pattern,
    request::{Extract, KeyRequest},
    rule::{CacheRule, KeyBuilder, KeySource, LONGEST, Lifetimes},
    template::Template,
};
use crate::{
    entry::Windows,
    error::{ConfigError, ConfigErrorKind},
    key::Nominated,
    policy::{Credentials, Freshness, RequestDirectives},
};

const DEFAULT_BODY_LIMIT: u64 = 1024 * 1024;
const MAX_NAME: usize = 64;
const DEFAULT_JITTER: u8 = 10;
const MAX_JITTER: u8 = 50;
const MAX_BETA: f32 = 10.0;
/// RFC 9111 §4.2.2 suggests no more.
const MAX_HEURISTIC: u8 = 10;

/// Which part of the query a stored response was made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryPolicy {
    /// The query as sent, byte for byte.
    #[default]
    AsSent,
    /// The parameters of these names, in the order they were sent.
    ///
    /// Requests that differ in other parameters share one response: name every parameter that the
    /// handler reads. Names are compared percent-decoded; parameters are separated by `&`.
    Only(Vec<String>),
    /// Nothing of it.
    ///
    /// Requests that differ in their query share one response.
    Ignore,
}

/// Whether concurrent misses for one response share one forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coalescing {
    /// One request forwards, the others wait for it.
    #[default]
    On,
    /// Each request forwards for itself; each response that may be stored is.
    Off,
}

/// A route whose responses are cached: which requests, under which key, for how long.
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
#[derive(Clone)]
#[must_use = "a route does nothing until it is given to `Builder::cache`"]
pub struct CacheRoute {
    pattern: String,
    bucket: String,
    template: Option<String>,
    key_with: Option<Extract>,
    tags: Vec<KeySource>,
    ttl: Option<Duration>,
    freshness: Freshness,
    heuristic_percent: u8,
    windows: Windows,
    soft_timeout: Option<Duration>,
    early_refresh: f32,
    credentials: Option<Credentials>,
    query: QueryPolicy,
    request_directives: RequestDirectives,
    vary: Vec<HeaderName>,
    targeted: Vec<HeaderName>,
    stripped: Vec<HeaderName>,
    statuses: Vec<StatusCode>,
    negative_ttl: Option<Duration>,
    jitter_percent: u8,
    body_limit: u64,
    coalescing: Coalescing,
}

impl CacheRoute {
    /// Caches GET requests whose path matches `pattern`; HEAD is answered from what GET stored.
    ///
    /// The syntax is axum's: `{name}` matches one segment, `{*rest}` the remaining ones.
    pub fn get(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            bucket: "default".to_owned(),
            template: None,
            key_with: None,
            tags: Vec::new(),
            ttl: None,
            freshness: Freshness::Fixed,
            heuristic_percent: 0,
            windows: Windows::default(),
            soft_timeout: None,
            early_refresh: 0.0,
            credentials: None,
            query: QueryPolicy::AsSent,
            request_directives: RequestDirectives::Ignore,
            vary: Vec::new(),
            targeted: Vec::new(),
            stripped: Vec::new(),
            statuses: vec![StatusCode::OK],
            negative_ttl: None,
            jitter_percent: DEFAULT_JITTER,
            body_limit: DEFAULT_BODY_LIMIT,
            coalescing: Coalescing::On,
        }
    }

    /// Names the group of routes that are counted and switched together. Defaults to `default`.
    ///
    /// Lower-case letters, digits and `_`, at most 64, beginning with a letter. Routes may share a
    /// bucket if their settings are the same.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.bucket = name.into();
        self
    }

    /// Sets the primary key as a template over the pattern's parameters: `support:cases:{account}`.
    ///
    /// The key groups responses for invalidation; it never decides whom a response is for. A
    /// successful unsafe request to the same path invalidates it without a rule (RFC 9111 §4.4).
    /// Values
    /// are percent-decoded once and then escaped. A request whose value is blank or no UTF-8, or
    /// whose key is longer than 512 bytes, is bypassed.
    pub fn key(mut self, template: impl Into<String>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// Sets the primary key by a closure over the request's head; `None` bypasses the cache.
    ///
    /// The text is taken as it is, and bypassed if blank, over 512 bytes, or with controls in it.
    /// The closure is also called for unsafe requests to the same path, to invalidate the key.
    pub fn key_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key_with = Some(Arc::new(builder));
        self
    }

    /// Adds a tag to all responses, as a template over the pattern's parameters: `account:{account}`.
    /// Several may be added.
    ///
    /// A tag is what responses of many keys are invalidated by, with
    /// [`SupportCacheHandle::invalidate_tag`](crate::SupportCacheHandle::invalidate_tag) or
    /// [`InvalidateRoute::tag`](crate::InvalidateRoute::tag), all of them at the cost of one. Values
    /// are treated as those of a [`key`](Self::key), and a request whose tag cannot be made is
    /// bypassed. What a response itself says by `Cache-Groups` (RFC 9875) is a tag as well, of another
    /// kind: the same text is not the same tag. A response with more than 128 is not stored.
    pub fn tag(mut self, template: impl Into<String>) -> Self {
        self.tags.push(KeySource::Template(template.into()));
        self
    }

    /// Adds a tag to all responses, made by a closure over the request's head; `None` bypasses the
    /// cache. Requests with other tags share no responses.
    pub fn tag_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(KeySource::Closure(Arc::new(builder)));
        self
    }

    /// Sets how long a response is fresh, from when its head arrived. Required, unless the route
    /// leaves that to the origin.
    ///
    /// With [`Freshness::Origin`] it is the lifetime of a response that states none, and whose
    /// status is one of [`statuses`](Self::statuses).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets who decides how long a response is fresh. Defaults to [`Freshness::Fixed`]: the route.
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// Sets how much of the time since its `Last-Modified` a response that states no lifetime is
    /// taken to be fresh, in percent (RFC 9111 §4.2.2). Defaults to 0, at most 10; never more than
    /// seven days. For [`Freshness::Origin`].
    pub fn heuristic(mut self, percent: u8) -> Self {
        self.heuristic_percent = percent;
        self
    }

    /// Sets for how long after it is stale a response may still answer, while the origin is asked in
    /// the background (RFC 5861 §3). Defaults to zero: it may not.
    ///
    /// The request that finds it stale is answered at once and forwarded afterwards; one such forward
    /// for each response at a time, and fewer while the origin fails. A response that says
    /// `stale-while-revalidate` decides itself, and one that says `must-revalidate`,
    /// `proxy-revalidate`, `s-maxage` or `no-cache` is never used stale.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.windows.while_revalidate = window;
        self
    }

    /// Sets for how long after it is stale a response may answer where the service fails or answers
    /// 500, 502, 503 or 504 (RFC 5861 §4). Defaults to zero: it may not.
    ///
    /// A response that says `stale-if-error` decides itself; what is never used stale is the same as
    /// for [`stale_while_revalidate`](Self::stale_while_revalidate). After a failure the service is
    /// let be for a second, after each further one for twice as long, at most 30 s.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.windows.if_error = window;
        self
    }

    /// Sets how long the service is waited for where a stale response may answer instead, within its
    /// [`stale_if_error`](Self::stale_if_error). The forward goes on, and what it brings is stored.
    /// Defaults to no limit.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.soft_timeout = Some(limit);
        self
    }

    /// Refreshes what is in use before it is stale, by the probabilistic method of XFetch: the nearer
    /// the end of its lifetime, the likelier does a hit make a forward in the background. Defaults to
    /// 0: never.
    ///
    /// `beta` weighs how long fills of the route take on average. With 1, which suits most, the
    /// chance at one such time before the end is 37 %, at three of them 5 %. At most 10. The hit is
    /// answered at once; one such forward for each response at a time, and fewer while the origin
    /// fails.
    pub fn early_refresh(mut self, beta: f32) -> Self {
        self.early_refresh = beta;
        self
    }

    /// Says whom a response is for when the request carries credentials. Defaults to what the layer
    /// says ([`SupportCacheLayerBuilder::credentials`](crate::SupportCacheLayerBuilder::credentials)), and that to
    /// [`Credentials::Bypass`].
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets which part of the query tells responses apart. Defaults to all of it, as sent.
    pub fn query(mut self, query: QueryPolicy) -> Self {
        self.query = query;
        self
    }

    /// Sets whether clients may tell the cache what to do. Defaults to
    /// [`RequestDirectives::Ignore`].
    pub fn request_directives(mut self, directives: RequestDirectives) -> Self {
        self.request_directives = directives;
        self
    }

    /// Names request fields that tell responses apart, whether a response nominates them by `Vary`
    /// or not. Defaults to none.
    ///
    /// Fields that responses do nominate are learned and need not be named here; a field that the
    /// handler reads and no response nominates must be.
    pub fn vary(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.vary = names.into_iter().collect();
        self
    }

    /// Names response fields that are for this cache in place of `Cache-Control` (RFC 9213), such as
    /// `BFF-Cache-Control`. Defaults to none.
    ///
    /// The first of them that a response has, and that is a well-formed dictionary with members,
    /// counts alone: `Cache-Control` and `Expires` are then for other caches. So a handler says
    /// `BFF-Cache-Control: max-age=30` to be cached here, and `Cache-Control: no-store` to everybody
    /// downstream. Clients receive the fields unless an outer layer removes them.
    pub fn targeted(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.targeted = names.into_iter().collect();
        self
    }

    /// Names response fields that are not stored, such as request ids. Defaults to none.
    ///
    /// The client whose request was forwarded receives them. A field that otherwise keeps a
    /// response from being stored, such as `Set-Cookie`, no longer does if it is named here.
    pub fn strip(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.stripped = names.into_iter().collect();
        self
    }

    /// Sets the statuses that are stored. Defaults to 200 alone.
    ///
    /// With [`Freshness::Origin`], what states its lifetime is stored whatever its status.
    ///
    /// 1xx, 206, 304, 401, 407 and 5xx cannot be.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.statuses = statuses.into_iter().collect();
        self
    }

    /// Stores 404 and 410 too, and sets how long they are fresh. Defaults to not storing them.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// Sets how much of a lifetime chance takes off, in percent, so that what was stored together
    /// does not expire together. Defaults to 10, at most 50.
    pub fn jitter(mut self, percent: u8) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// Sets the largest body that is stored, in bytes. Defaults to 1 MiB.
    ///
    /// Larger responses pass through unchanged, frame by frame, and are not stored. Raise it only
    /// together with the store's capacity: one entry can occupy this much.
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Sets whether concurrent misses share one forward. Defaults to [`Coalescing::On`].
    pub fn coalescing(mut self, coalescing: Coalescing) -> Self {
        self.coalescing = coalescing;
        self
    }

    /// Returns the request fields that the route names.
    #[cfg(feature = "testing")]
    pub(crate) fn declared(&self) -> &[HeaderName] {
        &self.vary
    }

    /// Checks the route. `credentials` is what the layer says for routes that say nothing.
    pub(crate) fn build(self, credentials: &Credentials) -> Result<CacheRule, ConfigError> {
        let route = format!("GET {}", self.pattern);
        let refuse = |kind, field, problem: &str| {
            Err(ConfigError::new(kind, Some(route.clone()), field, problem))
        };
        let pattern = match Pattern::parse(&self.pattern) {
            Ok(pattern) => pattern,
            Err(problem) => return refuse(ConfigErrorKind::Pattern, "pattern", problem),
        };
        if !is_metric_name(&self.bucket) {
            let problem =
                "a name is lower-case letters, digits and `_`, at most 64, a letter first";
            return refuse(ConfigErrorKind::Bucket, "bucket", problem);
        }
        let lifetimes = match self.lifetimes() {
            Ok(lifetimes) => lifetimes,
            Err((kind, field, problem)) => return refuse(kind, field, problem),
        };
        if self.body_limit == 0 {
            return refuse(ConfigErrorKind::Limit, "body_limit", "is zero");
        }
        let key = match key(self.template.as_deref(), self.key_with, &pattern) {
            Ok(key) => key,
            Err((kind, field, problem)) => return refuse(kind, field, &problem),
        };
        let tags = self.tags.into_iter().map(|source| KeyBuilder::new(source, &pattern));
        let tags = match tags.collect() {
            Ok(tags) => tags,
            Err((kind, problem)) => return refuse(kind, "tag", &problem),
        };
        Ok(CacheRule {
            template: self.template,
            route,
            pattern,
            bucket: self.bucket,
            key,
            tags,
            lifetimes,
            windows: self.windows,
            soft_timeout: self.soft_timeout,
            early_refresh: self.early_refresh,
            credentials: self.credentials.unwrap_or_else(|| credentials.clone()),
            query: self.query,
            request_directives: self.request_directives,
            vary: Nominated::new(self.vary),
            targeted: self.targeted.into(),
            stripped: self.stripped.into(),
            body_limit: self.body_limit,
            coalescing: self.coalescing,
        })
    }

    fn lifetimes(&self) -> Result<Lifetimes, (ConfigErrorKind, &'static str, &'static str)> {
        let checked = |ttl: Duration, field| match ttl {
            Duration::ZERO => Err((ConfigErrorKind::Ttl, field, "is zero")),
            ttl if ttl > LONGEST => Err((ConfigErrorKind::Ttl, field, "is over a century")),
            ttl => Ok(ttl),
        };
        if self.ttl.is_none() && self.freshness == Freshness::Fixed {
            return Err((ConfigErrorKind::Ttl, "ttl", "is missing"));
        }
        let windows = [
            (self.windows.while_revalidate, "stale_while_revalidate"),
            (self.windows.if_error, "stale_if_error"),
        ];
        if let Some((_, field)) = windows.into_iter().find(|(window, _)| *window > LONGEST) {
            return Err((ConfigErrorKind::Ttl, field, "is over a century"));
        }
        if self.heuristic_percent > MAX_HEURISTIC {
            return Err((ConfigErrorKind::Limit, "heuristic", "is over 10 percent"));
        }
        if self.heuristic_percent > 0 && self.freshness == Freshness::Fixed {
            return Err((ConfigErrorKind::Limit, "heuristic", "is for `Freshness::Origin`"));
        }
        if !(0.0..=MAX_BETA).contains(&self.early_refresh) {
            return Err((ConfigErrorKind::Limit, "early_refresh", "is not between 0 and 10"));
        }
        if self.jitter_percent > MAX_JITTER {
            return Err((ConfigErrorKind::Limit, "jitter", "is over 50 percent"));
        }
        if let Some(problem) = self.statuses.iter().find_map(|status| unfit_status(*status)) {
            return Err((ConfigErrorKind::Status, "statuses", problem));
        }
        Ok(Lifetimes {
            freshness: self.freshness,
            heuristic_percent: self.heuristic_percent,
            ttl: self.ttl.map(|ttl| checked(ttl, "ttl")).transpose()?,
            negative_ttl: self.negative_ttl.map(|ttl| checked(ttl, "negative_ttl")).transpose()?,
            statuses: self.statuses.clone(),
            jitter_percent: self.jitter_percent,
        })
    }
}

fn key(
    template: Option<&str>,
    builder: Option<Extract>,
    pattern: &Pattern,
) -> Result<KeyBuilder, (ConfigErrorKind, &'static str, String)> {
    let missing = ConfigErrorKind::MissingKey;
    match (template, builder) {
        (Some(text), None) => match Template::parse(text, pattern) {
            Ok(template) => Ok(KeyBuilder::Template(template)),
            Err((kind, problem)) => Err((kind, "key", problem)),
        },
        (None, Some(builder)) => Ok(KeyBuilder::Closure(builder)),
        (None, None) => Err((missing, "key", "give `.key(..)` or `.key_with(..)`".to_owned())),
        (Some(_), Some(_)) => Err((missing, "key_with", "`.key(..)` is given too".to_owned())),
    }
}

fn unfit_status(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        100..=199 => Some("1xx is no final response"),
        206 | 304 => Some("206 and 304 are parts of a response"),
        401 | 407 => Some("401 and 407 are for one client"),
        500.. => Some("a server error is not stored"),
        _ => None,
    }
}

impl fmt::Debug for CacheRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheRoute")
            .field("pattern", &self.pattern)
            .field("bucket", &self.bucket)
            .field("key", &self.template)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

fn is_metric_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
