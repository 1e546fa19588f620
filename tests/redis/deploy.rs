//! A rolling deploy: processes with other rules join, old ones leave, and requests go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::task::{JoinSet, yield_now};
use tower_support_cache::{CacheRoute, InvalidateRoute, Routes, SupportCacheHandle};

use crate::{
    Site, patient,
    server::{PATIENCE, Server, until},
    support::{Cached, GatedBody, TTL, fetch, request, send},
};

const READERS: usize = 8;
const CASES: usize = 5;

/// State of the service: a version for all cases, which every write raises.
#[derive(Default)]
struct Truth {
    version: AtomicU64,
    /// The newest version whose write has been answered.
    acknowledged: AtomicU64,
}

/// A process under load, and what its responses say of where they were made.
struct Process {
    handle: SupportCacheHandle,
    clients: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
}

impl Process {
    /// Starts a process whose rules have this name: `old` or `new`.
    async fn start(server: &Server, rules: &'static str, truth: &Arc<Truth>) -> Self {
        let route = |route: CacheRoute| match rules {
            "old" => route,
            _ => route.statuses([StatusCode::OK]),
        };
        let site = Site::lazy(patient(&server.url()).build().unwrap(), route).linked().await;
        let at_origin = Arc::clone(truth);
        site.calls.serve(move |head| {
            let version = match head.method {
                Method::POST => at_origin.version.fetch_add(1, Ordering::SeqCst) + 1,
                _ => at_origin.version.load(Ordering::SeqCst),
            };
            http::Response::new(GatedBody::full(format!("{rules} {version}")))
        });
        let mut process = Self {
            handle: site.handle,
            clients: JoinSet::new(),
            is_over: Arc::default(),
            reads: Arc::default(),
        };
        for reader in 0..READERS {
            let is_over = Arc::clone(&process.is_over);
            let reads = Arc::clone(&process.reads);
            let (cache, truth) = (site.cache.clone(), Arc::clone(truth));
            process.clients.spawn(async move {
                let mut number = reader;
                while !is_over.load(Ordering::SeqCst) {
                    number += 1;
                    read(&cache, number % CASES, (rules, &truth)).await;
                    if number.is_multiple_of(64) {
                        write(&cache, &truth).await;
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                    yield_now().await;
                }
            });
        }
        process
    }

    /// Waits until it has answered more, from its store as well.
    async fn goes_on(&self) {
        let counts = || self.handle.metrics().bucket("cases").unwrap().hits;
        let (reads, hits) = (self.reads.load(Ordering::SeqCst), counts());
        until(PATIENCE, "requests are answered", async || {
            let more = self.reads.load(Ordering::SeqCst) - reads;
            (more >= 300 && counts() > hits).then_some(())
        })
        .await;
    }

    /// Stops as a service does that is told to: its requests end, and what it owes is sent.
    async fn leave(mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.expect("no request fails, and none is answered with what is old");
        }
        self.handle.flush_pending(PATIENCE).await.unwrap();
    }
}

async fn read(
    cache: &Cached<tower_support_cache::RedisStore>,
    case: usize,
    (rules, truth): (&str, &Truth),
) {
    let acknowledged = truth.acknowledged.load(Ordering::SeqCst);
    let got = fetch(cache, &format!("/cases/{case}")).await;
    assert_eq!(got.status, 200);
    let (made_by, version) = got.text().split_once(' ').unwrap();
    assert_eq!(made_by, rules, "{}", got.cache_status());
    let version: u64 = version.parse().unwrap();
    assert!(version >= acknowledged, "{version} after {acknowledged}: {}", got.cache_status());
}

/// Writes to all cases; what was there before may not be read once the last has been answered.
async fn write(cache: &Cached<tower_support_cache::RedisStore>, truth: &Truth) {
    let mut version = u64::MAX;
    for case in 0..CASES {
        let comment = request(Method::POST, &format!("/cases/{case}/comments"));
        let got = send(cache, comment).await.unwrap().unwrap();
        assert_eq!(got.status, 200);
        version = version.min(got.text().split_once(' ').unwrap().1.parse().unwrap());
    }
    truth.acknowledged.fetch_max(version, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deploy_fails_no_request_and_nothing_old_is_read() {
    let server = Server::start().await;
    let truth = Arc::default();
    let first = Process::start(&server, "old", &truth).await;
    let second = Process::start(&server, "old", &truth).await;
    first.goes_on().await;
    let third = Process::start(&server, "new", &truth).await;
    third.goes_on().await;
    first.leave().await;
    let fourth = Process::start(&server, "new", &truth).await;
    for process in [&second, &third, &fourth] {
        process.goes_on().await;
    }
    second.leave().await;
    third.goes_on().await;
    third.leave().await;
    fourth.leave().await;
    assert!(truth.acknowledged.load(Ordering::SeqCst) > 0);
}

/// A new version of the service may change lifetimes, and finds what the old one has stored.
#[tokio::test]
async fn versions_with_other_lifetimes_share_what_is_stored_and_each_keeps_to_its_own() {
    let server = Server::start().await;
    for near in [0, 1024 * 1024] {
        let site = |ttl| {
            let store = patient(&server.url()).near_cache_capacity(near).build().unwrap();
            Site::lazy(store, move |route| route.ttl(Duration::from_secs(ttl))).linked()
        };
        let (mut long, mut short) = (site(600).await, site(3).await);
        long.handle.invalidate("case:1").await.unwrap();
        long.fill("old").await;
        short.hits("old").await;
        let ttl = |status: &str| status.rsplit('=').next().unwrap().parse::<u64>().unwrap();
        assert!(ttl(short.read("-").await.cache_status()) < 3);
        assert!(ttl(long.read("-").await.cache_status()) > 500);
        until(PATIENCE, "its own lifetime is over", async || {
            (short.read("new").await.text() == "new").then_some(())
        })
        .await;
        assert_eq!(short.counts().alone.len(), 0, "it asks for all, and stores");
        long.fill("new").await;
        assert_eq!(long.counts().stored, 1);
    }
}

/// Routes of a deploy: the key that is read, and the keys that each write invalidates.
fn routes(read: &str, written: &[&str]) -> Routes {
    let cached = CacheRoute::get("/cases/{case}").bucket("cases").key(read).ttl(TTL);
    let rules = [
        InvalidateRoute::post("/cases/{case}/comments"),
        InvalidateRoute::any_unsafe("/cases/{case}"),
    ];
    let with_keys = |rule| written.iter().fold(rule, |rule: InvalidateRoute, key| rule.key(*key));
    rules
        .into_iter()
        .fold(Routes::new().cache(cached), |routes, rule| routes.invalidate(with_keys(rule)))
}

/// The guide's two deploys, each reloaded by one process after the other. Whatever version a process runs, a
/// write through it is seen by all.
#[tokio::test]
async fn a_key_is_changed_by_two_deploys_and_no_write_is_missed_between() {
    const OLD: &str = "case:{case}";
    const NEW: &str = "renamed:{case}";
    let server = Server::start().await;
    let mut sites = [Site::on(&server.url()).await, Site::on(&server.url()).await];
    let deploys = [
        || routes(OLD, &[OLD]),
        || routes(OLD, &[OLD, NEW]),
        || routes(NEW, &[OLD, NEW]),
        || routes(NEW, &[NEW]),
    ];
    let mut version = 0;
    for deploy in deploys {
        for reloaded in 0..2 {
            sites[reloaded].handle.reload(deploy()).unwrap();
            for (writer, target) in [(0, "/cases/1"), (1, "/cases/1/comments")] {
                // Versions have one digit.
                let bodies = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
                let body = bodies[version % bodies.len()];
                version += 1;
                let written = sites[writer].ask(request(Method::POST, target), "written").await;
                assert_eq!(written.text(), "written");
                for site in &mut sites {
                    site.fill(body).await;
                }
            }
        }
    }
}

/// Reloads in one process keep what all have stored.
#[tokio::test]
async fn a_reload_keeps_what_is_stored_at_the_server_and_in_the_near_cache() {
    let server = Server::start().await;
    for near in [0, 1024 * 1024] {
        let site = || {
            let store = patient(&server.url()).near_cache_capacity(near).build().unwrap();
            Site::lazy(store, |route| route).linked()
        };
        let (mut reloaded, mut other) = (site().await, site().await);
        other.handle.invalidate("case:1").await.unwrap();
        other.fill("kept").await;
        reloaded.hits("kept").await;
        for ttl in [30, 90] {
            let route = CacheRoute::get("/cases/{id}").bucket("cases").key("case:{id}");
            let route = route.ttl(Duration::from_secs(ttl));
            reloaded.handle.reload(Routes::new().cache(route)).unwrap();
            reloaded.hits("kept").await;
            other.hits("kept").await;
        }
        assert_eq!((reloaded.counts().stored, other.counts().stored), (0, 1));
        other.handle.invalidate("case:1").await.unwrap();
        other.fill("newer").await;
        until(PATIENCE, "the near cache has the message", async || {
            (reloaded.read("-").await.text() == "newer").then_some(())
        })
        .await;
    }
}

/// The time between two equal sets of rules may have seen writes that only others know of.
#[tokio::test]
async fn a_route_that_comes_back_uses_no_record_from_before() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let routes = |key| {
        Routes::new().cache(CacheRoute::get("/cases/{case}").bucket("cases").key(key).ttl(TTL))
    };
    site.handle.reload(routes("case:{case}")).unwrap();
    site.fill("old").await;
    site.handle.reload(routes("renamed:{case}")).unwrap();
    site.ask(request(Method::PUT, "/cases/1"), "written").await;
    site.handle.reload(routes("case:{case}")).unwrap();
    site.fill("new").await;
}
