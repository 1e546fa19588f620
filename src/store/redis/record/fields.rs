//! Fields of a head, as a record writes them: common names as one byte.

use std::{array, sync::LazyLock};

use http::{
    HeaderName, HeaderValue,
    header::{self, AGE},
};
use smallvec::SmallVec;

use crate::{
    entry::{CACHE_STATUS, ShapeCache, StoredFields},
    key::seeded_hash,
};

/// Names that are written as one byte: their place here, counted from one. New names go to the end;
/// nothing else may change within a version of the format.
static NAMES: [HeaderName; 48] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::DATE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::VARY,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
    header::SERVER,
    header::LINK,
    header::LOCATION,
    header::CONTENT_LOCATION,
    header::CONTENT_DISPOSITION,
    header::ACCEPT_RANGES,
    header::CONTENT_RANGE,
    header::PRAGMA,
    header::VIA,
    header::WARNING,
    header::ALLOW,
    header::ALT_SVC,
    header::RETRY_AFTER,
    header::REFRESH,
    CACHE_STATUS,
    HeaderName::from_static("cdn-cache-control"),
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::STRICT_TRANSPORT_SECURITY,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
    header::REFERRER_POLICY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
    header::X_DNS_PREFETCH_CONTROL,
    // Fields that responses nominate.
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_CHARSET,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::USER_AGENT,
];

/// Appends a name: its number, or a zero, the length of its text, and the text.
pub(super) fn push_name(bytes: &mut Vec<u8>, name: &HeaderName) {
    let place = NAMES.iter().position(|known| known == name);
    match place.and_then(|place| u8::try_from(place + 1).ok()) {
        Some(number) => bytes.push(number),
        None => {
            let text = name.as_str().as_bytes();
            // The `http` crate refuses longer names.
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            bytes.push(0);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text);
        }
    }
}

/// Takes a name off the front.
pub(super) fn take_name(bytes: &mut &[u8]) -> Option<HeaderName> {
    let (number, rest) = bytes.split_first()?;
    *bytes = rest;
    if let Some(place) = usize::from(*number).checked_sub(1) {
        return NAMES.get(place).cloned();
    }
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    *bytes = rest;
    HeaderName::from_bytes(text).ok()
}

/// Shapes of heads that were read recently, by a hash of their names.
static SHAPES: LazyLock<[ShapeCache; 16]> =
    LazyLock::new(|| array::from_fn(|_| ShapeCache::default()));

/// Limit of the names of a head: that of the lines in a map.
const MAX_NAMES: usize = 1 << 15;

/// Joins the names of a head and as many values, which `value` reads one by one.
pub(super) fn fields_of(
    names: &[u8],
    has_inner_status: bool,
    mut value: impl FnMut() -> Option<HeaderValue>,
) -> Option<StoredFields> {
    let shapes = &SHAPES[seeded_hash(names) as usize % SHAPES.len()];
    let names = names_of(names)?;
    // Each reuse sets them; they are stored only for an inner cache.
    let is_set = |name: &HeaderName| *name == AGE || (*name == CACHE_STATUS && !has_inner_status);
    if names.iter().any(is_set) {
        return None;
    }
    // Entries are charged for the values, not for capacity to spare.
    let mut values = Vec::with_capacity(names.len());
    for _ in &names {
        values.push(value()?);
    }
    shapes.find_or_share(names.iter())?.with_values(values)
}

fn names_of(mut bytes: &[u8]) -> Option<SmallVec<[HeaderName; 16]>> {
    let names = std::iter::from_fn(|| (!bytes.is_empty()).then(|| take_name(&mut bytes)));
    let names = names.take(MAX_NAMES).collect::<Option<_>>()?;
    bytes.is_empty().then_some(names)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn written(names: &[HeaderName]) -> Vec<u8> {
        let mut bytes = Vec::new();
        names.iter().for_each(|name| push_name(&mut bytes, name));
        bytes
    }

    #[test]
    fn names_come_back_as_they_were() {
        let own = HeaderName::from_static("x-own");
        for name in NAMES.iter().chain([&own]) {
            let bytes = written(std::slice::from_ref(name));
            assert_eq!(bytes.len() == 1, *name != own);
            assert_eq!(take_name(&mut &bytes[..]).as_ref(), Some(name));
        }
        for unknown in [&[][..], &[NAMES.len() as u8 + 1], &[0], &[0, 0, 2, b'x'], b"\0\0\x01 "] {
            assert_eq!(take_name(&mut &unknown[..]), None, "{unknown:?}");
        }
    }

    /// Reads a head of names, and of as many values.
    fn read(names: &[HeaderName], has_inner_status: bool, values: &[&str]) -> Option<HeaderMap> {
        let mut values = values.iter();
        let value = || HeaderValue::from_str(values.next()?).ok();
        let fields = fields_of(&written(names), has_inner_status, value)?;
        assert!(values.next().is_none(), "all are taken");
        Some(fields.to_map())
    }

    #[test]
    fn fields_are_those_of_the_names_however_often_they_are_made() {
        let own = HeaderName::from_static("x-own");
        for (names, has_inner_status) in [
            (&[header::ETAG, own.clone()][..], false),
            (&[header::ETAG, own.clone()], true),
            (&[header::LINK, header::LINK, header::ETAG], false),
            (&[CACHE_STATUS, header::ETAG], true),
            (&[], false),
        ] {
            for turn in 0..12 {
                let turn = turn.to_string();
                let values = &["same", &turn, "same"][..names.len()];
                let fields = read(names, has_inner_status, values).expect("a head");
                let line = |name: &HeaderName, value: &str| (name.clone(), value.to_owned());
                let lines = names.iter().zip(values).map(|(name, value)| line(name, value));
                let mut expected: Vec<_> = lines.collect();
                expected.extend([line(&AGE, ""), line(&CACHE_STATUS, "")]);
                let mut found: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| line(name, value.to_str().expect("text")))
                    .collect();
                let by_text = |(name, value): &(HeaderName, String)| format!("{name} {value}");
                expected.sort_by_key(by_text);
                found.sort_by_key(by_text);
                assert_eq!(found, expected);
            }
        }
        assert_eq!(read(&[AGE], false, &[""]), None);
        assert_eq!(read(&[CACHE_STATUS], false, &[""]), None);
        assert_eq!(read(&[header::ETAG, header::LINK], false, &["1"]), None, "a value is missing");
    }
}
