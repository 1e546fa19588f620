//! Outcomes in the extensions of responses, for layers around the cache.

use http::{Method, Request, header::AUTHORIZATION};
use http_body_util::Empty;
use tower::ServiceExt;
use tower_support_cache::{
    Alone, Bypass, CacheOutcome, Refusal, ReportOutcome, RequestDirectives, Switch,
};

use crate::support::{
    Cached, Reply, cache, cache_with, get, read, request, response, settle, with,
};

fn reporting(mut request: Request<Empty<bytes::Bytes>>) -> Request<Empty<bytes::Bytes>> {
    request.extensions_mut().insert(ReportOutcome);
    request
}

async fn outcome(cache: &Cached, request: Request<Empty<bytes::Bytes>>) -> Option<CacheOutcome> {
    let reply: Reply = cache.clone().oneshot(reporting(request)).await.unwrap();
    let outcome = reply.extensions().get().copied();
    read(reply).await;
    outcome
}

#[tokio::test(start_paused = true)]
async fn an_outer_layer_that_asks_for_it_learns_the_outcome() {
    let (cache, handle, calls) =
        cache_with(|route| route.request_directives(RequestDirectives::Honour));
    calls.serve(|head| match head.uri.path() {
        "/cases/2" => response(200, &[("set-cookie", "a=b")], "x"),
        _ => response(200, &[], "x"),
    });
    let credentials = with(get("/cases/1"), AUTHORIZATION.as_str(), "x");
    let only_if_cached = with(get("/cases/3"), "cache-control", "only-if-cached");
    for (request, expected) in [
        (get("/cases/1"), CacheOutcome::Miss(Ok(()))),
        (get("/cases/1"), CacheOutcome::Hit),
        (get("/cases/2"), CacheOutcome::Miss(Err(Refusal::SetCookie))),
        (request(Method::HEAD, "/cases/3"), CacheOutcome::Alone(Alone::Head)),
        (credentials, CacheOutcome::Bypass(Bypass::Credentials)),
        (only_if_cached, CacheOutcome::Unsatisfied),
        (request(Method::POST, "/cases/1/comments"), CacheOutcome::Write),
    ] {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        assert_eq!(outcome(&cache, request).await, Some(expected), "{method} {uri}");
    }
    assert_eq!(outcome(&cache, get("/other")).await, None, "no rule is for it");
    handle.switch("cases", Switch::Off);
    let off = outcome(&cache, get("/cases/1")).await;
    assert_eq!(off, Some(CacheOutcome::Bypass(Bypass::Switch)));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_reported_to_those_who_ask_and_not_stored() {
    let (cache, _, mut calls) = cache();
    let led = tokio::spawn(cache.clone().oneshot(reporting(get("/cases/1"))));
    let call = calls.next().await;
    let joined = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    let reporting_too = tokio::spawn(cache.clone().oneshot(reporting(get("/cases/1"))));
    settle().await;
    call.ok("x");
    let joined = joined.await.unwrap().unwrap();
    assert!(joined.extensions().get::<CacheOutcome>().is_none());
    let reporting_too = reporting_too.await.unwrap().unwrap();
    assert_eq!(reporting_too.extensions().get(), Some(&CacheOutcome::Collapsed));
    read(led.await.unwrap().unwrap()).await;
    let hit = cache.clone().oneshot(get("/cases/1")).await.unwrap();
    assert!(hit.extensions().get::<CacheOutcome>().is_none());
}
