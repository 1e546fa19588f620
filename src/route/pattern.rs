//! Path patterns in `matchit`'s syntax. Parameters are distinguished by position, not by name, so
//! two rules may name the parameters of one path differently.

use http::uri::PathAndQuery;

use crate::error::{ConfigError, ConfigErrorKind};

/// Path pattern and the names of its parameters in order.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    names: Vec<String>,
    positional: String,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::checked(text)
            .map_err(|problem| ConfigError::new(ConfigErrorKind::Pattern, None, "pattern", problem))
    }

    fn checked(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a pattern starts with `/`".to_owned());
        }
        text.split('/').try_for_each(check_segment)?;
        let mut names = Vec::new();
        let mut positional = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, from) = rest.split_at(at);
            positional.push_str(literal);
            if from.starts_with("{{") || from.starts_with("}}") {
                positional.push_str(&from[..2]);
                rest = &from[2..];
                continue;
            }
            let inside = from.strip_prefix('{').ok_or("a `}` without its `{`")?;
            let (parameter, after) = inside.split_once('}').ok_or("a `{` without its `}`")?;
            let (star, name) = match parameter.strip_prefix('*') {
                Some(name) => ("*", name),
                None => ("", parameter),
            };
            check_name(star, name)?;
            if names.iter().any(|known| known == name) {
                return Err("parameters need names, each once".to_owned());
            }
            positional.push_str(&format!("{{{star}p{}}}", names.len()));
            names.push(name.to_owned());
            rest = after;
        }
        positional.push_str(rest);
        check_characters(&positional)?;
        Ok(Self { text: text.to_owned(), names, positional })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns a text that is equal for patterns that differ in parameter names only.
    pub(super) fn positional(&self) -> &str {
        &self.positional
    }

    /// Returns the place of a parameter among all.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Adds the pattern to `router`.
    pub(super) fn insert<T>(
        &self,
        router: &mut matchit::Router<T>,
        value: T,
    ) -> Result<(), ConfigError> {
        router.insert(&self.positional, value).map_err(|error| {
            let (kind, problem) = match error {
                matchit::InsertError::Conflict { .. } => {
                    (ConfigErrorKind::Clash, "matches the same paths as another route".to_owned())
                }
                error => (ConfigErrorKind::Pattern, error.to_string()),
            };
            ConfigError::new(kind, None, "pattern", problem)
        })
    }
}

/// Refuses the parameters of axum 0.7: they would be literal text, which hardly any path has.
fn check_segment(segment: &str) -> Result<(), String> {
    let fix = match segment.as_bytes() {
        [b':', ..] => format!("{{{}}}", name_in(&segment[1..]).unwrap_or("name")),
        [b'*', ..] => {
            let name = segment.trim_start_matches('*');
            format!("{{*{}}}", name_in(name).unwrap_or("rest"))
        }
        _ => return Ok(()),
    };
    Err(format!("`{segment}` is axum 0.7's syntax for a parameter: write `{fix}`"))
}

/// Refuses an expression, a type or an option of a parameter: it would be part of the name.
fn check_name(star: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("parameters need names, each once".to_owned());
    }
    if name.chars().all(|c| is_in_names(c) || c == '.') {
        return Ok(());
    }
    let fix = name_in(name.trim_start_matches('*')).unwrap_or("name");
    Err(format!("`{{{star}{name}}}` has more than a name: write `{{{star}{fix}}}`"))
}

/// Refuses characters that no path of a request has.
fn check_characters(pattern: &str) -> Result<(), String> {
    let is_in_paths = |character: char| {
        let path = format!("/{character}");
        path.parse::<PathAndQuery>().is_ok_and(|parsed| parsed.path() == path)
    };
    match pattern.chars().find(|character| !is_in_paths(*character)) {
        None => Ok(()),
        Some('?' | '#') => Err("no path has `?` or `#`: write it without its query".to_owned()),
        Some(other) => Err(format!("no path has {other:?}: percent-encode it")),
    }
}

/// Returns the name that a text begins with.
fn name_in(text: &str) -> Option<&str> {
    let end = text.find(|c| !is_in_names(c)).unwrap_or(text.len());
    (end > 0).then_some(&text[..end])
}

fn is_in_names(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}
