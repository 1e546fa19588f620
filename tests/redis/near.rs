//! Near cache: copies of entries that this process has read, and the times at which they answer.

use std::time::Duration;

use tower_support_cache::{CacheRoute, Forecast, RedisStore, RedisStoreBuilder, store::Operation};

use crate::{
    HEARTBEAT, HEARTBEAT_TIMEOUT, Site, patient,
    proxy::Proxy,
    server::{PATIENCE, Server, pause, until},
    support::{TTL, get, got, send},
};

const CAPACITY: u64 = 1024 * 1024;

fn near(url: &str) -> RedisStoreBuilder {
    patient(url).near_cache_capacity(CAPACITY).near_cache_limit(TTL)
}

impl Site {
    async fn near(url: &str) -> Self {
        Self::over(near(url).build().unwrap()).await
    }

    /// Waits until a response is answered from the near cache.
    async fn has_near(&mut self, body: &'static str) {
        until(PATIENCE, "a copy is in the near cache", async || {
            let before = self.store().near.hits;
            let read = self.read(body).await;
            assert_eq!(read.text(), body, "{}", read.cache_status());
            (self.store().near.hits > before).then_some(())
        })
        .await;
    }

    fn lookups(&self) -> u64 {
        self.store().operations[&Operation::Lookup].answered
    }

    /// Reads until the response is another one.
    async fn sees(&mut self, body: &'static str) {
        until(PATIENCE, "the message is here", async || {
            (self.read(body).await.text() == body).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_near_hit_asks_the_server_nothing_and_ones_own_fill_does_not_enter() {
    let server = Server::start().await;
    let mut site = Site::near(&server.url()).await;
    site.fill("one").await;
    let fills = site.store().near.hits;
    assert_eq!(fills, 0, "what was stored is read once before it is kept");
    site.has_near("one").await;
    let looks = server.calls().await["hget"];
    for _ in 0..10 {
        site.hits("one").await;
    }
    assert_eq!(server.calls().await["hget"], looks);
}

#[tokio::test]
async fn an_explanation_reads_at_the_server_and_keeps_nothing() {
    let server = Server::start().await;
    let (mut site, other) = (Site::near(&server.url()).await, Site::near(&server.url()).await);
    site.fill("one").await;
    let before = (other.store().near, server.calls().await);
    let explanation = other.handle.explain(&get("/cases/1").map(drop)).await;
    assert!(matches!(explanation.forecast, Forecast::Hit { .. }), "{explanation}");
    let (near, calls) = (other.store().near, server.calls().await);
    assert_eq!((near.hits, near.confirmed), (before.0.hits, before.0.confirmed));
    for write in ["hset", "hdel", "del", "unlink", "evalsha", "fcall"] {
        assert_eq!(calls.get(write), before.1.get(write), "{write}");
    }
    // A copy would be asked about by its number alone.
    let looked = calls["hmget"];
    assert!(looked > before.1.get("hmget").copied().unwrap_or(0));
    // A copy that was kept would answer.
    assert_eq!(got(send(&other.cache, get("/cases/1"))).await.text(), "one");
    let near = other.store().near;
    assert_eq!((near.hits, near.confirmed), (before.0.hits, before.0.confirmed));
}

#[tokio::test]
async fn what_is_deleted_elsewhere_is_gone_here() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::near(&server.url()).await, Site::near(&server.url()).await);
    site.fill("one").await;
    site.has_near("one").await;
    server.run(&["DEL", "case:1"]).await;
    site.sees("two").await;
    site.has_near("two").await;
    other.hits("two").await;
    other.handle.invalidate("case:1").await.unwrap();
    site.sees("three").await;
    site.has_near("three").await;
    server.run(&["FLUSHALL"]).await;
    site.sees("four").await;
    site.has_near("four").await;
    other.handle.invalidate_all().await.unwrap();
    assert_eq!(site.read("five").await.text(), "five", "acknowledged: each process knows");
    assert!(site.store().near.pushes >= 3);
}

#[tokio::test]
async fn what_this_process_invalidates_is_gone_at_once() {
    let server = Server::start().await;
    let mut site = Site::near(&server.url()).await;
    for round in 0..20 {
        let body: &'static str = if round % 2 == 0 { "even" } else { "odd" };
        site.fill(body).await;
        site.has_near(body).await;
        site.handle.invalidate("case:1").await.unwrap();
        assert_eq!(site.read("new").await.text(), "new", "round {round}");
        site.handle.invalidate("case:1").await.unwrap();
    }
}

#[tokio::test]
async fn a_link_that_is_silent_or_cut_silences_the_near_cache() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let store = RedisStore::builder(proxy.url())
        .near_cache_capacity(CAPACITY)
        .near_cache_limit(TTL)
        .heartbeat(HEARTBEAT)
        .heartbeat_timeout(HEARTBEAT_TIMEOUT);
    let mut site = Site::over(store.build().unwrap()).await;
    site.fill("one").await;
    site.has_near("one").await;
    proxy.freeze();
    server.run(&["DEL", "case:1"]).await;
    until(PATIENCE, "the near cache is silent", async || {
        (!site.store().near.is_proven).then_some(())
    })
    .await;
    assert_eq!(site.read("two").await.text(), "two");
    proxy.thaw();
    site.is_linked_again().await;
    site.sees("three").await;
    site.has_near("three").await;

    let silenced = site.store().near.silenced;
    proxy.cut();
    until(PATIENCE, "the link is lost", async || {
        (site.store().near.silenced > silenced).then_some(())
    })
    .await;
    site.is_linked_again().await;
    site.has_near("three").await;
}

#[tokio::test]
async fn a_copy_is_read_again_after_its_time() {
    let server = Server::start().await;
    let store = near(&server.url()).near_cache_limit(Duration::from_millis(50));
    let mut site = Site::over(store.build().unwrap()).await;
    site.fill("one").await;
    let looks = server.calls().await["hget"];
    until(PATIENCE, "it is read again, and again", async || {
        site.hits("one").await;
        (server.calls().await["hget"] > looks + 2).then_some(())
    })
    .await;
}

/// The lease is at the key, and a message that another field there has changed does not void it.
#[tokio::test]
async fn a_message_does_not_void_a_fill() {
    let server = Server::start().await;
    let mut site = Site::near(&server.url()).await;
    let mut other = Site::near(&server.url()).await;
    let filling = send(&site.cache, get("/cases/1?page=1"));
    let call = site.calls.next().await;
    // The follower has read the key once more, and gets a message when it changes.
    let looks = site.lookups();
    let following = send(&site.cache, get("/cases/1?page=1"));
    until(PATIENCE, "the follower has looked", async || (site.lookups() > looks).then_some(()))
        .await;
    let pushes = site.store().near.pushes;
    assert_eq!(other.ask(get("/cases/1?page=2"), "two").await.text(), "two");
    until(PATIENCE, "the message is here", async || {
        (site.store().near.pushes > pushes).then_some(())
    })
    .await;
    call.ok("one");
    assert_eq!(got(filling).await.text(), "one");
    assert_eq!(got(following).await.text(), "one");
    let read = other.ask(get("/cases/1?page=1"), "not stored").await;
    assert_eq!((read.text(), read.is_hit()), ("one", true));
}

/// Without messages there is no near cache, and the rest works.
#[tokio::test]
async fn a_server_that_tells_nothing_has_no_near_cache() {
    let (tracking, client, resp3) = ("-client|tracking", "-client", "+@all");
    for rules in [tracking, client, resp3] {
        let renamed = [("rename-command", "HELLO HELLO-OF-THE-FUTURE")];
        let server = Server::with(if rules == resp3 { &renamed } else { &[] }).await;
        let user = ["ACL", "SETUSER", "cache", "on", ">secret", "~*", "+@all", rules];
        server.run(&user).await;
        let store = near(&server.url()).username("cache").password("secret");
        let mut site = Site::over(store.build().unwrap()).await;
        site.fill("one").await;
        for _ in 0..3 {
            site.hits("one").await;
        }
        let store = site.store();
        assert_eq!((store.near.hits, store.near.is_proven), (0, false), "{rules}");
        server.run(&["DEL", "case:1"]).await;
        assert_eq!(site.read("two").await.text(), "two", "{rules}");
    }
}

#[tokio::test]
async fn slow_lookups_open_the_breaker_and_a_heartbeat_closes_it() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let store = RedisStore::builder(proxy.url())
        .near_cache_capacity(0)
        .invalidate_budget(PATIENCE)
        .lookup_budget(Duration::from_millis(20))
        .breaker(3)
        .heartbeat(HEARTBEAT)
        .heartbeat_timeout(Duration::from_secs(8));
    let mut site = Site::over(store.build().unwrap()).await;
    site.fill("one").await;
    proxy.freeze();
    let timed_out = |site: &Site| site.store().operations[&Operation::Lookup].timed_out;
    until(PATIENCE, "the breaker opens", async || {
        assert_eq!(site.read("origin").await.text(), "origin");
        site.store().is_breaker_open.then_some(())
    })
    .await;
    let slow = timed_out(&site);
    for _ in 0..10 {
        assert_eq!(site.read("origin").await.text(), "origin");
    }
    assert_eq!(timed_out(&site), slow, "nothing is asked while it is open");
    assert!(site.store().is_linked);
    proxy.thaw();
    until(PATIENCE, "the breaker closes", async || (!site.store().is_breaker_open).then_some(()))
        .await;
    site.hits("one").await;
}

/// A copy is used for a shorter time than its entry is fresh. Only the end of the latter starts a refresh.
#[tokio::test]
async fn a_copy_that_is_read_again_soon_is_not_refreshed_early() {
    let server = Server::start().await;
    let store = near(&server.url()).near_cache_limit(Duration::from_millis(50));
    let early = |route: CacheRoute| route.ttl(TTL).early_refresh(1.0);
    let mut site = Site::lazy(store.build().unwrap(), early).linked().await;
    let first = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    // As long as a copy is used: with so slow an origin each hit on one would be near its end.
    pause(Duration::from_millis(50)).await;
    call.ok("one");
    assert_eq!(got(first).await.text(), "one");
    let looks = server.calls().await["hget"];
    until(PATIENCE, "it is read again, and again", async || {
        let read = got(send(&site.cache, get("/cases/1"))).await;
        assert_eq!((read.text(), read.is_hit()), ("one", true), "{}", read.cache_status());
        (server.calls().await["hget"] > looks + 5).then_some(())
    })
    .await;
    assert!(site.calls.now().await.is_none(), "it is not refreshed");
}

#[tokio::test]
async fn a_copy_whose_time_is_over_at_once_is_fresh_all_the_same() {
    let server = Server::start().await;
    let store = near(&server.url()).near_cache_limit(Duration::from_nanos(1));
    let stale = |route: CacheRoute| route.stale_while_revalidate(TTL);
    let mut site = Site::lazy(store.build().unwrap(), stale).linked().await;
    site.fill("one").await;
    for _ in 0..5 {
        let read = site.read("not asked").await;
        assert!(!read.cache_status().contains("stale"), "{}", read.cache_status());
        assert_eq!((read.text(), read.is_hit()), ("one", true));
    }
}
