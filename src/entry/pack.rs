//! Copies of the values and the body of a response, packed into one buffer.
//!
//! An origin's values and chunks are mostly cut from the read buffer of a connection, and would keep
//! that alive as long as the entry.

use bytes::Bytes;
use http::HeaderValue;

/// Longest body, in bytes, that shares a buffer with the values of its head. Any slice of a buffer
/// keeps all of it alive, so a long body has one of its own.
const LONGEST_SHARED_BODY: usize = 16 * 1024;

/// Returns whether a body of `length` bytes shares a buffer with the values of its head.
pub(crate) fn lies_with_head(length: usize) -> bool {
    length <= LONGEST_SHARED_BODY
}

/// Copies values and the chunks of a body.
pub(super) fn pack<'v>(
    values: impl ExactSizeIterator<Item = &'v HeaderValue> + Clone,
    body: &[impl AsRef<[u8]>],
) -> (Box<[HeaderValue]>, Bytes) {
    let length = length(body);
    if !lies_with_head(length) {
        return (pack(values, &[] as &[Bytes]).0, exact_copy(body));
    }
    let text: usize = values.clone().map(HeaderValue::len).sum();
    let mut buffer = Vec::with_capacity(text + length);
    values.clone().for_each(|value| buffer.extend_from_slice(value.as_bytes()));
    body.iter().for_each(|chunk| buffer.extend_from_slice(chunk.as_ref()));
    let mut buffer = Bytes::from(buffer);
    let copies = values.map(|value| {
        let copy = HeaderValue::from_maybe_shared(buffer.split_to(value.len()));
        let mut copy = copy.expect("a copy of a valid value is valid");
        copy.set_sensitive(value.is_sensitive());
        copy
    });
    (copies.collect(), buffer)
}

/// Copies the chunks of a body into a buffer of exactly their length.
pub(crate) fn exact_copy(chunks: &[impl AsRef<[u8]>]) -> Bytes {
    let mut body = Vec::with_capacity(length(chunks));
    chunks.iter().for_each(|chunk| body.extend_from_slice(chunk.as_ref()));
    Bytes::from(body)
}

fn length(chunks: &[impl AsRef<[u8]>]) -> usize {
    chunks.iter().map(|chunk| chunk.as_ref().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(length: usize) -> (Box<[HeaderValue]>, Bytes) {
        let values = ["1", "", "longer"].map(HeaderValue::from_static);
        let body = Bytes::from(vec![b'x'; length]);
        let packed = pack(values.iter(), &[body.slice(..length / 2), body.slice(length / 2..)]);
        assert_eq!(*packed.0, values);
        assert_eq!(packed.1, body);
        packed
    }

    #[test]
    fn a_short_body_lies_behind_the_values_and_a_long_one_apart() {
        for length in [0, 1, LONGEST_SHARED_BODY, LONGEST_SHARED_BODY + 1] {
            let (values, body) = packed(length);
            let end = values[2].as_bytes().as_ptr_range().end;
            assert_eq!(end == body.as_ptr(), lies_with_head(length), "{length}");
        }
    }

    #[test]
    fn without_values_there_is_a_body_alone() {
        let (values, body) = pack([].iter(), &[Bytes::from_static(b"x")]);
        assert!(values.is_empty() && body == "x");
    }

    #[test]
    fn a_sensitive_value_stays_sensitive() {
        let mut values = ["1", "2"].map(HeaderValue::from_static);
        values[0].set_sensitive(true);
        let (copies, _) = pack(values.iter(), &[] as &[Bytes]);
        assert!(copies[0].is_sensitive() && !copies[1].is_sensitive());
    }
}
