//! Conformance suite: the rules that every store keeps.
//!
//! [`check`] runs all of them. It needs a tokio runtime with its clock. Use one with several threads,
//! since one rule lets fills and invalidations race.
//!
//! ```
//! use tower_support_cache::{MemoryStore, store::conformance};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! conformance::check(async || MemoryStore::new()).await;
//! # }
//! ```

mod entries;
mod fills;
mod invalidations;
mod race;
mod sample;
mod suite;
mod tags;

pub use suite::check;
