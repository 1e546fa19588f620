//! Entries: what a store keeps for a slot.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

#[cfg(feature = "redis")]
use super::portable::{Copied, SourceRecord, Unasked};
use super::{
    gauge::MemoryGauge,
    head::{Head, Windows},
    weight::OVERHEAD,
};
use crate::{
    clock::{Instant, now},
    coding::ContentCoding,
    fence::{Fence, Sequence},
    key::{Nominated, Slot},
};

/// Bytes that one nominated field takes besides its name.
const PER_NOMINATED: usize = 64;

/// A stored response, or a note about one slot.
///
/// Requests share it and nothing changes it. A store asks it for what it has to know:
///
/// ```
/// use tower_support_cache::store::Entry;
///
/// /// Whether an entry is worth a place in a small store.
/// fn is_worth_keeping(entry: &Entry) -> bool {
///     entry.is_answer() && entry.is_fresh() && entry.weight() < 64 * 1024
/// }
/// ```
pub struct Entry {
    provenance: Provenance,
    content: Content,
    fresh_until: Instant,
    is_held: AtomicBool,
    weight: u64,
    /// `None` for an entry of the store itself.
    #[cfg(feature = "redis")]
    copied: Option<Box<Copied>>,
}

/// The fill that made an entry.
#[derive(Clone, Debug)]
pub(crate) struct Provenance {
    pub(crate) slot: Slot,
    pub(crate) fence: Fence,
    /// When the request was forwarded.
    pub(crate) requested: Instant,
    pub(crate) gauge: Arc<MemoryGauge>,
}

/// The content of an entry.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Response { head: Head, body: Bytes, coded: CodedBodies },
    Pass,
    Nominated(Nominated),
}

/// Forms of a body in content codings. An empty one says that the coding saves nothing.
pub(crate) type CodedBodies = Box<[CodedBody]>;

/// Form of a body in a content coding.
#[derive(Clone, Debug)]
pub(crate) struct CodedBody {
    pub(crate) coding: ContentCoding,
    pub(crate) body: Bytes,
}

impl Entry {
    /// Creates the entry of a response, with its body as it is stored.
    pub(crate) fn response(provenance: Provenance, head: Head, body: Bytes) -> Self {
        Self::coded_response(provenance, head, body, CodedBodies::default())
    }

    fn coded_response(provenance: Provenance, head: Head, body: Bytes, coded: CodedBodies) -> Self {
        let fresh_until = head.fresh_until();
        Self::new(provenance, Content::Response { head, body, coded }, fresh_until)
    }

    /// Creates the note that responses of a slot may not be stored until `until`: requests for it
    /// neither wait for each other nor store anything (also known as hit-for-miss).
    pub(crate) fn pass(provenance: Provenance, until: Instant) -> Self {
        Self::new(provenance, Content::Pass, until)
    }

    /// Creates the note of the fields that responses of a slot nominate, by whose values they are
    /// found. It must be fresh for at least as long as any of them.
    pub(crate) fn nominated(provenance: Provenance, nominated: Nominated, until: Instant) -> Self {
        Self::new(provenance, Content::Nominated(nominated), until)
    }

    /// Creates the entry of any content.
    pub(crate) fn new(provenance: Provenance, content: Content, fresh_until: Instant) -> Self {
        let slot = &provenance.slot;
        let identity = slot.key.as_str().len() + slot.variant.as_bytes().len() + slot.tags.weight();
        let weight = (size_of::<Self>() + OVERHEAD + identity + content.weight()) as u64;
        Self {
            provenance,
            content,
            fresh_until,
            is_held: AtomicBool::new(false),
            weight,
            #[cfg(feature = "redis")]
            copied: None,
        }
    }

    /// Returns where the entry belongs.
    pub fn slot(&self) -> &Slot {
        &self.provenance.slot
    }

    /// Returns the number at which its fill began.
    pub fn fence(&self) -> Fence {
        self.provenance.fence
    }

    /// Returns the number at which it was read or made, in the sequence of the store that holds it. A
    /// copy has another number there than in the store that it was read from.
    pub(crate) fn held_at(&self) -> Fence {
        #[cfg(feature = "redis")]
        if let Some(copied) = &self.copied {
            return copied.held_at;
        }
        self.fence()
    }

    /// Returns whether nothing has invalidated its key or one of its tags since its fill began.
    pub(crate) fn is_current(&self, sequence: &Sequence) -> bool {
        sequence.is_slot_current(self.slot(), self.fence())
    }

    /// Returns the bytes of memory that it occupies, including the overhead of maps around it.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Returns whether it may answer a request now (RFC 9111 §4.2).
    pub fn is_fresh(&self) -> bool {
        self.is_fresh_at(now())
    }

    /// Returns whether `other` was requested from the origin later than this one.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.provenance.requested < other.provenance.requested
    }

    /// Returns when its request was forwarded.
    pub(crate) fn requested(&self) -> Instant {
        self.provenance.requested
    }

    /// Returns the time that the origin took for the head of its response. Zero for a note, and for a copy,
    /// which costs a question to the store that it was read from.
    pub(crate) fn fill_time(&self) -> Duration {
        #[cfg(feature = "redis")]
        if self.copied.is_some() {
            return Duration::ZERO;
        }
        self.as_response().map_or(Duration::ZERO, |(head, _)| {
            head.received.saturating_duration_since(self.provenance.requested)
        })
    }

    /// Returns whether it says that a recent response of its slot could not be stored.
    pub fn is_pass(&self) -> bool {
        matches!(self.content, Content::Pass)
    }

    /// Returns whether `earlier` stays in place of this entry: this one is a pass, and `earlier` is a
    /// response that may still answer, fresh or stale.
    pub fn gives_way_to(&self, earlier: &Self) -> bool {
        let may_answer = |head: &Head| {
            let windows = head.windows();
            now() < earlier.fresh_until + windows.while_revalidate.max(windows.if_error)
        };
        self.is_pass() && earlier.as_response().is_some_and(|(head, _)| may_answer(head))
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

    /// Returns the end of its use, stale or not: a store may drop it then.
    pub(crate) fn kept_until(&self) -> Instant {
        match &self.content {
            Content::Response { head, .. } => self.fresh_until + head.windows().longest(),
            Content::Pass | Content::Nominated(_) => self.fresh_until,
        }
    }

    /// Returns the entry after a soft invalidation before `fence`: stale since an instant, and of use for
    /// as long as its windows allow. `None` if it is of no use.
    pub(crate) fn outdated(&self, fence: Fence, since: Instant) -> Option<Self> {
        let provenance = Provenance { fence, ..self.provenance.clone() };
        match &self.content {
            Content::Pass => None,
            Content::Nominated(names) => {
                Some(Self::nominated(provenance, names.clone(), self.fresh_until))
            }
            Content::Response { head, .. } if head.windows.is_none() => None,
            Content::Response { head, body, coded } => {
                let mut head = head.clone();
                head.lifetime = head.lifetime.min(since.saturating_duration_since(head.received));
                Some(Self::coded_response(provenance, head, body.clone(), coded.clone()))
            }
        }
    }

    /// Returns a stored response with other times.
    pub(crate) fn with_times(&self, lifetime: Duration, windows: Windows) -> Option<Self> {
        let Content::Response { head, body, coded } = &self.content else { return None };
        let mut head = head.clone();
        head.lifetime = lifetime;
        head.set_windows(windows);
        Some(Self::coded_response(self.provenance.clone(), head, body.clone(), coded.clone()))
    }

    /// Returns the form of a stored response in a coding, if it was made.
    #[inline]
    pub(crate) fn coded(&self, coding: ContentCoding) -> Option<&Bytes> {
        let Content::Response { coded, .. } = &self.content else { return None };
        coded.iter().find(|form| form.coding == coding).map(|form| &form.body)
    }

    /// Returns a stored response with one more form of its body.
    pub(crate) fn with_coded(&self, form: CodedBody) -> Option<Self> {
        let Content::Response { head, body, coded } = &self.content else { return None };
        let coded = coded.iter().cloned().chain([form]).collect();
        Some(Self::coded_response(self.provenance.clone(), head.clone(), body.clone(), coded))
    }

    /// Returns whether both are of one stored response, and have the same forms of its body.
    pub(crate) fn is_same_record(&self, other: &Self) -> bool {
        #[cfg(feature = "redis")]
        if let (Some(own), Some(other)) = (self.source(), other.source()) {
            return own.number == other.number;
        }
        let forms = |entry: &Self| match &entry.content {
            Content::Response { body, coded, .. } => Some((body.as_ptr(), body.len(), coded.len())),
            Content::Pass | Content::Nominated(_) => None,
        };
        forms(self).is_some() && forms(self) == forms(other)
    }

    /// Returns whether it is fresh at an instant. The lifetime must *exceed* the age, so equality is
    /// stale (RFC 9111 §4.2).
    pub(crate) fn is_fresh_at(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    /// Returns the instant at which it stops being fresh.
    pub(crate) fn fresh_until(&self) -> Instant {
        self.fresh_until
    }

    /// Returns the stored response, if it is one.
    pub(crate) fn as_response(&self) -> Option<(&Head, &Bytes)> {
        match &self.content {
            Content::Response { head, body, .. } => Some((head, body)),
            Content::Pass | Content::Nominated(_) => None,
        }
    }

    /// Returns the fields that responses of this slot nominate, if it is the fresh note of them.
    pub(crate) fn as_nominated(&self) -> Option<&Nominated> {
        match &self.content {
            Content::Nominated(nominated) if self.is_fresh() => Some(nominated),
            _ => None,
        }
    }

    /// Returns whether the entry answers requests: a response, or the note that there is none to be
    /// had.
    pub fn is_answer(&self) -> bool {
        !matches!(self.content, Content::Nominated(_))
    }
}

#[cfg(feature = "redis")]
impl Entry {
    /// Turns an entry that was stored elsewhere into a copy, which another store read at `held_at` of its
    /// own sequence. The copy may answer on terms without another question to the first store.
    ///
    /// Everything else stays, including the fence: the layer sees the entry that was read.
    pub(crate) fn into_copy(
        mut self,
        held_at: Fence,
        unasked: Unasked,
        source: Option<SourceRecord>,
    ) -> Self {
        // The bodies are slices of the record.
        let bodies = self.content.bodies();
        let record = source.as_ref().map_or(bodies, |source| source.record.len());
        self.weight += (record.saturating_sub(bodies) + size_of::<Copied>()) as u64;
        self.copied = Some(Box::new(Copied { held_at, unasked, source }));
        self
    }

    /// Copies an entry that others hold. See [`into_copy`](Self::into_copy).
    pub(crate) fn copied(
        &self,
        held_at: Fence,
        unasked: Unasked,
        source: Option<SourceRecord>,
    ) -> Self {
        let (provenance, content) = (self.provenance.clone(), self.content.clone());
        let copy = Self::new(provenance, content, self.fresh_until);
        copy.into_copy(held_at, unasked, source)
    }

    /// Returns the record that it was decoded from, if decoding it again gives an equal entry.
    pub(crate) fn source(&self) -> Option<&SourceRecord> {
        self.copied.as_ref()?.source.as_ref()
    }

    /// Returns whether it may answer without another question to the store that it was read from.
    pub(crate) fn answers_unasked(&self, now: Instant) -> bool {
        self.copied.as_ref().is_none_or(|copied| copied.unasked.may_answer(now))
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}

impl Content {
    /// Returns the bytes of a body in all its forms.
    fn bodies(&self) -> usize {
        let Self::Response { body, coded, .. } = self else { return 0 };
        body.len() + coded.iter().map(|form| form.body.len()).sum::<usize>()
    }

    /// Returns the bytes of memory that it occupies.
    fn weight(&self) -> usize {
        match self {
            Self::Response { head, coded, .. } => {
                head.weight() + self.bodies() + size_of_val(&**coded)
            }
            Self::Pass => 0,
            Self::Nominated(nominated) => {
                let names = nominated.names().iter();
                names.map(|name| name.as_str().len() + PER_NOMINATED).sum()
            }
        }
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, Response};

    use super::*;
    use crate::entry::{Proofs, Timing, Windows};

    fn provenance() -> Provenance {
        let (fence, gauge) = (Sequence::new().begin(), Arc::default());
        Provenance { slot: Slot::example(), fence, requested: now(), gauge }
    }

    fn head(windows: Windows) -> Head {
        let (parts, ()) = Response::new(()).into_parts();
        let (requested, received) = (now(), now());
        let lifetime = Duration::from_secs(60);
        let mut head = Head::new(&parts, Timing { requested, received, lifetime });
        head.set_windows(windows);
        head
    }

    fn response(length: usize) -> Entry {
        Entry::response(provenance(), head(Windows::default()), vec![0; length].into())
    }

    #[test]
    fn a_response_weighs_as_much_more_as_its_body_is_longer_or_it_has_windows() {
        assert_eq!(response(500).weight() - response(100).weight(), 400);
        let windows = Windows { if_error: Duration::from_secs(1), ..Windows::default() };
        let with_windows = Entry::response(provenance(), head(windows), Bytes::new());
        let difference = with_windows.weight() - response(0).weight();
        assert_eq!(difference, size_of::<Windows>() as u64, "they are boxed");
    }

    #[test]
    fn a_note_weighs_as_much_more_as_its_names_are_longer() {
        let note = |names: &[&'static str]| {
            let names = names.iter().map(|name| HeaderName::from_static(name)).collect();
            Entry::nominated(provenance(), Nominated::new(names), now()).weight()
        };
        assert_eq!(note(&["x-abc"]) - note(&["x-a"]), 2);
        assert_eq!(note(&["x-a", "x-b"]) - note(&["x-a"]), 3 + PER_NOMINATED as u64);
    }

    #[test]
    fn a_response_is_kept_until_its_longest_window_is_over() {
        let second = Duration::from_secs(1);
        for (while_revalidate, if_error, to_validate) in [(3, 2, 1), (1, 3, 2), (2, 1, 3)] {
            let (while_revalidate, if_error) = (while_revalidate * second, if_error * second);
            let windows = Windows { while_revalidate, if_error, to_validate: to_validate * second };
            let entry = Entry::response(provenance(), head(windows), Bytes::new());
            assert_eq!(entry.kept_until(), entry.fresh_until() + 3 * second);
        }
        let plain = response(0);
        assert_eq!(plain.kept_until(), plain.fresh_until());
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_copy_weighs_the_record_that_its_body_is_a_part_of() {
        let copied = |entry: Entry, record: Option<usize>| {
            let fence = entry.fence();
            let source = record.map(|length| SourceRecord {
                record: vec![0; length].into(),
                number: 1,
                digest: [b'0'; 32],
                epoch: 1,
                incarnation: 1,
                clock: 0,
            });
            let unasked = Unasked { until: now(), proofs: Proofs::new() };
            entry.into_copy(fence, unasked, source).weight()
        };
        let read = |length: usize| {
            let content = response(length).content().clone();
            Entry::new(provenance(), content, now())
        };
        assert_eq!(copied(read(5), Some(500)) - copied(read(5), Some(100)), 400);
        assert_eq!(copied(read(5), Some(100)), copied(read(50), Some(100)));
        assert_eq!(copied(read(100), None), copied(read(5), Some(100)));
        let note = Entry::pass(provenance(), now());
        let weight = note.weight();
        assert_eq!(copied(note, None), weight + size_of::<Copied>() as u64);
    }
}
