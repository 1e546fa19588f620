//! Places in the text of a configuration, so that an error has its line.

use std::{collections::HashMap, path::Path};

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

/// Step on the way to a setting.
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
            _ if path.is_empty() => 0,
            Self::Toml => find_in_table(DeTable::parse(text).ok()?.get_ref(), path)?,
            // Both are of one text.
            Self::Json => find_json(text, path)?.as_ptr() as usize - text.as_ptr() as usize,
        };
        Some(Position::of(text, offset))
    }
}

fn find_in_table(table: &DeTable<'_>, path: &[PathStep]) -> Option<usize> {
    let (PathStep::Field(name), rest) = path.split_first()? else { return None };
    let (_, value) = table.iter().find(|(key, _)| *key.get_ref() == **name)?;
    find_in_value(value, rest)
}

fn find_in_value(value: &Spanned<DeValue<'_>>, path: &[PathStep]) -> Option<usize> {
    match (value.get_ref(), path) {
        (_, []) => Some(value.span().start),
        (DeValue::Array(items), [PathStep::Item(position), rest @ ..]) => {
            find_in_value(items.get(*position)?, rest)
        }
        (DeValue::Table(fields), path) => find_in_table(fields, path),
        _ => None,
    }
}

fn find_json<'t>(text: &'t str, path: &[PathStep]) -> Option<&'t str> {
    let Some((step, rest)) = path.split_first() else { return Some(text) };
    let inner: &RawValue = match step {
        PathStep::Field(name) => {
            serde_json::from_str::<HashMap<String, &RawValue>>(text).ok()?.get(name)?
        }
        PathStep::Item(position) => {
            serde_json::from_str::<Vec<&RawValue>>(text).ok()?.get(*position)?
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
        let end = name_at_begin(after);
        let name = [name_at_end(before), end].concat();
        let is_followed = after[end.len()..].trim_start_matches(['"', ' ']).starts_with(['=', ':']);
        if is_followed && !name.is_empty() {
            return Some(name);
        }
        let (before_value, _) = before.rsplit_once(['=', ':'])?;
        let name = name_at_end(before_value.trim_end_matches(['"', ' ']));
        (!name.is_empty()).then(|| name.to_owned())
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
