//! Outcomes as outer layers, metrics and logs name them.

use http::Extensions;

use super::outcome::{Alone, Bypass, Outcome, Refusal, Stale};

/// Way in which the cache answered a request, for outer layers.
///
/// It is in the extensions of the response to a request that carries [`ReportOutcome`].
///
/// ```
/// use tower_support_cache::{Bypass, CacheOutcome, Refusal};
///
/// /// Text for an access log.
/// fn describe(outcome: CacheOutcome) -> String {
///     format!("{} {}", outcome.as_str(), outcome.reason().unwrap_or("-"))
/// }
/// assert_eq!(describe(CacheOutcome::Bypass(Bypass::Credentials)), "bypass credentials");
/// assert_eq!(describe(CacheOutcome::Miss(Err(Refusal::SetCookie))), "miss set-cookie");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheOutcome {
    /// Answered with a stored response.
    Hit,
    /// Answered with a stored response that is no longer fresh.
    Stale(Stale),
    /// Answered with the response that another request's forward brought.
    Collapsed,
    /// Forwarded. The response is stored, or will be with the end of its body; or it is refused.
    Miss(Result<(), Refusal>),
    /// Forwarded by itself, and not stored.
    Alone(Alone),
    /// Forwarded without consulting the cache.
    Bypass(Bypass),
    /// Not forwarded, because of `only-if-cached`, and answered by 504.
    Unsatisfied,
    /// Not forwarded, because the budget of the origin is spent
    /// ([`Exhausted::Refuse`](crate::Exhausted::Refuse)), and answered by 503.
    Exhausted,
    /// Forwarded as a write.
    Write,
    /// Forwarded in the background, after the caller had its response. Only logs show it.
    Refresh(Result<(), Refusal>),
}

impl CacheOutcome {
    /// Returns the name of the outcome in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale(_) => "stale",
            Self::Collapsed => "collapsed",
            Self::Miss(_) => "miss",
            Self::Alone(_) => "alone",
            Self::Bypass(_) => "bypass",
            Self::Unsatisfied => "unsatisfied",
            Self::Exhausted => "exhausted",
            Self::Write => "write",
            Self::Refresh(_) => "refresh",
        }
    }

    /// Returns the name of its reason in metrics and logs. `None` if the outcome needs none.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Stale(reason) => Some(reason.as_str()),
            Self::Alone(reason) => Some(reason.as_str()),
            Self::Bypass(reason) => Some(reason.as_str()),
            Self::Miss(stored) | Self::Refresh(stored) => stored.err().map(Refusal::as_str),
            Self::Hit | Self::Collapsed | Self::Unsatisfied | Self::Exhausted | Self::Write => None,
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CacheOutcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut outcome = serializer.serialize_struct("CacheOutcome", 2)?;
        outcome.serialize_field("name", self.as_str())?;
        outcome.serialize_field("reason", &self.reason())?;
        outcome.end()
    }
}

impl From<&Outcome> for CacheOutcome {
    fn from(outcome: &Outcome) -> Self {
        match *outcome {
            Outcome::Hit { .. } => Self::Hit,
            Outcome::Stale { why, .. } => Self::Stale(why),
            Outcome::Rescued { .. } => Self::Stale(Stale::Error),
            Outcome::Refreshed { stored, .. } => Self::Refresh(stored),
            Outcome::Collapsed { .. } => Self::Collapsed,
            Outcome::Led { stored, .. } => Self::Miss(stored),
            Outcome::Alone { reason, .. } => Self::Alone(reason),
            Outcome::Bypassed { reason, .. } => Self::Bypass(reason),
            Outcome::Unsatisfied => Self::Unsatisfied,
            Outcome::Exhausted => Self::Exhausted,
            Outcome::Written { .. } => Self::Write,
        }
    }
}

/// Mark of a request whose [`CacheOutcome`] an outer layer wants in the extensions of the response.
///
/// Put it into the extensions of the request. Without it a response has no such extension, since one costs
/// three allocations, which is more than the rest of a hit.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, Service, service_fn};
/// use tower_support_cache::{CacheOutcome, MemoryStore, ReportOutcome, SupportCacheLayer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let inner = service_fn(async |_: Request<String>| {
///     Ok::<_, std::convert::Infallible>(Response::new("the cases".to_owned()))
/// });
/// let mut cached = SupportCacheLayer::new(MemoryStore::new()).layer(inner);
/// let mut request = Request::get("/accounts/A1/cases").body(String::new()).unwrap();
/// request.extensions_mut().insert(ReportOutcome);
/// let response = cached.call(request).await.unwrap();
/// assert_eq!(response.extensions().get(), Some(&CacheOutcome::Miss(Ok(()))));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportOutcome;

/// Place, besides metrics and log, in which the outcome of a request is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutcomeReport {
    #[default]
    Nowhere,
    Extension,
}

impl OutcomeReport {
    /// Reads the mark of a request.
    #[inline]
    pub(crate) fn of(request: &Extensions) -> Self {
        match request.get::<ReportOutcome>() {
            Some(ReportOutcome) => Self::Extension,
            None => Self::Nowhere,
        }
    }

    /// Reports an outcome in the extensions of its response.
    #[inline]
    pub(crate) fn put(self, outcome: &Outcome, response: &mut Extensions) {
        if self == Self::Extension {
            response.insert(CacheOutcome::from(outcome));
        }
    }
}
