//! Heartbeats of several processes: an invalidation of everything waits for the longest.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tower_support_cache::RedisStoreBuilder;

use crate::{
    Site, far, patient,
    server::{PATIENCE, Server, until},
};

const SLOW: Duration = Duration::from_secs(4);

/// A store that learns late of another epoch, and has no message of it.
fn slow(server: &Server) -> RedisStoreBuilder {
    patient(&server.url()).heartbeat(SLOW)
}

async fn site(store: RedisStoreBuilder) -> Site {
    Site::over(store.build().unwrap()).await
}

/// Returns the name of the register.
async fn register(server: &Server) -> String {
    until(PATIENCE, "there is a register", async || {
        let names: Vec<String> = server.command(&["KEYS", "*heartbeats*"]).await;
        names.into_iter().next()
    })
    .await
}

#[allow(clippy::disallowed_methods)] // A real server's time.
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn an_invalidation_of_everything_waits_for_the_longest_heartbeat() {
    let server = Server::start().await;
    let (mut late, mut prompt) = (site(slow(&server)).await, site(far(&server.url())).await);
    late.fill("old").await;
    let began = now();
    prompt.handle.invalidate_all().await.unwrap();
    assert!(began.elapsed() >= SLOW, "{:?}", began.elapsed());
    assert_eq!(late.read("new").await.text(), "new");
    prompt.hits("new").await;
}

/// Processes that were in it, and are not again yet, cannot be known from it.
#[tokio::test]
async fn a_register_that_is_lost_shortens_no_wait() {
    let server = Server::start().await;
    let (mut late, prompt) = (site(slow(&server)).await, site(far(&server.url())).await);
    late.fill("old").await;
    let name = register(&server).await;
    for lost in [&["DEL", &name][..], &["SET", &name, "foreign"]] {
        server.run(lost).await;
        let began = now();
        prompt.handle.invalidate_all().await.unwrap();
        assert!(began.elapsed() >= SLOW, "{:?}", began.elapsed());
        assert_eq!(late.read("new").await.text(), "new");
        late.fill("new").await;
    }
    until(PATIENCE, "a foreign value heals", async || {
        let kind: String = server.command(&["TYPE", &name]).await;
        (kind == "hash").then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_is_not_waited_for_is_pending_until_every_process_has_seen_it() {
    let server = Server::start().await;
    let (mut late, prompt) = (site(slow(&server)).await, site(far(&server.url())).await);
    late.fill("old").await;
    let briefly = Duration::from_millis(1200);
    assert!(timeout(briefly, prompt.handle.invalidate_all()).await.is_err());
    assert_eq!(prompt.store().pending, 1);
    assert!(prompt.handle.flush_pending(briefly).await.is_err());
    let unfinished = prompt.handle.drain(Duration::ZERO).await.unwrap_err();
    assert_eq!(unfinished.pending(), 1);
    prompt.handle.flush_pending(PATIENCE).await.expect("it is seen");
    assert_eq!(prompt.store().pending, 0);
    assert_eq!(late.read("new").await.text(), "new");
}

/// A heartbeat under a second needs no register: every process waits for as long.
#[tokio::test]
async fn a_process_that_may_not_enter_a_long_heartbeat_bypasses_the_store() {
    let server = Server::start().await;
    let user = ["ACL", "SETUSER", "app", "on", ">secret", "+@all", "%RW~case:*", "%RW~another"];
    let own = ["%RW~tower-support-cache:epoch", "%RW~tower-support-cache:unsettled:*"];
    server.run(&[&user[..], &own].concat()).await;
    let store = |store: RedisStoreBuilder| store.username("app").password("secret");
    let mut prompt = site(store(far(&server.url()))).await;
    prompt.fill("one").await;
    let mut late = Site::lazy(store(slow(&server)).build().unwrap(), |route| route);
    for _ in 0..5 {
        assert_eq!(late.read("origin").await.text(), "origin");
    }
    assert!(!late.store().is_linked);
    server.run(&["ACL", "SETUSER", "app", "allkeys"]).await;
    late.is_linked_again().await;
    late.hits("one").await;
}

#[tokio::test]
async fn a_server_that_is_full_keeps_what_is_entered() {
    let server = Server::start().await;
    let (mut late, mut prompt) = (site(slow(&server)).await, site(far(&server.url())).await);
    late.fill("old").await;
    server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let mut new = site(far(&server.url())).await;
    new.hits("old").await;
    prompt.hits("old").await;
    prompt.handle.invalidate_all().await.expect("it needs no room");
    for site in [&mut late, &mut prompt, &mut new] {
        assert_eq!(site.read("new").await.text(), "new");
    }
}
