//! Key templates, such as `support:messages:{case}`.

use super::{pattern::Pattern, request::RequestView};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::{MAX_KEY, PrimaryKey, push_parameter},
};

/// Room for most keys, so that they are written without a second allocation.
const USUAL_KEY: usize = 64;

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
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                literal.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let Some((name, after)) = from.strip_prefix('{').and_then(|s| s.split_once('}')) else {
                return refuse(format!("unbalanced braces in `{text}`"));
            };
            let Some(position) = pattern.position(name) else {
                return refuse(format!(
                    "unknown placeholder `{{{name}}}`: `{}` has no such parameter",
                    pattern.as_str()
                ));
            };
            pieces.push(TemplatePiece::Literal(std::mem::take(&mut literal)));
            pieces.push(TemplatePiece::Parameter(position));
            rest = after;
        }
        literal.push_str(rest);
        pieces.push(TemplatePiece::Literal(literal));
        pieces.retain(|piece| !matches!(piece, TemplatePiece::Literal(text) if text.is_empty()));
        Ok(Self { pieces })
    }

    /// Returns the key, or `None` if a parameter is blank or no UTF-8, or if the key is too long.
    pub(super) fn key(&self, request: &RequestView<'_, '_>) -> Option<PrimaryKey> {
        let mut key = String::with_capacity(USUAL_KEY);
        for piece in &self.pieces {
            match piece {
                TemplatePiece::Literal(text) => key.push_str(text),
                TemplatePiece::Parameter(position) => {
                    push_parameter(&mut key, request.parameter(*position)?)?;
                }
            }
        }
        // Neither a literal nor an escaped value has a blank or a control character.
        (1..=MAX_KEY).contains(&key.len()).then(|| PrimaryKey::new(&key))
    }
}
