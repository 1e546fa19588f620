//! Settings of routes whose requests have content.

use super::{cache_route::CacheRoute, content::Normalizer, request::KeyRequest};

impl CacheRoute {
    /// Sets the largest content of a request that is read, in bytes. Defaults to 64 KiB. For
    /// [`query`](Self::query) and [`post_read`](Self::post_read).
    ///
    /// Each request that waits for its content holds as much memory at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::CacheRoute;
    ///
    /// CacheRoute::query("/search")
    ///     .key("search")
    ///     .ttl(Duration::from_secs(60))
    ///     .content_limit(4 * 1024);
    /// ```
    pub fn content_limit(mut self, bytes: u64) -> Self {
        self.content.get_or_insert_default().limit = bytes;
        self
    }

    /// Gives contents of one meaning one form, by a closure over head and content, so that their requests share
    /// a response. Defaults to the content as it was sent. For [`query`](Self::query) and
    /// [`post_read`](Self::post_read).
    ///
    /// `None` leaves the content as it is, and so does the cache for content with a `Content-Encoding`, and
    /// where the request says `no-transform` (RFC 10008 §2.7). The handler gets the content as it was sent. If
    /// it tells contents apart that the closure does not, one is answered with the response to another.
    ///
    /// `version` stands for the closure, as in [`ttl_with`](Self::ttl_with).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::CacheRoute;
    ///
    /// // The search ignores case.
    /// CacheRoute::query("/search")
    ///     .key("search")
    ///     .normalize_with(1, |_, content| Some(content.to_ascii_lowercase()))
    ///     .ttl(Duration::from_secs(60));
    /// ```
    pub fn normalize_with(
        self,
        version: u32,
        form: impl Fn(&KeyRequest<'_>, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.normalizing(Normalizer::new(version.to_string(), form))
    }

    /// Gives JSON of one meaning one form (RFC 8785), as [`normalize_with`](Self::normalize_with) does: the
    /// order of names, white space, and the spelling of strings and numbers do not count. For content whose
    /// type is `application/json` or ends with `+json`.
    ///
    /// Numbers are the same if they are as 64-bit floats, so `1`, `1.0` and `1e0` are. Content stays as it was
    /// sent if readers may disagree about it: a name that stands twice, an integer of 2^53 or more.
    #[cfg(feature = "json")]
    pub fn normalize_json(self) -> Self {
        self.normalizing(Normalizer::json())
    }

    fn normalizing(mut self, normalizer: Normalizer) -> Self {
        self.content.get_or_insert_default().normalizer = Some(normalizer);
        self
    }
}
