//! Primary keys and slots: what groups stored responses, and the place of one.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use percent_encoding::{
    AsciiSet, CONTROLS, percent_decode_str, percent_encode, utf8_percent_encode,
};

#[cfg(any(test, all(fuzzing, feature = "redis")))]
use super::variant::VariantParts;
use super::{
    hash::seeded_hash,
    tag::{Tag, Tags},
    variant::Variant,
};

/// Longest primary key, in bytes. A request with a longer one bypasses the cache.
pub(crate) const MAX_KEY: usize = 512;

/// Beginning of the names that a store keeps for itself, after its namespace. A key with it in it could
/// be one of them, in this namespace or another.
const RESERVED: &str = "tower-support-cache:";

/// Returns whether a text could be the name of something that a store keeps for itself.
pub(crate) fn is_reserved(text: &str) -> bool {
    text.contains(RESERVED)
}

/// Text of a key in the making, no longer than a key may be.
pub(crate) type KeyText = arrayvec::ArrayString<MAX_KEY>;

/// Characters that a placeholder's value may not contain in a key: separators, the escape character,
/// and what Redis patterns and shells read as more than text. Everything outside ASCII is escaped too.
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

/// The key that a route's key builder makes: the unit of invalidation, and the name in Redis.
///
/// ```
/// use tower_support_cache::store::PrimaryKey;
///
/// let key = PrimaryKey::new("support:cases:A1");
/// assert_eq!(key.as_str(), "support:cases:A1");
/// assert_eq!(key, PrimaryKey::new(String::from("support:cases:A1")));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrimaryKey {
    text: Arc<str>,
    hash: u64,
}

/// The place of one stored response: its primary key and its variant, and its tags.
///
/// ```
/// use tower_support_cache::store::{PrimaryKey, Slot, Tag};
///
/// /// Whether an invalidation of `key` or `tag` removes what is stored in a slot.
/// fn is_invalidated(slot: &Slot, key: &PrimaryKey, tag: &Tag) -> bool {
///     slot.key == *key || slot.tags.contains(tag)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// Groups the response with others.
    pub key: PrimaryKey,
    /// Identifies the response.
    pub variant: Variant,
    /// Invalidates the response together with others: tags that its route makes of the request and,
    /// once there is a response, those that it names itself.
    pub tags: Tags,
}

/// The name of one fill in a store that several processes share.
///
/// It is made before the right to fill is requested, and never again. Whoever reads it in the store
/// knows that this very fill had the right at that moment.
///
/// ```
/// use tower_support_cache::store::Token;
///
/// let token = Token::new(0x5eed);
/// assert_eq!(token.number(), 0x5eed);
/// assert_ne!(token, Token::new(0x5eed + 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u128);

/// Subject of an invalidation: a key or a tag.
///
/// ```
/// use tower_support_cache::store::{PrimaryKey, Subject, Tag};
///
/// let subjects: [Subject; 2] = [PrimaryKey::new("case:1").into(), Tag::new("account:A1").into()];
/// assert!(matches!(&subjects[1], Subject::Tag(tag) if tag.as_str() == "tag:account:A1"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Everything that is stored under a key.
    Key(PrimaryKey),
    /// Everything that has a tag, whatever its key.
    Tag(Tag),
}

/// Strength of an invalidation.
///
/// ```
/// use tower_support_cache::{MemoryStore, store::{PrimaryKey, Store, Strength}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let store = MemoryStore::new();
/// store.invalidate(&PrimaryKey::new("case:1").into(), Strength::Soft).await.unwrap();
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strength {
    /// Entries are removed.
    Hard,
    /// Entries become stale: they may answer as far as their responses and their route allow stale
    /// responses.
    Soft,
}

impl From<PrimaryKey> for Subject {
    fn from(key: PrimaryKey) -> Self {
        Self::Key(key)
    }
}

impl From<Tag> for Subject {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

// ===== impl PrimaryKey =====

impl PrimaryKey {
    /// Takes `text` as it is.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        Self { text: text.into(), hash: seeded_hash(text) }
    }

    /// Takes the text that a key builder made. `None` if it is empty, blank, longer than 512 bytes, has
    /// control characters in it, or could be a name of the store's own.
    pub(crate) fn checked(text: &str) -> Option<Self> {
        let is_fit = text.len() <= MAX_KEY
            && !text.trim().is_empty()
            && !text.chars().any(char::is_control)
            && !is_reserved(text);
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
/// it cannot be mistaken for one of the template's. `None` for invalid UTF-8 and blank values.
pub(crate) fn push_parameter(key: &mut KeyText, raw: &str) -> Option<()> {
    // The common case: there is nothing to decode, and nothing to escape.
    if !raw.is_empty() && raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return key.try_push_str(raw).ok();
    }
    let decoded = percent_decode_str(raw).decode_utf8().ok()?;
    push_value(key, &decoded)
}

/// Appends an already decoded value to `key`, escaped. `None` for a blank value.
pub(crate) fn push_value(key: &mut KeyText, value: &str) -> Option<()> {
    if value.trim().is_empty() {
        return None;
    }
    utf8_percent_encode(value, ESCAPED).try_for_each(|piece| key.try_push_str(piece).ok())
}

/// Returns where each escaped character of a value ends that begins at a byte of `text`; `None` where
/// none begins.
pub(crate) fn escaped_ends(text: &str) -> Vec<Option<usize>> {
    let bytes = text.as_bytes();
    let end = |at: usize| match bytes[at] {
        b'%' => {
            let digits = bytes.get(at + 1..at + 3)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 3)
        }
        byte if byte.is_ascii() && !is_escaped(byte) => Some(at + 1),
        _ => None,
    };
    (0..bytes.len()).map(end).collect()
}

fn is_escaped(byte: u8) -> bool {
    let text = [byte];
    percent_encode(&text, ESCAPED).next().is_some_and(|piece| piece.len() > 1)
}

// ===== impl Slot =====

impl Slot {
    /// A slot for tests.
    #[cfg(any(test, all(fuzzing, feature = "redis")))]
    pub(crate) fn example() -> Self {
        let variant = Self::example_variant().to_variant();
        Self { key: PrimaryKey::new("support:cases:A1"), variant, tags: Tags::none() }
    }

    /// The variant of that slot, as a request would have it.
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

// ===== impl Token =====

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

    use super::*;

    #[test]
    fn a_key_of_two_values_cannot_be_forged() {
        let join = |x: &str, y: &str| {
            let mut key = KeyText::new();
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
    fn percent_encoded_and_plain_values_are_one_key() {
        let (mut left, mut right) = (KeyText::new(), KeyText::new());
        push_parameter(&mut left, "A%31").unwrap();
        push_parameter(&mut right, "A1").unwrap();
        assert_eq!(left, right);
    }

    #[test]
    fn a_value_that_is_not_text_makes_no_key() {
        for raw in ["", "%20", "%ff", "%C0%AF", "\u{a0}"] {
            assert_eq!(push_parameter(&mut KeyText::new(), raw), None, "{raw:?}");
        }
    }
}
