//! HTTP response caching as a [tower] layer.

pub mod store;

mod answer;
mod body;
mod budget;
mod clock;
mod coalesce;
mod detach;
mod entry;
mod error;
mod exchange;
mod fill;
mod future;
mod gauge;
mod handle;
mod key;
mod layer;
mod metrics;
#[cfg(all(test, shuttle))]
mod model;
mod nominated;
mod outcome;
mod policy;
mod recording;
mod reporter;
mod route;
mod secret;
mod sequence;
mod service;
mod shared;
mod support;
mod sync;
mod telemetry;
mod unsettled;
mod write;

pub use body::{BodyError, ResponseBody};
pub use error::{ConfigError, ConfigErrorKind};
pub use future::ResponseFuture;
pub use handle::{SupportCacheHandle, Switch};
pub use layer::{Builder, SupportCacheLayer};
pub use metrics::{BucketSnapshot, Snapshot};
pub use outcome::{Alone, Bypass, Refusal};
pub use policy::{Caller, Credentials, RequestDirectives};
pub use route::{CacheRoute, Coalescing, InvalidateRoute, KeyRequest, QueryPolicy};
pub use service::SupportCache;
pub use store::{MemoryStore, MemoryStoreBuilder, Pending, Store};
pub use support::{CASE_LIST_TTL, CASE_MESSAGES_TTL};
