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
//! # Where the layer belongs
//!
//! Inside authentication, since a hit does not run what lies within the layer; and inside
//! compression, so that a response is stored once. The layer cannot see its own place, so
//! by default a request with credentials bypasses it. [`Credentials`] says what else a route can
//! choose.
//!
//! A layer that wraps the bodies of requests belongs inside, too, or behind a [`PeekContentLayer`]: a
//! GET with content bypasses the cache, and such a layer may hide that there is none.
//!
//! It belongs there once. A layer within itself, or within another with the same rules and store, is found
//! at its first request: a warning names the route, and the inner one passes its requests on. Layers with
//! other rules, or on other stores, go together.
//!
//! # Keys and variants
//!
//! A key groups responses: it is what one invalidation removes. It never decides whom a response is
//! for. That is the *variant*: scheme where known, host, the target as it was sent, the fields
//! that responses nominate by `Vary` ([`CacheRoute::vary`] declares others), and the caller where
//! the route says so ([`Credentials::PerCaller`]). A stored response answers only a
//! request with an equal variant, so a careless key builder can invalidate too much or too little,
//! and can never hand one resource to a request for another. Four settings widen what is
//! equal: [`Credentials::CoveredByKey`], [`Credentials::ByResponse`], [`QueryPolicy`] and
//! [`HostPolicy`].
//!
//! A *tag* groups further: responses of many keys that are invalidated together
//! ([`CacheRoute::tag`], [`InvalidateRoute::tag`], [`SupportCacheHandle::invalidate_tag`]), or that
//! name a common group (`Cache-Groups`, RFC 9875). A handler names tags of its own by [`CacheTags`] or
//! a field ([`SupportCacheLayerBuilder::tag_field`]).
//!
//! # The life of a request
//!
//! 1. A request that no rule is for passes through.
//! 2. A GET or HEAD on a cached route is looked up, or bypasses the cache for a named reason
//!    ([`Bypass`]). A fresh entry answers it at once.
//! 3. A miss leads a *flight*: it forwards, and later requests for the same variant wait for its
//!    response instead of forwarding too. A request that is not to wait or has waited long enough
//!    forwards for itself ([`Alone`]).
//! 4. The response is judged by its head. What may not be stored ([`Refusal`]) is not shared
//!    either: those that wait are released together and forward for themselves, and for 10 s nobody
//!    waits for such a response.
//! 5. What may be stored streams to its readers while it is recorded, and is stored once it is
//!    complete, unless an invalidation has overtaken it.
//! 6. A write that a rule matches is forwarded, and invalidates before its writer sees the response.
//!
//! Each of these ends is told in `Cache-Status` (RFC 9211), and counted in a [`Snapshot`] if it is
//! that of a read.
//!
//! # What is promised
//!
//! * Once an invalidation has returned `Ok`, no request that starts later is answered with a
//!   response whose forward began before the invalidation was called. With [`MemoryStore`] that is
//!   said of one process.
//! * A response goes only to requests with the same variant.
//! * The cache does not fail a request, and forwards it at most once. Who streams a response along
//!   with the request that forwarded shares its end, and so its failure ([`BodyError`]).
//! * Dropping any future harms no other request and loses no invalidation: fills and writes whose
//!   callers go away complete on the runtime, within bounds.
//!
//! The page [`security`] lists the security rules of a response cache, with the test that holds each.
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
//! * `testing`: a store that fails by a plan, the replay of requests that finds undeclared fields, and
//!   the conformance suite of the stores.
//!
//! A tokio runtime is needed, with its timer.
//!
//! [tower]: https://docs.rs/tower

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod verify;

mod background;
mod body;
mod clock;
mod entry;
mod error;
mod exchange;
mod fence;
mod flight;
mod future;
mod handle;
mod key;
mod layer;
mod metrics;
mod peek;
mod policy;
mod preset;
#[cfg(feature = "metrics")]
mod publish;
mod recording;
mod route;
mod service;
mod sync;
mod warm;

pub use body::{BodyError, ResponseBody};
pub use error::{ConfigError, ConfigErrorKind, Unfinished};
pub use future::ResponseFuture;
pub use handle::{Invalidation, SupportCacheHandle, Switch};
pub use key::{IntoKey, NamedKey, key};
pub use layer::{CallerKey, SupportCacheLayer, SupportCacheLayerBuilder};
pub use metrics::{
    BucketSnapshot, Snapshot,
    cache_outcome::{CacheOutcome, ReportOutcome},
    latency::Latency,
    operations::{Operation, OperationSnapshot, StoreSnapshot},
    outcome::{Alone, Bypass, Refusal, Stale},
    status_field::StatusField,
};
pub use peek::{PeekContent, PeekContentLayer, PeekedBody};
pub use policy::{CacheTags, ForceRefresh, Freshness, RequestDirectives, ResponsePolicy};
pub use preset::{CASE_LIST_TTL, CASE_MESSAGES_TTL};
pub use route::{
    CacheRoute, Caller, Coalescing, Credentials, HostPolicy, InvalidateRoute, KeyRequest,
    QueryPolicy,
};
pub use service::SupportCache;
pub use store::{MemoryStore, MemoryStoreBuilder, Pending, Store};
#[cfg(feature = "redis")]
pub use store::{RedisStore, RedisStoreBuilder, SealKey};
pub use warm::{Warmed, Warmup};

#[cfg(doc)]
#[doc = include_str!("../docs/security.md")]
pub mod security {}

/// Runs the README's code as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
