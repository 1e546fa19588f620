//! A Redis Cluster of the test's own: three primaries, a replica of each, and a proxy in front of every node, by
//! which clients and replicas know it.

#![allow(dead_code)] // Each test uses a part of it.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use redis::{RedisResult, Value};

use crate::{
    proxy::Proxy,
    server::{PATIENCE, Server, free_port, until},
};

pub(crate) const PRIMARIES: usize = 3;

/// Six nodes: at `n + 3` is the replica of `n` at first.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
    pub(crate) proxies: Vec<Proxy>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
        for _ in 0..2 * PRIMARIES {
            let bus = free_port().to_string();
            let options = [
                ("cluster-enabled", "yes"),
                ("cluster-node-timeout", "1000"),
                ("cluster-port", bus.as_str()),
            ];
            let node = Server::with(&options).await;
            proxies.push(Proxy::to(node.port).await);
            nodes.push(node);
        }
        let address = |node: &Server| format!("127.0.0.1:{}", node.port);
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes[..PRIMARIES].iter().map(address));
        let created = create.arg("--cluster-yes").output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes, proxies };
        cluster.is_whole(&[0, 1, 2]).await;
        // Before there are replicas: these follow through the proxies, too.
        for (node, proxy) in cluster.nodes.iter().zip(&cluster.proxies) {
            let port = proxy.port.to_string();
            node.run(&["CONFIG", "SET", "cluster-announce-port", &port]).await;
        }
        for replica in PRIMARIES..2 * PRIMARIES {
            cluster.add_replica(replica).await;
        }
        cluster.is_announced().await;
        cluster
    }

    /// Returns the addresses by which a store finds it.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.proxies.iter().skip(1).map(Proxy::url).collect()
    }

    /// Waits until these nodes see the cluster whole.
    pub(crate) async fn is_whole(&self, nodes: &[usize]) {
        until(PATIENCE, "all nodes see the cluster whole", async || {
            for node in nodes {
                let info: String = self.nodes[*node].ask(&["CLUSTER", "INFO"]).await.ok()?;
                if !info.contains("cluster_state:ok") {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Waits until every primary knows every other by its proxy.
    async fn is_announced(&self) {
        until(PATIENCE, "all nodes are known by their proxies", async || {
            for node in &self.nodes[..PRIMARIES] {
                let known: String = node.ask(&["CLUSTER", "NODES"]).await.ok()?;
                let is_known = |proxy: &Proxy| known.contains(&format!(":{}@", proxy.port));
                if !self.proxies.iter().all(is_known) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    async fn add_replica(&self, replica: usize) {
        let (primary, replica) = (&self.nodes[replica - PRIMARIES], &self.nodes[replica]);
        let id: String = primary.command(&["CLUSTER", "MYID"]).await;
        let bus: Vec<String> = primary.command(&["CONFIG", "GET", "cluster-port"]).await;
        let port = primary.port.to_string();
        until(PATIENCE, "the replica follows", async || {
            let info: String = replica.command(&["INFO", "replication"]).await;
            // Only once: it begins anew each time. A handshake may take too long, and is then forgotten.
            if info.contains("role:master")
                && replica.ask::<String>(&["CLUSTER", "REPLICATE", &id]).await.is_err()
            {
                replica.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus[1]]).await;
            }
            info.contains("master_link_status:up").then_some(())
        })
        .await;
    }

    // ----- slots -----

    pub(crate) async fn slot(&self, key: &str) -> String {
        let slot: u64 = self.any().await.command(&["CLUSTER", "KEYSLOT", key]).await;
        slot.to_string()
    }

    async fn any(&self) -> &Server {
        for node in &self.nodes {
            if node.ask::<String>(&["PING"]).await.is_ok() {
                return node;
            }
        }
        panic!("every node is away")
    }

    /// Returns the node that answers for a key.
    pub(crate) async fn owner(&self, key: &str) -> usize {
        until(PATIENCE, "a node answers for the key", async || {
            for (index, node) in self.nodes.iter().enumerate() {
                let found: RedisResult<Value> = node.ask(&["EXISTS", key]).await;
                if found.is_ok() {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// Begins to move the slot of a key: what is not there any more is asked for at the other node.
    pub(crate) async fn begin_move(&self, key: &str, to: usize) -> usize {
        let (slot, from) = (self.slot(key).await, self.owner(key).await);
        let ids = [self.id(from).await, self.id(to).await];
        self.nodes[to].run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]).await;
        self.nodes[from].run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).await;
        from
    }

    /// Moves the keys of a slot that is moving.
    pub(crate) async fn move_keys(&self, key: &str, from: usize, to: usize) {
        let slot = self.slot(key).await;
        let port = self.nodes[to].port.to_string();
        loop {
            let keys: Vec<String> =
                self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
            if keys.is_empty() {
                return;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            let _ = self.nodes[from].ask::<String>(&migrate).await;
        }
    }

    /// Ends the move of a slot. What is not at the one that has it is written at the other, so it stays empty.
    pub(crate) async fn end_move(&self, key: &str, from: usize, to: usize) {
        self.move_keys(key, from, to).await;
        let (slot, id) = (self.slot(key).await, self.id(to).await);
        for node in [to, from] {
            self.nodes[node].run(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await;
        }
    }

    /// Moves the slot of a key to another primary.
    pub(crate) async fn move_slot(&self, key: &str, to: usize) {
        let from = self.begin_move(key, to).await;
        self.end_move(key, from, to).await;
    }

    /// Gives a slot to another primary, which has none of its keys. The one that had it is not asked.
    pub(crate) async fn take_slot(&self, key: &str, from: usize, to: usize) {
        let (slot, ids) = (self.slot(key).await, [self.id(from).await, self.id(to).await]);
        for step in [["IMPORTING", &ids[0]], ["NODE", &ids[1]]] {
            let command = [&["CLUSTER", "SETSLOT", &slot], &step[..]].concat();
            self.nodes[to].run(&command).await;
        }
    }

    async fn id(&self, node: usize) -> String {
        self.nodes[node].command(&["CLUSTER", "MYID"]).await
    }

    /// Returns the node that is a primary of the two that had the same slots at first.
    pub(crate) async fn primary_of(&self, pair: usize) -> usize {
        for index in [pair, pair + PRIMARIES] {
            let node = &self.nodes[index];
            let role: RedisResult<Vec<Value>> = node.ask(&["ROLE"]).await;
            let is_primary =
                role.is_ok_and(|role| matches!(&role[0], Value::BulkString(it) if it == b"master"));
            if is_primary {
                return index;
            }
        }
        pair
    }

    /// Waits until the replica of a primary that was killed is in its place.
    pub(crate) async fn is_promoted(&self, replica: usize) {
        until(PATIENCE, "the replica is promoted", async || {
            let role = self.nodes[replica].info("replication", "role").await;
            (role == "master").then_some(())
        })
        .await;
    }
}
