//! Entity tags (RFC 9110 §8.8.3).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG, LAST_MODIFIED},
};

use super::field_line::single;

/// Entity tag that is well formed. A malformed one matches nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntityTag<'a> {
    is_weak: bool,
    /// Opaque tag without its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Returns the tag of a response.
    pub(super) fn of(response: &'a HeaderMap) -> Option<Self> {
        Self::parse(single(response, &ETAG)?.as_bytes())
    }

    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::split(text)?;
        rest.is_empty().then_some(tag)
    }

    /// Splits off the tag that `text` begins with.
    pub(super) fn split(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let weak = text.strip_prefix(b"W/");
        let inside = weak.unwrap_or(text).strip_prefix(b"\"")?;
        let end = inside.iter().position(|byte| !is_etagc(*byte))?;
        let rest = inside[end..].strip_prefix(b"\"")?;
        Some((Self { is_weak: weak.is_some(), opaque: &inside[..end] }, rest))
    }

    pub(super) fn is_weak(self) -> bool {
        self.is_weak
    }

    /// Compares strongly (RFC 9110 §8.8.3.2).
    pub(super) fn is_exactly(self, other: Self) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// Compares weakly (RFC 9110 §8.8.3.2).
    pub(super) fn is_like(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

/// Makes an entity tag of the content of a response that has no validator. Equal content has the same tag in
/// every process. It is weak: what a layer further out does to the content is not known here.
pub(crate) fn made_entity_tag(response: &HeaderMap, content: &[Bytes]) -> Option<HeaderValue> {
    if response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED) {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        for line in response.get_all(name) {
            hasher.update(line.as_bytes()).update(b"\n");
        }
        hasher.update(b"\n");
    }
    for chunk in content {
        hasher.update(chunk);
    }
    let digest = hasher.finalize().to_hex();
    HeaderValue::try_from(format!("W/\"{}\"", &digest[..32])).ok()
}

fn is_etagc(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}
