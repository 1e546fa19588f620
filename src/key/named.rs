//! Keys and tags by name: the text that a template makes, for code that has the values.

use super::primary_key::{KeyText, push_value};

/// Piece of a template, such as `support:cases:{account}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextPiece<'t> {
    Literal(&'t str),
    Placeholder(&'t str),
}

/// Template with a brace that has no partner.
#[derive(Debug)]
pub(crate) struct UnbalancedBraces;

/// Splits a template into its pieces. `{{` and `}}` stand for single braces.
pub(crate) fn pieces(template: &str) -> Result<Vec<TextPiece<'_>>, UnbalancedBraces> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        pieces.push(TextPiece::Literal(before));
        if from.starts_with("{{") || from.starts_with("}}") {
            pieces.push(TextPiece::Literal(&from[..1]));
            rest = &from[2..];
            continue;
        }
        let placeholder = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let (name, after) = placeholder.ok_or(UnbalancedBraces)?;
        pieces.push(TextPiece::Placeholder(name));
        rest = after;
    }
    pieces.push(TextPiece::Literal(rest));
    pieces.retain(|piece| *piece != TextPiece::Literal(""));
    Ok(pieces)
}

/// Key or tag that is made as a template of a route makes it: its values are escaped in the same way.
///
/// Made by [`key`]. Every verb of a [`SupportCacheHandle`](crate::SupportCacheHandle) takes it, and so
/// does [`CacheRoute::key_with`](crate::CacheRoute::key_with), by [`to_text`](Self::to_text).
///
/// ```
/// use tower_support_cache::key;
///
/// let named = key("items:{id}").with("id", "urn:case 7");
/// assert_eq!(named.to_text().unwrap(), "items:urn%3Acase%207");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a key does nothing by itself; give it to a handle"]
pub struct NamedKey {
    template: String,
    values: Vec<(String, String)>,
}

/// Names a key or a tag by the template that makes it. [`NamedKey::with`] gives its values.
///
/// ```
/// use tower_support_cache::{MemoryStore, SupportCacheLayer, key};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
/// cache.invalidate(key("support:cases:{account}").with("account", "A 1")).await.unwrap();
/// # }
/// ```
pub fn key(template: impl Into<String>) -> NamedKey {
    NamedKey { template: template.into(), values: Vec::new() }
}

impl NamedKey {
    /// Gives the value of a placeholder, decoded: as a handler has it, and not as it is in a path.
    pub fn with(mut self, name: impl Into<String>, value: impl AsRef<str>) -> Self {
        self.values.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Returns the text. `None` if no request makes it: a placeholder has no value or a blank one, a
    /// brace has no partner, or the text is empty or longer than 512 bytes.
    pub fn to_text(&self) -> Option<String> {
        let mut text = KeyText::new();
        for piece in pieces(&self.template).ok()? {
            match piece {
                TextPiece::Literal(literal) => text.try_push_str(literal).ok()?,
                TextPiece::Placeholder(name) => {
                    let (_, value) = self.values.iter().find(|(known, _)| known == name)?;
                    push_value(&mut text, value)?;
                }
            }
        }
        (!text.is_empty()).then(|| text.as_str().to_owned())
    }
}

mod sealed {
    #[allow(unnameable_types)] // Which seals it.
    pub trait Sealed {}
}

/// Conversion into the text of a key or a tag: text as it is, or a [`NamedKey`].
///
/// The trait is sealed.
///
/// ```
/// use tower_support_cache::{IntoKey, key};
///
/// assert_eq!("case:7".into_key().unwrap(), "case:7");
/// assert_eq!(key("case:{case}").with("case", "7").into_key().unwrap(), "case:7");
/// ```
pub trait IntoKey: sealed::Sealed {
    /// Returns the text; `None` if no request makes it.
    fn into_key(self) -> Option<String>;
}

macro_rules! text_is_taken_as_it_is {
    ($($text:ty),*) => {
        $(
            impl sealed::Sealed for $text {}

            impl IntoKey for $text {
                fn into_key(self) -> Option<String> {
                    Some(self.to_owned())
                }
            }
        )*
    };
}

text_is_taken_as_it_is!(&str, &String, String);

impl sealed::Sealed for NamedKey {}

impl IntoKey for NamedKey {
    fn into_key(self) -> Option<String> {
        self.to_text()
    }
}

impl sealed::Sealed for &NamedKey {}

impl IntoKey for &NamedKey {
    fn into_key(self) -> Option<String> {
        self.to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, values: &[(&str, &str)], expected: Option<&str>) {
        let named = values.iter().fold(key(template), |key, (name, value)| key.with(*name, value));
        assert_eq!(named.to_text().as_deref(), expected, "{template}");
    }

    #[test]
    fn values_are_escaped_and_literals_are_not() {
        check("k:{a}", &[("a", "1:2 é%")], Some("k:1%3A2%20%C3%A9%25"));
        check("k:{{{a}}}", &[("a", "1")], Some("k:{1}"));
        check("k", &[], Some("k"));
        check("{a}{b}{a}", &[("a", "1"), ("b", "2")], Some("121"));
    }

    #[test]
    fn a_key_may_be_lent() {
        let named = key("k:{a}").with("a", "1");
        assert_eq!((&named).into_key().as_deref(), Some("k:1"));
        assert_eq!(named.into_key().as_deref(), Some("k:1"));
    }

    #[test]
    fn a_text_that_no_request_makes_is_none() {
        check("k:{a}", &[], None);
        check("k:{a}", &[("b", "1")], None);
        check("k:{a}", &[("a", " ")], None);
        check("k:{a", &[("a", "1")], None);
        check("", &[], None);
        check("k:{a}", &[("a", &"x".repeat(511))], None);
    }
}
