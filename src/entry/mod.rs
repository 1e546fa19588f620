//! Stored responses.
//!
//! An [`Entry`] is what a store keeps for a slot. Most entries are responses: a [`Head`] and a body.
//! The field names of a head are a shape that many responses share; its values lie in one buffer,
//! together with a short body. A hit clones the map of the shape and puts the values in.

mod entry;
mod gauge;
mod head;
mod hop_by_hop;
mod interned;
mod pack;
#[cfg(feature = "redis")]
mod portable;
mod shape;
mod weight;

pub use self::entry::Entry;
#[cfg(feature = "redis")]
pub(crate) use self::{
    entry::{CodedBodies, Content},
    portable::{Proofs, SourceRecord, StoredHead, Unasked},
    shape::StoredFields,
};
pub(crate) use self::{
    entry::{CodedBody, Provenance},
    gauge::MemoryGauge,
    head::{ByRoute, Head, Timing, Windows},
    hop_by_hop::{HopByHop, is_for_every_recipient, is_momentary},
    interned::{BySeconds, seconds},
    pack::{exact_copy, lies_with_head},
    shape::{CACHE_STATUS, MAX_FIELD_NAMES, ShapeCache},
};
