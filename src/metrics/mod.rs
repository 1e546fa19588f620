//! Outcomes, and the metrics, logs and `Cache-Status` that are made of them.

mod append_list;
pub(crate) mod cache_outcome;
pub(crate) mod capability;
mod counters;
pub(crate) mod facade;
pub(crate) mod latency;
pub(crate) mod operations;
pub(crate) mod outcome;
pub(crate) mod recent_outcomes;
pub(crate) mod reporter;
pub(crate) mod sharded_counter;
mod snapshot;
pub(crate) mod status_field;
pub(crate) mod switch;
pub(crate) mod telemetry;

pub(crate) use self::counters::Metrics;
pub use self::snapshot::{BucketSnapshot, OriginSnapshot, Snapshot};
