//! HTTP's rules through the layer: the RFCs as tables, and the attacks of `docs/security.md`.

#![allow(clippy::unwrap_used)] // Clippy sees no test in a function that tests share.

#[path = "../support/mod.rs"]
mod support;

mod rfc;
mod security;
