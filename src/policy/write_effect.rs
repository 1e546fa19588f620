//! Effect of a write, as its response tells it.

use http::{Extensions, StatusCode};

/// Effect of a write on what it changes.
///
/// The status of a response tells it: 202 is [`Accepted`](Self::Accepted), another 2xx or 3xx is
/// [`Changed`](Self::Changed). 408, 499 and 5xx are [`Unknown`](Self::Unknown), and another 4xx is
/// [`Unchanged`](Self::Unchanged). A handler that knows better adds the effect to its response as an
/// extension, which is sent to no client.
///
/// ```
/// use axum::{Extension, http::StatusCode, response::IntoResponse};
/// use tower_support_cache::WriteEffect;
///
/// /// Answers for a service in maintenance, which has not looked at the request.
/// async fn refuse() -> impl IntoResponse {
///     (StatusCode::SERVICE_UNAVAILABLE, Extension(WriteEffect::Unchanged))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteEffect {
    /// The write is committed.
    Changed,
    /// Nothing was changed, so nothing is invalidated.
    Unchanged,
    /// The write will be committed later. What it changes is invalidated, and nothing is stored for it within
    /// [`accepted_for`](crate::InvalidateRoute::accepted_for).
    Accepted,
    /// The write may have been committed, or may still be. What it may change is invalidated, and nothing is
    /// stored for it within [`unknown_for`](crate::InvalidateRoute::unknown_for).
    Unknown,
}

impl WriteEffect {
    /// Returns the effect that a handler has stated, or else the one of the status.
    pub(crate) fn of(status: StatusCode, extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_else(|| Self::of_status(status))
    }

    fn of_status(status: StatusCode) -> Self {
        /// nginx's "client closed request", used by proxies that gave up waiting.
        const CLIENT_CLOSED_REQUEST: u16 = 499;
        match status.as_u16() {
            202 => Self::Accepted,
            408 | CLIENT_CLOSED_REQUEST | 500.. => Self::Unknown,
            400..=499 => Self::Unchanged,
            // RFC 9111 §4.4: a non-error status is 2xx or 3xx.
            _ => Self::Changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_unknown_where_the_origin_may_have_committed() {
        for (status, effect) in [
            (200, WriteEffect::Changed),
            (202, WriteEffect::Accepted),
            (303, WriteEffect::Changed),
            (400, WriteEffect::Unchanged),
            (404, WriteEffect::Unchanged),
            (408, WriteEffect::Unknown),
            (429, WriteEffect::Unchanged),
            (499, WriteEffect::Unknown),
            (500, WriteEffect::Unknown),
            (504, WriteEffect::Unknown),
            (999, WriteEffect::Unknown),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(WriteEffect::of(status, &Extensions::new()), effect, "{status}");
        }
    }

    #[test]
    fn a_handler_knows_better_than_its_status() {
        let mut extensions = Extensions::new();
        extensions.insert(WriteEffect::Unchanged);
        assert_eq!(WriteEffect::of(StatusCode::OK, &extensions), WriteEffect::Unchanged);
    }
}
