//! Tags that a response names itself.

use std::collections::BTreeSet;

use http::{HeaderName, response};

use crate::{
    key::{IntoKey, MAX_TAGS, PrimaryKey, Tag},
    metrics::outcome::Refusal,
};

/// Tags that a handler gives to its own response, as an extension of the response.
///
/// They are tags as [`CacheRoute::tag`](crate::CacheRoute::tag) adds them: the handle's
/// [`invalidate_tag`](crate::SupportCacheHandle::invalidate_tag) and
/// [`InvalidateRoute::tag`](crate::InvalidateRoute::tag) reach the response. Use them for what only the
/// handler knows, such as the ids in a list.
///
/// A response with a tag that cannot be made, or with more than 128, is not stored, and neither is one of
/// which only a part of the tags is known. A hit has no extensions: a second cache further out knows of
/// these tags only by a field ([`tag_field`](crate::SupportCacheLayerBuilder::tag_field)). Over Redis, the
/// first response with a tag that the server does not know is not stored either; the next one is.
///
/// ```
/// use axum::{Extension, response::IntoResponse};
/// use tower_support_cache::{CacheTags, key};
///
/// async fn search() -> impl IntoResponse {
///     let ids = ["7", "urn:case 8"];
///     let tags = CacheTags::new(ids.map(|id| key("product:{id}").with("id", id)));
///     (Extension(tags), ids.join(","))
/// }
/// ```
#[doc(alias = "surrogate key")]
#[derive(Clone, Debug, Default)]
pub struct CacheTags {
    tags: Vec<Tag>,
    /// Set once a tag cannot be made or is one too many.
    is_incomplete: bool,
}

impl CacheTags {
    /// Names tags: texts as they are, or [keys](crate::key()) that escape their values.
    pub fn new(tags: impl IntoIterator<Item = impl IntoKey>) -> Self {
        let mut named = Self::default();
        named.extend(tags);
        named
    }

    /// Adds a tag, for layers and handlers that name them one by one.
    ///
    /// ```
    /// use tower_support_cache::CacheTags;
    ///
    /// let mut response = http::Response::new("17 EUR");
    /// response.extensions_mut().get_or_insert_default::<CacheTags>().add("prices");
    /// ```
    pub fn add(&mut self, tag: impl IntoKey) {
        let key = tag.into_key().and_then(|text| PrimaryKey::checked(&text));
        match key.map(|key| Tag::new(key.as_str())) {
            Some(tag) if self.tags.contains(&tag) => {}
            Some(tag) if self.tags.len() < MAX_TAGS => self.tags.push(tag),
            Some(_) | None => self.is_incomplete = true,
        }
    }

    fn extend(&mut self, tags: impl IntoIterator<Item = impl IntoKey>) {
        for tag in tags {
            if self.is_incomplete {
                return;
            }
            self.add(tag);
        }
    }
}

/// Returns the tags that a response names by its extension, and by the field of this name.
///
/// # Errors
///
/// [`Refusal::Tags`] if one of them cannot be made, or if there are more than [`MAX_TAGS`].
pub(crate) fn named_tags(
    head: &response::Parts,
    field: Option<&HeaderName>,
) -> Result<Vec<Tag>, Refusal> {
    let mut named = head.extensions.get::<CacheTags>().cloned().unwrap_or_default();
    if let Some(field) = field {
        let mut texts = BTreeSet::new();
        for line in head.headers.get_all(field) {
            let line = std::str::from_utf8(line.as_bytes()).map_err(|_| Refusal::Tags)?;
            for text in line.split([' ', '\t', ',']).filter(|text| !text.is_empty()) {
                texts.insert(text);
                if texts.len() > MAX_TAGS {
                    return Err(Refusal::Tags);
                }
            }
        }
        named.extend(texts);
    }
    if named.is_incomplete { Err(Refusal::Tags) } else { Ok(named.tags) }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;
    use crate::key::key;

    const FIELD: HeaderName = HeaderName::from_static("surrogate-key");

    fn named(lines: &[&[u8]], tags: CacheTags) -> Result<Vec<Tag>, Refusal> {
        let mut response = Response::builder().extension(tags);
        for line in lines {
            response = response.header(FIELD, *line);
        }
        named_tags(&response.body(()).unwrap().into_parts().0, Some(&FIELD))
    }

    #[track_caller]
    fn check(lines: &[&[u8]], tags: CacheTags, expected: &[&str]) {
        assert_eq!(named(lines, tags), Ok(expected.iter().map(Tag::new).collect()), "{lines:?}");
    }

    #[test]
    fn a_response_names_tags_by_a_field_in_any_number_of_lines_and_by_an_extension() {
        check(&[], CacheTags::default(), &[]);
        check(&[b"", b" , "], CacheTags::default(), &[]);
        check(&[b"b a", b"\tc,d , a"], CacheTags::default(), &["a", "b", "c", "d"]);
        check(&["ä%20".as_bytes()], CacheTags::default(), &["ä%20"]);
        let named = key("product:{id}").with("id", "urn:7 8");
        let mut tags = CacheTags::new([&named, &named]);
        tags.add("a");
        check(&[b"a b"], tags, &["product:urn%3A7%208", "a", "b"]);
    }

    /// Stored without one of its tags, a response would outlive the invalidation of that.
    #[test]
    fn a_tag_that_cannot_be_made_or_is_one_too_many_spoils_all() {
        let long = "x".repeat(513);
        for line in [&b"a \xff"[..], b"a \x80b", long.as_bytes(), b"tower-support-cache:epoch"] {
            assert_eq!(named(&[b"a", line], CacheTags::default()), Err(Refusal::Tags));
        }
        for text in ["", " ", "a\n", &long] {
            assert_eq!(named(&[], CacheTags::new(["a", text])), Err(Refusal::Tags), "{text:?}");
        }
        let blank = CacheTags::new([key("product:{id}").with("id", " ")]);
        assert_eq!(named(&[], blank), Err(Refusal::Tags));
    }

    #[test]
    fn as_many_tags_are_read_as_a_response_may_have() {
        let many = |count: usize| (0..count).map(|n| n.to_string());
        for (count, is_read) in [(128, true), (129, false), (40_000, false)] {
            let line = many(count).collect::<Vec<_>>().join(" ");
            for named in [
                named(&[line.as_bytes()], CacheTags::default()),
                named(&[], CacheTags::new(many(count))),
                named(&[line.as_bytes()], CacheTags::new(many(count))),
            ] {
                assert_eq!(named.is_ok(), is_read, "{count}");
            }
        }
        assert!(named(&[], CacheTags::new((0..).map(|n| n.to_string()))).is_err(), "any number");
        let often = "a b ".repeat(100_000);
        check(&[often.as_bytes()], CacheTags::default(), &["a", "b"]);
    }
}
