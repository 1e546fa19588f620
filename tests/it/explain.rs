//! An explanation says what then happens, and changes nothing.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{Empty, Full};
use tokio::{runtime::Builder, time::advance};
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    Bypass, CacheRoute, Explanation, Forecast, ForwardReason, InvalidateRoute, MemoryStore,
    RequestDirectives, Stale, SupportCacheHandle, SupportCacheLayer, Switch,
};

use crate::{
    random::{Random, for_all},
    support::{
        Cached, TTL, cache_on, cache_with, fetch, get, got, origin, read, request, response, send,
        with,
    },
};

const SECOND: Duration = Duration::from_secs(1);

async fn explain(handle: &SupportCacheHandle, request: &Request<Empty<Bytes>>) -> Explanation {
    let before = handle.metrics();
    let explanation = handle.explain(&request.clone().map(drop)).await;
    assert_eq!(handle.metrics(), before);
    explanation
}

fn portal() -> (Cached, SupportCacheHandle) {
    let cases = CacheRoute::get("/accounts/{account}/cases").key("cases:{account}").ttl(TTL);
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(cases.bucket("cases").tag("account:{account}").jitter(0))
        .invalidate(InvalidateRoute::post("/accounts/{a}/cases/{case}").key("cases:{a}"))
        .invalidate(InvalidateRoute::put("/accounts/{a}").tag("account:{a}").soft())
        .invalidate(InvalidateRoute::put("/cases/{case}").key("case:{case}"))
        .invalidate(InvalidateRoute::delete("/all").key_with(|_| Some("cases:A 2".to_owned())))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    calls.serve(|_| response(200, &[("vary", "accept")], "cases"));
    (layer.layer(origin), layer.handle())
}

#[tokio::test(start_paused = true)]
async fn a_read_is_explained_with_the_writes_that_would_invalidate_it() {
    let (cache, handle) = portal();
    let asked = || with(with(get("/accounts/A1/cases"), "host", "portal.example"), "accept", "*/*");
    let miss = explain(&handle, &asked()).await;
    assert_eq!(miss.forecast, Forecast::Miss(ForwardReason::UriMiss));
    assert_eq!(miss.variant, ["rule", "authority", "target"]);
    got(send(&cache, asked())).await;
    advance(12 * SECOND).await;
    let text = "\
route       GET /accounts/{account}/cases
bucket      cases
key         cases:A1
tags        account:A1
variant     rule, authority, target, field accept
now         hit: 12 s old, fresh for 48 s
changed by  POST /accounts/{a}/cases/{case}: key cases:A1
changed by  PUT /accounts/{a}: tag account:A1 (softly)
changed by  DELETE /all: key cases:A1 (perhaps: a closure makes it)
changed by  any unsafe method on /accounts/{account}/cases: key cases:A1
";
    assert_eq!(explain(&handle, &asked()).await.to_string(), text);
    let other = with(with(get("/accounts/A1/cases"), "host", "portal.example"), "accept", "a/b");
    let forecast = explain(&handle, &other).await.forecast;
    assert_eq!(forecast, Forecast::Miss(ForwardReason::VaryMiss));
}

#[tokio::test(start_paused = true)]
async fn a_write_is_explained_by_what_it_would_invalidate() {
    let (_, handle) = portal();
    let text = async |method, target| {
        let explanation = explain(&handle, &request(method, target)).await;
        (explanation.to_string(), explanation.forecast)
    };
    for (method, target, expected) in [
        (Method::PUT, "/accounts/A1", "invalidates tag account:A1 (softly)\n"),
        (Method::DELETE, "/accounts/A1/cases", "invalidates key cases:A1\n"),
    ] {
        let (text, forecast) = text(method, target).await;
        assert_eq!(text, format!("now         write: forwarded\n{expected}"), "{target}");
        assert_eq!(forecast, Forecast::Write, "{target}");
    }
    for method in [Method::GET, Method::POST] {
        assert_eq!(text(method, "/elsewhere").await.1, Forecast::Pass);
    }
    assert_eq!(handle.metrics().writes_unmatched, 0);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_consult_the_cache_is_explained_with_its_reason() {
    let (_, handle, _calls) = cache_with(|route| route);
    let check = async |request, expected| {
        assert_eq!(explain(&handle, &request).await.forecast, expected);
    };
    let get = || get("/cases/7");
    check(with(get(), "authorization", "a"), Forecast::Bypass(Bypass::Credentials)).await;
    check(with(get(), "if-match", "\"a\""), Forecast::Bypass(Bypass::Precondition)).await;
    check(with(get(), "content-length", "1"), Forecast::Bypass(Bypass::Content)).await;
    handle.switch("cases", Switch::Off);
    check(get(), Forecast::Bypass(Bypass::Switch)).await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_is_explained_with_its_window() {
    let (cache, handle, calls) = cache_with(|route| route.stale_while_revalidate(20 * SECOND));
    calls.serve(|_| response(200, &[], "case"));
    fetch(&cache, "/cases/7").await;
    advance(TTL + 5 * SECOND).await;
    let (age, stale_for, left) = (TTL + 5 * SECOND, 5 * SECOND, 15 * SECOND);
    let stale = Forecast::Stale { reason: Stale::Revalidate, age, stale_for, left };
    assert_eq!(explain(&handle, &get("/cases/7")).await.forecast, stale);
    handle.invalidate("case:7").await.unwrap();
    let miss = Forecast::Miss(ForwardReason::UriMiss);
    assert_eq!(explain(&handle, &get("/cases/7")).await.forecast, miss);
}

/// Whether the response of a case survives a flood of others, asked or explained between them.
async fn survives(look: impl AsyncFn(&Cached, &SupportCacheHandle)) -> bool {
    let store = MemoryStore::builder().capacity(64 * 1024).build().unwrap();
    let (cache, handle, calls) = cache_on(store, |route| route);
    let calls = calls.serve(|_| response(200, &[], "case"));
    for flood in 0..500 {
        // The first ones have a place for good.
        if flood == 250 {
            fetch(&cache, "/cases/7").await;
        }
        fetch(&cache, &format!("/cases/x{flood}")).await;
        if flood >= 250 {
            look(&cache, &handle).await;
        }
    }
    let before = calls.load(Ordering::SeqCst);
    fetch(&cache, "/cases/7").await;
    calls.load(Ordering::SeqCst) == before
}

#[tokio::test(start_paused = true)]
async fn an_explained_response_is_evicted_as_if_nothing_had_looked() {
    let asked = async |cache: &Cached, _: &SupportCacheHandle| drop(fetch(cache, "/cases/7").await);
    let explained = async |_: &Cached, handle: &SupportCacheHandle| {
        explain(handle, &get("/cases/7")).await;
    };
    assert!(survives(asked).await);
    assert!(!survives(explained).await);
}

/// Returns the member of `Cache-Status` that a forecast promises, without its numbers.
fn promised(forecast: Forecast) -> String {
    match forecast {
        Forecast::Pass | Forecast::Unsatisfied => String::new(),
        Forecast::Hit { fresh_for, .. } => format!("hit;ttl={}", fresh_for.as_secs()),
        Forecast::Stale { reason, stale_for, .. } => {
            format!("hit;ttl=-{};detail={reason}", stale_for.as_secs())
        }
        Forecast::Miss(reason) => format!("fwd={reason};fwd-status=200"),
        Forecast::Alone(reason) => format!("fwd=uri-miss;fwd-status=200;detail={reason}"),
        Forecast::Bypass(reason) => format!("fwd=bypass;fwd-status=200;detail={reason}"),
        Forecast::Write => "fwd=method;fwd-status=200".to_owned(),
        other => panic!("{other:?}"),
    }
}

fn any_request(random: &mut Random) -> Request<Empty<Bytes>> {
    let methods = [Method::GET, Method::GET, Method::GET, Method::HEAD, Method::POST];
    let targets = ["/cases/1", "/cases/2", "/cases/1/comments", "/none"];
    let mut request = request(random.pick(&methods), random.pick(&targets));
    for (name, values) in [
        ("authorization", &["Bearer a"][..]),
        ("accept-language", &["de", "en"]),
        ("range", &["bytes=0-1"]),
        ("cache-control", &["no-cache", "max-age=3", "only-if-cached", "no-store"]),
        ("if-match", &["\"a\""]),
    ] {
        if random.below(6) == 0 {
            request = with(request, name, random.pick(values));
        }
    }
    request
}

/// The decisions are those of the exchange, so nothing else may come of a request.
#[test]
fn for_all_requests_and_times_an_explanation_says_what_then_happens() {
    let mut hits = 0;
    for_all(|random| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let (cache, handle, calls) = cache_with(|route| {
                let route = route.request_directives(RequestDirectives::Honour);
                route.stale_while_revalidate(30 * SECOND)
            });
            let fields: &[&[(&str, &str)]] =
                &[&[], &[("vary", "accept-language")], &[("cache-control", "private")]];
            let fields = random.pick(fields);
            calls.serve(move |_| response(200, fields, "body"));
            for _ in 0..12 {
                let request = any_request(random);
                let forecast = explain(&handle, &request).await.forecast;
                let got = got(send(&cache, request)).await;
                let status = got.cache_status().replace("support-cache;", "");
                assert!(status.starts_with(&promised(forecast)), "{forecast:?}: {status}");
                hits += usize::from(got.is_hit());
                advance(random.pick(&[1, 7, 40]) * SECOND).await;
            }
        });
    });
    assert!(hits > 100, "{hits}");
}

fn any_content(random: &mut Random) -> Request<Bytes> {
    let method = random.pick(&["QUERY", "QUERY", "POST", "POST", "GET"]);
    let mut request = Request::builder().method(method).uri("/search");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("if-match", "*"),
        ("cache-control", "no-cache"),
    ] {
        let is_rare = name != "content-type";
        if random.below(6) == 0 || (!is_rare && random.below(6) > 0) {
            request = request.header(name, value);
        }
    }
    let content = random.pick(&["", "read", "read a", "READ a", "too long to read", "write"]);
    request.body(Bytes::from(content)).unwrap()
}

#[test]
fn what_asks_by_its_content_is_explained_with_it() {
    let mut hits = 0;
    for_all(|random| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let reads = CacheRoute::post_read("/search", |_, content| content.starts_with(b"r"));
            let layer = SupportCacheLayer::builder(MemoryStore::new())
                .cache(
                    CacheRoute::query("/search")
                        .key("search")
                        .ttl(TTL)
                        .content_limit(8)
                        .normalize_with(1, |_, content| Some(content.to_ascii_lowercase()))
                        .request_directives(RequestDirectives::Honour),
                )
                .cache(reads.bucket("post").key("post").ttl(TTL).content_limit(8))
                .cache(CacheRoute::get("/search").bucket("get").key("get").ttl(TTL))
                .build()
                .unwrap();
            let (origin, calls) = origin();
            calls.serve(|_| response(200, &[], "body"));
            let (cache, handle) = (layer.reading_content().layer(origin), layer.handle());
            for _ in 0..12 {
                let request = any_content(random);
                let before = handle.metrics();
                let forecast = handle.explain_with_content(&request).await.forecast;
                assert_eq!(handle.metrics(), before);
                let asked = format!("{request:?}");
                let reply = cache.clone().oneshot(request.map(Full::new)).await.unwrap();
                let got = read(reply).await;
                let status = got.cache_status().replace("support-cache;", "");
                assert!(status.starts_with(&promised(forecast)), "{forecast:?}: {status} {asked}");
                hits += usize::from(got.is_hit());
                advance(random.pick(&[1, 40]) * SECOND).await;
            }
        });
    });
    assert!(hits > 40, "{hits}");
}
