//! The fields of a response as they are stored.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header::AGE};

use super::CACHE_STATUS;
use crate::{
    hops::Hops,
    sync::{Mutex, lock},
};

/// How many slots the stored fields begin with, where no inner cache has its say.
const SLOTS: usize = 2;

/// The names of the fields that a response of a route had: the next one mostly has the same, and is
/// then copied without asking of each name whether it may be stored.
#[derive(Debug, Default)]
pub(crate) struct Mould {
    /// The slots and the names, without values.
    made: Mutex<Option<Arc<HeaderMap>>>,
}

impl Mould {
    /// Copies the fields that may be stored. `stripped` is mostly the same for all responses.
    ///
    /// Returns also whether an inner cache has its say among them.
    pub(super) fn cast(&self, origin: &HeaderMap, stripped: &[HeaderName]) -> (HeaderMap, bool) {
        let made = lock(&self.made).clone();
        if let Some(made) = made.filter(|made| fits(made, origin, stripped)) {
            let mut fields = HeaderMap::clone(&made);
            pack(fields.values_mut().skip(SLOTS), origin);
            return (fields, false);
        }
        let (fields, has_inner_status) = storable(origin, stripped);
        // With an inner cache's say the slots are not where they are filled here.
        let is_usual = !has_inner_status;
        *lock(&self.made) = is_usual.then(|| {
            let mut made = fields.clone();
            made.values_mut().for_each(|value| *value = EMPTY);
            Arc::new(made)
        });
        (fields, has_inner_status)
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// Whether a response has the fields that were stored of another, no more and no fewer. None of these
/// is of the connection then: nothing that names such fields is among them.
fn fits(made: &HeaderMap, origin: &HeaderMap, stripped: &[HeaderName]) -> bool {
    made.len() == origin.len() + SLOTS
        && made.iter().skip(SLOTS).map(|(name, _)| name).eq(origin.iter().map(|(name, _)| name))
        && !stripped.iter().any(|name| origin.contains_key(name))
}

/// Copies the fields that may be stored, after the slots that [`Head::fields`](super::Head::fields)
/// fills.
fn storable(origin: &HeaderMap, stripped: &[HeaderName]) -> (HeaderMap, bool) {
    let hops = Hops::of(origin);
    let is_kept =
        |name: &HeaderName| *name != AGE && !stripped.contains(name) && !hops.contain(name);
    let has_inner_status = origin.keys().any(|name| *name == CACHE_STATUS && is_kept(name));
    let mut fields = HeaderMap::with_capacity(origin.keys_len() + SLOTS);
    fields.append(AGE, EMPTY);
    if !has_inner_status {
        fields.append(CACHE_STATUS, EMPTY);
    }
    for (name, value) in origin {
        if is_kept(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    if has_inner_status {
        fields.append(CACHE_STATUS, EMPTY);
    }
    // A clone's capacity is its length: what is stored is no larger than what is weighed.
    let mut copy = fields.clone();
    pack(copy.values_mut(), &fields);
    (copy, has_inner_status)
}

/// Copies values into one allocation: a value cut from a connection's read buffer would otherwise
/// keep that buffer alive as long as the entry.
fn pack<'a>(places: impl Iterator<Item = &'a mut HeaderValue>, fields: &HeaderMap) {
    let mut text = BytesMut::with_capacity(fields.values().map(HeaderValue::len).sum());
    fields.values().for_each(|value| text.extend_from_slice(value.as_bytes()));
    let mut text = text.freeze();
    for (place, value) in places.zip(fields.values()) {
        let bytes = text.split_to(value.len());
        // The bytes were a field value before; a copy of them is one.
        let mut copy = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone());
        copy.set_sensitive(value.is_sensitive());
        *place = copy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    /// What is cast after `first` is what would be copied.
    #[track_caller]
    fn check(first: &[(&'static str, &'static str)], second: &[(&'static str, &'static str)]) {
        let (mould, stripped) = (Mould::default(), [HeaderName::from_static("x-request-id")]);
        mould.cast(&fields(first), &stripped);
        let second = fields(second);
        let (cast, copied) = (mould.cast(&second, &stripped), storable(&second, &stripped));
        assert!(cast.0.iter().eq(copied.0.iter()), "{cast:?}\n{copied:?}");
        assert_eq!(cast.1, copied.1);
    }

    #[test]
    fn the_values_are_of_each_response() {
        let page = [("etag", "1"), ("link", "a"), ("link", "b"), ("x-name", "")];
        check(&page, &[("etag", "longer"), ("link", ""), ("link", "c"), ("x-name", "3")]);
        let mould = Mould::default();
        mould.cast(&fields(&page), &[]);
        let mut second = fields(&page);
        second.get_mut("etag").unwrap().set_sensitive(true);
        let (cast, _) = mould.cast(&second, &[]);
        assert!(cast["etag"].is_sensitive() && !cast["link"].is_sensitive());
        assert_eq!(cast["etag"], "1");
    }

    #[test]
    fn other_names_are_copied_by_themselves() {
        check(&[("etag", "1")], &[("vary", "1")]);
        check(&[("etag", "1")], &[("etag", "1"), ("etag", "2")]);
        check(&[("etag", "1"), ("link", "2")], &[("link", "2"), ("etag", "1")]);
        check(&[("link", "1"), ("link", "2")], &[("link", "1"), ("etag", "2")]);
        check(&[("etag", "1")], &[]);
        check(&[], &[("etag", "1")]);
    }

    #[test]
    fn what_may_not_be_stored_is_left_out_each_time() {
        for page in [
            &[("etag", "1"), ("connection", "x-hop"), ("x-hop", "1")][..],
            &[("etag", "1"), ("x-request-id", "1")],
            &[("etag", "1"), ("age", "1")],
            &[("etag", "1"), ("cache-status", "inner; hit")],
            &[("cache-status", "inner; hit")],
            &[("etag", "1"), ("keep-alive", "1")],
        ] {
            check(page, page);
            check(&[("etag", "1")], page);
            check(page, &[("etag", "1")]);
        }
        // One response has said what the next does not.
        check(&[("etag", "1"), ("x-hop", "1")], &[("connection", "x-hop"), ("x-hop", "1")]);
        let mould = Mould::default();
        let page = fields(&[("etag", "1"), ("x-secret", "1")]);
        assert_eq!(mould.cast(&page, &[]).0.len(), 4);
        assert_eq!(mould.cast(&page, &[HeaderName::from_static("x-secret")]).0.len(), 3);
    }

    #[test]
    fn the_slots_are_where_they_are_filled_whatever_becomes_of_an_inner_status() {
        for (lines, stripped) in [
            (&[("cache-status", "inner; hit"), ("etag", "1")][..], &[CACHE_STATUS][..]),
            (&[("connection", "cache-status"), ("cache-status", "inner"), ("etag", "1")], &[]),
        ] {
            let (fields, has_inner_status) = Mould::default().cast(&fields(lines), stripped);
            assert!(!has_inner_status);
            let names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["age", "cache-status", "etag"]);
        }
    }
}
