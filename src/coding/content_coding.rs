//! Names of content codings, and those of a route.

use std::fmt;

/// Content coding of a response (RFC 9110 §8.4.1).
///
/// ```
/// use tower_support_cache::ContentCoding;
///
/// assert_eq!(ContentCoding::Brotli.as_str(), "br");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum ContentCoding {
    /// `zstd` (RFC 8878), at level 6.
    #[cfg_attr(feature = "config", serde(rename = "zstd"))]
    Zstd,
    /// `br` (RFC 7932), at quality 6.
    #[cfg_attr(feature = "config", serde(rename = "br"))]
    Brotli,
    /// `gzip` (RFC 1952), at level 6.
    #[cfg_attr(feature = "config", serde(rename = "gzip"))]
    Gzip,
}

/// Codings of a route's responses.
#[derive(Clone, Debug, Default)]
pub(crate) struct CodingPolicy {
    /// In the order of the route's preference; none for the plain form alone.
    pub(crate) offered: Vec<ContentCoding>,
    /// Set if responses that are for a caller are encoded, too.
    pub(crate) is_for_callers: bool,
}

impl ContentCoding {
    /// Every coding.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Returns its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

impl fmt::Display for ContentCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
