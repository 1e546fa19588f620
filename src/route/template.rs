//! Key templates, such as `support:messages:{case}`.

use std::fmt;

use super::{pattern::Pattern, request::RequestView};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::{
        KeyText, MAX_KEY, PrimaryKey, TextPiece, escaped_ends, is_reserved, pieces, push_parameter,
    },
};

/// Key template with its placeholders resolved to positions in the pattern.
///
/// What it shows for debugging is part of the digest of a rule's meaning: positions, and no names.
#[derive(Clone)]
pub(super) struct Template {
    /// The template as it was given, for logs.
    pub(super) text: String,
    pieces: Vec<TemplatePiece>,
}

#[derive(Clone, Debug)]
enum TemplatePiece {
    Literal(String),
    Parameter(usize),
}

impl Template {
    /// Parses a template over the parameters of `pattern`. `field` names its setter in an error.
    pub(super) fn parse(
        text: &str,
        pattern: &Pattern,
        field: &'static str,
    ) -> Result<Self, ConfigError> {
        let refuse = |problem: String| Err(ConfigError::new(ConfigErrorKind::Key, field, problem));
        if text.trim().is_empty() {
            return refuse("is empty: write a template such as `cases:{account}`".to_owned());
        }
        if text.len() > MAX_KEY || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse(format!(
                "has blanks or control characters, or is too long: write at most {MAX_KEY} bytes, \
                 without them"
            ));
        }
        if is_reserved(text) {
            return refuse(format!("`{text}` may be a name of the store's own: write another"));
        }
        let Ok(found) = pieces(text) else {
            return refuse(format!(
                "`{text}` has a brace without its partner: double it for a literal brace"
            ));
        };
        let mut pieces = Vec::with_capacity(found.len());
        for piece in found {
            pieces.push(match piece {
                TextPiece::Literal(text) => TemplatePiece::Literal(text.to_owned()),
                TextPiece::Placeholder(name) => match pattern.position(name) {
                    Some(position) => TemplatePiece::Parameter(position),
                    None => {
                        return refuse(unknown(name, pattern));
                    }
                },
            });
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// Returns whether some request makes this key.
    pub(super) fn can_make(&self, key: &str) -> bool {
        let ends = escaped_ends(key);
        let mut reached = vec![false; key.len() + 1];
        reached[0] = true;
        for piece in &self.pieces {
            let mut next = vec![false; key.len() + 1];
            match piece {
                TemplatePiece::Literal(literal) => {
                    let is_here = |at: &usize| reached[*at] && key[*at..].starts_with(literal);
                    let found = (0..=key.len()).filter(|at| key.is_char_boundary(*at));
                    found.filter(is_here).for_each(|at| next[at + literal.len()] = true);
                }
                TemplatePiece::Parameter(_) => {
                    for (at, end) in ends.iter().enumerate() {
                        if let Some(end) = end.filter(|_| reached[at] || next[at]) {
                            next[end] = true;
                        }
                    }
                }
            }
            reached = next;
        }
        reached[key.len()] && !is_reserved(key)
    }

    /// Returns the key, or `None` if a parameter is blank or no UTF-8, or if the key is too long.
    pub(super) fn key(&self, request: &RequestView<'_, '_>) -> Option<PrimaryKey> {
        let mut key = KeyText::new();
        for piece in &self.pieces {
            match piece {
                TemplatePiece::Literal(text) => key.try_push_str(text).ok()?,
                TemplatePiece::Parameter(position) => {
                    push_parameter(&mut key, request.parameter(*position)?)?;
                }
            }
        }
        // Neither a literal nor an escaped value has a blank or a control character.
        (!key.is_empty() && !is_reserved(&key)).then(|| PrimaryKey::new(&*key))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("pieces", &self.pieces).finish()
    }
}

/// Returns the problem of a placeholder that the pattern has no parameter for.
fn unknown(name: &str, pattern: &Pattern) -> String {
    let known: Vec<_> = pattern.names().iter().map(|name| format!("`{{{name}}}`")).collect();
    let fix = match &known[..] {
        [] => "write it without placeholders".to_owned(),
        known => format!("write {}", known.join(" or ")),
    };
    format!("`{{{name}}}` is no parameter of `{}`: {fix}", pattern.as_str())
}

#[cfg(test)]
mod tests {
    use http::{Extensions, HeaderMap, Method, Uri, Version};
    use matchit::Router;

    use super::{super::request::HeadRef, *};
    use crate::{
        key::key,
        verify::random::{Random, for_all},
    };

    const LETTERS: &str = "aZ09-_.~ :%/{}*+\"\\?#&=\t\0äжΩ漢🎈\u{85}\u{a0}";

    /// Returns a value as it is in a path: what need not be escaped may be.
    fn in_path(value: &str, random: &mut Random) -> String {
        let escaped = value.bytes().map(|byte| match byte {
            b'a' | b'Z' | b'0' | b'9' | b'-' | b'_' if random.below(2) == 0 => {
                char::from(byte).to_string()
            }
            _ if random.below(2) == 0 => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        });
        escaped.collect()
    }

    /// A job has the values as a handler has them, and must find what is stored.
    #[test]
    fn for_all_values_a_key_by_name_is_the_one_that_the_template_makes() {
        let pattern = Pattern::parse("/x/{a}/y/{b}").expect("a pattern");
        let mut router = Router::new();
        pattern.insert(&mut router, (), &[]).expect("the first");
        let (method, headers, extensions) = (&Method::GET, &HeaderMap::new(), &Extensions::new());
        let mut made = 0;
        for_all(|random| {
            let text = random.pick(&["{a}", "k:{a}", "{b}:{a}", "{a}{b}{a}", "k:{{{a}}}:é{b}"]);
            let [a, b] = [(); 2].map(|()| random.text(LETTERS.chars(), 1..8));
            let path = format!("/x/{}/y/{}", in_path(&a, random), in_path(&b, random));
            let uri = &path.parse::<Uri>().expect("a path");
            let head = HeadRef { method, uri, version: Version::HTTP_11, headers, extensions };
            let parameters = &router.at(uri.path()).expect("it matches").params;
            let template = Template::parse(text, &pattern, "key").expect("a template");
            let stored = template.key(&RequestView { head, parameters });
            let named = key(text).with("a", &a).with("b", &b).to_text();
            assert_eq!(
                stored.as_ref().map(PrimaryKey::as_str),
                named.as_deref(),
                "{text} {a:?} {b:?}"
            );
            if let Some(named) = named {
                assert!(template.can_make(&named), "{text} {named:?}");
                made += 1;
            }
        });
        assert!(made > 100, "{made}");
    }
}
