//! Tags: labels that invalidate responses of many keys together.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use super::{
    hash::seeded_hash,
    variant::{EncodedParts, push_part},
};

/// A response with more tags than this is not stored (RFC 9875 §2 asks for at least 32 groups).
pub(crate) const MAX_TAGS: usize = 128;

/// Prefix of the names of tags that routes and rules make.
const OWN: &str = "tag:";

/// Prefix of the names of groups that responses name. No tag that a route makes begins with it.
const GROUP: &str = "group:";

/// A label of responses of many keys, which invalidates them together.
///
/// ```
/// use tower_support_cache::store::Tag;
///
/// let tag = Tag::new("account:A1");
/// assert_eq!(tag.as_str(), "tag:account:A1");
/// ```
#[doc(alias = "surrogate key", alias = "cache group")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    name: Arc<str>,
    hash: u64,
}

impl Tag {
    /// Takes `text` as a route or a rule makes it.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self::named(&[OWN, text.as_ref()].concat())
    }

    /// Returns the tag of a group that responses of `origin` name (RFC 9875 §2.1): the same name at
    /// another origin is another group.
    pub(crate) fn group(origin: &[u8], group: &str) -> Self {
        let mut text = EncodedParts::new();
        push_part(&mut text, origin);
        push_part(&mut text, group.as_bytes());
        Self::named(&[GROUP, &blake3::hash(&text).to_hex()[..32]].concat())
    }

    /// Takes a whole name, as [`as_str`](Self::as_str) returns it.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.into(), hash: seeded_hash(name) }
    }

    /// Returns the tag's name: `tag:` and its text, or `group:` and a digest of origin and group.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns its text, as a route or a rule makes it. `None` for a group.
    pub(crate) fn text(&self) -> Option<&str> {
        self.name.strip_prefix(OWN)
    }

    /// Returns whether it is a group.
    pub(crate) fn is_group(&self) -> bool {
        self.name.starts_with(GROUP)
    }

    pub(crate) fn seeded_hash(&self) -> u64 {
        self.hash
    }
}

impl Hash for Tag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tag").field(&self.as_str()).finish()
    }
}

/// The tags of a response, each once. Most responses have none, and that costs nothing.
///
/// ```
/// use tower_support_cache::store::{Tag, Tags};
///
/// let tags: Tags = ["account:A1", "cases", "cases"].map(Tag::new).into_iter().collect();
/// assert_eq!(tags.len(), 2);
/// assert!(tags.contains(&Tag::new("cases")));
/// assert!(Tags::none().is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<[Tag]>>);

impl Tags {
    /// Returns no tags.
    pub fn none() -> Self {
        Self(None)
    }

    /// Returns these and more.
    pub(crate) fn with(&self, more: impl IntoIterator<Item = Tag>) -> Self {
        let mut more = more.into_iter().peekable();
        if more.peek().is_none() {
            return self.clone();
        }
        self.iter().cloned().chain(more).collect()
    }

    /// Returns the bytes of memory that they occupy.
    pub(crate) fn weight(&self) -> usize {
        /// Bytes of the counts of a shared allocation, and of the allocator's own.
        const SHARED: usize = 32;
        if self.is_empty() {
            return 0;
        }
        self.iter().map(|tag| size_of::<Tag>() + SHARED + tag.name.len()).sum::<usize>() + SHARED
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut each: Vec<Tag> = Vec::new();
        for tag in tags {
            if !each.contains(&tag) {
                each.push(tag);
            }
        }
        Self((!each.is_empty()).then(|| each.into()))
    }
}

impl Deref for Tags {
    type Target = [Tag];

    #[inline]
    fn deref(&self) -> &[Tag] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::random::for_all;

    #[test]
    fn a_group_is_another_groups_only_if_origin_and_string_are_its_own() {
        for_all(|random| {
            let [a, b, c, d] = [(); 4].map(|()| random.text("a:".chars(), 0..4));
            let (left, right) = (Tag::group(a.as_bytes(), &b), Tag::group(c.as_bytes(), &d));
            assert_eq!(left == right, a == c && b == d, "{a:?} {b:?} {c:?} {d:?}");
        });
    }

    #[test]
    fn no_text_makes_a_tag_a_group() {
        for_all(|random| {
            let text = random.pick(&["", "group:"]).to_owned() + &random.text(' '..='~', 0..41);
            let group = Tag::group(b"example.com", &random.text(' '..='~', 0..41));
            assert!(Tag::new(&text) != group && Tag::new(group.as_str()) != group, "{text:?}");
        });
    }

    #[test]
    fn each_tag_weighs_what_its_allocations_take() {
        let weight = |texts: &[&str]| texts.iter().map(Tag::new).collect::<Tags>().weight();
        let (counts, tag) = (32, 32 + size_of::<Tag>() + Tag::new("").as_str().len());
        assert_eq!(weight(&[]), 0);
        assert_eq!(weight(&["a"]), counts + tag + 1);
        assert_eq!(weight(&["aaa", "b"]), counts + 2 * tag + 4);
    }

    #[test]
    fn tags_are_there_once_and_in_order() {
        let tags = |texts: &[&str]| texts.iter().map(Tag::new).collect::<Tags>();
        assert_eq!(tags(&["b", "a", "b"]), tags(&["b", "a"]));
        assert_eq!(tags(&["b"]).with([Tag::new("a"), Tag::new("b")]), tags(&["b", "a"]));
        assert_eq!(tags(&[]), Tags::none());
    }
}
