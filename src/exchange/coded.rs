//! Coded forms: what a request asks for, and the fields of the response.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, IF_MATCH, IF_NONE_MATCH, RANGE,
        VARY,
    },
};

use super::rules::Rules;
use crate::{
    coding::{ContentCoding, add_suffix, is_suffixed, preferred, remove_suffixes},
    policy::{DIGESTS_OF_THE_WHOLE, Directives},
    route::EncodingRoute,
};

const PLAIN: HeaderValue = HeaderValue::from_static("identity");
const NAME: HeaderValue = HeaderValue::from_static("accept-encoding");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Coded forms that a read of a route with codings asks for. The extensions of its request have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodingAsked {
    /// Coding that it prefers; `None` for the plain form.
    pub(super) coding: Option<ContentCoding>,
    /// Coding of a form that the client has already.
    held: Option<ContentCoding>,
}

impl CodingAsked {
    /// Reads what a request asks for, and makes it one for the plain form, whose entity tags the origin knows.
    /// `None` for a request that does not read a route with codings.
    pub(super) fn take<Q>(rules: &Rules, request: &mut Request<Q>) -> Option<Self> {
        if !rules.table.encodes() {
            return None;
        }
        let route = rules.table.encoding(request.method(), request.uri().path())?;
        let fields = request.headers_mut();
        turn_back(fields, &IF_MATCH);
        let EncodingRoute::Read(rule) = route else {
            turn_back(fields, &IF_NONE_MATCH);
            return None;
        };
        // Parts are of the plain form, so `If-Range` with the tag of another one is left to fail. What a client asks
        // not to be changed is not (RFC 9111 §5.2.1.6).
        let is_plain = fields.contains_key(RANGE) || Directives::of(fields).no_transform;
        let coding = preferred(fields, &rule.codings.offered).filter(|_| !is_plain);
        let held = coding.filter(|coding| {
            fields.get_all(IF_NONE_MATCH).iter().any(|tags| is_suffixed(tags, *coding))
        });
        if held.is_some() {
            turn_back(fields, &IF_NONE_MATCH);
        }
        fields.insert(ACCEPT_ENCODING, PLAIN);
        let asked = Self { coding, held };
        request.extensions_mut().insert(asked);
        Some(asked)
    }

    /// Says in a response that others get other forms, and in a 304 which form the client has.
    pub(super) fn finish<B>(&self, response: &mut Response<B>) {
        let is_not_modified = response.status() == StatusCode::NOT_MODIFIED;
        let fields = response.headers_mut();
        if !varies_by_coding(fields) {
            // A map of fields that is full takes no more.
            let _ = fields.try_append(VARY, NAME);
        }
        if let Some(held) = self.held.filter(|_| is_not_modified) {
            tag(fields, held);
        }
    }
}

/// Describes the content of a response as it is in a coding.
pub(super) fn describe(fields: &mut HeaderMap, coding: ContentCoding, length: u64) {
    for name in DIGESTS_OF_THE_WHOLE.into_iter().chain([REPR_DIGEST]) {
        fields.remove(name);
    }
    fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    fields.insert(CONTENT_LENGTH, length.into());
}

/// Gives a response the entity tag of a coded form, if the plain one has any.
pub(super) fn tag(fields: &mut HeaderMap, coding: ContentCoding) {
    let plain = fields.get(ETAG).filter(|plain| !is_suffixed(plain, coding));
    match plain.map(|plain| add_suffix(plain, coding)) {
        Some(Some(coded)) => drop(fields.insert(ETAG, coded)),
        // A malformed one would be that of two forms.
        Some(None) => drop(fields.remove(ETAG)),
        None => {}
    }
}

fn varies_by_coding(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(VARY).into_iter().map(HeaderValue::as_bytes);
    let mut members =
        lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let name = NAME;
    members.any(|member| member == b"*" || member.eq_ignore_ascii_case(name.as_bytes()))
}

/// Gives the origin's own entity tags back where a client sends those of coded forms.
fn turn_back(fields: &mut HeaderMap, name: &HeaderName) {
    if let http::header::Entry::Occupied(mut lines) = fields.entry(name) {
        for line in lines.iter_mut() {
            if let Some(plain) = remove_suffixes(line) {
                *line = plain;
            }
        }
    }
}
