//! Range requests (RFC 9110 §14).

use std::{ops::Range, time::Duration};

use http::{
    HeaderMap, HeaderValue,
    header::{DATE, IF_RANGE, LAST_MODIFIED, RANGE},
};

use super::{
    entity_tag::EntityTag,
    field_line::single,
    http_date::{date, single_date},
};

/// Number of parts above which a request receives the whole (RFC 9110 §14.2).
const MAX_PARTS: usize = 16;

/// Approximate size of a part of several without its content, in bytes.
const PER_PART: usize = 100;

/// Parts that a request asks for, and the representation that they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeAsked {
    /// `None` if the field is malformed or in another unit.
    parts: Option<Vec<Part>>,
    /// Validator of `If-Range`; without a match the whole is sent. A malformed one matches nothing.
    only_of: Option<Option<HeaderValue>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    From(u64),
    Within(u64, u64),
    Last(u64),
}

/// Part of a representation that answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    Whole,
    /// In the order of the request; they do not overlap.
    Parts(Vec<Range<usize>>),
    Unsatisfiable,
}

impl RangeAsked {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        let parts = single(request, &RANGE).and_then(|line| Self::parse(line.as_bytes()));
        let only_of = request.contains_key(IF_RANGE).then(|| single(request, &IF_RANGE).cloned());
        Self { parts, only_of }
    }

    fn parse(line: &[u8]) -> Option<Vec<Part>> {
        let (unit, list) = line.split_at(line.iter().position(|byte| *byte == b'=')?);
        if !unit.eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let members = list[1..].split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let mut parts = Vec::new();
        for member in members.filter(|member| !member.is_empty()) {
            if parts.len() == MAX_PARTS {
                return None;
            }
            parts.push(Part::parse(member)?);
        }
        (!parts.is_empty()).then_some(parts)
    }

    /// Selects the part of a stored response whose body has this length.
    pub(crate) fn select(&self, stored: &HeaderMap, length: usize) -> Selected {
        let is_of_another = match &self.only_of {
            None => false,
            Some(validator) => !validator.as_ref().is_some_and(|wanted| is_exactly(stored, wanted)),
        };
        let Some(parts) = self.parts.as_ref().filter(|_| !is_of_another) else {
            return Selected::Whole;
        };
        let satisfiable: Vec<_> = parts.iter().filter_map(|part| part.within(length)).collect();
        if satisfiable.is_empty() {
            return Selected::Unsatisfiable;
        }
        let mut sorted = satisfiable.clone();
        sorted.sort_unstable_by_key(|range| range.start);
        let overlap = sorted.windows(2).any(|pair| pair[1].start < pair[0].end);
        let sum: usize = sorted.iter().map(|range| range.len() + PER_PART).sum();
        // RFC 9110 §14.2 lets a server send the whole, and that is cheaper here.
        if overlap || satisfiable.len() > 1 && sum > length {
            return Selected::Whole;
        }
        Selected::Parts(satisfiable)
    }
}

impl Part {
    fn parse(text: &[u8]) -> Option<Self> {
        let (first, last) = text.split_at(text.iter().position(|byte| *byte == b'-')?);
        match (first, &last[1..]) {
            (b"", last) => Some(Self::Last(number(last)?)),
            (first, b"") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Within(first, last))
            }
        }
    }

    /// Returns the bytes that it selects of `length`, if any.
    fn within(self, length: usize) -> Option<Range<usize>> {
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(length);
        let range = match self {
            Self::From(first) => at(first)..length,
            Self::Within(first, last) => at(first)..at(last.saturating_add(1)),
            Self::Last(count) => length - at(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// Parses a position. One that is too large for 64 bits is beyond any end.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX))
}

/// Returns whether `If-Range` names the stored response by a strong validator (RFC 9110 §13.1.5).
fn is_exactly(stored: &HeaderMap, wanted: &HeaderValue) -> bool {
    if let Some(tag) = EntityTag::parse(wanted.as_bytes()) {
        return EntityTag::of(stored).is_some_and(|stored| stored.is_exactly(tag));
    }
    // RFC 9110 §8.8.2.2: a date is strong if the response was made at least a second later.
    let dates = (single_date(stored, &LAST_MODIFIED), single_date(stored, &DATE));
    match dates {
        (Some(modified), Some(made)) => {
            date(wanted) == Some(modified)
                && made.duration_since(modified).is_ok_and(|since| since >= Duration::from_secs(1))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, header::ETAG};

    use super::*;
    use crate::verify::random::for_all;

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[track_caller]
    fn check(range: &str, length: usize, expected: &Selected) {
        let asked = RangeAsked::of(&fields(&[(RANGE, range)]));
        assert_eq!(asked.select(&HeaderMap::new(), length), *expected, "{range} of {length}");
    }

    #[test]
    fn a_part_is_from_its_first_to_its_last_byte() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-499", 0..500),
            ("BYTES=500-999", 500..1000),
            ("bytes=990-", 990..1000),
            ("bytes=-10", 990..1000),
            ("bytes=-5000", 0..1000),
            ("bytes=0-99999999999999999999", 0..1000),
            ("bytes=999-1000", 999..1000),
            ("bytes= 1-2 ,", 1..3),
            ("bytes=1-2, 1000-", 1..3),
        ] {
            check(range, 1000, &Selected::Parts(vec![part]));
        }
        check("bytes=500-599,0-99", 1000, &Selected::Parts(vec![500..600, 0..100]));
        check("bytes=0-99,100-199", 1000, &Selected::Parts(vec![0..100, 100..200]));
        // As many bytes as the whole has, with what each part costs.
        let last = 1000 - 2 * PER_PART - 2;
        let parts = vec![0..1, 999 - last..1000];
        check(&format!("bytes=0-0,-{}", last + 1), 1000, &Selected::Parts(parts));
        check(&format!("bytes=0-0,-{}", last + 2), 1000, &Selected::Whole);
    }

    #[test]
    fn what_is_beyond_the_end_cannot_be_satisfied() {
        for range in ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=2000-,1000-1001,-0"] {
            check(range, 1000, &Selected::Unsatisfiable);
        }
        check("bytes=0-", 0, &Selected::Unsatisfiable);
        check("bytes=-1", 0, &Selected::Unsatisfiable);
    }

    #[test]
    fn what_means_nothing_or_costs_more_than_the_whole_brings_the_whole() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=2-1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1-2,x",
            "bytes=1 - 2",
            "lines=0-1",
            "bytes=0-1;x",
            "0-1",
            "bytes=0-10,5-15",
            "bytes=0-,-1",
            "bytes=0-0,0-0",
            "bytes=0-499,500-999",
        ] {
            check(range, 1000, &Selected::Whole);
        }
        let many: Vec<_> = (0..17).map(|at| format!("{}-{}", at * 1000, at * 1000)).collect();
        check(&format!("bytes={}", many.join(",")), 1_000_000, &Selected::Whole);
        let twice = RangeAsked::of(&fields(&[(RANGE, "bytes=0-0"), (RANGE, "bytes=1-1")]));
        assert_eq!(twice.select(&HeaderMap::new(), 10), Selected::Whole);
    }

    #[test]
    fn a_part_is_wanted_of_exactly_one_representation() {
        const EARLIER: &str = "Sun, 22 Nov 2026 08:00:00 GMT";
        const LATER: &str = "Sun, 22 Nov 2026 09:00:00 GMT";
        let tag = |tag| fields(&[(ETAG, tag)]);
        let dated = |made| fields(&[(LAST_MODIFIED, EARLIER), (DATE, made)]);
        for (stored, wanted, is_it) in [
            (tag("\"a\""), "\"a\"", true),
            (tag("\"a\""), "\"b\"", false),
            (tag("W/\"a\""), "W/\"a\"", false),
            (tag("W/\"a\""), "\"a\"", false),
            (tag("\"a\""), "W/\"a\"", false),
            (tag("\"a\""), "a", false),
            (tag("\"a\""), "*", false),
            (HeaderMap::new(), "\"a\"", false),
            (tag("\"a\" \"b\""), "\"a\" \"b\"", false),
            (tag("\"a\" \"b\""), "\"a\"", false),
            (tag("\"a b\""), "\"a b\"", false),
            (tag("\"a"), "\"a", false),
            (dated(LATER), EARLIER, true),
            (dated(LATER), "SUN, 22 NOV 2026 08:00:00 GMT", true),
            (dated("sun, 22 nov 2026 09:00:00 gmt"), EARLIER, true),
            (dated(LATER), LATER, false),
            (dated(EARLIER), EARLIER, false),
            (fields(&[(LAST_MODIFIED, EARLIER)]), EARLIER, false),
        ] {
            let asked = RangeAsked::of(&fields(&[(RANGE, "bytes=0-0"), (IF_RANGE, wanted)]));
            let selected = asked.select(&stored, 10);
            let is_part = matches!(selected, Selected::Parts(_));
            assert_eq!(is_part, is_it, "{stored:?} {wanted}");
            assert!(is_it || selected == Selected::Whole);
        }
        let twice = fields(&[(RANGE, "bytes=0-0"), (IF_RANGE, "\"a\""), (IF_RANGE, "\"a\"")]);
        assert_eq!(RangeAsked::of(&twice).select(&tag("\"a\""), 10), Selected::Whole);
    }

    #[test]
    fn parts_are_within_the_whole_and_cost_no_more() {
        for_all(|random| {
            let ranges = random.vec(0..21, |random| {
                let [first, last] = [(); 2].map(|()| random.text('0'..='9', 0..5));
                format!("{first}-{last}")
            });
            let range = format!("bytes={}", ranges.join(random.pick(&[",", ", ", ",,"])));
            let length = random.below(5000);
            let asked = RangeAsked::of(&fields(&[(RANGE, &range)]));
            if let Selected::Parts(parts) = asked.select(&HeaderMap::new(), length) {
                let is_within = parts.iter().all(|part| !part.is_empty() && part.end <= length);
                assert!(is_within, "{range} of {length}");
                assert!(parts.iter().map(ExactSizeIterator::len).sum::<usize>() <= length);
                assert!(parts.len() <= MAX_PARTS, "{range}");
            }
        });
    }
}
