//! Stored fields: a shape that many responses share, and the values of each.
//!
//! The responses of one route mostly have the same field names. A [`Shape`] holds these once, as a
//! map; each response holds its values, in one buffer. A hit clones the map and puts the values in.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::AGE};
use smallvec::SmallVec;

use super::{
    hop_by_hop::{HopByHop, is_momentary},
    pack::pack,
    weight::{PER_FIELD, PER_TEXT, name_weight},
};
use crate::sync::{Mutex, lock};

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// Number of field names above which a head is not stored: a map of fields holds at most 24,576, and
/// two are added.
pub(crate) const MAX_FIELD_NAMES: usize = 4096;

/// Number of shapes that a cache shares, and the weight that each may have. Their product bounds the
/// memory of shapes whose owner is gone: no entry is charged for them.
const MAX_SHAPES: usize = 8;
const MAX_SHAPE_WEIGHT: usize = 16 * 1024;

/// Number of lines that are collected without an allocation.
const FEW: usize = 16;

/// The fields of a stored response.
#[derive(Clone, Debug)]
pub(crate) struct StoredFields {
    shape: Arc<Shape>,
    /// Charge for the shape: it is part of the weight of the first entry that has it.
    owns_shape: bool,
    /// One value for each name of the shape.
    values: Box<[HeaderValue]>,
}

/// The names of a response's fields, with a slot for each field that a reuse sets.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The slots and names with empty values. The slot for `Age` comes first. The slot for
    /// `Cache-Status` is second, or the last line of that field where an inner cache has set it too.
    lines: HeaderMap,
    names: Box<[HeaderName]>,
    status_slot: usize,
    weight: usize,
}

/// The shapes that responses of a route share.
#[derive(Debug, Default)]
pub(crate) struct ShapeCache {
    shapes: Mutex<Vec<Arc<Shape>>>,
}

// ===== impl StoredFields =====

impl StoredFields {
    /// Copies the fields that may be stored, and a body with them. Fields named in `stripped` are
    /// left out.
    pub(super) fn copy(
        origin: &HeaderMap,
        stripped: &[HeaderName],
        shapes: &ShapeCache,
        body: &[impl AsRef<[u8]>],
    ) -> (Self, Bytes) {
        let mut lines: SmallVec<[_; FEW]> = origin.iter().collect();
        // A shape has no name that may not be stored, so nor has a response with the same names.
        let is_whole = !stripped.iter().any(|name| origin.contains_key(name));
        let known = is_whole.then(|| shapes.find(&lines.iter().map(|(name, _)| *name))).flatten();
        let fields = known.or_else(|| {
            let hop_by_hop = HopByHop::of(origin);
            let is_stored = |name: &HeaderName| {
                *name != AGE
                    && !stripped.contains(name)
                    && !hop_by_hop.contains(name)
                    && !is_momentary(name)
            };
            lines.retain(|(name, _)| is_stored(name));
            shapes.find_or_share(lines.iter().map(|(name, _)| *name))
        });
        let fields =
            fields.expect("responses with more fields than a map holds are refused before");
        let (values, body) = pack(lines.iter().map(|(_, value)| *value), body);
        (Self { values, ..fields }, body)
    }

    /// Returns the fields with one more; `None` if they are more than a map holds.
    pub(super) fn with(
        &self,
        name: &HeaderName,
        value: HeaderValue,
        shapes: &ShapeCache,
    ) -> Option<Self> {
        let values = self.values.iter().cloned().chain([value]).collect();
        shapes.find_or_share(self.shape.names.iter().chain([name]))?.with_values(values)
    }

    /// Returns the fields with other values; `None` if there is not one for each name.
    pub(crate) fn with_values(self, values: Vec<HeaderValue>) -> Option<Self> {
        let values = values.into_boxed_slice();
        (self.shape.names.len() == values.len()).then_some(Self { values, ..self })
    }

    /// Writes the fields into `fields`, with the two slots filled.
    #[inline]
    pub(super) fn write(&self, fields: &mut HeaderMap, age: HeaderValue, status: HeaderValue) {
        *fields = self.shape.lines.clone();
        // The slot for `Age` is before all values.
        let (before, after) = self.values.split_at(self.shape.status_slot - 1);
        let mut lines = fields.values_mut();
        if let Some(line) = lines.next() {
            *line = age;
        }
        // Values come first in the pairs: a line is taken only for one.
        for (value, line) in before.iter().zip(lines.by_ref()) {
            *line = value.clone();
        }
        if let Some(line) = lines.next() {
            *line = status;
        }
        for (value, line) in after.iter().zip(lines) {
            *line = value.clone();
        }
    }

    /// Returns the fields as a map with empty slots.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        self.write(&mut fields, EMPTY, EMPTY);
        fields
    }

    /// Returns the fields without the slots.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.shape.names.iter().zip(&self.values)
    }

    /// Returns whether an inner cache has set `Cache-Status`.
    #[cfg(feature = "redis")]
    pub(crate) fn has_inner_status(&self) -> bool {
        self.shape.status_slot > 1
    }

    /// Returns the bytes that an entry is charged for them.
    pub(super) fn weight(&self) -> usize {
        let text: usize = self.values.iter().map(HeaderValue::len).sum();
        let list = size_of_val(&*self.values);
        let rest = if self.values.is_empty() { 0 } else { PER_TEXT };
        let shape = if self.owns_shape { self.shape.weight } else { 0 };
        text + list + rest + shape
    }
}

// ===== impl Shape =====

impl Shape {
    /// Creates the shape of these names. `None` if there are more names than a map holds.
    fn new<'n>(names: impl Iterator<Item = &'n HeaderName> + Clone) -> Option<Self> {
        let stored: Box<[HeaderName]> = names.clone().cloned().collect();
        let has_inner_status = names.clone().any(|name| *name == CACHE_STATUS);
        let mut lines = HeaderMap::new();
        lines.append(AGE, EMPTY);
        if !has_inner_status {
            lines.append(CACHE_STATUS, EMPTY);
        }
        for name in names {
            lines.try_append(name, EMPTY).ok()?;
        }
        if has_inner_status {
            lines.try_append(CACHE_STATUS, EMPTY).ok()?;
        }
        let statuses = lines.iter().enumerate().filter(|(_, (name, _))| **name == CACHE_STATUS);
        let status_slot = statuses.last().map_or(0, |(place, _)| place);
        let text: usize = lines.keys().map(name_weight).sum();
        let weight = size_of::<Self>() + lines.len() * PER_FIELD + size_of_val(&*stored) + text;
        // Cloned because a clone has no capacity to spare.
        Some(Self { lines: lines.clone(), names: stored, status_slot, weight })
    }
}

// ===== impl ShapeCache =====

impl ShapeCache {
    /// Returns fields with these names and no values yet, if their shape is shared.
    fn find<'n>(
        &self,
        names: &(impl Iterator<Item = &'n HeaderName> + Clone),
    ) -> Option<StoredFields> {
        let mut shapes = lock(&self.shapes);
        let place = shapes.iter().position(|shape| shape.names.iter().eq(names.clone()))?;
        shapes.swap(0, place);
        let shape = Arc::clone(&shapes[0]);
        Some(StoredFields { shape, owns_shape: false, values: Box::default() })
    }

    /// Returns fields with these names and no values yet, and shares their shape if there is room.
    /// `None` if there are more names than a map holds.
    pub(crate) fn find_or_share<'n>(
        &self,
        names: impl Iterator<Item = &'n HeaderName> + Clone,
    ) -> Option<StoredFields> {
        self.find(&names).or_else(|| {
            let shape = Arc::new(Shape::new(names)?);
            self.share(&shape);
            Some(StoredFields { shape, owns_shape: true, values: Box::default() })
        })
    }

    fn share(&self, shape: &Arc<Shape>) {
        let mut shapes = lock(&self.shapes);
        if shapes.len() == MAX_SHAPES {
            // A shape that entries still have stays, or their number would bound nothing.
            shapes.retain(|shape| Arc::strong_count(shape) > 1);
        }
        if shapes.len() < MAX_SHAPES && shape.weight <= MAX_SHAPE_WEIGHT {
            shapes.push(Arc::clone(shape));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::random::for_all;

    type Lines = [(&'static str, &'static str)];

    const NONE: &[Bytes] = &[];

    const STRIPPED: [HeaderName; 1] = [HeaderName::from_static("x-request-id")];

    fn fields(lines: &Lines) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    fn copy(shapes: &ShapeCache, fields: &HeaderMap) -> StoredFields {
        StoredFields::copy(fields, &STRIPPED, shapes, NONE).0
    }

    /// Returns the lines of a reuse, by the rules for each field.
    fn expected(fields: &HeaderMap) -> HeaderMap {
        let hop_by_hop = HopByHop::of(fields);
        let mut lines = HeaderMap::new();
        for (name, value) in fields {
            if !hop_by_hop.contains(name) && *name != STRIPPED[0] {
                lines.append(name, value.clone());
            }
        }
        lines.insert(AGE, HeaderValue::from_static("7"));
        lines.append(CACHE_STATUS, HeaderValue::from_static("ours"));
        lines
    }

    /// Asserts that every response comes back as it was, whatever came before.
    #[track_caller]
    fn check(pages: &[&Lines]) {
        let shapes = ShapeCache::default();
        for page in pages {
            let mut map = HeaderMap::new();
            let [age, status] = ["7", "ours"].map(HeaderValue::from_static);
            let page = fields(page);
            copy(&shapes, &page).write(&mut map, age, status);
            // Equal maps have the same lines of each field, in the same order.
            assert_eq!(map, expected(&page));
            let order = |map: &HeaderMap| {
                let names = map.keys().filter(|name| ![AGE, CACHE_STATUS].contains(name));
                names.cloned().collect::<Vec<_>>()
            };
            assert_eq!(order(&map), order(&expected(&page)));
        }
    }

    #[test]
    fn the_values_are_of_each_response() {
        let page = [("etag", "1"), ("link", "a"), ("link", "b"), ("x-name", "")];
        let other = [("etag", "longer"), ("link", ""), ("link", "c"), ("x-name", "3")];
        check(&[&page, &other, &page]);
    }

    #[test]
    fn responses_with_the_same_names_share_a_shape() {
        let shapes = ShapeCache::default();
        let one = copy(&shapes, &fields(&[("etag", "1"), ("vary", "a")]));
        let odd = copy(&shapes, &fields(&[("etag", "1")]));
        let other = copy(&shapes, &fields(&[("etag", "2"), ("vary", "b"), ("x-request-id", "1")]));
        assert!(Arc::ptr_eq(&one.shape, &other.shape) && !Arc::ptr_eq(&one.shape, &odd.shape));
    }

    #[test]
    fn what_is_sensitive_stays_so() {
        let shapes = ShapeCache::default();
        let mut page = fields(&[("etag", "1"), ("link", "1")]);
        page.get_mut("etag").unwrap().set_sensitive(true);
        for _ in 0..2 {
            let map = copy(&shapes, &page).to_map();
            assert!(map["etag"].is_sensitive() && !map["link"].is_sensitive());
        }
    }

    #[test]
    fn other_names_are_another_shape() {
        check(&[
            &[("etag", "1")],
            &[("vary", "1")],
            &[("etag", "1"), ("etag", "2")],
            &[("etag", "1"), ("link", "2")],
            &[("link", "2"), ("etag", "1")],
            &[("link", "1"), ("link", "2")],
            &[("link", "1"), ("etag", "2")],
            &[],
            &[("etag", "1")],
        ]);
    }

    #[test]
    fn what_may_not_be_stored_is_left_out_each_time() {
        let pages = [
            &[("etag", "1"), ("connection", "x-hop"), ("x-hop", "1")][..],
            &[("etag", "1"), ("x-hop", "1")],
            &[("connection", "x-hop"), ("x-hop", "1")],
            &[("etag", "1"), ("x-request-id", "1")],
            &[("etag", "1"), ("age", "1")],
            &[("etag", "1"), ("cache-status", "inner; hit")],
            &[("cache-status", "inner; hit"), ("etag", "1"), ("cache-status", "other; hit")],
            &[("cache-status", "inner; hit")],
            &[("etag", "1"), ("keep-alive", "1")],
        ];
        for page in pages {
            check(&[page, page]);
            check(&[&[("etag", "1")], page, &[("etag", "1")]]);
        }
        check(&pages);
        // As many lines, and the same names behind the first two.
        check(&[
            &[("x-user", "alice"), ("etag", "1"), ("cache-status", "inner; hit")],
            &[("etag", "2"), ("cache-status", "shield; hit"), ("cache-status", "inner; hit")],
        ]);
        let shapes = ShapeCache::default();
        let page = fields(&[("etag", "1"), ("x-secret", "1")]);
        let lines = |stripped: &[HeaderName]| {
            StoredFields::copy(&page, stripped, &shapes, NONE).0.to_map().len()
        };
        assert_eq!(lines(&[]), 4);
        assert_eq!(lines(&[HeaderName::from_static("x-secret")]), 3);
    }

    #[test]
    fn whatever_responses_of_a_route_have_each_comes_back_as_it_was() {
        const NAMES: [&str; 6] =
            ["etag", "link", "x-own", "cache-status", "x-request-id", "keep-alive"];
        const VALUES: [&str; 4] = ["same", "", "other", "third"];
        for_all(|random| {
            let kinds = random.vec(1..6, |random| random.vec(0..5, |random| random.pick(&NAMES)));
            let pages = random.vec(1..60, |random| {
                let names = random.pick(&kinds).into_iter();
                names.map(|name| (name, random.pick(&VALUES))).collect::<Vec<_>>()
            });
            check(&pages.iter().map(|page| &page[..]).collect::<Vec<_>>());
        });
    }

    #[test]
    fn an_inner_status_that_is_not_stored_leaves_no_place() {
        for (lines, stripped) in [
            (&[("cache-status", "inner; hit"), ("etag", "1")][..], &[CACHE_STATUS][..]),
            (&[("connection", "cache-status"), ("cache-status", "inner"), ("etag", "1")], &[]),
        ] {
            let shapes = ShapeCache::default();
            let map = StoredFields::copy(&fields(lines), stripped, &shapes, NONE).0.to_map();
            let names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["age", "cache-status", "etag"]);
        }
    }

    #[test]
    fn a_shape_is_charged_to_the_first_response_and_to_each_where_there_are_too_many() {
        let shapes = ShapeCache::default();
        let twice = |name: &str| {
            let mut page = fields(&[("etag", "1"), ("x-own-name", "22")]);
            page.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("3"));
            [(); 2].map(|()| copy(&shapes, &page))
        };
        let own = 4 + 3 * size_of::<HeaderValue>() + PER_TEXT;
        let alive: Vec<_> = (0..2 * MAX_SHAPES).map(|n| twice(&format!("x-name-{n}"))).collect();
        for (n, [first, second]) in alive.iter().enumerate() {
            assert!(first.weight() > own + 5 * PER_FIELD, "{n}");
            let expected = if n < MAX_SHAPES { own } else { first.weight() };
            assert_eq!(second.weight(), expected, "{n}");
        }
        // A shape that no response has any more makes room.
        drop(alive);
        assert_eq!(twice("x-later-name")[1].weight(), own);
    }

    #[test]
    fn a_shape_that_is_too_heavy_is_not_shared() {
        let mut page = HeaderMap::new();
        for n in 0..MAX_SHAPE_WEIGHT / PER_FIELD {
            let name = HeaderName::try_from(format!("x-name-{n}")).unwrap();
            page.append(name, HeaderValue::from_static("1"));
        }
        let shapes = ShapeCache::default();
        for fields in [(); 2].map(|()| copy(&shapes, &page)) {
            assert!(fields.weight() > MAX_SHAPE_WEIGHT);
            assert!(fields.to_map().iter().skip(2).eq(&page));
        }
    }

    #[test]
    fn no_response_waits_while_another_is_copied() {
        /// A chunk that is read only while nothing holds the lock.
        struct Chunk<'s>(&'s ShapeCache);
        impl AsRef<[u8]> for Chunk<'_> {
            fn as_ref(&self) -> &[u8] {
                assert!(self.0.shapes.try_lock().is_ok());
                b"chunk"
            }
        }
        let shapes = ShapeCache::default();
        // A new shape, and a known one.
        for _ in 0..2 {
            let page = fields(&[("etag", "1")]);
            assert_eq!(StoredFields::copy(&page, &[], &shapes, &[Chunk(&shapes)]).1, "chunk");
        }
    }
}
