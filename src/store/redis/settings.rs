//! What a Redis store is told when it is made.

use std::{fmt, sync::Arc, time::Duration};

use redis::{Cmd, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::{
    Digest, RedisStore, TAGS,
    command::{self, Sought},
    record::Seal,
    wire::Place,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::{PrimaryKey, Tag},
};

const LOOKUP_BUDGET: Duration = Duration::from_millis(50);
const INVALIDATE_BUDGET: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_millis(200);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(100);
const SLOW_LOOKUPS: u32 = 5;
const NEAR_CAPACITY: u64 = 32 * 1024 * 1024;
const NEAR_LIMIT: Duration = Duration::from_secs(5);
/// A variant, its number and its lease are a field each.
const MAX_FIELDS: usize = 1024;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) place: Place,
    pub(super) namespace: String,
    pub(super) lookup_budget: Duration,
    pub(super) invalidate_budget: Duration,
    pub(super) lease: Duration,
    pub(super) heartbeat: Duration,
    pub(super) heartbeat_timeout: Duration,
    pub(super) max_fields: usize,
    pub(super) slow_lookups: u32,
    pub(super) seal: Seal,
    /// Zero for no near cache.
    pub(super) near_capacity: u64,
    pub(super) near_limit: Duration,
}

impl Settings {
    /// Asks for the record of a variant, or for its number.
    pub(super) fn look(&self, key: &PrimaryKey, sought: Sought, vk: &Digest) -> Cmd {
        command::look([&self.namespace, key.as_str()], sought, vk)
    }

    pub(super) fn key(&self, key: &PrimaryKey) -> String {
        [&self.namespace, key.as_str()].concat()
    }

    /// Returns where the stamp of a tag is.
    pub(super) fn tag_key(&self, tag: &Tag) -> String {
        [&self.namespace, TAGS, tag.as_str()].concat()
    }

    pub(super) fn epoch_key(&self) -> String {
        [&self.namespace, "tower-support-cache:epoch"].concat()
    }

    /// Returns how long after an epoch has begun every process has seen it, or knows that its link
    /// is not proven.
    pub(super) fn until_seen(&self) -> Duration {
        self.heartbeat + self.heartbeat_timeout
    }
}

/// Where the server is, as it was said.
#[derive(Clone)]
pub(super) enum Address {
    One(String),
    #[cfg(feature = "redis-sentinel")]
    Sentinels(String, Vec<String>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Vec<String>),
}

/// Builds a [`RedisStore`].
#[derive(Clone)]
#[must_use = "a builder does nothing itself, use `.build()` to build it"]
pub struct RedisStoreBuilder {
    address: Address,
    username: Option<String>,
    password: Option<String>,
    database: Option<u32>,
    namespace: String,
    lookup_budget: Duration,
    invalidate_budget: Duration,
    lease: Duration,
    heartbeat: Duration,
    heartbeat_timeout: Duration,
    slow_lookups: u32,
    seal: Seal,
    near_capacity: u64,
    near_limit: Duration,
}

impl RedisStoreBuilder {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            username: None,
            password: None,
            database: None,
            namespace: String::new(),
            lookup_budget: LOOKUP_BUDGET,
            invalidate_budget: INVALIDATE_BUDGET,
            lease: LEASE,
            heartbeat: HEARTBEAT,
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
            slow_lookups: SLOW_LOOKUPS,
            seal: Seal::Checksum,
            near_capacity: NEAR_CAPACITY,
            near_limit: NEAR_LIMIT,
        }
    }

    /// Sets the ACL user. Defaults to the one in the address, or to none.
    ///
    /// It needs `INFO`, `TIME`, `GET`, `MGET`, `SET`, `UNLINK`, `HGET`, `HMGET`, `EVALSHA`, `EVAL`, and
    /// what the scripts call: `EXISTS`, `HSET`, `HDEL`, `HKEYS`, `HLEN`, `HRANDFIELD`, `PTTL`,
    /// `PEXPIRE`; and `CLIENT TRACKING` for the near cache. Without `INFO` the store cannot know one
    /// server from another and is bypassed.
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// Sets the password. Defaults to the one in the address, or to none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the number of the database. Defaults to the one in the address, or to 0.
    pub fn database(mut self, number: u32) -> Self {
        self.database = Some(number);
        self
    }

    /// Sets what all keys begin with at the server. Defaults to nothing.
    ///
    /// Give each application and each environment that shares a server its own.
    pub fn namespace(mut self, prefix: impl Into<String>) -> Self {
        self.namespace = prefix.into();
        self
    }

    /// Sets how long a request waits for a look at the server, or for the right to fill. Defaults to
    /// 50 ms.
    ///
    /// A request that has waited in vain is forwarded and waits for the server no more.
    pub fn lookup_budget(mut self, limit: Duration) -> Self {
        self.lookup_budget = limit;
        self
    }

    /// Sets how long a write waits for its invalidation to be acknowledged, and a response for being
    /// stored. Defaults to 100 ms.
    ///
    /// An invalidation that takes longer is sent again in the background until it is acknowledged.
    pub fn invalidate_budget(mut self, limit: Duration) -> Self {
        self.invalidate_budget = limit;
        self
    }

    /// Sets how long the right to fill lasts. Defaults to 30 s.
    ///
    /// Make it longer than the service takes to answer. A process that dies in mid-fill keeps others
    /// from filling the same slot for this long at most; meanwhile they forward.
    pub fn lease(mut self, length: Duration) -> Self {
        self.lease = length;
        self
    }

    /// Sets how often the link to the server is proven, and how long a proof may take. Defaults to
    /// 200 ms and 100 ms.
    ///
    /// For the sum of both a link that is broken without a sign, or a primary that was demoted, may
    /// go unnoticed.
    pub fn heartbeat(mut self, every: Duration, timeout: Duration) -> Self {
        (self.heartbeat, self.heartbeat_timeout) = (every, timeout);
        self
    }

    /// Sets how many lookups in a row may take longer than their budget before the breaker opens: then
    /// none is tried until a heartbeat has come back in time. Those that are sent together are one.
    /// Defaults to 5.
    pub fn breaker(mut self, slow_lookups: u32) -> Self {
        self.slow_lookups = slow_lookups;
        self
    }

    /// Seals what is stored with a digest by this key. Defaults to a checksum, which finds damage but
    /// can be made by anybody.
    ///
    /// Then nobody who can write to the server but lacks the key can make up a response. They can
    /// still remove one, or put an older one back in its place while it is fresh. Give all processes
    /// the same key.
    pub fn authenticate(mut self, key: [u8; 32]) -> Self {
        self.seal = Seal::Keyed(key);
        self
    }

    /// Sets how much this process keeps in memory of what it has read, in bytes, and for how long it
    /// uses that without reading it again. Defaults to 32 MiB and 5 s; 0 bytes turn it off.
    ///
    /// A hit in this *near cache* asks the server nothing. After its time, or where the near cache is off
    /// or silent, what is in memory answers only if the server still has the same record, whose number is
    /// asked for in its place: that spares sending the response and making it once more, and takes 4 MiB where
    /// the capacity is less.
    ///
    /// The server tells when a key has changed;
    /// until that message is here, a fraction of a millisecond after the change as a rule, this
    /// process may still answer with what was there before. What this process invalidates itself is
    /// gone at once. While the link is not [proven](Self::heartbeat) the near cache answers nothing.
    /// Without RESP3 or `CLIENT TRACKING` at the server it stays off.
    pub fn near_cache(mut self, capacity: u64, limit: Duration) -> Self {
        (self.near_capacity, self.near_limit) = (capacity, limit);
        self
    }

    /// Builds the store. It connects in the background once it is used within a tokio runtime; the
    /// server need not be there yet.
    ///
    /// # Errors
    ///
    /// An address that cannot be parsed or needs a feature that is off, a limit of zero, a namespace
    /// with control characters.
    pub fn build(self) -> Result<RedisStore, ConfigError> {
        let limits = [
            ("lookup_budget", self.lookup_budget),
            ("invalidate_budget", self.invalidate_budget),
            ("lease", self.lease),
            ("heartbeat", self.heartbeat),
            ("heartbeat", self.heartbeat_timeout),
        ];
        if let Some((field, _)) = limits.iter().find(|(_, limit)| limit.as_millis() == 0) {
            return Err(error(field, "is under one millisecond"));
        }
        if self.slow_lookups == 0 {
            return Err(error("breaker", "would never be closed"));
        }
        if self.namespace.chars().any(char::is_control) {
            return Err(error("namespace", "has control characters"));
        }
        let place = self.place()?;
        let settings = Settings {
            place,
            namespace: self.namespace,
            lookup_budget: self.lookup_budget,
            invalidate_budget: self.invalidate_budget,
            lease: self.lease,
            heartbeat: self.heartbeat,
            heartbeat_timeout: self.heartbeat_timeout,
            max_fields: MAX_FIELDS,
            slow_lookups: self.slow_lookups,
            seal: self.seal,
            near_capacity: self.near_capacity,
            near_limit: self.near_limit,
        };
        Ok(RedisStore::new(Arc::new(super::link::Link::new(settings))))
    }

    fn place(&self) -> Result<Place, ConfigError> {
        match &self.address {
            Address::One(url) => {
                let info = parse(url)?;
                let redis = self.redis(info.redis_settings().clone());
                let tcp = info.tcp_settings().clone().set_nodelay(true);
                Ok(Place::One(Box::new(info.set_redis_settings(redis).set_tcp_settings(tcp))))
            }
            #[cfg(feature = "redis-sentinel")]
            Address::Sentinels(name, urls) => {
                let (sentinels, name) = (parse_all(urls)?, name.clone());
                Ok(Place::Sentinels { sentinels, name, redis: self.redis(Default::default()) })
            }
            #[cfg(feature = "redis-cluster")]
            Address::Cluster(urls) => {
                if self.database.is_some_and(|number| number != 0) {
                    return Err(error("database", "is not 0, and a cluster has no other"));
                }
                let nodes = parse_all(urls)?;
                let redis = self.redis(nodes[0].redis_settings().clone());
                Ok(Place::Cluster { nodes, redis })
            }
        }
    }

    /// Adds what was set to what an address says.
    fn redis(&self, mut redis: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password);
        }
        if let Some(database) = self.database {
            redis = redis.set_db(i64::from(database));
        }
        redis
    }
}

fn error(field: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::new(ConfigErrorKind::Store, None, field, problem)
}

fn parse(url: &str) -> Result<ConnectionInfo, ConfigError> {
    // The error does not repeat the address, which may hold a password.
    let info = url.into_connection_info().map_err(|problem| error("url", problem.to_string()))?;
    if !info.addr().is_supported() {
        return Err(error("url", "needs the feature `redis-tls`"));
    }
    #[cfg(feature = "redis-tls")]
    if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. })
        && rustls::crypto::CryptoProvider::get_default().is_none()
    {
        let problem = "needs a crypto provider: call `CryptoProvider::install_default` of `rustls`";
        return Err(error("url", problem));
    }
    Ok(info)
}

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
fn parse_all(urls: &[String]) -> Result<Vec<ConnectionInfo>, ConfigError> {
    if urls.is_empty() {
        return Err(error("urls", "are none"));
    }
    urls.iter().map(|url| parse(url)).collect()
}

impl fmt::Debug for RedisStoreBuilder {
    // Neither the address nor what is secret is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
