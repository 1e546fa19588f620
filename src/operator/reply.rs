//! Replies.

use std::{
    collections::BTreeMap,
    fmt::Display,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::json::{array, object, optional, string};
use crate::{
    handle::RouteName,
    insight::AuditReport,
    metrics::{BucketSnapshot, Snapshot, recent_outcomes::RecordedOutcome},
};

/// The page, with a place for its number.
const PAGE: &str = include_str!("page.html");

/// Response to an operator.
pub(super) struct Reply {
    status: StatusCode,
    media_type: &'static str,
    text: String,
    /// Field that says what to do instead.
    hint: Option<(HeaderName, &'static str)>,
    /// Policy of a page.
    policy: Option<String>,
}

impl Reply {
    pub(super) fn text(status: StatusCode, text: impl Display) -> Self {
        let (media_type, text) = ("text/plain; charset=utf-8", format!("{text}\n"));
        Self { status, media_type, text, hint: None, policy: None }
    }

    pub(super) fn done() -> Self {
        Self::text(StatusCode::OK, "done")
    }

    pub(super) fn refused(problem: impl Display) -> Self {
        Self::text(StatusCode::BAD_REQUEST, problem)
    }

    /// Asks for the token. Only for the page a browser is to ask its user.
    pub(super) fn unauthorized<B>(request: &Request<B>) -> Self {
        let reply = Self::text(StatusCode::UNAUTHORIZED, "a token is needed");
        let challenge = match request.uri().path().ends_with("/page") {
            true => "Basic realm=\"cache\", charset=\"UTF-8\"",
            false => "Bearer",
        };
        Self { hint: Some((WWW_AUTHENTICATE, challenge)), ..reply }
    }

    pub(super) fn forged() -> Self {
        Self::text(StatusCode::FORBIDDEN, "a page from elsewhere has sent it")
    }

    /// Returns the page. Each copy has a number of its own, by which its policy knows its scripts.
    pub(super) fn page() -> Self {
        let mut nonce = [0; 16];
        if getrandom::fill(&mut nonce).is_err() {
            return Self::text(StatusCode::SERVICE_UNAVAILABLE, "there are no random bytes");
        }
        let nonce = format!("{:032x}", u128::from_be_bytes(nonce));
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let media_type = "text/html; charset=utf-8";
        let text = PAGE.replace("{nonce}", &nonce);
        Self { status: StatusCode::OK, media_type, text, hint: None, policy: Some(policy) }
    }

    pub(super) fn not_allowed(allowed: &'static str) -> Self {
        let text = format!("send it by {allowed}");
        let reply = Self::text(StatusCode::METHOD_NOT_ALLOWED, text);
        Self { hint: Some((ALLOW, allowed)), ..reply }
    }

    /// Writes routes and counts as JSON.
    pub(super) fn state(routes: &[RouteName], counts: &Snapshot) -> Self {
        let Snapshot { buckets, flights, detached, hook_pending, writes, .. } = counts;
        let Snapshot { invalidations, tag_invalidations, invalidations_unmatched, .. } = counts;
        let buckets =
            object(buckets.iter().map(|(name, bucket)| (escaped(name), bucket_counts(bucket))));
        let routes = array(routes.iter().map(|RouteName { route, bucket }| {
            object([("route", string(route)), ("bucket", string(bucket))])
        }));
        let store = match &counts.store {
            Some(store) => object([
                ("is_linked", store.is_linked.to_string()),
                ("is_breaker_open", store.is_breaker_open.to_string()),
                ("pending", store.pending.to_string()),
            ]),
            None => "null".to_owned(),
        };
        let json = object([
            ("routes", routes),
            ("buckets", buckets),
            ("flights", flights.to_string()),
            ("detached", detached.to_string()),
            ("hook_pending", hook_pending.to_string()),
            ("writes", writes.to_string()),
            ("invalidations", invalidations.to_string()),
            ("tag_invalidations", tag_invalidations.to_string()),
            ("invalidations_unmatched", invalidations_unmatched.to_string()),
            ("store", store),
        ]);
        Self::json(json)
    }

    /// Writes outcomes as JSON: times in milliseconds since 1970, durations in seconds.
    pub(super) fn outcomes(outcomes: &[RecordedOutcome]) -> Self {
        Self::json(array(outcomes.iter().map(|recorded| {
            let at = recorded.at.duration_since(UNIX_EPOCH).unwrap_or_default();
            object([
                ("at", at.as_millis().to_string()),
                ("outcome", string(recorded.outcome.as_str())),
                ("reason", optional(recorded.outcome.reason().map(string))),
                ("age", optional(recorded.age.map(|age| age.as_secs()))),
                ("origin_time", optional(recorded.origin_time.map(|time| time.as_secs_f64()))),
                ("size", optional(recorded.size)),
            ])
        })))
    }

    /// Writes the reports of audits as JSON: times in milliseconds since 1970.
    pub(super) fn audits(reports: &BTreeMap<String, AuditReport>) -> Self {
        Self::json(object(reports.iter().map(|(name, report)| (escaped(name), audit(report)))))
    }

    fn json(text: String) -> Self {
        let media_type = "application/json";
        Self { status: StatusCode::OK, media_type, text, hint: None, policy: None }
    }

    pub(super) fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.text);
        *response.status_mut() = self.status;
        let fields = [(CONTENT_TYPE, self.media_type), (CACHE_CONTROL, "no-store")];
        for (name, value) in fields.into_iter().chain(self.hint) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let fields = response.headers_mut();
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(policy) = self.policy.and_then(|policy| policy.parse().ok()) {
            fields.insert(CONTENT_SECURITY_POLICY, policy);
            fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        response
    }
}

fn bucket_counts(bucket: &BucketSnapshot) -> String {
    let ratio = optional(bucket.hit_ratio().map(|ratio| format!("{ratio:.4}")));
    object([
        ("switch", format!("\"{}\"", bucket.switch.as_str())),
        ("requests", bucket.requests().to_string()),
        ("hit_ratio", ratio),
        ("saved_seconds", format!("{:.3}", bucket.saved.as_secs_f64())),
        ("hits", bucket.hits.to_string()),
        ("stale", object(&bucket.stale)),
        ("misses", bucket.misses.to_string()),
        ("coalesced", bucket.coalesced.to_string()),
        ("stored", bucket.stored.to_string()),
        ("bypassed", object(&bucket.bypassed)),
        ("refused", object(&bucket.refused)),
        ("shadow", object(&bucket.shadow)),
        ("entries", bucket.entries.to_string()),
        ("bytes", bucket.bytes.to_string()),
    ])
}

/// Escapes a name of a member.
fn escaped(name: &str) -> String {
    let quoted = string(name);
    quoted[1..quoted.len() - 1].to_owned()
}

fn audit(report: &AuditReport) -> String {
    let names = |counts: &BTreeMap<String, u64>| {
        object(counts.iter().map(|(name, count)| (escaped(name), *count)))
    };
    let suspects = report.suspects.iter().map(|(name, field)| {
        let counts = object([("changed", field.changed), ("confirmed", field.confirmed)]);
        (escaped(name), counts)
    });
    let time = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let changes = report.changes.iter();
    let changes =
        changes.map(|change| object([("from", time(change.from)), ("to", time(change.to))]));
    let rules = report.missing_rules.iter().map(|rule| {
        object([
            ("line", string(&rule.line)),
            ("held", rule.held.to_string()),
            ("failed", rule.failed.to_string()),
        ])
    });
    object([
        ("results", object(&report.results)),
        ("not_deterministic", names(&report.not_deterministic)),
        ("undeclared", names(&report.undeclared)),
        ("suspects", object(suspects)),
        ("staleness", object(&report.staleness)),
        ("changes", array(changes)),
        ("missing_rules", array(rules)),
    ])
}
