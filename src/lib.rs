//! HTTP response caching as a [tower] layer.
//!
//! Routes say what is cached, under which key and for how long ([`CacheRoute`]); writes say which
//! keys they invalidate ([`InvalidateRoute`]). A [`SupportCacheLayer`] holds both and a
//! [`Store`], wraps any service of HTTP requests, and leaves its error type as it is. A
//! [`SupportCacheHandle`] operates the cache while it runs.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, extract::Path, routing::{get, post}};
//! use tower_support_cache::{CacheRoute, InvalidateRoute, MemoryStore, SupportCacheLayer};
//!
//! async fn list_cases(Path(account): Path<String>) -> String {
//!     format!("the cases of {account}")
//! }
//!
//! async fn add_comment() {}
//!
//! let layer = SupportCacheLayer::builder(MemoryStore::new())
//!     .cache(
//!         CacheRoute::get("/accounts/{account}/cases")
//!             .bucket("case_list")
//!             .key("support:cases:{account}")
//!             .ttl(Duration::from_secs(120)),
//!     )
//!     .invalidate(
//!         InvalidateRoute::post("/accounts/{account}/cases/{case}/comments")
//!             .key("support:cases:{account}"),
//!     )
//!     .build()?;
//! let cache = layer.handle();
//!
//! let app: Router = Router::new()
//!     .route("/accounts/{account}/cases", get(list_cases))
//!     .route("/accounts/{account}/cases/{case}/comments", post(add_comment))
//!     .layer(layer);
//!
//! assert_eq!(cache.metrics().bucket("case_list").unwrap().hits, 0);
//! # let _ = app;
//! # Ok::<(), tower_support_cache::ConfigError>(())
//! ```
//!
//! The [`guide`] has the rest: where the layer belongs in a stack, who may share a response, how to
//! invalidate, several processes over Redis, operating, testing, recipes, limits.
//!
//! # The life of a request
//!
//! 1. A request that no rule is for passes through.
//! 2. A GET or HEAD on a cached route is looked up, or bypasses the cache for a named reason
//!    ([`Bypass`]). A fresh entry answers it at once.
//! 3. A miss leads a *flight*: it forwards, and later requests for the same variant wait for its
//!    response instead of forwarding too. A request that may not wait, or has waited long enough,
//!    forwards for itself ([`Alone`]).
//! 4. The response is judged by its head. A response that may not be stored ([`Refusal`]) is not shared
//!    either: the waiting requests forward for themselves, and for 10 s no request waits for such a
//!    response.
//! 5. A response that may be stored streams to its readers while it is recorded. It is stored once it is
//!    complete, unless an invalidation has overtaken it.
//! 6. A write that a rule matches is forwarded, and invalidates before its writer sees the response.
//!
//! Each of these ends has its `Cache-Status` (RFC 9211), and those of reads are counted in a [`Snapshot`].
//!
//! # Features
//!
//! * `tracing` (default): warnings; `info` for what operators do; one `debug` event for each request on a
//!   cached route; and the fields `cache.outcome`, `cache.reason` and `cache.bucket` of the current span,
//!   where that has them. The target is `tower_support_cache`. Without it the cache is silent; the counters
//!   remain.
//! * `metrics`: [`publish_metrics`](SupportCacheHandle) gives the counts to any recorder of the `metrics`
//!   facade, such as Prometheus or OpenTelemetry. A hit pays nothing for it.
//! * `serde`: [`Snapshot`] and the reasons implement `serde::Serialize`.
//! * `axum`: the original URI under `axum::Router::nest` is read from the request's extensions.
//!   Without it, give each nest a layer with its own [`SupportCacheLayerBuilder::mount`].
//!   Patterns are matched with the path inside the nest, with the feature or without it
//!   ([`CacheRoute::get`]).
//! * `encode`: stored responses that are encoded once, by [`CacheRoute`]s that say so (gzip, Brotli, zstd).
//! * `json`: [`CacheRoute`]s for which JSON of one meaning is one content; `graphql`: the module that tells
//!   which GraphQL requests only read.
//! * `config`: a layer made of a file ([`config`]); `config-schema`: a JSON schema of it.
//! * `testing`: a store that fails by a plan, the replay of requests that finds undeclared fields, and
//!   the conformance suite of the stores.
//!
//! A tokio runtime is needed, with its timer.
//!
//! [tower]: https://docs.rs/tower

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "graphql")]
pub mod graphql;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod verify;

mod background;
mod body;
mod clock;
mod coding;
#[cfg(feature = "redis")]
mod deadline;
mod entry;
mod error;
mod exchange;
mod fence;
mod flight;
mod future;
mod handle;
mod insight;
#[cfg(feature = "json")]
mod json;
mod key;
mod layer;
mod metrics;
mod operator;
mod origin;
mod peek;
mod policy;
mod preset;
#[cfg(feature = "metrics")]
mod publish;
mod read_content;
mod recording;
mod route;
mod service;
mod structured;
mod sync;
mod warm;
mod write_body;

pub use body::{BodyError, ResponseBody};
pub use coding::ContentCoding;
pub use error::{ConfigError, ConfigErrorKind, Unfinished};
pub use exchange::{Invalidated, InvalidationHook};
pub use future::ResponseFuture;
pub use handle::{Invalidation, SupportCacheHandle};
pub use insight::{
    AuditReport, ChangeInterval, Explanation, Forecast, InvalidatedSubject, InvalidatingRule,
    MissingRule, SuspectField,
};
pub use key::{IntoKey, NamedKey, key};
pub use layer::{CallerKey, SupportCacheLayer, SupportCacheLayerBuilder};
pub use metrics::{
    BucketSnapshot, OriginSnapshot, Snapshot,
    cache_outcome::{CacheOutcome, ReportOutcome},
    capability::Capability,
    latency::Latency,
    operations::{Operation, OperationSnapshot, StoreSnapshot},
    outcome::{Alone, AuditResult, Bypass, ForwardReason, Refusal, Shadow, SparedCall, Stale},
    recent_outcomes::RecordedOutcome,
    status_field::StatusField,
    switch::Switch,
};
pub use operator::OperatorService;
pub use origin::{Exhausted, OriginBudget, Quota, Refill};
pub use peek::{PeekContent, PeekContentLayer, PeekedBody};
pub use policy::{
    CacheTags, ForceRefresh, Freshness, RequestDirectives, ResponsePolicy, WriteEffect,
};
pub use preset::{CASE_LIST_TTL, CASE_MESSAGES_TTL};
pub use read_content::{ReadContent, ReadContentLayer};
pub use route::{
    CacheRoute, Caller, Coalescing, Credentials, HostPolicy, InvalidateRoute, KeyRequest,
    QueryPolicy, Routes,
};
pub use service::SupportCache;
pub use store::{ChosenStore, MemoryStore, MemoryStoreBuilder, Pending, Store};
#[cfg(feature = "redis")]
pub use store::{RedisCredentials, RedisStore, RedisStoreBuilder, SealKey, ServerIdentity};
pub use warm::{Warmed, Warmup};

#[cfg(any(doc, doctest))]
pub mod guide;

/// Runs the README's code as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
