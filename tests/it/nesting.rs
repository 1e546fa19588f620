//! Layers within layers.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_support_cache::{Alone, CacheRoute, InvalidateRoute, MemoryStore, SupportCacheLayer};

use crate::support::{TTL, get, request, settle};

fn layer_on(
    store: &MemoryStore,
    route: impl FnOnce(CacheRoute) -> CacheRoute,
) -> SupportCacheLayer<MemoryStore> {
    let cached = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL);
    SupportCacheLayer::builder(store.clone())
        .cache(route(cached.jitter(0)))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap()
}

fn layer() -> SupportCacheLayer<MemoryStore> {
    layer_on(&MemoryStore::new(), |route| route)
}

/// Service that answers with the number of the call.
fn numbered() -> (
    impl Service<
        Request<Empty<Bytes>>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static,
    Arc<AtomicUsize>,
) {
    let count = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&count);
    let service = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            Ok(Response::new(Full::from(call.to_string())))
        }
    });
    (service, count)
}

/// The paused time.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// Text and `Cache-Status` of a response.
async fn ask<S, B>(service: &S, asked: Request<Empty<Bytes>>) -> (String, Vec<String>)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
    B: Body<Error: std::fmt::Debug>,
{
    let response = service.clone().oneshot(asked).await.unwrap();
    let (head, body) = response.into_parts();
    let said = head.headers.get_all("cache-status").iter();
    let said = said.map(|line| line.to_str().unwrap().to_owned()).collect();
    let text = body.collect().await.unwrap().to_bytes();
    (String::from_utf8(text.to_vec()).unwrap(), said)
}

const STORED: &str = "support-cache;fwd=uri-miss;fwd-status=200;stored";

/// Checks that a cold request costs one call and no time, and that what it brings is stored once.
async fn assert_passes<S, B>(service: S, count: &AtomicUsize)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
    S: Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: std::fmt::Debug> + Send + 'static,
{
    let begun = now();
    for case in 0..40 {
        let target = format!("/cases/{case}");
        assert_eq!(ask(&service, get(&target)).await, (case.to_string(), vec![STORED.to_owned()]));
        let (text, said) = ask(&service, get(&target)).await;
        assert!(
            text == case.to_string() && said.len() == 1 && said[0].contains(";hit"),
            "{said:?}"
        );
    }
    assert_eq!((count.load(Ordering::SeqCst), begun.elapsed()), (40, Duration::ZERO));
    ask(&service, request(Method::POST, "/cases/1/comments")).await;
    assert_eq!(ask(&service, get("/cases/1")).await.0, "41");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_layer_within_itself_is_found_at_the_first_request() {
    let (layer, (origin, count)) = (layer(), numbered());
    assert_passes(layer.layer(layer.layer(origin)), &count).await;
    let bucket = layer.handle().metrics().bucket("cases").unwrap().clone();
    assert_eq!((bucket.misses, bucket.stored, bucket.hits), (41, 41, 40));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_within_itself_three_times_is_found() {
    let (layer, (origin, count)) = (layer(), numbered());
    assert_passes(layer.layer(layer.layer(layer.layer(origin))), &count).await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_within_itself_is_found_through_a_buffer() {
    let (layer, (origin, count)) = (layer(), numbered());
    let service = ServiceBuilder::new().layer(layer.clone()).buffer(100).layer(layer);
    assert_passes(service.service(origin), &count).await;
}

#[tokio::test(start_paused = true)]
async fn another_layer_with_the_same_rules_and_store_is_as_good_as_the_layer_itself() {
    let (store, (origin, count)) = (MemoryStore::new(), numbered());
    let [outer, inner] = [(); 2].map(|()| layer_on(&store, |route| route));
    assert_passes(outer.layer(inner.layer(origin)), &count).await;
    let counts = [outer, inner].map(|layer| {
        let bucket = layer.handle().metrics().bucket("cases").unwrap().clone();
        (bucket.misses, bucket.stored)
    });
    assert_eq!(counts, [(41, 41), (0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_share_one_call_through_two_layers() {
    let (layer, (origin, count)) = (layer(), numbered());
    let service = layer.layer(layer.layer(origin));
    let begun = now();
    let all: Vec<_> = (0..100)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { ask(&service, get("/cases/1")).await.0 })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), "0");
    }
    assert_eq!((count.load(Ordering::SeqCst), begun.elapsed()), (1, Duration::ZERO));
}

/// The inner layer would answer the question of the outer one with what is stale.
#[tokio::test(start_paused = true)]
async fn what_is_stale_is_asked_about_through_two_layers() {
    let layer = layer_on(&MemoryStore::new(), |route| route.stale_while_revalidate(TTL));
    let (origin, count) = numbered();
    let service = layer.layer(layer.layer(origin));
    ask(&service, get("/cases/1")).await;
    advance(TTL).await;
    assert_eq!(ask(&service, get("/cases/1")).await.0, "0");
    settle().await;
    assert_eq!(count.load(Ordering::SeqCst), 2);
    assert_eq!(ask(&service, get("/cases/1")).await.0, "1");
}

#[tokio::test(start_paused = true)]
async fn layers_with_other_rules_on_one_store_each_cache() {
    let store = MemoryStore::new();
    let outer = layer_on(&store, |route| route);
    let inner = layer_on(&store, |route| route.tag("all"));
    let (origin, count) = numbered();
    let service = outer.layer(inner.layer(origin));
    let begun = now();
    let (text, said) = ask(&service, get("/cases/1")).await;
    assert_eq!((text.as_str(), said), ("0", vec![STORED.to_owned(); 2]));
    assert!(ask(&service, get("/cases/1")).await.1.last().unwrap().contains(";hit"));
    inner.handle().invalidate_tag("all").await.unwrap();
    assert_eq!(ask(&service, get("/cases/1")).await.0, "0", "the outer response has no tag");
    outer.handle().invalidate("case:1").await.unwrap();
    assert_eq!(ask(&service, get("/cases/1")).await.0, "1");
    ask(&service, request(Method::POST, "/cases/1/comments")).await;
    assert_eq!(ask(&service, get("/cases/1")).await.0, "3");
    assert_eq!((count.load(Ordering::SeqCst), begun.elapsed()), (4, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn layers_with_the_same_rules_on_two_stores_each_cache() {
    let (outer, inner, (origin, count)) = (layer(), layer(), numbered());
    let service = outer.layer(inner.layer(origin));
    for _ in 0..2 {
        assert_eq!(ask(&service, get("/cases/1")).await.0, "0");
    }
    outer.handle().invalidate("case:1").await.unwrap();
    let (text, said) = ask(&service, get("/cases/1")).await;
    assert!(text == "0" && said[0].contains(";hit") && said[1] == STORED, "{said:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// A handler that sends its request on to another cached resource is served from the cache there.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_sent_on_to_another_resource_is_cached_there() {
    let (layer, (origin, count)) = (layer(), numbered());
    let inner = layer.layer(origin);
    let redirecting = tower::service_fn(move |mut asked: Request<Empty<Bytes>>| {
        if asked.uri() == "/cases/1" {
            *asked.uri_mut() = "/cases/2".parse().unwrap();
        }
        inner.clone().oneshot(asked)
    });
    let service = layer.layer(redirecting);
    assert_eq!(ask(&service, get("/cases/2")).await.0, "0");
    let (text, said) = ask(&service, get("/cases/1")).await;
    assert!(text == "0" && said[0].contains(";hit"), "{said:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// Only the first fills are marked; one request that has waited to its deadline marks further ones.
#[tokio::test(start_paused = true)]
async fn a_layer_that_is_found_within_itself_late_costs_one_wait() {
    let (layer, (origin, _)) = (layer(), numbered());
    let inner = layer.layer(origin.clone());
    let routing = tower::service_fn(move |asked: Request<Empty<Bytes>>| {
        let (inner, origin) = (inner.clone(), origin.clone());
        async move {
            match asked.uri().path().starts_with("/cases/nested") {
                true => ask(&inner, asked).await,
                false => ask(&origin, asked).await,
            };
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
        }
    });
    let service = layer.layer(routing);
    let begun = now();
    for case in 0..100 {
        ask(&service, get(&format!("/cases/{case}"))).await;
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    ask(&service, get("/cases/nested-1")).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    for case in 2..100 {
        ask(&service, get(&format!("/cases/nested-{case}"))).await;
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    let alone = layer.handle().metrics().bucket("cases").unwrap().alone.clone();
    assert_eq!(alone.get(&Alone::Deadline), Some(&1));
}
