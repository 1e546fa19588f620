//! Field that shows clients how the cache answered.

use http::{HeaderMap, HeaderName};

use crate::entry::CACHE_STATUS;

/// Field in which a response says how the cache answered it, as clients see it.
///
/// It is about responses on routes of the layer. Lines of caches behind this one go with its own.
///
/// ```
/// use http::HeaderName;
/// use tower_support_cache::{MemoryStore, StatusField, SupportCacheLayer};
///
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .status_field(StatusField::Named(HeaderName::from_static("x-portal-cache")))
///     .build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusField {
    /// `Cache-Status` (RFC 9211).
    #[default]
    Standard,
    /// A field of this name.
    Named(HeaderName),
    /// None: clients learn nothing. [`CacheOutcome`](crate::CacheOutcome) is for layers of the service.
    Hidden,
}

impl StatusField {
    /// Renames `Cache-Status` among the fields of a response, or removes it.
    pub(crate) fn apply(&self, fields: &mut HeaderMap) {
        match self {
            Self::Standard => {}
            Self::Hidden => {
                fields.remove(CACHE_STATUS);
            }
            Self::Named(name) => {
                let lines: Vec<_> = fields.get_all(CACHE_STATUS).iter().cloned().collect();
                fields.remove(CACHE_STATUS);
                for line in lines {
                    // It takes the room of the one that was removed.
                    let _ = fields.try_append(name, line);
                }
            }
        }
    }
}
