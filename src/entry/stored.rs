//! Entries that are stored outside this process, and copies of them in its memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;

use super::{Content, Entry, Fields, Head, Ordering, Provenance, Windows, response_weight};
use crate::{clock::Instant, fence::sequence::Fence};

/// Head without instants of this process.
#[derive(Debug)]
pub(crate) struct StoredHead {
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
    /// Age of the response when it was received.
    pub(crate) initial_age: Duration,
    pub(crate) windows: Windows,
}

/// State of a copy, besides that of an entry.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(super) held_at: Fence,
    unasked_until: Instant,
    source: Option<SourceRecord>,
}

/// Record at a server, and the circumstances under which decoding it again gives the same entry.
#[derive(Clone, Debug)]
pub(crate) struct SourceRecord {
    pub(crate) record: Bytes,
    /// Number of the record. No other response has it.
    pub(crate) number: u64,
    /// Digest by which the server knows the variant in the epoch.
    pub(crate) digest: [u8; 32],
    pub(crate) epoch: u64,
    pub(crate) incarnation: u64,
    /// Lead of the server's clock over this process's when the entry was made, in milliseconds.
    pub(crate) clock: i64,
}

impl Head {
    /// Creates the head of a response that was stored elsewhere, with its times as instants of this process.
    pub(crate) fn restored(stored: StoredHead, received: Instant, fresh_until: Instant) -> Self {
        let StoredHead { status, fields, initial_age, windows } = stored;
        Self {
            status,
            fields,
            received,
            initial_age,
            lifetime: fresh_until.saturating_duration_since(received),
            windows: windows.boxed(),
        }
    }

    /// Returns the parts that are stored elsewhere, besides the times.
    pub(crate) fn to_stored(&self) -> StoredHead {
        StoredHead {
            status: self.status,
            fields: self.fields.clone(),
            initial_age: self.initial_age,
            windows: self.windows(),
        }
    }
}

impl Entry {
    /// Creates an entry that was stored elsewhere. It has no weight before it becomes a copy.
    pub(crate) fn restored(provenance: Provenance, content: Content, until: Instant) -> Self {
        match content {
            Content::Response { .. } => Self::new(provenance, content, until, 0),
            Content::Pass => Self::pass(provenance, until),
            Content::Nominated(nominated) => Self::nominated(provenance, nominated, until),
        }
    }

    /// Turns an entry that was read into a copy of what the server has. `held_at` was taken of the copies'
    /// sequence before it was read; it may answer unasked until an instant.
    ///
    /// All else stays, its fence too: to the layer it is the entry that was read.
    pub(crate) fn into_copy(
        mut self,
        held_at: Fence,
        unasked_until: Instant,
        source: Option<SourceRecord>,
    ) -> Self {
        let weight = match (&self.content, &source) {
            // The body is a part of the record.
            (Content::Response { head, .. }, Some(source)) => response_weight(head, &source.record),
            (Content::Response { head, body }, None) => response_weight(head, body),
            (Content::Pass | Content::Nominated(_), _) => 0,
        };
        self.weight += (weight + size_of::<Copied>()) as u64;
        self.copied = Some(Box::new(Copied { held_at, unasked_until, source }));
        self
    }

    /// Returns a copy of an entry that others hold. See [`into_copy`](Self::into_copy).
    pub(crate) fn copied(
        &self,
        held_at: Fence,
        unasked_until: Instant,
        source: Option<SourceRecord>,
    ) -> Self {
        let Provenance { slot, fence, requested, gauge } = &self.provenance;
        let (slot, gauge) = (slot.clone(), Arc::clone(gauge));
        let provenance = Provenance { slot, fence: *fence, requested: *requested, gauge };
        let mut copy = Self::restored(provenance, self.content.clone(), self.fresh_until);
        copy.route = self.route.load(Ordering::Relaxed).into();
        copy.into_copy(held_at, unasked_until, source)
    }

    /// Returns the record that the entry was decoded from, if decoding it again gives the same entry.
    pub(crate) fn source(&self) -> Option<&SourceRecord> {
        self.copied.as_ref()?.source.as_ref()
    }

    /// Returns whether it may answer without a question to the server.
    pub(crate) fn answers_unasked(&self, now: Instant) -> bool {
        self.copied.as_ref().is_none_or(|copied| now < copied.unasked_until)
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}
