//! Stored responses.
//!
//! An [`Entry`] is what a store keeps for a slot. Most entries are responses: a [`Head`] and a body.
//! The field names of a head are a shape that many responses share; its values lie in one buffer,
//! together with a short body. A hit clones the map of the shape and puts the values in.

mod entry;
pub(crate) mod gauge;
mod head;
pub(crate) mod hop_by_hop;
pub(crate) mod interned;
mod pack;
#[cfg(feature = "redis")]
mod portable;
mod shape;
mod weight;

pub use self::entry::Entry;
pub(crate) use self::{
    entry::{Content, Provenance},
    head::{Head, Timing, Windows},
    pack::{exact_copy, lies_with_head},
    shape::{CACHE_STATUS, ShapeCache},
};
#[cfg(feature = "redis")]
pub(crate) use self::{
    portable::{Reading, StoredHead},
    shape::StoredFields,
};
