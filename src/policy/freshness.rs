//! How long a response is fresh, and how old it already is (RFC 9111 §4.2).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{DATE, EXPIRES, LAST_MODIFIED},
};

use super::{stated::Stated, validation::date};

/// Seconds beyond which a lifetime is not told apart (RFC 9111 §1.2.2).
pub(super) const MOST_SECONDS: u64 = 1 << 31;

/// The longest lifetime that is guessed: what was not changed for years may be changed today.
const LONGEST_GUESS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Who decides how long a response is fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// The route: each response is fresh for its [`ttl`](crate::CacheRoute::ttl), whatever the
    /// response says of its lifetime. What it forbids still wins.
    #[default]
    Fixed,
    /// The response, as RFC 9111 has it for a shared cache: `s-maxage`, `max-age`, `Expires`, its
    /// `Date` and `Age`.
    ///
    /// Any final status with an explicit lifetime is stored, but for 206 and 304. The route needs no
    /// `ttl`; one that it has, and its `negative_ttl`, is for responses that say nothing.
    Origin,
}

/// When a response was received, by the clock that its `Date` is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: SystemTime,
    /// What `Age` and the time that the response took come to: `corrected_age_value`.
    pub(crate) corrected_age: Duration,
}

impl Arrival {
    /// Returns the age of a response when it was received: `corrected_initial_age` (RFC 9111
    /// §4.2.3).
    pub(crate) fn initial_age(self, fields: &HeaderMap) -> Duration {
        let apparent = self.at.duration_since(self.date(fields)).unwrap_or_default();
        // A date has whole seconds: what is left over tells nothing.
        Duration::from_secs(apparent.as_secs()).max(self.corrected_age)
    }

    /// Returns the lifetime that a response states (RFC 9111 §4.2.1), `None` where it states none.
    /// One that cannot be read is none at all.
    pub(crate) fn stated_lifetime(self, fields: &HeaderMap, stated: &Stated) -> Option<Duration> {
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

    /// Guesses a lifetime: a part of the time between the response and its last change (RFC 9111
    /// §4.2.2).
    pub(super) fn heuristic_lifetime(self, fields: &HeaderMap, percent: u8) -> Option<Duration> {
        let modified = single_date(fields, &LAST_MODIFIED)?;
        let unchanged = self.date(fields).duration_since(modified).ok()?;
        let guess = unchanged.mul_f64(f64::from(percent) / 100.0).min(LONGEST_GUESS);
        (!guess.is_zero()).then_some(guess)
    }

    /// RFC 9110 §6.6.1: without a `Date` that can be read, the time of receipt.
    fn date(self, fields: &HeaderMap) -> SystemTime {
        single_date(fields, &DATE).unwrap_or(self.at)
    }
}

/// Whether a lifetime may be guessed for a status (RFC 9110 §15.1). 206 is not stored.
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether all that a status means for a cache is done here, as `must-understand` asks (RFC 9111
/// §5.2.2.3).
pub(super) fn is_understood(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307)
}

fn single_date(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut lines = fields.get_all(name).iter();
    let date = date(lines.next()?);
    date.filter(|_| lines.next().is_none())
}
