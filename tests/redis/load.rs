//! Many requests: commands of a hit, and waits while the server is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use tower_support_cache::{Bypass, Operation};

use crate::{
    Site,
    proxy::Proxy,
    server::{Disk, PATIENCE, Server, pause, until},
    support::{fetch, get, got, response, send},
};

const CLIENTS: usize = 50;

#[tokio::test]
async fn a_hit_is_one_command() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("one").await;
    let before = server.calls().await;
    for _ in 0..200 {
        site.hits("one").await;
    }
    let after = server.calls().await;
    let more = |command: &str| {
        after.get(command).copied().unwrap_or_default()
            - before.get(command).copied().unwrap_or_default()
    };
    assert_eq!(more("hget"), 200);
    for command in ["evalsha", "eval", "hmget", "hset", "hdel", "exists", "pexpire", "unlink"] {
        assert_eq!(more(command), 0, "{command}");
    }
    // All that is left is the heartbeat's, and our own question.
    let beats = more("time");
    let others = after.keys().filter(|command| *command != "hget").map(|command| more(command));
    assert!(others.sum::<u64>() <= 6 * (beats + 2), "{after:?}");
}

/// And where several are made at once, as many commands as there are resources. What is wrong with one
/// of them is no matter to the others.
#[tokio::test]
async fn looks_at_one_moment_are_one_command() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let target = |case: usize| get(&format!("/cases/{}", case % 4));
    for case in 0..3 {
        site.ask(target(case), ["zero", "one", "two"][case]).await;
    }
    server.run(&["SET", "case:3", "theirs"]).await;
    let before = server.calls().await["hget"];
    let reading: Vec<_> = (0..40).map(|case| send(&site.cache, target(case))).collect();
    for (case, reading) in reading.into_iter().enumerate() {
        if case % 4 == 3 {
            site.calls.next().await.ok("origin");
        }
        let read = got(reading).await;
        assert_eq!(read.text(), ["zero", "one", "two", "origin"][case % 4], "{case}");
        assert_eq!(read.is_hit(), case % 4 != 3);
    }
    assert_eq!(server.calls().await["hget"] - before, 4);
    assert_eq!(site.store().foreign, 1);
}

#[tokio::test]
async fn a_miss_is_four_commands() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("one").await;
    let before = server.calls().await;
    for case in 100..150 {
        let uri = format!("/cases/{case}");
        assert!(site.ask(crate::support::get(&uri), "x").await.cache_status().ends_with("stored"));
    }
    let after = server.calls().await;
    let more = |command: &str| after[command] - before[command];
    assert_eq!(more("evalsha"), 100, "a lease and a commit");
    // The scripts' own commands are counted as well: one look in each.
    assert_eq!(more("hget"), 100, "a look at what is in force, and one in the commit");
    assert_eq!(more("hmget"), 100, "a look at who fills, and one in the lease");
}

/// Clients that send requests without a pause, until they are told to stop.
struct Load {
    clients: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Load {
    fn on(site: &Site) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (cache, is_over) = (site.cache.clone(), Arc::clone(&is_over));
            let answered: Arc<AtomicUsize> = Arc::clone(&answered);
            clients.spawn(async move {
                let mut number = client;
                while !is_over.load(Ordering::SeqCst) {
                    number += 7;
                    let got = fetch(&cache, &format!("/cases/{}", number % 20)).await;
                    assert_eq!((got.status.as_u16(), got.text()), (200, "body"));
                    answered.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            });
        }
        Self { clients, is_over, answered }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits for another `number` of answers.
    async fn goes_on(&self, number: usize) {
        let before = self.answered();
        until(PATIENCE, "requests are answered", async || {
            (self.answered() >= before + number).then_some(())
        })
        .await;
    }

    async fn stop(mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.expect("no request fails");
        }
    }
}

/// Returns the number of requests that have waited for the server in vain.
fn paid(site: &Site) -> u64 {
    let operations = site.store().operations;
    let waited = [Operation::Lookup, Operation::Lease, Operation::Commit];
    waited.iter().filter_map(|kind| operations.get(kind)).map(|counts| counts.timed_out).sum()
}

/// While the server is away no request fails; the first pay, and then nobody.
async fn survives(
    mut server: Server,
    link: Option<Proxy>,
    away: impl AsyncFnOnce(&mut Server, Option<&Proxy>),
    back: impl AsyncFnOnce(&mut Server, Option<&Proxy>),
) {
    let url = link.as_ref().map_or_else(|| server.url(), Proxy::url);
    let site = Site::prompt(&url).await;
    let Site { cache, handle, calls } = site;
    calls.serve(|_| response(200, &[], "body"));
    // The origin is not needed any more: it answers by itself.
    let site = Site { cache, handle, calls: crate::support::origin().1 };
    let load = Load::on(&site);
    load.goes_on(500).await;
    let hits = site.counts().hits;
    assert!(hits > 0);
    let before = paid(&site);
    away(&mut server, link.as_ref()).await;
    until(PATIENCE, "the link is given up", async || (!site.store().is_linked).then_some(())).await;
    // Whoever waited by then pays what is left of a budget.
    pause(Duration::from_millis(300)).await;
    let all = paid(&site) - before;
    assert!(all <= 8 * CLIENTS as u64, "{all} requests of {CLIENTS} clients paid");
    let bypassed = site.counts().bypassed[&Bypass::Store];
    load.goes_on(4_000).await;
    assert_eq!(paid(&site) - before, all, "later requests pay nothing");
    assert!(site.counts().bypassed[&Bypass::Store] >= bypassed + 2_000);
    back(&mut server, link.as_ref()).await;
    let hits = site.counts().hits;
    until(PATIENCE, "there are hits again", async || (site.counts().hits > hits).then_some(()))
        .await;
    load.stop().await;
    assert_eq!(site.handle.metrics().flights, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_red_7_a_dead_server_under_load_fails_no_request() {
    let server = Server::start().await;
    survives(
        server,
        None,
        async |server, _| server.kill(),
        async |server, _| server.restart(Disk::Empty).await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_red_7_a_hung_server_under_load_fails_no_request() {
    let server = Server::start().await;
    survives(server, None, async |server, _| server.stop(), async |server, _| server.cont()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_red_7_a_black_hole_under_load_fails_no_request() {
    let server = Server::start().await;
    let link = Some(Proxy::to(server.port).await);
    survives(
        server,
        link,
        async |_, link| link.unwrap().freeze(),
        async |_, link| link.unwrap().thaw(),
    )
    .await;
}
