//! Digests of responses, and of the fields of requests.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_RANGE, PRAGMA, RANGE, TE, UPGRADE,
    },
};

use super::comparison::{Difference, compared_names};
use crate::{entry::Head, key::seeded_hash};

/// Number of fields of a request that are kept.
const MAX_FIELDS: usize = 64;

/// Request fields by which a handler does not choose its response, or that the cache has seen to.
const NO_SUSPECTS: [HeaderName; 11] = [
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    PRAGMA,
    RANGE,
    TE,
    UPGRADE,
];

/// Digest of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseDigest {
    status: StatusCode,
    fields: FieldDigests,
    body: blake3::Hash,
}

/// Digests of fields, by name: of the lines of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldDigests(Vec<(HeaderName, u64)>);

impl ResponseDigest {
    /// Digests a response. Fields in `stripped` do not count.
    pub(crate) fn new(
        status: StatusCode,
        fields: &HeaderMap,
        stripped: &[HeaderName],
        body: blake3::Hash,
    ) -> Self {
        let names: Vec<_> = compared_names(fields, stripped).collect();
        Self { status, fields: FieldDigests::new(fields, names), body }
    }

    /// Digests a stored response.
    pub(crate) fn of_stored(head: &Head, body: &Bytes, stripped: &[HeaderName]) -> Self {
        Self::new(head.status, &head.stored(), stripped, blake3::hash(body))
    }

    /// Returns a part in which it differs from another.
    pub(crate) fn difference(&self, other: &Self) -> Option<Difference> {
        if self.status != other.status {
            return Some(Difference::Status);
        }
        // A field is named first: it can be stripped.
        let field = self.fields.differing(&other.fields).into_iter().next();
        let body = (self.body != other.body).then_some(Difference::Body);
        field.map(Difference::Field).or(body)
    }
}

impl FieldDigests {
    /// Digests the fields of a request that may be suspects.
    pub(crate) fn of_request(fields: &HeaderMap) -> Self {
        let names = fields.keys().filter(|name| !NO_SUSPECTS.contains(name)).take(MAX_FIELDS);
        Self::new(fields, names.collect())
    }

    fn new(fields: &HeaderMap, mut names: Vec<&HeaderName>) -> Self {
        names.sort_by_key(|name| name.as_str());
        let digest = |name: &HeaderName| {
            let lines: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            seeded_hash(lines)
        };
        Self(names.into_iter().map(|name| (name.clone(), digest(name))).collect())
    }

    /// Returns the names of the fields that differ, or that one of the two alone has.
    pub(crate) fn differing(&self, other: &Self) -> Vec<HeaderName> {
        let is_in = |of: &Self, one: &(HeaderName, u64)| of.0.contains(one);
        let own = self.0.iter().filter(|one| !is_in(other, one));
        let others = other.0.iter().filter(|one| !is_in(self, one));
        let mut names: Vec<_> = own.chain(others).map(|(name, _)| name.clone()).collect();
        names.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        names.dedup();
        names
    }
}
