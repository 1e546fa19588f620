//! Guide: from a first cached route to several processes in production.
//!
//! | Page | Question |
//! |---|---|
//! | [Placing the layer](stack) | Where does it belong among other layers, and what do clients see? |
//! | [Keys and tags](keys) | What does an invalidation remove, and what identifies a response? |
//! | [Who may share](sharing) | Which requests may a stored response answer? |
//! | [Invalidation](invalidation) | How do writes, handlers, jobs and messages remove what has changed? |
//! | [Freshness](freshness) | What is stored, how long is it fresh, and when may it be stale? |
//! | [Reads with content](content) | How are QUERY and POST cached, where the content says what is asked? |
//! | [Coded forms](coded_forms) | How is a stored response compressed once, and not at every hit? |
//! | [A rate-limited origin](rate_limited_origin) | What happens when the origin takes no more requests? |
//! | [Several processes](processes) | How do processes share a Redis, and what happens when it fails? |
//! | [Configuration](configuration) | How does a file make the layer? |
//! | [Operating](operating) | Metrics, log, switches, shutdown |
//! | [See and trust it](trust) | What would the cache do with this request, and is it right? |
//! | [Life cycle](life_cycle) | How does a service end, change its routes, and change its keys? |
//! | [Testing](testing) | How do I test my service with the cache? |
//! | [Cookbook](cookbook) | Recipes |
//! | [Migration](migration) | I come from the original service, or from another crate |
//! | [Defaults and limits](defaults) | All of them in one table |
//! | [Cost](cost) | What does a request cost? |
//! | [How it works](how_it_works) | Why does an invalidation always win? |
//! | [What holds](what_holds) | Which test shows each promise, and what is not covered? |
//! | [Security](security) | Which attacks are held off, and which test shows it? |
//!
//! Features of the crate, all off but the first:
//!
//! | Feature | What it adds |
//! |---|---|
//! | `tracing` (default) | warnings, and a `debug` event for each request on a cached route |
//! | `metrics` | counts for the `metrics` facade |
//! | `serde` | `Serialize` for snapshots and reasons |
//! | `config`, `config-schema` | a layer made of a file; a JSON schema of it |
//! | `encode` | stored responses that are encoded once: gzip, Brotli, zstd |
//! | `json`, `graphql` | JSON of one meaning is one content; which GraphQL requests only read |
//! | `axum` | the original URI under `axum::Router::nest` |
//! | `redis`, `redis-tls`, `redis-sentinel`, `redis-cluster` | `RedisStore` and its kinds of address |
//! | `testing` | `Chaos` and `Replay`, for the tests of a service |

#[doc = include_str!("../docs/guide/stack.svg")]
#[doc = include_str!("../docs/guide/stack.md")]
#[doc(alias = "middleware order")]
pub mod stack {}

#[doc = include_str!("../docs/guide/keys.md")]
#[doc(alias = "surrogate key")]
#[doc(alias = "cache key")]
#[doc(alias = "vary by")]
pub mod keys {}

#[doc = include_str!("../docs/guide/sharing.md")]
#[doc(alias = "tenant")]
#[doc(alias = "authentication")]
pub mod sharing {}

#[doc = include_str!("../docs/guide/invalidation.md")]
#[doc(alias = "purge")]
#[doc(alias = "ban")]
#[doc(alias = "clear")]
pub mod invalidation {}

#[doc = include_str!("../docs/guide/freshness.md")]
#[doc(alias = "grace")]
#[doc(alias = "fail-safe")]
pub mod freshness {}

#[doc = include_str!("../docs/guide/coded_forms.md")]
#[doc(alias = "compression")]
#[doc(alias = "gzip")]
pub mod coded_forms {}

#[doc = include_str!("../docs/guide/content.md")]
#[doc(alias = "QUERY")]
#[doc(alias = "request body")]
pub mod content {}

#[doc = include_str!("../docs/guide/rate_limited_origin.md")]
#[doc(alias = "quota")]
#[doc(alias = "rate limit")]
#[doc(alias = "429")]
pub mod rate_limited_origin {}

#[doc = include_str!("../docs/guide/processes.md")]
#[doc(alias = "distributed cache")]
#[doc(alias = "backplane")]
pub mod processes {}

#[doc = include_str!("../docs/guide/configuration.md")]
#[cfg(any(doc, feature = "config"))]
pub mod configuration {}

#[doc = include_str!("../docs/guide/operating.md")]
#[doc = include_str!("../docs/guide/series.svg")]
#[doc(alias = "graceful shutdown")]
pub mod operating {}

#[doc = include_str!("../docs/guide/trust.md")]
#[doc(alias = "dry run")]
#[doc(alias = "shadow")]
#[doc(alias = "audit")]
pub mod trust {}

#[doc = include_str!("../docs/guide/life_cycle.md")]
#[doc(alias = "hot reload")]
#[doc(alias = "rolling deploy")]
pub mod life_cycle {}

#[doc = include_str!("../docs/guide/testing.md")]
#[cfg(any(doc, feature = "testing"))]
pub mod testing {}

#[doc = include_str!("../docs/guide/cookbook.md")]
#[doc(alias = "recipes")]
pub mod cookbook {}

#[doc = include_str!("../docs/guide/migration.md")]
pub mod migration {}

#[doc = include_str!("../docs/guide/defaults.md")]
pub mod defaults {}

#[doc = include_str!("../docs/cost.md")]
pub mod cost {}

#[doc = include_str!("../docs/guide/how_it_works.md")]
#[doc(alias = "stampede")]
#[doc(alias = "single flight")]
#[doc(alias = "fence")]
pub mod how_it_works {}

#[doc = include_str!("../docs/guide/what_holds.md")]
#[doc(alias = "guarantees")]
pub mod what_holds {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}
