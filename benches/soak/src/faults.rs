//! Faults, one after the other.

use std::time::Duration;

use tokio::time::sleep;

use crate::redis_server::{Disk, Server};

/// Time for which the server of Redis hangs.
const HANG: Duration = Duration::from_millis(400);

/// Fault of Redis or of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    LinksCut,
    Hang,
    Reload,
    RestartEmpty,
    ScriptFlush,
    ProcessEnds,
    FlushAll,
    RestartFromDisk,
}

impl Fault {
    pub(crate) const ALL: [Self; 8] = [
        Self::LinksCut,
        Self::Hang,
        Self::Reload,
        Self::RestartEmpty,
        Self::ScriptFlush,
        Self::ProcessEnds,
        Self::FlushAll,
        Self::RestartFromDisk,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LinksCut => "links to Redis cut",
            Self::Hang => "Redis hangs for 0.4 s",
            Self::Reload => "rules reloaded",
            Self::RestartEmpty => "Redis killed, back empty",
            Self::ScriptFlush => "SCRIPT FLUSH",
            Self::ProcessEnds => "a process ends, another starts",
            Self::FlushAll => "FLUSHALL",
            Self::RestartFromDisk => "Redis killed, back from disk",
        }
    }

    /// Injects a fault of Redis; false if it is one of the fleet.
    pub(crate) async fn inject(self, redis: &mut Server) -> bool {
        match self {
            Self::LinksCut => redis.kill_clients().await,
            Self::Hang => {
                redis.stop();
                sleep(HANG).await;
                redis.cont();
            }
            Self::RestartEmpty => {
                redis.kill();
                redis.restart(Disk::Empty).await;
            }
            Self::RestartFromDisk => {
                // What is invalidated from here on comes back.
                redis.save().await;
                sleep(HANG).await;
                redis.kill();
                redis.restart(Disk::Kept).await;
            }
            Self::ScriptFlush => redis.run(&["SCRIPT", "FLUSH"]).await,
            Self::FlushAll => redis.run(&["FLUSHALL"]).await,
            Self::Reload | Self::ProcessEnds => return false,
        }
        true
    }
}
