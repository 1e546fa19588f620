//! Conformance suite: the rules that every store keeps.
//!
//! [`check`] runs all of them. It needs a tokio runtime with its clock. Use one with several threads,
//! since one rule lets fills and invalidations race.

mod entries;
mod fills;
mod invalidations;
mod race;
mod sample;
mod suite;
mod tags;

pub use suite::check;
