//! Order between invalidations and fills.
//!
//! A [`Sequence`](sequence::Sequence) makes an invalidation final for fills that are already in flight.
//! Its `Unsettled` holds the keys and tags whose last write ended with an unknown outcome.

pub(crate) mod sequence;
mod unsettled;
