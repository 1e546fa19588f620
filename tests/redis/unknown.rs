//! Writes that the origin may commit after its response, and every process that could store what was there
//! before.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use http::Method;
use tower::Layer;
use tower_support_cache::{
    CacheRoute, CallerKey, InvalidateRoute, RedisStore, RedisStoreBuilder, SupportCacheLayer,
    store::{PrimaryKey, Store, Strength, Tag},
    testing::{Chaos, Fault, StoreCall},
};

use crate::{
    Site,
    clock::{HOUR, measured},
    far, patient,
    proxy::Proxy,
    server::{PATIENCE, Server, until},
    support::{Cached, Call, Calls, Sent, TTL, get, got, origin, request, response, send, settle},
};

/// A window that no test outlasts.
const LONG: Duration = Duration::from_secs(600);
/// A window that a test waits for.
const SHORT: Duration = Duration::from_secs(2);
const MARK: &str = "tower-support-cache:unsettled:{case:1}";
const TAG: &str = "tower-support-cache:tag:all";
const UNSETTLED: &str = "detail=unsettled";

/// What writes change: the key of a case, or the tag of all.
#[derive(Clone, Copy, Debug)]
enum By {
    Key,
    KeyWith,
    Tag,
    TagWith,
}

const ALL: [By; 4] = [By::Key, By::KeyWith, By::Tag, By::TagWith];

fn rule(by: By, window: Duration) -> InvalidateRoute {
    let rule = InvalidateRoute::post("/cases/{case}/comments").unknown_for(window);
    match by {
        By::Key => rule.key("case:{case}"),
        By::KeyWith => rule.key_with(|_| Some("case:1".to_owned())),
        By::Tag => rule.tag("all"),
        By::TagWith => rule.tag_with(|_| Some("all".to_owned())),
    }
}

/// A process whose writes are as the rule says.
async fn site(store: RedisStoreBuilder, rule: InvalidateRoute) -> Site {
    Site::of(&layer_over(store.build().unwrap(), rule)).linked().await
}

fn layer_over<St: Store>(store: St, rule: InvalidateRoute) -> SupportCacheLayer<St> {
    let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").tag("all");
    SupportCacheLayer::builder(store)
        .caller_key(CallerKey::new([1; 32]))
        .cache(route.ttl(TTL).jitter(0).stale_while_revalidate(TTL))
        .invalidate(rule)
        .build()
        .unwrap()
}

/// A process over another store, whose rules are as those of [`site`].
fn beside<St: Store>(store: St, rule: InvalidateRoute) -> (Cached<St>, Calls) {
    let (origin, calls) = origin();
    (layer_over(store, rule).layer(origin), calls)
}

async fn two(server: &Server, by: By, window: Duration) -> (Site, Site) {
    let site = async || site(patient(&server.url()), rule(by, window)).await;
    (site().await, site().await)
}

impl Site {
    /// Writes, and the origin cannot say whether it has committed.
    async fn write_in_doubt(&mut self) {
        let writing = send(&self.cache, request(Method::POST, "/cases/1/comments"));
        self.calls.next().await.respond(response(503, &[], ""));
        got(writing).await;
    }

    /// Asserts that the origin is asked, and that nothing is stored.
    async fn is_not_stored(&mut self, body: &'static str) {
        until(PATIENCE, "the store is asked", async || {
            let read = self.read(body).await;
            assert_eq!(read.text(), body);
            // On a busy machine there may be no link for a moment.
            let is_asked = !read.cache_status().ends_with("detail=store");
            let is_unsettled = read.cache_status().ends_with(UNSETTLED);
            assert!(is_unsettled || !is_asked, "{}", read.cache_status());
            is_asked.then_some(())
        })
        .await;
    }

    /// Asserts that a read from now on does not share the response of a read from before.
    async fn joins_nothing_older(&mut self, before: Sent, old: Call) {
        let after = send(&self.cache, get("/cases/1"));
        let new = self.calls.next().await;
        old.ok("old");
        new.ok("new");
        // And not because it has waited in vain.
        let (before, after) = (got(before).await, got(after).await);
        assert!(after.cache_status().ends_with(UNSETTLED), "{}", after.cache_status());
        assert_eq!((before.text(), after.text()), ("old", "new"));
    }
}

#[tokio::test]
async fn after_an_unknown_outcome_no_process_stores_anything() {
    for by in ALL {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, LONG).await;
        site.fill("old").await;
        other.hits("old").await;
        site.write_in_doubt().await;
        for site in [&mut other, &mut site] {
            site.is_not_stored("still old").await;
            site.is_not_stored("still old").await;
        }
        // Nor if the process that wrote has ended.
        drop(site);
        other.is_not_stored("still old").await;
        let mut third = two(&server, by, LONG).await.0;
        third.is_not_stored("still old").await;
    }
}

#[tokio::test]
async fn once_the_window_is_over_every_process_stores_again() {
    for by in [By::Key, By::Tag] {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, SHORT).await;
        site.fill("old").await;
        site.write_in_doubt().await;
        until(PATIENCE, "the window is over", async || {
            other.read("new").await.is_hit().then_some(())
        })
        .await;
        until(PATIENCE, "the writer has it", async || {
            site.read("new").await.is_hit().then_some(())
        })
        .await;
        assert_eq!(server.command::<i64>(&["EXISTS", MARK]).await, 0);
    }
}

#[tokio::test]
async fn neither_a_deletion_of_the_key_nor_another_invalidation_ends_the_window() {
    for by in [By::Key, By::Tag] {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, LONG).await;
        site.write_in_doubt().await;
        server.run(&["DEL", "case:1"]).await;
        other.is_not_stored("old").await;
        for strength in ["hard", "soft", "tag", "all"] {
            let acknowledged = match strength {
                "hard" => other.handle.invalidate("case:1").await,
                "soft" => other.handle.soft_invalidate("case:1").await,
                "tag" => other.handle.invalidate_tag("all").await,
                _ => other.handle.invalidate_all().await,
            };
            if acknowledged.is_err() {
                other.handle.flush_pending(PATIENCE).await.unwrap();
            }
            other.is_not_stored("old").await;
            site.is_not_stored("old").await;
        }
    }
}

#[tokio::test]
async fn reads_within_the_window_share_a_forward_in_each_process() {
    for by in ALL {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, LONG).await;
        site.write_in_doubt().await;
        // The token that both read is there from now on.
        site.is_not_stored("first").await;
        for site in [&mut site, &mut other] {
            let before = site.calls.count();
            let leader = send(&site.cache, get("/cases/1"));
            let call = site.calls.next().await;
            let followers: Vec<_> = (0..20).map(|_| send(&site.cache, get("/cases/1"))).collect();
            let lookups = site.store();
            until(PATIENCE, "all of them have looked", async || {
                (site.handle.metrics().flights == 1 && site.store() == lookups).then_some(())
            })
            .await;
            settle().await;
            call.ok("shared");
            assert_eq!(got(leader).await.text(), "shared");
            for follower in followers {
                site_answers(site, follower).await;
            }
            let forwards = site.calls.count() - before;
            assert!(forwards <= 3, "{by:?}: {forwards} forwards for 21 reads");
        }
        assert!(other.counts().coalesced + site.counts().coalesced > 20, "{by:?}");
    }
}

/// Waits for a read; if the origin is asked again, it answers the same.
async fn site_answers(site: &mut Site, mut read: crate::support::Sent) {
    loop {
        tokio::select! {
            read = &mut read => return assert_eq!(read.unwrap().unwrap().text(), "shared"),
            call = site.calls.next() => call.ok("shared"),
        }
    }
}

/// Deletions by other programs are full invalidations within the window, too.
#[tokio::test]
async fn a_read_joins_no_forward_from_before_a_deletion() {
    let server = Server::start().await;
    let (mut site, mut other) = two(&server, By::Key, LONG).await;
    site.write_in_doubt().await;
    other.is_not_stored("first").await;
    let before = send(&other.cache, get("/cases/1"));
    let old = other.calls.next().await;
    server.run(&["DEL", "case:1"]).await;
    other.joins_nothing_older(before, old).await;
}

/// The history over Redis has found it: a request that had looked before a deletion put the lease of older
/// fills back, and later requests joined these.
#[tokio::test]
async fn a_look_up_from_before_a_deletion_brings_no_older_forward_back() {
    let server = Server::start().await;
    let process =
        async || site(patient(&server.url()).near_cache_capacity(0), rule(By::Key, LONG)).await;
    let (mut site, mut other) = (process().await, process().await);
    let is_armed = Arc::new(AtomicBool::new(false));
    let (armed, client) = (Arc::clone(&is_armed), redis::Client::open(server.url()).unwrap());
    let store = patient(&server.url()).build().unwrap();
    let chaos = Chaos::new(store, move |call, _| {
        // Between its look-up and its lease.
        if call == StoreCall::Begin && armed.swap(false, SeqCst) {
            let mut connection = client.get_connection().unwrap();
            redis::cmd("DEL").arg("case:1").exec(&mut connection).unwrap();
        }
        Fault::None
    });
    let (third, mut calls) = beside(chaos, rule(By::Key, LONG));
    site.write_in_doubt().await;
    other.is_not_stored("first").await;
    let before = send(&other.cache, get("/cases/1"));
    let old = other.calls.next().await;
    until(PATIENCE, "it looks before the deletion", async || {
        is_armed.store(true, SeqCst);
        let reading = send(&third, get("/cases/1"));
        calls.next().await.ok("between");
        got(reading).await;
        (!is_armed.swap(false, SeqCst)).then_some(())
    })
    .await;
    other.joins_nothing_older(before, old).await;
}

/// What began within the window may be from before the commit, whenever it ends.
#[tokio::test]
async fn a_forward_from_within_the_window_is_not_stored_after_it() {
    for by in [By::Key, By::Tag] {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, SHORT).await;
        site.write_in_doubt().await;
        // The other process has no word of it but the server's.
        drop(site);
        let within = send(&other.cache, get("/cases/1"));
        let call = other.calls.next().await;
        assert!(is_unsettled(&server).await, "the machine is too slow for this test");
        until(PATIENCE, "the window is over", async || {
            (!is_unsettled(&server).await).then_some(())
        })
        .await;
        call.ok("old");
        assert!(got(within).await.cache_status().ends_with(UNSETTLED), "{by:?}");
        other.fill("new").await;
    }
}

/// Returns whether something is unsettled at the server.
async fn is_unsettled(server: &Server) -> bool {
    let stamp: Option<String> = server.command(&["GET", TAG]).await;
    let time: Vec<u64> = server.command(&["TIME"]).await;
    let until = stamp.and_then(|stamp| stamp.split_once('!')?.1.parse::<u64>().ok());
    let is_tag = until.is_some_and(|until| until > time[0] * 1000 + time[1] / 1000);
    is_tag || server.command::<u64>(&["EXISTS", MARK]).await == 1
}

/// A program may set a mark, too, whatever is on its way.
#[tokio::test]
async fn a_fill_is_not_stored_while_there_is_a_mark() {
    let server = Server::start().await;
    let mut site = two(&server, By::Key, LONG).await.0;
    let reading = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    server.run(&["SET", MARK, "any program", "PX", "600000"]).await;
    call.ok("old");
    assert!(got(reading).await.cache_status().ends_with(UNSETTLED));
    site.is_not_stored("old").await;
    server.run(&["DEL", MARK]).await;
    site.fill("new").await;
}

#[tokio::test]
async fn an_unknown_outcome_while_the_server_is_away_is_pending_and_its_window_begins_with_delivery()
 {
    for by in [By::Key, By::Tag] {
        let server = Server::start().await;
        let link = Proxy::to(server.port).await;
        let mut site = site(far(&link.url()), rule(by, LONG)).await;
        let mut other = two(&server, by, LONG).await.0;
        site.fill("old").await;
        link.freeze();
        site.write_in_doubt().await;
        assert_eq!(site.store().pending, 1, "{by:?}");
        let read = site.read("from the origin").await;
        assert_eq!(read.text(), "from the origin");
        other.hits("old").await;
        // What was sent is lost.
        link.cut();
        link.thaw();
        site.handle.flush_pending(PATIENCE).await.expect("it is delivered");
        other.is_not_stored("still old").await;
        if let By::Key = by {
            let left = server.command::<u64>(&["PTTL", MARK]).await;
            assert!(left > 570_000, "{left} ms");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_is_delivered_with_its_window() {
    for subject in [PrimaryKey::new("case:1").into(), Tag::new("all").into()] {
        let server = Server::start().await;
        let link = Proxy::to(server.port).await;
        let store = far(&link.url()).build().unwrap();
        let mut other = two(&server, By::Key, LONG).await.0;
        until(PATIENCE, "there is a link", async || {
            store.invalidate(&PrimaryKey::new("x").into(), Strength::Hard).await.ok()
        })
        .await;
        other.fill("old").await;
        link.freeze();
        {
            let mut call = pin!(store.unsettle(&subject, Strength::Hard, LONG));
            let polled = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(call.as_mut().poll(cx).is_ready())
            });
            assert!(!polled.await);
        }
        link.thaw();
        store.flush_pending(PATIENCE).await.expect("it is delivered");
        other.is_not_stored("still old").await;
    }
}

/// A mark may be evicted, as any key.
#[tokio::test]
async fn the_writer_invalidates_again_at_the_end_of_the_window() {
    for by in [By::Key, By::Tag] {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, SHORT).await;
        other.fill("before").await;
        site.write_in_doubt().await;
        server.run(&["DEL", MARK, TAG]).await;
        other.fill("old").await;
        until(PATIENCE, "it is invalidated", async || {
            (other.read("new").await.text() == "new").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_without_room_still_takes_the_mark() {
    for by in [By::Key, By::Tag] {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, LONG).await;
        site.fill("old").await;
        server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
        server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
        site.write_in_doubt().await;
        site.handle.flush_pending(PATIENCE).await.expect("it is acknowledged");
        server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
        other.is_not_stored("still old").await;
    }
}

#[tokio::test]
async fn after_a_soft_rule_stale_responses_answer_in_every_process_and_none_is_stored() {
    let server = Server::start().await;
    let soft = || rule(By::Key, LONG).soft();
    let mut one = site(patient(&server.url()), soft()).await;
    let mut other = site(patient(&server.url()), soft()).await;
    one.fill("old").await;
    one.write_in_doubt().await;
    for site in [&mut other, &mut one] {
        for _ in 0..3 {
            let stale = site.read("not asked").await;
            assert_eq!(stale.text(), "old");
            assert!(stale.cache_status().contains("stale-while-revalidate"), "{stale:?}");
        }
    }
    // Never after one that is not soft.
    one.handle.invalidate("case:1").await.unwrap();
    other.is_not_stored("new").await;
    one.is_not_stored("new").await;
}

/// Neither does a soft invalidation end the time, nor does it let what was removed answer.
#[tokio::test]
async fn a_tag_that_is_softly_invalidated_within_a_window_stays_unsettled() {
    for by in [By::Key, By::Tag] {
        let server = Server::start().await;
        let (mut site, mut other) = two(&server, by, LONG).await;
        site.fill("old").await;
        other.hits("old").await;
        site.write_in_doubt().await;
        site.handle.flush_pending(PATIENCE).await.expect("it is acknowledged");
        for _ in 0..2 {
            other.handle.soft_invalidate_tag("all").await.unwrap();
            other.is_not_stored("still old").await;
            site.is_not_stored("still old").await;
        }
        assert!(is_unsettled(&server).await, "{by:?}");
    }
}

/// The server ends it by its clock, which would make it last for an hour more.
#[tokio::test]
async fn a_window_from_before_the_clock_was_set_back_is_no_longer_for_that() {
    for by in [By::Key, By::Tag] {
        let mut server = Server::with_clock().await;
        let (mut site, mut other) = two(&server, by, SHORT).await;
        site.fill("old").await;
        site.write_in_doubt().await;
        site.handle.flush_pending(PATIENCE).await.expect("it is acknowledged");
        server.step_clock(-HOUR);
        measured(&other).await;
        other.is_not_stored("still old").await;
        until(PATIENCE, "the window is over", async || {
            other.read("new").await.is_hit().then_some(())
        })
        .await;
        until(PATIENCE, "the writer has it", async || {
            site.read("new").await.is_hit().then_some(())
        })
        .await;
    }
}

/// Nor does a window that is entered then end with the one before.
#[tokio::test]
async fn a_window_after_the_clock_was_set_back_is_as_long_as_it_is() {
    for by in [By::Key, By::Tag] {
        let mut server = Server::with_clock().await;
        let mut short = site(patient(&server.url()), rule(by, SHORT)).await;
        let mut long = site(patient(&server.url()), rule(by, LONG)).await;
        // Has no word of either but the server's.
        let mut reader = site(patient(&server.url()), rule(by, SHORT)).await;
        short.write_in_doubt().await;
        short.handle.flush_pending(PATIENCE).await.expect("it is acknowledged");
        server.step_clock(-HOUR);
        for site in [&long, &reader] {
            measured(site).await;
        }
        long.write_in_doubt().await;
        long.handle.flush_pending(PATIENCE).await.expect("it is acknowledged");
        reader.is_not_stored("still old").await;
        server.step_clock(LONG.as_millis() as i64 / 2);
        measured(&reader).await;
        reader.is_not_stored("still old").await;
        server.step_clock(LONG.as_millis() as i64);
        until(PATIENCE, "the window is over", async || {
            reader.read("new").await.is_hit().then_some(())
        })
        .await;
    }
}

/// Whatever has written there: within the longest window there may have been a mark before.
#[tokio::test]
async fn a_foreign_value_at_the_name_of_a_mark_ends_after_an_hour_at_the_latest() {
    for foreign in [&["SET", MARK, "x"][..], &["LPUSH", MARK, "x"]] {
        let server = Server::start().await;
        let mut site = site(patient(&server.url()), rule(By::Key, SHORT)).await;
        server.run(foreign).await;
        site.is_not_stored("not kept").await;
        let left = server.command::<i64>(&["PTTL", MARK]).await;
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
        server.run(&["DEL", MARK]).await;
        site.fill("stored").await;
    }
}

/// The mark of a key is on the node of the key, whatever its name.
#[tokio::test]
async fn a_key_with_braces_has_a_mark_of_its_own() {
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    for key in ["{a}b", "a}b", "a{}b", "{case:1}"] {
        until(PATIENCE, "it is acknowledged", async || {
            store.unsettle(&PrimaryKey::new(key).into(), Strength::Hard, LONG).await.ok()
        })
        .await;
    }
    let marks: Vec<String> = server.command(&["KEYS", "tower-support-cache:unsettled:*"]).await;
    assert_eq!(marks.len(), 4, "{marks:?}");
    two(&server, By::Key, LONG).await.0.fill("of no mark").await;
}

#[tokio::test]
async fn a_store_gives_an_unsettled_slot_to_every_fill_and_takes_nothing() {
    let server = Server::start().await;
    let store: RedisStore = patient(&server.url()).build().unwrap();
    until(PATIENCE, "it is acknowledged", async || {
        store.unsettle(&PrimaryKey::new("case:1").into(), Strength::Hard, LONG).await.ok()
    })
    .await;
    let left = server.command::<u64>(&["PTTL", MARK]).await;
    // A shorter window shortens nothing.
    store.unsettle(&PrimaryKey::new("case:1").into(), Strength::Hard, SHORT).await.unwrap();
    assert!(server.command::<u64>(&["PTTL", MARK]).await + 60_000 > left);
}
