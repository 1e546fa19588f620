//! Many requests of several processes for one key that nobody has stored.

use std::time::Duration;

use tower_support_cache::CacheRoute;

use crate::{
    Site, patient,
    server::{PATIENCE, Server, pause, until},
    support::{Call, Sent, TTL, get, got, send},
};

const REQUESTS: usize = 50;

/// Two processes, and as many requests of each.
struct Crowd {
    sites: [Site; 2],
    sent: Vec<Sent>,
}

impl Crowd {
    async fn on(server: &Server, near_capacity: u64) -> Self {
        let store = || patient(&server.url()).near_cache_capacity(near_capacity).build().unwrap();
        let sites = [Site::over(store()).await, Site::over(store()).await];
        let send = |_| sites.iter().map(|site| send(&site.cache, get("/cases/1")));
        let sent = (0..REQUESTS).flat_map(send).collect();
        Self { sites, sent }
    }

    async fn first_call(&mut self) -> Call {
        let [site, other] = &mut self.sites;
        tokio::select! {
            call = site.calls.next() => call,
            call = other.calls.next() => call,
        }
    }

    fn calls(&self) -> usize {
        self.sites.iter().map(|site| site.calls.count()).sum()
    }

    async fn makes_one_call(mut self) {
        self.first_call().await.ok("one");
        for request in self.sent.drain(..) {
            assert_eq!(got(request).await.text(), "one");
        }
        assert_eq!(self.calls(), 1);
    }
}

#[tokio::test]
async fn two_processes_make_one_call_where_messages_wake_them() {
    Crowd::on(&Server::start().await, 1 << 20).await.makes_one_call().await;
}

#[tokio::test]
async fn two_processes_make_one_call_where_they_look_by_themselves() {
    Crowd::on(&Server::start().await, 0).await.makes_one_call().await;
}

/// Not one after the other: each waits no longer than for the first.
#[tokio::test]
async fn what_may_not_be_stored_makes_no_convoy() {
    let mut crowd = Crowd::on(&Server::start().await, 0).await;
    crowd.first_call().await.with(200, ("cache-control", "no-store"), "private");
    // Nobody else is answered until all have asked.
    until(PATIENCE, "all forward at once", async || (crowd.calls() == 2 * REQUESTS).then_some(()))
        .await;
    for site in &mut crowd.sites {
        for call in site.calls.all().await {
            call.with(200, ("cache-control", "no-store"), "private");
        }
    }
    for request in crowd.sent {
        assert_eq!(got(request).await.text(), "private");
    }
}

/// It is remembered for all: a process that has not asked yet waits for nobody.
#[tokio::test]
async fn what_may_not_be_stored_is_known_to_other_processes() {
    let server = Server::start().await;
    let (mut site, other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let first = send(&site.cache, get("/cases/1"));
    site.calls.next().await.with(200, ("cache-control", "no-store"), "private");
    got(first).await;
    let mut requests = Vec::new();
    for number in 1..=3 {
        requests.push(send(&other.cache, get("/cases/1")));
        until(PATIENCE, "it is forwarded beside the others", async || {
            (other.calls.count() == number).then_some(())
        })
        .await;
    }
    let calls = server.calls().await["evalsha"];
    assert_eq!(calls, 3, "the first one's lease and commit, and the lease of one that tries again");
    drop(requests);
}

/// A waiter beside a stale response asks as seldom as any other.
#[tokio::test]
async fn who_waits_beside_what_is_stale_asks_no_more_than_others() {
    let server = Server::start().await;
    let store = || patient(&server.url()).build().unwrap();
    let stale = |route: CacheRoute| route.stale_if_error(TTL);
    let mut site = Site::lazy(store(), stale).linked().await;
    let other = Site::lazy(store(), stale).linked().await;
    site.fill("old").await;
    site.handle.soft_invalidate("case:1").await.unwrap();
    let filling = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    let before = server.calls().await["hmget"];
    let waiting = send(&other.cache, get("/cases/1"));
    pause(Duration::from_millis(500)).await;
    let asked = server.calls().await["hmget"] - before;
    assert!((1..40).contains(&asked), "{asked} looks in half a second");
    call.ok("new");
    assert_eq!(got(filling).await.text(), "new");
    assert_eq!(got(waiting).await.text(), "new");
    assert_eq!(other.calls.count(), 0);
}
