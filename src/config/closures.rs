//! Closures that a configuration refers to by name.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use http::response;

use crate::route::KeyRequest;

/// Closures that a configuration refers to by name: what a file cannot say stays code.
///
/// The version of a closure over responses stands for it where layers and processes share a store. Give it
/// another number when the closure changes, so that what was stored before is not used.
///
/// ```
/// use tower_support_cache::config::{Closures, LayerConfig};
///
/// #[derive(Clone)]
/// struct User(u64); // Added to the extensions by the authentication layer.
///
/// let closures = Closures::new()
///     .text("user", |request| Some(request.extensions().get::<User>()?.0.to_string()))
///     .store_if("complete", 1, |head| !head.headers.contains_key("x-partial-result"));
/// let config: LayerConfig = serde_json::from_str(
///     r#"{ "cache": [{
///         "pattern": "/inbox", "key_with": "user", "store_if": "complete", "ttl": "30s",
///         "credentials": { "per_caller": { "named": "user" } }
///     }] }"#,
/// )?;
/// config.layer(&closures)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Closures {
    texts: HashMap<String, TextClosure>,
    ttls: HashMap<String, Versioned<Option<Duration>>>,
    store_ifs: HashMap<String, Versioned<bool>>,
    reads: HashMap<String, ReadsClosure>,
}

/// Closure that makes a text of a request.
pub(super) type TextClosure = Arc<dyn Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync>;

/// Closure that tells whether a request with this content reads.
pub(super) type ReadsClosure = Arc<dyn Fn(&KeyRequest<'_>, &[u8]) -> bool + Send + Sync>;

/// Closure over the head of a response, with its version.
pub(super) struct Versioned<T> {
    pub(super) version: u32,
    pub(super) closure: Arc<dyn Fn(&response::Parts) -> T + Send + Sync>,
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Self { version: self.version, closure: Arc::clone(&self.closure) }
    }
}

impl Closures {
    /// Returns no closures.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a closure that makes a text of a request: for `key_with`, `keys_with`, `tags_with`, and callers
    /// and tenants that are `named`.
    #[must_use]
    pub fn text(
        mut self,
        name: impl Into<String>,
        closure: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.texts.insert(name.into(), Arc::new(closure));
        self
    }

    /// Adds a closure for `ttl_with`, as [`CacheRoute::ttl_with`](crate::CacheRoute::ttl_with) takes it.
    #[must_use]
    pub fn ttl_with(
        mut self,
        name: impl Into<String>,
        version: u32,
        closure: impl Fn(&response::Parts) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.ttls.insert(name.into(), Versioned { version, closure: Arc::new(closure) });
        self
    }

    /// Adds a closure for `store_if`, as [`CacheRoute::store_if`](crate::CacheRoute::store_if) takes it.
    #[must_use]
    pub fn store_if(
        mut self,
        name: impl Into<String>,
        version: u32,
        closure: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.store_ifs.insert(name.into(), Versioned { version, closure: Arc::new(closure) });
        self
    }

    /// Adds a closure for `reads`, as [`CacheRoute::post_read`](crate::CacheRoute::post_read) takes it.
    #[must_use]
    pub fn reads(
        mut self,
        name: impl Into<String>,
        closure: impl Fn(&KeyRequest<'_>, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.reads.insert(name.into(), Arc::new(closure));
        self
    }

    pub(super) fn reads_of(&self, name: &str) -> Option<ReadsClosure> {
        self.reads.get(name).cloned()
    }

    pub(super) fn text_of(&self, name: &str) -> Option<TextClosure> {
        self.texts.get(name).cloned()
    }

    pub(super) fn ttl_of(&self, name: &str) -> Option<Versioned<Option<Duration>>> {
        self.ttls.get(name).cloned()
    }

    pub(super) fn store_if_of(&self, name: &str) -> Option<Versioned<bool>> {
        self.store_ifs.get(name).cloned()
    }
}

impl fmt::Debug for Closures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closures")
            .field("texts", &self.texts.keys())
            .field("ttls", &self.ttls.keys())
            .field("store_ifs", &self.store_ifs.keys())
            .field("reads", &self.reads.keys())
            .finish()
    }
}
