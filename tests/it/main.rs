//! The layer over its memory, in paused time: one module a promise.

#![allow(clippy::unwrap_used)] // Clippy sees no test in a function that tests share.

#[path = "../../src/verify/random.rs"]
mod random;
#[cfg(feature = "metrics")]
#[path = "../support/recorder.rs"]
mod recorder;
#[path = "../support/mod.rs"]
mod support;

mod adversary;
mod audits;
mod buckets;
mod budget;
mod cancellation;
#[cfg(feature = "testing")]
mod chaos;
mod config;
#[cfg(feature = "config")]
mod config_file;
#[cfg(feature = "testing")]
mod conformance;
mod content;
mod content_over_http;
mod content_reads;
mod documents;
mod early;
#[cfg(feature = "encode")]
mod encode;
mod ends;
mod etag;
mod explain;
mod fencing;
mod flights;
mod handle;
mod keys;
mod lifetimes;
mod limits;
mod named_tags;
mod nesting;
#[cfg(feature = "testing")]
mod no_vary_search;
mod notices;
mod operator;
mod outer_layers;
mod peers;
#[cfg(feature = "graphql")]
mod persisted;
mod privacy;
#[cfg(feature = "metrics")]
mod published;
mod readiness;
mod recent;
#[cfg(feature = "testing")]
mod refill;
mod refusals;
mod reload;
#[cfg(feature = "testing")]
mod replay;
mod response_policy;
mod reverse_proxy;
mod runtimes;
mod shadow;
mod soft_tags;
#[cfg(feature = "tracing")]
mod spans;
mod stacks;
mod stale;
mod streaming;
mod tags;
mod traces;
#[cfg(feature = "testing")]
mod unknown;
mod vary;
mod writes;
