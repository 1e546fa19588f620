//! Request head, as rules and key builders see it.

use std::{borrow::Cow, fmt, sync::Arc};

use http::{Extensions, HeaderMap, Method, Uri, Version, request};
use percent_encoding::percent_decode_str;

use super::pattern::Pattern;

/// Head of a request, borrowed from a `Request<B>` or from `Parts`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadRef<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
}

impl<'a> HeadRef<'a> {
    pub(crate) fn of<B>(request: &'a http::Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// Returns the URI as the client sent it: nested axum routers see it without their prefix.
    #[cfg(feature = "axum")]
    pub(crate) fn original_uri(self) -> &'a Uri {
        let original = self.extensions.get::<axum::extract::OriginalUri>();
        original.map_or(self.uri, |original| &original.0)
    }

    #[cfg(not(feature = "axum"))]
    pub(crate) fn original_uri(self) -> &'a Uri {
        self.uri
    }
}

/// Head of a request that is kept beyond it.
#[derive(Debug)]
pub(crate) struct RequestHead {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
}

impl RequestHead {
    pub(crate) fn borrowed(&self) -> HeadRef<'_> {
        let Self { method, uri, headers, extensions, .. } = self;
        HeadRef { method, uri, version: self.version, headers, extensions }
    }
}

impl From<HeadRef<'_>> for RequestHead {
    fn from(head: HeadRef<'_>) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            headers: head.headers.clone(),
            extensions: head.extensions.clone(),
        }
    }
}

impl<'a> From<&'a request::Parts> for HeadRef<'a> {
    fn from(head: &'a request::Parts) -> Self {
        Self {
            method: &head.method,
            uri: &head.uri,
            version: head.version,
            headers: &head.headers,
            extensions: &head.extensions,
        }
    }
}

/// Head of a request and the path parameters that its route matched.
#[derive(Clone, Copy)]
pub(crate) struct RequestView<'a, 'p> {
    pub(crate) head: HeadRef<'a>,
    pub(crate) parameters: &'p matchit::Params<'p, 'a>,
}

impl<'a> RequestView<'a, '_> {
    /// Returns the raw text of the parameter at `position`.
    pub(super) fn parameter(&self, position: usize) -> Option<&'a str> {
        self.parameters.iter().nth(position).map(|(_, raw)| raw)
    }
}

/// Request as the closures of a route see it: its head, its path parameters, and the extensions that
/// outer layers added.
///
/// [`CacheRoute::key_with`](crate::CacheRoute::key_with), [`Caller::with`](crate::Caller::with) and
/// their like are given one.
///
/// ```
/// use tower_support_cache::CacheRoute;
///
/// #[derive(Clone)]
/// struct Account(String); // Added to the extensions by the authentication layer.
///
/// CacheRoute::get("/cases/{state}").key_with(|request| {
///     let account = request.extensions().get::<Account>()?;
///     let state = request.param("state")?;
///     Some(format!("support:cases:{}:{state}", account.0))
/// });
/// ```
pub struct KeyRequest<'a> {
    pub(super) view: RequestView<'a, 'a>,
    pub(super) pattern: &'a Pattern,
}

impl<'a> KeyRequest<'a> {
    /// Returns the method.
    pub fn method(&self) -> &'a Method {
        self.view.head.method
    }

    /// Returns the URI as the layer sees it: under `axum::Router::nest` without the prefix.
    pub fn uri(&self) -> &'a Uri {
        self.view.head.uri
    }

    /// Returns the header fields.
    pub fn headers(&self) -> &'a HeaderMap {
        self.view.head.headers
    }

    /// Returns the extensions.
    pub fn extensions(&self) -> &'a Extensions {
        self.view.head.extensions
    }

    /// Returns the path parameter `name`, percent-decoded once. `None` if the pattern has no such
    /// parameter or its value is no UTF-8.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        let raw = self.view.parameter(self.pattern.position(name)?)?;
        percent_decode_str(raw).decode_utf8().ok()
    }
}

impl fmt::Debug for KeyRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest")
            .field("pattern", &self.pattern.as_str())
            .finish_non_exhaustive()
    }
}

/// Closure that reads a text from a request.
pub(super) type Extract = Arc<dyn Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync>;
