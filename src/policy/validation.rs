//! Validation: conditions of clients that the cache evaluates (RFC 9111 §4.3.2, RFC 9110 §13), and
//! validators that it sends to the origin.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, TRAILER, TRANSFER_ENCODING,
    },
};

use super::{
    entity_tag::EntityTag,
    field_line::single,
    http_date::{date, single_date},
};
use crate::entry::{CACHE_STATUS, HopByHop};

/// Fields of a 200 that describe its content and are no part of a 304 (RFC 9110 §15.4.5).
const OF_THE_CONTENT: [HeaderName; 9] = [
    CONTENT_DIGEST,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_MD5,
    CONTENT_RANGE,
    CONTENT_TYPE,
    TRAILER,
    TRANSFER_ENCODING,
];

/// Digest of the bytes that a message has (RFC 9530 §2): that of the whole is of no other answer.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Digests of a whole content, which a part of it has not.
pub(crate) const DIGESTS_OF_THE_WHOLE: [HeaderName; 3] =
    [CONTENT_DIGEST, CONTENT_MD5, HeaderName::from_static("digest")];

/// Conditions of a request on the copy that the client already has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    none_match: Vec<HeaderValue>,
    modified_since: Option<HeaderValue>,
}

impl Conditions {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        // RFC 9110 §13.1.3: a field of several lines has several members, and is ignored.
        let modified_since = single(request, &IF_MODIFIED_SINCE).cloned();
        let none_match = request.get_all(IF_NONE_MATCH).iter().cloned().collect();
        Self { none_match, modified_since }
    }

    /// Returns whether an origin evaluates them for a response of its own: a date is compared with that
    /// of the last change alone (RFC 9110 §13.1.3), since content may change twice in a second.
    pub(crate) fn apply_to(&self, current: &HeaderMap) -> bool {
        !self.none_match.is_empty() || current.contains_key(LAST_MODIFIED)
    }

    /// Returns whether the client already has this stored response. `If-None-Match` counts alone if it is
    /// present (RFC 9110 §13.2.2).
    pub(crate) fn are_met_by(&self, response: &HeaderMap) -> bool {
        if self.none_match.is_empty() {
            return self.modified_since.as_ref().is_some_and(|since| !is_newer(response, since));
        }
        let stored = EntityTag::of(response);
        self.none_match.iter().any(|line| matches_any(line.as_bytes(), stored))
    }
}

/// Validators of a stored response.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    tag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Validators {
    /// Returns the validators of a stored response, if it has any.
    pub(crate) fn of(stored: &HeaderMap) -> Option<Self> {
        let tag = stored.get(ETAG).filter(|_| EntityTag::of(stored).is_some()).cloned();
        let modified = single(stored, &LAST_MODIFIED).filter(|line| date(line).is_some()).cloned();
        (tag.is_some() || modified.is_some()).then_some(Self { tag, modified })
    }

    /// Makes a request conditional on them.
    pub(crate) fn put(self, request: &mut HeaderMap) {
        for (name, value) in [(IF_NONE_MATCH, self.tag), (IF_MODIFIED_SINCE, self.modified)] {
            if let Some(value) = value {
                request.insert(name, value);
            }
        }
    }
}

/// Returns whether a 304 confirms the stored response whose validators were sent (RFC 9111 §4.3.4).
/// A 304 without validators can mean no other response.
pub(crate) fn confirms(answer: &HeaderMap, stored: &HeaderMap) -> bool {
    if let Some(tag) = EntityTag::of(answer) {
        return EntityTag::of(stored).is_some_and(|stored| match tag.is_weak() {
            true => stored.is_like(tag),
            false => stored.is_exactly(tag),
        });
    }
    match answer.contains_key(LAST_MODIFIED) {
        true => have_same_date(answer, stored),
        false => !answer.contains_key(ETAG),
    }
}

/// Returns whether the response to a HEAD describes the stored representation, whose content has
/// `length` bytes, so that it updates it (RFC 9111 §4.3.5). One without a validator may be about any.
pub(crate) fn describes(answer: &HeaderMap, stored: &HeaderMap, length: usize) -> bool {
    let has_validator = answer.contains_key(ETAG) || answer.contains_key(LAST_MODIFIED);
    has_validator && confirms(answer, stored) && !contradicts(answer, stored, length)
}

/// Returns the fields of a stored response, updated with those of a 304 (RFC 9111 §3.2).
pub(crate) fn freshened(stored: &HeaderMap, answer: &HeaderMap) -> HeaderMap {
    let hops = HopByHop::of(answer);
    let mut fields = stored.clone();
    // Each response has its own.
    fields.remove(AGE);
    fields.remove(CACHE_STATUS);
    for name in answer.keys() {
        // These describe the content, and a 304 has none.
        let of_content =
            [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_DIGEST, CONTENT_MD5];
        if of_content.contains(name) || hops.contains(name) {
            continue;
        }
        fields.remove(name);
        for line in answer.get_all(name) {
            // Fails only if the map is full.
            let _ = fields.try_append(name, line.clone());
        }
    }
    fields
}

/// Turns the fields of a 200 into those of a 304.
pub(crate) fn retain_not_modified(fields: &mut HeaderMap) {
    for name in &OF_THE_CONTENT {
        fields.remove(name);
    }
    if fields.contains_key(ETAG) {
        fields.remove(LAST_MODIFIED);
    }
}

/// Returns whether the response to a HEAD describes another representation than the stored one,
/// whose content has `length` bytes (RFC 9111 §4.3.5).
pub(crate) fn contradicts(answer: &HeaderMap, stored: &HeaderMap, length: usize) -> bool {
    let differs = |name: &HeaderName| match (answer.get(name), stored.get(name)) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    };
    let has_length =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.parse() == Ok(length));
    differs(&ETAG)
        || differs(&LAST_MODIFIED) && !have_same_date(answer, stored)
        || answer.get(CONTENT_LENGTH).is_some_and(|value| !has_length(value))
}

/// Returns whether two responses were last modified at the same time.
fn have_same_date(one: &HeaderMap, other: &HeaderMap) -> bool {
    let date = single_date(one, &LAST_MODIFIED);
    date.is_some() && date == single_date(other, &LAST_MODIFIED)
}

/// Returns whether the response is newer than a date. Without `Last-Modified` its `Date` counts
/// (RFC 9111 §4.3.2). Without two dates that can be read, it is newer.
fn is_newer(response: &HeaderMap, since: &HeaderValue) -> bool {
    let name = if response.contains_key(LAST_MODIFIED) { LAST_MODIFIED } else { DATE };
    match (single_date(response, &name), date(since)) {
        (Some(modified), Some(since)) => modified > since,
        _ => true,
    }
}

/// Returns whether a list has the stored tag, by weak comparison (RFC 9110 §8.8.3.2). A malformed list
/// counts up to its fault.
fn matches_any(mut list: &[u8], stored: Option<EntityTag<'_>>) -> bool {
    loop {
        list = list.trim_ascii_start();
        match list {
            [b',', rest @ ..] => list = rest,
            b"*" => return true,
            _ => {
                let Some((tag, rest)) = EntityTag::split(list) else { return false };
                if stored.is_some_and(|stored| stored.is_like(tag)) {
                    return true;
                }
                list = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        fields
    }

    #[track_caller]
    fn check(request: &[(&str, &str)], response: &[(&str, &str)], expected: bool) {
        let conditions = Conditions::of(&fields(request));
        assert_eq!(conditions.are_met_by(&fields(response)), expected, "{request:?} {response:?}");
    }

    const EARLIER: &str = "Sun, 22 Nov 2026 08:00:00 GMT";
    const LATER: &str = "Sun, 22 Nov 2026 09:00:00 GMT";

    #[test]
    fn if_none_match_compares_weakly_over_all_lines() {
        for (list, is_met) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("\"b\",\"c\"", false),
            ("\"b,\"a\"", false),
            ("*", true),
            ("a", false),
            ("\"A\"", false),
            ("", false),
        ] {
            check(&[("if-none-match", list)], &[("etag", "\"a\"")], is_met);
            check(&[("if-none-match", list)], &[("etag", "W/\"a\"")], is_met);
        }
        check(
            &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")],
            &[("etag", "\"a\"")],
            true,
        );
        check(&[("if-none-match", "\"a\"")], &[], false);
        check(&[("if-none-match", "*")], &[], true);
    }

    #[test]
    fn if_modified_since_is_for_requests_without_if_none_match() {
        check(&[("if-modified-since", LATER)], &[("last-modified", EARLIER)], true);
        check(&[("if-modified-since", EARLIER)], &[("last-modified", EARLIER)], true);
        check(&[("if-modified-since", EARLIER)], &[("last-modified", LATER)], false);
        check(&[("if-modified-since", LATER)], &[("date", EARLIER)], true);
        check(&[("if-modified-since", "yesterday")], &[("last-modified", EARLIER)], false);
        check(&[("if-modified-since", LATER)], &[], false);
        let twice = [("if-modified-since", LATER), ("if-modified-since", LATER)];
        check(&twice, &[("last-modified", EARLIER)], false);
        let both = [("if-none-match", "\"b\""), ("if-modified-since", LATER)];
        check(&both, &[("etag", "\"a\""), ("last-modified", EARLIER)], false);
        check(&[], &[("etag", "\"a\"")], false);
    }

    const MALFORMED: [&str; 9] = [
        "\"v1\" \"v2\"",
        "\"v1\", \"v2\"",
        "\"v1\"x",
        "\"v1",
        "v1",
        "\"v 1\"",
        "w/\"v1\"",
        "W/ \"v1\"",
        "W/W/\"v1\"",
    ];

    #[test]
    fn a_malformed_stored_tag_matches_nothing() {
        for stored in MALFORMED {
            let stored = [("etag", stored)];
            for list in [stored[0].1, "\"v1\"", "W/\"v1\"", "\"v2\"", "v1", "\"v1\", \"v2\""] {
                check(&[("if-none-match", list)], &stored, false);
            }
            check(&[("if-none-match", "*")], &stored, true);
            assert!(Validators::of(&fields(&stored)).is_none(), "{stored:?}");
        }
        let two = [("etag", "\"v1\""), ("etag", "\"v2\"")];
        check(&[("if-none-match", "\"v1\", \"v2\"")], &two, false);
        assert!(Validators::of(&fields(&two)).is_none());
    }

    #[test]
    fn a_304_with_a_malformed_tag_confirms_by_its_date_alone() {
        for tag in MALFORMED {
            let stored = fields(&[("etag", "\"v1\""), ("last-modified", EARLIER)]);
            let same = fields(&[("etag", tag), ("last-modified", EARLIER)]);
            assert!(confirms(&same, &stored), "{tag}");
            for answer in [&[("etag", tag)][..], &[("etag", tag), ("last-modified", LATER)]] {
                assert!(!confirms(&fields(answer), &stored), "{answer:?}");
            }
            let malformed = fields(&[("etag", tag)]);
            for answer in [tag, "\"v1\"", "W/\"v1\""] {
                assert!(!confirms(&fields(&[("etag", answer)]), &malformed), "{tag} {answer}");
            }
        }
    }

    #[test]
    fn a_304_confirms_by_a_tag_as_strong_as_it_says() {
        for (stored, answer, is_confirmed) in [
            ("\"a\"", "\"a\"", true),
            ("W/\"a\"", "W/\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("W/\"a\"", "\"a\"", false),
            ("\"a\"", "\"b\"", false),
            ("\"a\"", "W/\"b\"", false),
        ] {
            let (stored, answer) = (fields(&[("etag", stored)]), fields(&[("etag", answer)]));
            assert_eq!(confirms(&answer, &stored), is_confirmed, "{stored:?} {answer:?}");
        }
        let stored = fields(&[("etag", "\"a\"")]);
        assert!(confirms(&HeaderMap::new(), &stored), "a 304 without validators");
    }

    #[test]
    fn dates_are_compared_without_case() {
        let stored = [("last-modified", EARLIER)];
        let (upper, lower) = (EARLIER.to_uppercase(), EARLIER.to_lowercase());
        for same in [&*upper, &lower] {
            check(&[("if-modified-since", same)], &stored, true);
            check(&[("if-modified-since", EARLIER)], &[("last-modified", same)], true);
            check(&[("if-modified-since", EARLIER)], &[("date", same)], true);
            assert!(Validators::of(&fields(&[("last-modified", same)])).is_some());
            let answer = fields(&[("last-modified", same)]);
            assert!(confirms(&answer, &fields(&stored)), "{same}");
            assert!(!contradicts(&answer, &fields(&stored), 0), "{same}");
        }
        let later = fields(&[("last-modified", LATER)]);
        assert!(!confirms(&later, &fields(&stored)) && contradicts(&later, &fields(&stored), 0));
    }

    #[test]
    fn a_date_that_comes_twice_is_no_validator() {
        let twice = [("last-modified", EARLIER), ("last-modified", LATER), ("date", EARLIER)];
        check(&[("if-modified-since", LATER)], &twice, false);
        assert!(Validators::of(&fields(&twice)).is_none());
    }
}
