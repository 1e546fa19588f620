//! Stored responses that come from elsewhere, or go there.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::AGE};

use super::{CACHE_STATUS, Content, Entry, Head, Provenance, Windows, response_weight};
use crate::{clock::Instant, sequence::Fence};

/// A head without the times of this process.
#[derive(Debug)]
pub(crate) struct StoredHead {
    pub(crate) status: StatusCode,
    /// With the slots for `Age` and `Cache-Status`.
    pub(crate) fields: HeaderMap,
    pub(crate) has_inner_status: bool,
    /// How old the response was when it was received.
    pub(crate) initial_age: Duration,
    pub(crate) windows: Windows,
}

impl StoredHead {
    /// Returns the lines of the fields, but for the slots.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let mut statuses = self.fields.get_all(CACHE_STATUS).iter().count();
        self.fields.iter().filter(move |(name, _)| {
            if **name != CACHE_STATUS {
                return **name != AGE;
            }
            // The last one is the slot.
            statuses -= 1;
            statuses > 0
        })
    }

    /// Makes fields, which `push` adds, with the slots where they belong.
    pub(crate) fn with_slots(
        has_inner_status: bool,
        push: impl FnOnce(&mut HeaderMap) -> Option<()>,
    ) -> Option<HeaderMap> {
        let mut fields = HeaderMap::new();
        fields.append(AGE, HeaderValue::from_static(""));
        if !has_inner_status {
            fields.append(CACHE_STATUS, HeaderValue::from_static(""));
        }
        push(&mut fields)?;
        if has_inner_status {
            fields.append(CACHE_STATUS, HeaderValue::from_static(""));
        }
        Some(fields)
    }

    /// Returns the values of such fields in the order of [`lines`](Self::lines).
    pub(crate) fn values_mut(
        fields: &mut HeaderMap,
        has_inner_status: bool,
    ) -> impl Iterator<Item = &mut HeaderValue> {
        let (slots, mut statuses) = match has_inner_status {
            false => (2, 0),
            true => (1, fields.get_all(CACHE_STATUS).iter().count()),
        };
        let lines = fields.iter_mut().skip(slots).filter(move |(name, _)| {
            let is_status = has_inner_status && **name == CACHE_STATUS;
            statuses -= usize::from(is_status);
            !is_status || statuses > 0
        });
        lines.map(|(_, value)| value)
    }
}

impl Head {
    /// Takes a head that was stored elsewhere, with when that was by this process's clock.
    pub(crate) fn restored(stored: StoredHead, received: Instant, fresh_until: Instant) -> Self {
        let StoredHead { status, fields, has_inner_status, initial_age, windows } = stored;
        Self {
            status,
            fields,
            has_inner_status,
            received,
            initial_age,
            lifetime: fresh_until.saturating_duration_since(received),
            windows,
        }
    }

    /// Returns what has to be stored elsewhere, besides the times.
    pub(crate) fn to_stored(&self) -> StoredHead {
        StoredHead {
            status: self.status,
            fields: self.fields.clone(),
            has_inner_status: self.has_inner_status,
            initial_age: self.initial_age,
            windows: self.windows,
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
