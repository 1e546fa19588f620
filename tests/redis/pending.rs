//! Promise 6: an invalidation that could not be delivered is not lost while the process lives.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use http::Method;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};
use tower_support_cache::{CacheRoute, Invalidated, SupportCacheLayer};

use crate::{
    Site,
    dialect::{FAR, Imitation},
    far,
    proxy::Proxy,
    server::{Disk, PATIENCE, Server, until},
    support::{TTL, get, got, request, send},
};

/// Not long enough for what does not happen, and long enough to see that.
const BRIEFLY: Duration = Duration::from_millis(150);

/// One process behind a link that can fail, and another that reaches the server always.
struct Pair {
    server: Server,
    link: Proxy,
    site: Site,
    other: Site,
}

impl Pair {
    async fn new() -> Self {
        let server = Server::start().await;
        let link = Proxy::to(server.port).await;
        let (site, other) = (Site::prompt(&link.url()).await, Site::on(&server.url()).await);
        Self { server, link, site, other }
    }

    /// The other process finds nothing old any more.
    async fn is_delivered(&mut self) {
        until(PATIENCE, "the invalidation reaches the server", async || {
            (self.other.read("new").await.text() == "new").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_invalidation_while_redis_is_away_is_pending_and_then_delivered() {
    let mut pair = Pair::new().await;
    pair.site.fill("old").await;
    pair.link.freeze();
    assert!(pair.site.handle.invalidate("case:1").await.is_err());
    assert_eq!(pair.site.store().pending, 1);
    assert_eq!(pair.site.read("from the origin").await.text(), "from the origin");
    assert!(pair.site.handle.flush_pending(BRIEFLY).await.is_err());
    pair.other.hits("old").await;
    pair.link.thaw();
    pair.site.handle.flush_pending(PATIENCE).await.expect("it is delivered");
    assert_eq!(pair.site.store().pending, 0);
    assert_eq!(pair.other.read("new").await.text(), "new");
    pair.site.hits("new").await;
}

/// Until then another process may answer with the old response, and so fill the CDN with it.
#[tokio::test]
async fn the_hook_is_given_an_invalidation_once_the_server_has_acknowledged_it() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let (passed_on, mut purged) = unbounded_channel();
    let layer = SupportCacheLayer::builder(far(&link.url()).build().unwrap())
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL))
        .invalidation_hook(move |invalidated: Invalidated| {
            let key = invalidated.surrogate_key().map(|key| key.into_owned());
            passed_on.send(key).unwrap();
            std::future::ready(())
        })
        .build()
        .unwrap();
    let site = Site::of(&layer).linked().await;
    site.handle.flush_pending(PATIENCE).await.unwrap();
    link.freeze();
    assert!(site.handle.invalidate("case:1").await.is_err());
    assert!(site.handle.invalidate("case:2").await.is_err());
    assert!(timeout(BRIEFLY, next(&mut purged, "case:1")).await.is_err());
    assert!(site.handle.metrics().hook_pending >= 2);
    link.thaw();
    for key in ["case:1", "case:2"] {
        timeout(PATIENCE, next(&mut purged, key)).await.expect("it is passed on");
    }
}

/// Waits for the invalidation of a key, after those by which the link was tried.
async fn next(purged: &mut UnboundedReceiver<Option<String>>, key: &str) {
    while let Some(purged) = purged.recv().await {
        match purged.as_deref() {
            Some("another") => {}
            purged => return assert_eq!(purged, Some(key)),
        }
    }
}

#[tokio::test]
async fn with_nothing_pending_there_is_nothing_to_wait_for() {
    let mut pair = Pair::new().await;
    pair.site.fill("old").await;
    pair.link.freeze();
    pair.site.handle.flush_pending(Duration::ZERO).await.expect("nothing is pending");
}

/// The link is back before the invalidation is delivered: reads have to wait for that.
#[tokio::test]
async fn a_key_is_bypassed_until_its_invalidation_is_acknowledged() {
    let mut pair = Pair::new().await;
    pair.site.fill("old").await;
    // Deletions fail, and all else works.
    pair.server.run(&["ACL", "SETUSER", "default", "-unlink", "-del"]).await;
    assert!(pair.site.handle.invalidate("case:1").await.is_err());
    for _ in 0..3 {
        let read = pair.site.read("from the origin").await;
        assert_eq!(read.text(), "from the origin");
        assert!(!read.cache_status().contains("stored"), "{}", read.cache_status());
    }
    let another = pair.site.ask(get("/cases/2"), "two").await;
    assert_eq!(another.text(), "two");
    pair.server.run(&["ACL", "SETUSER", "default", "+unlink", "+del"]).await;
    pair.site.handle.flush_pending(PATIENCE).await.unwrap();
    pair.site.fill("new").await;
}

#[tokio::test]
async fn an_invalidation_that_was_dropped_is_delivered() {
    let mut pair = Pair::new().await;
    for polls in [0, 1, 2] {
        pair.server.run(&["DEL", "case:1"]).await;
        pair.site.fill("old").await;
        pair.link.freeze();
        {
            let mut invalidation = pin!(pair.site.handle.invalidate("case:1"));
            for _ in 0..polls.max(1) {
                poll_fn(|cx| Poll::Ready(invalidation.as_mut().poll(cx).is_ready())).await;
            }
        }
        pair.link.thaw();
        pair.is_delivered().await;
    }
}

#[tokio::test]
async fn a_write_while_redis_is_away_is_answered_and_its_invalidation_delivered() {
    let mut pair = Pair::new().await;
    pair.site.fill("old").await;
    pair.link.freeze();
    let writing = send(&pair.site.cache, request(Method::POST, "/cases/1/comments"));
    pair.site.calls.next().await.with(201, ("x", "y"), "");
    assert_eq!(got(writing).await.status, 201);
    assert_eq!(pair.site.read("new").await.text(), "new");
    pair.link.thaw();
    pair.is_delivered().await;
}

#[tokio::test]
async fn an_invalidation_of_everything_while_redis_is_away_is_delivered() {
    let mut pair = Pair::new().await;
    pair.site.fill("old").await;
    pair.link.freeze();
    assert!(pair.site.handle.invalidate_all().await.is_err());
    assert_eq!(pair.site.read("from the origin").await.text(), "from the origin");
    pair.link.thaw();
    pair.site.handle.flush_pending(PATIENCE).await.expect("it is delivered");
    assert_eq!(pair.other.read("new").await.text(), "new");
}

#[tokio::test]
async fn an_invalidation_outlives_the_death_of_the_server() {
    let mut server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("old").await;
    server.save().await;
    server.kill();
    assert!(site.handle.invalidate("case:1").await.is_err());
    server.restart(Disk::Kept).await;
    site.handle.flush_pending(PATIENCE).await.expect("it is delivered");
    assert_eq!(server.command::<u64>(&["EXISTS", "case:1"]).await, 0);
    site.fill("new").await;
}

/// Each takes a round trip. One after the other they would keep a heartbeat waiting, and with it every read.
#[tokio::test]
async fn many_invalidations_for_a_server_that_is_far_keep_no_heartbeat_waiting() {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, FAR).await;
    let mut site = Site::on(&imitation.url()).await;
    site.fill("one").await;
    for number in 0..400 {
        let mut call = pin!(site.handle.invalidate(format!("many:{number}")));
        // Dropped on its way, it is due.
        poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    }
    while site.store().pending > 0 {
        site.hits("one").await;
    }
}
