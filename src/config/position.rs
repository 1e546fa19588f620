//! Places in the text of a configuration, so that an error has its line.

use std::path::Path;

use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::sections::LayerConfig;

/// Format of a configuration file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Toml,
    Json,
}

/// Place in a text, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// PathStep on the way to a setting.
#[derive(Clone, Debug)]
pub(super) enum PathStep {
    Field(String),
    Item(usize),
}

/// Text that is no configuration.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) position: Option<Position>,
    pub(super) problem: String,
}

impl Format {
    /// Returns the format that the name of a file tells.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("json")) {
            true => Self::Json,
            false => Self::Toml,
        }
    }

    pub(super) fn parse(self, text: &str) -> Result<LayerConfig, SyntaxError> {
        match self {
            Self::Toml => toml::from_str(text).map_err(|error| SyntaxError {
                position: error.span().map(|span| Position::of(text, span.start)),
                problem: error.message().to_owned(),
            }),
            Self::Json => serde_json::from_str(text).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                let place = format!(" at line {line} column {column}");
                SyntaxError {
                    position: (line > 0).then_some(Position { line, column: column.max(1) }),
                    problem: error.to_string().replace(&place, ""),
                }
            }),
        }
    }

    /// Finds the value at the end of a path.
    pub(super) fn find(self, text: &str, path: &[PathStep]) -> Option<Position> {
        let offset = match self {
            Self::Toml => {
                let table = DeTable::parse(text).ok()?;
                find_toml(&table, path)
            }
            Self::Json => {
                let found = find_json(text, path)?;
                // Both are of one text.
                Some(found.as_ptr() as usize - text.as_ptr() as usize)
            }
        };
        Some(Position::of(text, offset?))
    }
}

fn find_toml(table: &Spanned<DeTable<'_>>, path: &[PathStep]) -> Option<usize> {
    let [PathStep::Field(name), rest @ ..] = path else { return Some(table.span().start) };
    let (_, mut value) = table.get_ref().iter().find(|(key, _)| *key.get_ref() == **name)?;
    let mut rest = rest;
    loop {
        match (value.get_ref(), rest) {
            (_, []) => return Some(value.span().start),
            (DeValue::Array(items), [PathStep::Item(position), others @ ..]) => {
                value = items.get(*position)?;
                rest = others;
            }
            (DeValue::Table(fields), [PathStep::Field(name), others @ ..]) => {
                let (_, found) = fields.iter().find(|(key, _)| *key.get_ref() == **name)?;
                value = found;
                rest = others;
            }
            _ => return None,
        }
    }
}

fn find_json<'t>(text: &'t str, path: &[PathStep]) -> Option<&'t str> {
    use std::collections::HashMap;

    let Some((step, rest)) = path.split_first() else { return Some(text) };
    let inner: &RawValue = match step {
        PathStep::Field(name) => {
            let fields: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            fields.get(name)?
        }
        PathStep::Item(position) => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            items.get(*position)?
        }
    };
    find_json(inner.get(), rest)
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = &text[..offset.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column }
    }

    /// Returns the name of the setting whose name or value stands here, or ends here.
    pub(super) fn setting(self, text: &str) -> Option<String> {
        let line = text.lines().nth(self.line - 1)?;
        let at = line.char_indices().nth(self.column - 1).map_or(line.len(), |(at, _)| at);
        let (before, after) = line.split_at(at);
        let (begin, end) = (name_at_end(before), name_at_begin(after));
        let is_name = |name: &&str| !name.is_empty();
        let is_followed = after[end.len()..].trim_start_matches(['"', ' ']).starts_with(['=', ':']);
        let here = [begin, end].concat();
        if is_followed && !here.is_empty() {
            return Some(here);
        }
        let (before_value, _) = before.rsplit_once(['=', ':'])?;
        let name = Some(name_at_end(before_value.trim_end_matches(['"', ' '])));
        name.filter(is_name).map(str::to_owned)
    }
}

fn is_of_a_name(character: char) -> bool {
    character.is_ascii_lowercase() || character == '_'
}

fn name_at_begin(text: &str) -> &str {
    &text[..text.find(|character| !is_of_a_name(character)).unwrap_or(text.len())]
}

fn name_at_end(text: &str) -> &str {
    &text[text.trim_end_matches(is_of_a_name).len()..]
}
