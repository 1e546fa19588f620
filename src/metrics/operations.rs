//! Counts of a store over a network, as users see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{capability::Capability, latency::Latency};

/// Operation of a store over a network.
///
/// ```
/// use tower_support_cache::Operation;
///
/// assert_eq!(Operation::Lookup.as_str(), "lookup");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Operation {
    /// Looking a slot up.
    Lookup,
    /// Asking for the right to fill.
    Lease,
    /// Storing a response.
    Commit,
    /// Giving the right to fill back.
    Release,
    /// Invalidating a key.
    Invalidate,
    /// Invalidating everything.
    InvalidateAll,
    /// Asking the server whether it is the one it was.
    Heartbeat,
    /// Reporting calls to an origin that has a budget.
    ShareCalls,
}

impl Operation {
    /// Returns the operation's name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Lease => "lease",
            Self::Commit => "commit",
            Self::Release => "release",
            Self::Invalidate => "invalidate",
            Self::InvalidateAll => "invalidate-all",
            Self::Heartbeat => "heartbeat",
            Self::ShareCalls => "share-calls",
        }
    }
}

/// End of an operation.
#[cfg(feature = "redis")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationEnd {
    Answered,
    Failed,
    TimedOut,
}

#[cfg(all(feature = "metrics", feature = "redis"))]
impl OperationEnd {
    /// Returns its name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
        }
    }
}

/// Counts of a store over a network, copied out at one moment.
///
/// They are the store's: layers that share it see the same.
///
/// ```
/// use tower_support_cache::StoreSnapshot;
///
/// /// Whether the service should report that it runs without its shared cache.
/// fn is_degraded(store: &StoreSnapshot) -> bool {
///     !store.is_linked || store.is_breaker_open || store.pending > 1_000
/// }
/// assert!(is_degraded(&StoreSnapshot::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StoreSnapshot {
    /// State of the link to the server. Without a link every request is forwarded.
    pub is_linked: bool,
    /// Capabilities of the server, as the last connection has found them; none before there was one.
    pub capabilities: BTreeSet<Capability>,
    /// State of the breaker. It opens after several slow lookups in a row (five by default), and closes
    /// with the next heartbeat that returns in time. While it is open, requests are forwarded.
    pub is_breaker_open: bool,
    /// Links to the server that were lost.
    pub links_lost: u64,
    /// Timers of heartbeats and of waits for the server that fired late: the runtime of this process was
    /// starved, by tasks that block its threads. Such a wait goes on, since the reply may be here unread.
    pub late_timers: u64,
    /// The operations, by kind; kinds that never occurred are absent.
    pub operations: BTreeMap<Operation, OperationSnapshot>,
    /// Responses that were not stored because an invalidation overtook them at the server.
    pub fenced: u64,
    /// Records that could not be used: foreign, of another version, corrupt, or of another slot.
    pub unreadable: u64,
    /// Keys at which the server has something else than this crate puts there. It is left alone.
    pub foreign: u64,
    /// Invalidations that the server has not acknowledged yet.
    pub pending: u64,
    /// Counts of the near cache in this process.
    pub near: NearSnapshot,
}

/// Counts of a store's near cache.
///
/// ```
/// use tower_support_cache::{StoreSnapshot, store::NearSnapshot};
///
/// let near: NearSnapshot = StoreSnapshot::default().near;
/// assert_eq!((near.hits, near.lag), (0, None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NearSnapshot {
    /// State of the near cache: it answers only while the link is proven.
    pub is_proven: bool,
    /// Responses found in it; whether they answered a request is counted by the layers.
    pub hits: u64,
    /// Responses found in it that could not answer unasked, and that the server still had.
    pub confirmed: u64,
    /// Messages of the server that something has changed.
    pub pushes: u64,
    /// Times that it stopped answering because a link was lost.
    pub silenced: u64,
    /// Time that the last proof of the link took. Messages arrive in the order of the changes, so a
    /// message older than this is not on its way any more.
    pub lag: Option<Duration>,
}

/// Counts of one operation.
///
/// ```
/// use tower_support_cache::OperationSnapshot;
///
/// /// Share of the operations that brought no answer.
/// fn failure_rate(counts: &OperationSnapshot) -> f64 {
///     let failed = counts.failed + counts.timed_out;
///     failed as f64 / (failed + counts.answered).max(1) as f64
/// }
/// assert_eq!(failure_rate(&OperationSnapshot::default()), 0.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OperationSnapshot {
    /// The server has answered.
    pub answered: u64,
    /// The server refused it, or the link was lost.
    pub failed: u64,
    /// It took longer than its budget.
    pub timed_out: u64,
    /// Times that they took, whatever their result.
    pub latency: Latency,
}
