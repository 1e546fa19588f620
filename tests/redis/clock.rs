//! A server whose clock is set while it runs.

use std::time::Duration;

use http::Response;
use tower_support_cache::{CacheRoute, CacheTags};

use crate::{
    Site, far, patient,
    server::{PATIENCE, Server, until},
    support::{GatedBody, TTL, get, got, send},
    tags::tagged,
};

pub(crate) const HOUR: i64 = 3_600_000;

/// Waits until a site has measured the server's clock again.
pub(crate) async fn measured(site: &Site) {
    let beats = |site: &Site| {
        let store = site.store();
        store.operations[&tower_support_cache::Operation::Heartbeat].answered
    };
    let before = beats(site);
    until(PATIENCE, "the clock is measured", async || (beats(site) > before + 1).then_some(()))
        .await;
}

#[tokio::test]
async fn what_was_stored_before_the_clock_was_set_back_belongs_to_nobody() {
    for route in [|route: CacheRoute| route, tagged] {
        let mut server = Server::with_clock().await;
        let site =
            || async { Site::lazy(patient(&server.url()).build().unwrap(), route).linked().await };
        let (mut site, mut other) = (site().await, site().await);
        site.fill("old").await;
        other.hits("old").await;
        server.step_clock(-HOUR);
        for site in [&mut site, &mut other] {
            measured(site).await;
            assert_eq!(site.read("new").await.text(), "new");
        }
        site.fill("new").await;
        other.hits("new").await;
    }
}

/// Clocks are set by small steps all the time.
#[tokio::test]
async fn a_small_step_costs_nothing() {
    let mut server = Server::with_clock().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    site.fill("one").await;
    server.step_clock(-500);
    for site in [&mut site, &mut other] {
        measured(site).await;
        site.hits("one").await;
    }
}

/// Age that the clock has jumped over is age: what is set forward may be right.
#[tokio::test]
async fn what_was_stored_before_the_clock_was_set_forward_is_older() {
    let mut server = Server::with_clock().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    server.step_clock(TTL.as_millis() as i64 + 1000);
    measured(&site).await;
    assert_eq!(site.read("new").await.text(), "new");
}

#[tokio::test]
async fn a_soft_invalidation_before_the_clock_was_set_back_opens_no_window() {
    let mut server = Server::with_clock().await;
    let store = patient(&server.url()).build().unwrap();
    let mut site = Site::lazy(store, |route| route.stale_while_revalidate(Duration::from_secs(5)))
        .linked()
        .await;
    site.fill("old").await;
    site.handle.soft_invalidate("case:1").await.unwrap();
    server.step_clock(-HOUR);
    measured(&site).await;
    assert_eq!(site.read("new").await.text(), "new");
}

/// The history over Redis has found it: by the reader's measurement the response came in the future, and what
/// its own route cut to a lifetime of zero was fresh until then.
#[tokio::test]
async fn what_is_softly_invalidated_is_stale_also_if_the_clock_was_set_forward_since_it_was_measured()
 {
    let mut server = Server::with_clock().await;
    let slow = patient(&server.url()).heartbeat(Duration::from_secs(8)).build().unwrap();
    let shorter = |route: CacheRoute| route.stale_while_revalidate(TTL / 2);
    let mut before = Site::lazy(slow, shorter).linked().await;
    server.step_clock(900);
    let store = patient(&server.url()).build().unwrap();
    let mut after = Site::lazy(store, |route| route.stale_while_revalidate(TTL)).linked().await;
    after.fill("old").await;
    after.handle.soft_invalidate("case:1").await.unwrap();
    let read = before.read("new").await;
    let is_stale = read.cache_status().contains("stale-while-revalidate");
    assert!(is_stale || read.text() == "new", "{}", read.cache_status());
}

/// Its holder is gone, and the clock makes it last for an hour more.
#[tokio::test]
async fn a_lease_from_before_the_clock_was_set_back_keeps_nobody_from_filling() {
    let mut server = Server::with_clock().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let filling = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    server.step_clock(-HOUR);
    measured(&other).await;
    let read = send(&other.cache, get("/cases/1"));
    other.calls.next().await.ok("new");
    let read = got(read).await;
    assert!(read.cache_status().ends_with(";stored"), "{}", read.cache_status());
    call.ok("old");
    assert!(!got(filling).await.cache_status().ends_with(";stored"));
    site.hits("new").await;
}

/// The version of its tag would look newer than any fill.
#[tokio::test]
async fn a_tag_from_before_the_clock_was_set_back_keeps_no_response_from_being_stored() {
    let mut server = Server::with_clock().await;
    let mut site = Site::over(far(&server.url()).build().unwrap()).await;
    let read = async |site: &mut Site| {
        let reading = send(&site.cache, get("/cases/1"));
        let tags = CacheTags::new(["product:7"]);
        let response = Response::builder().extension(tags).body(GatedBody::full("x")).unwrap();
        site.calls.next().await.respond(response);
        got(reading).await.cache_status().to_owned()
    };
    read(&mut site).await;
    server.step_clock(-HOUR);
    measured(&site).await;
    read(&mut site).await;
    let status = read(&mut site).await;
    assert!(status.ends_with(";stored"), "{status}");
}
