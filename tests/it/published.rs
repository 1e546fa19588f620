//! Counts and times with the `metrics` facade: every request is in one series, and no series says who
//! asked for what.

use std::time::Duration;

use http::{Method, header::AUTHORIZATION};
use metrics::{set_default_local_recorder, with_local_recorder};
use tokio::time::advance;
use tower_support_cache::{
    Bypass, Invalidated, MemoryStore, OriginBudget, RequestDirectives, SupportCacheHandle,
    SupportCacheLayer, Switch,
};

use crate::{
    recorder::Kept,
    support::{
        Cached, Calls, cache, cache_with, fetch, get, got, request, response, send, settle, with,
    },
};

/// Publishes with a recorder that has seen nothing before.
fn published(handle: &SupportCacheHandle) -> Kept {
    let kept = Kept::default();
    with_local_recorder(&kept, || handle.publish_metrics());
    kept
}

const BUCKET: &str = "bucket=\"cases\",cache=\"support-cache\"";

fn requests(kept: &Kept, labels: &str) -> f64 {
    kept.value(&format!("support_cache_requests_total{{{BUCKET},{labels}}}"))
}

/// One request of every outcome, and some that share a reason.
async fn traffic(cache: &Cached, handle: &SupportCacheHandle, calls: &mut Calls) {
    let led = send(cache, get("/cases/1"));
    let call = calls.next().await;
    let joined = send(cache, get("/cases/1"));
    settle().await;
    call.ok("x");
    got(led).await;
    got(joined).await;
    got(send(cache, get("/cases/1"))).await;
    let refused = send(cache, get("/cases/2"));
    calls.next().await.with(200, ("cache-control", "no-store"), "x");
    got(refused).await;
    // One that leads no fill.
    let alone = send(cache, with(get("/cases/2"), "range", "bytes=0-0"));
    calls.next().await.ok("x");
    got(alone).await;
    let bypass = send(cache, with(get("/cases/1"), AUTHORIZATION.as_str(), "Bearer s3cret"));
    calls.next().await.ok("x");
    got(bypass).await;
    got(send(cache, with(get("/cases/3"), "cache-control", "only-if-cached"))).await;
    let failed = send(cache, get("/cases/4"));
    calls.next().await.fail();
    assert!(failed.await.unwrap().is_err());
    let write = send(cache, request(Method::POST, "/cases/1/comments"));
    calls.next().await.ok("x");
    got(write).await;
    handle.invalidate_tag("account:s3cret").await.unwrap();
    handle.switch("cases", Switch::Off);
}

fn service() -> (Cached, SupportCacheHandle, Calls) {
    cache_with(|route| route.tag("account:{case}").request_directives(RequestDirectives::Honour))
}

#[tokio::test(start_paused = true)]
async fn each_request_is_counted_in_one_series() {
    let (cache, handle, mut calls) = service();
    traffic(&cache, &handle, &mut calls).await;
    let kept = published(&handle);
    for labels in [
        "outcome=\"hit\"",
        "outcome=\"collapsed\"",
        "outcome=\"miss\"",
        "outcome=\"alone\",reason=\"pass\"",
        "outcome=\"bypass\",reason=\"credentials\"",
        "outcome=\"unsatisfied\"",
    ] {
        let expected = if labels.contains("miss") { 2.0 } else { 1.0 };
        assert_eq!(requests(&kept, labels), expected, "{labels}");
    }
    let all = kept.series().into_iter().filter(|series| series.contains("requests_total"));
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!(all.map(|series| kept.value(&series)).sum::<f64>(), bucket.requests() as f64);
    for (series, expected) in [
        ("fills_total{bucket=\"cases\",cache=\"support-cache\",result=\"stored\"}", 1.0),
        (
            "fills_total{bucket=\"cases\",cache=\"support-cache\",reason=\"no-store\",result=\"refused\"}",
            1.0,
        ),
        ("origin_failures_total{bucket=\"cases\",cache=\"support-cache\",reason=\"error\"}", 1.0),
        ("writes_total{cache=\"support-cache\",result=\"answered\"}", 1.0),
        ("invalidations_total{cache=\"support-cache\",kind=\"key\"}", 1.0),
        ("invalidations_total{cache=\"support-cache\",kind=\"tag\"}", 1.0),
        ("switched_off{bucket=\"cases\",cache=\"support-cache\"}", 1.0),
    ] {
        assert_eq!(kept.value(&format!("support_cache_{series}")), expected, "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_described_and_documented_and_names_no_one() {
    let recorder = Kept::default();
    let _installed = set_default_local_recorder(&recorder);
    let (cache, handle, mut calls) = service();
    traffic(&cache, &handle, &mut calls).await;
    handle.publish_metrics();
    let text = include_str!("../../src/publish.rs");
    for series in recorder.series() {
        let name = series.split('{').next().unwrap();
        assert!(recorder.described().contains(name), "{name} is not described");
        assert!(text.contains(&format!("`{name}`")), "{name} is not documented");
        for private in ["s3cret", "case:", "account", "/cases", "Bearer"] {
            assert!(!series.contains(private), "{series}");
        }
    }
    assert!(recorder.described().iter().all(|name| text.contains(&format!("`{name}`"))));
}

#[test]
fn the_budget_of_the_origin_is_published() {
    let budget = OriginBudget::new(200, Duration::from_secs(86_400)).burst(100).name("records");
    let layer = SupportCacheLayer::builder(MemoryStore::new()).origin_budget(budget);
    let handle = layer.build().unwrap().handle();
    handle.count_origin_calls(30);
    let kept = published(&handle);
    let labels = "cache=\"support-cache\",origin=\"records\"";
    for (name, expected) in [("budget_calls", 200.0), ("calls_left", 20.0), ("calls_total", 30.0)] {
        let series = format!("support_cache_origin_{name}{{{labels}}}");
        assert_eq!(kept.value(&series), expected, "{series}");
    }
    for call in ["early-refresh", "revalidation", "stale", "refused"] {
        let labels = format!("cache=\"support-cache\",call=\"{call}\",origin=\"records\"");
        let series = format!("support_cache_origin_calls_spared_total{{{labels}}}");
        assert!(kept.series().contains(&series), "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_hook_has_not_passed_on_is_published() {
    let hook = |_: Invalidated| std::future::pending::<()>();
    let layer = SupportCacheLayer::builder(MemoryStore::new()).invalidation_hook(hook);
    let handle = layer.build().unwrap().handle();
    handle.invalidate_many(["case:1", "case:2"]).await.unwrap();
    settle().await;
    let series = "support_cache_hook_pending{cache=\"support-cache\"}";
    assert_eq!(published(&handle).value(series), 2.0);
}

/// Each of them has a zero first: a rate sees the first occurrence only after another value.
#[tokio::test(start_paused = true)]
async fn a_reason_that_has_not_occurred_is_a_zero() {
    let (_, handle, _) = cache();
    let kept = published(&handle);
    let series = format!(
        "support_cache_requests_total{{{BUCKET},outcome=\"bypass\",reason=\"{}\"}}",
        Bypass::Host
    );
    assert!(kept.series().contains(&series));
    assert_eq!(kept.value(&series), 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_each_origin_request_is_recorded() {
    let recorder = Kept::default();
    let _installed = set_default_local_recorder(&recorder);
    let (cache, handle, mut calls) = cache();
    let credentials = || with(get("/cases/1"), AUTHORIZATION.as_str(), "x");
    for (request, seconds) in [(get("/cases/1"), 2), (credentials(), 3)] {
        let sent = send(&cache, request);
        let call = calls.next().await;
        advance(Duration::from_secs(seconds)).await;
        call.ok("x");
        got(sent).await;
    }
    let failed = send(&cache, get("/cases/2"));
    let call = calls.next().await;
    advance(Duration::from_secs(4)).await;
    call.fail();
    assert!(failed.await.unwrap().is_err());
    fetch(&cache, "/cases/1").await;
    let series = format!("support_cache_origin_seconds{{{BUCKET}}}");
    assert_eq!(recorder.recorded(&series), [2.0, 3.0, 4.0]);
    let origin = handle.metrics().bucket("cases").unwrap().origin.clone();
    assert_eq!((origin.count(), origin.sum()), (3, Duration::from_secs(9)));
}

#[tokio::test(start_paused = true)]
async fn hits_and_joins_save_the_mean_time_of_the_origin() {
    let (cache, handle, mut calls) = cache();
    let mut filled = async |uri: &str, took: u64| {
        let led = send(&cache, get(uri));
        let call = calls.next().await;
        let joined = send(&cache, get(uri));
        settle().await;
        advance(Duration::from_secs(took)).await;
        call.ok("x");
        got(led).await;
        got(joined).await;
    };
    let saved = || handle.metrics().bucket("cases").unwrap().saved.as_secs();
    assert_eq!(saved(), 0);
    filled("/cases/1", 4).await;
    assert_eq!(saved(), 4, "the join");
    fetch(&cache, "/cases/1").await;
    fetch(&cache, "/cases/1").await;
    assert_eq!(saved(), 4 + 8, "two hits");
    // The mean falls to 2 s: what was counted stays.
    filled("/cases/2", 0).await;
    assert_eq!(saved(), 12 + 2);
    let kept = published(&handle);
    let series = format!("support_cache_origin_seconds_saved_total{{{BUCKET}}}");
    assert_eq!(kept.value(&series), 14.0);
}

#[tokio::test(start_paused = true)]
async fn a_hit_ratio_is_of_all_requests_of_the_bucket() {
    let (cache, handle, calls) = cache();
    calls.serve(|_| response(200, &[], "x"));
    let ratio = || handle.metrics().bucket("cases").unwrap().hit_ratio();
    assert_eq!(ratio(), None);
    fetch(&cache, "/cases/1").await;
    assert_eq!(ratio(), Some(0.0));
    fetch(&cache, "/cases/1").await;
    assert_eq!(ratio(), Some(0.5));
    for _ in 0..2 {
        got(send(&cache, with(get("/cases/1"), AUTHORIZATION.as_str(), "x"))).await;
    }
    assert_eq!(ratio(), Some(0.25), "a bypass is a request, too");
}

#[tokio::test(start_paused = true)]
async fn counts_are_published_at_every_interval() {
    let (cache, handle, calls) = cache();
    calls.serve(|_| response(200, &[], "x"));
    let recorder = Kept::default();
    let _installed = set_default_local_recorder(&recorder);
    let publisher = handle.clone();
    let publishing = tokio::spawn(async move {
        publisher.publish_metrics_every(Duration::from_secs(10)).await;
    });
    settle().await;
    fetch(&cache, "/cases/1").await;
    assert_eq!(requests(&recorder, "outcome=\"miss\""), 0.0);
    advance(Duration::from_secs(10)).await;
    settle().await;
    assert_eq!(requests(&recorder, "outcome=\"miss\""), 1.0);
    publishing.abort();
}
