//! A bucket in shadow: every response is the origin's, and what would have answered is counted.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::ETAG};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use tokio::{runtime::Builder, time::advance};
use tower::{Service, ServiceExt};
use tower_support_cache::{
    Bypass, CacheOutcome, Coalescing, Freshness, ReportOutcome, RequestDirectives, Shadow,
    SupportCacheHandle, Switch,
};

use crate::{
    random::{Random, for_all},
    support::{
        Cached, Call, Calls, GatedBody, Got, TTL, cache_with, fetch, get, got, origin, read,
        request, response, send, with,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn shadowed(handle: &SupportCacheHandle, result: Shadow) -> u64 {
    handle.metrics().buckets["cases"].shadow.get(&result).copied().unwrap_or(0)
}

fn in_shadow() -> (Cached, SupportCacheHandle, Calls) {
    let (cache, handle, calls) = cache_with(|route| route.stale_while_revalidate(30 * SECOND));
    assert!(handle.switch("cases", Switch::Shadow));
    (cache, handle, calls)
}

/// Sends a request, and has the origin answer it.
async fn ask(cache: &Cached, calls: &mut Calls, body: &'static str) -> Got {
    let sent = send(cache, get("/cases/7"));
    calls.next().await.ok(body);
    got(sent).await
}

#[tokio::test(start_paused = true)]
async fn what_would_have_answered_is_counted() {
    let (cache, handle, mut calls) = in_shadow();
    let got = ask(&cache, &mut calls, "one").await;
    assert_eq!(got.cache_status(), "support-cache;fwd=bypass;fwd-status=200;detail=shadow");
    assert_eq!(shadowed(&handle, Shadow::Miss), 1);
    assert_eq!(ask(&cache, &mut calls, "one").await.text(), "one");
    assert_eq!(shadowed(&handle, Shadow::Hit), 1);
    for body in ["two", "on", "one!", ""] {
        assert_eq!(ask(&cache, &mut calls, body).await.text(), body);
    }
    assert_eq!(shadowed(&handle, Shadow::Different), 4);
    advance(TTL + SECOND).await;
    assert_eq!(ask(&cache, &mut calls, "three").await.text(), "three");
    assert_eq!(shadowed(&handle, Shadow::Stale), 1);
    ask(&cache, &mut calls, "three").await;
    assert_eq!(shadowed(&handle, Shadow::Hit), 2, "the stale response was replaced");
    let bucket = &handle.metrics().buckets["cases"];
    assert_eq!((bucket.hits, bucket.misses, bucket.bypassed[&Bypass::Shadow]), (0, 0, 8));
}

#[tokio::test(start_paused = true)]
async fn a_write_leaves_nothing_that_would_have_answered() {
    let (cache, handle, mut calls) = in_shadow();
    ask(&cache, &mut calls, "one").await;
    let write = send(&cache, request(Method::POST, "/cases/7/comments"));
    calls.next().await.ok("");
    got(write).await;
    ask(&cache, &mut calls, "two").await;
    assert_eq!((shadowed(&handle, Shadow::Miss), shadowed(&handle, Shadow::Different)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn status_and_fields_are_compared_but_for_those_of_one_response() {
    for (status, fields, expected) in [
        (200, &[("x-plan", "a"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")][..], Shadow::Hit),
        (200, &[("x-plan", "a"), ("server-timing", "db;dur=7")], Shadow::Hit),
        (200, &[("x-plan", "a"), ("retry-after", "7")], Shadow::Hit),
        (200, &[("x-plan", "a"), ("x-trace", "7")], Shadow::Hit),
        (200, &[("x-plan", "b")], Shadow::Different),
        (200, &[], Shadow::Different),
        (200, &[("x-plan", "a"), ("x-plan", "a")], Shadow::Different),
        (404, &[("x-plan", "a")], Shadow::Different),
    ] {
        let (cache, handle, mut calls) =
            cache_with(|route| route.strip([http::HeaderName::from_static("x-trace")]));
        handle.switch("cases", Switch::Shadow);
        for (status, fields) in [(200, &[("x-plan", "a")][..]), (status, fields)] {
            let sent = send(&cache, get("/cases/7"));
            calls.next().await.respond(response(status, fields, "case"));
            assert_eq!(got(sent).await.status, StatusCode::from_u16(status).unwrap());
        }
        assert_eq!(shadowed(&handle, expected), 1, "{status} {fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_is_forwarded_at_once_and_by_itself() {
    let (cache, _handle, mut calls) = in_shadow();
    let sent = [(); 3].map(|()| send(&cache, get("/cases/7")));
    for (sent, body) in sent.into_iter().zip(["one", "two", "three"]) {
        calls.next().await.ok(body);
        assert_eq!(got(sent).await.text(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_compared_as_it_passes_and_is_not_held_back() {
    let (cache, handle, mut calls) = in_shadow();
    ask(&cache, &mut calls, "one two").await;
    let sent = cache.clone().oneshot(get("/cases/7"));
    let sent = tokio::spawn(sent);
    let gate = calls.next().await.stream(None);
    let mut body = sent.await.unwrap().unwrap().into_body();
    let mut next = async || {
        let frame = body.frame().await;
        frame.map(|frame| frame.unwrap().into_data().unwrap())
    };
    gate.send("one");
    assert_eq!(next().await.unwrap(), "one");
    assert_eq!(shadowed(&handle, Shadow::Hit), 0);
    gate.send(" two");
    assert_eq!(next().await.unwrap(), " two");
    gate.end();
    assert_eq!(next().await, None);
    assert_eq!(shadowed(&handle, Shadow::Hit), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_read_to_its_end_was_not_compared() {
    let (cache, handle, mut calls) = in_shadow();
    ask(&cache, &mut calls, "one two").await;
    let sent = tokio::spawn(cache.clone().oneshot(get("/cases/7")));
    calls.next().await.stream(None).send("one");
    drop(sent.await.unwrap());
    let sent = send(&cache, with(get("/cases/7"), "range", "bytes=0-2"));
    calls.next().await.with(206, ("content-range", "bytes 0-2/7"), "one");
    got(sent).await;
    assert_eq!(shadowed(&handle, Shadow::Uncompared), 2);
}

#[tokio::test(start_paused = true)]
async fn conditions_of_the_client_reach_the_origin() {
    let (cache, handle, mut calls) = in_shadow();
    let sent = send(&cache, get("/cases/7"));
    calls.next().await.with(200, ("etag", "\"1\""), "case");
    got(sent).await;
    for (sent_tag, expected) in [("\"1\"", Shadow::Hit), ("\"2\"", Shadow::Different)] {
        let sent = send(&cache, with(get("/cases/7"), "if-none-match", sent_tag));
        let call = calls.next().await;
        assert_eq!(call.head.headers["if-none-match"], sent_tag);
        call.with(304, ("etag", sent_tag), "");
        assert_eq!(got(sent).await.status, StatusCode::NOT_MODIFIED);
        assert_eq!(shadowed(&handle, expected), 1, "{sent_tag}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_outcome_is_a_bypass_to_outer_layers_and_stays_one_after_a_reload_or_a_switch() {
    let (cache, handle, calls) = in_shadow();
    calls.serve(|_| response(200, &[], "case"));
    fetch(&cache, "/cases/7").await;
    let mut request = get("/cases/7");
    request.extensions_mut().insert(ReportOutcome);
    let response = cache.clone().oneshot(request).await.unwrap();
    let outcome = response.extensions().get();
    assert_eq!(outcome, Some(&CacheOutcome::Bypass(Bypass::Shadow)));
    drop(read(response).await);
    handle.switch("cases", Switch::On);
    assert!(fetch(&cache, "/cases/7").await.is_hit(), "what was stored in shadow answers");
}

// ===== the property =====

/// Answer of the origin; `None` for its error.
#[derive(Clone)]
struct Script {
    status: u16,
    fields: Vec<(&'static str, &'static str)>,
    chunks: &'static [&'static str],
    is_declared: bool,
    end: usize,
}

impl Script {
    fn any(random: &mut Random) -> Option<Self> {
        let mut fields = Vec::new();
        for (name, values) in [
            ("cache-control", &["private", "max-age=5", "no-store", "stale-if-error=100"][..]),
            ("etag", &["\"1\"", "\"2\""]),
            ("vary", &["accept", "*"]),
            ("set-cookie", &["a=1"]),
            ("age", &["3"]),
            ("retry-after", &["2"]),
            ("x-plan", &["a", "b"]),
        ] {
            if random.below(6) == 0 {
                fields.push((name, random.pick(values)));
            }
        }
        let script = Self {
            status: random.pick(&[200, 200, 200, 204, 304, 404, 503]),
            fields,
            chunks: random.pick(&[&["case"][..], &["ca", "se"], &[], &["another"]]),
            is_declared: random.below(2) == 0,
            end: random.below(8),
        };
        (random.below(12) > 0).then_some(script)
    }

    fn answer(&self, call: Call) {
        let mut response = http::Response::builder().status(self.status);
        for (name, value) in &self.fields {
            response = response.header(*name, *value);
        }
        let length = self.chunks.concat().len() as u64;
        let (body, gate) = GatedBody::gated(Some(length).filter(|_| self.is_declared));
        self.chunks.iter().for_each(|chunk| gate.send(*chunk));
        match self.end {
            0 => gate.fail(),
            1 => gate.trailers(HeaderMap::from_iter([(ETAG, "\"t\"".parse().unwrap())])),
            _ => gate.end(),
        }
        call.respond(response.body(body).unwrap());
    }
}

fn answer(script: Option<&Script>, call: Call) {
    match script {
        Some(script) => script.answer(call),
        None => call.fail(),
    }
}

fn any_request(random: &mut Random) -> Request<Empty<Bytes>> {
    let methods = [Method::GET, Method::GET, Method::GET, Method::HEAD, Method::POST];
    let mut asked = request(random.pick(&methods), random.pick(&["/cases/1", "/cases/2"]));
    for (name, values) in [
        ("accept", &["a/b", "c/d"][..]),
        ("authorization", &["Bearer a"]),
        ("if-none-match", &["\"1\"", "*"]),
        ("range", &["bytes=0-1"]),
        ("cache-control", &["no-cache", "only-if-cached", "no-store"]),
    ] {
        if random.below(6) == 0 {
            asked = with(asked, name, random.pick(values));
        }
    }
    asked
}

/// Sends a request to a service, and returns what its client sees but for what the cache says of it.
async fn seen<S, B>(service: S, asked: Request<Empty<Bytes>>) -> String
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    B: Body,
{
    let Ok(response) = service.oneshot(asked).await else { return "error".to_owned() };
    let (mut head, body) = response.into_parts();
    head.headers.remove("cache-status");
    let body = body.collect().await.ok().map(|body| (body.trailers().cloned(), body.to_bytes()));
    format!("{} {:?} {body:?}", head.status, head.headers)
}

#[test]
fn for_all_requests_and_origins_every_response_is_that_of_the_bare_service() {
    let mut reused = 0;
    for_all(|random| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let (freshness, coalescing) = (
                random.pick(&[Freshness::Fixed, Freshness::Origin]),
                random.pick(&[Coalescing::On, Coalescing::Off]),
            );
            let (cache, handle, mut calls) = cache_with(|route| {
                route
                    .freshness(freshness)
                    .coalescing(coalescing)
                    .request_directives(RequestDirectives::Honour)
                    .stale_while_revalidate(20 * SECOND)
                    .stale_if_error(100 * SECOND)
                    .soft_timeout(SECOND)
                    .early_refresh(1.0)
            });
            handle.switch("cases", Switch::Shadow);
            let (bare, mut bare_calls) = origin();
            let mut script = None;
            for number in 0..20 {
                // Often the same as before.
                if number == 0 || random.below(3) == 0 {
                    script = Script::any(random);
                }
                let asked = any_request(random);
                let of_cache = tokio::spawn(seen(cache.clone(), asked.clone()));
                answer(script.as_ref(), calls.next().await);
                let of_bare = tokio::spawn(seen(bare.clone(), asked));
                answer(script.as_ref(), bare_calls.next().await);
                assert_eq!(of_cache.await.unwrap(), of_bare.await.unwrap(), "request {number}");
                assert!(calls.now().await.is_none(), "each request is forwarded once");
                advance(random.pick(&[1, 7, 40]) * SECOND).await;
            }
            reused += shadowed(&handle, Shadow::Hit) + shadowed(&handle, Shadow::Stale);
        });
    });
    assert!(reused > 150, "{reused}");
}
