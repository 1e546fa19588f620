//! Invalidation by writes.

use std::{fmt, sync::Arc, time::Duration};

use http::Method;
use matchit::Router;

use super::{
    change::{WriteChange, WriteWindows},
    key_builder::{KeyBuilder, KeySource},
    pattern::Pattern,
    request::{HeadRef, KeyRequest, RequestView},
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    insight::{InvalidatedSubject, InvalidatingRule},
    key::{Slot, Strength, Subject},
};

/// Route whose requests change cached resources: the keys and tags that a successful one invalidates.
///
/// A rule acts if the response is 2xx or 3xx, and also if the outcome is unknown: 408, 499, 5xx, an
/// error of the service, or a dropped request. It acts before the writer sees the response, and, if the
/// body is still on its way then, once more before the body ends. A body that fails or is dropped before
/// leaves the outcome unknown. After an unknown outcome, nothing is stored under its keys and tags for
/// [a time](Self::unknown_for), and so after [202](Self::accepted_for). A handler that changed nothing answers
/// with another 4xx, such as 429, or with a [`WriteEffect`](crate::WriteEffect). All rules that match a
/// request apply.
///
/// ```
/// use tower_support_cache::InvalidateRoute;
///
/// InvalidateRoute::post("/accounts/{account}/cases/{case}/comments")
///     .key("support:messages:{case}")
///     .key("support:cases:{account}")
///     .tag("account:{account}");
/// ```
///
/// Keys and tags of the request's head, and groups that the response names:
///
/// ```
/// use tower_support_cache::InvalidateRoute;
///
/// # #[derive(Clone)] struct Tenant(String);
/// InvalidateRoute::any_unsafe("/cases/{*rest}")
///     .key_with(|request| Some(format!("cases:{}", request.extensions().get::<Tenant>()?.0)))
///     .tag_with(|request| Some(format!("tenant:{}", request.extensions().get::<Tenant>()?.0)))
///     .groups();
/// ```
#[derive(Clone)]
#[must_use = "a rule does nothing until it is given to `SupportCacheLayerBuilder::invalidate`"]
pub struct InvalidateRoute {
    methods: Methods,
    pattern: String,
    keys: Vec<KeySource>,
    tags: Vec<KeySource>,
    is_for_groups: bool,
    strength: Strength,
    windows: WriteWindows,
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
        Self {
            methods,
            pattern,
            keys: Vec::new(),
            tags: Vec::new(),
            is_for_groups: false,
            strength: Strength::Hard,
            windows: WriteWindows::default(),
        }
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

    /// Invalidates the rule's keys and tags softly: their responses become stale instead of being removed,
    /// and answer as far as [`stale_while_revalidate`](crate::CacheRoute::stale_while_revalidate) and
    /// [`stale_if_error`](crate::CacheRoute::stale_if_error) of their routes let them. That holds after an
    /// unknown outcome, too.
    ///
    /// Use it where a short time of the old value is better than a wait. A key or tag that another matching
    /// rule names without `soft` is removed, and so is the cached response at the request's own path, as
    /// RFC 9111 §4.4 demands.
    ///
    /// ```
    /// use tower_support_cache::InvalidateRoute;
    ///
    /// InvalidateRoute::post("/accounts/{account}/cases").key("support:cases:{account}").soft();
    /// ```
    #[doc(alias = "soft purge")]
    pub fn soft(mut self) -> Self {
        self.strength = Strength::Soft;
        self
    }

    /// Sets the time after an unknown outcome in which the origin may still commit. Until it is over,
    /// requests for the rule's keys and tags share the origin's responses, but none is stored. Then they are
    /// invalidated once more. Defaults to 10 s, and is an hour at most.
    ///
    /// Give the longest time that the origin goes on with a write that it has not answered, such as the
    /// timeout of its transactions. Over Redis the time begins when the server has been reached.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::InvalidateRoute;
    ///
    /// InvalidateRoute::post("/imports").tag("items").unknown_for(Duration::from_secs(60));
    /// ```
    pub fn unknown_for(mut self, window: Duration) -> Self {
        self.windows.unknown = window;
        self
    }

    /// Sets the time after a 202 (Accepted) in which the origin completes the write. It is as for
    /// [`unknown_for`](Self::unknown_for). Defaults to 10 s, and is an hour at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::InvalidateRoute;
    ///
    /// InvalidateRoute::post("/exports").tag("exports").accepted_for(Duration::from_secs(120));
    /// ```
    pub fn accepted_for(mut self, window: Duration) -> Self {
        self.windows.accepted = window;
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
        let windows = self.windows;
        check_window("unknown_for", windows.unknown)?;
        check_window("accepted_for", windows.accepted)?;
        let builders = |sources: Vec<KeySource>, field| {
            let builders = sources.into_iter().map(|one| KeyBuilder::new(one, &pattern, field));
            builders.collect::<Result<Vec<_>, _>>()
        };
        let (keys, tags) = (builders(self.keys, "key")?, builders(self.tags, "tag")?);
        let mut router = Router::new();
        pattern.insert(&mut router, (), &[])?;
        let (methods, strength, route) = (self.methods, self.strength, route.to_owned());
        Ok(InvalidateRule { route, methods, pattern, router, keys, tags, strength, windows })
    }
}

fn check_window(field: &'static str, window: Duration) -> Result<(), ConfigError> {
    let problem = match window {
        Duration::ZERO => {
            "is zero: a handler that has changed nothing, or is done, answers with a `WriteEffect`"
        }
        window if window > MAX_WINDOW => "is over an hour: give a shorter time",
        _ => return Ok(()),
    };
    Err(ConfigError::new(ConfigErrorKind::Limit, field, problem))
}

impl fmt::Debug for InvalidateRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvalidateRoute")
            .field("methods", &self.methods)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// Longest window of a rule.
const MAX_WINDOW: Duration = Duration::from_secs(3600);

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
    strength: Strength,
    pub(super) windows: WriteWindows,
}

impl InvalidateRule {
    /// Returns the keys and tags of a slot that a write of the rule may invalidate.
    pub(super) fn invalidating(&self, slot: &Slot) -> Vec<InvalidatingRule> {
        let found = |builder: &KeyBuilder, subject| InvalidatingRule {
            rule: self.route.clone(),
            subject,
            is_certain: builder.is_template(),
        };
        let keys = self.keys.iter().filter(|builder| builder.can_make(slot.key.as_str()));
        let by_key =
            keys.map(|builder| found(builder, InvalidatedSubject::key(&slot.key, self.strength)));
        let tags = slot.tags.iter().filter_map(|tag| Some((tag, tag.text()?)));
        let by_tag = tags.flat_map(|(tag, text)| {
            let builders = self.tags.iter().filter(move |builder| builder.can_make(text));
            builders.map(move |builder| found(builder, InvalidatedSubject::tag(tag, self.strength)))
        });
        by_key.chain(by_tag).collect()
    }

    /// Returns the changes by a request, `None` for each whose key or tag is unusable.
    ///
    /// Returns no list if the rule is not for the request.
    pub(super) fn changes(&self, head: HeadRef<'_>) -> Option<Vec<Option<WriteChange>>> {
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
        let Self { strength, windows, .. } = *self;
        let change = |subject| WriteChange { subject, strength, windows };
        Some(keys.chain(tags).map(|subject| subject.map(change)).collect())
    }
}
