//! A rate-limited origin: what it says about its limits, and what the cache spares because of them.

mod pauses;
mod quota;

pub(crate) use pauses::{Paused, Pauses};
pub use quota::Quota;
