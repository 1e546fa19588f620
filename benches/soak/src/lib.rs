//! Two real servers on one Redis for as long as wished: readers, writers, attackers, faults of Redis, reloads,
//! and a process that ends and starts again. Each response is compared with what was acknowledged before its
//! request, and memory, open files, tasks, throughput and latency are written down every second.
//!
//! [`run`] is the whole of it. The servers are processes of this crate's binary ([`serve`]).

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // Time that passes; a bench may fail at once.

mod client;
mod faults;
mod fleet;
mod plot;
mod report;
mod run;
mod server;
mod tally;
mod truth;

#[path = "../../../tests/support/server.rs"]
mod redis_server;

pub use report::{Report, write};
pub use run::{Settings, run};
pub use server::serve;
