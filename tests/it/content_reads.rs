//! Reads with content (QUERY, RFC 10008, and POST that only reads): what they ask is in their content, which reaches the origin as it
//! was sent.

use std::{
    convert::Infallible,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_support_cache::{
    CacheRoute, Credentials, InvalidateRoute, MemoryStore, ReadContent, SupportCacheHandle,
    SupportCacheLayer, Switch,
};

use crate::{
    content::{Hidden, Polled, data, trailers},
    random::{Random, for_all},
    support::{Call, Calls, GatedBody, Got, Origin, TTL, origin, read, settle},
};

const SECOND: Duration = Duration::from_secs(1);

type Queried = ReadContent<Origin, MemoryStore>;

fn layer(route: impl FnOnce(CacheRoute) -> CacheRoute) -> SupportCacheLayer<MemoryStore> {
    let route = route(CacheRoute::query("/search").key("search").ttl(TTL).jitter(0));
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(route)
        .cache(CacheRoute::get("/search").bucket("page").key("page").ttl(TTL).jitter(0))
        .cache(
            CacheRoute::post_read("/search", |_, content| content.starts_with(b"a"))
                .bucket("post")
                .key("post")
                .ttl(TTL)
                .jitter(0)
                .content_limit(6),
        )
        .invalidate(InvalidateRoute::post("/articles").key("search"))
        .invalidate(InvalidateRoute::post("/search").key("page"))
        .build()
        .unwrap()
}

fn cache_with(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
) -> (Queried, SupportCacheHandle, Calls) {
    let layer = layer(route);
    let (origin, calls) = origin();
    (layer.reading_content().layer(origin), layer.handle(), calls)
}

fn cache() -> (Queried, SupportCacheHandle, Calls) {
    cache_with(|route| route)
}

fn request<Q>(method: &str, fields: &[(&str, &str)], body: Q) -> Request<Q> {
    let mut request = Request::builder().method(method).uri("/search");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    // Its head does not say that it has no content.
    request.version(Version::HTTP_2).body(body).unwrap()
}

const TEXT: (&str, &str) = ("content-type", "text/plain");

fn query(body: &'static str) -> Request<Full<Bytes>> {
    request("QUERY", &[TEXT], Full::from(body))
}

async fn ask<Q>(cache: &Queried, request: Request<Q>) -> Got
where
    Q: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    read(cache.clone().oneshot(request).await.unwrap()).await
}

/// Answers each call with its number.
fn numbered(calls: Calls) -> Arc<AtomicUsize> {
    let count = AtomicUsize::new(0);
    calls.serve(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        Response::new(GatedBody::full(number.to_string()))
    })
}

#[tokio::test(start_paused = true)]
async fn what_differs_in_content_or_in_what_says_its_meaning_is_never_one() {
    let (cache, _, calls) = cache();
    numbered(calls);
    let of = |fields: &[(&str, &str)], body: &'static str| {
        request("QUERY", fields, Hidden::of([data(body)]))
    };
    let with = |name, value| [TEXT, (name, value)];
    let all = || {
        [
            of(&[TEXT], "cats"),
            of(&[TEXT], "dogs"),
            of(&[TEXT], "cat"),
            of(&[TEXT], ""),
            request("QUERY", &[TEXT], Hidden::of([data("cats"), trailers()])),
            of(&[("content-type", "text/markdown")], "cats"),
            of(&with("content-type", "text/plain"), "cats"),
            of(&with("content-language", "de"), "cats"),
            of(&with("content-encoding", "gzip"), "cats"),
            of(&with("content-location", "/a"), "cats"),
        ]
    };
    for is_second in [false, true] {
        for (number, request) in (1..).zip(all()) {
            let got = ask(&cache, request).await;
            assert_eq!((got.text(), got.is_hit()), (&*number.to_string(), is_second));
        }
    }
    // However it is cut.
    let cut = request("QUERY", &[TEXT], Hidden::of([data("c"), data(""), data("ats")]).late());
    assert!(ask(&cache, cut).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn equal_contents_at_once_are_one_forward() {
    for (bucket, method) in [("default", "QUERY"), ("post", "POST")] {
        let (cache, handle, mut calls) = cache();
        // Every other is of another content, at the same target.
        let sent: Vec<_> = (0..1000)
            .map(|at| {
                let cache = cache.clone();
                let content = ["a cat", "a dog"][at % 2];
                let asked = request(method, &[TEXT], Full::from(content));
                tokio::spawn(async move { ask(&cache, asked).await })
            })
            .collect();
        let (one, other): (Call, Call) = (calls.next().await, calls.next().await);
        assert!(calls.now().await.is_none(), "{method}");
        one.ok("cat");
        other.ok("dog");
        for (at, sent) in sent.into_iter().enumerate() {
            assert_eq!(sent.await.unwrap().text(), ["cat", "dog"][at % 2], "{method}");
        }
        assert_eq!(handle.metrics().bucket(bucket).unwrap().misses, 2, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_is_not_known_whole_bypasses_for_a_named_reason() {
    let (cache, _, calls) = cache_with(|route| route.content_limit(4));
    numbered(calls);
    for (label, fields, body, reason) in [
        ("no type", &[][..], Hidden::of([data("cats")]), "media-type"),
        ("long", &[TEXT], Hidden::of([data("cat"), data("s!")]), "too-large"),
        ("failed", &[TEXT], Hidden::of([data("cat"), Err("reset")]), "incomplete"),
        ("a condition", &[TEXT, ("if-match", "\"1\"")], Hidden::of([]), "precondition"),
        ("credentials", &[TEXT, ("authorization", "x")], Hidden::of([]), "credentials"),
    ] {
        let got = ask(&cache, request("QUERY", fields, body)).await;
        let expected = format!("support-cache;fwd=bypass;fwd-status=200;detail={reason}");
        assert_eq!(got.cache_status(), expected, "{label}");
    }
    let full = request("QUERY", &[TEXT], Full::from("cats"));
    assert!(ask(&cache, full).await.cache_status().ends_with("stored"));
    let got = ask(&cache, request("QUERY", &[TEXT], Full::from("dogs!"))).await;
    assert!(got.cache_status().ends_with("too-large"), "{}", got.cache_status());
}

#[tokio::test(start_paused = true)]
async fn content_that_does_not_arrive_is_forwarded_as_far_as_it_has() {
    let service = layer(|route| route).reading_content().layer(echo());
    let (body, gate) = GatedBody::gated(None);
    gate.send("ca");
    let asked = tokio::spawn(service.oneshot(request("QUERY", &[TEXT], body)));
    settle().await;
    advance(5 * SECOND).await;
    settle().await;
    gate.send("ts");
    gate.end();
    let response = asked.await.unwrap().unwrap();
    let said = response.headers()["cache-status"].to_str().unwrap().to_owned();
    assert!(said.ends_with("detail=incomplete"), "{said}");
    let told = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(told, "\"cats\" None None");
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_reads_no_content_forwards_it() {
    let layer = layer(|route| route);
    let service = layer.layer(echo());
    for _ in 0..2 {
        let response = service.clone().oneshot(query("cats")).await.unwrap();
        let said = response.headers()["cache-status"].to_str().unwrap().to_owned();
        assert!(said.ends_with("fwd=bypass;fwd-status=200;detail=content"), "{said}");
        let told = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(told, "\"cats\" None None");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_revalidated_with_the_content_of_its_request() {
    let layer = layer(|route| route.stale_while_revalidate(TTL));
    let service = layer.reading_content().layer(echo());
    let told = async |body| {
        let response = service.clone().oneshot(query(body)).await.unwrap();
        let said = response.headers()["cache-status"].to_str().unwrap().to_owned();
        (said, response.into_body().collect().await.unwrap().to_bytes())
    };
    told("cats").await;
    advance(TTL + SECOND).await;
    let (said, _) = told("cats").await;
    assert!(said.contains("stale-while-revalidate"), "{said}");
    settle().await;
    let (said, text) = told("cats").await;
    assert_eq!((&*said, &*text), ("support-cache;hit;ttl=60", &b"\"cats\" None None"[..]));
}

#[tokio::test(start_paused = true)]
async fn writes_invalidate_it_and_it_invalidates_nothing() {
    let (cache, handle, calls) = cache();
    numbered(calls);
    let page = || request("GET", &[], Full::from(""));
    ask(&cache, page()).await;
    ask(&cache, query("cats")).await;
    assert!(ask(&cache, page()).await.is_hit(), "QUERY is safe");
    handle.invalidate("search").await.unwrap();
    assert!(!ask(&cache, query("cats")).await.is_hit());
    assert!(ask(&cache, page()).await.is_hit());
    // RFC 9111 §4.4: all that is stored for the target.
    ask(&cache, request("PUT", &[], Full::from("x"))).await;
    assert!(!ask(&cache, query("cats")).await.is_hit());
    assert!(!ask(&cache, page()).await.is_hit());
    let write = Request::post("/articles").body(Full::from("x")).unwrap();
    ask(&cache, write).await;
    assert!(!ask(&cache, query("cats")).await.is_hit());
    assert!(ask(&cache, page()).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn credentials_are_treated_as_for_get() {
    let caller = tower_support_cache::Caller::authorization();
    let (cache, _, calls) = cache_with(|route| route.credentials(Credentials::PerCaller(caller)));
    numbered(calls);
    let of = |user| request("QUERY", &[TEXT, ("authorization", user)], Full::from("cats"));
    assert_eq!(ask(&cache, of("anna")).await.text(), "1");
    assert_eq!(ask(&cache, of("bert")).await.text(), "2");
    assert_eq!(ask(&cache, of("anna")).await.text(), "1");
    let nobody = ask(&cache, query("cats")).await;
    assert!(nobody.cache_status().ends_with("detail=caller"));
}

#[tokio::test(start_paused = true)]
async fn contents_that_have_one_form_share_a_response() {
    let form = |content: &[u8]| (content != b"odd").then(|| content.to_ascii_lowercase());
    let (cache, _, calls) = cache_with(|route| route.normalize_with(1, move |_, body| form(body)));
    numbered(calls);
    let of = |fields: &[(&str, &str)], body| request("QUERY", fields, Full::from(body));
    for (fields, body, text) in [
        (&[TEXT][..], "Cats", "1"),
        (&[TEXT], "cats", "1"),
        (&[TEXT], "dogs", "2"),
        // It is not the form of `ODD`.
        (&[TEXT], "odd", "3"),
        (&[TEXT], "ODD", "4"),
        (&[("content-type", "text/html")], "cats", "5"),
        (&[TEXT, ("cache-control", "no-transform")], "Cats", "6"),
        (&[TEXT, ("content-encoding", "gzip")], "Cats", "7"),
        (&[TEXT, ("content-encoding", "gzip")], "cats", "8"),
    ] {
        assert_eq!(ask(&cache, of(fields, body)).await.text(), text, "{fields:?} {body}");
    }
}

#[cfg(feature = "json")]
#[tokio::test(start_paused = true)]
async fn json_that_is_spelled_in_another_way_is_the_same() {
    let (cache, _, calls) = cache_with(|route| route.normalize_json());
    numbered(calls);
    let of = |media_type, body| request("QUERY", &[("content-type", media_type)], Full::from(body));
    for (media_type, body, text) in [
        ("application/json", r#"{"a":1,"b":2}"#, "1"),
        ("application/json", r#"{ "b": 2.0, "a": 1 }"#, "1"),
        ("application/json", r#"{"a":1,"b":3}"#, "2"),
        ("application/json", r#"{"a":1,"b":2,"b":2}"#, "3"),
        ("application/x+JSON; a=b", r#"{"a":1,"b":2}"#, "4"),
        ("application/x+JSON; a=b", r#"{"a":1, "b":2}"#, "4"),
        ("text/plain", r#"{"a":1,"b":2}"#, "5"),
        ("text/plain", r#"{"a":1, "b":2}"#, "6"),
    ] {
        assert_eq!(ask(&cache, of(media_type, body)).await.text(), text, "{media_type} {body}");
    }
}

// ===== POST that only reads =====

fn post<Q>(fields: &[(&str, &str)], body: Q) -> Request<Q> {
    request("POST", fields, body)
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_judged_to_read_is_cached_and_invalidates_nothing() {
    let (cache, handle, calls) = cache();
    numbered(calls);
    let page = || request("GET", &[], Full::from(""));
    ask(&cache, page()).await;
    for (body, text, is_hit) in [("a1", "2", false), ("a2", "3", false), ("a1", "2", true)] {
        let got = ask(&cache, post(&[], Full::from(body))).await;
        assert_eq!((got.text(), got.is_hit()), (text, is_hit), "{body}");
    }
    assert!(ask(&cache, page()).await.is_hit(), "a rule for POST does not act");
    assert_eq!(handle.metrics().invalidations, 0);
    // It is judged although nothing answers it from the cache.
    handle.switch("post", Switch::Off);
    let got = ask(&cache, post(&[], Full::from("a1"))).await;
    assert!(got.cache_status().ends_with("detail=switch"), "{}", got.cache_status());
    assert!(ask(&cache, page()).await.is_hit());
    ask(&cache, post(&[], Full::from("b"))).await;
    assert!(!ask(&cache, page()).await.is_hit(), "a write is one whatever the switch");
}

#[tokio::test(start_paused = true)]
async fn a_post_that_writes_or_cannot_be_judged_invalidates() {
    let whole = |text| Hidden::of([data(text)]);
    for (label, fields, body) in [
        ("a write", &[][..], whole("b")),
        ("nothing", &[], Hidden::of([])),
        ("too long", &[], Hidden::of([data("aaa"), data("aaaa")])),
        ("failed", &[], Hidden::of([data("a"), Err("reset")])),
        ("compressed", &[("content-encoding", "gzip")], whole("a")),
        // For a read these are reasons to bypass the cache.
        ("conditional", &[("if-match", "\"1\"")], whole("b")),
        ("of a caller", &[("authorization", "Bearer 1")], whole("b")),
    ] {
        let (cache, _, calls) = cache();
        numbered(calls);
        ask(&cache, request("GET", &[], Full::from(""))).await;
        ask(&cache, post(&[], Full::from("a"))).await;
        let got = ask(&cache, post(fields, body)).await;
        assert_eq!(got.cache_status(), "support-cache;fwd=method;fwd-status=200", "{label}");
        assert!(!ask(&cache, request("GET", &[], Full::from(""))).await.is_hit(), "{label}");
        assert!(!ask(&cache, post(&[], Full::from("a"))).await.is_hit(), "{label}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_a_write_where_nothing_reads_its_content() {
    let layer = layer(|route| route);
    let service = layer.layer(echo());
    let response = service.oneshot(post(&[], Full::from("a"))).await.unwrap();
    assert_eq!(response.headers()["cache-status"], "support-cache;fwd=method;fwd-status=200");
    assert!(layer.handle().metrics().invalidations > 0);
}

/// RFC 9110 §13.1.2, §14.2: what `If-None-Match` and `Range` mean for GET, they do not for POST.
#[tokio::test(start_paused = true)]
async fn a_post_with_a_condition_or_a_range_is_the_origins() {
    let (cache, _, calls) = cache();
    numbered(calls);
    ask(&cache, post(&[], Full::from("a"))).await;
    for field in [("if-none-match", "*"), ("range", "bytes=0-0"), ("if-match", "*")] {
        let got = ask(&cache, post(&[field], Full::from("a"))).await;
        assert!(got.cache_status().ends_with("fwd=bypass;fwd-status=200;detail=precondition"));
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_a_route_ignores_imply_nothing_and_rules_act_all_the_same() {
    let route = |pattern: &str| CacheRoute::get(pattern).key("page").ttl(TTL);
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(route("/search").ignore_writes([Method::POST]))
        .cache(route("/seen").ignore_writes([Method::POST]))
        .invalidate(InvalidateRoute::post("/seen").key("page"))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    let cache = layer.reading_content().layer(origin);
    numbered(calls);
    for (method, target, is_hit) in
        [("POST", "/search", true), ("PUT", "/search", false), ("POST", "/seen", false)]
    {
        ask(&cache, request("GET", &[], Full::from(""))).await;
        let write = Request::builder().method(method).uri(target).body(Full::from("x"));
        ask(&cache, write.unwrap()).await;
        let got = ask(&cache, request("GET", &[], Full::from(""))).await;
        assert_eq!(got.is_hit(), is_hit, "{method} {target}");
    }
}

// ===== no body is lost or changed =====

/// Content as it came to a service.
pub(super) async fn arrived<B: Body<Data = Bytes, Error: Display>>(body: B) -> String {
    let mut body = Box::pin(body);
    let (mut all, mut end, mut error) = (Vec::new(), None::<HeaderMap>, None);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => all.extend_from_slice(&data),
            Ok(Err(frame)) => end = frame.into_trailers().ok(),
            Err(failed) => {
                error = Some(failed.to_string());
                // The body of a stream that was reset fails for ever.
                break;
            }
        }
    }
    format!("{:?} {end:?} {error:?}", String::from_utf8(all).unwrap())
}

/// Service that answers with the content of its request.
fn echo<Q>()
-> impl Service<Request<Q>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static
where
    Q: Body<Data = Bytes, Error: Display + Send> + Send + 'static,
{
    service_fn(|request: Request<Q>| async {
        let hint = request.body().size_hint();
        let told = arrived(request.into_body()).await;
        assert!(hint.exact().is_none_or(|size| size <= told.len() as u64));
        Ok(Response::new(Full::from(told)))
    })
}

fn frames(random: &mut Random) -> Vec<Polled> {
    let mut frames = random.vec(0..4, |random| data(random.pick(&["", "a", "b", "ab", "cd ef"])));
    match random.below(6) {
        0 => frames.push(trailers()),
        1 => frames.push(Err("reset")),
        _ => {}
    }
    frames
}

/// Whatever the cache decides, a request is answered as by the service alone, which tells the content that
/// it got.
#[test]
fn no_content_is_lost_or_changed_or_taken_for_another() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    let hits = AtomicUsize::new(0);
    for_all(|random| {
        let layer = layer(|route| route.content_limit(6));
        let (cached, bare) = (layer.reading_content().layer(echo()), echo());
        for _ in 0..8 {
            let method = random.pick(&["QUERY", "QUERY", "QUERY", "POST", "PUT", "GET"]);
            let fields = random.pick(&[&[TEXT][..], &[TEXT], &[]]);
            let (frames, is_late) = (frames(random), random.below(2) == 0);
            let body = |frames| match (Hidden::of(frames), is_late) {
                (body, true) => body.late(),
                (body, false) => body,
            };
            let again = frames.iter().map(|frame| match frame {
                Ok(frame) => Ok(match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => Frame::data(data.clone()),
                    (None, trailers) => Frame::trailers(trailers.unwrap().clone()),
                }),
                Err(error) => Err(*error),
            });
            let again: Vec<_> = again.collect();
            let label = format!("{method} {fields:?} {frames:?}");
            let alone = bare.clone().oneshot(request(method, fields, body(frames)));
            let through = cached.clone().oneshot(request(method, fields, body(again)));
            let (alone, through) = runtime.block_on(async {
                let (alone, through) = (alone.await.unwrap(), through.await.unwrap());
                let said = through.headers().get("cache-status");
                if said.is_some_and(|said| said.to_str().unwrap().contains(";hit")) {
                    hits.fetch_add(1, Ordering::SeqCst);
                }
                let bytes = through.into_body().collect().await.unwrap().to_bytes();
                (alone.into_body().collect().await.unwrap().to_bytes(), bytes)
            });
            assert_eq!(alone, through, "{label}");
        }
    });
    assert!(hits.into_inner() > 20);
}
