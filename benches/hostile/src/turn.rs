//! One turn: an attack on a new server, and what came of it.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    attack::{Attack, Protocol},
    honest::{self, Honest},
    server::Kind,
    target::Target,
};

/// Time that honest clients have to connect before the attack begins.
const HEAD_START: Duration = Duration::from_millis(300);

/// Size of the attacks.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Time of each turn.
    pub time: Duration,
    /// Connections that ask for one cold key.
    pub connections: usize,
    /// Connections that stall on one response.
    pub stalled: usize,
    /// Connections with 100 streams that never read.
    pub unread: usize,
}

impl Scale {
    /// The attacks of the table.
    pub const LONG: Self =
        Self { time: Duration::from_secs(6), connections: 5000, stalled: 200, unread: 10 };
    /// The attacks of the tests.
    pub const SHORT: Self =
        Self { time: Duration::from_millis(1600), connections: 1000, stalled: 50, unread: 2 };
}

/// Result of one attack on one server.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The attack.
    pub attack: Attack,
    /// Its protocol; honest clients speak both.
    pub protocol: Protocol,
    /// The server.
    pub kind: Kind,
    /// Observations of the honest clients.
    pub honest: Honest,
    /// Calls of the origin for honest clients.
    pub calls: u64,
    /// Time that the turn took.
    pub taken: Duration,
    /// Resident memory of the server's process before the attack, in KiB.
    pub memory_before: u64,
    /// The most during the attack, in KiB.
    pub memory_most: u64,
}

/// Attacks a new server for the time of one turn. `program` is this crate's binary.
///
/// # Errors
///
/// The server does not start or does not tell its figures.
pub async fn measure(
    program: &Path,
    attack: Attack,
    protocol: Protocol,
    kind: Kind,
    scale: Scale,
) -> Result<Turn, Box<dyn Error>> {
    let target = Target::start(program, kind).await?;
    let before = target.figures().await?;
    let start = Instant::now();
    let honest = honest::run(target.address, scale.time);
    tokio::time::sleep(HEAD_START).await;
    let attackers = tokio::spawn(attack.run(target.address, protocol, scale));
    let honest = tokio::task::spawn_blocking(|| honest.join()).await?;
    let after = target.figures().await?;
    attackers.abort();
    Ok(Turn {
        attack,
        protocol,
        kind,
        honest: honest.map_err(|_| "the honest clients have panicked")?,
        calls: after.calls,
        taken: start.elapsed(),
        memory_before: before.memory,
        memory_most: after.most_memory,
    })
}
