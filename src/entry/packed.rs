//! What is stored of a response is copied: a value or a chunk is mostly cut from a connection's read
//! buffer, and would keep that alive as long as the entry.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use smallvec::SmallVec;

use super::fields::{EMPTY, Own, Value};

/// A body of at most so many bytes lies behind its head's values, in one buffer with one count. A longer
/// one would be kept alive by whoever keeps a value.
const TOGETHER: usize = 16 * 1024;

/// So many values are gone through without an allocation.
const FEW: usize = 8;

/// Whether a body of so many bytes lies with the values of its head.
pub(crate) fn lies_with_head(length: usize) -> bool {
    length <= TOGETHER
}

/// Copies values, and a body from its chunks.
pub(super) fn pack<'v>(
    values: impl Iterator<Item = Value<'v>>,
    body: &[impl AsRef<[u8]>],
) -> (Own, Bytes) {
    let length = length(body);
    if !lies_with_head(length) {
        return (pack(values, &[] as &[Bytes]).0, exact_copy(body));
    }
    let values: SmallVec<[Value<'v>; FEW]> = values.collect();
    let text = values.iter().map(|value| value.bytes.len()).sum::<usize>();
    let mut buffer = BytesMut::with_capacity(text + length);
    values.iter().for_each(|value| buffer.extend_from_slice(value.bytes));
    body.iter().for_each(|chunk| buffer.extend_from_slice(chunk.as_ref()));
    let mut buffer = buffer.freeze();
    let mut own = Own::with_capacity(values.len());
    for value in values {
        // The bytes were a field value before; a copy of them is one.
        let copy = HeaderValue::from_maybe_shared(buffer.split_to(value.bytes.len()));
        let mut copy = copy.unwrap_or(EMPTY);
        copy.set_sensitive(value.is_sensitive);
        own.push(copy);
    }
    (own, buffer)
}

/// Copies a body into a buffer of its own size.
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

    fn packed(length: usize) -> (Own, Bytes) {
        let values =
            ["1", "", "longer"].map(|text| Value { bytes: text.as_bytes(), is_sensitive: false });
        let body = Bytes::from(vec![b'x'; length]);
        let packed =
            pack(values.into_iter(), &[body.slice(..length / 2), body.slice(length / 2..)]);
        assert_eq!(*packed.0, ["1", "", "longer"]);
        assert_eq!(packed.1, body);
        packed
    }

    #[test]
    fn a_short_body_lies_behind_the_values_and_a_long_one_apart() {
        for length in [0, 1, TOGETHER, TOGETHER + 1] {
            let (values, body) = packed(length);
            let end = values[2].as_bytes().as_ptr_range().end;
            assert_eq!(end == body.as_ptr(), lies_with_head(length), "{length}");
        }
    }

    #[test]
    fn without_values_there_is_a_body_alone() {
        let (values, body) = pack([].into_iter(), &[Bytes::from_static(b"x")]);
        assert!(values.is_empty() && body == "x");
    }
}
