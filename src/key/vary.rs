//! Fields that `Vary` nominates (RFC 9111 §4.1).

use std::{borrow::Cow, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, VARY},
};

use super::{
    digest_key::DigestKey,
    variant::{EncodedParts, push_part},
};

/// Number of names up to which variants are told apart. A response with more varies by everything.
const MAX_NAMES: usize = 16;

/// The names of nominated fields, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nominated(Arc<Vec<HeaderName>>);

/// Error for a response that varies by more than a request shows: `*`, invalid names, or too many.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unpredictable;

impl Nominated {
    /// Takes names in any order, also repeated ones.
    pub(crate) fn new(mut names: Vec<HeaderName>) -> Self {
        names.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        names.dedup();
        Self(Arc::new(names))
    }

    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.0
    }

    /// Adds the names that a response nominates. A content coding was chosen by `Accept-Encoding`,
    /// even if the response does not say so.
    pub(crate) fn with(&self, response: &HeaderMap) -> Result<Self, Unpredictable> {
        // One pass over the names is less than two searches, and most responses nominate nothing.
        if !response.keys().any(|name| matches!(*name, VARY | CONTENT_ENCODING)) {
            return Ok(self.clone());
        }
        let mut names = Vec::new();
        for line in response.get_all(VARY) {
            let line = line.to_str().map_err(|_| Unpredictable)?;
            for member in line.split(',').map(str::trim).filter(|member| !member.is_empty()) {
                if member == "*" || names.len() > MAX_NAMES {
                    return Err(Unpredictable);
                }
                names.push(HeaderName::try_from(member).map_err(|_| Unpredictable)?);
            }
        }
        let is_coded = response.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity");
        if is_coded {
            names.push(ACCEPT_ENCODING);
        }
        if names.iter().all(|name| self.0.contains(name)) {
            return Ok(self.clone());
        }
        names.extend(self.0.iter().cloned());
        let all = Self::new(names);
        if all.0.len() > MAX_NAMES { Err(Unpredictable) } else { Ok(all) }
    }

    /// Encodes the values that a request has for these fields. A field that is absent matches only
    /// where it is absent too. Values are encoded as digests: only the origin knows which fields are
    /// private to a caller.
    pub(crate) fn values(&self, request: &impl Lines, key: &DigestKey) -> EncodedParts {
        let mut encoded = EncodedParts::new();
        for name in self.0.iter() {
            push_part(&mut encoded, name.as_str().as_bytes());
            push_part(&mut encoded, &(request.lines(name).count() as u64).to_be_bytes());
            for line in request.lines(name) {
                push_part(&mut encoded, &key.digest(&canonical(name, line.as_bytes())));
            }
        }
        encoded
    }
}

/// Returns the one spelling of a list whose case and optional whitespace mean nothing (RFC 9111 §4.1, RFC
/// 9110 §12.5.3 and §12.5.4). Only the specification of a field can say so.
fn canonical<'a>(name: &HeaderName, line: &'a [u8]) -> Cow<'a, [u8]> {
    if !matches!(*name, ACCEPT_ENCODING | ACCEPT_LANGUAGE) {
        return Cow::Borrowed(line);
    }
    let mut list = Vec::with_capacity(line.len());
    for &byte in line.trim_ascii() {
        match byte {
            b',' | b';' => list.truncate(list.trim_ascii_end().len()),
            b' ' | b'\t' if matches!(list.last(), Some(b',' | b';')) => continue,
            _ => {}
        }
        list.push(byte.to_ascii_lowercase());
    }
    Cow::Owned(list)
}

/// Access to the lines of a request's fields.
pub(crate) trait Lines {
    /// Returns the lines of one field.
    fn lines(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue>;
}

impl Lines for HeaderMap {
    fn lines(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.get_all(name).iter()
    }
}

/// The fields of a request that is forwarded, since its response may nominate any of them. Most
/// responses nominate none, so they are a list and not a map.
#[derive(Debug)]
pub(crate) struct FieldList(Vec<(HeaderName, HeaderValue)>);

impl FieldList {
    /// Copies the fields of a request.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut kept = Vec::with_capacity(fields.len());
        kept.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self(kept)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl Lines for FieldList {
    fn lines(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value)
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
    fn check(lines: &[(&str, &str)], expected: Result<&[&str], Unpredictable>) {
        let nominated = Nominated::default().with(&fields(lines));
        let names = nominated.map(|n| n.names().iter().map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(names, expected.map(|names| names.iter().map(|n| n.to_string()).collect()));
    }

    #[test]
    fn names_are_read_from_all_lines_in_any_case() {
        check(&[], Ok(&[]));
        check(&[("vary", "Cookie, ,accept "), ("vary", "ACCEPT")], Ok(&["accept", "cookie"]));
    }

    #[test]
    fn what_no_request_shows_cannot_be_told_apart() {
        check(&[("vary", "*")], Err(Unpredictable));
        check(&[("vary", "accept, *")], Err(Unpredictable));
        check(&[("vary", "a b")], Err(Unpredictable));
        let many: Vec<String> = (10..1000).map(|n| format!("x-{n}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&[("vary", &many.join(","))], Err(Unpredictable));
        check(&[("vary", &many[..MAX_NAMES].join(","))], Ok(&names[..MAX_NAMES]));
        check(&[("vary", &many[..=MAX_NAMES].join(","))], Err(Unpredictable));
    }

    #[test]
    fn a_content_coding_nominates_accept_encoding() {
        check(&[("content-encoding", "gzip")], Ok(&["accept-encoding"]));
        check(&[("content-encoding", "identity")], Ok(&[]));
    }

    #[test]
    fn values_differ_wherever_lines_do() {
        let secret = DigestKey::new([1; 32]);
        let nominated = Nominated::default().with(&fields(&[("vary", "a, cookie")])).unwrap();
        let values = |lines: &[(&str, &str)]| nominated.values(&fields(lines), &secret);
        let all = [
            values(&[]),
            values(&[("a", "")]),
            values(&[("a", "1")]),
            values(&[("a", "1"), ("a", "1")]),
            values(&[("a", "1, 1")]),
            values(&[("cookie", "1")]),
            values(&[("a", "cookie")]),
        ];
        for (index, left) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|right| left != right));
        }
        assert_eq!(values(&[("a", "1"), ("b", "2")]), values(&[("a", "1")]));
    }

    #[test]
    fn lists_of_preferences_have_one_spelling() {
        let secret = DigestKey::new([1; 32]);
        let differ = |name: &str, one: &str, other: &str| {
            let nominated = Nominated::new(vec![name.parse().unwrap()]);
            let values = |line: &str| nominated.values(&fields(&[(name, line)]), &secret);
            values(one) != values(other)
        };
        for name in ["accept-language", "accept-encoding"] {
            for same in ["de,en;q=0.5", "de, en;q=0.5", "\tDE ,eN ;\t q=0.5 "] {
                assert!(!differ(name, "de, en; q=0.5", same), "{name}: {same}");
            }
            for other in ["en;q=0.5, de", "de, en", "de, en; q=0.50", "d e, en; q=0.5", ""] {
                assert!(differ(name, "de, en; q=0.5", other), "{name}: {other}");
            }
        }
        for name in ["accept", "cookie", "x-filter"] {
            assert!(differ(name, "a, b", "a,b") && differ(name, "a", "A"), "{name}");
        }
    }
}
