//! Tests of services that are to be cached, and of stacks around a store that fails.
//!
//! # Undeclared fields
//!
//! A cache tells requests apart by their target and by the fields that the route declares
//! ([`CacheRoute::vary`](crate::CacheRoute::vary)) or the response nominates (`Vary`). A handler
//! that reads another field, such as `X-Forwarded-Host`, makes one client's response answer others,
//! which is cache poisoning. [`Replay`] finds such fields: it sends a request again and again to the
//! service *without* the cache, each time with one field changed, and reports the fields that changed
//! the response.
//!
//! ```
//! use axum::{Router, body::Body, http::HeaderMap, routing::get};
//! use http::{HeaderName, Request};
//! use tower_support_cache::testing::Replay;
//!
//! async fn cases(fields: HeaderMap) -> String {
//!     let host = fields.get("x-forwarded-host").and_then(|host| host.to_str().ok());
//!     format!("https://{}/cases/1", host.unwrap_or("example.com"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let app: Router = Router::new().route("/cases", get(cases));
//! let request = || Request::get("/cases").body(Body::empty()).unwrap();
//! let found = Replay::new().undeclared(app.clone(), request).await;
//! assert_eq!(found[0].name(), "x-forwarded-host");
//!
//! let declared = HeaderName::from_static("x-forwarded-host");
//! Replay::new().declared([declared]).assert_declared(app, request).await;
//! # }
//! ```
//!
//! # A store that fails
//!
//! [`Chaos`] wraps a [`Store`](crate::Store) and makes its calls fail, wait or hang by a plan, so that
//! you can test your own stack against an unhealthy store.
//!
//! ```
//! use tower_support_cache::{
//!     CacheRoute, MemoryStore, SupportCacheLayer,
//!     testing::{Chaos, Fault, StoreCall},
//! };
//!
//! let store = Chaos::new(MemoryStore::new(), |call, count| match call {
//!     StoreCall::Commit if count % 2 == 0 => Fault::Fail,
//!     _ => Fault::None,
//! });
//! let layer = SupportCacheLayer::builder(store)
//!     .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(std::time::Duration::from_secs(60)))
//!     .build()?;
//! # Ok::<(), tower_support_cache::ConfigError>(())
//! ```

mod chaos;
mod replay;

pub use chaos::{Chaos, Fault, StoreCall};
pub use replay::{Replay, Undeclared};

/// Sets the clock of the day, as the caches of this process read it, forward or back, by milliseconds.
///
/// Forward it is what a machine sees that was suspended: everything that is stored is older by as much.
/// Paused time does not move, and no timer fires.
///
/// ```
/// tower_support_cache::testing::step_time_of_day(3_600_000);
/// ```
pub fn step_time_of_day(millis: i64) {
    crate::clock::step(millis);
}

/// For the crate's own tests, whose stores break the rules one by one.
#[doc(hidden)]
pub use crate::store::sealed::Sealed;
