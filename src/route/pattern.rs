//! Path patterns in `matchit`'s syntax. Parameters are distinguished by position, not by name, so
//! two rules may name the parameters of one path differently.

use http::uri::PathAndQuery;
use matchit::InsertError;

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
            .map_err(|problem| ConfigError::new(ConfigErrorKind::Pattern, "pattern", problem))
    }

    fn checked(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("does not start with `/`: write `/{text}`"));
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
            let inside = from
                .strip_prefix('{')
                .ok_or("has `}` without `{`: write `}}` for a literal brace")?;
            let (parameter, after) = inside
                .split_once('}')
                .ok_or("has `{` without `}`: write `{{` for a literal brace")?;
            let (star, name) = match parameter.strip_prefix('*') {
                Some(name) => ("*", name),
                None => ("", parameter),
            };
            check_name(star, name)?;
            if names.iter().any(|known| known == name) {
                return Err(format!("has `{{{name}}}` twice: give each parameter its own name"));
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

    /// Returns the parameters' names in order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the place of a parameter among all.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Adds the pattern to `router`, which has the `earlier` patterns.
    pub(super) fn insert<T>(
        &self,
        router: &mut matchit::Router<T>,
        value: T,
        earlier: &[&Self],
    ) -> Result<(), ConfigError> {
        router.insert(&self.positional, value).map_err(|error| {
            let (kind, problem) = match error {
                InsertError::Conflict { with } => {
                    let other = earlier.iter().find(|other| other.positional == with);
                    let other = other.map_or(&*with, |other| &other.text);
                    let problem = format!("matches paths that `{other}` matches: remove one route");
                    (ConfigErrorKind::Clash, problem)
                }
                error => (ConfigErrorKind::Pattern, problem_of(&error)),
            };
            ConfigError::new(kind, "pattern", problem)
        })
    }
}

fn problem_of(error: &InsertError) -> String {
    match error {
        InsertError::InvalidParamSegment => {
            "has two parameters in one segment: put a `/` between them".to_owned()
        }
        InsertError::InvalidCatchAll => "has `{*..}` before its end: write it last".to_owned(),
        other => format!("{other}: see the syntax at `CacheRoute::get`"),
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
        let fix = if star.is_empty() { "{name}" } else { "{*rest}" };
        return Err(format!("has a parameter without a name: write `{fix}`"));
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
