//! Report of outcomes: metrics, the log, and `Cache-Status`.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_LENGTH};
use sfv::Token;

use crate::{
    entry::{BySeconds, CACHE_STATUS},
    metrics::{
        Metrics,
        cache_outcome::OutcomeReport,
        outcome::{ForwardReason, Outcome},
        recent_outcomes::OutcomeDetails,
        status_field::StatusField,
    },
};

/// Reporter of outcomes.
pub(crate) struct Reporter {
    pub(crate) metrics: Arc<Metrics>,
    /// Field that clients see in place of `Cache-Status`.
    pub(crate) status_field: StatusField,
    name: Token,
    /// Members of `Cache-Status` for hits, by the seconds that are left.
    hits: BySeconds,
    /// Member of `Cache-Status` for the usual miss.
    stored: HeaderValue,
}

const STORED: Outcome =
    Outcome::Led { reason: ForwardReason::UriMiss, stored: Ok(()), status: StatusCode::OK };

impl Reporter {
    pub(crate) fn new(metrics: Arc<Metrics>, name: Token, status_field: StatusField) -> Self {
        // What a hit says, up to the number.
        let hit = Outcome::Hit { ttl: 0 }.cache_status(&name);
        let prefix = hit.to_str().unwrap_or_default().trim_end_matches('0').to_owned();
        let stored = STORED.cache_status(&name);
        Self { metrics, status_field, name, hits: BySeconds::new(prefix), stored }
    }

    /// Counts and logs an outcome, and returns what `Cache-Status` says of it.
    #[inline]
    pub(crate) fn ended(
        &self,
        bucket: usize,
        outcome: Outcome,
        details: impl FnOnce() -> OutcomeDetails,
    ) -> HeaderValue {
        self.metrics.ended(bucket, &outcome, details);
        match outcome {
            Outcome::Hit { ttl } => self.hits.get(ttl),
            _ if outcome == STORED => self.stored.clone(),
            _ => outcome.cache_status(&self.name),
        }
    }

    /// The same for a response that was forwarded in this time, whose fields are at hand.
    pub(crate) fn mark(
        &self,
        bucket: usize,
        outcome: Outcome,
        fields: &mut HeaderMap,
        origin_time: Option<Duration>,
    ) {
        let size = || fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let details = || OutcomeDetails { origin_time, size: size(), ..OutcomeDetails::now() };
        // Appended: members of this field go from the origin to the client (RFC 9211 §2).
        // A map of fields that is full has no room for it.
        let status = self.ended(bucket, outcome, details);
        let _ = fields.try_append(CACHE_STATUS, status);
    }

    /// A response to an unsafe request, which belongs to no bucket.
    pub(crate) fn mark_written<B>(&self, report: OutcomeReport, response: &mut Response<B>) {
        let outcome = Outcome::Written { status: response.status() };
        self.metrics.written(&outcome);
        report.put(&outcome, response.extensions_mut());
        let _ = response.headers_mut().try_append(CACHE_STATUS, outcome.cache_status(&self.name));
    }
}
