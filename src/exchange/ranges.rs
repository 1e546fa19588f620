//! Answering with parts of a stored response (RFC 9110 §15.3.7, §15.5.17).

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, VARY},
};
use http_body::Body;

use crate::{
    body::ResponseBody,
    entry::CACHE_STATUS,
    key::seeded_hash,
    policy::{DIGESTS_OF_THE_WHOLE, RangeAsked, Selected},
};

/// Fields that a 416 keeps.
const OF_ANY_ANSWER: [HeaderName; 4] = [AGE, CACHE_STATUS, DATE, VARY];

/// Turns a stored 200 into the 206 or 416 for a Range request. `body` is the whole.
pub(super) fn shorten_to_parts<B: Body>(
    response: &mut Response<ResponseBody<B>>,
    body: &Bytes,
    asked: &RangeAsked,
) {
    let whole = body.len();
    if response.status() != StatusCode::OK || response.headers().contains_key(CONTENT_RANGE) {
        return;
    }
    let ranges = match asked.select(response.headers(), whole) {
        Selected::Whole => return,
        Selected::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            // Fields of the whole do not describe a 416, above all not its freshness.
            let fields = std::mem::take(response.headers_mut());
            for (name, line) in fields.iter().filter(|(name, _)| OF_ANY_ANSWER.contains(name)) {
                response.headers_mut().append(name, line.clone());
            }
            response.headers_mut().insert(CONTENT_RANGE, value(format!("bytes */{whole}")));
            *response.body_mut() = ResponseBody::empty();
            return;
        }
        Selected::Parts(ranges) => ranges,
    };
    let fields = response.headers_mut();
    let content = match &ranges[..] {
        [range] => {
            fields.insert(CONTENT_RANGE, value(content_range(range, whole)));
            body.slice(range.clone())
        }
        ranges => {
            let boundary = boundary(body);
            let own = value(format!("multipart/byteranges; boundary={boundary}"));
            let media_type = fields.insert(CONTENT_TYPE, own);
            parts(ranges, body, media_type.as_ref(), &boundary)
        }
    };
    for name in &DIGESTS_OF_THE_WHOLE {
        fields.remove(name);
    }
    fields.insert(CONTENT_LENGTH, content.len().into());
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.body_mut() = ResponseBody::stored(content);
}

fn content_range(range: &Range<usize>, whole: usize) -> String {
    format!("bytes {}-{}/{whole}", range.start, range.end - 1)
}

/// Writes several parts (RFC 9110 §14.6).
fn parts(
    ranges: &[Range<usize>],
    body: &Bytes,
    media_type: Option<&HeaderValue>,
    boundary: &str,
) -> Bytes {
    let mut content = BytesMut::new();
    for range in ranges {
        content.put_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(media_type) = media_type {
            content.put_slice(b"Content-Type: ");
            content.put_slice(media_type.as_bytes());
            content.put_slice(b"\r\n");
        }
        let line = format!("Content-Range: {}\r\n\r\n", content_range(range, body.len()));
        content.put_slice(line.as_bytes());
        content.put_slice(&body[range.clone()]);
        content.put_slice(b"\r\n");
    }
    content.put_slice(format!("--{boundary}--\r\n").as_bytes());
    content.freeze()
}

/// Returns a boundary that the author of the body cannot predict: it depends on a secret seed.
fn boundary(body: &Bytes) -> String {
    let half = |salt: u8| seeded_hash((salt, &body[..]));
    format!("{:016x}{:016x}", half(0), half(1))
}

/// Makes a field value. Only valid text is passed, so the fallback is never taken.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes"))
}
