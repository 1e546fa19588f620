//! Path patterns in `matchit`'s syntax. Parameters are distinguished by position, not by name, so
//! two rules may name the parameters of one path differently.

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
        let refuse =
            |problem: &str| ConfigError::new(ConfigErrorKind::Pattern, None, "pattern", problem);
        if !text.starts_with('/') {
            return Err(refuse("a pattern starts with `/`"));
        }
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
            let inside = from.strip_prefix('{').ok_or_else(|| refuse("a `}` without its `{`"))?;
            let (parameter, after) =
                inside.split_once('}').ok_or_else(|| refuse("a `{` without its `}`"))?;
            let (star, name) = match parameter.strip_prefix('*') {
                Some(name) => ("*", name),
                None => ("", parameter),
            };
            if name.is_empty() || names.iter().any(|known| known == name) {
                return Err(refuse("parameters need names, each once"));
            }
            positional.push_str(&format!("{{{star}p{}}}", names.len()));
            names.push(name.to_owned());
            rest = after;
        }
        positional.push_str(rest);
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
