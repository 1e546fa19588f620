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

/// Step on the way to a setting.
#[derive(Clone, Debug)]
pub(super) enum Step {
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
    pub(super) fn find(self, text: &str, path: &[Step]) -> Option<Position> {
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

fn find_toml(table: &Spanned<DeTable<'_>>, path: &[Step]) -> Option<usize> {
    let [Step::Field(name), rest @ ..] = path else { return Some(table.span().start) };
    let (_, mut value) = table.get_ref().iter().find(|(key, _)| *key.get_ref() == **name)?;
    let mut rest = rest;
    loop {
        match (value.get_ref(), rest) {
            (_, []) => return Some(value.span().start),
            (DeValue::Array(items), [Step::Item(position), others @ ..]) => {
                value = items.get(*position)?;
                rest = others;
            }
            (DeValue::Table(fields), [Step::Field(name), others @ ..]) => {
                let (_, found) = fields.iter().find(|(key, _)| *key.get_ref() == **name)?;
                value = found;
                rest = others;
            }
            _ => return None,
        }
    }
}

fn find_json<'t>(text: &'t str, path: &[Step]) -> Option<&'t str> {
    use std::collections::HashMap;

    let Some((step, rest)) = path.split_first() else { return Some(text) };
    let inner: &RawValue = match step {
        Step::Field(name) => {
            let fields: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            fields.get(name)?
        }
        Step::Item(position) => {
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

    /// Returns the name of the setting whose value, or whose name, stands here.
    pub(super) fn setting(self, text: &str) -> Option<String> {
        let line = text.lines().nth(self.line - 1)?;
        let from = line.char_indices().nth(self.column - 1).map_or(line.len(), |(at, _)| at);
        let before = line[..from].trim_end();
        let name = match before.strip_suffix(['=', ':']) {
            Some(name) => name,
            None => line[from..].split(['=', ':']).next()?,
        };
        let name = name.trim().rsplit([',', '{', ' ', '\t']).next()?.trim_matches('"');
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_name.then(|| name.to_owned())
    }
}
