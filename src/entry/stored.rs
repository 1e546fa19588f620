//! Stored responses that come from elsewhere, or go there.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{Content, Entry, Fields, Head, Provenance, Windows, response_weight};
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
    pub(crate) fn copied(&self, fence: Fence, until: Instant) -> Self {
        let Provenance { slot, requested, gauge, .. } = &self.provenance;
        let (slot, gauge) = (slot.clone(), Arc::clone(gauge));
        let provenance = Provenance { slot, fence, requested: *requested, gauge };
        let weight = match &self.content {
            Content::Response { head, body } => response_weight(head, body),
            Content::Pass | Content::Nominated(_) => 0,
        };
        let mut copy = Self::restored(provenance, self.content.clone(), until);
        copy.weight += weight as u64;
        copy
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}
