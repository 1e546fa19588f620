//! Fills soon after an invalidation by another process: their handler is told.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tower::Layer;
use tower_support_cache::{
    CacheRoute, InvalidateRoute, RedisStoreBuilder, Refill, Store, SupportCacheLayer,
    testing::{Chaos, Fault, StoreCall},
};

use crate::{
    Site,
    clock::{HOUR, measured},
    far, patient,
    proxy::Proxy,
    replica::{Database, Process, Reads, Times, live},
    server::{Disk, PATIENCE, Server, pause, until},
    support::{TTL, get, got, origin, send},
};

/// A settling time that no test outlasts.
const LONG: Duration = Duration::from_secs(600);
const MARKS: &str = "tower-support-cache:invalidated:*";
const MARK: &str = "tower-support-cache:invalidated:key:case:1";

fn layer_over<St: Store>(store: St, settle: Duration) -> SupportCacheLayer<St> {
    let mut route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").tag("all");
    if !settle.is_zero() {
        route = route.settle(settle);
    }
    SupportCacheLayer::builder(store)
        .cache(route.ttl(TTL).jitter(0).stale_while_revalidate(TTL))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap()
}

/// A process that is linked. It has invalidated another key for that.
async fn site(store: RedisStoreBuilder) -> Site {
    Site::of(&layer_over(store.build().unwrap(), LONG)).linked().await
}

async fn two(server: &Server) -> (Site, Site) {
    (site(patient(&server.url())).await, site(patient(&server.url())).await)
}

impl Site {
    /// Reads `/cases/1`, for which the origin is asked, and returns whether its handler was told.
    async fn is_told(&mut self) -> bool {
        until(PATIENCE, "the store is asked", async || {
            let reading = send(&self.cache, get("/cases/1"));
            let call = self.calls.next().await;
            let is_told = call.head.extensions.get::<Refill>().is_some();
            call.ok("body");
            // On a busy machine there may be no link for a moment.
            let is_asked = !got(reading).await.cache_status().ends_with("detail=store");
            is_asked.then_some(is_told)
        })
        .await
    }
}

#[tokio::test]
async fn a_handler_is_told_of_what_another_process_has_invalidated() {
    for how in ["key", "tag", "all", "softly", "tag softly"] {
        let server = Server::start().await;
        let (one, mut other) = two(&server).await;
        assert!(!other.is_told().await, "nothing was invalidated");
        let acknowledged = match how {
            "key" => one.handle.invalidate("case:1").await,
            "tag" => one.handle.invalidate_tag("all").await,
            "all" => one.handle.invalidate_all().await,
            "softly" => one.handle.soft_invalidate("case:1").await,
            _ => one.handle.soft_invalidate_tag("all").await,
        };
        acknowledged.unwrap();
        if how.ends_with("softly") {
            other.is_stale("body").await;
        }
        assert!(other.is_told().await, "{how}");
        // A process that begins later, too.
        let mut third = site(patient(&server.url())).await;
        server.run(&["DEL", "case:1"]).await;
        assert!(third.is_told().await, "{how}");
        assert_eq!(other.counts().refills, 1, "{how}");
    }
}

#[tokio::test]
async fn a_mark_is_there_for_the_settling_time_and_none_without() {
    let server = Server::start().await;
    let (one, mut other) = two(&server).await;
    one.handle.invalidate("case:1").await.unwrap();
    let left = server.command::<u64>(&["PTTL", MARK]).await;
    assert!((570_000..=600_000).contains(&left), "{left} ms");
    server.run(&["DEL", MARK]).await;
    assert!(!other.is_told().await, "the time is over");

    let server = Server::start().await;
    let plain = layer_over(patient(&server.url()).build().unwrap(), Duration::ZERO);
    let mut plain = Site::of(&plain).linked().await;
    plain.handle.invalidate("case:1").await.unwrap();
    assert!(!plain.is_told().await);
    let marks: Vec<String> = server.command(&["KEYS", MARKS]).await;
    assert!(marks.is_empty(), "{marks:?}");
}

/// A fill that gets its right in between has to find it.
#[tokio::test]
async fn a_mark_is_there_before_the_key_is_gone() {
    let server = Server::start().await;
    let mut one = site(patient(&server.url())).await;
    one.is_told().await;
    let mut monitor = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    monitor.write_all(b"MONITOR\r\n").await.unwrap();
    let mut lines = BufReader::new(monitor).lines();
    lines.next_line().await.unwrap();
    one.handle.invalidate("case:1").await.unwrap();
    one.handle.invalidate_tag("all").await.unwrap();
    let mut changes = Vec::new();
    while changes.len() < 4 {
        let line = lines.next_line().await.unwrap().unwrap();
        let is_change = line.contains("\"SET\"") || line.contains("\"UNLINK\"");
        let is_own = line.contains("case:1") || line.contains("tag:all");
        changes.extend(Some(line.contains("invalidated:")).filter(|_| is_change && is_own));
    }
    assert_eq!(changes, [true, false, true, false]);
}

/// It gets its right after the invalidation, and has looked for a mark only then.
#[tokio::test]
async fn a_fill_looks_for_marks_once_it_has_its_right() {
    let server = Server::start().await;
    let client = redis::Client::open(server.url()).unwrap();
    let store = patient(&server.url()).build().unwrap();
    let chaos = Chaos::new(store, move |call, _| {
        // Just before it asks for its right.
        if call == StoreCall::Begin {
            let mut connection = client.get_connection().unwrap();
            redis::cmd("SET").arg(MARK).arg("at any time").exec(&mut connection).unwrap();
            redis::cmd("DEL").arg("case:1").exec(&mut connection).unwrap();
        }
        Fault::None
    });
    let (origin, mut calls) = origin();
    let cache = layer_over(chaos, LONG).layer(origin);
    until(PATIENCE, "it has a right", async || {
        let reading = send(&cache, get("/cases/1"));
        let call = calls.next().await;
        let is_told = call.head.extensions.get::<Refill>().is_some();
        call.ok("body");
        let is_stored = got(reading).await.cache_status().ends_with(";stored");
        assert!(is_told || !is_stored);
        is_stored.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_invalidation_that_is_delivered_later_leaves_a_mark() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let one = site(far(&link.url())).await;
    let mut other = site(patient(&server.url())).await;
    link.freeze();
    assert!(one.handle.invalidate("case:1").await.is_err());
    // What was sent is lost.
    link.cut();
    link.thaw();
    one.handle.flush_pending(PATIENCE).await.expect("it is delivered");
    assert!(other.is_told().await);
}

/// The marks are gone with it, and there may have been some of other processes.
#[tokio::test]
async fn after_a_server_has_lost_everything_each_fill_is_told() {
    let mut server = Server::start().await;
    let mut one = site(patient(&server.url())).await;
    assert!(!one.is_told().await);
    for is_flushed in [true, false] {
        if is_flushed {
            server.run(&["FLUSHALL"]).await;
        } else {
            server.kill();
            server.restart(Disk::Empty).await;
            one.is_linked_again().await;
        }
        until(PATIENCE, "it is noticed", async || {
            let is_told = one.is_told().await;
            server.run(&["DEL", "case:1"]).await;
            is_told.then_some(())
        })
        .await;
        one = site(patient(&server.url())).await;
    }
}

#[tokio::test]
async fn a_server_without_room_still_takes_the_mark() {
    let server = Server::start().await;
    let (one, mut other) = two(&server).await;
    server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    one.handle.invalidate("case:1").await.unwrap();
    server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(other.is_told().await);
}

/// A user may be allowed to do less than it takes.
#[tokio::test]
async fn a_mark_that_is_refused_hinders_no_invalidation() {
    let server = Server::start().await;
    let keys = ["~case:*", "~another", "~tower-support-cache:epoch", "~tower-support-cache:tag:*"];
    let more = ["~tower-support-cache:unsettled:*", "~tower-support-cache:heartbeats:*"];
    let mut words = vec!["ACL", "SETUSER", "cache", "reset", "on", ">secret", "+@all", "&*"];
    words.extend(keys.iter().chain(&more));
    server.run(&words).await;
    let store = patient(&server.url()).username("cache").password("secret");
    let mut one = site(store).await;
    let mut other = site(patient(&server.url())).await;
    other.is_told().await;
    other.hits("body").await;
    one.handle.invalidate("case:1").await.unwrap();
    assert!(!other.is_told().await, "it is gone, without a mark");
    server.run(&["DEL", "case:1"]).await;
    assert!(one.is_told().await, "it has done so itself, and cannot read the marks of others");
}

#[tokio::test]
async fn a_clock_that_is_set_back_hides_no_invalidation() {
    let mut server = Server::with_clock().await;
    let (one, mut other) = two(&server).await;
    one.handle.invalidate("case:1").await.unwrap();
    server.step_clock(-HOUR);
    measured(&other).await;
    assert!(other.is_told().await);
    // Nor does the mark stay for an hour more once there is another.
    one.handle.invalidate("case:1").await.unwrap();
    let left = server.command::<u64>(&["PTTL", MARK]).await;
    assert!(left <= 600_000, "{left} ms");
}

/// Two processes over one database whose replica lags, and one server.
async fn outdated(settle: Duration, lag: Duration, reads: Reads) -> Duration {
    let server = Server::start().await;
    let database = Database::new(Times { lag, settle }, reads, 20_261_130);
    let mut processes = Vec::new();
    for _ in 0..2 {
        let process = Process::new(&database, patient(&server.url()).build().unwrap());
        until(PATIENCE, "there is a link", async || process.handle.invalidate("r:none").await.ok())
            .await;
        processes.push(process);
    }
    live(&processes, 600, async |part| pause(Duration::from_micros(part * 200)).await).await;
    let hits: u64 = processes.iter().map(Process::hits).sum();
    println!("{reads:?}: {:?}, told {}, {hits} hits", database.outdated(), database.told());
    assert!(hits > 200, "a cache that only forwards proves nothing");
    database.outdated()
}

#[tokio::test]
async fn handlers_that_read_the_primary_where_they_are_told_fill_with_nothing_outdated() {
    let lag = Duration::from_millis(300);
    assert_eq!(outdated(2 * lag, lag, Reads::Heeding).await, Duration::ZERO);
}

#[tokio::test]
async fn with_a_settling_time_alone_reads_are_outdated_for_no_longer_than_that_and_the_lag() {
    let lag = Duration::from_millis(300);
    let outdated = outdated(2 * lag, lag, Reads::Heedless).await;
    assert!(!outdated.is_zero(), "the replica does lag");
    assert!(outdated <= 3 * lag, "{outdated:?}");
}
