//! Conditional requests that the cache answers itself (RFC 9111 §4.3.2, RFC 9110 §13).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    },
};

use crate::entry::{CACHE_STATUS, HopByHop};

/// Fields of a 200 that describe its content and are no part of a 304 (RFC 9110 §15.4.5).
const OF_THE_CONTENT: [HeaderName; 5] =
    [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE];

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The conditions of a request that concern what the client already has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    none_match: Vec<HeaderValue>,
    modified_since: Option<HeaderValue>,
}

impl Conditions {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        // RFC 9110 §13.1.3: a field of several lines has several members, and is ignored.
        let mut dates = request.get_all(IF_MODIFIED_SINCE).iter();
        let modified_since = dates.next().filter(|_| dates.next().is_none()).cloned();
        let none_match = request.get_all(IF_NONE_MATCH).iter().cloned().collect();
        Self { none_match, modified_since }
    }

    /// Whether the client already has this response. `If-None-Match` counts alone where there is
    /// one (RFC 9110 §13.2.2).
    pub(crate) fn are_met_by(&self, response: &HeaderMap) -> bool {
        if self.none_match.is_empty() {
            return self.modified_since.as_ref().is_some_and(|since| !is_newer(response, since));
        }
        let stored = response.get(ETAG).and_then(|tag| opaque_tag(tag.as_bytes()));
        self.none_match.iter().any(|line| matches_any(line.as_bytes(), stored))
    }
}

/// What a stored response can be asked about by.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    tag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Validators {
    /// Returns the validators of a stored response, if it has any.
    pub(crate) fn of(stored: &HeaderMap) -> Option<Self> {
        let tag = stored.get(ETAG).filter(|tag| opaque_tag(tag.as_bytes()).is_some()).cloned();
        let modified = stored.get(LAST_MODIFIED).filter(|line| date(line).is_some()).cloned();
        (tag.is_some() || modified.is_some()).then_some(Self { tag, modified })
    }

    /// Makes a request ask for what has changed since only.
    pub(crate) fn put(self, request: &mut HeaderMap) {
        for (name, value) in [(IF_NONE_MATCH, self.tag), (IF_MODIFIED_SINCE, self.modified)] {
            if let Some(value) = value {
                request.insert(name, value);
            }
        }
    }
}

/// Whether a 304 is about the stored response, whose validators were asked about (RFC 9111 §4.3.4).
/// One that names no validator can be about nothing else.
pub(crate) fn confirms(told: &HeaderMap, stored: &HeaderMap) -> bool {
    match told.get(ETAG).map(HeaderValue::as_bytes) {
        Some(weak) if weak.starts_with(b"W/") => {
            let own = stored.get(ETAG).and_then(|tag| opaque_tag(tag.as_bytes()));
            own.is_some() && own == opaque_tag(weak)
        }
        Some(strong) => stored.get(ETAG).is_some_and(|tag| tag.as_bytes() == strong),
        None => told.get(LAST_MODIFIED).is_none_or(|told| stored.get(LAST_MODIFIED) == Some(told)),
    }
}

/// Returns the fields of a stored response with those that a 304 brings anew (RFC 9111 §3.2).
pub(crate) fn freshened(stored: &HeaderMap, told: &HeaderMap) -> HeaderMap {
    let hops = HopByHop::of(told);
    let mut fields = stored.clone();
    // Said anew with each response.
    fields.remove(AGE);
    fields.remove(CACHE_STATUS);
    for name in told.keys() {
        // These tell of the content, and a 304 has none.
        let of_content =
            [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_DIGEST, CONTENT_MD5];
        if of_content.contains(name) || hops.contains(name) {
            continue;
        }
        fields.remove(name);
        for line in told.get_all(name) {
            // A map of fields that is full has no room for more.
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

/// Whether the fields of the answer to a HEAD tell of another representation than the stored one,
/// whose content has `length` bytes (RFC 9111 §4.3.5).
pub(crate) fn contradicts(answer: &HeaderMap, stored: &HeaderMap, length: usize) -> bool {
    let differs = |name: &HeaderName| match (answer.get(name), stored.get(name)) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    };
    let has_length =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.parse() == Ok(length));
    differs(&ETAG)
        || differs(&LAST_MODIFIED)
        || answer.get(CONTENT_LENGTH).is_some_and(|value| !has_length(value))
}

/// Whether the response is newer than an HTTP-date. Without `Last-Modified` its `Date` counts
/// (RFC 9111 §4.3.2); what is no date makes the response newer.
fn is_newer(response: &HeaderMap, since: &HeaderValue) -> bool {
    let modified = response.get(LAST_MODIFIED).or_else(|| response.get(DATE)).and_then(date);
    match (modified, date(since)) {
        (Some(modified), Some(since)) => modified > since,
        _ => true,
    }
}

pub(super) fn date(line: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(line.to_str().ok()?).ok()
}

/// Returns a time as `Date` has it, in whole seconds.
pub(crate) fn date_value(time: SystemTime) -> HeaderValue {
    // Ends where the format does: with the year 9999.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let text = httpdate::fmt_http_date(time.clamp(SystemTime::UNIX_EPOCH, last));
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// Compares weakly (RFC 9110 §8.8.3.2). A list that is malformed matches as far as it is not.
fn matches_any(mut list: &[u8], stored: Option<&[u8]>) -> bool {
    loop {
        list = list.trim_ascii_start();
        match list {
            [] => return false,
            [b',', rest @ ..] => list = rest,
            b"*" => return true,
            _ => {
                let Some(tag) = opaque_tag(list) else { return false };
                if stored == Some(tag) {
                    return true;
                }
                let prefix = if list.starts_with(b"W/") { 2 } else { 0 };
                list = &list[prefix + tag.len()..];
            }
        }
    }
}

/// Returns the tag that `text` begins with, quotes included and weakness left out.
fn opaque_tag(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"W/").unwrap_or(text);
    let inside = text.strip_prefix(b"\"")?;
    let length = inside.iter().position(|byte| *byte == b'"')?;
    Some(&text[..length + 2])
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
}
