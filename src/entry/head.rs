//! The head of a stored response.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::AGE, response};

use super::shape::{ShapeCache, StoredFields};
use crate::clock::Instant;

/// The head of a response as it is stored and sent again, with its times.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) fields: StoredFields,
    pub(crate) received: Instant,
    pub(crate) initial_age: Duration,
    pub(super) lifetime: Duration,
    /// `None` where there are none, as for most.
    pub(super) windows: Option<Box<Windows>>,
    pub(super) by_route: ByRoute,
}

/// Times after its freshness lifetime for which a response is of some use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    /// For an answer at once while the origin is asked (RFC 5861 §3).
    pub(crate) while_revalidate: Duration,
    /// For an answer in place of an error (RFC 5861 §4).
    pub(crate) if_error: Duration,
    /// For asking the origin about it.
    pub(crate) to_validate: Duration,
}

/// Times of a stored response that its route has set, and not the response itself. Another route that finds
/// the response may have shorter ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByRoute {
    pub(crate) lifetime: bool,
    pub(crate) while_revalidate: bool,
    pub(crate) if_error: bool,
}

/// Times of a response's request and arrival, and its freshness lifetime from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) requested: Instant,
    pub(crate) received: Instant,
    pub(crate) lifetime: Duration,
}

// ===== impl Head =====

impl Head {
    /// Copies a response's head and the chunks of its body. Fields named in `stripped` are left out.
    pub(crate) fn with_body(
        origin: &response::Parts,
        stripped: &[HeaderName],
        shapes: &ShapeCache,
        timing: Timing,
        body: &[Bytes],
    ) -> (Self, Bytes) {
        let (fields, body) = StoredFields::copy(&origin.headers, stripped, shapes, body);
        let head = Self {
            status: origin.status,
            fields,
            received: timing.received,
            initial_age: timing.corrected_age(&origin.headers),
            lifetime: timing.lifetime,
            windows: None,
            by_route: ByRoute::default(),
        };
        (head, body)
    }

    /// Copies a response's head.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn new(origin: &response::Parts, timing: Timing) -> Self {
        Self::with_body(origin, &[], &ShapeCache::default(), timing, &[]).0
    }

    /// Sets the times for which it is of use once it is stale.
    pub(crate) fn set_windows(&mut self, windows: Windows) {
        self.windows = windows.boxed();
    }

    /// Names the times that its route has set.
    pub(crate) fn set_by_route(&mut self, by_route: ByRoute) {
        self.by_route = by_route;
    }

    /// Adds a field. A head that has as many as a map holds stays as it is.
    pub(crate) fn add(&mut self, name: &HeaderName, value: HeaderValue, shapes: &ShapeCache) {
        if let Some(fields) = self.fields.with(name, value, shapes) {
            self.fields = fields;
        }
    }

    /// Raises its initial age to at least `initial_age`, which the origin's clock implies.
    pub(crate) fn be_at_least(&mut self, initial_age: Duration) {
        self.initial_age = self.initial_age.max(initial_age);
    }

    /// Returns the current age (RFC 9111 §4.2.3), and the rest of the freshness lifetime.
    #[inline]
    pub(crate) fn age_and_ttl(&self, now: Instant) -> (Duration, Duration) {
        // Subtracted once for both.
        let resident = now.saturating_duration_since(self.received);
        (self.initial_age.saturating_add(resident), self.lifetime.saturating_sub(resident))
    }

    /// Returns the age at the arrival.
    pub(crate) fn initial_age(&self) -> Duration {
        self.initial_age
    }

    /// Returns the freshness lifetime from the arrival on.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Returns the times that its route has set.
    pub(crate) fn by_route(&self) -> ByRoute {
        self.by_route
    }

    /// Returns the end of its freshness lifetime.
    pub(crate) fn fresh_until(&self) -> Instant {
        self.received + self.lifetime
    }

    /// Returns whether it is of any use once it is stale.
    pub(crate) fn has_windows(&self) -> bool {
        self.windows.is_some()
    }

    /// Returns the times for which it is of use once it is stale.
    pub(crate) fn windows(&self) -> Windows {
        self.windows.as_deref().copied().unwrap_or_default()
    }

    /// Returns whether it may answer requests that did not ask the origin about it themselves.
    pub(crate) fn may_be_shared(&self) -> bool {
        !self.lifetime.is_zero() || self.windows().allow_stale()
    }

    /// Returns the whole seconds since it became stale.
    pub(crate) fn staleness(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.fresh_until()).as_secs()
    }

    /// Returns the fields as they are stored, with empty slots for those that each reuse sets.
    pub(crate) fn stored(&self) -> HeaderMap {
        self.fields.to_map()
    }

    /// Writes the stored fields into `fields`, with an `Age` and a `Cache-Status`.
    #[inline]
    pub(crate) fn put_fields(
        &self,
        fields: &mut HeaderMap,
        age: HeaderValue,
        cache_status: HeaderValue,
    ) {
        self.fields.write(fields, age, cache_status);
    }

    /// Returns the bytes of memory that it occupies outside itself.
    pub(super) fn weight(&self) -> usize {
        let windows = self.windows.as_ref().map_or(0, |windows| size_of_val(&**windows));
        self.fields.weight() + windows
    }
}

// ===== impl Windows =====

impl Windows {
    /// Returns whether any of them allows a stale answer.
    pub(crate) fn allow_stale(&self) -> bool {
        !self.while_revalidate.is_zero() || !self.if_error.is_zero()
    }

    /// Returns the longest of them.
    pub(crate) fn longest(&self) -> Duration {
        self.while_revalidate.max(self.if_error).max(self.to_validate)
    }

    pub(super) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

// ===== impl Timing =====

impl Timing {
    /// Returns `corrected_age_value` (RFC 9111 §4.2.3). A local origin's `Date` adds nothing to it.
    pub(crate) fn corrected_age(&self, fields: &HeaderMap) -> Duration {
        let response_delay = self.received.saturating_duration_since(self.requested);
        age_value(fields).saturating_add(response_delay)
    }
}

/// Reads `Age`. The first of several members counts, and an invalid one does not (RFC 9111 §5.1). A
/// number too large to represent is 2^31 (§1.2.2).
fn age_value(fields: &HeaderMap) -> Duration {
    let line = fields.get(AGE).map(HeaderValue::as_bytes).unwrap_or_default();
    let first = line.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    let digits = std::str::from_utf8(first).unwrap_or_default();
    if digits.is_empty() || !first.iter().all(u8::is_ascii_digit) {
        return Duration::ZERO;
    }
    Duration::from_secs(digits.parse::<u32>().unwrap_or(u32::MAX).min(1 << 31).into())
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> Head {
        let mut response = Response::builder();
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let now = crate::clock::now();
        let lifetime = Duration::from_secs(60);
        Head::new(&parts, Timing { requested: now, received: now, lifetime })
    }

    fn sent(head: &Head) -> Vec<(String, String)> {
        let mut fields = HeaderMap::new();
        let [age, status] = ["7", "ours; hit"].map(HeaderValue::from_static);
        head.put_fields(&mut fields, age, status);
        fields
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn fields_of_the_connection_are_not_stored() {
        let head =
            head(&[("connection", "close, X-Hop"), ("x-hop", "1"), ("te", "x"), ("x-end", "2")]);
        let names: Vec<_> = sent(&head).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["age", "cache-status", "x-end"]);
    }

    #[test]
    fn fields_for_all_recipients_are_stored_whatever_connection_names() {
        let named = "vary, Content-Encoding, cache-control, ETag";
        let head = head(&[
            ("connection", named),
            ("vary", "x"),
            ("content-encoding", "gzip"),
            ("etag", "1"),
        ]);
        let names: Vec<_> = sent(&head).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["age", "cache-status", "vary", "content-encoding", "etag"]);
    }

    #[test]
    fn repeated_fields_keep_their_lines_and_an_inner_cache_keeps_its_status() {
        let head = head(&[("link", "a"), ("link", "b"), ("cache-status", "inner; hit")]);
        let lines = [
            ("age", "7"),
            ("link", "a"),
            ("link", "b"),
            ("cache-status", "inner; hit"),
            ("cache-status", "ours; hit"),
        ];
        assert_eq!(sent(&head), lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_age_from_the_origin_is_counted_in() {
        let saturated = 1 << 31;
        for (field, seconds) in [
            ("5", 5),
            ("6, 9", 6),
            ("-1", 0),
            ("+1", 0),
            ("x", 0),
            ("", 0),
            ("99999999999", saturated),
        ] {
            let head = head(&[("age", field)]);
            assert_eq!(head.age_and_ttl(head.received).0.as_secs(), seconds, "{field}");
        }
    }
}
