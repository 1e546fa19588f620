//! Whoever deletes a key invalidates it: we, another process, or a program that knows nothing of us.

use std::time::Duration;

use http::Method;
use tower_support_cache::CacheRoute;

use crate::{
    Site, patient,
    server::{PATIENCE, Server, pause, until},
    support::{TTL, get, got, request, send, with},
};

const FENCED: &str = "detail=fenced";

#[tokio::test]
async fn a_response_is_stored_and_an_invalidation_removes_it() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    site.hits("old").await;
    site.handle.invalidate("case:1").await.unwrap();
    assert_eq!(server.command::<u64>(&["EXISTS", "case:1"]).await, 0);
    site.fill("new").await;
}

#[tokio::test]
async fn a_write_through_the_layer_invalidates_for_all_processes() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    other.fill("old").await;
    let written = site.ask(request(Method::POST, "/cases/1/comments"), "").await;
    assert_eq!(written.status, 200);
    assert_eq!(other.read("new").await.text(), "new");
}

/// Each way in which a key can vanish. Nobody has told us.
#[tokio::test]
async fn whatever_removes_a_key_is_an_invalidation() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    for removal in [
        &["DEL", "case:1"][..],
        &["UNLINK", "case:1"],
        &["PEXPIRE", "case:1", "0"],
        &["RENAME", "case:1", "another"],
        &["FLUSHDB"],
        &["FLUSHALL"],
    ] {
        site.fill("old").await;
        server.run(removal).await;
        assert_eq!(site.read("new").await.text(), "new", "{removal:?}");
        server.run(&["DEL", "case:1"]).await;
    }
}

#[tokio::test]
async fn a_plain_del_removes_every_variant() {
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    let mut site = Site::lazy(store, |route| route.vary([http::header::ACCEPT])).linked().await;
    let variants = [
        get("/cases/1?page=1"),
        get("/cases/1?page=2"),
        with(get("/cases/1"), "accept", "text/html"),
    ];
    for variant in &variants {
        site.ask(variant.clone(), "old").await;
        assert!(site.ask(variant.clone(), "not stored").await.is_hit());
    }
    server.run(&["DEL", "case:1"]).await;
    for variant in variants {
        assert_eq!(site.ask(variant, "new").await.text(), "new");
    }
}

/// Fields that a response nominates are in the same key, and fall with it.
#[tokio::test]
async fn a_plain_del_removes_what_is_found_by_a_nominated_field() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let german = || with(get("/cases/1"), "accept-language", "de");
    let reading = send(&site.cache, german());
    site.calls.next().await.with(200, ("vary", "accept-language"), "alt");
    got(reading).await;
    assert_eq!(other.ask(german(), "not stored").await.text(), "alt");
    assert_eq!(other.ask(get("/cases/1"), "another variant").await.text(), "another variant");
    server.run(&["DEL", "case:1"]).await;
    assert_eq!(other.ask(german(), "neu").await.text(), "neu");
    assert_eq!(site.ask(german(), "not stored").await.text(), "neu");
}

#[tokio::test]
async fn a_plain_del_in_mid_fill_refuses_the_commit() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let reading = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    server.run(&["DEL", "case:1"]).await;
    call.ok("old");
    let read = got(reading).await;
    assert_eq!(read.text(), "old", "who asked before gets what was asked for");
    assert!(read.cache_status().ends_with(FENCED), "{}", read.cache_status());
    assert_eq!((site.store().fenced, site.counts().stored), (1, 0));
    site.fill("new").await;
}

/// The key holds a lease again when the older fill commits, but not its own.
#[tokio::test]
async fn a_fill_that_was_overtaken_does_not_commit_under_anothers_lease() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let older = send(&site.cache, get("/cases/1"));
    let old = site.calls.next().await;
    server.run(&["DEL", "case:1"]).await;
    let newer = send(&other.cache, get("/cases/1"));
    let new = other.calls.next().await;
    old.ok("old");
    assert!(got(older).await.cache_status().ends_with(FENCED));
    new.ok("new");
    assert!(got(newer).await.cache_status().ends_with(";stored"));
    site.hits("new").await;
    other.hits("new").await;
}

/// Rule 2: over a shared store a flight is joined by the token alone that was read after the request
/// began. Nothing has told this process of the deletion.
#[tokio::test]
async fn a_request_after_a_plain_del_joins_no_older_flight() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let before = send(&site.cache, get("/cases/1"));
    let old = site.calls.next().await;
    server.run(&["DEL", "case:1"]).await;
    let after = send(&site.cache, get("/cases/1"));
    site.calls.next().await.ok("new");
    assert_eq!(got(after).await.text(), "new");
    old.ok("old");
    assert_eq!(got(before).await.text(), "old");
    site.hits("new").await;
}

#[tokio::test]
async fn requests_for_one_key_make_one_call() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let readings: Vec<_> = (0..50).map(|_| send(&site.cache, get("/cases/1"))).collect();
    let call = site.calls.next().await;
    // Whoever has come by now follows; who comes later finds the lease, or the response.
    call.ok("one");
    for reading in readings {
        assert_eq!(got(reading).await.text(), "one");
    }
    assert_eq!(site.calls.count(), 1);
}

#[tokio::test]
async fn an_invalidation_of_everything_reaches_all_processes_once_acknowledged() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    for round in 0..3 {
        site.fill("old").await;
        other.hits("old").await;
        let filling = send(&other.cache, get("/cases/2"));
        let call = other.calls.next().await;
        site.handle.invalidate_all().await.unwrap();
        assert_eq!(other.read("new").await.text(), "new", "round {round}");
        assert_eq!(site.read("not stored").await.text(), "new", "round {round}");
        call.ok("old");
        got(filling).await;
        for site in [&mut site, &mut other] {
            let read = site.ask(get("/cases/2"), "new").await;
            assert_eq!(read.text(), "new", "round {round}: a fill from before stores nothing");
        }
        server.run(&["DEL", "case:1", "case:2"]).await;
    }
}

#[tokio::test]
async fn a_bucket_is_invalidated_for_all_processes() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    for is_soft in [false, true] {
        site.fill("old").await;
        other.hits("old").await;
        match is_soft {
            false => site.handle.invalidate_bucket("cases").await.unwrap(),
            true => site.handle.soft_invalidate_bucket("cases").await.unwrap(),
        }
        assert_eq!(other.read("new").await.text(), "new");
        site.hits("new").await;
        site.handle.invalidate("case:1").await.unwrap();
    }
}

#[tokio::test]
async fn an_invalidation_is_counted_and_answered_while_nothing_is_stored() {
    let server = Server::start().await;
    let site = Site::on(&server.url()).await;
    let before = site.handle.metrics().invalidations;
    site.handle.invalidate("case:never").await.unwrap();
    assert_eq!(site.handle.metrics().invalidations, before + 1);
    assert_eq!(site.store().pending, 0);
}

#[tokio::test]
async fn a_soft_invalidation_leaves_what_may_be_stale_and_voids_fills_in_flight() {
    let server = Server::start().await;
    let store = || patient(&server.url()).build().unwrap();
    let stale = |route: CacheRoute| route.stale_while_revalidate(TTL);
    let mut site = Site::lazy(store(), stale).linked().await;
    let mut other = Site::lazy(store(), stale).linked().await;
    site.fill("old").await;
    other.hits("old").await;
    site.handle.soft_invalidate("case:1").await.unwrap();
    // In either process, and one call asks about it for both.
    other.is_stale("old").await;
    let asking = other.calls.next().await;
    assert_eq!(got(send(&site.cache, get("/cases/1"))).await.text(), "old");
    asking.ok("new");
    until(PATIENCE, "the new response is stored", async || {
        let read = got(send(&site.cache, get("/cases/1"))).await;
        (read.text() == "new" && read.is_hit()).then_some(())
    })
    .await;
    assert_eq!(site.calls.count(), 1, "what filled it first");
    let fields: Vec<String> = server.command(&["HKEYS", "case:1"]).await;
    assert!(fields.iter().all(|field| field.starts_with("v:")), "{fields:?}");

    let filling = send(&site.cache, get("/cases/2"));
    let call = site.calls.next().await;
    other.handle.soft_invalidate("case:2").await.unwrap();
    call.ok("overtaken");
    got(filling).await;
    assert_eq!(other.ask(get("/cases/2"), "later").await.text(), "later");
}

#[tokio::test]
async fn a_soft_invalidation_leaves_nothing_that_is_of_no_use() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    site.handle.soft_invalidate("case:1").await.unwrap();
    assert_eq!(server.command::<u64>(&["EXISTS", "case:1"]).await, 0);
    site.fill("new").await;
}

#[tokio::test]
async fn stale_windows_count_from_the_soft_invalidation() {
    const WINDOW: Duration = Duration::from_secs(1);
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    let stale = |route: CacheRoute| route.stale_while_revalidate(WINDOW);
    let mut site = Site::lazy(store, stale).linked().await;
    site.fill("old").await;
    site.handle.soft_invalidate("case:1").await.unwrap();
    pause(WINDOW + WINDOW / 4).await;
    assert_eq!(site.read("new").await.text(), "new");
}

/// The name is the store's own. Another value there begins another epoch: the cache is empty, and works.
#[tokio::test]
async fn a_foreign_value_at_the_name_of_the_epoch_heals() {
    const EPOCH: &str = "tower-support-cache:epoch";
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("0").await;
    for (body, foreign) in [
        ("1", &["RPUSH", EPOCH, "1"][..]),
        ("2", &["HSET", EPOCH, "a", "1"]),
        ("3", &["SET", EPOCH, "foreign"]),
        ("4", &["SET", EPOCH, ""]),
    ] {
        server.run(&["DEL", EPOCH]).await;
        server.run(foreign).await;
        until(PATIENCE, "another epoch has begun", async || {
            let read = site.read(body).await;
            (read.is_hit() && read.text() == body).then_some(())
        })
        .await;
        assert_eq!(server.command::<u64>(&["STRLEN", EPOCH]).await, 16, "{foreign:?}");
    }
}
