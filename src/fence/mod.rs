//! Order between invalidations and fills.

pub(crate) mod sequence;
pub(crate) mod unsettled;
