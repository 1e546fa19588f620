//! Rules that say which keys and tags a write invalidates.

use std::{fmt, sync::Arc};

use http::Method;

use super::{
    pattern::Pattern,
    request::{KeyRequest, RequestView},
    rule::{KeyBuilder, KeySource},
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::Subject,
};

/// A route whose requests change what is cached: the keys and tags that a successful one invalidates.
///
/// They are invalidated when the response is 2xx or 3xx, and also when the outcome is unknown
/// (408, 499, 5xx, an error of the service, a dropped request), before the writer sees it; after an
/// unknown outcome nothing is stored for them for 10 s. A handler that knows that nothing changed
/// says so by another 4xx, such as 429. All rules that match a request apply.
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
#[must_use = "a rule does nothing until it is given to `Builder::invalidate`"]
pub struct InvalidateRoute {
    methods: Methods,
    pattern: String,
    keys: Vec<KeySource>,
    tags: Vec<KeySource>,
    heeds_groups: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Methods {
    One(Method),
    AnyUnsafe,
}

impl InvalidateRoute {
    /// Matches requests of `method` whose path matches `pattern`. The method must be unsafe
    /// (RFC 9110 §9.2.1): reads do not invalidate.
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

    /// Matches every method that is not safe, unknown ones included.
    pub fn any_unsafe(pattern: impl Into<String>) -> Self {
        Self::matching(Methods::AnyUnsafe, pattern.into())
    }

    fn matching(methods: Methods, pattern: String) -> Self {
        Self { methods, pattern, keys: Vec::new(), tags: Vec::new(), heeds_groups: false }
    }

    /// Adds a key to invalidate, as a template over the pattern's parameters.
    pub fn key(mut self, template: impl Into<String>) -> Self {
        self.keys.push(KeySource::Template(template.into()));
        self
    }

    /// Adds a key to invalidate, made by a closure over the request's head. `None`, or an unfit
    /// key, is counted as an error and logged; the write is forwarded all the same.
    pub fn key_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.keys.push(KeySource::Closure(Arc::new(builder)));
        self
    }

    /// Adds a [tag](crate::CacheRoute::tag) to invalidate, as a template over the pattern's parameters:
    /// every response that has it goes, whatever its key.
    pub fn tag(mut self, template: impl Into<String>) -> Self {
        self.tags.push(KeySource::Template(template.into()));
        self
    }

    /// Adds a tag to invalidate, made by a closure over the request's head. `None`, or an unfit tag,
    /// is counted as an error and logged; the write is forwarded all the same.
    pub fn tag_with(
        mut self,
        builder: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(KeySource::Closure(Arc::new(builder)));
        self
    }

    /// Heeds what successful responses name by `Cache-Group-Invalidation` (RFC 9875 §3), where no
    /// other rule and no cached route matches: there it is heeded anyway.
    ///
    /// The groups are those of the request's own authority. Give a rule this alone if the service
    /// decides what its writes invalidate.
    pub fn groups(mut self) -> Self {
        self.heeds_groups = true;
        self
    }

    pub(crate) fn build(self) -> Result<InvalidateRule, ConfigError> {
        let method = match &self.methods {
            Methods::One(method) => method.as_str(),
            Methods::AnyUnsafe => "(any unsafe)",
        };
        let route = format!("{method} {}", self.pattern);
        let refuse = |kind, field, problem: &str| {
            ConfigError::new(kind, Some(route.clone()), field, problem)
        };
        if let Methods::One(method) = &self.methods
            && !is_unsafe(method)
        {
            let problem = "a safe method changes nothing, so it invalidates nothing";
            return Err(refuse(ConfigErrorKind::Pattern, "method", problem));
        }
        let pattern = Pattern::parse(&self.pattern)
            .map_err(|problem| refuse(ConfigErrorKind::Pattern, "pattern", problem))?;
        if self.keys.is_empty() && self.tags.is_empty() && !self.heeds_groups {
            let problem = "give at least one key or tag, or `.groups()`";
            return Err(refuse(ConfigErrorKind::MissingKey, "key", problem));
        }
        let builders = |sources: Vec<KeySource>, field| {
            let builders = sources.into_iter().map(|source| KeyBuilder::new(source, &pattern));
            builders
                .collect::<Result<Vec<_>, _>>()
                .map_err(|(kind, problem)| refuse(kind, field, &problem))
        };
        let (keys, tags) = (builders(self.keys, "key")?, builders(self.tags, "tag")?);
        Ok(InvalidateRule { route, methods: self.methods, pattern, keys, tags })
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

/// RFC 9110 §9.2.1. CONNECT names no resource, so no rule is for it.
pub(crate) fn is_unsafe(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT].contains(method)
}

/// An invalidation rule, checked.
pub(crate) struct InvalidateRule {
    /// Method and pattern, for messages.
    pub(crate) route: String,
    pub(crate) pattern: Pattern,
    methods: Methods,
    keys: Vec<KeyBuilder>,
    tags: Vec<KeyBuilder>,
}

impl InvalidateRule {
    pub(crate) fn is_for(&self, method: &Method) -> bool {
        match &self.methods {
            Methods::One(one) => one == method,
            Methods::AnyUnsafe => is_unsafe(method),
        }
    }

    /// Returns what each `.key(..)` and `.tag(..)` makes of a request; `None` where that is of no use.
    pub(crate) fn subjects<'a>(
        &'a self,
        view: RequestView<'a, 'a>,
    ) -> impl Iterator<Item = Option<Subject>> {
        let keys = self.keys.iter().map(move |key| key.key(&self.pattern, view).map(Subject::Key));
        let tags = self.tags.iter().map(move |tag| tag.tag(&self.pattern, view).map(Subject::Tag));
        keys.chain(tags)
    }
}

impl fmt::Debug for InvalidateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvalidateRule").field("route", &self.route).finish_non_exhaustive()
    }
}
