//! Cache directives of requests (RFC 9111 §5.2.1).

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, PRAGMA},
};

use super::cache_control::{Directives, Extent};

/// Treatment of the cache directives that clients send.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, RequestDirectives};
///
/// // Only trusted services call this route, so a `Cache-Control: no-cache` of theirs counts.
/// CacheRoute::get("/internal/prices")
///     .key("prices")
///     .ttl(Duration::from_secs(60))
///     .request_directives(RequestDirectives::Honour);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum RequestDirectives {
    /// `Cache-Control` and `Pragma` of a request change nothing, except `no-store`: such a request
    /// may be answered from the cache and stores nothing. So no client can force a miss.
    #[default]
    Ignore,
    /// `no-cache`, `max-age`, `min-fresh`, `only-if-cached` and `Pragma: no-cache` count too.
    ///
    /// Any client can then cause an origin request with each of its requests.
    Honour,
}

/// Mark of a request that an outer layer wants a new response for: the origin is asked, whatever is stored,
/// and its response is stored in place of that.
///
/// Put it into the extensions of the request. It counts on every cached route, whatever
/// [`RequestDirectives`] say, and no client can send it. If another fill already has the right to store, the
/// response is not stored.
///
/// ```
/// use axum::{Router, extract::Request, middleware::{self, Next}, routing::get};
/// use tower_support_cache::{ForceRefresh, MemoryStore, SupportCacheLayer};
///
/// /// Lets the job that imports cases, known by its token, refresh what it reads.
/// async fn refresh(mut request: Request, next: Next) -> axum::response::Response {
///     if request.headers().get("x-import-token").is_some_and(|token| token == "s3cret") {
///         request.extensions_mut().insert(ForceRefresh);
///     }
///     next.run(request).await
/// }
/// let app: Router = Router::new()
///     .route("/accounts/{account}/cases", get(async || "the cases"))
///     .layer(SupportCacheLayer::new(MemoryStore::new()))
///     .layer(middleware::from_fn(refresh));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForceRefresh;

/// Directives of one request, as far as its route honours them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Store no response to this request.
    pub(crate) no_store: bool,
    /// Answer from the store or not at all.
    pub(crate) only_if_cached: bool,
    /// Ask the origin, whatever is stored or on its way.
    pub(crate) refreshes: bool,
    max_age: Option<u64>,
    min_fresh: Option<u64>,
}

impl Wishes {
    /// Wishes of a request without directives.
    pub(crate) const NONE: Self = Self {
        no_store: false,
        only_if_cached: false,
        refreshes: false,
        max_age: None,
        min_fresh: None,
    };

    /// Wishes of a request with [`ForceRefresh`].
    pub(crate) const REFRESH: Self = Self { refreshes: true, ..Self::NONE };

    pub(crate) fn of(fields: &HeaderMap, honoured: RequestDirectives) -> Self {
        let Directives { no_store, no_cache, only_if_cached, max_age, min_fresh, .. } =
            Directives::of(fields);
        if honoured == RequestDirectives::Ignore {
            return Self { no_store, ..Self::NONE };
        }
        // RFC 9111 §5.4: `Pragma` counts only without `Cache-Control`.
        let is_pragma = |line: &HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"no-cache");
        let has_pragma =
            !fields.contains_key(CACHE_CONTROL) && fields.get_all(PRAGMA).iter().any(is_pragma);
        let is_refused = no_cache != Extent::Nothing || has_pragma;
        let max_age = if is_refused { Some(0) } else { max_age };
        Self { no_store, only_if_cached, max_age, min_fresh, ..Self::NONE }
    }

    /// Returns whether a fresh response of this age, fresh for `ttl` more seconds, is acceptable.
    pub(crate) fn accept(&self, age: Duration, ttl: u64) -> bool {
        // `no-cache` and `max-age=0` accept nothing, not even a response of this very second.
        let is_young = self.max_age.is_none_or(|limit| limit > 0 && age.as_secs() <= limit);
        let stays_fresh = self.min_fresh.is_none_or(|wanted| ttl >= wanted);
        is_young && stays_fresh && !self.refreshes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, age: u64, ttl: u64, expected: bool) {
        let mut fields = HeaderMap::new();
        fields.insert(CACHE_CONTROL, line.parse().unwrap());
        let wishes = Wishes::of(&fields, RequestDirectives::Honour);
        assert_eq!(wishes.accept(Duration::from_secs(age), ttl), expected, "{line}");
        let ignored = Wishes::of(&fields, RequestDirectives::Ignore);
        assert!(ignored.accept(Duration::from_secs(age), ttl) && !ignored.only_if_cached);
    }

    #[test]
    fn directives_limit_what_is_good_enough() {
        check("no-cache", 0, 60, false);
        check("no-cache=x, max-age=60", 0, 60, false);
        check("max-age=0", 0, 60, false);
        check("max-age=5", 5, 60, true);
        check("max-age=5", 6, 60, false);
        check("max-age=60, max-age=5", 6, 60, false);
        check("max-age=x", 1, 60, false);
        check("min-fresh=10", 0, 10, true);
        check("min-fresh=10", 0, 9, false);
        check("max-stale=100, unknown", 1, 1, true);
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut fields = HeaderMap::new();
        fields.insert(PRAGMA, "No-Cache".parse().unwrap());
        assert!(!Wishes::of(&fields, RequestDirectives::Honour).accept(Duration::ZERO, 60));
        fields.insert(CACHE_CONTROL, "max-stale".parse().unwrap());
        assert!(Wishes::of(&fields, RequestDirectives::Honour).accept(Duration::ZERO, 60));
    }
}
