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
    cluster::Cluster,
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

#[tokio::test]
async fn a_cluster_is_used_and_a_failover_in_it_brings_back_nothing() {
    let mut cluster = Cluster::start().await;
    let store = || patient(RedisStore::cluster(cluster.urls()).near_cache_capacity(0));
    let (mut site, mut other) = (Site::over(store()).await, Site::over(store()).await);
    site.fill("before").await;
    other.hits("before").await;
    site.handle.invalidate("case:1").await.unwrap();
    other.fill("changed").await;
    site.hits("changed").await;
    site.handle.invalidate_all().await.unwrap();
    other.fill("all changed").await;
    site.hits("all changed").await;

    cluster.nodes[0].kill();
    until(PATIENCE, "the link is lost", async || (site.store().links_lost > 0).then_some(())).await;
    assert_eq!(site.read("while it is away").await.text(), "while it is away");
    cluster.is_promoted(3).await;
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
    let store = || patient(RedisStore::cluster(cluster.urls()).near_cache_capacity(0));
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
