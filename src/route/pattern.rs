//! Path patterns: `matchit`'s, with parameters told apart by position rather than by name, so that
//! two rules may name the parameters of one path differently.

use crate::error::{ConfigError, ConfigErrorKind};

/// A path pattern and the names of its parameters in order.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    names: Vec<String>,
    positional: String,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('/') {
            return Err("a pattern starts with `/`");
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
            let inside = from.strip_prefix('{').ok_or("a `}` without its `{`")?;
            let (parameter, after) = inside.split_once('}').ok_or("a `{` without its `}`")?;
            let (star, name) = match parameter.strip_prefix('*') {
                Some(name) => ("*", name),
                None => ("", parameter),
            };
            if name.is_empty() || names.iter().any(|known| known == name) {
                return Err("parameters need names, each once");
            }
            positional.push_str(&format!("{{{star}p{}}}", names.len()));
            names.push(name.to_owned());
            rest = after;
        }
        positional.push_str(rest);
        Ok(Self { text: text.to_owned(), names, positional })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns what every path that it matches begins with, as far as it has neither parameters nor
    /// braces.
    pub(crate) fn literal_head(&self) -> &str {
        self.text.split(['{', '}']).next().unwrap_or_default()
    }

    /// The same for two patterns that differ in parameter names only.
    pub(crate) fn positional(&self) -> &str {
        &self.positional
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

/// Adds `pattern` to `router`; `describe` names the route in the error.
pub(crate) fn insert<T>(
    router: &mut matchit::Router<T>,
    pattern: &Pattern,
    value: T,
    describe: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    router.insert(pattern.positional(), value).map_err(|error| {
        let kind = match error {
            matchit::InsertError::Conflict { .. } => ConfigErrorKind::Clash,
            _ => ConfigErrorKind::Pattern,
        };
        let problem = match kind {
            ConfigErrorKind::Clash => "matches the same paths as another route".to_owned(),
            _ => error.to_string(),
        };
        ConfigError::new(kind, Some(describe()), "pattern", problem)
    })
}
