//! Settings of a route about the limits of its origin.

/// Requests that an origin counts together when it limits their number.
///
/// An origin that has had enough answers 429 or 503, by `Retry-After` with the time until it wants the next
/// request. It may say in advance that a quota is spent, by the `RateLimit` field of an Internet-Draft
/// (draft-ietf-httpapi-ratelimit-headers). For that time, at most 5 minutes, the cache asks nothing in the
/// background, and stale responses answer within their windows.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, Quota};
///
/// // The system of record counts all calls of the portal together.
/// CacheRoute::get("/cases/{case}")
///     .key("case:{case}")
///     .ttl(Duration::from_secs(60))
///     .stale_if_error(Duration::from_secs(3600))
///     .quota(Quota::Service);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Quota {
    /// Each caller has its own. A limit holds for the requests with the same credentials; without any, and
    /// after a 503, for the resource alone.
    #[default]
    Caller,
    /// All requests count together. A limit that the origin states in one response holds for all routes of
    /// the layer. Where the layer has a [budget](crate::SupportCacheLayerBuilder::origin_budget), this holds
    /// for each route.
    Service,
}

/// Answer to a request that has nothing to show, once the
/// [budget](crate::SupportCacheLayerBuilder::origin_budget) of the origin is spent.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, Exhausted};
///
/// // A list of suggestions may be missing; the calls are kept for cases.
/// CacheRoute::get("/suggestions")
///     .key("suggestions")
///     .ttl(Duration::from_secs(600))
///     .when_exhausted(Exhausted::Refuse);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Exhausted {
    /// It is forwarded all the same.
    #[default]
    Forward,
    /// It is answered by 503, with the time until a call is left in `Retry-After`.
    Refuse,
}
