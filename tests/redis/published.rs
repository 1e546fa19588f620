//! Counts and times of the store with the `metrics` facade.

use metrics::set_default_local_recorder;
use tower_support_cache::{Operation, RedisStore};

use crate::{
    Site,
    recorder::Kept,
    server::{PATIENCE, Server, until},
};

#[tokio::test]
async fn operations_are_timed_and_the_state_of_the_store_is_published() {
    let recorder = Kept::default();
    let _installed = set_default_local_recorder(&recorder);
    let mut server = Server::start().await;
    // With a near cache.
    let mut site = Site::over(RedisStore::builder(server.url()).build().unwrap()).await;
    site.fill("one").await;
    let lookups = "support_cache_store_operation_seconds{operation=\"lookup\",result=\"answered\"}";
    let counted = site.store().operations[&Operation::Lookup].answered;
    assert_eq!(recorder.recorded(lookups).len() as u64, counted);
    let published = || {
        site.handle.publish_metrics();
        recorder.value("support_cache_store_linked{}")
    };
    assert_eq!(published(), 1.0);
    server.kill();
    until(PATIENCE, "the loss is noticed", async || (published() == 0.0).then_some(())).await;
    assert_eq!(recorder.value("support_cache_store_links_lost_total{}"), 1.0);
    let _ = site.handle.invalidate("case:1").await;
    published();
    assert!(recorder.value("support_cache_store_pending_invalidations{}") >= 1.0);
    let text = include_str!("../../src/publish.rs");
    for series in recorder.series() {
        let name = series.split('{').next().unwrap();
        assert!(recorder.described().contains(name), "{name} is not described");
        assert!(text.contains(&format!("`{name}`")), "{name} is not documented");
    }
}
