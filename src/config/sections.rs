//! Sections of a configuration, as `serde` types.

use serde::Deserialize;

use super::value::{ConfigBytes, ConfigDuration, Secret};
#[cfg(feature = "encode")]
use crate::coding::ContentCoding;
#[cfg(feature = "redis")]
use crate::{metrics::capability::Capability, store::ServerIdentity};
use crate::{
    origin::{Exhausted, Quota},
    policy::{Freshness, RequestDirectives},
    route::{HostPolicy, QueryPolicy},
};

/// Configuration of a layer: its store, its routes, and their defaults.
///
/// It can stand in a section of your own configuration. [`ConfigFile`](super::ConfigFile) reads it from a
/// file of its own, and then errors have a line.
///
/// ```
/// use tower_support_cache::config::{Closures, LayerConfig};
///
/// let config: LayerConfig = serde_json::from_str(
///     r#"{ "cache": [{ "pattern": "/news", "key": "news", "ttl": "30s" }] }"#,
/// )?;
/// let layer = config.layer(&Closures::new())?;
/// # let _ = layer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LayerConfig {
    /// Name in `Cache-Status`. Defaults to `support-cache`.
    pub name: Option<String>,
    /// Name of the place where the layer is mounted. Defaults to none.
    pub mount: Option<String>,
    /// Scheme of requests that name none: `https` or `http`. Defaults to none.
    pub scheme: Option<String>,
    /// Treatment of requests with credentials, for routes that do not set their own. Defaults to
    /// `"bypass"`.
    pub credentials: Option<CredentialsConfig>,
    /// Names of the request fields that carry credentials. Defaults to
    /// [`Credentials::default_fields`](crate::Credentials::default_fields).
    pub credential_fields: Option<Vec<String>>,
    /// Name of the response field that adds tags, such as `Surrogate-Key`. Defaults to none.
    pub tag_field: Option<String>,
    /// Name of the response field that lists bucket, key and tags for a CDN. Defaults to none.
    pub surrogate_key_field: Option<String>,
    /// Key of the digests of callers: 64 hexadecimal digits, or `{ env = "NAME" }`.
    pub caller_key: Option<Secret>,
    /// Number of outcomes that are kept of each bucket. Defaults to none.
    pub record_outcomes: Option<usize>,
    /// Calls that the origin takes in a period. Defaults to no limit.
    pub origin_budget: Option<OriginBudgetConfig>,
    /// Store of the responses. Defaults to memory.
    pub store: StoreConfig,
    /// Routes whose responses are cached.
    pub cache: Vec<CacheConfig>,
    /// Writes that invalidate.
    pub invalidate: Vec<InvalidateConfig>,
}

/// Store of a [`LayerConfig`], told apart by `kind`.
///
/// ```
/// use tower_support_cache::config::StoreConfig;
///
/// let store: StoreConfig = serde_json::from_str(r#"{ "kind": "memory", "capacity": "256MiB" }"#)?;
/// assert!(matches!(store, StoreConfig::Memory(_)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoreConfig {
    /// Memory of this process.
    Memory(MemoryConfig),
    /// Redis, shared by processes.
    #[cfg(feature = "redis")]
    Redis(Box<RedisConfig>),
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::Memory(MemoryConfig::default())
    }
}

/// Settings of a [`MemoryStore`](crate::MemoryStore).
///
/// ```
/// use tower_support_cache::config::MemoryConfig;
///
/// let memory: MemoryConfig = serde_json::from_str(r#"{ "capacity": "256MiB" }"#)?;
/// assert_eq!(memory.capacity.unwrap().get(), 256 << 20);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// Memory for entries. Defaults to 64 MiB.
    pub capacity: Option<ConfigBytes>,
}

/// Settings of a [`RedisStore`](crate::RedisStore). Each has the default of
/// [`RedisStoreBuilder`](crate::RedisStoreBuilder).
///
/// ```
/// use tower_support_cache::config::RedisConfig;
///
/// let redis: RedisConfig = serde_json::from_str(
///     r#"{ "url": "redis://127.0.0.1:6379/", "namespace": "portal:", "lookup_budget": "20ms" }"#,
/// )?;
/// assert_eq!(redis.lookup_budget.unwrap().get().as_millis(), 20);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[cfg(feature = "redis")]
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Address of the server: `redis://host:6379/0`, or `{ env = "NAME" }`.
    pub url: Option<Secret>,
    /// Addresses of some nodes of a cluster, instead of `url`.
    #[cfg(feature = "redis-cluster")]
    pub cluster: Vec<String>,
    /// Addresses of sentinels, instead of `url`; `primary` is the name that they know.
    #[cfg(feature = "redis-sentinel")]
    pub sentinels: Vec<String>,
    /// Name of the primary that sentinels are asked for.
    #[cfg(feature = "redis-sentinel")]
    pub primary: Option<String>,
    /// ACL user.
    pub username: Option<String>,
    /// Password, or `{ env = "NAME" }`.
    pub password: Option<Secret>,
    /// Number of the database.
    pub database: Option<u32>,
    /// Text that all keys at the server begin with.
    pub namespace: Option<String>,
    /// Wait of a request for a lookup.
    pub lookup_budget: Option<ConfigDuration>,
    /// Wait of a write for the acknowledgement of its invalidation.
    pub invalidate_budget: Option<ConfigDuration>,
    /// Length of the right to fill.
    pub lease: Option<ConfigDuration>,
    /// Interval of the proofs of the link.
    pub heartbeat: Option<ConfigDuration>,
    /// Time that a proof may take.
    pub heartbeat_timeout: Option<ConfigDuration>,
    /// Number of slow lookups in a row after which none is tried for a while.
    pub breaker: Option<u32>,
    /// Memory of the near cache; 0 turns it off.
    pub near_cache_capacity: Option<ConfigBytes>,
    /// Time for which an entry of the near cache answers.
    pub near_cache_limit: Option<ConfigDuration>,
    /// Key that seals records: 64 hexadecimal digits, or `{ env = "NAME" }`.
    pub seal_key: Option<Secret>,
    /// Key that encrypts records, in place of `seal_key`.
    #[cfg(feature = "redis-encryption")]
    pub encryption_key: Option<Secret>,
    /// Further key that decrypts records, while keys rotate.
    #[cfg(feature = "redis-encryption")]
    pub decryption_key: Option<Secret>,
    /// Size from which on records are compressed, such as `"512B"`. Defaults to none.
    #[cfg(feature = "redis-zstd")]
    pub compress_from: Option<ConfigBytes>,
    /// Identity by which the server is accepted: `"reported"` or `"token_alone"`.
    pub server_identity: Option<ServerIdentity>,
    /// Capabilities without which the server is not used, such as `"tracking"`.
    pub require: Vec<Capability>,
}

/// Settings of an [`OriginBudget`](crate::OriginBudget).
///
/// ```
/// use tower_support_cache::config::OriginBudgetConfig;
///
/// let budget: OriginBudgetConfig = serde_json::from_str(r#"{ "calls": 15000, "per": "1d" }"#)?;
/// assert_eq!(budget.per.get().as_secs(), 86_400);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OriginBudgetConfig {
    /// Number of calls.
    pub calls: u32,
    /// Period of that number.
    pub per: ConfigDuration,
    /// Name of the origin. Defaults to `origin`.
    #[serde(default)]
    pub name: Option<String>,
    /// Number of calls that may be made at once. Defaults to one third of all.
    #[serde(default)]
    pub burst: Option<u32>,
}

/// Treatment of requests with credentials, in the words of [`Credentials`](crate::Credentials).
///
/// ```
/// use tower_support_cache::config::CredentialsConfig;
///
/// for text in [r#""same_for_everybody""#, r#"{ "per_caller": { "cookies": ["session"] } }"#] {
///     serde_json::from_str::<CredentialsConfig>(text)?;
/// }
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CredentialsConfig {
    /// Requests with credentials bypass the cache.
    Bypass,
    /// The response is the same for everybody.
    SameForEverybody,
    /// The response differs by caller.
    PerCaller(CallerConfig),
    /// The response differs by tenant.
    PerTenant(CallerConfig),
    /// The response decides (RFC 9111 §3.5).
    ByResponse,
    /// An outer layer has authorised the request, and the target says who may see the response.
    CoveredByKey,
}

/// Identity of a caller or a tenant, in the words of [`Caller`](crate::Caller).
///
/// ```
/// use tower_support_cache::config::CallerConfig;
///
/// for text in [r#""authorization""#, r#"{ "cookies": ["session"] }"#, r#"{ "named": "user" }"#] {
///     serde_json::from_str::<CallerConfig>(text)?;
/// }
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallerConfig {
    /// The `Authorization` field.
    Authorization,
    /// Cookies with these names.
    Cookies(Vec<String>),
    /// A closure of [`Closures::text`](super::Closures::text).
    Named(String),
}

/// Cached route, with the setters of [`CacheRoute`](crate::CacheRoute) as fields.
///
/// ```
/// use tower_support_cache::config::CacheConfig;
///
/// let route: CacheConfig = serde_json::from_str(
///     r#"{ "pattern": "/cases/{case}", "key": "case:{case}", "tags": ["cases"], "ttl": "2m" }"#,
/// )?;
/// assert_eq!(route.ttl.unwrap().get().as_secs(), 120);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Method: `GET`, `QUERY`, or `POST` with `reads`. Defaults to `GET`.
    pub method: Option<String>,
    /// Closure that tells which POST requests only read.
    pub reads: Option<String>,
    /// Path pattern, in the syntax of axum 0.8.
    pub pattern: String,
    /// Name under which the route is counted and switched.
    pub bucket: Option<String>,
    /// Template of the key.
    pub key: Option<String>,
    /// Closure that makes the key, instead of `key`.
    pub key_with: Option<String>,
    /// Templates of tags.
    pub tags: Vec<String>,
    /// Closures that make tags.
    pub tags_with: Vec<String>,
    /// Time for which a response is fresh: `"30s"`, `"5m"`.
    pub ttl: Option<ConfigDuration>,
    /// Shortest and longest time for which a response is fresh, by what is left of the budget.
    pub ttl_between: Option<[ConfigDuration; 2]>,
    /// Closure that sets the lifetime of a response.
    pub ttl_with: Option<String>,
    /// Closure that accepts responses to be stored.
    pub store_if: Option<String>,
    /// Source of lifetimes: `"fixed"` or `"origin"`.
    pub freshness: Option<Freshness>,
    /// Heuristic lifetime in percent of the time since `Last-Modified`.
    pub heuristic: Option<u8>,
    /// Window in which a stale response answers while it is revalidated.
    pub stale_while_revalidate: Option<ConfigDuration>,
    /// Window in which a stale response answers if the origin fails.
    pub stale_if_error: Option<ConfigDuration>,
    /// Time after which a stale response answers instead of a slow origin.
    pub soft_timeout: Option<ConfigDuration>,
    /// Weight of early refreshes; 0 is never.
    pub early_refresh: Option<f32>,
    /// Share of the stored responses that are audited, from 0 to 1. Defaults to 0.
    pub audit: Option<f64>,
    /// Treatment of requests with credentials.
    pub credentials: Option<CredentialsConfig>,
    /// Part of the query that tells responses apart.
    pub query_policy: Option<QueryPolicy>,
    /// Honours `No-Vary-Search`, by which responses say what of the query counts. Defaults to false.
    pub no_vary_search: Option<bool>,
    /// Part of the host that tells responses apart.
    pub host: Option<HostPolicy>,
    /// Treatment of cache directives of requests: `"ignore"` or `"honour"`.
    pub request_directives: Option<RequestDirectives>,
    /// Request fields that tell responses apart.
    pub vary: Vec<String>,
    /// Response fields that replace `Cache-Control` (RFC 9213).
    pub targeted: Vec<String>,
    /// Response fields that are left out of what is stored.
    pub strip: Vec<String>,
    /// Statuses that are stored.
    pub statuses: Option<Vec<u16>>,
    /// Lifetime of 404 and 410.
    pub negative_ttl: Option<ConfigDuration>,
    /// Percent by which a lifetime is shortened by chance, at most.
    pub jitter: Option<u8>,
    /// Largest body that is stored: `"1MiB"`.
    pub body_limit: Option<ConfigBytes>,
    /// An `ETag` for responses without a validator. Defaults to false.
    pub etag: Option<bool>,
    /// Largest content of a request that is read: `"64KiB"`.
    pub content_limit: Option<ConfigBytes>,
    /// Content codings of stored responses, most preferred first: `"zstd"`, `"br"`, `"gzip"`. Defaults to none.
    #[cfg(feature = "encode")]
    pub encode: Vec<ContentCoding>,
    /// Set if responses for a caller are encoded, too. Defaults to `false`.
    #[cfg(feature = "encode")]
    pub encode_per_caller: bool,
    /// Contents of a request that are taken for one: `"json"` for JSON of one meaning (RFC 8785), with the
    /// feature `json`.
    pub normalize: Option<String>,
    /// Methods of writes to the route's own path that do not invalidate its key.
    pub ignore_writes: Vec<String>,
    /// Sharing of one origin request by concurrent misses. Defaults to true.
    pub coalescing: Option<bool>,
    /// Requests that the origin counts together: `"caller"` or `"service"`.
    pub quota: Option<Quota>,
    /// Answer to a request that has nothing to show once the budget is spent: `"forward"` or `"refuse"`.
    pub when_exhausted: Option<Exhausted>,
    /// Time after an invalidation in which a replica of the origin may lag.
    pub settle: Option<ConfigDuration>,
}

/// Write that invalidates, with the setters of [`InvalidateRoute`](crate::InvalidateRoute) as fields.
///
/// ```
/// use tower_support_cache::config::InvalidateConfig;
///
/// let rule: InvalidateConfig = serde_json::from_str(
///     r#"{ "method": "POST", "pattern": "/cases/{case}/comments", "keys": ["case:{case}"] }"#,
/// )?;
/// assert_eq!(rule.keys, ["case:{case}"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InvalidateConfig {
    /// Method, such as `POST`. Defaults to every method that is not safe.
    pub method: Option<String>,
    /// Path pattern.
    pub pattern: String,
    /// Templates of keys.
    pub keys: Vec<String>,
    /// Closures that make keys.
    pub keys_with: Vec<String>,
    /// Templates of tags.
    pub tags: Vec<String>,
    /// Closures that make tags.
    pub tags_with: Vec<String>,
    /// Invalidation of the groups that responses name (RFC 9875). Defaults to false.
    pub groups: bool,
    /// Soft invalidation: responses become stale instead of being removed. Defaults to false.
    pub soft: bool,
    /// Time after an unknown outcome in which nothing is stored.
    pub unknown_for: Option<ConfigDuration>,
    /// Time after a 202 in which nothing is stored.
    pub accepted_for: Option<ConfigDuration>,
}

/// Returns a JSON schema of [`LayerConfig`], for editors and checks of files.
///
/// ```
/// assert!(tower_support_cache::config::schema().contains("stale_while_revalidate"));
/// ```
#[cfg(feature = "config-schema")]
pub fn schema() -> String {
    format!("{:#}\n", schemars::schema_for!(LayerConfig).as_value())
}
