//! Capabilities of a store's server, as users see them.

#[cfg(feature = "redis")]
use std::collections::BTreeSet;
use std::fmt;

/// Capability of the server of a [`RedisStore`](crate::store::RedisStore).
///
/// What a server can do is found at each connection. Each capability that is missing costs a part, which
/// [`cost`](Self::cost) names, and never a promise. One that a service relies on is made a condition by
/// [`RedisStoreBuilder::require`](crate::store::RedisStoreBuilder::require).
///
/// ```
/// use tower_support_cache::Capability;
///
/// assert_eq!(Capability::Tracking.as_str(), "tracking");
/// assert_eq!(Capability::Tracking.cost(), "the near cache stays off");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[cfg_attr(any(feature = "serde", feature = "config"), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Capability {
    /// `INFO` tells `run_id` and `master_replid`.
    RunId,
    /// The protocol RESP3, over which the server can send messages.
    Resp3,
    /// `CLIENT TRACKING` over the connection to the server.
    Tracking,
    /// `SCRIPT LOAD`.
    ScriptCache,
    /// Flags of scripts, by which one may write while the server is full.
    ScriptFlags,
    /// This process's heartbeat, and that of every other, stands in the register at the server.
    HeartbeatRegister,
}

/// Capabilities of a server.
#[cfg(feature = "redis")]
pub(crate) type Capabilities = BTreeSet<Capability>;

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 6] = [
        Self::RunId,
        Self::Resp3,
        Self::Tracking,
        Self::ScriptCache,
        Self::ScriptFlags,
        Self::HeartbeatRegister,
    ];

    /// Returns the capability's name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunId => "run-id",
            Self::Resp3 => "resp3",
            Self::Tracking => "tracking",
            Self::ScriptCache => "script-cache",
            Self::ScriptFlags => "script-flags",
            Self::HeartbeatRegister => "heartbeat-register",
        }
    }

    /// Returns the part that it costs where it is missing.
    pub fn cost(self) -> &'static str {
        match self {
            Self::RunId => "the server is used 10 s after its start, or by `server_identity`",
            Self::Resp3 | Self::Tracking => "the near cache stays off",
            Self::ScriptCache => "the first call of each script is sent twice",
            Self::ScriptFlags => {
                "while the server is full, invalidations of tags, and those after an unknown outcome, are pending"
            }
            Self::HeartbeatRegister => "an invalidation of everything waits for 10 s",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns the capabilities that are missing, each with its cost.
#[cfg(feature = "redis")]
pub(crate) fn missing(capabilities: &Capabilities) -> String {
    let missing = Capability::ALL.into_iter().filter(|it| !capabilities.contains(it));
    missing.map(|it| format!("{it} ({})", it.cost())).collect::<Vec<_>>().join(", ")
}
