//! Values of settings: durations, sizes, and secrets that need not stand in the file.

use std::{env, fmt, str::FromStr, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};

use crate::error::{ConfigError, ConfigErrorKind};

/// Duration in quotes, such as `"30s"`, `"5m"` or `"1h 30m"`.
///
/// ```
/// use tower_support_cache::config::ConfigDuration;
///
/// let ttl: ConfigDuration = serde_json::from_str(r#""2m""#)?;
/// assert_eq!(ttl.get().as_secs(), 120);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct ConfigDuration(Duration);

impl ConfigDuration {
    /// Returns the duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        const FORM: &str = "a duration in quotes, such as \"30s\" or \"5m\"";
        let text = Text::read(input, FORM)?;
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|error| de::Error::custom(format_args!("`{text}`: {error}: write {FORM}")))
    }
}

/// Amount of memory in quotes, such as `"64MiB"`.
///
/// ```
/// use tower_support_cache::config::ConfigBytes;
///
/// let capacity: ConfigBytes = serde_json::from_str(r#""64MiB""#)?;
/// assert_eq!(capacity.get(), 64 * 1024 * 1024);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct ConfigBytes(u64);

impl ConfigBytes {
    /// Returns the number of bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for ConfigBytes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        const FORM: &str = "an amount of memory in quotes, such as \"64MiB\"";
        let text = Text::read(input, FORM)?;
        ByteSize::from_str(&text)
            .map(|size| Self(size.as_u64()))
            .map_err(|error| de::Error::custom(format_args!("`{text}`: {error}: write {FORM}")))
    }
}

/// Visitor of a text that says in its error which form is expected.
struct Text(&'static str);

impl Text {
    fn read<'de, D: Deserializer<'de>>(input: D, form: &'static str) -> Result<String, D::Error> {
        input.deserialize_str(Self(form))
    }
}

impl de::Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Secret of a configuration: the text itself, or the name of an environment variable that has it.
///
/// `Debug` does not show it.
///
/// ```
/// use tower_support_cache::config::Secret;
///
/// let secret: Secret = serde_json::from_str(r#"{ "env": "PORTAL_CALLER_KEY" }"#)?;
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Secret(Source);

#[derive(Clone, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "a text in quotes, or { env = \"NAME\" }")]
enum Source {
    Text(String),
    Variable { env: String },
}

impl Secret {
    /// Returns the text. `field` names the setting in an error.
    pub(super) fn text(&self, field: &'static str) -> Result<String, ConfigError> {
        match &self.0 {
            Source::Text(text) => Ok(text.clone()),
            Source::Variable { env: name } => env::var(name).map_err(|error| {
                let problem = format!("the variable `{name}` cannot be used ({error}): set it");
                ConfigError::new(ConfigErrorKind::Secret, field, problem)
            }),
        }
    }

    /// Returns a key of 32 bytes. `field` names the setting in an error.
    pub(super) fn key(&self, field: &'static str) -> Result<[u8; 32], ConfigError> {
        let key = blake3::Hash::from_hex(self.text(field)?.trim());
        key.map(|key| *key.as_bytes()).map_err(|_| {
            let problem =
                "is no key: write 64 hexadecimal digits, such as `openssl rand -hex 32` makes";
            ConfigError::new(ConfigErrorKind::Secret, field, problem)
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
