//! Builder of a Redis store.

use std::{error::Error, fmt, future::Future, time::Duration};

use redis::{ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

#[cfg(feature = "redis-encryption")]
use super::record::EncryptionKeys;
use super::{
    link::{CredentialSource, Endpoint, RedisCredentials, Servers},
    record::Seal,
    settings::{LONGEST_UNTIL_SEEN, RedisSettings, ServerIdentity},
    store::RedisStore,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    metrics::capability::Capability,
};

impl RedisStore {
    /// Creates a store at an address: `redis://[user:password@]host[:port][/database]`, `rediss://…`
    /// for TLS (feature `redis-tls`), `redis+unix:///path` for a socket.
    ///
    /// # Errors
    ///
    /// As for [`RedisStoreBuilder::build`].
    pub fn connect(url: impl Into<String>) -> Result<Self, ConfigError> {
        Self::builder(url).build()
    }

    /// Waits until there is a link to the server, for a service that does not want to start without one.
    ///
    /// Nothing else needs it: requests are forwarded until there is a link. Call it within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The reason why there is no link: at once for a server that lacks a [required](RedisStoreBuilder::require)
    /// capability or does not say who it is, and otherwise after `limit`. The store goes on trying.
    ///
    /// # Cancellation
    ///
    /// Dropped, it has no effect.
    pub async fn linked(&self, limit: Duration) -> Result<(), ConfigError> {
        let linked = self.link().linked(limit).await;
        linked.map_err(|problem| error("url", format!("leads to no link: {}", problem.text)))
    }

    /// Returns a builder, for other settings.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(Address::One(url.into()))
    }

    /// Returns a builder for the primary that sentinels call `name`. The addresses are the sentinels';
    /// user, password and database of the primary are set on the builder.
    ///
    /// They are asked at every new connection, and the link notices a failover within a heartbeat and
    /// its timeout. After one the cache is empty: the new primary may have missed invalidations.
    #[cfg(feature = "redis-sentinel")]
    pub fn sentinel(
        name: impl Into<String>,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> RedisStoreBuilder {
        let urls = urls.into_iter().map(Into::into).collect();
        RedisStoreBuilder::new(Address::Sentinels(name.into(), urls))
    }

    /// Returns a builder for a cluster, of which some nodes are given.
    ///
    /// There is a connection to each primary, and each is proven by itself: while one is silent or gone, the keys
    /// and tags there are bypassed, and the near cache answers with nothing that depends on it; the rest goes on.
    /// All depends on the primary that has the key of the epoch. Slots may move: `MOVED` and `ASK` are followed.
    ///
    /// The cache is empty after any primary was restarted, failed over, joined or left. A failover is noticed once
    /// the cluster reports it: until then a primary that is cut off from the others may still answer, with
    /// records that were invalidated elsewhere. The clocks of the nodes should agree to within a second: a
    /// response of a group (RFC 9875) that was invalidated less than that ago is not stored, and one that a
    /// clock further off makes look older may be.
    #[cfg(feature = "redis-cluster")]
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(Address::Cluster(urls.into_iter().map(Into::into).collect()))
    }
}

/// Address of the server, before it is parsed.
#[derive(Clone)]
enum Address {
    One(String),
    #[cfg(feature = "redis-sentinel")]
    Sentinels(String, Vec<String>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Vec<String>),
}

/// Longest budget, lease or heartbeat, so that each can be added to any time.
const LONGEST_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Key that seals the records of a [`RedisStore`].
///
/// All processes that share the records have the same key. A client of the server that lacks it cannot
/// make up a record. `Debug` does not show it.
///
/// ```
/// use tower_support_cache::{RedisStore, SealKey};
///
/// let key = SealKey::new([7; 32]); // 32 random bytes, from the service's secrets.
/// let store = RedisStore::builder("redis://127.0.0.1:6379/").authenticate(key).build()?;
/// assert_eq!(format!("{key:?}"), "SealKey(..)");
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone, Copy)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Takes 32 random bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Builder of a [`RedisStore`], from [`RedisStore::builder`] and its like.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::RedisStore;
///
/// let store = RedisStore::builder("redis://127.0.0.1:6379/")
///     .namespace("portal:")
///     .lookup_budget(Duration::from_millis(20))
///     .near_cache_capacity(64 * 1024 * 1024)
///     .build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
///
/// A server in another zone, with a user of its own:
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::RedisStore;
///
/// let store = RedisStore::builder("redis://cache.internal:6379/")
///     .username("portal")
///     .password("from the service's secrets")
///     .database(1)
///     .lookup_budget(Duration::from_millis(100))
///     .invalidate_budget(Duration::from_millis(300))
///     .lease(Duration::from_secs(60)) // The origin may take that long.
///     .heartbeat(Duration::from_millis(500))
///     .heartbeat_timeout(Duration::from_millis(250))
///     .breaker(10)
///     .near_cache_limit(Duration::from_secs(2))
///     .build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing itself, use `.build()` to build it"]
pub struct RedisStoreBuilder {
    address: Address,
    username: Option<String>,
    password: Option<String>,
    database: Option<u32>,
    credentials: Option<CredentialSource>,
    authentication: Option<SealKey>,
    encryption: Option<SealKey>,
    decryption: Option<SealKey>,
    settings: RedisSettings,
}

impl RedisStoreBuilder {
    fn new(address: Address) -> Self {
        let settings = RedisSettings::default();
        let (username, password, database, credentials) = Default::default();
        let (authentication, encryption, decryption) = Default::default();
        Self {
            address,
            username,
            password,
            database,
            credentials,
            authentication,
            encryption,
            decryption,
            settings,
        }
    }

    /// Sets the ACL user. Defaults to the one in the address, or to none.
    ///
    /// It needs `INFO`, `TIME`, `GET`, `MGET`, `SET`, `UNLINK`, `HGET`, `HMGET`, `EVALSHA`, `EVAL`, and
    /// what the scripts call: `DEL`, `EXISTS`, `HSET`, `HSETNX`, `HDEL`, `HGETALL`, `HKEYS`, `HLEN`,
    /// `HRANDFIELD`, `PTTL`, `PEXPIRE`; `CLIENT TRACKING` for the near cache; in a cluster `CLUSTER INFO` and `CLUSTER SLOTS`. Besides the keys of routes it
    /// reads and writes those that begin, after the namespace, with `tower-support-cache:`: `epoch`,
    /// `heartbeats:*`, `identity`, `program`, `tag:*`, and `unsettled:*` for writes that the origin may commit yet. Without
    /// `INFO` the store cannot know one server from another: see [`server_identity`](Self::server_identity).
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// Sets the password. Defaults to the one in the address, or to none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets what is asked for user and password at each connection, in place of [`username`](Self::username)
    /// and [`password`](Self::password). Defaults to those.
    ///
    /// For passwords that rotate, such as tokens of IAM or Microsoft Entra: once the server ends the connection
    /// of a token that has expired, another is opened within milliseconds, and what is stored stays valid. Let
    /// `source` answer from memory, and renew the token before it expires: together with the connection it may
    /// take 1.2 s. While it fails, requests are forwarded, and it is asked again with each attempt.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tower_support_cache::{RedisCredentials, RedisStore};
    ///
    /// # async fn current_token() -> String { String::new() }
    /// let store = RedisStore::builder("redis://cache.internal:6379/")
    ///     .credentials(|| async {
    ///         Ok::<_, Infallible>(RedisCredentials::new("portal", current_token().await))
    ///     })
    ///     .build()?;
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    pub fn credentials<F, A, E>(mut self, source: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<RedisCredentials, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.credentials = Some(CredentialSource::new(source));
        self
    }

    /// Sets the number of the database. Defaults to the one in the address, or to 0.
    pub fn database(mut self, number: u32) -> Self {
        self.database = Some(number);
        self
    }

    /// Sets what all keys begin with at the server. Defaults to nothing, so that the key of a route is the
    /// key at the server, which any program can delete.
    ///
    /// Give each application and each environment that shares a server its own. Without one, a program with
    /// another file name that has used the server within a day is warned of in the log.
    pub fn namespace(mut self, prefix: impl Into<String>) -> Self {
        self.settings.namespace = prefix.into();
        self
    }

    /// Sets how long a request waits for a lookup at the server, or for the right to fill. Defaults to
    /// 50 ms.
    ///
    /// A request that has waited in vain is forwarded and waits for the server no more.
    pub fn lookup_budget(mut self, limit: Duration) -> Self {
        self.settings.lookup_budget = limit;
        self
    }

    /// Sets how long a write waits for its invalidation to be acknowledged, and a response for being
    /// stored. Defaults to 100 ms.
    ///
    /// An invalidation that takes longer is sent again in the background until it is acknowledged.
    pub fn invalidate_budget(mut self, limit: Duration) -> Self {
        self.settings.invalidate_budget = limit;
        self
    }

    /// Sets how long the right to fill lasts. Defaults to 30 s.
    ///
    /// Make it longer than the service takes to answer. A process that dies in mid-fill keeps others
    /// from filling the same slot for this long at most; meanwhile they forward. Give all processes the same:
    /// one of more than a second longer than a process's own is taken for one from before the server's clock
    /// was set back.
    pub fn lease(mut self, length: Duration) -> Self {
        self.settings.lease = length;
        self
    }

    /// Sets how often the link to the server is proven. Defaults to 200 ms.
    ///
    /// For the sum of this and [`heartbeat_timeout`](Self::heartbeat_timeout) a link that is broken without
    /// a sign, or a primary that was demoted, may go unnoticed. An invalidation of everything waits for the
    /// longest sum of all processes. So a sum of over a second is entered at the server, in
    /// `tower-support-cache:heartbeats:…`; where the user may not write that, the store is bypassed.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = interval;
        self
    }

    /// Sets how long a proof of the link may take. Defaults to 100 ms.
    ///
    /// A link whose [`heartbeat`](Self::heartbeat) is not back in time is given up, and requests are
    /// forwarded until there is another. Raise it if the server is further away than that.
    pub fn heartbeat_timeout(mut self, limit: Duration) -> Self {
        self.settings.heartbeat_timeout = limit;
        self
    }

    /// Sets by what the server is accepted for the one that it was. Defaults to
    /// [`ServerIdentity::Reported`]: a server that does not say who it is is refused.
    pub fn server_identity(mut self, identity: ServerIdentity) -> Self {
        self.settings.identity = identity;
        self
    }

    /// Makes a capability of the server a condition. Defaults to none: what is missing costs a part, as
    /// [`Capability::cost`] says, and the log says so once.
    ///
    /// A server without it is not used, and requests are forwarded. [`RedisStore::linked`] makes that an
    /// error at start-up. Call this once for each.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{Capability, RedisStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_support_cache::ConfigError> {
    /// let store = RedisStore::builder("redis://127.0.0.1:1/")
    ///     .require(Capability::RunId)
    ///     .require(Capability::Tracking)
    ///     .build()?;
    /// let error = store.linked(Duration::from_millis(20)).await.expect_err("nobody listens there");
    /// assert!(error.to_string().contains("leads to no link"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn require(mut self, capability: Capability) -> Self {
        self.settings.required.insert(capability);
        self
    }

    /// Sets how many lookups in a row may take longer than their budget before the breaker opens: then
    /// none is tried until a heartbeat has come back in time. Those that are sent together are one.
    /// Defaults to 5.
    pub fn breaker(mut self, slow_lookups: u32) -> Self {
        self.settings.slow_lookups = slow_lookups;
        self
    }

    /// Seals stored responses with a digest by this key. Defaults to a checksum, which finds damage but
    /// no forgery.
    ///
    /// With a key, a client of the server that lacks it cannot make up a response. It can still remove one,
    /// or put an older one back in its place while that one is fresh. Give all processes the same key: a
    /// record under another key is a miss.
    pub fn authenticate(mut self, key: SealKey) -> Self {
        self.authentication = Some(key);
        self
    }

    /// Encrypts stored responses with XChaCha20-Poly1305 under this key, and authenticates them as
    /// [`authenticate`](Self::authenticate) does, in whose place it is. Defaults to plain text.
    ///
    /// Bodies, fields and names of tags within records are encrypted. The names of keys, the times of records
    /// and their lengths are not. Without the right key a record is a miss.
    #[cfg(feature = "redis-encryption")]
    pub fn encrypt(mut self, key: SealKey) -> Self {
        self.encryption = Some(key);
        self
    }

    /// Decrypts with this key as well as with that of [`encrypt`](Self::encrypt). Defaults to none.
    ///
    /// Keys rotate in three deploys without a miss: first decrypt with the new one as well, then encrypt with
    /// the new one and decrypt with the old one as well, then forget the old one.
    ///
    /// ```
    /// use tower_support_cache::{RedisStore, SealKey};
    ///
    /// let (new, old) = (SealKey::new([8; 32]), SealKey::new([7; 32])); // From the service's secrets.
    /// let store =
    ///     RedisStore::builder("redis://127.0.0.1:6379/").encrypt(new).decrypt_also(old).build()?;
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    #[cfg(feature = "redis-encryption")]
    pub fn decrypt_also(mut self, key: SealKey) -> Self {
        self.decryption = Some(key);
        self
    }

    /// Compresses records of this many bytes and more with zstd, where that saves an eighth. Defaults to none.
    ///
    /// Turn the feature on in all processes before the first of them compresses: to one without it such a
    /// record is a miss. A record of over 4 MiB is not compressed, and none expands to more. From 512 bytes of
    /// JSON on it mostly pays at the server; a hit then takes some microseconds more here.
    ///
    /// ```
    /// use tower_support_cache::RedisStore;
    ///
    /// let store = RedisStore::builder("redis://127.0.0.1:6379/").compress_from(512).build()?;
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    #[cfg(feature = "redis-zstd")]
    pub fn compress_from(mut self, bytes: usize) -> Self {
        self.settings.form.compress_from = bytes;
        self
    }

    /// Sets how much this process keeps in memory of the entries that it has read, in bytes: the *near
    /// cache*. Defaults to 32 MiB; 0 turns it off.
    ///
    /// A hit in the near cache asks the server nothing, for as long as
    /// [`near_cache_limit`](Self::near_cache_limit) says. After that, or where the near cache is off
    /// or silent, a response in memory answers only if the server still has the same record, whose number
    /// is asked for instead. That saves sending and decoding the record, and takes 4 MiB where the capacity
    /// is less.
    ///
    /// The server sends a message when a key has changed. Until that message is here, a fraction of a
    /// millisecond after the change as a rule, this process may still answer with the old response. Responses
    /// that this process invalidates itself are gone at once. While the link is not
    /// [proven](Self::heartbeat) the near cache answers nothing.
    /// Without RESP3 or `CLIENT TRACKING` at the server it stays off.
    pub fn near_cache_capacity(mut self, bytes: u64) -> Self {
        self.settings.near_capacity = bytes;
        self
    }

    /// Sets how long an entry in the near cache answers without a question to the server. Defaults to 5 s;
    /// zero turns the near cache off.
    ///
    /// It bounds the harm if a message of the server is lost without a sign. See
    /// [`near_cache_capacity`](Self::near_cache_capacity).
    pub fn near_cache_limit(mut self, limit: Duration) -> Self {
        self.settings.near_limit = limit;
        self
    }

    /// Builds the store. It connects in the background once it is used within a tokio runtime; the
    /// server need not be there yet.
    ///
    /// # Errors
    ///
    /// An address that cannot be parsed or needs a feature that is off, a limit of zero, a namespace
    /// with control characters.
    pub fn build(mut self) -> Result<RedisStore, ConfigError> {
        self.settings.form.seal = self.seal()?;
        let settings = &self.settings;
        let limits = [
            ("lookup_budget", settings.lookup_budget),
            ("invalidate_budget", settings.invalidate_budget),
            ("lease", settings.lease),
            ("heartbeat", settings.heartbeat),
            ("heartbeat_timeout", settings.heartbeat_timeout),
        ];
        if let Some((field, _)) = limits.iter().find(|(_, limit)| limit.as_millis() == 0) {
            return Err(error(field, "is under one millisecond: give at least one"));
        }
        if let Some((field, _)) = limits.iter().find(|(_, limit)| *limit > LONGEST_LIMIT) {
            return Err(error(field, "is over an hour: give at most one"));
        }
        if settings.until_seen() > LONGEST_UNTIL_SEEN {
            return Err(error(
                "heartbeat",
                "and `heartbeat_timeout` are over 10 s together: give shorter ones, since an \
                 invalidation of another process may go unseen for as long",
            ));
        }
        if settings.slow_lookups == 0 {
            return Err(error("breaker", "is zero: give at least 1, or the breaker never closes"));
        }
        if settings.namespace.chars().any(char::is_control) {
            return Err(error("namespace", "has control characters: write it without them"));
        }
        Ok(RedisStore::new(self.endpoint()?, self.settings))
    }

    fn seal(&self) -> Result<Seal, ConfigError> {
        match (self.authentication, self.encryption, self.decryption) {
            (None, None, None) => Ok(Seal::Checksum),
            (Some(key), None, None) => Ok(Seal::Keyed(key.0)),
            #[cfg(feature = "redis-encryption")]
            (None, Some(key), other) => {
                let other = other.map(|key| key.0);
                Ok(Seal::Encrypted(EncryptionKeys { current: key.0, other }))
            }
            (Some(_), ..) => Err(error(
                "authenticate",
                "is given beside encryption, which authenticates as well: remove it",
            )),
            (None, ..) => Err(error("decrypt_also", "is given alone: call `encrypt` as well")),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, ConfigError> {
        if self.credentials.is_some() && (self.username.is_some() || self.password.is_some()) {
            let problem = "and `username` or `password` are both given: remove one";
            return Err(error("credentials", problem));
        }
        let (servers, redis) = match &self.address {
            Address::One(url) => {
                let info = parse(url)?;
                let tcp = info.tcp_settings().clone().set_nodelay(true);
                let redis = info.redis_settings().clone();
                (Servers::One(Box::new(info.set_tcp_settings(tcp))), redis)
            }
            #[cfg(feature = "redis-sentinel")]
            Address::Sentinels(name, urls) => {
                let (sentinels, name) = (parse_all(urls)?, name.clone());
                (Servers::Sentinels { sentinels, name }, RedisConnectionInfo::default())
            }
            #[cfg(feature = "redis-cluster")]
            Address::Cluster(urls) => {
                if self.database.is_some_and(|number| number != 0) {
                    return Err(error(
                        "database",
                        "is not 0, and a cluster has no other: remove it",
                    ));
                }
                let nodes = parse_all(urls)?;
                let redis = nodes[0].redis_settings().clone();
                (Servers::Cluster(nodes), redis)
            }
        };
        Ok(Endpoint { servers, redis: self.redis(redis), credentials: self.credentials.clone() })
    }

    /// Adds the user, the password and the database to those of an address.
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
    ConfigError::new(ConfigErrorKind::Store, field, problem).of("RedisStoreBuilder")
}

fn parse(url: &str) -> Result<ConnectionInfo, ConfigError> {
    if needs_tls(url) && !cfg!(feature = "redis-tls") {
        return Err(error(
            "url",
            "is of TLS: turn on the feature `redis-tls`, or write `redis://`",
        ));
    }
    // The error does not repeat the address, which may hold a password.
    let info = url.into_connection_info().map_err(|problem| {
        error("url", format!("cannot be parsed ({problem}): write `redis://host:port/`"))
    })?;
    #[cfg(feature = "redis-tls")]
    if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. })
        && rustls::crypto::CryptoProvider::get_default().is_none()
    {
        let problem = "needs a crypto provider: call `CryptoProvider::install_default` of `rustls`";
        return Err(error("url", problem));
    }
    Ok(info)
}

/// Returns whether an address is of TLS. Without its feature the `redis` crate cannot parse it.
fn needs_tls(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| matches!(&*scheme, "rediss" | "valkeys"))
}

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
fn parse_all(urls: &[String]) -> Result<Vec<ConnectionInfo>, ConfigError> {
    if urls.is_empty() {
        return Err(error("urls", "are none: give the address of at least one server"));
    }
    urls.iter().map(|url| parse(url)).collect()
}

impl fmt::Debug for RedisStoreBuilder {
    // Neither the address nor a secret is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("namespace", &self.settings.namespace)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// With the feature, what is missing is a crypto provider.
    #[test]
    fn an_address_of_tls_is_answered_with_what_it_needs() {
        for url in ["rediss://127.0.0.1/", "REDISS://127.0.0.1/", "valkeys://127.0.0.1:6380/1"] {
            assert!(needs_tls(url), "{url}");
            let built = RedisStore::builder(url).build();
            let needed = if cfg!(feature = "redis-tls") { "provider" } else { "`redis-tls`" };
            assert!(
                built.is_ok() || built.is_err_and(|it| it.to_string().contains(needed)),
                "{url}"
            );
        }
        for url in ["redis://127.0.0.1/", "rediss", "valkey://rediss://"] {
            assert!(!needs_tls(url), "{url}");
        }
    }
}
