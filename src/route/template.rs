//! Key templates, such as `support:messages:{case}`.

use super::{pattern::Pattern, request::RequestView};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::{
        KeyText, MAX_KEY, PrimaryKey, TextPiece, escaped_ends, is_reserved, pieces, push_parameter,
    },
};

/// Key template with its placeholders resolved to positions in the pattern.
#[derive(Clone, Debug)]
pub(super) struct Template {
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
        let refuse =
            |problem: String| Err(ConfigError::new(ConfigErrorKind::Key, None, field, problem));
        if text.trim().is_empty() {
            return refuse("a key template is not empty".to_owned());
        }
        if text.len() > MAX_KEY || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse(format!("no spaces or controls, at most {MAX_KEY} bytes"));
        }
        if is_reserved(text) {
            return refuse(format!("`{text}` could be a name that the store keeps for itself"));
        }
        let Ok(found) = pieces(text) else {
            return refuse(format!("unbalanced braces in `{text}`"));
        };
        let mut pieces = Vec::with_capacity(found.len());
        for piece in found {
            pieces.push(match piece {
                TextPiece::Literal(text) => TemplatePiece::Literal(text.to_owned()),
                TextPiece::Placeholder(name) => match pattern.position(name) {
                    Some(position) => TemplatePiece::Parameter(position),
                    None => {
                        return refuse(format!(
                            "unknown placeholder `{{{name}}}`: `{}` has no such parameter",
                            pattern.as_str()
                        ));
                    }
                },
            });
        }
        Ok(Self { pieces })
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
