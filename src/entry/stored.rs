//! Stored responses that come from elsewhere, or go there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;

use super::{Content, Entry, Fields, Head, Ordering, Provenance, Windows, response_weight};
use crate::{clock::Instant, fence::sequence::Fence};

/// A head without the times of this process.
#[derive(Debug)]
pub(crate) struct StoredHead {
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
    /// How old the response was when it was received.
    pub(crate) initial_age: Duration,
    pub(crate) windows: Windows,
}

/// What is a copy's own.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(super) held_at: Fence,
    unasked_until: Instant,
    reading: Option<Reading>,
}

/// What was read at a server, and where: an entry that was made of it is made of the same again.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) record: Bytes,
    /// The record's, which that of no other response has.
    pub(crate) number: u64,
    /// Under what the server keeps it, and in which epoch that is so.
    pub(crate) digest: [u8; 32],
    pub(crate) epoch: u64,
    /// Of the server.
    pub(crate) incarnation: u64,
    /// What its clock was ahead of this process's, in milliseconds, when the entry was made.
    pub(crate) clock: i64,
}

impl Head {
    /// Takes a head that was stored elsewhere, with when that was by this process's clock.
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

    /// Returns what has to be stored elsewhere, besides the times.
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
    /// An entry that was stored elsewhere.
    pub(crate) fn restored(provenance: Provenance, content: Content, until: Instant) -> Self {
        match content {
            // Weighed when it is copied: nobody holds it before.
            Content::Response { .. } => Self::new(provenance, content, until, 0),
            Content::Pass => Self::pass(provenance, until),
            Content::Nominated(nominated) => Self::nominated(provenance, nominated, until),
        }
    }

    /// Returns a copy that is held elsewhere: what it is a copy of was read at `held_at` by the sequence
    /// there, and it may answer until an instant without being asked for again.
    ///
    /// All else is as it was, its fence too: to the layer it is what was read.
    pub(crate) fn copied(
        &self,
        (held_at, unasked_until): (Fence, Instant),
        reading: Option<Reading>,
    ) -> Self {
        let Provenance { slot, fence, requested, gauge } = &self.provenance;
        let (slot, gauge) = (slot.clone(), Arc::clone(gauge));
        let provenance = Provenance { slot, fence: *fence, requested: *requested, gauge };
        let weight = match (&self.content, &reading) {
            // The body is a part of the record.
            (Content::Response { head, .. }, Some(reading)) => {
                response_weight(head, &reading.record)
            }
            (Content::Response { head, body }, None) => response_weight(head, body),
            (Content::Pass | Content::Nominated(_), _) => 0,
        };
        let mut copy = Self::restored(provenance, self.content.clone(), self.fresh_until);
        copy.weight += (weight + size_of::<Copied>()) as u64;
        copy.copied = Some(Box::new(Copied { held_at, unasked_until, reading }));
        copy.route = self.route.load(Ordering::Relaxed).into();
        copy
    }

    /// Returns how it was read, if reading the same again would make the same entry of it.
    pub(crate) fn reading(&self) -> Option<&Reading> {
        self.copied.as_ref()?.reading.as_ref()
    }

    /// Whether it may answer without being asked for again.
    pub(crate) fn answers_unasked(&self, now: Instant) -> bool {
        self.copied.as_ref().is_none_or(|copied| now < copied.unasked_until)
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}
