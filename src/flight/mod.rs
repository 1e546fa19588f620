//! Coalescing: one forward that answers several requests.
//!
//! The first request for a variant *leads* a flight and forwards. Requests that come while its response
//! is on the way *follow* and wait. A flight settles in exactly three ways, and all followers learn of it
//! at once: *filled*, *declined*, or *abandoned*.

mod broadcast;
mod flights;

pub(crate) use self::flights::{Flights, Follower, Lead, Limits, Settled, Turn};
