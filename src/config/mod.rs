//! Configuration of a layer by a file, or by a section of your own configuration (feature `config`).
//!
//! A file says what the setters of the builders say, under the same names, in TOML or JSON. What cannot be
//! written down stays code: [`Closures`] names it. `docs/config.schema.json` in the repository is a JSON
//! schema of the format.
//!
//! ```toml
//! name = "portal"
//!
//! [store]
//! kind = "redis"                       # or "memory"
//! url = { env = "REDIS_URL" }
//! namespace = "portal:"
//!
//! [[cache]]
//! pattern = "/accounts/{account}/cases"
//! bucket = "case_list"
//! key = "support:cases:{account}"
//! ttl = "2m"
//! stale_if_error = "1h"
//! credentials = { per_tenant = { named = "tenant" } }
//!
//! [[invalidate]]
//! method = "POST"
//! pattern = "/accounts/{account}/cases"
//! keys = ["support:cases:{account}"]
//! ```
//!
//! [`ConfigFile`] reads a file, and its errors name file, line, setting, problem and fix. [`LayerConfig`] is
//! the same as a `serde` type. [`Reloader`] replaces the routes of a running layer when the file changes.

mod build;
mod closures;
mod file;
mod position;
#[cfg(feature = "redis")]
mod redis;
mod sections;
mod setters;
mod value;
mod watch;

pub use closures::Closures;
pub use file::{ConfigFile, ConfigFileError};
#[cfg(feature = "redis")]
pub use sections::RedisConfig;
#[cfg(feature = "config-schema")]
pub use sections::schema;
pub use sections::{
    CacheConfig, CallerConfig, CredentialsConfig, InvalidateConfig, LayerConfig, MemoryConfig,
    OriginBudgetConfig, StoreConfig,
};
pub use value::{ConfigBytes, ConfigDuration, Secret};
pub use watch::Reloader;
