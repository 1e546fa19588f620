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
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Fields that are about one request and its moment. A stored response has none of them.
pub(crate) const QUOTA_FIELDS: [HeaderName; 3] = [RETRY_AFTER, RATE_LIMIT, RATE_LIMIT_POLICY];

/// Longest pause that an origin may ask for. A longer one is taken for this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Limits that an origin states in a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatedLimits {
    /// Time for which the origin wants no further request.
    pub(crate) pause: Option<Duration>,
    /// Number of requests that it takes until its quota is renewed, the lowest where it states several.
    pub(crate) remaining: Option<u64>,
}

impl StatedLimits {
    /// Reads the limits of a response that arrived at `now`.
    pub(crate) fn of(status: StatusCode, fields: &HeaderMap, now: SystemTime) -> Self {
        let stated = RateLimits::of(fields);
        let is_refused = is_refusal(status);
        let retry_after = is_refused.then(|| retry_after(fields, now)).flatten();
        let until_reset = stated.exhausted_for;
        let pause = retry_after.or(until_reset).map(|pause| pause.min(LONGEST_PAUSE));
        Self { pause, remaining: stated.remaining }
    }
}

/// Returns whether a status says that the origin takes no more requests for now: 429 (RFC 6585 §4) or 503
/// (RFC 9110 §15.6.4).
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Returns the time of a `Retry-After`, in seconds or as a date. A date in the past is no time.
fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let line = single(fields, &RETRY_AFTER)?;
    let text = line.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number can have are a long time, too.
        return Some(text.parse().map_or(LONGEST_PAUSE, Duration::from_secs));
    }
    date(line)?.duration_since(now).ok()
}

/// Lowest of the limits in a `RateLimit` field: a list of items with `r`, the requests that remain, and
/// `t`, the seconds until the quota is renewed.
#[derive(Clone, Copy, Debug, Default)]
struct RateLimits {
    remaining: Option<u64>,
    /// Longest time until a quota without remaining requests is renewed.
    exhausted_for: Option<Duration>,
}

impl RateLimits {
    /// Reads the field. One that is malformed is as good as none (RFC 9651 §4.2).
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
        self.remaining = Some(self.remaining.map_or(remaining, |least| least.min(remaining)));
        if remaining == 0 {
            self.exhausted_for = self.exhausted_for.max(reset.map(Duration::from_secs));
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

    fn limits(status: u16, lines: &[(&'static str, &str)]) -> StatedLimits {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        let fields = lines.iter().map(line).collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        StatedLimits::of(StatusCode::from_u16(status).unwrap(), &fields, now)
    }

    #[test]
    fn a_refusal_states_its_pause_in_seconds_or_as_a_date() {
        let pause = |status, value| limits(status, &[("retry-after", value)]).pause;
        let seconds = |number| Some(Duration::from_secs(number));
        for (value, expected) in [
            ("7", seconds(7)),
            (" 7 ", seconds(7)),
            ("0", seconds(0)),
            ("301", Some(LONGEST_PAUSE)),
            ("99999999999999999999999", Some(LONGEST_PAUSE)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", seconds(10)),
            ("Sun, 06 Nov 1994 09:49:47 GMT", Some(LONGEST_PAUSE)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None),
            ("-7", None),
            ("7.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(pause(429, value), expected, "{value}");
            assert_eq!(pause(503, value), expected, "{value}");
            assert_eq!(pause(200, value), None, "a redirect or a 202 has another meaning for it");
        }
        let twice = limits(429, &[("retry-after", "1"), ("retry-after", "2")]);
        assert_eq!(twice.pause, None, "two lines are malformed");
    }

    #[test]
    fn the_lowest_of_several_limits_counts() {
        let stated = |value| {
            let found = limits(200, &[("ratelimit", value)]);
            (found.remaining, found.pause.map(|pause| pause.as_secs()))
        };
        assert_eq!(stated("\"default\";r=50;t=30"), (Some(50), None));
        assert_eq!(stated("\"hour\";r=50;t=30, \"day\";r=7;t=3600"), (Some(7), None));
        assert_eq!(stated("\"default\";r=0;t=30"), (Some(0), Some(30)));
        assert_eq!(stated("\"hour\";r=0;t=30, \"day\";r=0;t=3600"), (Some(0), Some(300)));
        assert_eq!(stated("\"default\";r=0"), (Some(0), None));
        for malformed in ["", "\"default\";r=", "\"default\";r=-1;t=30", "r=50", "\"default\""] {
            assert_eq!(stated(malformed), (None, None), "{malformed}");
        }
        let lines = [("ratelimit", "\"hour\";r=5;t=1"), ("ratelimit", "\"day\";r=3;t=9")];
        assert_eq!(limits(200, &lines).remaining, Some(3));
    }
}
