//! Tags over a real server: versions that fall with whatever removes them.

use std::time::Duration;

use http::{Method, Response};
use tokio::time::timeout;
use tower_support_cache::{CacheRoute, CacheTags, RedisStore, key, store::Operation};

use crate::{
    Site, patient,
    proxy::Proxy,
    server::{Disk, PATIENCE, Server, until},
    support::{GatedBody, TTL, get, got, request, send, with},
};

const FENCED: &str = "detail=fenced";
pub(crate) const STAMP: &str = "tower-support-cache:tag:all";

pub(crate) fn tagged(route: CacheRoute) -> CacheRoute {
    route.tag("all").tag("case:{case}")
}

impl Site {
    pub(crate) async fn tagged(url: &str) -> Self {
        Self::lazy(patient(url).build().unwrap(), tagged).linked().await
    }

    async fn tagged_near(url: &str) -> Self {
        let store =
            patient(url).near_cache_capacity(1024 * 1024).near_cache_limit(TTL).build().unwrap();
        Self::lazy(store, tagged).linked().await
    }

    /// Sends a request for `/cases/1`; if the origin is asked, the response is of a group.
    pub(crate) async fn read_grouped(&mut self, body: &'static str) -> crate::support::Got {
        let mut reading = send(&self.cache, with(get("/cases/1"), "host", "example.com"));
        loop {
            tokio::select! {
                read = &mut reading => return read.unwrap().unwrap(),
                call = self.calls.next() => call.with(200, ("cache-groups", "\"g\""), body),
            }
        }
    }

    pub(crate) async fn fill_grouped(&mut self, body: &'static str) {
        until(PATIENCE, "a response of a group is stored", async || {
            self.read_grouped(body).await.is_hit().then_some(())
        })
        .await;
    }

    /// Sends a request that is to follow another's fill, and waits until it has looked so often.
    async fn follow(&mut self, looks: u64) -> crate::support::Sent {
        let looked = |site: &Self| {
            let operations = site.store().operations;
            operations.get(&Operation::Lookup).map_or(0, |lookups| lookups.answered)
        };
        let before = looked(self);
        let follower = send(&self.cache, with(get("/cases/1"), "host", "example.com"));
        until(PATIENCE, "it has looked", async || (looked(self) >= before + looks).then_some(()))
            .await;
        assert!(self.calls.now().await.is_none(), "nothing tells it of the group");
        follower
    }

    pub(crate) async fn invalidate_group(&mut self) {
        let write = with(request(Method::POST, "/cases/9/comments"), "host", "example.com");
        let writing = send(&self.cache, write);
        self.calls.next().await.with(204, ("cache-group-invalidation", "\"g\""), "");
        got(writing).await;
    }
}

/// With the server silent both are given up: one after the other, the second were never asked for.
#[tokio::test]
async fn the_stamps_of_a_routes_tags_are_asked_for_beside_the_record() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let store = patient(&proxy.url()).lookup_budget(Duration::from_millis(300));
    let mut site = Site::lazy(store.build().unwrap(), tagged).linked().await;
    site.fill("one").await;
    let asked = |site: &Site| site.store().operations[&Operation::Lookup].clone();
    let before = asked(&site);
    site.hits("one").await;
    assert_eq!(asked(&site).answered - before.answered, 2);
    proxy.freeze();
    assert_eq!(site.ask(get("/cases/2"), "origin").await.text(), "origin");
    assert_eq!(asked(&site).timed_out - before.timed_out, 2);
}

#[tokio::test]
async fn a_tag_removes_what_has_it_for_all_processes() {
    let server = Server::start().await;
    let (mut site, mut other) =
        (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    for tag in ["all", "case:1"] {
        site.fill("old").await;
        other.hits("old").await;
        site.handle.invalidate_tag(tag).await.unwrap();
        assert_eq!(other.read("new").await.text(), "new", "{tag}");
        site.hits("new").await;
        site.handle.invalidate_tag("case:2").await.unwrap();
        site.hits("new").await;
        site.handle.invalidate("case:1").await.unwrap();
    }
}

/// Nobody has told us.
#[tokio::test]
async fn whatever_removes_a_stamp_is_an_invalidation() {
    let server = Server::start().await;
    let mut site = Site::tagged(&server.url()).await;
    for removal in [
        &["DEL", STAMP][..],
        &["UNLINK", STAMP],
        &["PEXPIRE", STAMP, "0"],
        &["RENAME", STAMP, "another"],
        &["SET", STAMP, "another program's"],
        &["FLUSHALL"],
    ] {
        site.fill("old").await;
        server.run(removal).await;
        assert_eq!(site.read("new").await.text(), "new", "{removal:?}");
        server.run(&["DEL", "case:1", STAMP]).await;
    }
}

/// The name is the store's own. What else is put there is replaced, and no record of before is used.
#[tokio::test]
async fn a_foreign_value_at_the_name_of_a_tag_heals() {
    let server = Server::start().await;
    let mut site = Site::tagged(&server.url()).await;
    for foreign in [
        &["RPUSH", STAMP, "1"][..],
        &["HSET", STAMP, "a", "1"],
        &["SET", STAMP, "foreign"],
        &["SET", STAMP, "0000000000000001 "],
        &["SET", STAMP, ""],
    ] {
        server.run(&["DEL", "case:1", STAMP]).await;
        site.fill("old").await;
        server.run(&["DEL", STAMP]).await;
        server.run(foreign).await;
        assert_eq!(site.read("new").await.text(), "new", "{foreign:?}");
        site.hits("new").await;
        site.handle.invalidate_tag("all").await.unwrap();
        assert_eq!(site.read("newer").await.text(), "newer", "{foreign:?}");
    }
}

#[tokio::test]
async fn a_tag_that_is_invalidated_in_mid_fill_refuses_the_commit() {
    let server = Server::start().await;
    let (mut site, other) = (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    for how in ["by a process", "softly", "by a program"] {
        let reading = send(&site.cache, get("/cases/1"));
        let call = site.calls.next().await;
        match how {
            "by a process" => other.handle.invalidate_tag("all").await.unwrap(),
            "softly" => other.handle.soft_invalidate_tag("all").await.unwrap(),
            _ => server.run(&["DEL", STAMP]).await,
        }
        call.ok("old");
        let read = got(reading).await;
        assert_eq!(read.text(), "old", "who asked before gets what was asked for");
        assert!(read.cache_status().ends_with(FENCED), "{how}: {}", read.cache_status());
        assert_eq!(site.read("new").await.text(), "new", "{how}");
        site.handle.invalidate("case:1").await.unwrap();
    }
}

/// The lease is at the key, which the tag does not know: it names the versions it began with.
#[tokio::test]
async fn a_request_after_a_tag_was_invalidated_elsewhere_joins_no_older_flight() {
    let server = Server::start().await;
    let (mut site, mut other) =
        (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    let before = send(&site.cache, get("/cases/1"));
    let old = site.calls.next().await;
    server.run(&["DEL", STAMP]).await;
    let after = send(&site.cache, get("/cases/1"));
    site.calls.next().await.ok("new");
    assert_eq!(got(after).await.text(), "new");
    old.ok("old");
    assert_eq!(got(before).await.text(), "old");
    site.hits("new").await;
    other.hits("new").await;
    // Nor does a process wait for the older fill of another.
    site.handle.invalidate("case:1").await.unwrap();
    let before = send(&site.cache, get("/cases/1"));
    let old = site.calls.next().await;
    server.run(&["DEL", STAMP]).await;
    assert_eq!(other.read("newer").await.text(), "newer");
    old.ok("old");
    got(before).await;
    other.hits("newer").await;
}

#[tokio::test]
async fn requests_for_one_key_with_tags_make_one_call() {
    let server = Server::start().await;
    let (mut site, mut other) =
        (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    let readings: Vec<_> = (0..50).map(|_| send(&site.cache, get("/cases/1"))).collect();
    let call = site.calls.next().await;
    let elsewhere = send(&other.cache, get("/cases/1"));
    assert!(other.calls.now().await.is_none());
    call.ok("one");
    for reading in readings {
        assert_eq!(got(reading).await.text(), "one");
    }
    assert_eq!(got(elsewhere).await.text(), "one");
    assert_eq!(site.calls.count() + other.calls.count(), 1);
}

// ===== what it costs =====

#[tokio::test]
async fn a_hit_with_tags_is_two_commands_and_one_without_is_one() {
    let server = Server::start().await;
    for (mut site, reads) in
        [(Site::on(&server.url()).await, 0), (Site::tagged(&server.url()).await, 1)]
    {
        site.fill("one").await;
        let before = server.calls().await;
        site.hits("one").await;
        let after = server.calls().await;
        let asked = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
        assert_eq!(
            (asked("hget"), asked("mget"), asked("hmget"), asked("evalsha")),
            (1, reads, 0, 0)
        );
        site.handle.invalidate_all().await.unwrap();
        server.run(&["DEL", "case:1"]).await;
    }
}

/// A tag that nothing has takes no room at the server, and one that is used is kept as long as what
/// has it.
#[tokio::test]
async fn a_stamp_lives_as_long_as_what_names_it_and_no_tag_without_one_has_any() {
    let server = Server::start().await;
    let mut site = Site::tagged(&server.url()).await;
    site.handle.invalidate_tag("never").await.unwrap();
    assert_eq!(server.command::<u64>(&["EXISTS", "tower-support-cache:tag:never"]).await, 0);
    site.fill("one").await;
    let left = async || Duration::from_millis(server.command::<u64>(&["PTTL", STAMP]).await);
    assert!(left().await > TTL && left().await <= 3 * TTL, "{:?}", left().await);
    site.handle.invalidate_tag("all").await.unwrap();
    assert!(left().await > TTL, "an invalidation does not make it shorter");
}

// ===== groups =====

#[tokio::test]
async fn a_group_is_invalidated_for_all_processes() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    site.fill_grouped("old").await;
    assert_eq!(other.read_grouped("not stored").await.text(), "old");
    other.invalidate_group().await;
    assert_eq!(site.read_grouped("new").await.text(), "new");
    other.fill_grouped("new").await;
}

#[tokio::test]
async fn a_group_that_is_invalidated_in_mid_fill_refuses_the_commit() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    other.fill_grouped("old").await;
    let found: Vec<String> = server.command(&["KEYS", "tower-support-cache:group:*"]).await;
    let [stamp] = found.try_into().expect("one group");
    for is_known in [true, false] {
        server.run(&["DEL", "case:1"]).await;
        let reading = send(&site.cache, with(get("/cases/1"), "host", "example.com"));
        let call = site.calls.next().await;
        match is_known {
            true => other.invalidate_group().await,
            false => server.run(&["DEL", &stamp]).await,
        }
        // It still holds its right, as far as the key tells, and follows nobody.
        let late = site.follow(2).await;
        call.with(200, ("cache-groups", "\"g\""), "old");
        let read = got(reading).await;
        assert!(read.cache_status().ends_with(FENCED), "{}", read.cache_status());
        site.calls.next().await.with(200, ("cache-groups", "\"g\""), "new");
        assert_eq!(got(late).await.text(), "new");
    }
}

/// Its group was invalidated by another process, after the fill began that it stands in for.
#[tokio::test]
async fn what_is_stale_and_of_a_group_stands_in_for_nobody_who_came_later() {
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    let mut site = Site::lazy(store, |route| route.stale_if_error(TTL)).linked().await;
    let mut other = Site::on(&server.url()).await;
    site.fill_grouped("old").await;
    site.handle.soft_invalidate("case:1").await.unwrap();
    let early = send(&site.cache, with(get("/cases/1"), "host", "example.com"));
    let call = site.calls.next().await;
    other.invalidate_group().await;
    // The record in force, the outdated one with the lease, and the versions of its tags.
    let late = site.follow(3).await;
    call.with(503, ("x", "y"), "down");
    assert_eq!(got(early).await.text(), "old", "who asked before may have it");
    let again = timeout(Duration::from_secs(10), site.calls.next()).await;
    again.expect("who came later asks again").ok("new");
    assert_eq!(got(late).await.text(), "new");
}

/// A group that the server has never heard of may have been invalidated just now: the first fill learns
/// its version, and one of those who wait fills again, for all.
#[tokio::test]
async fn a_burst_on_a_response_of_an_unknown_group_makes_two_calls() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let burst: Vec<_> =
        (0..20).map(|_| send(&site.cache, with(get("/cases/1"), "host", "example.com"))).collect();
    for body in ["one", "two"] {
        site.calls.next().await.with(200, ("cache-groups", "\"g\""), body);
    }
    let mut bodies: Vec<String> = Vec::new();
    for read in burst {
        bodies.push(got(read).await.text().to_owned());
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies, ["one", "two"]);
    assert_eq!(site.calls.count(), 2);
}

/// What a handler knows, such as the ids in a list.
#[tokio::test]
async fn a_tag_that_a_response_names_is_invalidated_for_all_processes() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let list = |body: &'static str| {
        let tags = CacheTags::new([key("product:{id}").with("id", "urn:7")]);
        Response::builder().extension(tags).body(GatedBody::full(body)).unwrap()
    };
    // The first one learns the version of the tag, which may have been invalidated just before.
    for is_stored in [false, true] {
        let reading = send(&site.cache, get("/cases/1"));
        site.calls.next().await.respond(list("old"));
        let status = got(reading).await.cache_status().to_owned();
        assert_eq!(status.ends_with(";stored"), is_stored, "{status}");
    }
    other.hits("old").await;
    let invalidation = key("product:{id}").with("id", "urn:7");
    site.handle.invalidate_tag(invalidation).await.unwrap();
    assert_eq!(other.read("new").await.text(), "new");
    site.hits("new").await;
}

/// Stale in every process, and refreshed once.
#[tokio::test]
async fn a_soft_invalidation_of_a_tag_makes_it_stale_for_all_processes() {
    let server = Server::start().await;
    let store = || patient(&server.url()).build().unwrap();
    let stale = |route: CacheRoute| tagged(route).stale_while_revalidate(TTL);
    let mut site = Site::lazy(store(), stale).linked().await;
    let mut other = Site::lazy(store(), stale).linked().await;
    site.fill("old").await;
    other.hits("old").await;
    site.handle.soft_invalidate_tag("all").await.unwrap();
    other.is_stale("old").await;
    let refresh = other.calls.next().await;
    let read = got(send(&site.cache, get("/cases/1"))).await;
    assert_eq!(read.text(), "old");
    assert!(site.calls.now().await.is_none(), "another process asks");
    refresh.ok("new");
    until(PATIENCE, "it is refreshed", async || {
        let read = got(send(&site.cache, get("/cases/1"))).await;
        (read.text() == "new").then_some(())
    })
    .await;
    site.hits("new").await;
    // After one that is not soft nothing answers, before or after a soft one.
    for strengths in [["hard", "soft"], ["soft", "hard"]] {
        for strength in strengths {
            match strength {
                "hard" => site.handle.invalidate_tag("all").await.unwrap(),
                _ => site.handle.soft_invalidate_tag("all").await.unwrap(),
            }
        }
        assert_eq!(other.read("newer").await.text(), "newer", "{strengths:?}");
        site.hits("newer").await;
    }
}

#[tokio::test]
async fn a_tag_that_is_softly_invalidated_in_mid_fill_refuses_the_commit() {
    let server = Server::start().await;
    let (mut site, other) = (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    site.fill("old").await;
    site.handle.invalidate("case:1").await.unwrap();
    let reading = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    other.handle.soft_invalidate_tag("all").await.unwrap();
    call.ok("old");
    let read = got(reading).await;
    assert!(read.cache_status().ends_with(FENCED), "{}", read.cache_status());
    site.fill("new").await;
}

/// Not delivered in time, it is done in full.
#[tokio::test]
async fn a_soft_invalidation_of_a_tag_while_redis_is_away_is_delivered() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let store = RedisStore::builder(link.url()).near_cache_capacity(0).build().unwrap();
    let stale = |route: CacheRoute| tagged(route).stale_while_revalidate(TTL);
    let mut site = Site::lazy(store, stale).linked().await;
    let mut other = Site::lazy(patient(&server.url()).build().unwrap(), stale).linked().await;
    site.fill("old").await;
    link.freeze();
    assert!(site.handle.soft_invalidate_tag("all").await.is_err());
    assert_eq!(site.read("from the origin").await.text(), "from the origin");
    link.thaw();
    site.handle.flush_pending(PATIENCE).await.expect("it is delivered");
    assert_eq!(other.read("new").await.text(), "new");
}

// ===== the near cache =====

#[tokio::test]
async fn a_tag_that_is_invalidated_elsewhere_is_gone_from_the_near_cache() {
    let server = Server::start().await;
    let (mut site, other) =
        (Site::tagged_near(&server.url()).await, Site::tagged(&server.url()).await);
    for how in ["by a process", "by a program"] {
        site.fill("old").await;
        until(PATIENCE, "a copy is in the near cache", async || {
            let before = site.store().near.hits;
            site.hits("old").await;
            (site.store().near.hits > before).then_some(())
        })
        .await;
        match how {
            "by a process" => other.handle.invalidate_tag("all").await.unwrap(),
            _ => server.run(&["DEL", STAMP]).await,
        }
        until(PATIENCE, "the message is here", async || {
            (site.read("new").await.text() == "new").then_some(())
        })
        .await;
        // Ours is in force at once.
        site.fill("new").await;
        site.handle.invalidate_tag("all").await.unwrap();
        assert_eq!(site.read("newer").await.text(), "newer", "{how}");
        site.handle.invalidate("case:1").await.unwrap();
    }
}

// ===== faults =====

/// Promise 6, for tags.
#[tokio::test]
async fn an_invalidation_of_a_tag_while_redis_is_away_is_pending_and_then_delivered() {
    let server = Server::start().await;
    let link = Proxy::to(server.port).await;
    let store = RedisStore::builder(link.url()).near_cache_capacity(0).build().unwrap();
    let mut site = Site::lazy(store, tagged).linked().await;
    let mut other = Site::tagged(&server.url()).await;
    site.fill("old").await;
    link.freeze();
    assert!(site.handle.invalidate_tag("all").await.is_err());
    assert_eq!(site.store().pending, 1);
    assert_eq!(site.read("from the origin").await.text(), "from the origin");
    other.hits("old").await;
    link.thaw();
    site.handle.flush_pending(PATIENCE).await.expect("it is delivered");
    assert_eq!(site.store().pending, 0);
    assert_eq!(other.read("new").await.text(), "new");
    site.hits("new").await;
}

/// The same for a group, which no request tells: its responses are not used until it is delivered.
#[tokio::test]
async fn what_is_of_a_group_that_is_due_is_not_used() {
    let server = Server::start().await;
    let user = ["ACL", "SETUSER", "app", "on", ">secret", "+@all", "%RW~case:*", "%RW~another"];
    let keys = ["%RW~tower-support-cache:epoch", "%R~tower-support-cache:group:*"];
    server.run(&[&user[..], &keys].concat()).await;
    let url = server.url().replace("redis://", "redis://app:secret@");
    let (mut site, mut other) = (Site::on(&url).await, Site::on(&server.url()).await);
    other.fill_grouped("old").await;
    assert_eq!(site.read_grouped("not stored").await.text(), "old");
    // The server refuses it, and goes on answering everything else.
    site.invalidate_group().await;
    assert_eq!(site.store().pending, 1);
    assert_eq!(site.read_grouped("from the origin").await.text(), "from the origin");
    server.run(&["ACL", "SETUSER", "app", "allkeys"]).await;
    site.handle.flush_pending(PATIENCE).await.expect("it is delivered");
    assert_eq!(other.read_grouped("new").await.text(), "new");
}

#[tokio::test]
async fn a_server_that_is_full_takes_an_invalidation_of_a_tag() {
    let server = Server::start().await;
    let (mut site, mut other) =
        (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    site.fill("old").await;
    server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    site.handle.invalidate_tag("all").await.expect("removing needs no room");
    for site in [&mut site, &mut other] {
        assert_eq!(site.read("forwarded").await.text(), "forwarded");
    }
    server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    site.fill("new").await;
}

#[tokio::test]
async fn nothing_with_tags_comes_back_from_disk() {
    let mut server = Server::start().await;
    let mut site = Site::tagged(&server.url()).await;
    site.fill("old").await;
    server.save().await;
    site.handle.invalidate_tag("all").await.unwrap();
    server.kill();
    server.restart(Disk::Kept).await;
    site.is_linked_again().await;
    assert_eq!(site.read("new").await.text(), "new");
    assert!(site.store().operations[&Operation::Lookup].answered > 0);
}
