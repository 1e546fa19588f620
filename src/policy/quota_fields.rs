//! Fields by which an origin limits its clients: `Retry-After` (RFC 9110 §10.2.3), and the RateLimit fields
//! of an Internet-Draft (draft-ietf-httpapi-ratelimit-headers), which may still change.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, StatusCode, header::RETRY_AFTER};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{
        EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor,
    },
};

use super::{field_line::single, http_date::date};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Longest pause that an origin may ask for. A longer one is shortened to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Pause after a 429 that does not say how long it holds.
const UNSTATED_PAUSE: Duration = Duration::from_secs(1);

/// Returns whether a status says that the origin takes no more requests for now: 429 (RFC 6585 §4) or 503
/// (RFC 9110 §15.6.4).
pub(crate) fn is_overloaded(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Returns the time for which the origin wants no further request. `now` reads the time of arrival.
pub(crate) fn stated_pause(
    status: StatusCode,
    fields: &HeaderMap,
    now: impl FnOnce() -> SystemTime,
) -> Option<Duration> {
    let retry_after = is_overloaded(status).then(|| retry_after(fields, now)).flatten();
    let unstated = (status == StatusCode::TOO_MANY_REQUESTS).then_some(UNSTATED_PAUSE);
    let pause = retry_after.or_else(|| RateLimits::of(fields).exhausted_for).or(unstated)?;
    Some(pause.min(LONGEST_PAUSE))
}

/// Returns the number of requests that are left until a quota is renewed; of several quotas, the lowest. Quotas
/// that are renewed within [`LONGEST_PAUSE`] do not count.
pub(crate) fn stated_left(fields: &HeaderMap) -> Option<u64> {
    RateLimits::of(fields).left
}

/// Returns the time of a `Retry-After`, in seconds or as a date. `None` for a date in the past.
fn retry_after(fields: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let line = single(fields, &RETRY_AFTER)?;
    let text = line.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for `u64` is a long time, too.
        return Some(text.parse().map_or(LONGEST_PAUSE, Duration::from_secs));
    }
    date(line)?.duration_since(now()).ok()
}

/// Limits of a `RateLimit` field: a list of items with `r`, the requests that remain, and `t`, the seconds
/// until the quota is renewed.
#[derive(Clone, Copy, Debug, Default)]
struct RateLimits {
    /// Longest time until a quota without remaining requests is renewed.
    exhausted_for: Option<Duration>,
    left: Option<u64>,
}

impl RateLimits {
    /// Reads the field. A malformed one is ignored (RFC 9651 §4.2).
    fn of(fields: &HeaderMap) -> Self {
        let lines: Vec<_> = fields.get_all(RATE_LIMIT).iter().map(|line| line.as_bytes()).collect();
        if lines.is_empty() {
            return Self::default();
        }
        let line = lines.join(&b", "[..]);
        let mut limits = Self::default();
        let parsed = Parser::new(&line[..]).parse_list_with_visitor(&mut limits);
        if parsed.is_ok() { limits } else { Self::default() }
    }

    fn add(&mut self, remaining: Option<u64>, reset: Option<u64>) {
        let Some(remaining) = remaining else { return };
        let reset = reset.map(Duration::from_secs);
        if remaining == 0 {
            self.exhausted_for = self.exhausted_for.max(reset);
        }
        if reset.is_none_or(|reset| reset > LONGEST_PAUSE) {
            self.left = Some(self.left.map_or(remaining, |least| least.min(remaining)));
        }
    }
}

impl<'de> ListVisitor<'de> for &mut RateLimits {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(RateLimit { limits: self, remaining: None, reset: None })
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// One limit while it is parsed.
struct RateLimit<'l> {
    limits: &'l mut RateLimits,
    remaining: Option<u64>,
    reset: Option<u64>,
}

impl<'de> EntryVisitor<'de> for RateLimit<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for RateLimit<'_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        _: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for RateLimit<'_> {
    type Out = ();
    type Error = Infallible;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Infallible> {
        let BareItemFromInput::Integer(number) = value else { return Ok(()) };
        let number = u64::try_from(i64::from(number)).ok();
        match key.as_str() {
            "r" => self.remaining = number,
            "t" => self.reset = number,
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        self.limits.add(self.remaining, self.reset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(status: u16, lines: &[(&'static str, &str)]) -> Option<u64> {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        let fields = lines.iter().map(line).collect();
        let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let pause = stated_pause(StatusCode::from_u16(status).unwrap(), &fields, now);
        pause.map(|pause| pause.as_secs())
    }

    #[test]
    fn an_overloaded_origin_states_its_pause_in_seconds_or_as_a_date() {
        for (value, expected) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("301", Some(300)),
            ("99999999999999999999999", Some(300)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 09:49:47 GMT", Some(300)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None),
            ("-7", None),
            ("7.5", None),
            ("soon", None),
            ("", None),
        ] {
            let fields = [("retry-after", value)];
            assert_eq!(pause(503, &fields), expected, "{value}");
            assert_eq!(pause(429, &fields), expected.or(Some(1)), "{value}");
            assert_eq!(pause(202, &fields), None, "it has another meaning there");
        }
        let twice = [("retry-after", "5"), ("retry-after", "6")];
        assert_eq!(pause(503, &twice), None, "two lines are malformed");
    }

    #[test]
    fn a_spent_quota_is_a_pause_until_it_is_renewed() {
        for (value, expected) in [
            ("\"default\";r=50;t=30", None),
            ("\"default\";r=0;t=30", Some(30)),
            ("\"minute\";r=0;t=30, \"hour\";r=7;t=3600", Some(30)),
            ("\"minute\";r=0;t=30, \"hour\";r=0;t=3600", Some(300)),
            ("\"default\";r=0", None),
            ("\"default\";r=0;t=-1", None),
            ("\"default\";r=0;t=1.5", None),
            ("\"default\";r=0;t=30;", None),
            ("r=0;t=30", None),
            ("default;r=0;t=30", Some(30)),
            ("(\"a\");r=0;t=30", None),
            ("", None),
        ] {
            assert_eq!(pause(200, &[("ratelimit", value)]), expected, "{value}");
        }
        let lines = [("ratelimit", "\"minute\";r=0;t=9"), ("ratelimit", "\"hour\";r=0;t=20")];
        assert_eq!(pause(200, &lines), Some(20));
        let both = [("ratelimit", "\"minute\";r=0;t=9"), ("retry-after", "4")];
        assert_eq!((pause(429, &both), pause(200, &both)), (Some(4), Some(9)));
    }

    #[test]
    fn the_lowest_of_the_long_quotas_is_left() {
        for (value, expected) in [
            ("\"minute\";r=50;t=30", None),
            ("\"hour\";r=50;t=301", Some(50)),
            ("\"minute\";r=5;t=30, \"hour\";r=50;t=3000, \"day\";r=70;t=9000", Some(50)),
            ("\"day\";r=0", Some(0)),
            ("\"day\";r=-1;t=3000", None),
            ("\"day\";t=3000", None),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(RATE_LIMIT, value.parse().unwrap());
            assert_eq!(stated_left(&fields), expected, "{value}");
        }
    }
}
