//! Lifetimes and storability that a handler gives to its own response, or a closure of the route.

use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::advance;
use tower::Layer;
use tower_support_cache::{
    CacheRoute, ConfigErrorKind, Freshness, MemoryStore, Refusal, ResponsePolicy, SupportCacheLayer,
};

use crate::support::{
    GatedBody, TTL, cache_with, fetch, get, got, origin, response, send, settle, with,
};

const SECOND: Duration = Duration::from_secs(1);

type Fields = &'static [(&'static str, &'static str)];

/// Response of an origin, on a route; expected is the time for which it is fresh, or why it is not
/// stored.
struct Row {
    route: fn(CacheRoute) -> CacheRoute,
    status: u16,
    fields: Fields,
    policy: Option<ResponsePolicy>,
    expected: Result<u64, Refusal>,
}

const PLAIN: Row =
    Row { route: |route| route, status: 200, fields: &[], policy: None, expected: Ok(60) };

impl Row {
    fn response(&self) -> Response<GatedBody> {
        let mut response = response(self.status, self.fields, "body");
        if let Some(policy) = self.policy {
            response.extensions_mut().insert(policy);
        }
        response
    }

    async fn check(self, label: usize) {
        let (cache, handle, mut calls) = cache_with(self.route);
        let first = send(&cache, get("/cases/1"));
        calls.next().await.respond(self.response());
        got(first).await;
        let refused = handle.metrics().bucket("cases").unwrap().refused.clone();
        match self.expected {
            Err(refusal) => assert_eq!(refused.get(&refusal), Some(&1), "row {label}: {refused:?}"),
            Ok(seconds) => {
                assert!(refused.is_empty(), "row {label}: {refused:?}");
                advance(SECOND * seconds as u32 - SECOND / 2).await;
                assert!(fetch(&cache, "/cases/1").await.is_hit(), "row {label}: not fresh");
                advance(SECOND).await;
                let second = send(&cache, get("/cases/1"));
                let call = calls.now().await;
                assert!(call.is_some(), "row {label}: fresh for longer");
                drop((second, call));
            }
        }
    }
}

fn ttl(seconds: u64) -> Option<ResponsePolicy> {
    Some(ResponsePolicy::ttl(SECOND * seconds as u32))
}

fn by_origin(route: CacheRoute) -> CacheRoute {
    route.freshness(Freshness::Origin)
}

fn by_closure(route: CacheRoute) -> CacheRoute {
    route.ttl_with(1, |head| match head.status.as_u16() {
        200 => head.headers.get("x-ttl")?.to_str().ok()?.parse().ok().map(Duration::from_secs),
        404 => Some(SECOND * 5),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_handler_sets_the_lifetime_of_its_response_and_forbids_to_store_it() {
    let no_store = Some(ResponsePolicy::no_store());
    let statuses = |route: CacheRoute| route.statuses([StatusCode::OK, StatusCode::CREATED]);
    for (label, row) in [
        PLAIN,
        Row { policy: ttl(5), expected: Ok(5), ..PLAIN },
        Row { policy: ttl(500), expected: Ok(500), ..PLAIN },
        Row { policy: ttl(0), expected: Err(Refusal::NotFresh), ..PLAIN },
        Row { policy: no_store, expected: Err(Refusal::Policy), ..PLAIN },
        // What the fields forbid holds.
        Row {
            policy: ttl(5),
            fields: &[("cache-control", "no-store")],
            expected: Err(Refusal::NoStore),
            ..PLAIN
        },
        Row {
            policy: ttl(5),
            fields: &[("cache-control", "private")],
            expected: Err(Refusal::Private),
            ..PLAIN
        },
        Row {
            policy: ttl(5),
            fields: &[("set-cookie", "a=b")],
            expected: Err(Refusal::SetCookie),
            ..PLAIN
        },
        Row { policy: ttl(5), fields: &[("vary", "*")], expected: Err(Refusal::Vary), ..PLAIN },
        // Other statuses.
        Row { policy: ttl(5), status: 404, expected: Ok(5), ..PLAIN },
        Row { policy: ttl(5), status: 301, expected: Ok(5), ..PLAIN },
        Row { policy: ttl(5), status: 201, route: statuses, expected: Ok(5), ..PLAIN },
        Row {
            policy: ttl(5),
            status: 404,
            route: statuses,
            expected: Err(Refusal::Status),
            ..PLAIN
        },
        Row { policy: ttl(5), status: 206, expected: Err(Refusal::Status), ..PLAIN },
        Row { policy: ttl(5), status: 304, expected: Err(Refusal::Status), ..PLAIN },
        Row { policy: ttl(5), status: 401, expected: Err(Refusal::Status), ..PLAIN },
        Row { policy: ttl(5), status: 407, expected: Err(Refusal::Status), ..PLAIN },
        Row { policy: ttl(5), status: 500, expected: Err(Refusal::Status), ..PLAIN },
        Row { policy: ttl(5), status: 503, expected: Err(Refusal::Status), ..PLAIN },
    ]
    .into_iter()
    .enumerate()
    {
        row.check(label).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handlers_lifetime_comes_before_what_the_response_states() {
    let max_age: Fields = &[("cache-control", "max-age=20")];
    for (label, row) in [
        Row { route: by_origin, fields: max_age, expected: Ok(20), ..PLAIN },
        Row { route: by_origin, fields: max_age, policy: ttl(5), expected: Ok(5), ..PLAIN },
        Row { route: by_origin, fields: max_age, policy: ttl(50), expected: Ok(50), ..PLAIN },
        Row { route: by_origin, policy: ttl(5), expected: Ok(5), ..PLAIN },
        Row {
            route: by_origin,
            fields: &[("age", "100")],
            policy: ttl(5),
            expected: Ok(5),
            ..PLAIN
        },
        Row {
            route: by_origin,
            fields: max_age,
            policy: ttl(0),
            expected: Err(Refusal::NotFresh),
            ..PLAIN
        },
        Row {
            route: by_origin,
            fields: max_age,
            policy: Some(ResponsePolicy::no_store()),
            expected: Err(Refusal::Policy),
            ..PLAIN
        },
        Row {
            route: by_origin,
            fields: &[("cache-control", "no-cache")],
            policy: ttl(5),
            expected: Err(Refusal::NoCache),
            ..PLAIN
        },
    ]
    .into_iter()
    .enumerate()
    {
        row.check(label).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_of_the_route_sets_lifetimes_and_chooses_what_is_stored() {
    let both = |route| by_closure(by_origin(route));
    let chosen = |route: CacheRoute| route.store_if(1, |head| head.headers.contains_key("x-keep"));
    for (label, row) in [
        Row { route: by_closure, fields: &[("x-ttl", "5")], expected: Ok(5), ..PLAIN },
        Row { route: by_closure, ..PLAIN },
        Row { route: by_closure, status: 404, expected: Ok(5), ..PLAIN },
        Row { route: by_closure, status: 410, expected: Err(Refusal::Status), ..PLAIN },
        Row {
            route: by_closure,
            fields: &[("x-ttl", "5")],
            policy: ttl(7),
            expected: Ok(7),
            ..PLAIN
        },
        Row {
            route: both,
            fields: &[("x-ttl", "5"), ("cache-control", "max-age=20")],
            expected: Ok(5),
            ..PLAIN
        },
        Row { route: both, fields: &[("cache-control", "max-age=20")], expected: Ok(20), ..PLAIN },
        Row { route: chosen, expected: Err(Refusal::Policy), ..PLAIN },
        Row { route: chosen, fields: &[("x-keep", "1")], ..PLAIN },
        Row {
            route: chosen,
            fields: &[("x-keep", "1")],
            policy: Some(ResponsePolicy::no_store()),
            expected: Err(Refusal::Policy),
            ..PLAIN
        },
        Row { route: chosen, policy: ttl(5), expected: Err(Refusal::Policy), ..PLAIN },
    ]
    .into_iter()
    .enumerate()
    {
        row.check(label).await;
    }
}

/// What may not be stored is not shared either.
#[tokio::test(start_paused = true)]
async fn a_response_that_its_handler_forbids_to_store_answers_its_own_request_alone() {
    let (cache, _, mut calls) = cache_with(|route| route);
    let leader = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    let policy = Some(ResponsePolicy::no_store());
    call.respond(Row { policy, ..PLAIN }.response());
    let said = "support-cache;fwd=uri-miss;fwd-status=200;detail=policy";
    assert_eq!(got(leader).await.cache_status(), said);
    calls.next().await.ok("own");
    assert_eq!(got(follower).await.text(), "own");
}

#[tokio::test(start_paused = true)]
async fn a_304_may_bring_another_lifetime() {
    let (cache, _, mut calls) = cache_with(by_origin);
    let first = send(&cache, get("/cases/1"));
    calls.next().await.with(200, ("etag", "\"a\""), "whole");
    got(first).await;
    advance(TTL).await;
    let second = send(&cache, get("/cases/1"));
    let call = calls.next().await;
    assert_eq!(call.head.headers["if-none-match"], "\"a\"");
    call.respond(Row { status: 304, policy: ttl(500), ..PLAIN }.response());
    assert_eq!(got(second).await.text(), "whole");
    advance(SECOND * 499).await;
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

/// Layers on one store whose closures have other versions share nothing.
#[tokio::test(start_paused = true)]
async fn the_version_of_a_closure_is_part_of_what_layers_share() {
    let store = MemoryStore::new();
    let ask = async |route: CacheRoute| {
        let layer = SupportCacheLayer::builder(store.clone()).cache(route).build().unwrap();
        let (origin, calls) = origin();
        calls.serve(|_| response(200, &[], "case"));
        got(send(&layer.layer(origin), with(get("/a"), "x", "y"))).await.is_hit()
    };
    let route = || CacheRoute::get("/a").key("a").ttl(TTL);
    let ttl = |version| route().ttl_with(version, |_| None);
    let store_if = |version| route().store_if(version, |_| true);
    for (route, is_hit) in [
        (route(), false),
        (ttl(1), false),
        (ttl(1), true),
        (ttl(2), false),
        (store_if(1), false),
        (store_if(1), true),
        (store_if(2), false),
        (store_if(1).ttl_with(1, |_| None), false),
        (route(), true),
    ] {
        assert_eq!(ask(route.clone()).await, is_hit, "{route:?}");
    }
}

#[test]
fn a_closure_for_the_lifetime_stands_in_for_a_ttl() {
    let builder = || SupportCacheLayer::builder(MemoryStore::new());
    let route = || CacheRoute::get("/a").key("a");
    assert!(builder().cache(route().ttl_with(1, |_| Some(TTL))).build().is_ok());
    let error = builder().cache(route().store_if(1, |_| true)).build().unwrap_err();
    assert_eq!(error.kind(), ConfigErrorKind::Ttl);
    // Routes of one bucket have the same closures, as far as versions tell.
    let other = CacheRoute::get("/b").key("b").ttl(TTL);
    let mine = || route().ttl(TTL).ttl_with(1, |_| None);
    assert!(builder().cache(mine()).cache(other.clone()).build().is_err());
    assert!(builder().cache(mine()).cache(other.ttl_with(1, |_| None)).build().is_ok());
}
