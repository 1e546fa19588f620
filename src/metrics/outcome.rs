//! Outcomes of requests: the named reasons, and their members of `Cache-Status` (RFC 9211).

use std::fmt;

use http::{HeaderValue, StatusCode};
use sfv::{ItemSerializer, KeyRef, TokenRef, integer, key_ref, token_ref};

const FWD: &KeyRef = key_ref("fwd");
const FWD_STATUS: &KeyRef = key_ref("fwd-status");
const DETAIL: &KeyRef = key_ref("detail");
const COLLAPSED: &KeyRef = key_ref("collapsed");
const TTL: &KeyRef = key_ref("ttl");

/// Declares an enum of reasons with their names in metrics, logs and `Cache-Status`.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
        #[non_exhaustive]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All reasons, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the reason's name, as metrics and `Cache-Status` show it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Reason why a request on a cache route did not consult the cache.
    ///
    /// ```
    /// use tower_support_cache::Bypass;
    ///
    /// // `Cache-Status: support-cache;fwd=bypass;fwd-status=200;detail=credentials`
    /// assert_eq!(Bypass::Credentials.to_string(), "credentials");
    /// ```
    Bypass {
        /// The bucket is switched off.
        Switch = "switch",
        /// The bucket is in [shadow](crate::Switch::Shadow).
        Shadow = "shadow",
        /// A GET or HEAD with content: what it means is not in its target. Or a request whose content its
        /// route reads, in a layer that does not ([`SupportCacheLayer::reading_content`]).
        ///
        /// [`SupportCacheLayer::reading_content`]: crate::SupportCacheLayer::reading_content
        Content = "content",
        /// Content that is longer than its route reads ([`CacheRoute::content_limit`]).
        ///
        /// [`CacheRoute::content_limit`]: crate::CacheRoute::content_limit
        TooLarge = "too-large",
        /// Content that failed before its end, or did not arrive within five seconds.
        Incomplete = "incomplete",
        /// A QUERY without `Content-Type`, which the origin has to refuse (RFC 10008 §2).
        MediaType = "media-type",
        /// The request asks to switch to another protocol, such as WebSocket.
        Upgrade = "upgrade",
        /// `If-Match` or `If-Unmodified-Since`, which only the origin may evaluate (RFC 9111 §4.3.2).
        Precondition = "precondition",
        /// A credential field, and a route that does not say whom the response is for.
        Credentials = "credentials",
        /// A route per caller, and a request without one.
        Caller = "caller",
        /// A host that is not one of those that the route names ([`HostPolicy`](crate::HostPolicy)).
        Host = "host",
        /// The key builder made no usable key, or a tag builder no usable tag.
        Key = "key",
        /// The store could not be asked.
        Store = "store",
    }
}

reasons! {
    /// Reason why a response was not stored, and so not shared with requests that wait for it.
    ///
    /// ```
    /// use tower_support_cache::{BucketSnapshot, Refusal};
    ///
    /// let refused = BucketSnapshot::default().refused;
    /// assert_eq!(refused.get(&Refusal::SetCookie), None);
    /// ```
    Refusal {
        /// A status that is not stored.
        Status = "status",
        /// `Cache-Control: no-store`.
        NoStore = "no-store",
        /// `Cache-Control: no-cache`.
        NoCache = "no-cache",
        /// `Cache-Control: private`.
        Private = "private",
        /// `Vary: *`, or more names than can be told apart.
        Vary = "vary",
        /// More tags and groups (RFC 9875) than are kept: 128.
        Tags = "tags",
        /// The request carried credentials, and the response does not say that they do not matter
        /// (RFC 9111 §3.5).
        Credentials = "credentials",
        /// `Set-Cookie`.
        SetCookie = "set-cookie",
        /// `Clear-Site-Data`.
        ClearSiteData = "clear-site-data",
        /// `WWW-Authenticate`.
        WwwAuthenticate = "www-authenticate",
        /// `Proxy-Authenticate`.
        ProxyAuthenticate = "proxy-authenticate",
        /// `Authentication-Info`.
        AuthenticationInfo = "authentication-info",
        /// The handler forbids it by a [`ResponsePolicy`](crate::ResponsePolicy), or the route by
        /// [`store_if`](crate::CacheRoute::store_if).
        Policy = "policy",
        /// Stale on arrival, or nothing says how long it is fresh: neither the response nor the route.
        NotFresh = "not-fresh",
        /// An event stream.
        Stream = "stream",
        /// A body longer than the route's limit.
        TooLarge = "too-large",
        /// Too many bytes of bodies are being recorded at this moment.
        Budget = "budget",
        /// A body that failed, ended early, or contradicted its `Content-Length`.
        Incomplete = "incomplete",
        /// A 304 that is about another representation than the one that is stored.
        Validator = "validator",
        /// The service failed before it gave a response.
        Failed = "failed",
        /// The service or its body panicked.
        Panicked = "panicked",
        /// An invalidation overtook it.
        Fenced = "fenced",
        /// A write to this key or one of its tags has an unknown outcome, or was only accepted so far. The
        /// response is shared all the same.
        Unsettled = "unsettled",
        /// The store has a response that was asked of the origin later.
        Superseded = "superseded",
        /// The store did not take it.
        Store = "store",
        /// There is no tokio runtime with a time driver to finish the recording on.
        Runtime = "runtime",
    }
}

reasons! {
    /// Reason why a request on a cache route was forwarded by itself: it joined no flight, and stored
    /// nothing.
    ///
    /// ```
    /// use tower_support_cache::Alone;
    ///
    /// assert_eq!(Alone::Deadline.as_str(), "deadline");
    /// ```
    Alone {
        /// `HEAD` is answered from a stored GET only.
        Head = "head",
        /// `Range` is answered from a stored whole response only.
        Range = "range",
        /// The last response of this slot could not be stored, a moment ago.
        Pass = "pass",
        /// The request says `no-store`.
        NoStore = "no-store",
        /// The response it waited for could not be shared.
        Declined = "declined",
        /// It waited as long as it may.
        Deadline = "deadline",
        /// Too many flights, or too many followers on this one.
        Crowd = "crowd",
        /// Another fill has the right to store, and this request waits for none.
        Held = "held",
        /// There is no tokio runtime with a time driver, so it could not wait for a limited time.
        Runtime = "runtime",
    }
}

reasons! {
    /// Reason why a request that consulted the cache is forwarded (RFC 9211 §2.2).
    ///
    /// ```
    /// use tower_support_cache::ForwardReason;
    ///
    /// // `Cache-Status: support-cache;fwd=uri-miss;fwd-status=200;stored`
    /// assert_eq!(ForwardReason::UriMiss.as_str(), "uri-miss");
    /// ```
    ForwardReason {
        /// Nothing is stored.
        UriMiss = "uri-miss",
        /// Something is stored, but not for the values of its nominated fields.
        VaryMiss = "vary-miss",
        /// Something is stored that is no longer fresh.
        Stale = "stale",
        /// Something is stored that the request's directives do not accept.
        Request = "request",
    }
}

reasons! {
    /// Reason why a stale response answered a request.
    ///
    /// ```
    /// use tower_support_cache::Stale;
    ///
    /// // `Cache-Status: support-cache;hit;ttl=-3;detail=stale-while-revalidate`
    /// assert_eq!(Stale::Revalidate.as_str(), "stale-while-revalidate");
    /// ```
    Stale {
        /// It is revalidated meanwhile.
        Revalidate = "stale-while-revalidate",
        /// The origin has failed, now or a moment ago.
        Error = "stale-if-error",
        /// The origin takes long.
        Timeout = "timeout",
        /// The origin has asked for a pause ([`Quota`](crate::Quota)), or its
        /// [budget](crate::OriginBudget) is nearly spent.
        Quota = "quota",
    }
}

reasons! {
    /// Result of the [audit](crate::CacheRoute::audit) of a hit.
    ///
    /// ```
    /// use tower_support_cache::AuditResult;
    ///
    /// // `support_cache_audits_total{bucket="cases",result="changed"}`
    /// assert_eq!(AuditResult::Changed.as_str(), "changed");
    /// ```
    AuditResult {
        /// The origin says the same.
        Confirmed = "confirmed",
        /// The origin says something else, twice, and nothing has invalidated the response.
        Changed = "changed",
        /// Two answers of the origin to one request differ.
        NotDeterministic = "not-deterministic",
        /// The answer follows a field of the request that neither the route nor `Vary` names.
        Undeclared = "undeclared",
        /// An invalidation or another fill came between: it says nothing.
        Discarded = "discarded",
        /// The origin failed, took long, or was to be spared; or its answer was too long.
        Inconclusive = "inconclusive",
    }
}

reasons! {
    /// Answer that a request of a bucket in [shadow](crate::Switch::Shadow) would have had.
    ///
    /// ```
    /// use tower_support_cache::{BucketSnapshot, Shadow};
    ///
    /// /// Whether a bucket may be switched on: nothing that would have answered was wrong.
    /// fn is_right(bucket: &BucketSnapshot) -> bool {
    ///     !bucket.shadow.contains_key(&Shadow::Different)
    /// }
    /// assert!(is_right(&BucketSnapshot::default()));
    /// ```
    Shadow {
        /// A fresh response, the same as the origin's: in status, fields and body. `Date`, `Age`, `Expires`,
        /// `Content-Length`, `Server-Timing`, fields of the connection, rate limits, and the fields that the route
        /// [strips](crate::CacheRoute::strip) are not compared.
        Hit = "hit",
        /// A stale response, within one of its windows. It is not compared.
        Stale = "stale",
        /// A fresh response that differs from the origin's.
        Different = "different",
        /// None: the request would have been forwarded.
        Miss = "miss",
        /// A fresh response that could not be compared: a range was asked for, or the origin's body was not
        /// read to its end.
        Uncompared = "uncompared",
    }
}

reasons! {
    /// Call to the origin that was not made, because its budget is nearly spent or it has asked for a pause.
    /// The first are spared first.
    ///
    /// ```
    /// use tower_support_cache::SparedCall;
    ///
    /// assert!(SparedCall::EarlyRefresh < SparedCall::Refused);
    /// assert_eq!(SparedCall::EarlyRefresh.as_str(), "early-refresh");
    /// ```
    SparedCall {
        /// A refresh of what is still fresh ([`CacheRoute::early_refresh`](crate::CacheRoute::early_refresh)).
        EarlyRefresh = "early-refresh",
        /// A revalidation in the background of what has answered stale.
        Revalidation = "revalidation",
        /// A request that a stale response has answered, which would have been forwarded.
        Stale = "stale",
        /// A request with nothing to show, answered by 503 ([`Exhausted::Refuse`](crate::Exhausted::Refuse)).
        Refused = "refused",
    }
}

/// Reason why a forwarded response is neither shared nor stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unshared {
    Bypassed(Bypass),
    Alone(Alone),
}

impl Unshared {
    pub(crate) fn outcome(self, status: StatusCode) -> Outcome {
        match self {
            Self::Bypassed(reason) => Outcome::Bypassed { reason, status },
            Self::Alone(reason) => Outcome::Alone { reason, status },
        }
    }
}

/// Outcome of a request on a cache route. Metrics, logs and `Cache-Status` are made from it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered from the store; `ttl` in seconds.
    Hit { ttl: u64 },
    /// Answered from the store with what has been stale for `over` seconds.
    Stale { over: u64, why: Stale },
    /// Answered from the store with what is stale, because the origin failed: with this status, or
    /// without any.
    Rescued { status: Option<StatusCode> },
    /// Forwarded in the background, because what is stored was stale.
    Refreshed { stored: Result<(), Refusal>, status: StatusCode },
    /// Answered with the response that another request's forward brings.
    Collapsed { ttl: u64 },
    /// Forwarded as the leader of a flight. Whether the response is stored is judged by its head.
    Led { reason: ForwardReason, stored: Result<(), Refusal>, status: StatusCode },
    /// Forwarded by itself.
    Alone { reason: Alone, status: StatusCode },
    /// The cache was not consulted.
    Bypassed { reason: Bypass, status: StatusCode },
    /// Answered by 504 because of `only-if-cached`.
    Unsatisfied,
    /// Answered by 503 because the budget of the origin is spent.
    Exhausted,
    /// An unsafe request.
    Written { status: StatusCode },
}

impl Outcome {
    /// Returns the status of the forwarded response, if there was one.
    #[cfg(feature = "tracing")]
    pub(crate) fn forwarded_status(self) -> Option<u16> {
        match self {
            Self::Rescued { status } => status,
            Self::Refreshed { status, .. }
            | Self::Led { status, .. }
            | Self::Alone { status, .. }
            | Self::Bypassed { status, .. }
            | Self::Written { status } => Some(status),
            Self::Hit { .. }
            | Self::Stale { .. }
            | Self::Collapsed { .. }
            | Self::Unsatisfied
            | Self::Exhausted => None,
        }
        .map(|status| status.as_u16())
    }

    /// Returns what this cache says of the outcome: one member of `Cache-Status` (RFC 9211 §2).
    pub(crate) fn cache_status(self, name: &TokenRef) -> HeaderValue {
        // A lifetime is at most a century, so every count fits.
        let count = |seconds: u64| integer(i64::try_from(seconds).unwrap_or(0));
        let code = |status: StatusCode| integer(i64::from(status.as_u16()));
        let member = ItemSerializer::new().bare_item(name);
        let member = match self {
            Self::Hit { ttl } => member.parameter(key_ref("hit"), true).parameter(TTL, count(ttl)),
            Self::Collapsed { ttl } => member
                .parameter(FWD, token_ref("uri-miss"))
                .parameter(COLLAPSED, true)
                .parameter(TTL, count(ttl)),
            Self::Stale { over, why } => member
                .parameter(key_ref("hit"), true)
                .parameter(TTL, integer(-i64::try_from(over).unwrap_or(0)))
                .parameter(DETAIL, token(why.as_str())),
            Self::Rescued { status } => {
                let detail = token(Stale::Error.as_str());
                let member = member.parameter(FWD, token_ref("stale"));
                match status {
                    Some(status) => member.parameter(FWD_STATUS, code(status)),
                    None => member,
                }
                .parameter(DETAIL, detail)
            }
            Self::Refreshed { status, .. } => {
                member.parameter(FWD, token_ref("stale")).parameter(FWD_STATUS, code(status))
            }
            Self::Led { reason, stored, status } => {
                let member = member
                    .parameter(FWD, token(reason.as_str()))
                    .parameter(FWD_STATUS, code(status));
                match stored {
                    Ok(()) => member.parameter(key_ref("stored"), true),
                    Err(refusal) => member.parameter(DETAIL, token(refusal.as_str())),
                }
            }
            Self::Alone { reason, status } => {
                let member = member
                    .parameter(FWD, token_ref("uri-miss"))
                    .parameter(FWD_STATUS, code(status));
                // RFC 9211 §2.6: `?0` where collapsing was tried and a new request was needed.
                let member = match reason {
                    Alone::Declined | Alone::Deadline => member.parameter(COLLAPSED, false),
                    _ => member,
                };
                member.parameter(DETAIL, token(reason.as_str()))
            }
            Self::Bypassed { reason, status } => member
                .parameter(FWD, token_ref("bypass"))
                .parameter(FWD_STATUS, code(status))
                .parameter(DETAIL, token(reason.as_str())),
            // The field is for responses of the origin or the store (RFC 9211 §2): no response shows this.
            Self::Unsatisfied => member.parameter(DETAIL, token_ref("unsatisfied")),
            Self::Exhausted => member.parameter(DETAIL, token(SparedCall::Refused.as_str())),
            Self::Written { status } => {
                member.parameter(FWD, token_ref("method")).parameter(FWD_STATUS, code(status))
            }
        };
        // A serialised structured field is printable ASCII, so the fallback is never taken.
        HeaderValue::from_maybe_shared(bytes::Bytes::from(member.finish()))
            .unwrap_or_else(|_| HeaderValue::from_static("cache"))
    }
}

fn token(name: &'static str) -> &'static TokenRef {
    TokenRef::from_str(name).expect("the names of reasons are tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(outcome: Outcome, expected: &str) {
        assert_eq!(outcome.cache_status(token_ref("bff")).to_str().unwrap(), expected);
    }

    #[test]
    fn cache_status_says_how_a_request_ended() {
        let status = StatusCode::OK;
        check(Outcome::Hit { ttl: 23 }, "bff;hit;ttl=23");
        check(
            Outcome::Stale { over: 3, why: Stale::Revalidate },
            "bff;hit;ttl=-3;detail=stale-while-revalidate",
        );
        check(Outcome::Stale { over: 0, why: Stale::Error }, "bff;hit;ttl=0;detail=stale-if-error");
        check(Outcome::Stale { over: 9, why: Stale::Timeout }, "bff;hit;ttl=-9;detail=timeout");
        let down = Some(StatusCode::SERVICE_UNAVAILABLE);
        check(
            Outcome::Rescued { status: down },
            "bff;fwd=stale;fwd-status=503;detail=stale-if-error",
        );
        check(Outcome::Rescued { status: None }, "bff;fwd=stale;detail=stale-if-error");
        check(Outcome::Collapsed { ttl: 60 }, "bff;fwd=uri-miss;collapsed;ttl=60");
        check(
            Outcome::Led { reason: ForwardReason::UriMiss, stored: Ok(()), status },
            "bff;fwd=uri-miss;fwd-status=200;stored",
        );
        check(
            Outcome::Led { reason: ForwardReason::Stale, stored: Err(Refusal::SetCookie), status },
            "bff;fwd=stale;fwd-status=200;detail=set-cookie",
        );
        check(
            Outcome::Alone { reason: Alone::Declined, status },
            "bff;fwd=uri-miss;fwd-status=200;collapsed=?0;detail=declined",
        );
        check(
            Outcome::Bypassed { reason: Bypass::Credentials, status },
            "bff;fwd=bypass;fwd-status=200;detail=credentials",
        );
        check(Outcome::Written { status: StatusCode::CREATED }, "bff;fwd=method;fwd-status=201");
    }
}
