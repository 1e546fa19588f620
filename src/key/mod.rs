//! Keys: what groups stored responses, and what identifies one.
//!
//! A [`PrimaryKey`] is what a route's key builder makes. It groups: one invalidation removes all
//! that is stored under it. A [`Variant`] identifies: it holds everything the response was made
//! for, and an entry answers only a request with an equal one. So a careless key builder can
//! invalidate too much or too little, and can never hand one resource to a request for another.

pub(crate) mod digest_key;
mod tag;
pub(crate) mod vary;

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use foldhash::quality::RandomState;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use smallvec::SmallVec;

pub(crate) use self::tag::{MAX_TAGS, Subject};
pub use self::tag::{Tag, Tags};

/// The longest primary key, in bytes. A longer one is bypassed.
pub(crate) const MAX_KEY: usize = 512;

/// What a placeholder's value may not contain in a key: separators, the escape character, and what
/// Redis patterns and shells read as more than text. Everything outside ASCII is escaped as well.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b':')
    .add(b'*')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'\\')
    .add(b'{')
    .add(b'}')
    .add(b'"')
    .add(b'\'');

/// Seeded anew in each process, so that nobody outside can choose colliding targets.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Hashes with the process's secret seed.
pub(crate) fn seeded_hash(value: impl Hash) -> u64 {
    HASHER.hash_one(value)
}

/// Takes the hash that keys and variants carry: it is seeded and computed once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "only prehashed keys, not {} bytes", bytes.len());
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What a key builder makes: the unit of invalidation, and the name of the key in Redis.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrimaryKey {
    text: Arc<str>,
    hash: u64,
}

impl PrimaryKey {
    /// Takes `text` as it is.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        Self { text: text.into(), hash: seeded_hash(text) }
    }

    /// Takes what a key builder made, or nothing if it is unfit: empty, blank, longer than 512
    /// bytes, or with control characters in it.
    pub(crate) fn checked(text: &str) -> Option<Self> {
        // Most keys are plain ASCII, which is told without decoding it.
        let is_plain = !text.is_empty() && is_graphic(text.as_bytes());
        let is_text = || !text.trim().is_empty() && !text.chars().any(char::is_control);
        let is_fit = text.len() <= MAX_KEY && (is_plain || is_text());
        is_fit.then(|| Self::new(text))
    }

    /// Returns the key's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn seeded_hash(&self) -> u64 {
        self.hash
    }
}

/// Looks at all bytes whatever the first are, so that it can look at many at once.
fn is_graphic(text: &[u8]) -> bool {
    text.iter().fold(true, |is_graphic, byte| is_graphic & byte.is_ascii_graphic())
}

impl Hash for PrimaryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for PrimaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrimaryKey").field(&self.as_str()).finish()
    }
}

/// Appends a path parameter to `key`: percent-decoded once, then escaped, so that a separator in
/// it cannot be mistaken for one of the template's. Refuses invalid UTF-8 and blank values.
pub(crate) fn push_parameter(key: &mut String, raw: &str) -> Option<()> {
    if !raw.is_empty() && raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        // As most are: there is nothing to decode, and nothing to escape.
        key.push_str(raw);
        return Some(());
    }
    let decoded = percent_decode_str(raw).decode_utf8().ok()?;
    push_value(key, &decoded)
}

/// Appends an already decoded value to `key`, escaped.
pub(crate) fn push_value(key: &mut String, value: &str) -> Option<()> {
    if value.trim().is_empty() {
        return None;
    }
    key.extend(utf8_percent_encode(value, ESCAPED));
    Some(())
}

/// Everything a response was made for, part by part.
///
/// The order of the parts is the order they are encoded in.
#[derive(Clone, Copy)]
pub(crate) struct VariantParts<'a> {
    pub(crate) scope: &'a [u8],
    pub(crate) scheme: &'a [u8],
    pub(crate) authority: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) target: &'a [u8],
    /// Further parts, already encoded: the caller, a primary key that the target does not imply.
    pub(crate) extras: &'a [u8],
    /// The values of nominated fields, already encoded. Last, so that a variant can be made anew
    /// with other names once a response has nominated them.
    pub(crate) nominated: &'a [u8],
}

const PARTS: usize = 7;

/// The lengths of the parts, which stand before the parts themselves.
const LENGTHS: usize = 4 * PARTS;

impl VariantParts<'_> {
    /// Encodes the parts into a room, which most fit without an allocation.
    #[inline]
    pub(crate) fn encode<'r>(&self, room: &'r mut Room) -> VariantRef<'r> {
        let Self { scope, scheme, authority, host, target, extras, nominated } = *self;
        let lengths = [
            scope.len(),
            scheme.len(),
            authority.len(),
            host.len(),
            target.len(),
            extras.len(),
            nominated.len(),
        ];
        let bytes = room.take(LENGTHS + lengths.iter().sum::<usize>());
        let (place, rest) = bytes.split_at_mut(LENGTHS);
        place.copy_from_slice(lengths.map(encoded_length).as_flattened());
        let rest = put(rest, scope);
        let rest = put(rest, scheme);
        let rest = put(rest, authority);
        let rest = put(rest, host);
        let rest = put(rest, target);
        let rest = put(rest, extras);
        put(rest, nominated);
        VariantRef { hash: hash_of(bytes), bytes }
    }

    pub(crate) fn to_variant(self) -> Variant {
        self.encode(&mut Room::new()).to_variant()
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

fn encoded_length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

#[inline]
fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// Where a variant is encoded.
pub(crate) struct Room {
    short: [u8; SHORT],
    long: Vec<u8>,
}

const SHORT: usize = 192;

impl Room {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { short: [0; SHORT], long: Vec::new() }
    }

    #[inline]
    fn take(&mut self, length: usize) -> &mut [u8] {
        match self.short.get_mut(..length) {
            Some(short) => short,
            None => {
                self.long.resize(length, 0);
                &mut self.long
            }
        }
    }
}

/// Everything a response was made for, as a request at hand has it.
#[derive(Clone, Copy)]
pub struct VariantRef<'a> {
    bytes: &'a [u8],
    hash: u64,
}

impl VariantRef<'_> {
    /// Copies it into a [`Variant`].
    pub fn to_variant(&self) -> Variant {
        Variant { bytes: self.bytes.into(), hash: self.hash }
    }
}

impl PartialEq for VariantRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for VariantRef<'_> {}

impl fmt::Debug for VariantRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariantRef").finish_non_exhaustive()
    }
}

/// Encoded parts: of most requests they fit without an allocation.
pub(crate) type Parts = SmallVec<[u8; 64]>;

/// Appends one part with its length before it, which keeps the encoding injective.
pub(crate) fn push_part(parts: &mut Parts, part: &[u8]) {
    parts.extend_from_slice(&encoded_length(part.len()));
    parts.extend_from_slice(part);
}

impl Hash for VariantRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl quick_cache::Equivalent<Variant> for VariantRef<'_> {
    fn equivalent(&self, variant: &Variant) -> bool {
        *self.bytes == *variant.bytes
    }
}

/// Everything a stored response was made for. Equal variants mean that one response answers both.
#[derive(Clone, PartialEq, Eq)]
pub struct Variant {
    /// The lengths of all parts, and then the parts.
    bytes: Arc<[u8]>,
    hash: u64,
}

impl Variant {
    /// Returns the canonical encoding, which is injective: a store may compare, digest or keep it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the variant as a request has it.
    pub fn borrowed(&self) -> VariantRef<'_> {
        VariantRef { bytes: &self.bytes, hash: self.hash }
    }

    /// Makes the variant anew with other values of nominated fields.
    pub(crate) fn nominating(&self, nominated: &[u8]) -> Self {
        VariantParts { nominated, ..self.parts() }.to_variant()
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

    /// Returns the authority it was made for, or what `Host` said where there was none: the origin of
    /// a group, as far as requests tell it.
    pub(crate) fn origin(&self) -> Vec<u8> {
        let VariantParts { authority, host, .. } = self.parts();
        origin(if authority.is_empty() { host } else { authority })
    }

    pub(crate) fn seeded_hash(&self) -> u64 {
        self.hash
    }
}

/// Returns an authority as origins are compared (RFC 9110 §4.3.1). One service may be asked over http
/// and https, and not every request says over which: a port that either implies tells nothing.
pub(crate) fn origin(authority: &[u8]) -> Vec<u8> {
    let without = [&b":80"[..], b":443"].iter().find_map(|port| authority.strip_suffix(*port));
    without.unwrap_or(authority).to_ascii_lowercase()
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

/// The place of one stored response: its primary key and its variant, and what else invalidates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What groups the response with others.
    pub key: PrimaryKey,
    /// What identifies it.
    pub variant: Variant,
    /// The tags of the response: those that its route makes of the request and, once there is a
    /// response, those that it names itself.
    pub tags: Tags,
}

impl Slot {
    /// A slot for tests.
    #[cfg(any(test, all(fuzzing, feature = "redis")))]
    pub(crate) fn example() -> Self {
        let variant = Self::example_variant().to_variant();
        Self { key: PrimaryKey::new("support:cases:A1"), variant, tags: Tags::none() }
    }

    /// Returns what identifies it, as a request would.
    #[cfg(any(test, all(fuzzing, feature = "redis")))]
    pub(crate) const fn example_variant() -> VariantParts<'static> {
        VariantParts {
            scope: &[7; 16],
            scheme: b"https",
            authority: b"example.com",
            host: b"",
            target: b"/accounts/A1/cases",
            extras: b"",
            nominated: b"",
        }
    }
}

/// The name of one fill in a store that several processes share.
///
/// It is made before the right to fill is asked for, and never again: who reads it in the store
/// knows that this very fill had the right at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u128);

impl Token {
    /// Takes a number that is unique among all fills of all processes.
    pub fn new(number: u128) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub fn number(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use quick_cache::Equivalent;

    use super::*;
    use crate::verify::random::{Random, for_all};

    fn reference<'a>(parts: &'a [Vec<u8>; 3], texts: &'a [String; 3]) -> VariantParts<'a> {
        VariantParts {
            scope: &[7; 16],
            scheme: texts[0].as_bytes(),
            authority: texts[1].as_bytes(),
            host: &parts[0],
            target: texts[2].as_bytes(),
            extras: &parts[1],
            nominated: &parts[2],
        }
    }

    #[test]
    fn a_key_of_two_values_cannot_be_forged() {
        let join = |x: &str, y: &str| {
            let mut key = String::new();
            push_value(&mut key, x)?;
            key.push(':');
            push_value(&mut key, y)?;
            Some(key)
        };
        const PIECES: [&str; 9] = ["", ":", "%3A", "%", "3A", "a", "*", "{", " "];
        let values = PIECES.iter().flat_map(|first| PIECES.map(|last| format!("{first}{last}")));
        let values: BTreeSet<_> = values.collect();
        let mut keys = BTreeMap::new();
        for pair in values.iter().flat_map(|x| values.iter().map(move |y| (x, y))) {
            if let Some(key) = join(pair.0, pair.1) {
                let forged = keys.insert(key, pair);
                assert_eq!(forged, None, "{pair:?}");
            }
        }
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
            assert_eq!(of(left).borrowed().equivalent(&of(right)), is_same);
            assert_eq!(of(left).borrowed() == of(right).borrowed(), is_same);
            assert!(of(left).borrowed().equivalent(&of(left)));
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
            let example = Slot::example_variant();
            let parts =
                VariantParts { target: &target, extras: &extras, nominated: &nominated, ..example };
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

    #[test]
    fn percent_encoded_and_plain_values_are_one_key() {
        let (mut left, mut right) = (String::new(), String::new());
        push_parameter(&mut left, "A%31").unwrap();
        push_parameter(&mut right, "A1").unwrap();
        assert_eq!(left, right);
    }

    #[test]
    fn a_value_that_is_not_text_makes_no_key() {
        for raw in ["", "%20", "%ff", "%C0%AF", "\u{a0}"] {
            assert_eq!(push_parameter(&mut String::new(), raw), None, "{raw:?}");
        }
    }
}
