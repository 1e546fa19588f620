//! Entries that come from another store, or go to one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use smallvec::SmallVec;

use super::{
    head::{ByRoute, Head, Windows},
    shape::StoredFields,
};
use crate::{clock::Instant, deadline::Deadline, fence::Fence};

/// Head without the times of this process.
#[derive(Debug)]
pub(crate) struct StoredHead {
    pub(crate) status: StatusCode,
    pub(crate) fields: StoredFields,
    /// Age of the response when it was received.
    pub(crate) initial_age: Duration,
    pub(crate) windows: Windows,
    pub(crate) by_route: ByRoute,
}

/// Properties of a copy of an entry in another store.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) held_at: Fence,
    pub(super) unasked: Unasked,
    pub(super) source: Option<SourceRecord>,
}

/// Terms on which a copy answers without a question to the store that it was read from.
#[derive(Debug)]
pub(crate) struct Unasked {
    pub(crate) until: Instant,
    pub(crate) proofs: Proofs,
}

/// Proofs that every change of what was read is heard of. Each is that of a connection to a server, until when
/// a message that is missing there is noticed. Without any, nothing is heard of.
pub(crate) type Proofs = SmallVec<[Arc<Deadline>; 1]>;

impl Unasked {
    pub(super) fn may_answer(&self, now: Instant) -> bool {
        let is_proven = self.proofs.iter().all(|proof| proof.is_ahead_at(now));
        now < self.until && is_proven && !self.proofs.is_empty()
    }
}

/// Record at a server that an entry was decoded from, and the state of the server in which decoding it
/// again gives an equal entry.
#[derive(Clone, Debug)]
pub(crate) struct SourceRecord {
    pub(crate) record: Bytes,
    /// Number of the record, which no other record has.
    pub(crate) number: u64,
    /// Name of the record at the server, valid in one epoch.
    pub(crate) digest: [u8; 32],
    pub(crate) epoch: u64,
    /// Incarnation of the server.
    pub(crate) incarnation: u64,
    /// Milliseconds that the server's clock was ahead of this process's when the entry was made.
    pub(crate) clock: i64,
}

impl Head {
    /// Restores a head that was stored elsewhere, with its times by this process's clock.
    pub(crate) fn restored(stored: StoredHead, received: Instant, fresh_until: Instant) -> Self {
        let StoredHead { status, fields, initial_age, windows, by_route } = stored;
        Self {
            status,
            fields,
            received,
            initial_age,
            lifetime: fresh_until.saturating_duration_since(received),
            windows: windows.boxed(),
            by_route,
        }
    }
}
