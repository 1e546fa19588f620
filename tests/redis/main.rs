//! The layer over Redis: real servers, which the tests start, kill, stop, demote and fill.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/server.rs"]
mod server;

mod harness;
