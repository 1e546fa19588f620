//! Attacks on a real server, with the cache and bare, in turns, and a report of what honest clients
//! notice.
//!
//! [`measure`] starts a server in a process of its own for each turn. Honest clients ask it at a steady
//! rate, from a thread of their own, while an [`Attack`] is under way.

#![allow(clippy::disallowed_methods)] // Time that passes, not the cache's.

mod attack;
mod honest;
mod report;
mod server;
mod target;
mod turn;

pub use attack::{Attack, Protocol};
pub use honest::{Honest, KEYS};
pub use report::{provenance, table, write};
pub use server::{CAPACITY, Kind, add_routes, origin, serve};
pub use turn::{Scale, Turn, measure};
