//! Attacks.

mod http1;
mod http2;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::turn::Scale;

/// Time for which an attacker holds on to what it blocks.
const HELD: Duration = Duration::from_secs(60);
/// Requests that an attacker sends at once.
const BATCH: u64 = 100;

/// Protocol that an attacker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS.
    Http2,
}

impl Protocol {
    /// Returns the name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Attack on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// No attack.
    Nothing,
    /// Clients that ask for large bodies and stop to read.
    StalledReaders,
    /// Connections with 100 streams each that never read.
    UnreadStreams,
    /// Connections and streams that are reset in each phase of a request.
    Resets,
    /// Responses of 20,000 frames of one byte.
    TinyFrames,
    /// Responses whose body yields trailers without an end.
    EndlessTrailers,
    /// Responses that name 40,000 groups.
    ManyGroups,
    /// As many requests for as many keys as the server takes; over HTTP/2 half of them are reset at once.
    Floods,
    /// Heads of up to 300 KiB.
    HugeHeads,
    /// Bodies of requests and responses that take for ever.
    SlowBodies,
    /// 5,000 requests for one cold key, from as many connections (HTTP/2: 50).
    ColdKey,
}

impl Attack {
    /// All attacks, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::StalledReaders,
        Self::UnreadStreams,
        Self::Resets,
        Self::TinyFrames,
        Self::EndlessTrailers,
        Self::ManyGroups,
        Self::Floods,
        Self::HugeHeads,
        Self::SlowBodies,
        Self::ColdKey,
    ];

    /// Returns the name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::StalledReaders => "stalled readers",
            Self::UnreadStreams => "100 streams that never read",
            Self::Resets => "resets in each phase",
            Self::TinyFrames => "20,000 tiny frames",
            Self::EndlessTrailers => "endless trailers",
            Self::ManyGroups => "40,000 groups",
            Self::Floods => "floods",
            Self::HugeHeads => "huge heads",
            Self::SlowBodies => "slow bodies",
            Self::ColdKey => "one cold key",
        }
    }

    /// Returns the protocols for which the attack exists.
    pub fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Nothing => &[Protocol::Http1],
            Self::UnreadStreams => &[Protocol::Http2],
            _ => &[Protocol::Http1, Protocol::Http2],
        }
    }

    fn workers(self, protocol: Protocol, scale: &Scale) -> usize {
        let is_http1 = protocol == Protocol::Http1;
        match self {
            Self::Nothing => 0,
            Self::StalledReaders => scale.stalled,
            Self::SlowBodies if is_http1 => 200,
            Self::UnreadStreams => scale.unread,
            Self::SlowBodies => 10,
            Self::Resets | Self::Floods if is_http1 => 16,
            Self::TinyFrames | Self::EndlessTrailers | Self::HugeHeads => 8,
            Self::ManyGroups | Self::Floods | Self::Resets => 4,
            Self::ColdKey if is_http1 => scale.connections,
            Self::ColdKey => scale.connections.div_ceil(BATCH as usize),
        }
    }

    /// Returns the least time from one round of an attacker to its next, so that a server that is faster
    /// does not have more to bear.
    fn pace(self) -> Duration {
        Duration::from_millis(match self {
            Self::ColdKey => 1000,
            Self::Floods | Self::ManyGroups => 200,
            _ => 50,
        })
    }

    /// Attacks until it is dropped.
    pub async fn run(self, address: SocketAddr, protocol: Protocol, scale: Scale) {
        let count = self.workers(protocol, &scale);
        let barrier = Arc::new(Barrier::new(count));
        let mut workers = JoinSet::new();
        for worker in 0..count {
            let barrier = Arc::clone(&barrier);
            workers.spawn(async move {
                for round in 0_u64.. {
                    let next = Instant::now() + self.pace();
                    let aim = Aim {
                        address,
                        attack: self,
                        seed: round * count as u64 + worker as u64,
                        round,
                    };
                    // An attacker does not care how an attack ends.
                    let _ = match protocol {
                        Protocol::Http1 => http1::strike(&aim, &barrier).await.is_ok(),
                        Protocol::Http2 => http2::strike(&aim, &barrier).await.is_ok(),
                    };
                    sleep_until(next).await;
                }
            });
        }
        workers.join_all().await;
    }
}

/// One round of one attacker.
struct Aim {
    address: SocketAddr,
    attack: Attack,
    /// A number of this round of this attacker alone.
    seed: u64,
    round: u64,
}

impl Aim {
    /// Returns the target for a request, the `number`th of its batch.
    fn target(&self, number: u64) -> String {
        let unique = self.seed * BATCH + number;
        match self.attack {
            Attack::StalledReaders | Attack::UnreadStreams if unique.is_multiple_of(2) => {
                format!("/over/{unique}")
            }
            Attack::StalledReaders | Attack::UnreadStreams => format!("/large/{unique}"),
            Attack::Resets if unique.is_multiple_of(2) => format!("/large/{unique}"),
            Attack::TinyFrames => format!("/frames/{unique}"),
            Attack::EndlessTrailers => format!("/trailers/{unique}"),
            Attack::ManyGroups => format!("/groups/{unique}"),
            Attack::SlowBodies => format!("/slow/{unique}"),
            Attack::HugeHeads => format!("/items/{unique}?{}", "q".repeat(60_000)),
            Attack::ColdKey => format!("/items/cold-{}", self.round),
            Attack::Nothing | Attack::Resets | Attack::Floods => format!("/items/{unique}"),
        }
    }
}

/// Waits until all attackers are ready, or for so long that one of them never will.
async fn together(barrier: &Barrier) {
    let _ = timeout(Duration::from_secs(5), barrier.wait()).await;
}
