//! Decisions about a response that its handler or a closure of the route makes.

use std::{fmt, sync::Arc, time::Duration};

use http::response;

use super::directive::MOST_SECONDS;
use crate::metrics::outcome::Refusal;

/// Decision of a handler about its own response, as an extension of the response.
///
/// It is for this cache alone and is sent to no client. It comes before a lifetime that the response
/// states, [`CacheRoute::ttl_with`](crate::CacheRoute::ttl_with) and
/// [`CacheRoute::ttl`](crate::CacheRoute::ttl). A response that its fields forbid to store, such as one
/// with `Cache-Control: no-store` or `Set-Cookie`, is not stored, whatever the policy.
///
/// ```
/// use std::time::Duration;
///
/// use axum::{Extension, response::IntoResponse};
/// use tower_support_cache::ResponsePolicy;
///
/// async fn price(is_auction: bool) -> impl IntoResponse {
///     let policy = match is_auction {
///         true => ResponsePolicy::no_store(),
///         false => ResponsePolicy::ttl(Duration::from_secs(5)),
///     };
///     (Extension(policy), "17 EUR")
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePolicy(Decided);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    NoStore,
    Ttl(Duration),
}

impl ResponsePolicy {
    /// Forbids to store the response and to share it with requests that wait for it.
    pub fn no_store() -> Self {
        Self(Decided::NoStore)
    }

    /// Sets the time for which the response is fresh, from the arrival of its head. It is shortened by
    /// the route's [`jitter`](crate::CacheRoute::jitter).
    ///
    /// A response of another status than 200 is stored, too, unless the route names its
    /// [`statuses`](crate::CacheRoute::statuses) without it; but none of 1xx, 206, 304, 401, 407 and 5xx.
    /// Zero forbids to store it, unless each request can validate it
    /// ([`Freshness::Origin`](crate::Freshness::Origin)).
    pub fn ttl(ttl: Duration) -> Self {
        Self(Decided::Ttl(ttl))
    }
}

/// Closure of a route over the head of a response, and the version that stands for it in digests.
#[derive(Clone)]
pub(crate) struct HeadRule<T> {
    pub(crate) version: u32,
    decide: Arc<dyn Fn(&response::Parts) -> T + Send + Sync>,
}

impl<T> HeadRule<T> {
    pub(crate) fn new(
        version: u32,
        decide: impl Fn(&response::Parts) -> T + Send + Sync + 'static,
    ) -> Self {
        Self { version, decide: Arc::new(decide) }
    }
}

impl<T> fmt::Debug for HeadRule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeadRule").field(&self.version).finish()
    }
}

/// Closures of a route that decide about its responses.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadRules {
    pub(crate) store_if: Option<HeadRule<bool>>,
    pub(crate) ttl_with: Option<HeadRule<Option<Duration>>>,
}

impl HeadRules {
    /// Returns the lifetime that the handler or the route's closure gives to a response.
    pub(super) fn ttl(&self, head: &response::Parts) -> Option<Duration> {
        let ttl = match head.extensions.get::<ResponsePolicy>() {
            Some(ResponsePolicy(Decided::Ttl(ttl))) => Some(*ttl),
            _ => self.ttl_with.as_ref().and_then(|rule| (rule.decide)(head)),
        };
        ttl.map(|ttl| ttl.min(Duration::from_secs(MOST_SECONDS)))
    }

    /// Decides about a response that nothing else forbids to store.
    pub(super) fn check(&self, head: &response::Parts) -> Result<(), Refusal> {
        let is_forbidden = head.extensions.get() == Some(&ResponsePolicy::no_store());
        let is_refused = || self.store_if.as_ref().is_some_and(|rule| !(rule.decide)(head));
        if is_forbidden || is_refused() { Err(Refusal::Policy) } else { Ok(()) }
    }
}
