//! The cache beside its peers: the same origin, requests and loops for every column. See `README.md`.

pub mod columns;
pub mod course;
pub mod draw;
pub mod minimum;
pub mod origin;
mod ours;
pub mod progress;
mod raw;
pub mod report;
pub mod rows;
#[path = "../../../tests/support/server.rs"]
mod server;
pub mod site;
#[path = "../../support/values.rs"]
mod values;
