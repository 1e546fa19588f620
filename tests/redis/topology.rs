//! More than one server: a primary that sentinels name, a cluster, and a wire that is encrypted.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tower_support_cache::{CacheRoute, RedisStore, RedisStoreBuilder};

use crate::{
    Site,
    server::{PATIENCE, Server, free_port, new_folder, server_program, until},
    support::{get, got, send},
};

/// Long enough for a busy machine.
fn patient(builder: RedisStoreBuilder) -> RedisStore {
    builder
        .lookup_budget(PATIENCE)
        .invalidate_budget(PATIENCE)
        .heartbeat_timeout(Duration::from_millis(800))
        .build()
        .unwrap()
}

/// A sentinel that watches one primary by itself.
struct Sentinel {
    port: u16,
    process: Child,
    folder: PathBuf,
}

impl Sentinel {
    fn of(primary: &Server) -> Self {
        let (port, folder) = (free_port(), new_folder());
        let file = folder.join("sentinel.conf");
        let watched = primary.port;
        fs::write(
            &file,
            format!(
                "port {port}\ndir {}\nsentinel monitor main 127.0.0.1 {watched} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n",
                folder.display()
            ),
        )
        .unwrap();
        let mut command = Command::new(server_program());
        command.arg(&file).arg("--sentinel").stdout(Stdio::null());
        Self { port, process: command.spawn().unwrap(), folder }
    }

    /// Waits until it knows of the replica that it can promote.
    async fn knows_a_replica(&self) {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        until(PATIENCE, "the sentinel knows of a replica", async || {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("replicas").arg("main");
            let replicas: Vec<redis::Value> = ask.query_async(&mut connection).await.ok()?;
            (!replicas.is_empty()).then_some(())
        })
        .await;
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn sentinels_lead_to_the_new_primary_and_nothing_old_is_read_there() {
    let (mut primary, replica) = (Server::start().await, Server::start().await);
    replica.follow(primary.port).await;
    let sentinel = Sentinel::of(&primary);
    sentinel.knows_a_replica().await;
    // The first of them is not there: the next is asked.
    let urls = [free_port(), sentinel.port].map(|port| format!("redis://127.0.0.1:{port}/"));
    let mut site = Site::over(patient(RedisStore::sentinel("main", urls))).await;
    site.fill("before").await;
    site.hits("before").await;
    assert!(site.store().near.is_proven);

    primary.kill();
    until(PATIENCE, "the link is lost", async || (site.store().links_lost > 0).then_some(())).await;
    site.is_linked_again().await;
    assert_eq!(replica.info("replication", "role").await, "master");
    site.fill("after").await;
    site.hits("after").await;
    site.handle.invalidate("case:1").await.unwrap();
    assert_eq!(site.read("later").await.text(), "later");
}

/// Three primaries, of which the first has a replica.
struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..4 {
            let bus = free_port().to_string();
            let options = [
                ("cluster-enabled", "yes"),
                ("cluster-node-timeout", "1000"),
                ("cluster-port", bus.as_str()),
            ];
            nodes.push(Server::with(&options).await);
        }
        let address = |node: &Server| format!("127.0.0.1:{}", node.port);
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes[..3].iter().map(address));
        let created = create.arg("--cluster-yes").output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes };
        cluster.is_whole().await;
        cluster.add_replica().await;
        cluster
    }

    async fn is_whole(&self) {
        until(PATIENCE, "all nodes see the cluster whole", async || {
            for node in &self.nodes[..3] {
                if !node.command::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
                {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    async fn add_replica(&self) {
        let (first, replica) = (&self.nodes[0], &self.nodes[3]);
        let id: String = first.command(&["CLUSTER", "MYID"]).await;
        let bus: Vec<String> = first.command(&["CONFIG", "GET", "cluster-port"]).await;
        let port = first.port.to_string();
        replica.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus[1]]).await;
        until(PATIENCE, "the replica follows", async || {
            let _ = replica.ask::<String>(&["CLUSTER", "REPLICATE", &id]).await;
            let info: String = replica.command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up").then_some(())
        })
        .await;
    }

    fn urls(&self) -> Vec<String> {
        self.nodes[1..3].iter().map(Server::url).collect()
    }
}

#[tokio::test]
async fn a_cluster_is_used_and_a_failover_in_it_brings_back_nothing() {
    let mut cluster = Cluster::start().await;
    let mut site = Site::over(patient(RedisStore::cluster(cluster.urls()))).await;
    let mut other = Site::over(patient(RedisStore::cluster(cluster.urls()))).await;
    site.fill("before").await;
    other.hits("before").await;
    assert!(!site.store().near.is_proven, "a cluster has no near cache");
    site.handle.invalidate("case:1").await.unwrap();
    other.fill("changed").await;
    site.hits("changed").await;
    site.handle.invalidate_all().await.unwrap();
    other.fill("all changed").await;
    site.hits("all changed").await;

    cluster.nodes[0].kill();
    until(PATIENCE, "the link is lost", async || (site.store().links_lost > 0).then_some(())).await;
    assert_eq!(site.read("while it is away").await.text(), "while it is away");
    until(PATIENCE, "the replica is promoted", async || {
        let role = cluster.nodes[3].info("replication", "role").await;
        (role == "master").then_some(())
    })
    .await;
    site.is_linked_again().await;
    other.is_linked_again().await;
    // They share once both have seen the same primaries.
    until(PATIENCE, "they share again", async || {
        site.fill("after").await;
        let read = other.read("after").await;
        assert_eq!(read.text(), "after", "{}", read.cache_status());
        read.is_hit().then_some(())
    })
    .await;
}

/// Keys and versions of tags are at different nodes, whose clocks need not agree.
#[tokio::test]
async fn tags_and_groups_reach_all_nodes_of_a_cluster() {
    let cluster = Cluster::start().await;
    let store = || patient(RedisStore::cluster(cluster.urls()));
    let route = |route: CacheRoute| route.tag("a").tag("b").tag("c").tag("case:{case}");
    let mut site = Site::lazy(store(), route).linked().await;
    let mut other = Site::lazy(store(), route).linked().await;
    for tag in ["a", "b", "c", "case:1"] {
        site.fill("old").await;
        other.hits("old").await;
        other.handle.invalidate_tag(tag).await.unwrap();
        assert_eq!(site.read("new").await.text(), "new", "{tag}");
        other.hits("new").await;
        let reading = send(&site.cache, get("/cases/2"));
        let call = site.calls.next().await;
        other.handle.invalidate_tag(tag.replace('1', "2")).await.unwrap();
        call.ok("overtaken");
        got(reading).await;
        assert_eq!(other.ask(get("/cases/2"), "later").await.text(), "later", "{tag}");
        site.handle.invalidate("case:2").await.unwrap();
        site.handle.invalidate("case:1").await.unwrap();
    }
    site.fill_grouped("old").await;
    assert_eq!(other.read_grouped("not stored").await.text(), "old");
    other.invalidate_group().await;
    assert_eq!(site.read_grouped("new").await.text(), "new");
}

/// Environment variable with the address of the child's server.
const TLS_PORT: &str = "TEST_TLS_PORT";

/// The certificates of the operating system are read from where an environment variable says, so the
/// test is done by a child that has it.
#[tokio::test]
async fn the_wire_can_be_encrypted() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Ok(port) = std::env::var(TLS_PORT) {
        let url = format!("rediss://localhost:{port}/");
        let mut site = Site::over(patient(RedisStore::builder(url))).await;
        site.fill("encrypted").await;
        return site.hits("encrypted").await;
    }
    let folder = new_folder();
    let path = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = free_port().to_string();
    let server = Server::with(&[
        ("tls-port", &port),
        ("tls-cert-file", &certificate),
        ("tls-key-file", &key),
        ("tls-ca-cert-file", &certificate),
        ("tls-auth-clients", "no"),
    ])
    .await;
    let name = "topology::the_wire_can_be_encrypted";
    let child = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(TLS_PORT, &port)
            .env("SSL_CERT_FILE", &certificate)
            .output()
            .unwrap()
    });
    let child = child.await.unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    drop(server);
    fs::remove_dir_all(folder).unwrap();
}
