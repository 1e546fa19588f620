//! Readiness: the layer is always ready, a hit waits for nobody, and what is forwarded waits for
//! the inner service on the clone that it calls.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Empty;
use tower::{
    Layer, Service, ServiceExt,
    buffer::Buffer,
    limit::ConcurrencyLimit,
    load_shed::{LoadShed, error::Overloaded},
    timeout::{Timeout, error::Elapsed},
};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, SupportCache, SupportCacheLayer,
};

use crate::support::{
    Calls, GatedBody, Origin, OriginError, TTL, get, origin, read, request, response, settle,
};

type Get = Request<Empty<Bytes>>;

fn layer() -> SupportCacheLayer<MemoryStore> {
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap()
}

/// Polls once.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A cache over an inner service that takes one request at a time, with `/cases/1` stored.
async fn limited() -> (SupportCache<ConcurrencyLimit<Origin>, MemoryStore>, Calls) {
    let (origin, mut calls) = origin();
    let cache = layer().layer(ConcurrencyLimit::new(origin, 1));
    let first = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    calls.next().await.ok("stored");
    read(first.await.unwrap().unwrap()).await;
    (cache, calls)
}

#[tokio::test(start_paused = true)]
async fn a_hit_does_not_wait_for_a_saturated_service() {
    let (cache, mut calls) = limited().await;
    let _busy = tokio::spawn(cache.clone().oneshot(get("/cases/2")));
    let _held = calls.next().await;
    let hit = at_once(cache.oneshot(get("/cases/1"))).expect("a hit is ready at the first poll");
    assert_eq!(read(hit.unwrap()).await.text(), "stored");
}

#[tokio::test(start_paused = true)]
async fn a_hit_is_answered_by_the_call_itself() {
    let (mut cache, mut calls) = limited().await;
    let _busy = tokio::spawn(cache.clone().oneshot(get("/cases/2")));
    let _held = calls.next().await;
    ServiceExt::<Get>::ready(&mut cache).await.unwrap();
    assert!(at_once(cache.call(get("/cases/1"))).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_and_not_called_holds_nothing() {
    let (cache, mut calls) = limited().await;
    let mut idle: Vec<_> = (0..3).map(|_| cache.clone()).collect();
    for service in &mut idle {
        at_once(ServiceExt::<Get>::ready(service)).expect("always ready").unwrap();
    }
    let miss = tokio::spawn(cache.oneshot(get("/cases/2")));
    calls.now().await.expect("the one place is free").ok("x");
    assert!(miss.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn misses_and_writes_through_a_service_for_one_at_a_time_all_end() {
    let (cache, calls) = limited().await;
    let count = calls.serve(|_| response(200, &[], "x"));
    let tasks: Vec<_> = (0..60)
        .map(|n| {
            let mut cache = cache.clone();
            tokio::spawn(async move {
                let request = match n % 3 {
                    0 => request(Method::POST, &format!("/cases/{}/comments", n % 5)),
                    1 => get("/elsewhere"),
                    _ => get(&format!("/cases/{}", n % 7)),
                };
                let reply = ServiceExt::<Get>::ready(&mut cache).await?.call(request).await?;
                Ok::<_, OriginError>(read(reply).await)
            })
        })
        .collect();
    for task in tasks {
        let got = tokio::time::timeout(Duration::from_secs(60), task).await;
        let got = got.expect("nothing hangs").unwrap().unwrap();
        assert!(["x", "stored"].contains(&got.text()));
    }
    assert!(count.load(std::sync::atomic::Ordering::SeqCst) > 40);
}

#[tokio::test(start_paused = true)]
async fn a_follower_takes_no_place_of_the_inner_service() {
    let (cache, mut calls) = limited().await;
    let ask = |uri: &str| tokio::spawn(cache.clone().oneshot(get(uri)));
    let flight = [ask("/cases/2"), ask("/cases/2"), ask("/cases/2")];
    let call = calls.next().await;
    let other = ask("/cases/3");
    assert!(calls.now().await.is_none(), "one at a time");
    call.ok("x");
    calls.now().await.expect("the leader's place is free, and no follower took it").ok("y");
    for task in flight {
        assert_eq!(read(task.await.unwrap().unwrap()).await.text(), "x");
    }
    assert_eq!(read(other.await.unwrap().unwrap()).await.text(), "y");
}

/// An inner service that has failed for good.
#[derive(Clone)]
struct Broken;

impl Service<Get> for Broken {
    type Response = Response<GatedBody>;
    type Error = OriginError;
    type Future = std::future::Ready<Result<Response<GatedBody>, OriginError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OriginError>> {
        Poll::Ready(Err(OriginError))
    }

    fn call(&mut self, _: Get) -> Self::Future {
        panic!("called, though it was not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_is_never_ready_again_fails_what_is_forwarded_only() {
    let layer = layer();
    let (origin, mut calls) = origin();
    let first = tokio::spawn(layer.layer(origin).oneshot(get("/cases/1")));
    calls.next().await.ok("stored");
    first.await.unwrap().unwrap();
    let mut cache = layer.layer(Broken);
    cache.ready().await.unwrap();
    for miss in [get("/cases/2"), get("/elsewhere"), request(Method::POST, "/cases/3/comments")] {
        assert!(cache.call(miss).await.is_err());
    }
    assert!(cache.call(get("/cases/1")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_buffer_works_inside_and_outside() {
    let (inner, mut calls) = origin();
    let inside = layer().layer(Buffer::new(inner, 1));
    let first = tokio::spawn(inside.clone().oneshot(get("/cases/1")));
    calls.next().await.ok("stored");
    first.await.unwrap().unwrap();
    // The worker has one request at the origin, and the buffer is full.
    let busy = [0; 4].map(|n| tokio::spawn(inside.clone().oneshot(get(&format!("/cases/1{n}")))));
    settle().await;
    assert!(at_once(inside.clone().oneshot(get("/cases/1"))).expect("a hit is ready").is_ok());
    calls.serve(|_| response(200, &[], "x"));
    for task in busy {
        assert!(task.await.is_ok());
    }

    let (inner, calls) = origin();
    let outside = Buffer::new(layer().layer(inner), 1);
    calls.serve(|_| response(200, &[], "x"));
    for is_hit in [false, true] {
        let reply = outside.clone().oneshot(get("/cases/1")).await.unwrap();
        assert_eq!(read(reply).await.is_hit(), is_hit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_shedder_inside_sheds_what_is_forwarded_and_no_hit() {
    let (origin, mut calls) = origin();
    let cache = layer().layer(LoadShed::new(ConcurrencyLimit::new(origin, 1)));
    let first = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    calls.next().await.ok("stored");
    first.await.unwrap().unwrap();
    let busy = tokio::spawn(cache.clone().oneshot(get("/cases/2")));
    let call = calls.next().await;
    let shed = cache.clone().oneshot(get("/cases/3")).await.unwrap_err();
    assert!(shed.is::<Overloaded>(), "the error is the inner service's own");
    assert!(cache.clone().oneshot(get("/cases/1")).await.is_ok());
    call.ok("x");
    busy.await.unwrap().unwrap();
    let again = tokio::spawn(cache.oneshot(get("/cases/3")));
    calls.next().await.ok("y");
    assert_eq!(read(again.await.unwrap().unwrap()).await.text(), "y");
}

#[tokio::test(start_paused = true)]
async fn a_load_shedder_outside_never_sheds() {
    let (origin, mut calls) = origin();
    let cache = LoadShed::new(layer().layer(ConcurrencyLimit::new(origin, 1)));
    let both = ["/cases/1", "/cases/2"].map(|uri| tokio::spawn(cache.clone().oneshot(get(uri))));
    calls.next().await.ok("x");
    calls.next().await.ok("x");
    for task in both {
        assert!(task.await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_fails_the_leader_and_lets_the_others_forward() {
    let (origin, mut calls) = origin();
    let cache = layer().layer(Timeout::new(origin, Duration::from_secs(1)));
    let leader = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    let late = calls.next().await;
    let follower = tokio::spawn(cache.oneshot(get("/cases/1")));
    assert!(leader.await.unwrap().unwrap_err().is::<Elapsed>());
    assert!(!late.is_wanted());
    calls.next().await.ok("in time");
    let got = read(follower.await.unwrap().unwrap()).await;
    assert_eq!(got.text(), "in time");
    let expected = "support-cache;fwd=uri-miss;fwd-status=200;collapsed=?0;detail=declined";
    assert_eq!(got.cache_status(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_leaves_the_fill_to_those_who_come_after() {
    let (origin, mut calls) = origin();
    let cache = layer().layer(origin);
    let hasty = Timeout::new(cache.clone(), Duration::from_secs(1));
    let gone = hasty.clone().oneshot(get("/cases/1")).await.unwrap_err();
    assert!(gone.is::<Elapsed>());
    calls.next().await.ok("late");
    settle().await;
    let got = read(hasty.oneshot(get("/cases/1")).await.unwrap()).await;
    assert_eq!((got.text(), got.is_hit(), calls.count()), ("late", true, 1));
}
