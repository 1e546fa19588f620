//! Settings of a store, and the names of its keys at the server.

use std::{borrow::Cow, time::Duration};

use super::record::Seal;
use crate::{
    key::{PrimaryKey, Tag},
    metrics::operations::Operation,
};

/// Prefix of the keys that are no primary keys, after the namespace.
pub(super) const OWN: &str = "tower-support-cache:";

/// Name of the epoch's key behind [`OWN`]. No tag is called so.
pub(super) const EPOCH: &str = "epoch";

/// Beginning of the name of the key with the heartbeats behind [`OWN`]. No tag is called so.
pub(super) const HEARTBEATS: &str = "heartbeats:";

/// Longest heartbeat with its timeout: an invalidation of everything waits for that of every process.
pub(super) const LONGEST_UNTIL_SEEN: Duration = Duration::from_secs(10);

/// Heartbeat with its timeout for which every invalidation of everything waits. A process with a longer one
/// has to enter it at the server.
pub(super) const LEAST_UNTIL_SEEN: Duration = Duration::from_secs(1);

/// Settings of a Redis store.
#[derive(Clone)]
pub(super) struct RedisSettings {
    pub(super) namespace: String,
    pub(super) lookup_budget: Duration,
    pub(super) invalidate_budget: Duration,
    pub(super) lease: Duration,
    pub(super) heartbeat: Duration,
    pub(super) heartbeat_timeout: Duration,
    pub(super) slow_lookups: u32,
    pub(super) seal: Seal,
    /// Bytes; zero for no near cache.
    pub(super) near_capacity: u64,
    pub(super) near_limit: Duration,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            lookup_budget: Duration::from_millis(50),
            invalidate_budget: Duration::from_millis(100),
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_millis(200),
            heartbeat_timeout: Duration::from_millis(100),
            slow_lookups: 5,
            seal: Seal::Checksum,
            near_capacity: 32 * 1024 * 1024,
            near_limit: Duration::from_secs(5),
        }
    }
}

impl RedisSettings {
    /// Returns the name of a primary key at the server.
    pub(super) fn key<'k>(&self, key: &'k PrimaryKey) -> Cow<'k, str> {
        match &*self.namespace {
            "" => key.as_str().into(),
            namespace => [namespace, key.as_str()].concat().into(),
        }
    }

    /// Returns the key that holds the version of a tag.
    pub(super) fn tag_key(&self, tag: &Tag) -> String {
        [&self.namespace, OWN, tag.as_str()].concat()
    }

    /// Returns the key that holds the epoch.
    pub(super) fn epoch_key(&self) -> String {
        [&self.namespace, OWN, EPOCH].concat()
    }

    /// Returns the key that holds the heartbeats of all processes. In a cluster it is where the epoch is: the
    /// braces say so where the namespace has none.
    pub(super) fn heartbeats_key(&self) -> String {
        [&self.namespace, OWN, HEARTBEATS, "{", &self.epoch_key(), "}"].concat()
    }

    /// Returns how long an operation may take.
    pub(super) fn budget(&self, operation: Operation) -> Duration {
        match operation {
            Operation::Lookup | Operation::Lease => self.lookup_budget,
            Operation::Commit
            | Operation::Release
            | Operation::Invalidate
            | Operation::InvalidateAll => self.invalidate_budget,
            Operation::Heartbeat => self.heartbeat_timeout,
        }
    }

    /// Returns how long a copy in the near cache answers without being read again; zero without a near
    /// cache.
    pub(super) fn near_limit(&self) -> Duration {
        if self.near_capacity == 0 { Duration::ZERO } else { self.near_limit }
    }

    /// Returns how long after the begin of an epoch every process has seen it, or knows that its link
    /// is not proven.
    pub(super) fn until_seen(&self) -> Duration {
        self.heartbeat + self.heartbeat_timeout
    }
}
