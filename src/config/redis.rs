//! Store over Redis, made of its section.

use super::{
    sections::RedisConfig,
    setters::set,
    value::{ConfigBytes, ConfigDuration},
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    store::{RedisStore, RedisStoreBuilder, SealKey},
};

impl RedisConfig {
    pub(super) fn build(&self) -> Result<RedisStore, ConfigError> {
        let duration = |value: &ConfigDuration| value.get();
        let number = |value: &u32| *value;
        let bytes = |value: &ConfigBytes| value.get();
        let mut builder = set!(self.at()?, self, {
            username,
            database: number,
            namespace,
            lookup_budget: duration,
            invalidate_budget: duration,
            lease: duration,
            heartbeat: duration,
            heartbeat_timeout: duration,
            breaker: number,
            near_cache_capacity: bytes,
            near_cache_limit: duration,
            server_identity,
        });
        builder = self.require.iter().fold(builder, |builder, it| builder.require(*it));
        if let Some(password) = &self.password {
            builder = builder.password(password.text("password")?);
        }
        self.encode(builder)?.build()
    }

    /// Sets the form of records at the server.
    #[allow(unused_mut)] // Without the features there is nothing to set.
    fn encode(&self, mut builder: RedisStoreBuilder) -> Result<RedisStoreBuilder, ConfigError> {
        if let Some(key) = &self.seal_key {
            builder = builder.authenticate(SealKey::new(key.key("seal_key")?));
        }
        #[cfg(feature = "redis-encryption")]
        if let Some(key) = &self.encryption_key {
            builder = builder.encrypt(SealKey::new(key.key("encryption_key")?));
        }
        #[cfg(feature = "redis-encryption")]
        if let Some(key) = &self.decryption_key {
            builder = builder.decrypt_also(SealKey::new(key.key("decryption_key")?));
        }
        #[cfg(feature = "redis-zstd")]
        if let Some(bytes) = &self.compress_from {
            builder = builder.compress_from(usize::try_from(bytes.get()).unwrap_or(usize::MAX));
        }
        Ok(builder)
    }

    /// Returns a builder for the one kind of address that is given.
    fn at(&self) -> Result<RedisStoreBuilder, ConfigError> {
        let mut given = Vec::new();
        if let Some(url) = &self.url {
            given.push(RedisStore::builder(url.text("url")?));
        }
        #[cfg(feature = "redis-cluster")]
        if !self.cluster.is_empty() {
            given.push(RedisStore::cluster(&self.cluster));
        }
        #[cfg(feature = "redis-sentinel")]
        if !self.sentinels.is_empty() {
            let Some(primary) = &self.primary else {
                let problem = "is missing: write the name by which the sentinels know the primary";
                return Err(ConfigError::new(ConfigErrorKind::Store, "primary", problem));
            };
            given.push(RedisStore::sentinel(primary, &self.sentinels));
        }
        match given.pop() {
            Some(builder) if given.is_empty() => Ok(builder),
            _ => {
                let problem = "is to be given once: write `url`, or `cluster`, or `sentinels`";
                Err(ConfigError::new(ConfigErrorKind::Store, "url", problem))
            }
        }
    }
}
