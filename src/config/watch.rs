//! Reload of a configuration file when it changes.

use std::{fs, io, path::PathBuf, time::Duration};

use super::{
    closures::Closures,
    file::{ConfigFile, ConfigFileError},
};
use crate::handle::SupportCacheHandle;

/// Reload of a file into a running layer: on demand, such as by a signal, or whenever the file changes.
///
/// A file with a mistake changes nothing; the error says what is wrong.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::config::{Closures, ConfigFile, Reloader};
///
/// fn start(file: &ConfigFile) -> Result<(), Box<dyn std::error::Error>> {
///     let layer = file.layer(&Closures::new())?;
///     let mut reloader = Reloader::new(file, layer.handle(), Closures::new());
///     tokio::spawn(async move {
///         loop {
///             match reloader.changed(Duration::from_secs(2)).await {
///                 Ok(()) => println!("the configuration is in force"),
///                 Err(error) => eprintln!("the configuration stays as it was: {error}"),
///             }
///         }
///     });
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    /// Text that was tried last, whether it is in force or not. `None` if the file could not be read.
    tried: Option<String>,
    /// Text of the last look.
    seen: Option<String>,
    cache: SupportCacheHandle,
    closures: Closures,
}

impl Reloader {
    /// Returns a reloader of the file that the layer was made of. The closures are those of
    /// [`ConfigFile::layer`].
    pub fn new(file: &ConfigFile, cache: SupportCacheHandle, closures: Closures) -> Self {
        let (path, tried) = (file.path().to_owned(), Some(file.text().to_owned()));
        Self { path, seen: tried.clone(), tried, cache, closures }
    }

    /// Reads the file and replaces the routes, whether it has changed or not: for a signal.
    ///
    /// The file is read on this thread.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or has a mistake. The routes stay as they were.
    pub fn reload(&mut self) -> Result<(), ConfigFileError> {
        self.apply(fs::read_to_string(&self.path))
    }

    /// Waits until the text of the file is another, and replaces the routes. It looks at once, and then
    /// after each interval. A text counts once two looks have found it: an editor may empty a file before it
    /// writes it.
    ///
    /// # Errors
    ///
    /// As for [`reload`](Self::reload), once for each text, and once while the file cannot be read.
    ///
    /// # Cancellation
    ///
    /// A dropped future changes nothing.
    pub async fn changed(&mut self, interval: Duration) -> Result<(), ConfigFileError> {
        loop {
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || fs::read_to_string(path)).await;
            // A panic is none of ours: reading a file has none.
            let read = read.unwrap_or_else(|lost| Err(io::Error::other(lost)));
            let text = read.as_ref().ok();
            let is_whole = text == self.seen.as_ref();
            self.seen = text.cloned();
            if is_whole && self.seen != self.tried {
                return self.apply(read);
            }
            tokio::time::sleep(interval).await;
        }
    }

    fn apply(&mut self, read: io::Result<String>) -> Result<(), ConfigFileError> {
        self.tried = read.as_ref().ok().cloned();
        let text = read.map_err(|error| ConfigFileError::unreadable(self.path.clone(), error))?;
        ConfigFile::parse(&self.path, text)?.reload(&self.cache, &self.closures)
    }
}
