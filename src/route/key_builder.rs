//! Builders of keys and tags.

use std::fmt;

use super::{
    pattern::Pattern,
    request::{Extract, KeyRequest, RequestView},
    template::Template,
};
use crate::{
    error::ConfigError,
    key::{PrimaryKey, Tag},
};

/// Key or tag of a route, as it was given.
#[derive(Clone)]
pub(super) enum KeySource {
    Template(String),
    Closure(Extract),
}

/// Builder of the keys or tags of a route.
#[derive(Clone)]
pub(super) enum KeyBuilder {
    Template(Template),
    Closure(Extract),
}

impl KeyBuilder {
    /// Checks a source. `field` names its setter in an error.
    pub(super) fn new(
        source: KeySource,
        pattern: &Pattern,
        field: &'static str,
    ) -> Result<Self, ConfigError> {
        Ok(match source {
            KeySource::Template(text) => Self::Template(Template::parse(&text, pattern, field)?),
            KeySource::Closure(builder) => Self::Closure(builder),
        })
    }

    /// Returns whether the path alone decides the result.
    pub(super) fn is_template(&self) -> bool {
        matches!(self, Self::Template(_))
    }

    /// Returns the key of a request, or `None` if it has no usable one.
    pub(super) fn key(&self, pattern: &Pattern, view: RequestView<'_, '_>) -> Option<PrimaryKey> {
        match self {
            Self::Template(template) => template.key(&view),
            Self::Closure(builder) => PrimaryKey::checked(&builder(&KeyRequest { view, pattern })?),
        }
    }

    /// Returns whether some request makes this key. A closure is taken to make any.
    pub(super) fn can_make(&self, key: &str) -> bool {
        match self {
            Self::Template(template) => template.can_make(key),
            Self::Closure(_) => true,
        }
    }

    /// Returns the template, if it is one.
    pub(super) fn template(&self) -> Option<&str> {
        match self {
            Self::Template(template) => Some(&template.text),
            Self::Closure(_) => None,
        }
    }

    /// Returns the template if it makes this key. A closure is taken to make any, and shows no template.
    pub(super) fn template_of(&self, key: &str) -> Option<&str> {
        match self {
            Self::Template(template) => template.can_make(key).then_some(&template.text),
            Self::Closure(_) => Some("(closure)"),
        }
    }

    /// Returns the tag of a request, or `None` if it has no usable one.
    pub(super) fn tag(&self, pattern: &Pattern, view: RequestView<'_, '_>) -> Option<Tag> {
        Some(Tag::new(self.key(pattern, view)?.as_str()))
    }
}

impl fmt::Debug for KeyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(template) => template.fmt(f),
            Self::Closure(_) => f.write_str("closure"),
        }
    }
}
