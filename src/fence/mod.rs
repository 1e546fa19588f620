//! Order between invalidations and fills.
//!
//! A [`Sequence`] makes an invalidation final for fills that are already in flight. Its `Unsettled`
//! holds the keys and tags whose last write ended with an unknown outcome, its `RecentInvalidations` those of a
//! short while ago.

mod recent;
mod sequence;
mod softened;
mod unsettled;

#[cfg(feature = "redis")]
pub(crate) use self::recent::{InvalidatedExtent, RecentInvalidations};
pub use self::sequence::{Fence, Sequence};
pub(crate) use self::sequence::{LOCKS, shard};
