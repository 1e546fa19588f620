//! Variants: what identifies a stored response.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use smallvec::SmallVec;

use super::hash::seeded_hash;

/// Everything that a stored response was made for. Equal variants mean that one response answers
/// both requests.
///
/// Two requests have equal variants only if they agree in scheme, authority or `Host`, target,
/// nominated fields, and caller where the route asks for one.
///
/// ```
/// use tower_support_cache::store::Variant;
///
/// /// A file name for the entry of a variant: its encoding is injective, and private to the caller.
/// fn file_name(variant: &Variant, digest: impl Fn(&[u8]) -> u128) -> String {
///     format!("{:032x}.entry", digest(variant.as_bytes()))
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Variant {
    /// The lengths of all parts, and then the parts.
    bytes: Arc<[u8]>,
    hash: u64,
}

/// A [`Variant`] borrowed from the request that is being answered.
///
/// It finds what is stored for an equal variant, without an allocation:
///
/// ```
/// use tower_support_cache::store::{Variant, VariantRef};
///
/// struct Places(Vec<(Variant, u64)>);
///
/// impl Places {
///     fn find(&self, variant: VariantRef<'_>) -> Option<u64> {
///         let place = self.0.iter().find(|(known, _)| known.borrowed() == variant);
///         place.map(|(_, place)| *place)
///     }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct VariantRef<'a> {
    bytes: &'a [u8],
    hash: u64,
}

/// The parts of a variant, in the order in which they are encoded.
#[derive(Clone, Copy)]
pub(crate) struct VariantParts<'a> {
    pub(crate) scope: &'a [u8],
    pub(crate) scheme: &'a [u8],
    /// Authority of the target, or else the value of `Host`.
    pub(crate) authority: &'a [u8],
    /// Value of a `Host` that differs from the authority.
    pub(crate) host: &'a [u8],
    pub(crate) target: &'a [u8],
    /// Further parts, already encoded: the caller, a primary key that the target does not imply.
    pub(crate) extras: &'a [u8],
    /// The values of nominated fields, already encoded. Last, so that a variant can be made anew
    /// with other names once a response has nominated them.
    pub(crate) nominated: &'a [u8],
}

/// Encoded variant of a request. Those of most requests fit without an allocation.
pub(crate) struct EncodedVariant {
    bytes: SmallVec<[u8; INLINE]>,
    hash: u64,
}

const INLINE: usize = 192;

/// Buffer for encoded parts. Those of most requests fit without an allocation.
pub(crate) type EncodedParts = SmallVec<[u8; 64]>;

const PARTS: usize = 7;

/// Bytes of the lengths that stand before the parts.
const LENGTHS: usize = 4 * PARTS;

// ===== impl Variant =====

impl Variant {
    /// Returns the canonical encoding, which is injective: a store may compare, digest or keep it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the variant as a request has it.
    pub fn borrowed(&self) -> VariantRef<'_> {
        VariantRef { bytes: &self.bytes, hash: self.hash }
    }

    /// Returns the variant with other values of nominated fields.
    pub(crate) fn nominating(&self, nominated: &[u8]) -> Self {
        VariantParts { nominated, ..self.parts() }.to_variant()
    }

    /// Returns the variant with another target.
    pub(crate) fn targeting(&self, target: &str) -> Self {
        VariantParts { target: target.as_bytes(), ..self.parts() }.to_variant()
    }

    /// Returns the hash of authority and path.
    pub(crate) fn path_hash(&self) -> u64 {
        self.parts().path_hash()
    }

    fn parts(&self) -> VariantParts<'_> {
        let (lengths, mut rest) = self.bytes.split_at(LENGTHS);
        let mut lengths = lengths.as_chunks().0.iter();
        let mut take = || {
            let length = lengths.next().map_or(0, |length| u32::from_le_bytes(*length) as usize);
            rest.split_off(..length).unwrap_or_default()
        };
        VariantParts {
            scope: take(),
            scheme: take(),
            authority: take(),
            host: take(),
            target: take(),
            extras: take(),
            nominated: take(),
        }
    }

    /// Returns the digest of the rule that it was made by.
    pub(crate) fn scope(&self) -> &[u8] {
        self.parts().scope
    }

    /// Returns the origin of a group, as far as requests tell it: the authority of the target.
    pub(crate) fn origin(&self) -> Vec<u8> {
        origin(self.parts().authority)
    }

    pub(crate) fn seeded_hash(&self) -> u64 {
        self.hash
    }
}

impl Hash for Variant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Variant {
    // What a variant holds is private to the caller it was made for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variant").finish_non_exhaustive()
    }
}

// ===== impl VariantRef =====

impl VariantRef<'_> {
    /// Copies it into a [`Variant`].
    pub fn to_variant(&self) -> Variant {
        Variant { bytes: self.bytes.into(), hash: self.hash }
    }

    pub(crate) fn seeded_hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for VariantRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for VariantRef<'_> {}

impl Hash for VariantRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for VariantRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariantRef").finish_non_exhaustive()
    }
}

// ===== impl VariantParts =====

impl VariantParts<'_> {
    /// Encodes the parts.
    #[inline]
    pub(crate) fn encode(&self) -> EncodedVariant {
        let Self { scope, scheme, authority, host, target, extras, nominated } = *self;
        let lengths = [scope, scheme, authority, host, target, extras, nominated].map(<[u8]>::len);
        let length = LENGTHS + lengths.iter().sum::<usize>();
        // Zeros first: appending part by part takes several times as long.
        let mut bytes = match length <= INLINE {
            true => SmallVec::from_buf_and_len([0; INLINE], length),
            false => SmallVec::from_vec(vec![0; length]),
        };
        let (place, rest) = bytes.split_at_mut(LENGTHS);
        place.copy_from_slice(lengths.map(encoded_length).as_flattened());
        let rest = put(rest, scope);
        let rest = put(rest, scheme);
        let rest = put(rest, authority);
        let rest = put(rest, host);
        let rest = put(rest, target);
        let rest = put(rest, extras);
        put(rest, nominated);
        EncodedVariant { hash: seeded_hash(&*bytes), bytes }
    }

    /// Returns the hash of authority and path.
    pub(crate) fn path_hash(&self) -> u64 {
        let path = self.target.split(|byte| *byte == b'?').next();
        seeded_hash((self.scheme, self.authority, self.host, path))
    }

    pub(crate) fn to_variant(self) -> Variant {
        self.encode().borrowed().to_variant()
    }
}

impl EncodedVariant {
    #[inline]
    pub(crate) fn borrowed(&self) -> VariantRef<'_> {
        VariantRef { bytes: &self.bytes, hash: self.hash }
    }
}

#[inline]
fn put<'r>(rest: &'r mut [u8], part: &[u8]) -> &'r mut [u8] {
    if part.is_empty() {
        return rest;
    }
    let (place, rest) = rest.split_at_mut(part.len());
    place.copy_from_slice(part);
    rest
}

/// Appends one part with its length before it, which keeps the encoding injective.
pub(crate) fn push_part(parts: &mut EncodedParts, part: &[u8]) {
    parts.extend_from_slice(&encoded_length(part.len()));
    parts.extend_from_slice(part);
}

/// Returns the parts of an encoding.
pub(crate) fn parts_of(mut encoded: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(*encoded.split_off(..4)?.first_chunk()?);
        encoded.split_off(..length as usize)
    })
}

fn encoded_length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// Normalizes an authority for the comparison of origins (RFC 9110 §4.3.1). One service may be asked
/// over http and https, and not every request says over which: a default port tells nothing.
pub(crate) fn origin(authority: &[u8]) -> Vec<u8> {
    let without =
        [&b":80"[..], b":443", b":"].iter().find_map(|port| authority.strip_suffix(*port));
    without.unwrap_or(authority).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::Slot,
        verify::random::{Random, for_all},
    };

    const EXAMPLE: VariantParts<'static> = Slot::example_variant();

    fn reference<'a>(parts: &'a [Vec<u8>; 3], texts: &'a [String; 3]) -> VariantParts<'a> {
        VariantParts {
            scheme: texts[0].as_bytes(),
            authority: texts[1].as_bytes(),
            host: &parts[0],
            target: texts[2].as_bytes(),
            extras: &parts[1],
            nominated: &parts[2],
            ..EXAMPLE
        }
    }

    #[test]
    fn variants_with_one_hash_are_not_equal_for_that() {
        let hash = 1;
        assert!(VariantRef { bytes: b"a", hash } != VariantRef { bytes: b"b", hash });
    }

    #[test]
    fn variants_are_equal_only_if_every_part_is() {
        for_all(|random| {
            let bytes = |random: &mut Random| random.vec(0..4, |random| random.below(3) as u8);
            let [p, r] = [(); 2].map(|()| [(); 3].map(|()| bytes(random)));
            let [s, u] = [(); 2].map(|()| [(); 3].map(|()| random.text("ab".chars(), 0..3)));
            let (q, t) = (random.pick(&[&p, &r]).clone(), random.pick(&[&s, &u]).clone());
            let of = VariantParts::to_variant;
            let (left, right) = (reference(&p, &s), reference(&q, &t));
            let is_same = p == q && s == t;
            assert_eq!(of(left) == of(right), is_same);
            assert_eq!(of(left).borrowed() == of(right).borrowed(), is_same);
            let other = of(VariantParts { nominated: &q[2], ..left });
            assert!(of(left).nominating(&q[2]) == other);
            assert!(of(left).nominating(&q[2]).seeded_hash() == other.seeded_hash());
        });
    }

    #[test]
    fn a_long_variant_is_encoded_as_a_short_one_is() {
        for_all(|random| {
            let lengths = [(); 3].map(|()| random.below(150));
            let [target, extras, nominated] = lengths.map(|length| vec![b'x'; length]);
            let parts =
                VariantParts { target: &target, extras: &extras, nominated: &nominated, ..EXAMPLE };
            let variant = parts.to_variant();
            let origin = parts.scope.len() + parts.scheme.len() + parts.authority.len();
            assert_eq!(variant.as_bytes().len(), LENGTHS + origin + lengths.iter().sum::<usize>());
            let found = variant.parts();
            assert_eq!(
                (found.scope, found.scheme, found.authority),
                (parts.scope, parts.scheme, parts.authority)
            );
            assert_eq!(
                (found.target, found.extras, found.nominated),
                (&*target, &*extras, &*nominated)
            );
            let other = vec![b'y'; random.below(150)];
            assert_eq!(variant.nominating(&other).parts().nominated, &*other);
        });
    }
}
