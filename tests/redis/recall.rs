//! Responses that were read are not read again while the server has the same: it is asked for their number.

use std::time::Duration;

use http::Method;
use tower_support_cache::{
    CacheRoute, Caller, Credentials, Freshness, RedisStoreBuilder, RequestDirectives, Switch,
    store::Operation,
};

use crate::{
    Site, patient,
    proxy::Proxy,
    records::record,
    server::{Disk, PATIENCE, Server, until},
    support::{TTL, get, got, request, response, send, settle, with},
    suspended::stand_still,
    tags::STAMP,
};

impl Site {
    /// Fills `/cases/1`, and reads it until what was read is recalled.
    async fn recalls(&mut self, body: &'static str) {
        self.fill(body).await;
        let before = self.store().near.confirmed;
        until(PATIENCE, "what was read is recalled", async || {
            self.hits(body).await;
            (self.store().near.confirmed > before).then_some(())
        })
        .await;
    }

    /// Does the same with a response of a group.
    async fn recalls_grouped(&mut self, body: &'static str) {
        self.fill_grouped(body).await;
        let before = self.store().near.confirmed;
        until(PATIENCE, "what was read is recalled", async || {
            assert!(self.read_grouped("not asked").await.is_hit());
            (self.store().near.confirmed > before).then_some(())
        })
        .await;
    }
}

impl Server {
    /// Returns the number of lookups so far.
    async fn looks(&self) -> u64 {
        let calls = self.calls().await;
        calls["hget"] + calls["hmget"]
    }
}

#[tokio::test]
async fn what_the_server_still_has_is_confirmed_at_each_hit() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.recalls("one").await;
    let (looks, confirmed) = (server.calls().await["hget"], site.store().near.confirmed);
    for _ in 0..10 {
        site.hits("one").await;
    }
    assert_eq!(server.calls().await["hget"], looks + 10, "each asks the server, once");
    assert_eq!(site.store().near.confirmed, confirmed + 10);
    let head = site.ask(request(Method::HEAD, "/cases/1"), "not asked").await;
    assert_eq!((head.text(), head.is_hit()), ("", true));
    let known = site.ask(with(get("/cases/1"), "cache-control", "max-age=100"), "not asked").await;
    assert_eq!((known.text(), known.is_hit()), ("one", true), "{}", known.cache_status());
    assert_eq!(site.store().near.confirmed, confirmed + 12);
    assert_eq!(site.store().near.hits, 0, "none is answered unasked");
}

/// However long it is: the server is asked for its number alone.
#[tokio::test]
async fn what_is_confirmed_is_not_sent_again() {
    const HITS: usize = 10;
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let body: &'static str = "long ".repeat(20_000).leak();
    site.recalls(body).await;
    let sent = async || -> u64 {
        server.info("stats", "total_net_output_bytes").await.parse().expect("a number")
    };
    let before = sent().await;
    for _ in 0..HITS {
        site.hits(body).await;
    }
    let sent = sent().await - before;
    assert!(sent < body.len() as u64, "{sent} bytes for {HITS} hits");
}

/// A process that has read a response does not depend on the state of its record since.
#[tokio::test]
async fn sec_red_2_what_was_read_whole_answers_where_its_record_was_damaged() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    site.recalls("whole").await;
    let (field, _) = record(&server, "case:1").await;
    server.run(&["HSET", "case:1", &field, "damaged"]).await;
    site.hits("whole").await;
    assert_eq!(other.read("new").await.text(), "new", "who has not is not answered with it");
    site.hits("new").await;
}

#[tokio::test]
async fn a_number_that_is_none_is_no_number() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.recalls("one").await;
    let (field, _) = record(&server, "case:1").await;
    let number = format!("{field}n");
    assert!(server.command::<bool>(&["HEXISTS", "case:1", &number]).await, "it has a number");
    for nonsense in ["", "1", "12345678", "longer than a number"] {
        server.run(&["HSET", "case:1", &number, nonsense]).await;
        let confirmed = site.store().near.confirmed;
        site.hits("one").await;
        assert_eq!(site.store().near.confirmed, confirmed, "{nonsense:?}");
    }
    server.run(&["HDEL", "case:1", &number]).await;
    site.hits("one").await;
}

/// A response that one client has had refused leaves the one before, and its number.
#[tokio::test]
async fn a_refusal_leaves_what_may_still_answer() {
    let server = Server::start().await;
    let route = |route: CacheRoute| route.request_directives(RequestDirectives::Honour);
    let at = || Site::lazy(patient(&server.url()).build().unwrap(), route);
    let (mut site, mut other) = (at().linked().await, at().linked().await);
    site.recalls("old").await;
    let forced = send(&other.cache, with(get("/cases/1"), "cache-control", "no-cache"));
    let call = other.calls.next().await;
    call.respond(response(200, &[("cache-control", "no-store")], "not stored"));
    assert_eq!(got(forced).await.text(), "not stored");
    for site in [&mut site, &mut other] {
        let hit = site.read("not asked").await;
        assert!(hit.is_hit() && hit.text() == "old", "{hit:?}");
    }
}

/// A copy that was refuted is not asked about again, whatever is there in its place.
#[tokio::test]
async fn what_is_gone_is_asked_about_once() {
    const REQUESTS: u64 = 10;
    let server = Server::start().await;
    let route = |route: CacheRoute| route.body_limit(8 << 20);
    let mut site = Site::lazy(patient(&server.url()).build().unwrap(), route).linked().await;
    let mut other = Site::lazy(patient(&server.url()).build().unwrap(), route).linked().await;

    site.recalls("old").await;
    server.run(&["DEL", "case:1"]).await;
    let first = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    call.respond(response(200, &[("cache-control", "no-store")], "not stored"));
    got(first).await;
    let before = server.looks().await;
    for _ in 0..REQUESTS {
        // One that leads no fill.
        let part = send(&site.cache, with(get("/cases/1"), "range", "bytes=0-0"));
        site.calls.next().await.ok("not stored");
        assert!(got(part).await.cache_status().ends_with("detail=pass"));
    }
    assert_eq!(server.looks().await - before, REQUESTS, "of what is not stored");

    site.handle.invalidate("case:1").await.unwrap();
    site.recalls("old").await;
    other.handle.invalidate("case:1").await.unwrap();
    // More than a copy may have where there is no near cache.
    other.fill("x".repeat(5 << 20).leak()).await;
    assert!(site.read("not asked").await.is_hit());
    let before = server.looks().await;
    for _ in 0..REQUESTS {
        assert!(site.read("not asked").await.is_hit());
    }
    assert_eq!(server.looks().await - before, REQUESTS, "of what is too large to be kept");
}

/// The scripts of earlier versions know of no numbers: whatever their names begin with is a record.
#[tokio::test]
async fn whoever_removes_records_removes_their_numbers() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.recalls("old").await;
    let remove = "for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do \
                  if string.sub(f, 1, 2) == 'v:' then redis.call('HDEL', KEYS[1], f) end end";
    server.run(&["EVAL", remove, "1", "case:1"]).await;
    assert_eq!(site.read("new").await.text(), "new");
}

/// A key has no more fields than it may, and what goes takes its number along.
#[tokio::test]
async fn what_makes_room_takes_its_number_along() {
    const LIMIT: usize = 1024;
    let server = Server::start().await;
    let site = Site::on(&server.url()).await;
    site.calls.serve(|_| response(200, &[], "one of many"));
    for page in 0..LIMIT {
        let read = got(send(&site.cache, get(&format!("/cases/1?page={page}")))).await;
        assert!(read.cache_status().ends_with(";stored"), "{}", read.cache_status());
    }
    let fields: Vec<String> = server.command(&["HKEYS", "case:1"]).await;
    assert!((LIMIT / 2..=LIMIT + 2).contains(&fields.len()), "{}", fields.len());
    let (mut numbers, mut records): (Vec<_>, Vec<_>) =
        fields.iter().partition(|field| field.ends_with('n'));
    numbers.sort_unstable();
    records.sort_unstable();
    assert!(numbers.iter().map(|field| field.trim_end_matches('n')).eq(records));
}

#[tokio::test]
async fn what_was_read_once_is_remembered_and_ones_own_fill_is_not() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    // Stored, and then read.
    site.fill("one").await;
    other.hits("one").await;
    let confirmed = |site: &Site| site.store().near.confirmed;
    assert_eq!((confirmed(&site), confirmed(&other)), (0, 0), "both have read the record");
    site.hits("one").await;
    other.hits("one").await;
    assert_eq!((confirmed(&site), confirmed(&other)), (1, 1), "and need not read it again");
}

#[tokio::test]
async fn what_is_gone_from_the_server_or_another_there_is_not_recalled() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    site.recalls("one").await;
    server.run(&["DEL", "case:1"]).await;
    assert_eq!(site.read("two").await.text(), "two", "deleted");
    site.recalls("two").await;
    server.run(&["FLUSHALL"]).await;
    assert_eq!(site.read("three").await.text(), "three", "flushed");
    site.recalls("three").await;
    other.handle.invalidate("case:1").await.unwrap();
    assert_eq!(site.read("four").await.text(), "four", "invalidated elsewhere");
    site.recalls("four").await;
    other.handle.soft_invalidate("case:1").await.unwrap();
    assert_eq!(site.read("five").await.text(), "five", "softly invalidated elsewhere");
    site.recalls("five").await;
    other.handle.invalidate_all().await.unwrap();
    assert_eq!(site.read("six").await.text(), "six", "everything invalidated elsewhere");
    site.recalls("six").await;
    site.handle.invalidate("case:1").await.unwrap();
    assert_eq!(site.read("seven").await.text(), "seven", "invalidated here");
    site.recalls("seven").await;
    other.handle.invalidate("case:1").await.unwrap();
    other.fill("eight").await;
    site.hits("eight").await;
}

/// A server that was restarted has what it had, and not what was invalidated since.
#[tokio::test]
async fn what_another_incarnation_has_is_not_recalled() {
    let mut server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.recalls("old").await;
    server.save().await;
    server.kill();
    server.restart(Disk::Kept).await;
    site.is_linked_again().await;
    assert_eq!(site.read("new").await.text(), "new");
}

#[tokio::test]
async fn what_has_expired_is_not_recalled() {
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    let brief = |route: CacheRoute| route.ttl(Duration::from_millis(700));
    let mut site = Site::lazy(store, brief).linked().await;
    site.recalls("one").await;
    let missed = until(PATIENCE, "it expires", async || {
        let read = site.read("two").await;
        (!read.is_hit()).then(|| read.cache_status().to_owned())
    })
    .await;
    // The clocks of both count in whole milliseconds: for one of these it is found, and stale.
    assert!(missed.contains("fwd=uri-miss") || missed.contains("fwd=stale"), "{missed}");
}

/// A remembered response is reused only for the requests that it would be read for.
#[tokio::test]
async fn what_is_recalled_is_for_the_same_requests() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.recalls("for all").await;
    let confirmed = site.store().near.confirmed;
    let read = site.ask(with(get("/cases/1"), "authorization", "Bearer a"), "for a").await;
    assert_eq!((read.text(), read.is_hit()), ("for a", false), "{}", read.cache_status());
    let read = site.ask(with(get("/cases/1"), "host", "other"), "of another host").await;
    assert_eq!(read.text(), "of another host");
    assert!(site.handle.switch("cases", Switch::Off));
    assert_eq!(site.read("bypassed").await.text(), "bypassed");
    assert!(site.handle.switch("cases", Switch::On));
    assert_eq!(site.store().near.confirmed, confirmed);
    site.hits("for all").await;
    assert_eq!(site.store().near.confirmed, confirmed + 1);
}

#[tokio::test]
async fn what_is_for_one_caller_is_recalled_for_that_one() {
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    let per_caller = Credentials::PerCaller(Caller::authorization());
    let mut site = Site::lazy(store, |route| route.credentials(per_caller)).linked().await;
    let by = |caller: &'static str| with(get("/cases/1"), "authorization", caller);
    for caller in ["a", "b"] {
        until(PATIENCE, "what was read is recalled", async || {
            let before = site.store().near.confirmed;
            assert_eq!(site.ask(by(caller), caller).await.text(), caller);
            (site.store().near.confirmed > before).then_some(())
        })
        .await;
    }
    for caller in ["b", "a"] {
        let read = site.ask(by(caller), "not asked").await;
        assert_eq!((read.text(), read.is_hit()), (caller, true));
    }
}

/// A request whose answer cannot be used as it is goes on as if nothing had been remembered.
#[tokio::test]
async fn a_request_goes_on_where_what_was_recalled_is_gone() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let lookups = |site: &Site| {
        let store = site.store();
        store.operations.get(&Operation::Lookup).map_or(0, |lookups| lookups.answered)
    };
    let before = lookups(&site);
    let read = site.ask(get("/cases/2"), "never stored before").await;
    let (missed, of_a_miss) = (read.cache_status().to_owned(), lookups(&site) - before);
    site.recalls("one").await;
    server.run(&["DEL", "case:1"]).await;
    let before = lookups(&site);
    let read = site.read("two").await;
    assert_eq!((read.text(), read.cache_status()), ("two", &*missed));
    assert_eq!(lookups(&site) - before, of_a_miss, "what was found is not asked for again");
    site.recalls("two").await;
    server.run(&["DEL", "case:1"]).await;
    let head = site.ask(request(Method::HEAD, "/cases/1"), "three").await;
    assert!(head.cache_status().contains("fwd="), "{}", head.cache_status());
}

/// The times of a copy are instants of this process, whose clock the next heartbeat finds to be behind.
#[tokio::test]
async fn what_expires_while_this_process_is_suspended_is_stale() {
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    let lifetime = Duration::from_secs(4);
    let stale = |route: CacheRoute| route.ttl(lifetime).stale_while_revalidate(TTL);
    let mut site = Site::lazy(store, stale).linked().await;
    site.recalls("one").await;
    stand_still(lifetime).await;
    // Sooner than the copy would think.
    until(lifetime * 3 / 4, "the clock is right again", async || {
        let read = site.read("two").await;
        (read.text() == "two" || read.cache_status().contains("stale")).then_some(())
    })
    .await;
    assert!(site.store().is_linked);
    let after = site.counts();
    assert!(!after.stale.is_empty(), "{after:?}");
}

/// A look was on its way when what it found was invalidated: it may answer, and no more.
#[tokio::test]
async fn what_was_invalidated_is_not_asked_about_by_who_had_recalled_it() {
    not_asked_about(|store| store).await;
    // What is confirmed is copied here.
    not_asked_about(|store| {
        store.near_cache_capacity(1024 * 1024).near_cache_limit(Duration::from_millis(1))
    })
    .await;
}

async fn not_asked_about(near: impl Fn(RedisStoreBuilder) -> RedisStoreBuilder) {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let route = |route: CacheRoute| {
        route.freshness(Freshness::Origin).request_directives(RequestDirectives::Honour)
    };
    let store = near(patient(&proxy.url())).build().unwrap();
    let mut site = Site::lazy(store, route).linked().await;
    let fields = [("etag", "W/\"e\""), ("cache-control", "max-age=60")];
    let first = send(&site.cache, get("/cases/1"));
    site.calls.next().await.respond(response(200, &fields, "old"));
    assert_eq!(got(first).await.text(), "old");
    site.recalls("old").await;
    proxy.freeze();
    let reading = send(&site.cache, with(get("/cases/1"), "cache-control", "no-cache"));
    settle().await;
    let handle = site.handle.clone();
    let invalidating = tokio::spawn(async move { handle.invalidate("case:1").await });
    settle().await;
    proxy.thaw();
    invalidating.await.unwrap().expect("it is acknowledged");
    let call = site.calls.next().await;
    assert!(!call.head.headers.contains_key("if-none-match"), "it would be stored again");
    call.respond(response(200, &fields, "new"));
    assert_eq!(got(reading).await.text(), "new");
    assert_eq!(site.read("newer").await.text(), "new");
}

// ===== with tags =====

/// A dead record's number stays until something else is stored.
#[tokio::test]
async fn what_has_a_dead_tag_is_asked_about_once() {
    const TEXT: &str = "neither stored nor remembered";
    let server = Server::start().await;
    let (mut site, other) = (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    site.recalls("old").await;
    other.handle.invalidate_tag("all").await.unwrap();
    let mut looks = Vec::new();
    let _origins = [site.calls, other.calls].map(|calls| calls.serve(|_| response(500, &[], TEXT)));
    for cache in [&site.cache, &site.cache, &other.cache] {
        let before = server.calls().await["mget"];
        assert_eq!(got(send(cache, get("/cases/1"))).await.text(), TEXT);
        looks.push(server.calls().await["mget"] - before);
    }
    let [first, second, of_a_stranger] = looks[..] else { panic!("{looks:?}") };
    assert!(first > second && second == of_a_stranger, "{looks:?}");
}

#[tokio::test]
async fn what_has_a_tag_that_was_invalidated_is_not_recalled() {
    let server = Server::start().await;
    let (mut site, other) = (Site::tagged(&server.url()).await, Site::tagged(&server.url()).await);
    for tag in ["all", "case:1"] {
        site.recalls("old").await;
        other.handle.invalidate_tag(tag).await.unwrap();
        assert_eq!(site.read("new").await.text(), "new", "{tag}, elsewhere");
        site.recalls("new").await;
        site.handle.invalidate_tag(tag).await.unwrap();
        assert_eq!(site.read("newer").await.text(), "newer", "{tag}, here");
        site.handle.invalidate("case:1").await.unwrap();
    }
    site.recalls("old").await;
    server.run(&["DEL", STAMP]).await;
    assert_eq!(site.read("new").await.text(), "new");
}

#[tokio::test]
async fn what_is_of_a_group_that_was_invalidated_is_not_recalled() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    site.recalls_grouped("old").await;
    other.invalidate_group().await;
    assert_eq!(site.read_grouped("new").await.text(), "new");
}

/// It is one of the response that was remembered, and not of the request.
#[tokio::test]
async fn a_group_that_is_recalled_is_none_of_the_next_response() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    site.recalls_grouped("of a group").await;
    server.run(&["DEL", "case:1"]).await;
    let request = || with(get("/cases/1"), "host", "example.com");
    let read = site.ask(request(), "of none").await;
    assert!(read.cache_status().ends_with(";stored"), "{}", read.cache_status());
    other.invalidate_group().await;
    let read = site.ask(request(), "not asked").await;
    assert_eq!((read.text(), read.is_hit()), ("of none", true));
}

/// With the server silent both are given up: one after the other, the second were never asked for.
#[tokio::test]
async fn the_stamps_of_a_group_that_is_known_are_asked_for_beside_the_record() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let store = patient(&proxy.url()).lookup_budget(Duration::from_millis(300));
    let mut site = Site::over(store.build().unwrap()).await;
    site.recalls_grouped("one").await;
    let timed_out = |site: &Site| site.store().operations[&Operation::Lookup].timed_out;
    let before = timed_out(&site);
    proxy.freeze();
    assert_eq!(site.read_grouped("origin").await.text(), "origin");
    assert_eq!(timed_out(&site) - before, 2);
}
