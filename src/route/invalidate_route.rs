//! Invalidation by writes.

use std::{fmt, sync::Arc};

use http::Method;
use matchit::Router;

use super::{
    key_builder::{KeyBuilder, KeySource},
    pattern::Pattern,
    request::{HeadRef, KeyRequest, RequestView},
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::Subject,
};

/// Route whose requests change cached resources: the keys and tags that a successful one invalidates.
///
/// A rule acts if the response is 2xx or 3xx, and also if the outcome is unknown: 408, 499, 5xx, an
/// error of the service, or a dropped request. It acts before the writer sees the response. After an
/// unknown outcome, nothing is stored under its keys and tags for 10 s. A handler that changed nothing
/// answers with another 4xx, such as 429. All rules that match a request apply.
///
/// ```
/// use tower_support_cache::InvalidateRoute;
///
/// InvalidateRoute::post("/accounts/{account}/cases/{case}/comments")
///     .key("support:messages:{case}")
///     .key("support:cases:{account}")
///     .tag("account:{account}");
/// ```
#[derive(Clone)]
#[must_use = "a rule does nothing until it is given to `SupportCacheLayerBuilder::invalidate`"]
pub struct InvalidateRoute {
    methods: Methods,
    pattern: String,
    keys: Vec<KeySource>,
    tags: Vec<KeySource>,
    is_for_groups: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Methods {
    One(Method),
    AnyUnsafe,
}

impl InvalidateRoute {
    /// Matches requests of `method` whose path matches `pattern`. The method must be unsafe (RFC 9110
    /// §9.2.1): reads do not invalidate. Inside `axum::Router::nest` a path is without the prefix of the
    /// nest, as for [`CacheRoute::get`](crate::CacheRoute::get).
    pub fn new(method: Method, pattern: impl Into<String>) -> Self {
        Self::matching(Methods::One(method), pattern.into())
    }

    /// Matches POST.
    pub fn post(pattern: impl Into<String>) -> Self {
        Self::new(Method::POST, pattern)
    }

    /// Matches PUT.
    pub fn put(pattern: impl Into<String>) -> Self {
        Self::new(Method::PUT, pattern)
    }

    /// Matches PATCH.
    pub fn patch(pattern: impl Into<String>) -> Self {
        Self::new(Method::PATCH, pattern)
    }

    /// Matches DELETE.
    pub fn delete(pattern: impl Into<String>) -> Self {
        Self::new(Method::DELETE, pattern)
    }

    /// Matches every method that is not safe, unknown ones included. Safe methods are those that IANA
    /// registers as safe, such as GET, OPTIONS, QUERY and PROPFIND.
    pub fn any_unsafe(pattern: impl Into<String>) -> Self {
        Self::matching(Methods::AnyUnsafe, pattern.into())
    }

    fn matching(methods: Methods, pattern: String) -> Self {
        Self { methods, pattern, keys: Vec::new(), tags: Vec::new(), is_for_groups: false }
    }

    /// Adds a key to invalidate, as a template over the pattern's parameters.
    pub fn key(mut self, template: impl Into<String>) -> Self {
        self.keys.push(KeySource::Template(template.into()));
        self
    }

    /// Adds a key to invalidate, made by a closure over the request's head.
    ///
    /// `None` or an unusable key is counted as an error and logged; the write is forwarded all the
    /// same.
    pub fn key_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.keys.push(KeySource::Closure(Arc::new(builder)));
        self
    }

    /// Adds a [tag](crate::CacheRoute::tag) to invalidate, as a template over the pattern's parameters.
    /// Every response with the tag is removed, whatever its key.
    pub fn tag(mut self, template: impl Into<String>) -> Self {
        self.tags.push(KeySource::Template(template.into()));
        self
    }

    /// Adds a tag to invalidate, made by a closure over the request's head.
    ///
    /// `None` or an unusable tag is counted as an error and logged; the write is forwarded all the
    /// same.
    pub fn tag_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(KeySource::Closure(Arc::new(builder)));
        self
    }

    /// Invalidates the groups that successful responses name in `Cache-Group-Invalidation` (RFC 9875
    /// §3). Needed only where no other rule and no cached route matches: those do it anyway.
    ///
    /// The groups are those of the request's own authority. Use a rule with nothing else if the service
    /// itself decides about the consequences of its writes.
    pub fn groups(mut self) -> Self {
        self.is_for_groups = true;
        self
    }

    /// Checks the rule.
    pub(crate) fn build(self) -> Result<InvalidateRule, ConfigError> {
        let method = match &self.methods {
            Methods::One(method) => method.as_str(),
            Methods::AnyUnsafe => "(any unsafe)",
        };
        let route = format!("{method} {}", self.pattern);
        self.rule(&route).map_err(|error| error.at(&route))
    }

    fn rule(self, route: &str) -> Result<InvalidateRule, ConfigError> {
        if let Methods::One(method) = &self.methods
            && !is_unsafe(method)
        {
            let problem = "a safe method changes nothing: name another, such as POST";
            return Err(ConfigError::new(ConfigErrorKind::Pattern, "method", problem));
        }
        let pattern = Pattern::parse(&self.pattern)?;
        if self.keys.is_empty() && self.tags.is_empty() && !self.is_for_groups {
            let problem = "is missing: give `.key(..)`, `.tag(..)` or `.groups()`";
            return Err(ConfigError::new(ConfigErrorKind::MissingKey, "key", problem));
        }
        let builders = |sources: Vec<KeySource>, field| {
            let builders = sources.into_iter().map(|one| KeyBuilder::new(one, &pattern, field));
            builders.collect::<Result<Vec<_>, _>>()
        };
        let (keys, tags) = (builders(self.keys, "key")?, builders(self.tags, "tag")?);
        let mut router = Router::new();
        pattern.insert(&mut router, (), &[])?;
        let methods = self.methods;
        Ok(InvalidateRule { route: route.to_owned(), methods, pattern, router, keys, tags })
    }
}

impl fmt::Debug for InvalidateRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvalidateRoute")
            .field("methods", &self.methods)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// Methods that change nothing, by the registry of IANA (RFC 9110 §9.2.1, §16.1), and CONNECT, which
/// names no resource.
const SAFE: [&str; 10] =
    ["CONNECT", "GET", "HEAD", "OPTIONS", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH", "TRACE"];

/// Returns whether a method may change a resource. A method that is not registered may.
pub(super) fn is_unsafe(method: &Method) -> bool {
    !SAFE.contains(&method.as_str())
}

/// Invalidation rule, checked.
pub(crate) struct InvalidateRule {
    /// Method and pattern, for messages.
    pub(super) route: String,
    methods: Methods,
    pattern: Pattern,
    /// Router for this pattern alone, since patterns of rules may overlap in any way.
    router: Router<()>,
    keys: Vec<KeyBuilder>,
    tags: Vec<KeyBuilder>,
}

impl InvalidateRule {
    /// Returns the keys and tags that a request invalidates, `None` for each that is unusable.
    ///
    /// Returns no list if the rule is not for the request.
    pub(super) fn subjects(&self, head: HeadRef<'_>) -> Option<Vec<Option<Subject>>> {
        let is_for_method = match &self.methods {
            Methods::One(method) => method == head.method,
            Methods::AnyUnsafe => is_unsafe(head.method),
        };
        if !is_for_method {
            return None;
        }
        let matched = self.router.at(head.uri.path()).ok()?;
        let view = RequestView { head, parameters: &matched.params };
        let keys = self.keys.iter().map(|key| key.key(&self.pattern, view).map(Subject::Key));
        let tags = self.tags.iter().map(|tag| tag.tag(&self.pattern, view).map(Subject::Tag));
        Some(keys.chain(tags).collect())
    }
}
