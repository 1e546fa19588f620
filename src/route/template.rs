//! Key templates: `support:messages:{case}`.

use std::cell::Cell;

use super::{pattern::Pattern, request::RequestView};
use crate::{
    error::ConfigErrorKind,
    key::{MAX_KEY, PrimaryKey, push_parameter},
};

thread_local! {
    /// Where keys are written before it is known how long they are.
    static DRAFT: Cell<String> = const { Cell::new(String::new()) };
}

/// A key template, its placeholders resolved to positions in the pattern.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Parameter(usize),
}

impl Template {
    pub(crate) fn parse(text: &str, pattern: &Pattern) -> Result<Self, (ConfigErrorKind, String)> {
        let refuse = |problem: String| Err((ConfigErrorKind::Key, problem));
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
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            pieces.push(Piece::Parameter(position));
            rest = after;
        }
        literal.push_str(rest);
        pieces.push(Piece::Literal(literal));
        pieces.retain(|piece| !matches!(piece, Piece::Literal(text) if text.is_empty()));
        Ok(Self { pieces })
    }

    /// Returns the key, or `None` where a parameter is blank or no UTF-8, or the key is too long.
    pub(crate) fn key(&self, request: &RequestView<'_, '_>) -> Option<PrimaryKey> {
        let mut draft = DRAFT.take();
        draft.clear();
        let key = self.push(&mut draft, request).and_then(|()| PrimaryKey::checked(&draft));
        if draft.capacity() <= MAX_KEY {
            DRAFT.set(draft);
        }
        key
    }

    fn push(&self, key: &mut String, request: &RequestView<'_, '_>) -> Option<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => key.push_str(text),
                Piece::Parameter(position) => push_parameter(key, request.parameter(*position)?)?,
            }
        }
        Some(())
    }
}
