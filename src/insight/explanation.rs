//! Explanation of a request: what the cache would do with it now, and why.

use std::{fmt, time::Duration};

use crate::{
    key::{PrimaryKey, Strength, Subject, Tag},
    metrics::outcome::{Alone, Bypass, ForwardReason, Stale},
};

/// Explanation of one request, from [`SupportCacheHandle::explain`](crate::SupportCacheHandle::explain).
///
/// It holds what its request holds: a key or a tag may name an account. `Display` writes it as text for
/// people.
///
/// ```
/// use http::Request;
/// use tower_support_cache::{Forecast, ForwardReason, MemoryStore, SupportCacheLayer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
/// let request = Request::get("/accounts/A1/cases").body(()).unwrap();
/// let explanation = cache.explain(&request).await;
/// assert_eq!(explanation.key.as_deref(), Some("support:cases:A1"));
/// assert_eq!(explanation.forecast, Forecast::Miss(ForwardReason::UriMiss));
/// println!("{explanation}");
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Explanation {
    /// Method and pattern of the cached route that matches; `None` if none does.
    pub route: Option<String>,
    /// Bucket of this route.
    pub bucket: Option<String>,
    /// Primary key, the unit of invalidation. `None` if the request bypasses the cache.
    pub key: Option<String>,
    /// Tags that the request tells. Its response may have further ones.
    pub tags: Vec<String>,
    /// Names of what is in the variant, and no values: requests that differ in one of these share no
    /// response.
    pub variant: Vec<String>,
    /// Course that the request would take now.
    pub forecast: Forecast,
    /// Writes that would invalidate its response.
    pub invalidated_by: Vec<InvalidatingRule>,
    /// Keys and tags that the request would invalidate, if it is a write and has changed something.
    pub invalidates: Vec<InvalidatedSubject>,
}

/// Course that a request would take now.
///
/// ```
/// use tower_support_cache::{Bypass, Forecast};
///
/// let forecast = Forecast::Bypass(Bypass::Credentials);
/// assert_eq!(forecast.to_string(), "bypass: credentials");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Forecast {
    /// No cached route and no rule matches: it passes through.
    Pass,
    /// A stored response answers.
    Hit {
        /// Age of the response (RFC 9111 §4.2.3).
        age: Duration,
        /// Rest of its lifetime.
        fresh_for: Duration,
    },
    /// A stored response answers although it is stale.
    Stale {
        /// Reason for which it may.
        reason: Stale,
        /// Age of the response.
        age: Duration,
        /// Time since its lifetime ended.
        stale_for: Duration,
        /// Rest of the window in which it may answer.
        left: Duration,
    },
    /// It is forwarded, or waits for a forward that is on its way. The response may be stored.
    Miss(ForwardReason),
    /// It is forwarded by itself, and its response is not stored.
    Alone(Alone),
    /// It is forwarded without consulting the cache.
    Bypass(Bypass),
    /// It is answered by 504 because of `only-if-cached`.
    Unsatisfied,
    /// It is answered by 503, because the budget of the origin is spent.
    Exhausted,
    /// It is a write: it is forwarded, and then invalidates.
    Write,
}

/// Rule by which a write invalidates a response.
///
/// ```
/// use tower_support_cache::InvalidatingRule;
///
/// /// Lists the rules that a reviewer has to look at: their keys are made by closures.
/// fn uncertain(rules: &[InvalidatingRule]) -> impl Iterator<Item = &str> {
///     rules.iter().filter(|rule| !rule.is_certain).map(|rule| &*rule.rule)
/// }
/// assert_eq!(uncertain(&[]).count(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InvalidatingRule {
    /// Method and pattern of the write.
    pub rule: String,
    /// Key or tag by which it does.
    pub subject: InvalidatedSubject,
    /// Set if a write of this rule can name the key or tag. A closure is taken to make any, and is not
    /// certain.
    pub is_certain: bool,
}

/// Key or tag that a write invalidates.
///
/// ```
/// use http::Request;
/// use tower_support_cache::{MemoryStore, SupportCacheLayer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
/// let write = Request::post("/accounts/A1/cases").body(()).unwrap();
/// let changed = cache.explain(&write).await.invalidates;
/// assert_eq!(changed[0].to_string(), "key support:cases:A1");
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InvalidatedSubject {
    /// `key` or `tag`.
    pub kind: &'static str,
    /// Text of the key or tag.
    pub text: String,
    /// Set if responses become stale instead of being removed.
    pub is_soft: bool,
}

impl Explanation {
    /// Creates the explanation of a request that no cached route matches.
    pub(crate) fn unmatched(forecast: Forecast) -> Self {
        Self {
            route: None,
            bucket: None,
            key: None,
            tags: Vec::new(),
            variant: Vec::new(),
            forecast,
            invalidated_by: Vec::new(),
            invalidates: Vec::new(),
        }
    }
}

impl InvalidatedSubject {
    pub(crate) fn of(subject: &Subject, strength: Strength) -> Self {
        match subject {
            Subject::Key(key) => Self::key(key, strength),
            Subject::Tag(tag) => Self::tag(tag, strength),
        }
    }

    pub(crate) fn key(key: &PrimaryKey, strength: Strength) -> Self {
        let (kind, text) = ("key", key.as_str().to_owned());
        Self { kind, text, is_soft: strength == Strength::Soft }
    }

    pub(crate) fn tag(tag: &Tag, strength: Strength) -> Self {
        let (kind, text) = ("tag", tag.text().unwrap_or_else(|| tag.as_str()).to_owned());
        Self { kind, text, is_soft: strength == Strength::Soft }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: &str| match text.is_empty() {
            true => Ok(()),
            false => writeln!(f, "{name:12}{text}"),
        };
        line("route", self.route.as_deref().unwrap_or_default())?;
        line("bucket", self.bucket.as_deref().unwrap_or_default())?;
        line("key", self.key.as_deref().unwrap_or_default())?;
        line("tags", &self.tags.join(", "))?;
        line("variant", &self.variant.join(", "))?;
        line("now", &self.forecast.to_string())?;
        for InvalidatingRule { rule, subject, is_certain } in &self.invalidated_by {
            let doubt = if *is_certain { "" } else { " (perhaps: a closure makes it)" };
            line("changed by", &format!("{rule}: {subject}{doubt}"))?;
        }
        for subject in &self.invalidates {
            line("invalidates", &subject.to_string())?;
        }
        Ok(())
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass: no rule matches"),
            Self::Hit { age, fresh_for } => {
                write!(f, "hit: {} s old, fresh for {} s", age.as_secs(), fresh_for.as_secs())
            }
            Self::Stale { reason, age, stale_for, left } => write!(
                f,
                "stale: {} s old, stale for {} s, answers for {} s more ({reason})",
                age.as_secs(),
                stale_for.as_secs(),
                left.as_secs(),
            ),
            Self::Miss(reason) => write!(f, "miss: {reason}"),
            Self::Alone(reason) => write!(f, "alone: {reason}"),
            Self::Bypass(reason) => write!(f, "bypass: {reason}"),
            Self::Unsatisfied => f.write_str("unsatisfied: nothing stored, and only-if-cached"),
            Self::Exhausted => f.write_str("exhausted: the budget of the origin is spent"),
            Self::Write => f.write_str("write: forwarded"),
        }
    }
}

impl fmt::Display for InvalidatedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let soft = if self.is_soft { " (softly)" } else { "" };
        write!(f, "{} {}{soft}", self.kind, self.text)
    }
}
