//! The settings of one cached route.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    pattern::Pattern,
    request::{Extract, KeyRequest, RequestView},
    template::Template,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::PrimaryKey,
    policy::Credentials,
};

const DEFAULT_BODY_LIMIT: u64 = 1024 * 1024;
/// A century: long enough for any response, short enough to add to any clock.
const MAX_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
const MAX_NAME: usize = 64;

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
    ttl: Option<Duration>,
    credentials: Option<Credentials>,
    query: QueryPolicy,
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
            ttl: None,
            credentials: None,
            query: QueryPolicy::AsSent,
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

    /// Sets how long a response is fresh, from when its head arrived. Required.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Says whom a response is for when the request carries credentials. Defaults to what the layer
    /// says ([`Builder::credentials`](crate::Builder::credentials)), and that to
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
        let ttl = match self.ttl {
            Some(ttl) if !ttl.is_zero() && ttl <= MAX_TTL => ttl,
            Some(Duration::ZERO) => return refuse(ConfigErrorKind::Ttl, "ttl", "is zero"),
            Some(_) => return refuse(ConfigErrorKind::Ttl, "ttl", "is over a century"),
            None => return refuse(ConfigErrorKind::Ttl, "ttl", "is missing"),
        };
        if self.body_limit == 0 {
            return refuse(ConfigErrorKind::Limit, "body_limit", "is zero");
        }
        let key = match (&self.template, self.key_with) {
            (Some(text), None) => match Template::parse(text, &pattern) {
                Ok(template) => KeyBuilder::Template(template),
                Err((kind, problem)) => return refuse(kind, "key", &problem),
            },
            (None, Some(builder)) => KeyBuilder::Closure(builder),
            (None, None) => {
                return refuse(
                    ConfigErrorKind::MissingKey,
                    "key",
                    "give `.key(..)` or `.key_with(..)`",
                );
            }
            (Some(_), Some(_)) => {
                return refuse(ConfigErrorKind::MissingKey, "key_with", "`.key(..)` is given too");
            }
        };
        Ok(CacheRule {
            template: self.template,
            route,
            pattern,
            bucket: self.bucket,
            key,
            ttl,
            credentials: self.credentials.unwrap_or_else(|| credentials.clone()),
            query: self.query,
            body_limit: self.body_limit,
            coalescing: self.coalescing,
        })
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

/// How a route makes its keys.
#[derive(Clone)]
pub(super) enum KeyBuilder {
    Template(Template),
    Closure(Extract),
}

impl KeyBuilder {
    pub(super) fn key(&self, pattern: &Pattern, view: RequestView<'_, '_>) -> Option<PrimaryKey> {
        match self {
            Self::Template(template) => template.key(&view),
            Self::Closure(builder) => PrimaryKey::checked(&builder(&KeyRequest { view, pattern })?),
        }
    }
}

/// A cached route, checked.
pub(crate) struct CacheRule {
    /// Method and pattern, for messages.
    pub(crate) route: String,
    pub(crate) pattern: Pattern,
    template: Option<String>,
    key: KeyBuilder,
    pub(crate) bucket: String,
    pub(crate) ttl: Duration,
    pub(crate) credentials: Credentials,
    pub(crate) query: QueryPolicy,
    pub(crate) body_limit: u64,
    pub(crate) coalescing: Coalescing,
}

impl CacheRule {
    pub(crate) fn key(&self, view: RequestView<'_, '_>) -> Option<PrimaryKey> {
        self.key.key(&self.pattern, view)
    }

    /// Whether the target alone decides the key, so that the variant need not hold it.
    pub(crate) fn target_implies_key(&self) -> bool {
        matches!(self.key, KeyBuilder::Template(_))
    }

    /// The settings that routes of one bucket share.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.ttl == other.ttl
            && self.body_limit == other.body_limit
            && self.coalescing == other.coalescing
    }

    /// Adds what decides the meaning of stored entries to the digest of the policy.
    pub(crate) fn digest(&self, hasher: &mut blake3::Hasher) {
        let text = format!(
            "{}\n{:?}\n{:?}\n{:?}\n{:?}\n{}\n",
            self.pattern.positional(),
            self.template,
            self.ttl,
            self.query,
            self.credentials,
            self.bucket,
        );
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    }
}

impl fmt::Debug for CacheRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheRule").field("route", &self.route).finish_non_exhaustive()
    }
}
