//! What layers around the cache ask of it: other fields for clients, refreshed responses, a warm cache.

use std::{sync::atomic::Ordering, time::Duration};

use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Empty;
use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheOutcome, CacheRoute, ForceRefresh, InvalidateRoute, MemoryStore, ReportOutcome,
    StatusField, SupportCacheLayer, Warmup,
};

use crate::support::{
    Cached, Calls, Got, TTL, cache, cache_with, fetch, get, got, origin, request, response, send,
    settle, with,
};

// ===== Cache-Status for clients =====

fn with_field(field: StatusField) -> (Cached, Calls) {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL).jitter(0))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .status_field(field)
        .build()
        .unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), calls)
}

/// Sends a request for each way to answer: a miss, a hit, a 304, a part, a bypass, a write.
async fn each_way(cache: &Cached) -> Vec<Got> {
    let mut all = Vec::new();
    for request in [
        get("/cases/1"),
        get("/cases/1"),
        with(get("/cases/1"), "if-none-match", "\"a\""),
        with(get("/cases/1"), "range", "bytes=0-0"),
        with(get("/cases/1"), "range", "bytes=9-"),
        with(get("/cases/1"), "authorization", "x"),
        request(Method::POST, "/cases/1/comments"),
    ] {
        all.push(got(send(cache, request)).await);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn cache_status_is_hidden_from_clients() {
    let (cache, calls) = with_field(StatusField::Hidden);
    calls.serve(|_| response(200, &[("etag", "\"a\""), ("cache-status", "inner;hit")], "x"));
    for got in each_way(&cache).await {
        assert_eq!(got.cache_status(), "", "{got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn cache_status_is_sent_under_another_name() {
    let (cache, calls) = with_field(StatusField::Named(HeaderName::from_static("x-portal-cache")));
    calls.serve(|_| response(200, &[("etag", "\"a\"")], "x"));
    let found: Vec<_> = each_way(&cache)
        .await
        .into_iter()
        .map(|got| {
            assert_eq!(got.cache_status(), "", "{got:?}");
            (got.status.as_u16(), got.fields["x-portal-cache"].to_str().unwrap().to_owned())
        })
        .collect();
    let hit = "support-cache;hit;ttl=60".to_owned();
    let expected = [
        (200, "support-cache;fwd=uri-miss;fwd-status=200;stored".to_owned()),
        (200, hit.clone()),
        (304, hit.clone()),
        (206, hit.clone()),
        (416, hit),
        (200, "support-cache;fwd=bypass;fwd-status=200;detail=credentials".to_owned()),
        (200, "support-cache;fwd=method;fwd-status=200".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn what_no_rule_is_for_keeps_its_cache_status() {
    let (cache, calls) = with_field(StatusField::Hidden);
    calls.serve(|_| response(200, &[("cache-status", "inner;hit")], "x"));
    assert_eq!(fetch(&cache, "/other").await.cache_status(), "inner;hit");
}

// ===== a forced refresh =====

fn refreshing(mut request: Request<Empty<bytes::Bytes>>) -> Request<Empty<bytes::Bytes>> {
    request.extensions_mut().insert(ForceRefresh);
    request
}

#[tokio::test(start_paused = true)]
async fn a_marked_request_replaces_what_is_stored() {
    let (cache, _, mut calls) = cache();
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(first).await;
    let refresh = send(&cache, refreshing(get("/cases/1")));
    calls.next().await.ok("new");
    let refreshed = got(refresh).await;
    assert_eq!(refreshed.text(), "new");
    let expected = "support-cache;fwd=request;fwd-status=200;stored";
    assert_eq!(refreshed.cache_status(), expected);
    let hit = fetch(&cache, "/cases/1").await;
    assert_eq!((hit.text(), hit.is_hit()), ("new", true));
}

/// A response on its way may be older than the reason for the refresh.
#[tokio::test(start_paused = true)]
async fn a_marked_request_joins_no_flight_and_its_response_is_not_replaced_by_an_older_one() {
    let (cache, _, mut calls) = cache();
    let earlier = send(&cache, get("/cases/1"));
    let slow = calls.next().await;
    advance(Duration::from_millis(1)).await;
    let refresh = send(&cache, refreshing(get("/cases/1")));
    calls.next().await.ok("new");
    assert_eq!(got(refresh).await.text(), "new");
    slow.ok("old");
    assert_eq!(got(earlier).await.text(), "old");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_marked_request_is_not_answered_with_what_is_stale_and_a_failure_removes_nothing() {
    let (cache, _, mut calls) =
        cache_with(|route| route.stale_while_revalidate(TTL).stale_if_error(TTL));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(first).await;
    let refresh = send(&cache, refreshing(get("/cases/1")));
    calls.next().await.with(503, ("x-a", "b"), "down");
    assert_eq!(got(refresh).await.status, 503);
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
}

// ===== a warm-up =====

#[tokio::test(start_paused = true)]
async fn a_warm_up_stores_for_the_host_of_the_clients() {
    let (cache, _, calls) = cache();
    let count = calls.serve(|head| match head.uri.path() {
        "/cases/3" => response(200, &[("set-cookie", "a=b")], "x"),
        _ => response(200, &[], "x"),
    });
    let warmup = Warmup::new(cache.clone(), HeaderValue::from_static("portal.example"));
    let requests = || ["/cases/1", "/cases/2", "/cases/3", "/other"].map(get);
    let warmed = warmup.send(requests()).await;
    assert_eq!((warmed.stored, warmed.present, warmed.uncached, warmed.failed), (2, 0, 2, 0));
    let before = count.load(Ordering::SeqCst);
    let client = with(get("/cases/1"), "host", "portal.example");
    assert!(got(send(&cache, client)).await.is_hit());
    assert_eq!(count.load(Ordering::SeqCst), before);
    let warmed = warmup.send(requests()).await;
    assert_eq!((warmed.stored, warmed.present), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_asks_for_so_many_at_once_and_counts_failures() {
    let (cache, _, mut calls) = cache();
    let warmup = Warmup::new(cache, HeaderValue::from_static("portal.example")).concurrency(2);
    let warming = tokio::spawn(async move {
        warmup.send((0..3).map(|case| get(&format!("/cases/{case}")))).await
    });
    let mut first = calls.all().await;
    assert_eq!(first.len(), 2);
    first.pop().unwrap().fail();
    first.pop().unwrap().panic();
    settle().await;
    let last = calls.all().await;
    assert_eq!(last.len(), 1);
    last.into_iter().for_each(|call| call.ok("x"));
    let warmed = warming.await.unwrap();
    assert_eq!((warmed.stored, warmed.failed), (1, 2));
}

/// As one that asks for it has it from a layer further out.
#[tokio::test(start_paused = true)]
async fn an_outcome_is_for_layers_even_where_clients_see_none() {
    let (cache, calls) = with_field(StatusField::Hidden);
    calls.serve(|_| response(200, &[], "x"));
    fetch(&cache, "/cases/1").await;
    let mut request = get("/cases/1");
    request.extensions_mut().insert(ReportOutcome);
    let hit = cache.oneshot(request).await.unwrap();
    assert_eq!(hit.extensions().get(), Some(&CacheOutcome::Hit));
}
