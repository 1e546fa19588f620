//! Coalescing: one forward that answers several requests.
//!
//! The first request for a variant *leads* a flight and forwards. Requests that come while its response
//! is on the way *follow* and wait. A flight settles as *filled*, *declined* or *abandoned*, and all its
//! followers learn of it at once. One that waits for another process's fill ends *over*.

mod broadcast;
mod flights;

pub(crate) use self::flights::{Flights, Follower, Lead, Limits, Settled, Turn};
