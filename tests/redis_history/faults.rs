//! Faults of the server and of the links to it while processes use it.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Worker,
    cluster_faults::ClusterFaults,
    dialect::Imitation,
    proxy::Proxy,
    random::Random,
    scenario::{Load, Scenario, Topology},
    server::{Disk, Server, free_port, pause},
};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Within this time each process knows of a demotion: heartbeat, its timeout, and some room.
const HEARTBEATS: Duration = ms(450);

/// Time for which every second link holds messages back where keys rest: a reply arrives at once with the
/// message that puts it out of date.
const HOLD: Duration = ms(2);

/// A fault, and what it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    RestartEmpty,
    RestartFromRdb,
    RestartFromAof,
    Failover,
    Demotion,
    Hang,
    BlackHole,
    Cut,
    ClientKill,
    ScriptFlush,
    FlushAll,
    NoEviction,
    Eviction,
    /// A process replaces its rules.
    Reload,
    /// A process is told to end, and another takes its place.
    Shutdown,
    ClockBack,
    ClockForward,
    /// Slots of a cluster move, with their keys.
    SlotMigration,
}

impl Fault {
    /// Faults that one server has.
    pub(crate) const ALL: &[Self] = &[
        Self::RestartEmpty,
        Self::RestartFromRdb,
        Self::RestartFromAof,
        Self::Failover,
        Self::Demotion,
        Self::Hang,
        Self::BlackHole,
        Self::Cut,
        Self::ClientKill,
        Self::ScriptFlush,
        Self::FlushAll,
        Self::NoEviction,
        Self::Eviction,
        Self::Reload,
        Self::Shutdown,
        Self::ClockBack,
        Self::ClockForward,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RestartEmpty => "killed, back empty",
            Self::RestartFromRdb => "killed, back from RDB",
            Self::RestartFromAof => "killed, back from AOF",
            Self::Failover => "failover, deletes lost",
            Self::Demotion => "planned demotion",
            Self::Hang => "hang",
            Self::BlackHole => "black hole",
            Self::Cut => "links cut",
            Self::ClientKill => "CLIENT KILL",
            Self::ScriptFlush => "SCRIPT FLUSH",
            Self::FlushAll => "FLUSHALL",
            Self::NoEviction => "full, noeviction",
            Self::Eviction => "full, allkeys-lru",
            Self::Reload => "rules reloaded",
            Self::Shutdown => "a process ends",
            Self::ClockBack => "clock set back",
            Self::ClockForward => "clock set forward",
            Self::SlotMigration => "slots moved",
        }
    }
}

/// Servers and their faults, as far as a run has seen them.
pub(crate) struct Faults {
    servers: Servers,
    kinds: &'static [Fault],
    injected: BTreeMap<Fault, u64>,
    random: Random,
}

enum Servers {
    One(Box<Pair>),
    Cluster(ClusterFaults),
}

impl Faults {
    pub(crate) async fn new(scenario: &Scenario) -> Self {
        let servers = match scenario.topology {
            Topology::One => Servers::One(Box::new(Pair::new(scenario).await)),
            Topology::Cluster => Servers::Cluster(ClusterFaults::new(scenario.seed).await),
        };
        let (kinds, random) = (scenario.faults, Random(scenario.seed));
        Self { servers, kinds, injected: BTreeMap::new(), random }
    }

    pub(crate) fn url(&self, process: usize) -> String {
        match &self.servers {
            Servers::One(pair) => pair.links[process].url(),
            Servers::Cluster(cluster) => cluster.url(),
        }
    }

    pub(crate) fn injected(&self) -> BTreeMap<Fault, u64> {
        self.injected.clone()
    }

    /// Lets the processes work for a while, and then injects the fault that was seen least.
    pub(crate) async fn next(&mut self, workers: &mut [Worker]) {
        pause(ms(400 + self.random.below(500))).await;
        let count = |fault: &Fault| self.injected.get(fault).copied().unwrap_or_default();
        if let Some(fault) = self.kinds.iter().copied().min_by_key(count) {
            match &mut self.servers {
                Servers::One(pair) => pair.inject(fault, workers).await,
                Servers::Cluster(cluster) => cluster.inject(fault).await,
            }
            *self.injected.entry(fault).or_default() += 1;
        }
    }
}

/// A primary, its replica, and a proxy in front of them for each process.
struct Pair {
    primary: Server,
    standby: Server,
    /// Between the standby and the primary.
    replication: Proxy,
    /// In front of the servers, by their ports.
    imitations: BTreeMap<u16, Imitation>,
    links: Vec<Proxy>,
    random: Random,
}

impl Pair {
    async fn new(scenario: &Scenario) -> Self {
        let (primary, standby) = (Server::with_clock().await, Server::with_clock().await);
        let replication = Proxy::to(primary.port).await;
        standby.follow(replication.port).await;
        let mut imitations = BTreeMap::new();
        if let Some(dialect) = scenario.dialect {
            for port in [primary.port, standby.port] {
                imitations.insert(port, Imitation::of(port, dialect).await);
            }
        }
        let mut links = Vec::new();
        for _ in 0..scenario.processes {
            links.push(Proxy::to(front(&imitations, primary.port)).await);
        }
        if scenario.load == Load::Rests {
            links.iter().skip(1).step_by(2).for_each(|link| link.hold(HOLD));
        }
        Self { primary, standby, replication, imitations, links, random: Random(scenario.seed) }
    }

    async fn inject(&mut self, fault: Fault, workers: &mut [Worker]) {
        match fault {
            Fault::RestartEmpty => self.restart(Disk::Empty).await,
            Fault::RestartFromRdb => {
                self.primary.save().await;
                // Entries that are invalidated from here on come back.
                pause(ms(200)).await;
                self.restart(Disk::Kept).await;
            }
            Fault::RestartFromAof => {
                self.primary.run(&["CONFIG", "SET", "appendonly", "yes"]).await;
                self.primary.option("appendonly", "yes");
                pause(ms(200)).await;
                self.restart(Disk::Kept).await;
                self.primary.run(&["CONFIG", "SET", "appendonly", "no"]).await;
                self.primary.option("appendonly", "no");
            }
            Fault::Failover => self.fail_over().await,
            Fault::Demotion => self.demote().await,
            Fault::Hang => {
                self.primary.stop();
                pause(ms(400)).await;
                self.primary.cont();
            }
            Fault::BlackHole => {
                let link = self.random.below(self.links.len() as u64) as usize;
                self.links[link].freeze();
                pause(ms(500)).await;
                self.links[link].thaw();
            }
            Fault::Cut => self.links.iter().for_each(Proxy::cut),
            Fault::ClientKill => self.primary.kill_clients().await,
            Fault::ScriptFlush => self.primary.run(&["SCRIPT", "FLUSH"]).await,
            Fault::FlushAll => self.primary.run(&["FLUSHALL"]).await,
            Fault::NoEviction => self.fill("noeviction").await,
            Fault::Eviction => self.fill("allkeys-lru").await,
            Fault::Reload => workers.iter_mut().for_each(Worker::reload),
            Fault::Shutdown => {
                let worker = self.random.below(workers.len() as u64) as usize;
                workers[worker].replace().await;
            }
            Fault::ClockBack => {
                let step = self.step();
                self.primary.step_clock(-step);
            }
            Fault::ClockForward => {
                let step = self.step();
                self.primary.step_clock(step);
            }
            Fault::SlotMigration => unreachable!("one server has all slots"),
        }
    }

    /// Returns milliseconds by which a clock is set: seconds, or up to half an hour.
    fn step(&mut self) -> i64 {
        let most = if self.random.in_percent(50) { 5000 } else { 1_800_000 };
        self.random.below(most) as i64
    }

    async fn restart(&mut self, disk: Disk) {
        self.primary.kill();
        pause(ms(100)).await;
        self.primary.restart(disk).await;
    }

    /// The primary dies, and its replica has not seen the latest deletes.
    async fn fail_over(&mut self) {
        self.replication.freeze();
        pause(ms(300)).await;
        self.primary.kill();
        self.standby.promote().await;
        self.lead_to_the_standby().await;
        self.rebuild().await;
    }

    /// The primary becomes a replica that sees nothing new, and keeps its connections.
    async fn demote(&mut self) {
        self.primary.demote(free_port()).await;
        pause(HEARTBEATS).await;
        self.standby.promote().await;
        self.lead_to_the_standby().await;
        // Whoever still reads there reads what is invalidated elsewhere.
        pause(ms(600)).await;
        self.primary.kill();
        self.rebuild().await;
    }

    async fn lead_to_the_standby(&mut self) {
        let port = front(&self.imitations, self.standby.port);
        self.links.iter().for_each(|link| link.lead_to(port));
    }

    /// The old primary comes back as an empty replica of the new one.
    async fn rebuild(&mut self) {
        std::mem::swap(&mut self.primary, &mut self.standby);
        self.standby.restart(Disk::Empty).await;
        self.replication.lead_to(self.primary.port);
        self.replication.cut();
        self.replication.thaw();
        self.standby.follow(self.replication.port).await;
    }

    async fn fill(&self, policy: &str) {
        self.primary.run(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
        self.primary.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
        pause(ms(300)).await;
        self.primary.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }
}

/// Returns the port at which a server is reached.
fn front(imitations: &BTreeMap<u16, Imitation>, port: u16) -> u16 {
    imitations.get(&port).map_or(port, |imitation| imitation.port)
}
