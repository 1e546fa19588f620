//! Guarantees on each fault: the rows of the design's table, each with a real server.

use std::time::Duration;

use crate::{
    HEARTBEAT, HEARTBEAT_TIMEOUT, Site,
    proxy::Proxy,
    server::{Disk, PATIENCE, Server, free_port, pause, until},
    support::{get, got, send},
};

/// A primary with a replica behind a link that can be frozen, and a site that is led to one of them.
struct Pair {
    primary: Server,
    replica: Server,
    replication: Proxy,
    link: Proxy,
    site: Site,
}

impl Pair {
    async fn new() -> Self {
        let (primary, replica) = (Server::start().await, Server::start().await);
        let (replication, link) = (Proxy::to(primary.port).await, Proxy::to(primary.port).await);
        replica.follow(replication.port).await;
        let site = Site::prompt(&link.url()).await;
        Self { primary, replica, replication, link, site }
    }

    /// `/cases/1` is stored, and the replica has it.
    async fn fill(&mut self, body: &'static str) {
        self.site.fill(body).await;
        until(PATIENCE, "the replica has it", async || {
            (self.replica.command::<u64>(&["EXISTS", "case:1"]).await == 1).then_some(())
        })
        .await;
    }
}

/// Reads until a response comes from the store again; all of them must be `body`.
async fn is_stored_again(site: &mut Site, body: &'static str) {
    site.fill(body).await;
}

// ===== killed =====

#[tokio::test]
async fn a_server_that_is_killed_fails_no_request_and_is_used_again_once_it_is_back() {
    let mut server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("old").await;
    server.kill();
    for _ in 0..20 {
        let read = site.read("meanwhile").await;
        assert_eq!((read.status.as_u16(), read.text()), (200, "meanwhile"));
    }
    let before = site.store();
    assert_eq!((before.is_linked, before.links_lost), (false, 1));
    server.restart(Disk::Empty).await;
    is_stored_again(&mut site, "new").await;
    assert!(site.store().is_linked);
}

/// Values and leases come back from the disk, and what was invalidated since it was written.
#[tokio::test]
async fn a_server_that_is_back_from_rdb_answers_with_nothing_old() {
    let mut server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("old").await;
    server.save().await;
    site.handle.invalidate("case:1").await.unwrap();
    server.kill();
    server.restart(Disk::Kept).await;
    assert_eq!(server.command::<u64>(&["EXISTS", "case:1"]).await, 1, "it is back");
    is_stored_again(&mut site, "new").await;
    is_stored_again(&mut Site::on(&server.url()).await, "new").await;
}

#[tokio::test]
async fn a_lease_that_is_back_from_rdb_keeps_nobody_waiting_and_commits_nothing() {
    let mut server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    let filling = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    server.save().await;
    server.kill();
    server.restart(Disk::Kept).await;
    assert_eq!(server.command::<u64>(&["EXISTS", "case:1"]).await, 1, "it is back");
    site.is_linked_again().await;
    call.ok("old");
    assert!(!got(filling).await.cache_status().ends_with(";stored"));
    is_stored_again(&mut site, "new").await;
}

#[tokio::test]
async fn a_server_that_is_back_from_its_append_only_file_answers_with_nothing_old() {
    let mut server = Server::with(&[("appendonly", "yes")]).await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("old").await;
    server.kill();
    server.restart(Disk::Kept).await;
    assert_eq!(server.command::<u64>(&["EXISTS", "case:1"]).await, 1, "it is back");
    is_stored_again(&mut site, "new").await;
}

// ===== failover, demotion =====

#[tokio::test]
async fn a_failover_that_loses_deletes_brings_back_nothing() {
    let mut pair = Pair::new().await;
    pair.fill("old").await;
    pair.replication.freeze();
    pair.site.handle.invalidate("case:1").await.unwrap();
    pair.primary.kill();
    pair.replica.promote().await;
    pair.link.lead_to(pair.replica.port);
    assert_eq!(pair.replica.command::<u64>(&["EXISTS", "case:1"]).await, 1, "it is back");
    is_stored_again(&mut pair.site, "new").await;
}

/// There and back again between two heartbeats: the server is the one it was, and was not the
/// primary all the time.
#[tokio::test]
async fn a_failover_there_and_back_brings_back_nothing() {
    let mut pair = Pair::new().await;
    pair.fill("old").await;
    pair.replication.freeze();
    pair.primary.demote(free_port()).await;
    // Invalidations that are acknowledged elsewhere from now on never reach this server.
    pair.primary.promote().await;
    pause(HEARTBEAT + HEARTBEAT_TIMEOUT + Duration::from_millis(20)).await;
    assert_eq!(pair.primary.command::<u64>(&["EXISTS", "case:1"]).await, 1, "it is still there");
    is_stored_again(&mut pair.site, "new").await;
}

/// A demoted primary keeps its connections and answers reads.
#[tokio::test]
async fn a_demoted_primary_is_noticed_within_a_heartbeat() {
    let mut pair = Pair::new().await;
    pair.fill("old").await;
    pair.primary.demote(free_port()).await;
    pair.replica.promote().await;
    pair.link.lead_to(pair.replica.port);
    pair.replica.run(&["DEL", "case:1"]).await;
    pause(HEARTBEAT + HEARTBEAT_TIMEOUT + Duration::from_millis(20)).await;
    for _ in 0..20 {
        assert_eq!(pair.site.read("new").await.text(), "new");
    }
    assert_eq!(pair.primary.command::<u64>(&["EXISTS", "case:1"]).await, 1, "it still has it");
    is_stored_again(&mut pair.site, "new").await;
}

#[tokio::test]
async fn sec_red_7_a_replica_is_not_used_at_all() {
    let (primary, replica) = (Server::start().await, Server::start().await);
    let mut site = Site::prompt(&primary.url()).await;
    site.fill("old").await;
    replica.follow(primary.port).await;
    let store = tower_support_cache::RedisStore::connect(replica.url()).unwrap();
    let mut reader = Site::lazy(store, |route| route);
    for _ in 0..5 {
        assert_eq!(reader.read("from the origin").await.text(), "from the origin");
    }
    assert!(reader.handle.invalidate("case:1").await.is_err());
    assert!(!reader.store().is_linked);
}

// ===== hung, black-holed, cut =====

#[tokio::test]
async fn a_server_that_hangs_is_bypassed_and_used_again_once_it_goes_on() {
    let server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("stored").await;
    server.stop();
    until(PATIENCE, "the link is given up", async || {
        let read = site.read("from the origin").await;
        assert_eq!(read.status, 200);
        (!site.store().is_linked).then_some(())
    })
    .await;
    assert_eq!(site.read("from the origin").await.text(), "from the origin");
    server.cont();
    site.is_linked_again().await;
    site.hits("stored").await;
}

#[tokio::test]
async fn a_black_hole_is_bypassed_and_used_again_once_it_lets_through() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let (mut site, other) = (Site::prompt(&link.url()).await, Site::on(&server.url()).await);
    site.fill("old").await;
    link.freeze();
    until(PATIENCE, "the link is given up", async || {
        assert_eq!(site.read("from the origin").await.status, 200);
        (!site.store().is_linked).then_some(())
    })
    .await;
    other.handle.invalidate("case:1").await.unwrap();
    link.thaw();
    is_stored_again(&mut site, "new").await;
}

#[tokio::test]
async fn a_link_that_is_cut_comes_back_by_itself() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let mut site = Site::prompt(&link.url()).await;
    site.fill("stored").await;
    link.cut();
    until(PATIENCE, "the link was lost", async || (site.store().links_lost == 1).then_some(()))
        .await;
    site.is_linked_again().await;
    site.hits("stored").await;
}

/// The outcome of a commit is unknown then. Nobody has to wait for the lease to run out.
#[tokio::test]
async fn a_fill_whose_link_is_cut_gives_its_lease_back_over_the_next() {
    let server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    let filling = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    server.kill_clients().await;
    call.ok("one");
    assert_eq!(got(filling).await.text(), "one");
    is_stored_again(&mut Site::on(&server.url()).await, "one").await;
}

/// Neither does a lease stay that was about to be given back.
#[tokio::test]
async fn a_lease_whose_way_back_is_cut_is_given_back_over_the_next_link() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let mut site = Site::prompt(&link.url()).await;
    let filling = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    link.freeze();
    call.fail();
    assert!(filling.await.unwrap().is_err());
    until(PATIENCE, "the link is given up", async || (!site.store().is_linked).then_some(())).await;
    // A message on its way is lost with the connection.
    link.cut();
    link.thaw();
    is_stored_again(&mut Site::on(&server.url()).await, "one").await;
}

#[tokio::test]
async fn all_leases_whose_way_back_is_cut_are_given_back() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let mut site = Site::prompt(&link.url()).await;
    let keys: Vec<_> = (1..=5).map(|number| format!("case:{number}")).collect();
    let mut filling = Vec::new();
    for number in 1..=keys.len() {
        let sent = send(&site.cache, get(&format!("/cases/{number}")));
        filling.push((sent, site.calls.next().await));
    }
    link.freeze();
    for (sent, call) in filling {
        call.fail();
        assert!(sent.await.unwrap().is_err());
    }
    until(PATIENCE, "the link is given up", async || (!site.store().is_linked).then_some(())).await;
    link.cut();
    link.thaw();
    // Sooner than they run out.
    until(PATIENCE, "no lease is left", async || {
        for key in &keys {
            if server.command::<u64>(&["EXISTS", key]).await > 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_fill_survives_script_flush() {
    let server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    let filling = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    server.run(&["SCRIPT", "FLUSH"]).await;
    call.ok("one");
    assert!(got(filling).await.cache_status().ends_with(";stored"));
    server.run(&["SCRIPT", "FLUSH"]).await;
    site.hits("one").await;
    server.run(&["DEL", "case:1"]).await;
    server.run(&["SCRIPT", "FLUSH"]).await;
    assert!(site.read("two").await.cache_status().ends_with(";stored"));
}

#[tokio::test]
async fn a_fill_over_flushall_is_not_stored() {
    let server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    let filling = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    server.run(&["FLUSHALL"]).await;
    call.ok("old");
    assert!(!got(filling).await.cache_status().ends_with(";stored"));
    is_stored_again(&mut site, "new").await;
}

// ===== full =====

#[tokio::test]
async fn sec_red_7_a_server_that_is_full_stores_nothing_and_still_invalidates() {
    let server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("old").await;
    server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    site.hits("old").await;
    assert_eq!(site.ask(get("/cases/2"), "two").await.text(), "two");
    assert!(!site.ask(get("/cases/2"), "two").await.is_hit());
    site.handle.invalidate("case:1").await.expect("a deletion needs no room");
    assert_eq!(site.read("new").await.text(), "new");
    site.handle.invalidate_all().await.expect("it needs no room either");
    assert_eq!(site.ask(get("/cases/2"), "two").await.status, 200);
    server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    is_stored_again(&mut site, "new").await;
}

#[tokio::test]
async fn a_server_that_evicts_answers_with_nothing_old() {
    let server = Server::with(&[("maxmemory", "3mb"), ("maxmemory-policy", "allkeys-lru")]).await;
    let mut site = Site::prompt(&server.url()).await;
    let body = &*"x".repeat(16 * 1024).leak();
    for case in 0..400 {
        let read = site.ask(get(&format!("/cases/{case}")), body).await;
        assert_eq!((read.status.as_u16(), read.text()), (200, body));
    }
    assert_ne!(server.info("stats", "evicted_keys").await, "0");
    site.handle.invalidate("case:1").await.unwrap();
    is_stored_again(&mut site, "new").await;
}
