//! Configuration of a layer in a file of its own, in TOML or JSON.

use std::{
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{
    closures::Closures,
    position::{Format, PathStep, Position},
    sections::LayerConfig,
};
use crate::{
    error::ConfigError, handle::SupportCacheHandle, layer::SupportCacheLayer, store::ChosenStore,
};

/// Configuration of a layer that was read from a file, in TOML or, if its name ends in `.json`, in JSON.
///
/// ```
/// use tower_support_cache::config::{Closures, ConfigFile};
///
/// let file = ConfigFile::parse("cache.toml", r#"
///     name = "portal"
///
///     [store]
///     kind = "memory"
///     capacity = "256MiB"
///
///     [[cache]]
///     pattern = "/accounts/{account}/cases"
///     key = "support:cases:{account}"
///     ttl = "2m"
///     stale_if_error = "1h"
///
///     [[invalidate]]
///     method = "POST"
///     pattern = "/accounts/{account}/cases"
///     keys = ["support:cases:{account}"]
/// "#)?;
/// let layer = file.layer(&Closures::new())?;
/// # let _ = layer;
///
/// let error = ConfigFile::parse("cache.toml", "[[cache]]\npattern = \"/news\"\nttl = 30").unwrap_err();
/// assert!(error.to_string().starts_with("cache.toml:3:7: ttl: "), "{error}");
/// # Ok::<(), tower_support_cache::config::ConfigFileError>(())
/// ```
#[derive(Clone)]
pub struct ConfigFile {
    path: PathBuf,
    text: String,
    config: LayerConfig,
}

/// Error of a configuration file. The message names the file, the line, the setting, the problem and the
/// fix.
///
/// ```
/// use tower_support_cache::config::{Closures, ConfigFile};
///
/// let text = "[[cache]]\npattern = \"/cases/{case}\"\nkey = \"case:{id}\"\nttl = \"30s\"";
/// let file = ConfigFile::parse("cache.toml", text)?;
/// let error = file.layer(&Closures::new()).unwrap_err();
/// assert_eq!((error.line(), error.field()), (Some(3), Some("key")));
/// # Ok::<(), tower_support_cache::config::ConfigFileError>(())
/// ```
#[derive(Debug)]
pub struct ConfigFileError {
    path: PathBuf,
    position: Option<Position>,
    field: Option<String>,
    problem: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read; text that is no TOML or JSON; an unknown setting, or a value of another
    /// type.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, ConfigFileError> {
        let path = path.into();
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, text),
            Err(error) => Err(ConfigFileError::unreadable(path, error)),
        }
    }

    /// Parses the text of a file. `path` names it in errors, and tells its format.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read), but for reading.
    pub fn parse(
        path: impl Into<PathBuf>,
        text: impl Into<String>,
    ) -> Result<Self, ConfigFileError> {
        let (path, text) = (path.into(), text.into());
        match Format::of(&path).parse(&text) {
            Ok(config) => Ok(Self { path, text, config }),
            Err(syntax) => Err(ConfigFileError {
                field: syntax.position.and_then(|position| position.setting(&text)),
                path,
                position: syntax.position,
                problem: syntax.problem,
                source: None,
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the configuration.
    pub fn config(&self) -> &LayerConfig {
        &self.config
    }

    /// Builds the layer over the store that the file names.
    ///
    /// # Errors
    ///
    /// As for [`LayerConfig::layer`], with the line of the setting at fault.
    pub fn layer(
        &self,
        closures: &Closures,
    ) -> Result<SupportCacheLayer<ChosenStore>, ConfigFileError> {
        self.config.layer(closures).map_err(|error| self.locate(error))
    }

    /// Replaces the routes of a running layer by those of the file. What is stored for routes that mean the
    /// same stays, and so do counts and switches. Settings of the layer and of its store stay as they were.
    ///
    /// # Errors
    ///
    /// As for [`SupportCacheHandle::reload`], with the line of the setting at fault. Nothing has changed then.
    pub fn reload(
        &self,
        cache: &SupportCacheHandle,
        closures: &Closures,
    ) -> Result<(), ConfigFileError> {
        let routes = self.config.routes(closures).and_then(|routes| cache.reload(routes));
        routes.map_err(|error| self.locate(error))
    }

    /// Finds the place of an error in the file: the setting, or else its section.
    pub(super) fn locate(&self, error: ConfigError) -> ConfigFileError {
        let section = self.config.section_of(&error).path();
        let format = Format::of(&self.path);
        let place = |name: &str| {
            let path: Vec<_> =
                section.iter().cloned().chain([PathStep::Field(name.to_owned())]).collect();
            Some((name.to_owned(), format.find(&self.text, &path)?))
        };
        // A builder has one setter for one key or tag, the file has a list of them.
        let (field, position) =
            place(error.field()).or_else(|| place(&format!("{}s", error.field()))).map_or_else(
                || (error.field().to_owned(), format.find(&self.text, &section)),
                |(field, position)| (field, Some(position)),
            );
        ConfigFileError {
            path: self.path.clone(),
            position,
            field: Some(field),
            problem: error.problem().to_owned(),
            source: Some(Box::new(error)),
        }
    }
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold secrets.
        f.debug_struct("ConfigFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ConfigFileError {
    pub(super) fn unreadable(path: PathBuf, error: io::Error) -> Self {
        let problem = format!("cannot be read: {error}");
        Self { path, position: None, field: None, problem, source: Some(Box::new(error)) }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the line at fault, from 1. `None` if the file cannot be read, or lacks what is missing.
    pub fn line(&self) -> Option<usize> {
        self.position.map(|position| position.line)
    }

    /// Returns the setting at fault, if one is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl fmt::Display for ConfigFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if let Some(field) = &self.field {
            write!(f, " {field}:")?;
        }
        write!(f, " {}", self.problem)
    }
}

impl Error for ConfigFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
