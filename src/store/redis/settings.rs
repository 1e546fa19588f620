//! Settings of a store, and the names of its keys at the server.

use std::{borrow::Cow, iter::once, time::Duration};

use super::record::{RecordForm, Seal};
use crate::{
    key::{PrimaryKey, Slot, Subject, Tag},
    metrics::{capability::Capabilities, operations::Operation},
};

/// Prefix of the keys that are no primary keys, after the namespace.
pub(super) const OWN: &str = "tower-support-cache:";

/// Name of the epoch's key behind [`OWN`]. No tag is called so.
pub(super) const EPOCH: &str = "epoch";

/// Beginning of the name of the key with the heartbeats behind [`OWN`]. No tag is called so.
pub(super) const HEARTBEATS: &str = "heartbeats:";

/// Name of the key with the token that identifies the server, behind [`OWN`]. No tag is called so.
pub(super) const IDENTITY: &str = "identity";

/// Name of the key with the name of the program that connected last, behind [`OWN`]. No tag is called so.
pub(super) const PROGRAM: &str = "program";

/// Longest heartbeat with its timeout: an invalidation of everything waits for that of every process.
pub(super) const LONGEST_UNTIL_SEEN: Duration = Duration::from_secs(10);

/// Heartbeat with its timeout for which every invalidation of everything waits. A process with a longer one
/// has to enter it at the server.
pub(super) const LEAST_UNTIL_SEEN: Duration = Duration::from_secs(1);

/// Identity by which a [`RedisStore`](super::RedisStore) accepts its server.
///
/// What was stored or invalidated at one run of a server says nothing about another run, nor about a replica
/// that was promoted: it may have lost the latest invalidations.
///
/// ```
/// use tower_support_cache::{RedisStore, ServerIdentity};
///
/// // Only for a service that tells nothing better, and keeps no dumps.
/// let store = RedisStore::builder("redis://127.0.0.1:6379/")
///     .server_identity(ServerIdentity::TokenAlone)
///     .build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum ServerIdentity {
    /// The server's own report, which tells every run and every promotion: `run_id` and `master_replid` in
    /// `INFO`. Without `run_id`, `master_replid` and the time of the start, which `TIME` and
    /// `uptime_in_seconds` give, stand in, beside a token that is planted at the server. Such a server is
    /// used 10 s after its start. A server that reports less is refused, and requests are forwarded.
    #[default]
    Reported,
    /// Accepts a server that reports less, by a token that is planted there and what else it reports.
    ///
    /// This breaks the promise about invalidations: a server that was restored from a dump, or a replica that
    /// was promoted, passes for the one before, and answers with responses that were invalidated since. They
    /// are served until their lifetimes end. A server that does not report its role may be a replica.
    TokenAlone,
}

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
    pub(super) identity: ServerIdentity,
    pub(super) required: Capabilities,
    pub(super) form: RecordForm,
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
            identity: ServerIdentity::Reported,
            required: Capabilities::new(),
            form: RecordForm { seal: Seal::Checksum, compress_from: usize::MAX },
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

    /// Returns the key that is there while nothing may be stored for a primary key. In a cluster it is on the
    /// same node.
    pub(super) fn mark(&self, key: &PrimaryKey) -> String {
        let name = self.key(key);
        let prefix = [&self.namespace, OWN, "unsettled:"].concat();
        if !name.contains(['{', '}']) {
            return [&prefix, "{", &name, "}"].concat();
        }
        // A part of the name may be all that counts for the node. If it is not, a number is found that does.
        let slot = hash_slot(name.as_bytes());
        let numbered =
            (0_u32..).map(|number| format!("{prefix}{{{number}}}{key}", key = key.as_str()));
        let mut names = once([&prefix, ":", key.as_str()].concat()).chain(numbered);
        names.find(|mark| hash_slot(mark.as_bytes()) == slot).expect("each slot has a number")
    }

    /// Returns the keys that are there while fills of a slot are told of an invalidation: of everything, of its
    /// key, of its tags.
    pub(super) fn invalidation_marks(&self, slot: &Slot) -> Vec<String> {
        let subjects = slot.tags.iter().cloned().map(Subject::Tag);
        let subjects = subjects.chain([Subject::Key(slot.key.clone())]);
        let marks = subjects.map(|subject| self.invalidation_mark(Some(&subject)));
        marks.chain([self.invalidation_mark(None)]).collect()
    }

    /// Returns the key that is there while fills are told of an invalidation of a key or a tag, or of everything.
    pub(super) fn invalidation_mark(&self, subject: Option<&Subject>) -> String {
        let (kind, name) = match subject {
            None => ("all", ""),
            Some(Subject::Key(key)) => ("key:", key.as_str()),
            Some(Subject::Tag(tag)) => ("", tag.as_str()),
        };
        [&self.namespace, OWN, "invalidated:", kind, name].concat()
    }

    /// Returns the key that holds the calls of all processes to an origin. No tag is called so.
    pub(super) fn calls_key(&self, origin: &str) -> String {
        [&self.namespace, OWN, "calls:", origin].concat()
    }

    /// Returns the key that holds the epoch.
    pub(super) fn epoch_key(&self) -> String {
        [&self.namespace, OWN, EPOCH].concat()
    }

    /// Returns the key that holds the token of the server.
    pub(super) fn identity_key(&self) -> String {
        [&self.namespace, OWN, IDENTITY].concat()
    }

    /// Returns the key that holds the name of the program that connected last; `None` where a namespace
    /// keeps programs apart.
    pub(super) fn program_key(&self) -> Option<String> {
        self.namespace.is_empty().then(|| [OWN, PROGRAM].concat())
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
            | Operation::InvalidateAll
            | Operation::ShareCalls => self.invalidate_budget,
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

/// Returns the slot of a key in a cluster.
pub(super) fn hash_slot(key: &[u8]) -> u16 {
    let find =
        |from: usize, byte| key[from..].iter().position(|it| *it == byte).map(|at| from + at);
    let tag = find(0, b'{').and_then(|from| Some(&key[from + 1..find(from + 1, b'}')?]));
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    // CRC-16/XMODEM.
    let crc = hashed.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    });
    crc % 16_384
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::verify::random::for_all;

    /// Vectors of the specification of Redis Cluster, and of `CLUSTER KEYSLOT`.
    #[test]
    fn a_slot_is_that_of_the_server() {
        for (key, slot) in [
            ("123456789", 0x31c3),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("", 0),
        ] {
            assert_eq!(hash_slot(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(hash_slot(b"foo{}{bar}"), hash_slot(b"foo{}{bar}"));
        assert_ne!(hash_slot(b"foo{}{bar}"), hash_slot(b"bar"));
    }

    #[test]
    fn the_mark_of_a_key_is_on_its_node_and_of_no_other_key() {
        for_all(|random| {
            let [namespace, a, b] = [0, 1, 1].map(|least| random.text("{}a:".chars(), least..6));
            let settings = RedisSettings { namespace, ..RedisSettings::default() };
            let [a, b] = [a, b].map(|text| PrimaryKey::new(&*text));
            let (one, other) = (settings.mark(&a), settings.mark(&b));
            assert_eq!(hash_slot(one.as_bytes()), hash_slot(settings.key(&a).as_bytes()), "{one}");
            assert_eq!(one == other, a == b, "{one}");
        });
    }
}
