//! Stored responses.

mod fields;
pub(crate) mod gauge;
pub(crate) mod hop_by_hop;
pub(crate) mod interned;
mod kept;
mod packed;
#[cfg(feature = "redis")]
mod stored;
mod weight;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::AGE, response};

use crate::{
    clock::Instant,
    entry::gauge::Gauge,
    fence::sequence::{Fence, Sequence},
    key::Slot,
    key::vary::Nominated,
};

use self::{
    fields::Fields,
    weight::{OVERHEAD, response_weight},
};

pub(crate) use self::{
    fields::Mould,
    packed::{exact_copy, lies_with_head},
};
#[cfg(feature = "redis")]
pub(crate) use self::{
    fields::{Fields as StoredFields, Learned, Shared, Value, with_slots},
    stored::{SourceRecord, StoredHead},
};

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The head of a response as it is stored and sent again, with when it was made.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    fields: Fields,
    pub(crate) received: Instant,
    initial_age: Duration,
    lifetime: Duration,
    /// `None` where there are none, as for most.
    windows: Option<Box<Windows>>,
}

/// For how long after it is stale a response is of some use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    /// To answer at once while the origin is asked (RFC 5861 §3).
    pub(crate) while_revalidate: Duration,
    /// To answer where the origin fails (RFC 5861 §4).
    pub(crate) if_error: Duration,
    /// To ask the origin about it.
    pub(crate) to_validate: Duration,
}

impl Windows {
    /// Whether it may answer at all while it is stale.
    pub(crate) fn allow_stale(&self) -> bool {
        !self.while_revalidate.is_zero() || !self.if_error.is_zero()
    }

    fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    pub(crate) fn longest(&self) -> Duration {
        self.while_revalidate.max(self.if_error).max(self.to_validate)
    }
}

/// When a response was asked for and received, and how long it is fresh from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) requested: Instant,
    pub(crate) received: Instant,
    pub(crate) lifetime: Duration,
}

impl Timing {
    /// Returns `corrected_age_value` (RFC 9111 §4.2.3). A local origin's `Date` adds nothing to it.
    pub(crate) fn corrected_age(&self, fields: &HeaderMap) -> Duration {
        let response_delay = self.received.saturating_duration_since(self.requested);
        age_value(fields).saturating_add(response_delay)
    }
}

impl Head {
    /// Copies a response's head; `stripped` fields are left out. Copies its body too, from chunks,
    /// in the same go.
    pub(crate) fn with_body(
        origin: &response::Parts,
        (mould, stripped): (&Mould, &[HeaderName]),
        timing: Timing,
        body: &[Bytes],
    ) -> (Self, Bytes) {
        let (fields, body) = mould.cast(&origin.headers, stripped, body);
        let head = Self {
            status: origin.status,
            fields,
            received: timing.received,
            initial_age: timing.corrected_age(&origin.headers),
            lifetime: timing.lifetime,
            windows: None,
        };
        (head, body)
    }

    /// Copies a response's head.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn new(origin: &response::Parts, timing: Timing) -> Self {
        Self::with_body(origin, (&Mould::default(), &[]), timing, &[]).0
    }

    /// Says for how long it is of use after it is stale.
    pub(crate) fn set_windows(&mut self, windows: Windows) {
        self.windows = windows.boxed();
    }

    /// Makes the response at least as old as its origin's clock says.
    pub(crate) fn be_at_least(&mut self, initial_age: Duration) {
        self.initial_age = self.initial_age.max(initial_age);
    }

    /// Returns the current age (RFC 9111 §4.2.3), and how long the response stays fresh.
    #[inline]
    pub(crate) fn age_and_ttl(&self, now: Instant) -> (Duration, Duration) {
        // Subtracted once for both.
        let resident = now.saturating_duration_since(self.received);
        (self.initial_age.saturating_add(resident), self.lifetime.saturating_sub(resident))
    }

    pub(crate) fn fresh_until(&self) -> Instant {
        self.received + self.lifetime
    }

    /// Returns for how long it is of use after it is stale.
    pub(crate) fn windows(&self) -> Windows {
        self.windows.as_deref().copied().unwrap_or_default()
    }

    /// Whether it may answer requests that did not ask the origin about it themselves.
    pub(crate) fn may_be_shared(&self) -> bool {
        !self.lifetime.is_zero() || self.windows().allow_stale()
    }

    /// Returns for how many whole seconds it has been stale.
    pub(crate) fn staleness(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.fresh_until()).as_secs()
    }

    /// Returns the fields as they are stored, with slots for what each reuse says anew.
    pub(crate) fn stored(&self) -> HeaderMap {
        self.fields.to_map()
    }

    /// Puts the fields into a map, with the two slots filled.
    #[inline]
    pub(crate) fn put_fields(
        &self,
        fields: &mut HeaderMap,
        age: HeaderValue,
        cache_status: HeaderValue,
    ) {
        self.fields.put(fields, age, cache_status);
    }
}

/// RFC 9111 §5.1: the first member counts where there are several, and an invalid one not at all.
/// More seconds than can be told are 2^31 (§1.2.2).
fn age_value(fields: &HeaderMap) -> Duration {
    let line = fields.get(AGE).map(HeaderValue::as_bytes).unwrap_or_default();
    let first = line.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    let digits = std::str::from_utf8(first).unwrap_or_default();
    if digits.is_empty() || !first.iter().all(u8::is_ascii_digit) {
        return Duration::ZERO;
    }
    Duration::from_secs(digits.parse::<u32>().unwrap_or(u32::MAX).min(1 << 31).into())
}

/// Which fill an entry comes from.
#[derive(Debug)]
pub(crate) struct Provenance {
    pub(crate) slot: Slot,
    pub(crate) fence: Fence,
    /// When the request was forwarded.
    pub(crate) requested: Instant,
    pub(crate) gauge: Arc<Gauge>,
}

/// The route of an entry that nobody has noted it of.
const UNKNOWN: u32 = u32::MAX;

/// What a store keeps for one slot: a response, or the note that there is none to be had.
pub struct Entry {
    provenance: Provenance,
    /// [`UNKNOWN`] until it is noted.
    route: AtomicU32,
    content: Content,
    fresh_until: Instant,
    is_held: AtomicBool,
    weight: u64,
    /// What is its own, and not of what it is a copy of, if it is one.
    #[cfg(feature = "redis")]
    copied: Option<Box<stored::Copied>>,
}

/// What an entry tells of its slot.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most entries are responses")]
pub(crate) enum Content {
    Response { head: Head, body: Bytes },
    Pass,
    Nominated(Nominated),
}

impl Entry {
    /// A response, with its body as it is stored.
    pub(crate) fn response(provenance: Provenance, head: Head, body: Bytes) -> Self {
        let weight = response_weight(&head, &body);
        let fresh_until = head.fresh_until();
        Self::new(provenance, Content::Response { head, body }, fresh_until, weight)
    }

    /// A slot whose responses may not be stored until `until`: requests for it neither wait for
    /// each other nor store anything (also known as hit-for-miss).
    pub(crate) fn pass(provenance: Provenance, until: Instant) -> Self {
        Self::new(provenance, Content::Pass, until, 0)
    }

    /// A note of the fields that responses of this slot nominate: they are found by the values of
    /// these. Fresh until `until`, at least as long as any of them.
    pub(crate) fn nominated(provenance: Provenance, nominated: Nominated, until: Instant) -> Self {
        let weight = nominated.names().iter().map(|name| name.as_str().len() + 64).sum();
        Self::new(provenance, Content::Nominated(nominated), until, weight)
    }

    fn new(
        provenance: Provenance,
        content: Content,
        fresh_until: Instant,
        content_weight: usize,
    ) -> Self {
        let slot = &provenance.slot;
        let identity = slot.key.as_str().len() + slot.variant.as_bytes().len() + slot.tags.weight();
        let weight = (size_of::<Self>() + OVERHEAD + identity + content_weight) as u64;
        let is_held = AtomicBool::new(false);
        let route = AtomicU32::new(UNKNOWN);
        Self {
            provenance,
            route,
            content,
            fresh_until,
            is_held,
            weight,
            #[cfg(feature = "redis")]
            copied: None,
        }
    }

    /// Returns where the entry belongs.
    pub fn slot(&self) -> &Slot {
        &self.provenance.slot
    }

    /// Notes the route that the response is of, by its position among the routes of every layer with
    /// the scope that the variant holds. It is the same whoever notes it.
    pub(crate) fn note_route(&self, route: usize) {
        if let Ok(route) = u32::try_from(route) {
            self.route.store(route, Ordering::Relaxed);
        }
    }

    /// Returns the route that the response is of, if it is known.
    #[inline]
    pub(crate) fn route(&self) -> Option<usize> {
        let route = self.route.load(Ordering::Relaxed);
        (route != UNKNOWN).then_some(route as usize)
    }

    /// Returns the number at which its fill began.
    pub fn fence(&self) -> Fence {
        self.provenance.fence
    }

    /// Returns the number at which it was read or made, in the sequence of where it is held. For a copy
    /// that is another one than the store's.
    pub(crate) fn held_at(&self) -> Fence {
        #[cfg(feature = "redis")]
        if let Some(copied) = &self.copied {
            return copied.held_at;
        }
        self.fence()
    }

    /// Whether nothing has invalidated it, by its key or by a tag, since its fill began.
    pub(crate) fn is_current(&self, sequence: &Sequence) -> bool {
        sequence.is_slot_current(self.slot(), self.fence())
    }

    /// Returns the bytes of memory it occupies, the overhead of maps around it included.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Returns whether it may answer a request now (RFC 9111 §4.2).
    pub fn is_fresh(&self) -> bool {
        self.is_fresh_at(crate::clock::now())
    }

    /// Returns whether `other` was asked of the origin later than this one.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.provenance.requested < other.provenance.requested
    }

    /// Counts the entry as held in this process's memory, from now until it is dropped. A store
    /// calls it when it keeps an entry.
    pub fn hold(&self) {
        if !self.is_held.swap(true, Ordering::Relaxed) {
            self.provenance.gauge.hold(self.weight);
        }
    }

    /// Counts the entry as evicted: a store calls it when it removed the entry to make room.
    pub fn evict(&self) {
        self.provenance.gauge.evict();
    }

    /// Returns until when it is of use, stale or not: a store may forget it then.
    pub(crate) fn kept_until(&self) -> Instant {
        match &self.content {
            Content::Response { head, .. } => self.fresh_until + head.windows().longest(),
            Content::Pass | Content::Nominated(_) => self.fresh_until,
        }
    }

    /// Returns the entry as it is after a soft invalidation at `fence`: stale from now on, and of use
    /// for as long as its windows say. `None` if it is of none.
    pub(crate) fn outdated(&self, fence: Fence) -> Option<Self> {
        let now = crate::clock::now();
        let Provenance { slot, requested, gauge, .. } = &self.provenance;
        let (slot, gauge) = (slot.clone(), Arc::clone(gauge));
        let provenance = Provenance { slot, fence, requested: *requested, gauge };
        match &self.content {
            Content::Pass => None,
            Content::Nominated(names) => {
                Some(Self::nominated(provenance, names.clone(), self.fresh_until))
            }
            Content::Response { head, .. } if head.windows.is_none() => None,
            Content::Response { head, body } => {
                let mut head = Head::clone(head);
                head.lifetime = head.lifetime.min(now.saturating_duration_since(head.received));
                Some(Self::response(provenance, head, body.clone()))
            }
        }
    }

    /// RFC 9111 §4.2: fresh while the lifetime *exceeds* the age, so equality is stale.
    pub(crate) fn is_fresh_at(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    /// Returns when it stops being fresh.
    pub(crate) fn fresh_until(&self) -> Instant {
        self.fresh_until
    }

    pub(crate) fn as_response(&self) -> Option<(&Head, &Bytes)> {
        match &self.content {
            Content::Response { head, body } => Some((head, body)),
            Content::Pass | Content::Nominated(_) => None,
        }
    }

    /// Returns the nominated fields by whose values the responses of this slot are found, if this
    /// is the note of them.
    pub(crate) fn as_nominated(&self) -> Option<&Nominated> {
        match &self.content {
            Content::Nominated(nominated) if self.is_fresh() => Some(nominated),
            _ => None,
        }
    }

    /// Whether the entry answers requests: a response, or the note that there is none to be had.
    pub fn is_answer(&self) -> bool {
        !matches!(self.content, Content::Nominated(_))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if *self.is_held.get_mut() {
            self.provenance.gauge.release(self.weight);
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.provenance.slot.key)
            .field("is_answer", &self.is_answer())
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
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
