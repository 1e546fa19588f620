//! The names of a head's fields, as a record writes them: those that are common as one byte.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, AGE},
};

use crate::{
    entry::{CACHE_STATUS, StoredHead},
    key::seeded_hash,
};

/// Those that responses have most often first. A record of this version knows a name by its place
/// here, counted from one: what is added goes to the end, and nothing else ever changes.
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
    // What responses nominate.
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_CHARSET,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::USER_AGENT,
];

/// A name is its number here, or a zero, the length of its text, and that.
pub(super) fn push_name(bytes: &mut Vec<u8>, name: &HeaderName) {
    let place = NAMES.iter().position(|known| known == name);
    match place.and_then(|place| u8::try_from(place + 1).ok()) {
        Some(number) => bytes.push(number),
        None => {
            let text = name.as_str().as_bytes();
            // No name is longer.
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

/// Heads of late: the responses of a route mostly have the same fields, and copying a map takes half
/// of what making one does.
static SHAPES: [ArcSwapOption<Shape>; 64] = [const { ArcSwapOption::const_empty() }; 64];

/// The fields of longer names are made each time.
const LONGEST: usize = 512;

struct Shape {
    names: Box<[u8]>,
    has_inner_status: bool,
    fields: HeaderMap,
}

/// Makes fields without values of names, and with the slots where they belong.
pub(super) fn fields_of(names: &[u8], has_inner_status: bool) -> Option<HeaderMap> {
    if names.len() > LONGEST {
        return make(names, has_inner_status);
    }
    let place = &SHAPES[seeded_hash(names) as usize % SHAPES.len()];
    if let Some(shape) = &*place.load()
        && *shape.names == *names
        && shape.has_inner_status == has_inner_status
    {
        return Some(shape.fields.clone());
    }
    let fields = make(names, has_inner_status)?;
    let shape = Shape { names: names.into(), has_inner_status, fields: fields.clone() };
    place.store(Some(Arc::new(shape)));
    Some(fields)
}

fn make(mut names: &[u8], has_inner_status: bool) -> Option<HeaderMap> {
    StoredHead::with_slots(has_inner_status, |fields| {
        while !names.is_empty() {
            let name = take_name(&mut names)?;
            let is_slot = name == AGE || (name == CACHE_STATUS && !has_inner_status);
            if is_slot {
                return None;
            }
            fields.try_append(name, HeaderValue::from_static("")).ok()?;
        }
        Some(())
    })
}

#[cfg(all(test, not(shuttle)))]
mod tests {
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

    #[test]
    fn fields_are_those_of_the_names_however_often_they_are_made() {
        let own = HeaderName::from_static("x-own");
        for _ in 0..3 {
            for (names, has_inner_status) in [
                (&[header::ETAG, own.clone()][..], false),
                (&[header::ETAG, own.clone()], true),
                (&[header::LINK, header::LINK, header::ETAG], false),
                (&[CACHE_STATUS, header::ETAG], true),
                (&[], false),
            ] {
                let fields = fields_of(&written(names), has_inner_status).expect("names");
                let mut expected: Vec<_> = [AGE].into_iter().chain(names.iter().cloned()).collect();
                expected.insert(1, CACHE_STATUS);
                expected.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                let mut found: Vec<_> = fields.iter().map(|(name, _)| name.clone()).collect();
                found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                assert_eq!(found, expected);
            }
        }
        assert_eq!(fields_of(&written(&[AGE]), false), None);
        assert_eq!(fields_of(&written(&[CACHE_STATUS]), false), None);
    }
}
