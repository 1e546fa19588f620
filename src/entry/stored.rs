//! Stored responses that come from elsewhere, or go there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;

use super::{Content, Entry, Fields, Head, Ordering, Provenance, Windows, response_weight};
use crate::{clock::Instant, sequence::Fence};

/// A head without the times of this process.
#[derive(Debug)]
pub(crate) struct StoredHead {
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
    /// How old the response was when it was received.
    pub(crate) initial_age: Duration,
    pub(crate) windows: Windows,
}

/// What was read at a server, and where: an entry that was made of it is made of the same again.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) record: Bytes,
    /// Under what the server keeps it, and in which epoch that is so.
    pub(crate) digest: [u8; 32],
    pub(crate) epoch: u64,
    /// Of the server.
    pub(crate) incarnation: u64,
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
            windows: None,
        }
        .with_windows(windows)
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

    /// Returns a copy for another sequence: it is a copy of what was read at `fence` there, and fresh
    /// until `until`.
    pub(crate) fn copied(
        &self,
        (fence, until): (Fence, Instant),
        reading: Option<Box<Reading>>,
    ) -> Self {
        let Provenance { slot, requested, gauge, .. } = &self.provenance;
        let (slot, gauge) = (slot.clone(), Arc::clone(gauge));
        let provenance = Provenance { slot, fence, requested: *requested, gauge };
        let weight = match (&self.content, &reading) {
            // The body is a part of the record.
            (Content::Response { head, .. }, Some(reading)) => {
                size_of_val(&**reading) + response_weight(head, &reading.record)
            }
            (Content::Response { head, body }, None) => response_weight(head, body),
            (Content::Pass | Content::Nominated(_), _) => 0,
        };
        let mut copy = Self::restored(provenance, self.content.clone(), until);
        copy.weight += weight as u64;
        copy.reading = reading;
        copy.route = self.route.load(Ordering::Relaxed).into();
        copy
    }

    /// Returns how it was read, if reading the same again would make the same entry of it.
    pub(crate) fn reading(&self) -> Option<&Reading> {
        self.reading.as_deref()
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}
