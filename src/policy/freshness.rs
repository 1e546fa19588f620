//! Freshness lifetimes and ages (RFC 9111 §4.2).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, StatusCode,
    header::{DATE, EXPIRES, LAST_MODIFIED},
};

use super::{
    cache_control::Directives,
    directive::MOST_SECONDS,
    http_date::{date, single_date},
};

/// Longest heuristic lifetime: a response unchanged for years may change today.
const LONGEST_GUESS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Lifetime assumed for responses that state their own, where a route needs an estimate: a day.
const USUAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Source of a response's freshness lifetime.
///
/// ```
/// use tower_support_cache::{CacheRoute, Freshness};
///
/// // `Cache-Control: max-age=30` of a response decides, as in any HTTP cache.
/// CacheRoute::get("/articles/{article}").key("article:{article}").freshness(Freshness::Origin);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Freshness {
    /// The route: each response is fresh for its [`ttl`](crate::CacheRoute::ttl), whatever lifetime
    /// the response states. A response that forbids storage is still not stored.
    #[default]
    Fixed,
    /// The response, as in RFC 9111 for a shared cache: `s-maxage`, `max-age`, `Expires`, with its
    /// `Date` and `Age`.
    ///
    /// Any final status with an explicit lifetime is stored, except 206 and 304, unless the route names
    /// its [`statuses`](crate::CacheRoute::statuses). The route needs no `ttl`. If it has one, or a
    /// `negative_ttl`, that applies to responses that state no lifetime.
    Origin,
}

/// Lifetimes that a route gives to responses, by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    pub(crate) freshness: Freshness,
    /// Part of the time since the last change that counts as a heuristic lifetime, in percent.
    pub(crate) heuristic_percent: u8,
    pub(crate) ttl: Option<Duration>,
    /// Lifetime while all of the origin's budget is left, if it is another then.
    pub(crate) least_ttl: Option<Duration>,
    pub(crate) negative_ttl: Option<Duration>,
    /// Statuses that are stored, if the route limits them.
    pub(crate) statuses: Option<Vec<StatusCode>>,
    pub(crate) jitter_percent: u8,
}

impl Lifetimes {
    /// Returns the lifetime that the route gives to a response of this status.
    pub(super) fn of(&self, status: StatusCode) -> Option<Duration> {
        match self.negative_ttl {
            Some(negative_ttl) if is_negative(status) => Some(negative_ttl),
            _ => self.ttl.filter(|_| match &self.statuses {
                Some(statuses) => statuses.contains(&status),
                None => status == StatusCode::OK,
            }),
        }
    }

    /// Returns the lifetime that the route gives while this share of the origin's budget is left.
    pub(super) fn given(&self, status: StatusCode, left: f64) -> Option<Duration> {
        let longest = self.of(status)?;
        let is_negative = self.negative_ttl.is_some() && is_negative(status);
        Some(match self.least_ttl.filter(|_| !is_negative) {
            Some(least) => longest - longest.saturating_sub(least).mul_f64(left.clamp(0.0, 1.0)),
            None => longest,
        })
    }

    /// Returns whether the route lets a response of this status state its own lifetime.
    pub(super) fn allow(&self, status: StatusCode) -> bool {
        let is_listed = self.statuses.as_ref().is_none_or(|statuses| statuses.contains(&status));
        is_listed || self.negative_ttl.is_some() && is_negative(status)
    }

    /// Returns whether a response of this status may be given a lifetime of its own.
    pub(super) fn admit(&self, status: StatusCode) -> bool {
        self.allow(status) && !is_unfit(status)
    }

    /// Shortens a lifetime by a part of the jitter, chosen by `dice`.
    pub(super) fn jittered(&self, lifetime: Duration, dice: u64) -> Duration {
        // The nanoseconds of 584 years fit into 64 bits.
        let nanos = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
        let most = nanos / 100 * u64::from(self.jitter_percent);
        let part = (u128::from(most) * u128::from(dice)) >> 64;
        lifetime - Duration::from_nanos(part as u64)
    }

    /// Returns the longest lifetime of the route; an estimate where responses state their own.
    pub(crate) fn longest(&self) -> Duration {
        let own = self.ttl.max(self.negative_ttl).unwrap_or_default();
        match self.freshness {
            Freshness::Fixed => own,
            Freshness::Origin => own.max(USUAL),
        }
    }
}

/// Returns whether a status is never stored unless its response states a lifetime.
fn is_unfit(status: StatusCode) -> bool {
    matches!(status.as_u16(), 100..=199 | 206 | 304 | 401 | 407 | 500..)
}

fn is_negative(status: StatusCode) -> bool {
    status == StatusCode::NOT_FOUND || status == StatusCode::GONE
}

/// Time at which a response arrived, by the clock that its `Date` is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: SystemTime,
    /// `corrected_age_value`: `Age` and the time that the response took.
    pub(crate) corrected_age: Duration,
}

impl Arrival {
    /// Returns the age of a response at its arrival: `corrected_initial_age` (RFC 9111 §4.2.3).
    pub(crate) fn initial_age(self, fields: &HeaderMap) -> Duration {
        let apparent = self.at.duration_since(self.date(fields)).unwrap_or_default();
        // A date has whole seconds, so the rest carries no meaning.
        Duration::from_secs(apparent.as_secs()).max(self.corrected_age)
    }

    /// Returns the lifetime that a response states (RFC 9111 §4.2.1), `None` if it states none.
    /// A malformed lifetime is zero.
    pub(crate) fn stated_lifetime(
        self,
        fields: &HeaderMap,
        stated: &Directives,
    ) -> Option<Duration> {
        let seconds = |seconds: u64| Duration::from_secs(seconds.min(MOST_SECONDS));
        let directive = stated.s_maxage.or(stated.max_age).map(seconds);
        directive.or_else(|| {
            let until = |date: Option<SystemTime>| {
                date.and_then(|date| date.duration_since(self.date(fields)).ok())
            };
            if stated.is_targeted {
                return None;
            }
            let lines = fields.get_all(EXPIRES).iter();
            let lifetimes = lines.map(|line| until(date(line)).unwrap_or_default());
            lifetimes.min().map(|lifetime| lifetime.min(seconds(MOST_SECONDS)))
        })
    }

    /// Returns a heuristic lifetime: a part of the time between the last change and the response
    /// (RFC 9111 §4.2.2).
    pub(super) fn heuristic_lifetime(self, fields: &HeaderMap, percent: u8) -> Option<Duration> {
        let modified = single_date(fields, &LAST_MODIFIED)?;
        let unchanged = self.date(fields).duration_since(modified).ok()?;
        let guess = unchanged.mul_f64(f64::from(percent) / 100.0).min(LONGEST_GUESS);
        (!guess.is_zero()).then_some(guess)
    }

    /// Returns the `Date` of a response, or the time of its arrival if it has none that can be read
    /// (RFC 9110 §6.6.1).
    fn date(self, fields: &HeaderMap) -> SystemTime {
        single_date(fields, &DATE).unwrap_or(self.at)
    }
}

/// Returns whether a status allows a heuristic lifetime (RFC 9110 §15.1). 206 is not stored.
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Returns whether the cache implements all caching rules of a status, as `must-understand` demands
/// (RFC 9111 §5.2.2.3).
pub(super) fn is_understood(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetimes(negative_ttl: Option<Duration>) -> Lifetimes {
        Lifetimes {
            freshness: Freshness::Fixed,
            heuristic_percent: 0,
            ttl: Some(Duration::from_secs(100)),
            least_ttl: None,
            negative_ttl,
            statuses: None,
            jitter_percent: 10,
        }
    }

    #[test]
    fn jitter_only_shortens_a_lifetime() {
        let lifetimes = lifetimes(None);
        let lifetime = lifetimes.of(StatusCode::OK).unwrap();
        let lifetime = |dice| lifetimes.jittered(lifetime, dice).as_secs_f64().round();
        assert_eq!((lifetime(0), lifetime(u64::MAX / 2), lifetime(u64::MAX)), (100.0, 95.0, 90.0));
    }

    #[test]
    fn a_negative_lifetime_is_for_404_and_410_alone() {
        let lifetimes = lifetimes(Some(Duration::from_secs(5)));
        for (status, seconds) in [(200, Some(100)), (404, Some(5)), (410, Some(5)), (403, None)] {
            let lifetime = lifetimes.of(StatusCode::from_u16(status).unwrap());
            assert_eq!(lifetime.map(|lifetime| lifetime.as_secs()), seconds, "{status}");
        }
    }
}
