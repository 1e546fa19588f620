//! A cached route, checked.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, StatusCode};

use super::{
    Coalescing, QueryPolicy,
    pattern::Pattern,
    request::{Extract, KeyRequest, RequestView},
    template::Template,
};
use crate::{
    entry::Windows,
    error::ConfigErrorKind,
    key::{Nominated, PrimaryKey, Tag, Tags},
    policy::{Credentials, Freshness, RequestDirectives},
};

/// What a lifetime that the origin decides is taken to be where another's matters: a day.
const USUAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest lifetime that a response can have: a century, long enough for any of them, and short
/// enough to add to any clock.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How a route makes its keys and tags, as it was given.
#[derive(Clone)]
pub(super) enum KeySource {
    Template(String),
    Closure(Extract),
}

/// How a route makes its keys and tags.
#[derive(Clone)]
pub(super) enum KeyBuilder {
    Template(Template),
    Closure(Extract),
}

impl KeyBuilder {
    pub(super) fn new(
        source: KeySource,
        pattern: &Pattern,
    ) -> Result<Self, (ConfigErrorKind, String)> {
        Ok(match source {
            KeySource::Closure(builder) => Self::Closure(builder),
            KeySource::Template(text) => Self::Template(Template::parse(&text, pattern)?),
        })
    }

    pub(super) fn tag(&self, pattern: &Pattern, view: RequestView<'_, '_>) -> Option<Tag> {
        Some(Tag::new(self.key(pattern, view)?.as_str()))
    }

    pub(super) fn key(&self, pattern: &Pattern, view: RequestView<'_, '_>) -> Option<PrimaryKey> {
        match self {
            Self::Template(template) => template.key(&view),
            Self::Closure(builder) => PrimaryKey::checked(&builder(&KeyRequest { view, pattern })?),
        }
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

/// A cached route, checked.
pub(crate) struct CacheRule {
    /// Method and pattern, for messages.
    pub(crate) route: String,
    pub(crate) pattern: Pattern,
    /// The key template as given, for the digest of the policy.
    pub(super) template: Option<String>,
    pub(super) key: KeyBuilder,
    pub(super) tags: Vec<KeyBuilder>,
    pub(crate) bucket: String,
    pub(crate) lifetimes: Lifetimes,
    /// For how long responses may be used stale that do not say it themselves.
    pub(crate) windows: Windows,
    /// How long the origin is waited for where what is stale may answer instead.
    pub(crate) soft_timeout: Option<Duration>,
    /// How eagerly what is fresh is refreshed; 0 is not at all.
    pub(crate) early_refresh: f32,
    pub(crate) credentials: Credentials,
    pub(crate) query: QueryPolicy,
    pub(crate) request_directives: RequestDirectives,
    /// Fields that every variant holds, whether a response nominates them or not.
    pub(crate) vary: Nominated,
    /// Fields that take the place of `Cache-Control`, the first first.
    pub(crate) targeted: Arc<[HeaderName]>,
    /// Fields that are not stored.
    pub(crate) stripped: Arc<[HeaderName]>,
    pub(crate) body_limit: u64,
    pub(crate) coalescing: Coalescing,
}

/// How long responses are fresh, by status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    pub(crate) freshness: Freshness,
    /// How much of the time since its last change a response is taken to be fresh, in percent.
    pub(crate) heuristic_percent: u8,
    pub(super) ttl: Option<Duration>,
    pub(super) negative_ttl: Option<Duration>,
    pub(super) statuses: Vec<StatusCode>,
    pub(super) jitter_percent: u8,
}

impl Lifetimes {
    /// Returns how long the route says that a response of this status is fresh.
    pub(crate) fn of(&self, status: StatusCode) -> Option<Duration> {
        let is_negative = status == StatusCode::NOT_FOUND || status == StatusCode::GONE;
        match self.negative_ttl {
            Some(negative_ttl) if is_negative => Some(negative_ttl),
            _ => self.ttl.filter(|_| self.statuses.contains(&status)),
        }
    }

    /// Takes as much off a lifetime as jitter may and `dice` decides.
    pub(crate) fn jittered(&self, lifetime: Duration, dice: u64) -> Duration {
        // No lifetime has more nanoseconds than this: they would be 584 years.
        let nanos = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
        let most = nanos / 100 * u64::from(self.jitter_percent);
        let part = (u128::from(most) * u128::from(dice)) >> 64;
        lifetime - Duration::from_nanos(part as u64)
    }

    /// Returns how long responses are fresh, most of them at most where they say it themselves.
    fn longest(&self) -> Duration {
        let own = self.ttl.max(self.negative_ttl).unwrap_or_default();
        match self.freshness {
            Freshness::Fixed => own,
            Freshness::Origin => own.max(USUAL),
        }
    }
}

impl CacheRule {
    /// Returns how long responses are of use, stale or not; one that says it itself may be longer.
    pub(crate) fn longest(&self) -> Duration {
        self.lifetimes.longest() + self.windows.longest()
    }

    /// Whether a digest by the caller key is part of what identifies a response from the start.
    pub(crate) fn digests_by_the_caller_key(&self) -> bool {
        self.credentials.is_per_caller() || !self.vary.names().is_empty()
    }

    /// Whether a field is left out of what is stored.
    pub(crate) fn strips(&self, name: &HeaderName) -> bool {
        self.stripped.contains(name)
    }

    /// Whether what is stale is of any use.
    pub(crate) fn keeps_stale(&self) -> bool {
        self.validates() || self.windows.allow_stale()
    }

    /// Whether the origin is asked if what is stored is still good.
    pub(crate) fn validates(&self) -> bool {
        self.lifetimes.freshness == Freshness::Origin
    }

    pub(crate) fn key(&self, view: RequestView<'_, '_>) -> Option<PrimaryKey> {
        self.key.key(&self.pattern, view)
    }

    /// Returns the tags of all responses to a request; `None` where one could not be made.
    pub(crate) fn tags(&self, view: RequestView<'_, '_>) -> Option<Tags> {
        if self.tags.is_empty() {
            return Some(Tags::none());
        }
        self.tags.iter().map(|builder| builder.tag(&self.pattern, view)).collect()
    }

    /// Whether the target alone decides the tags, so that the variant need not hold them.
    pub(crate) fn target_implies_tags(&self) -> bool {
        self.tags.iter().all(|builder| matches!(builder, KeyBuilder::Template(_)))
    }

    /// Whether the target alone decides the key, so that the variant need not hold it.
    pub(crate) fn target_implies_key(&self) -> bool {
        matches!(self.key, KeyBuilder::Template(_))
    }

    /// Whether its variants mostly hold no more than the target: no key and no tag of a closure, no
    /// caller, no declared fields.
    pub(crate) fn is_plain(&self) -> bool {
        let is_shared = !matches!(self.credentials, Credentials::PerCaller(_));
        let is_of_target = self.target_implies_key() && self.target_implies_tags();
        is_of_target && is_shared && self.vary.names().is_empty()
    }

    /// The settings that routes of one bucket share.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.lifetimes == other.lifetimes
            && self.body_limit == other.body_limit
            && self.coalescing == other.coalescing
            && self.windows == other.windows
            && self.soft_timeout == other.soft_timeout
            && self.early_refresh == other.early_refresh
    }

    /// Adds what decides the meaning of stored entries to the digest of the policy.
    pub(crate) fn digest(&self, hasher: &mut blake3::Hasher) {
        let text = format!(
            "{}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{}\n",
            self.pattern.positional(),
            self.template,
            self.tags,
            self.lifetimes,
            self.query,
            self.credentials,
            self.vary,
            self.stripped,
            self.bucket,
        );
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    }
}

impl fmt::Debug for CacheRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheRule").field("route", &self.route).finish_non_exhaustive()
    }
}
