//! Faults of a cluster while processes use it: failovers that lose deletes, slots that move, and links.

use std::time::Duration;

use crate::{
    cluster::{Cluster, PRIMARIES},
    faults::Fault,
    proxy::Proxy,
    random::Random,
    server::{Disk, PATIENCE, pause, until},
    world::{KEYS, TAGS},
};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Faults that a cluster has.
pub(crate) const KINDS: &[Fault] = &[
    Fault::SlotMigration,
    Fault::Failover,
    Fault::Cut,
    Fault::BlackHole,
    Fault::ClientKill,
    Fault::ScriptFlush,
    Fault::Hang,
    Fault::FlushAll,
];

/// Three primaries, their replicas, and a proxy in front of each.
pub(crate) struct ClusterFaults {
    cluster: Cluster,
    random: Random,
}

impl ClusterFaults {
    pub(crate) async fn new(seed: u64) -> Self {
        Self { cluster: Cluster::start().await, random: Random(seed) }
    }

    /// Returns the addresses of the nodes: by their proxies, and by none for programs that know of no cache.
    pub(crate) fn url(&self) -> String {
        let direct = self.cluster.nodes.iter().map(crate::server::Server::url);
        [self.cluster.urls().join(","), direct.collect::<Vec<_>>().join(",")].join("|")
    }

    pub(crate) async fn inject(&mut self, fault: Fault) {
        let pair = self.random.below(PRIMARIES as u64) as usize;
        let primary = self.cluster.primary_of(pair).await;
        match fault {
            Fault::SlotMigration => self.move_slots().await,
            Fault::Failover => self.fail_over(primary).await,
            Fault::Cut => self.cluster.proxies.iter().for_each(Proxy::cut),
            Fault::BlackHole => {
                self.cluster.proxies[primary].freeze();
                pause(ms(500)).await;
                self.cluster.proxies[primary].thaw();
            }
            Fault::ClientKill => self.cluster.nodes[primary].kill_clients().await,
            Fault::ScriptFlush => self.cluster.nodes[primary].run(&["SCRIPT", "FLUSH"]).await,
            Fault::FlushAll => self.cluster.nodes[primary].run(&["FLUSHALL"]).await,
            // For less than the others wait until they replace it.
            Fault::Hang => {
                self.cluster.nodes[primary].stop();
                pause(ms(400)).await;
                self.cluster.nodes[primary].cont();
            }
            other => unreachable!("{} is of one server", other.name()),
        }
    }

    /// Moves the slots of a key, of a tag and of the epoch, one after the other.
    async fn move_slots(&mut self) {
        let own = "tower-support-cache:";
        let key = self.random.below(KEYS as u64);
        let tag = self.random.below(TAGS as u64);
        for name in [format!("k:{key}"), format!("{own}tag:t:{tag}"), format!("{own}epoch")] {
            let to = self.random.below(PRIMARIES as u64) as usize;
            let to = self.cluster.primary_of(to).await;
            if self.cluster.owner(&name).await != to {
                let from = self.cluster.begin_move(&name, to).await;
                // Meanwhile it is asked for here and there.
                pause(ms(self.random.below(100))).await;
                self.cluster.end_move(&name, from, to).await;
            }
        }
    }

    /// The primary dies, and its replica has not seen the latest deletes. It comes back as a replica.
    async fn fail_over(&mut self, primary: usize) {
        let replica = (primary + PRIMARIES) % (2 * PRIMARIES);
        // The replica follows through it, as well.
        self.cluster.proxies[primary].freeze();
        pause(ms(300)).await;
        self.cluster.nodes[primary].kill();
        self.cluster.is_promoted(replica).await;
        self.cluster.proxies[primary].cut();
        self.cluster.proxies[primary].thaw();
        let port = self.cluster.proxies[primary].port.to_string();
        let node = &mut self.cluster.nodes[primary];
        node.option("cluster-announce-port", &port);
        node.restart(Disk::Kept).await;
        until(PATIENCE, "it follows", async || {
            let info = self.cluster.nodes[primary].ask::<String>(&["INFO", "replication"]);
            info.await.ok()?.contains("master_link_status:up").then_some(())
        })
        .await;
        self.cluster.is_whole(&[primary, replica]).await;
    }
}
