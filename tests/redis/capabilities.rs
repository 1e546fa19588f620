//! Capabilities of the server: found at the connection, said, and required.

use std::{collections::BTreeSet, time::Duration};

use tower_support_cache::{Capability, RedisStore};

use crate::{
    Site,
    dialect::{self, Dialect, Imitation, PLAIN},
    far, patient,
    server::{PATIENCE, Server, until},
};

/// Asserts which capabilities are missing behind a dialect.
async fn lacks(dialect: Dialect, missing: &[Capability]) {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, dialect).await;
    for near_cache in [0, 1 << 20] {
        let store = patient(&imitation.url()).near_cache_capacity(near_cache).build().unwrap();
        store.linked(PATIENCE).await.unwrap();
        let site = Site::lazy(store, |route| route);
        let all: BTreeSet<_> = Capability::ALL.into_iter().collect();
        let found = site.store().capabilities;
        let absent: Vec<_> = all.difference(&found).copied().collect();
        assert_eq!(absent, missing, "{}", dialect.name);
    }
}

#[tokio::test]
async fn a_service_lacks_what_its_docs_say_and_no_more() {
    use Capability::{Resp3, RunId, ScriptFlags, Tracking};
    lacks(PLAIN, &[]).await;
    lacks(dialect::DRAGONFLY, &[RunId, ScriptFlags]).await;
    lacks(dialect::KEYDB, &[ScriptFlags]).await;
    lacks(dialect::ELASTICACHE, &[]).await;
    lacks(dialect::MEMORYSTORE, &[]).await;
    lacks(dialect::ENTERPRISE, &[Tracking]).await;
    lacks(dialect::TENCENT, &[Resp3, Tracking]).await;
}

#[tokio::test]
async fn a_user_who_may_do_little_lacks_capabilities() {
    let server = Server::start().await;
    let rules = ["-script", "-client", "resetkeys", "~case:*", "~*:epoch", "~another"];
    server.run(&[&["ACL", "SETUSER", "default"][..], &rules].concat()).await;
    let site = Site::on(&server.url()).await;
    let all: BTreeSet<_> = Capability::ALL.into_iter().collect();
    let found = site.store().capabilities;
    let missing: Vec<_> = all.difference(&found).copied().collect();
    use Capability::{HeartbeatRegister, ScriptCache, Tracking};
    assert_eq!(missing, [Tracking, ScriptCache, HeartbeatRegister]);
}

#[tokio::test]
async fn a_capability_that_is_required_and_missing_is_an_error_at_start_up() {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, dialect::ENTERPRISE).await;
    let require = |capability| far(&imitation.url()).require(capability).build().unwrap();
    require(Capability::RunId).linked(PATIENCE).await.unwrap();
    let store = require(Capability::Tracking);
    let error = store.linked(PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("lacks `tracking`, which is required"), "{error}");
    let mut site = Site::lazy(store, |route| route);
    assert_eq!(site.read("origin").await.text(), "origin");
    assert!(!site.store().is_linked);
}

#[tokio::test]
async fn a_start_up_without_a_link_says_why() {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, dialect::UPSTASH).await;
    let garnet = Imitation::of(server.port, dialect::GARNET).await;
    let brief = Duration::from_millis(300);
    for (url, words, limit) in [
        (imitation.url(), "does not say who it is", PATIENCE),
        (garnet.url(), "Lua scripting support disabled", brief),
        (format!("redis://127.0.0.1:{}/", crate::server::free_port()), "refused", brief),
    ] {
        let store = RedisStore::connect(url).unwrap();
        let error = store.linked(limit).await.unwrap_err();
        assert_eq!(error.field(), "url");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// This is what `Capability::cost` says of it.
#[tokio::test]
async fn a_full_server_without_flags_of_scripts_leaves_invalidations_of_tags_pending() {
    let server = Server::start().await;
    for dialect in [dialect::KEYDB, PLAIN] {
        let imitation = Imitation::of(server.port, dialect).await;
        let store = patient(&imitation.url()).build().unwrap();
        let mut site = Site::lazy(store, |route| route.tag("all")).linked().await;
        site.fill("old").await;
        server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
        let is_flagged = dialect.no_flags.is_none();
        assert_eq!(site.handle.invalidate_tag("all").await.is_ok(), is_flagged, "{}", dialect.name);
        assert_eq!(site.read("new").await.text(), "new", "it is bypassed here");
        server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
        until(PATIENCE, "it is acknowledged", async || (site.store().pending == 0).then_some(()))
            .await;
        site.fill("newest").await;
        server.run(&["DEL", "case:1"]).await;
    }
}
