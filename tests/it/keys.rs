//! Keys: what groups responses, what no key can be made of, and which keys a write invalidates.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{HeaderName, Method, Response, StatusCode, request::Parts};
use tower::Layer;
use tower_support_cache::{
    Bypass, CacheRoute, Credentials, Freshness, InvalidateRoute, MemoryStore, QueryPolicy,
    SupportCacheHandle, SupportCacheLayer, SupportCacheLayerBuilder,
};

use crate::support::{
    self, Cached, Calls, GatedBody, TTL, cache, cache_with, fetch, get, origin, request, send, with,
};

fn echo(head: &Parts) -> Response<GatedBody> {
    Response::new(GatedBody::full(head.uri.to_string()))
}

fn builder() -> SupportCacheLayerBuilder<MemoryStore> {
    SupportCacheLayer::builder(MemoryStore::new())
}

fn build(builder: SupportCacheLayerBuilder<MemoryStore>) -> (Cached, SupportCacheHandle, Calls) {
    let layer = builder.build().unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

fn route(pattern: &str) -> CacheRoute {
    CacheRoute::get(pattern).bucket("cases").ttl(TTL)
}

fn count(calls: &Arc<AtomicUsize>) -> usize {
    calls.load(Ordering::SeqCst)
}

async fn post(cache: &Cached, uri: &str) -> support::Got {
    send(cache, request(Method::POST, uri)).await.unwrap().unwrap()
}

fn keyed_by_header() -> (Cached, SupportCacheHandle, Calls) {
    let key = |request: &tower_support_cache::KeyRequest<'_>| {
        let line = request.headers().get("x-key")?;
        Some(String::from_utf8_lossy(line.as_bytes()).into_owned())
    };
    build(builder().cache(route("/cases").key_with(key)))
}

#[track_caller]
fn assert_bypassed(got: &support::Got, reason: Bypass) {
    let expected = format!("support-cache;fwd=bypass;fwd-status=200;detail={}", reason.as_str());
    assert_eq!(got.cache_status(), expected);
}

// ===== decoding, escaping, limits =====

#[tokio::test(start_paused = true)]
async fn an_encoded_and_a_plain_value_are_one_key_and_two_variants() {
    let (cache, handle, calls) = cache();
    let calls = calls.serve(echo);
    for uri in ["/cases/%41", "/cases/A"] {
        assert_eq!(fetch(&cache, uri).await.text(), uri);
        assert!(fetch(&cache, uri).await.is_hit());
    }
    assert_eq!(count(&calls), 2);
    handle.invalidate("case:A").await.unwrap();
    for uri in ["/cases/%41", "/cases/A"] {
        assert!(!fetch(&cache, uri).await.is_hit(), "one invalidation removes both");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_is_decoded_once() {
    let (cache, handle, calls) = cache();
    calls.serve(echo);
    fetch(&cache, "/cases/%2541").await;
    handle.invalidate("case:A").await.unwrap();
    handle.invalidate("case:%41").await.unwrap();
    assert!(fetch(&cache, "/cases/%2541").await.is_hit());
    handle.invalidate("case:%2541").await.unwrap();
    assert!(!fetch(&cache, "/cases/%2541").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_separator_in_a_value_does_not_forge_another_key() {
    let (cache, handle, calls) = build(builder().cache(route("/{a}/{b}").key("{a}:{b}")));
    calls.serve(echo);
    for uri in ["/x%3Ay/z", "/x/y%3Az", "/x:y/z"] {
        fetch(&cache, uri).await;
    }
    handle.invalidate("x:y:z").await.unwrap();
    assert!(fetch(&cache, "/x%3Ay/z").await.is_hit());
    handle.invalidate("x%3Ay:z").await.unwrap();
    assert!(!fetch(&cache, "/x%3Ay/z").await.is_hit());
    assert!(!fetch(&cache, "/x:y/z").await.is_hit(), "`:` and `%3A` are one value");
    assert!(fetch(&cache, "/x/y%3Az").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_handle_escapes_values_as_the_layer_does() {
    let layer = SupportCacheLayer::new(MemoryStore::new());
    let (origin, calls) = origin();
    let (cache, handle) = (layer.layer(origin), layer.handle());
    calls.serve(echo);
    let value = "A:1 *%ü";
    let (list, messages) =
        ("/accounts/A%3A1%20*%25%C3%BC/cases", "/accounts/A1/cases/A:1%20%2A%25%c3%bc/messages");
    fetch(&cache, list).await;
    fetch(&cache, messages).await;
    handle.invalidate_case_list(value).await.unwrap();
    assert!(!fetch(&cache, list).await.is_hit());
    assert!(fetch(&cache, messages).await.is_hit());
    handle.invalidate_all_for_account("A1", Some(value)).await.unwrap();
    assert!(!fetch(&cache, messages).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_no_text_is_bypassed_and_not_coalesced() {
    for uri in ["/cases/%ff", "/cases/%C0%AF", "/cases/%20", "/cases/%C2%A0"] {
        let (cache, handle, mut calls) = cache();
        let requests = [send(&cache, get(uri)), send(&cache, get(uri))];
        let both = calls.all().await;
        assert_eq!(both.len(), 2, "{uri}: each request has its own forward");
        both.into_iter().for_each(|call| call.ok("x"));
        for request in requests {
            assert_bypassed(&request.await.unwrap().unwrap(), Bypass::Key);
        }
        let bucket = handle.metrics().bucket("cases").cloned().unwrap();
        assert_eq!((bucket.bypassed[&Bypass::Key], bucket.entries), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_at_most_512_bytes() {
    let (cache, _, calls) = cache();
    calls.serve(echo);
    let longest = format!("/cases/{}", "a".repeat(512 - "case:".len()));
    assert!(fetch(&cache, &longest).await.cache_status().ends_with(";stored"));
    assert_bypassed(&fetch(&cache, &format!("{longest}a")).await, Bypass::Key);
    // Counted once it is escaped.
    let escaped = format!("/cases/{}", "%3A".repeat(170));
    assert_bypassed(&fetch(&cache, &escaped).await, Bypass::Key);
}

#[tokio::test(start_paused = true)]
async fn a_closure_without_a_usable_key_bypasses() {
    let (cache, handle, calls) = keyed_by_header();
    calls.serve(echo);
    assert_bypassed(&fetch(&cache, "/cases").await, Bypass::Key);
    let long = "a".repeat(513);
    for key in ["", " ", "\t", "a\tb", &long] {
        let request = with(get("/cases"), "x-key", key);
        assert_bypassed(&send(&cache, request).await.unwrap().unwrap(), Bypass::Key);
    }
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!((bucket.bypassed[&Bypass::Key], bucket.entries), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_closures_key_is_part_of_what_identifies_a_response() {
    let (cache, handle, calls) = keyed_by_header();
    let calls = calls.serve(echo);
    let keyed = |key| with(get("/cases"), "x-key", key);
    for key in ["a", "b"] {
        assert!(!send(&cache, keyed(key)).await.unwrap().unwrap().is_hit());
        assert!(send(&cache, keyed(key)).await.unwrap().unwrap().is_hit());
    }
    assert_eq!(count(&calls), 2);
    handle.invalidate("a").await.unwrap();
    assert!(!send(&cache, keyed("a")).await.unwrap().unwrap().is_hit());
    assert!(send(&cache, keyed("b")).await.unwrap().unwrap().is_hit());
}

// ===== writes =====

#[tokio::test(start_paused = true)]
async fn a_closure_sees_the_request_as_its_handler_does() {
    let key = |request: &tower_support_cache::KeyRequest<'_>| {
        Some(format!("{} {}", request.method(), request.uri()))
    };
    let (cache, handle, calls) = build(builder().cache(route("/cases/{case}").key_with(key)));
    calls.serve(echo);
    fetch(&cache, "/cases/1?page=2").await;
    handle.invalidate("GET /cases/1").await.unwrap();
    handle.invalidate("HEAD /cases/1?page=2").await.unwrap();
    assert!(fetch(&cache, "/cases/1?page=2").await.is_hit());
    handle.invalidate("GET /cases/1?page=2").await.unwrap();
    assert!(!fetch(&cache, "/cases/1?page=2").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_writes_closure_sees_its_method() {
    let written = |request: &tower_support_cache::KeyRequest<'_>| {
        Some(format!("written:{}", request.method()))
    };
    let rule = InvalidateRoute::any_unsafe("/cases/{case}").key_with(written);
    let (cache, _, calls) =
        build(builder().cache(route("/log").key("written:POST")).invalidate(rule));
    calls.serve(echo);
    fetch(&cache, "/log").await;
    send(&cache, request(Method::PUT, "/cases/1")).await.unwrap().unwrap();
    assert!(fetch(&cache, "/log").await.is_hit());
    post(&cache, "/cases/1").await;
    assert!(!fetch(&cache, "/log").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_key_fails_is_counted_and_forwarded() {
    let (cache, handle, calls) = cache();
    let calls = calls.serve(echo);
    let got = post(&cache, "/cases/%ff/comments").await;
    assert_eq!(got.text(), "/cases/%ff/comments");
    assert_eq!(got.cache_status(), "support-cache;fwd=method;fwd-status=200");
    let metrics = handle.metrics();
    assert_eq!((count(&calls), metrics.invalidation_failures, metrics.invalidations), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_does_not_keep_a_write_from_invalidating_the_others() {
    let rule = InvalidateRoute::post("/cases/{case}/{part}").key("part:{part}").key("case:{case}");
    let (cache, handle, calls) =
        build(builder().cache(route("/cases/{case}").key("case:{case}")).invalidate(rule));
    calls.serve(echo);
    fetch(&cache, "/cases/1").await;
    post(&cache, "/cases/1/%ff").await;
    assert!(!fetch(&cache, "/cases/1").await.is_hit());
    let metrics = handle.metrics();
    assert_eq!((metrics.invalidation_failures, metrics.invalidations), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_successful_write_to_a_cached_path_invalidates_it_without_a_rule() {
    let (cache, handle, calls) = cache();
    calls.serve(|head| {
        let is_refused = head.headers.contains_key("x-refuse");
        support::response(if is_refused { 409 } else { 200 }, &[], "")
    });
    fetch(&cache, "/cases/1").await;
    let refused = with(request(Method::POST, "/cases/1"), "x-refuse", "1");
    send(&cache, refused).await.unwrap().unwrap();
    send(&cache, request(Method::OPTIONS, "/cases/1")).await.unwrap().unwrap();
    assert!(fetch(&cache, "/cases/1").await.is_hit(), "neither of these changed anything");
    for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        // Another variant of the same key.
        send(&cache, request(method.clone(), "/cases/%31?x")).await.unwrap().unwrap();
        assert!(!fetch(&cache, "/cases/1").await.is_hit(), "{method}");
    }
    assert_eq!(handle.metrics().invalidations, 5);
}

#[tokio::test(start_paused = true)]
async fn every_rule_that_matches_a_write_applies() {
    let (cache, handle, calls) = build(
        builder()
            .cache(route("/lists/{list}").key("list:{list}"))
            .cache(route("/accounts/{account}/cases").key("cases:{account}"))
            .cache(route("/everything").key("everything"))
            .invalidate(InvalidateRoute::post("/accounts/{account}/cases").key("list:{account}"))
            .invalidate(InvalidateRoute::any_unsafe("/accounts/{*rest}").key("everything"))
            .invalidate(InvalidateRoute::put("/accounts/{account}/cases").key("list:put")),
    );
    calls.serve(echo);
    for uri in ["/lists/1", "/lists/put", "/accounts/1/cases", "/everything"] {
        fetch(&cache, uri).await;
    }
    post(&cache, "/accounts/1/cases").await;
    for uri in ["/lists/1", "/accounts/1/cases", "/everything"] {
        assert!(!fetch(&cache, uri).await.is_hit(), "{uri}");
    }
    assert!(fetch(&cache, "/lists/put").await.is_hit(), "a rule for another method");
    assert_eq!(handle.metrics().invalidations, 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_several_rules_make_is_invalidated_once() {
    let rule = InvalidateRoute::any_unsafe("/{*rest}").key("case:1").key("case:1");
    let (cache, handle, calls) =
        build(builder().cache(route("/cases/{case}").key("case:{case}")).invalidate(rule));
    calls.serve(echo);
    post(&cache, "/cases/1").await;
    assert_eq!(handle.metrics().invalidations, 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_no_rule_is_for_passes_untouched() {
    let (cache, handle, calls) = cache();
    calls.serve(echo);
    assert_eq!(post(&cache, "/elsewhere").await.cache_status(), "");
    let put = request(Method::PUT, "/cases/1/comments");
    assert_eq!(send(&cache, put).await.unwrap().unwrap().cache_status(), "");
    assert_eq!(handle.metrics().invalidations, 0);
}

// ===== the query =====

/// Fetches each target once and tells which were hits.
async fn hits(policy: QueryPolicy, targets: &[&str]) -> Vec<bool> {
    let (cache, handle, calls) = cache_with(|route| route.query_policy(policy));
    calls.serve(echo);
    let mut hits = Vec::new();
    for target in targets {
        hits.push(fetch(&cache, target).await.is_hit());
    }
    handle.invalidate("case:1").await.unwrap();
    assert!(!fetch(&cache, targets[0]).await.is_hit(), "the query is no part of the key");
    hits
}

#[tokio::test(start_paused = true)]
async fn a_query_tells_responses_apart_as_it_was_sent() {
    let targets = ["/cases/1", "/cases/1?", "/cases/1?a=1&b=2", "/cases/1?b=2&a=1", "/cases/1?%61"];
    assert_eq!(hits(QueryPolicy::AsSent, &targets).await, [false; 5]);
    assert_eq!(hits(QueryPolicy::AsSent, &["/cases/1?a", "/cases/1?a"]).await, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn only_the_named_parameters_tell_responses_apart() {
    let only = QueryPolicy::Only(vec!["page".to_owned()]);
    let targets = [
        "/cases/1?page=1",
        "/cases/1?utm=x&page=1",
        "/cases/1?page=2",
        "/cases/1?page=1&page=2",
        "/cases/1",
        "/cases/1?utm=y",
    ];
    assert_eq!(hits(only, &targets).await, [false, true, false, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn an_ignored_query_tells_nothing_apart() {
    let targets = ["/cases/1", "/cases/1?a=1", "/cases/1?b", "/cases/2?a=1"];
    assert_eq!(hits(QueryPolicy::Ignore, &targets).await, [false, true, true, false]);
}

// ===== layers on one store =====

/// Whether what one layer stores answers a request to the other.
async fn shares(
    first: impl FnOnce(SupportCacheLayerBuilder<MemoryStore>) -> SupportCacheLayerBuilder<MemoryStore>,
    second: impl FnOnce(SupportCacheLayerBuilder<MemoryStore>) -> SupportCacheLayerBuilder<MemoryStore>,
) -> bool {
    let store = MemoryStore::new();
    let base =
        || SupportCacheLayer::builder(store.clone()).cache(route("/cases/{case}").key("{case}"));
    let ((first, ..), (second, ..)) = {
        let serve = |(cache, handle, calls): (Cached, SupportCacheHandle, Calls)| {
            calls.serve(echo);
            (cache, handle)
        };
        (serve(build(first(base()))), serve(build(second(base()))))
    };
    fetch(&first, "/cases/1").await;
    assert!(fetch(&first, "/cases/1").await.is_hit());
    fetch(&second, "/cases/1").await.is_hit()
}

#[tokio::test(start_paused = true)]
async fn layers_with_equal_settings_share_responses() {
    assert!(shares(|b| b, |b| b).await);
    assert!(shares(|b| b.mount("a"), |b| b.mount("a")).await);
    assert!(shares(|b| b.name("a"), |b| b.name("b")).await);
}

#[tokio::test(start_paused = true)]
async fn layers_with_different_mounts_or_credentials_share_nothing() {
    assert!(!shares(|b| b.mount("a"), |b| b.mount("b")).await);
    assert!(!shares(|b| b.mount("a"), |b| b).await);
    let no_fields = [] as [HeaderName; 0];
    assert!(!shares(|b| b, |b| b.credential_fields(no_fields)).await);
    assert!(!shares(|b| b, |b| b.credentials(Credentials::CoveredByKey)).await);
}

/// A route's entries stay warm while others are added, changed or removed.
#[tokio::test(start_paused = true)]
async fn a_rule_that_means_the_same_shares_responses_whatever_rules_are_beside_it() {
    let more = |pattern: &str| route(pattern).key("more");
    assert!(shares(|b| b, |b| b.cache(more("/more"))).await);
    assert!(shares(|b| b.cache(more("/a")), |b| b.cache(more("/b")).cache(more("/c"))).await);
}

/// What one rule may store and answer, another may not.
#[tokio::test(start_paused = true)]
async fn rules_that_differ_in_what_they_store_or_answer_share_nothing() {
    let base = || route("/cases/{case}").key("{case}");
    let differing: [CacheRoute; 8] = [
        base().targeted([HeaderName::from_static("portal-cache-control")]),
        base().statuses([StatusCode::OK, StatusCode::NOT_FOUND]),
        base().freshness(Freshness::Origin),
        base().strip([HeaderName::from_static("x-a")]),
        base().vary([HeaderName::from_static("x-a")]),
        base().query_policy(QueryPolicy::Ignore),
        base().tag("tag:{case}"),
        route("/cases/{case}").key("other:{case}"),
    ];
    for (number, other) in differing.into_iter().enumerate() {
        let store = MemoryStore::new();
        let layer = |route| SupportCacheLayer::builder(store.clone()).cache(route);
        let (first, _, calls) = build(layer(base()));
        calls.serve(echo);
        let (second, _, calls) = build(layer(other));
        calls.serve(echo);
        fetch(&first, "/cases/1").await;
        assert!(fetch(&first, "/cases/1").await.is_hit());
        assert!(!fetch(&second, "/cases/1").await.is_hit(), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_of_layers_that_share_nothing_is_invalidated_for_both() {
    let store = MemoryStore::new();
    let base =
        || SupportCacheLayer::builder(store.clone()).cache(route("/cases/{case}").key("{case}"));
    let (first, handle, calls) = build(base().mount("a"));
    calls.serve(echo);
    let (second, _, calls) = build(base().mount("b"));
    calls.serve(echo);
    for cache in [&first, &second] {
        fetch(cache, "/cases/1").await;
    }
    handle.invalidate("1").await.unwrap();
    for cache in [&first, &second] {
        assert!(!fetch(cache, "/cases/1").await.is_hit());
    }
}

/// What axum puts into the requests of a nested router, and a layer in between that rewrites them.
#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_target_that_is_rewritten_after_the_original_was_noted_tells_responses_apart() {
    use axum::extract::OriginalUri;

    let (cache, _, calls) = cache();
    calls.serve(echo);
    let rewritten = |uri: &str| {
        let mut request = get(uri);
        request.extensions_mut().insert(OriginalUri("/portal/mine".parse().unwrap()));
        request
    };
    for uri in ["/cases/1", "/cases/2"] {
        let got = send(&cache, rewritten(uri)).await.unwrap().unwrap();
        assert_eq!(got.text(), uri);
        assert!(send(&cache, rewritten(uri)).await.unwrap().unwrap().is_hit());
    }
}
