//! The replay that finds what a handler reads and nobody declared (SEC-UNK-1, SEC-KEY-6).

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT_LANGUAGE, COOKIE, HOST},
};
use http_body_util::{Empty, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_service::Service;
use tower_support_cache::{
    CacheRoute, MemoryStore, SupportCacheLayer,
    testing::{Replay, Undeclared},
};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

fn handler(
    answer: impl Fn(&HeaderMap) -> Response<String> + Clone + Send + Sync + 'static,
) -> impl Service<
    Request<Empty<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request<Empty<Bytes>>| {
        let response = answer(request.headers());
        async move { Ok(response.map(Full::from)) }
    })
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("/cases/1").body(Empty::new()).unwrap()
}

/// Puts `name` of the request into the body.
fn reflect(fields: &HeaderMap, name: &str) -> Response<String> {
    Response::new(format!("{:?}", fields.get(name)))
}

fn names(found: &[Undeclared]) -> Vec<&str> {
    found.iter().map(|undeclared| undeclared.name().as_str()).collect()
}

#[tokio::test]
async fn a_handler_that_reflects_x_forwarded_host_is_found() {
    let found = Replay::new()
        .undeclared(handler(|fields| reflect(fields, "x-forwarded-host")), request)
        .await;
    assert_eq!(names(&found), ["x-forwarded-host"]);
    let message = "`x-forwarded-host: replay.invalid` changes the body";
    assert_eq!(found[0].to_string(), message);
}

/// The same handler behind the cache: what the replay finds is what poisons.
#[tokio::test]
async fn what_is_found_is_what_one_client_does_to_others() {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").key("{case}").ttl(Duration::from_secs(60)))
        .build()
        .unwrap();
    let cached = layer.layer(handler(|fields| reflect(fields, "x-forwarded-host")));
    let mut attack = request();
    attack.headers_mut().insert(X_FORWARDED_HOST, HeaderValue::from_static("evil.invalid"));
    cached.clone().oneshot(attack).await.unwrap();
    let victim = cached.oneshot(request()).await.unwrap();
    let body = http_body_util::BodyExt::collect(victim.into_body()).await.unwrap().to_bytes();
    assert!(std::str::from_utf8(&body).unwrap().contains("evil.invalid"));
}

#[tokio::test]
async fn a_handler_that_says_vary_is_not_found() {
    let handler = handler(|fields| {
        let mut response = reflect(fields, "x-forwarded-host");
        response.headers_mut().insert("vary", HeaderValue::from_static("X-Forwarded-Host"));
        response
    });
    Replay::new().assert_declared(handler, request).await;
}

#[tokio::test]
async fn a_field_that_is_declared_is_not_found() {
    let handler = handler(|fields| reflect(fields, "x-forwarded-host"));
    Replay::new().declared([X_FORWARDED_HOST]).assert_declared(handler.clone(), request).await;
    let route = CacheRoute::get("/cases/{case}").vary([X_FORWARDED_HOST]);
    Replay::new().route(&route).assert_declared(handler, request).await;
}

#[tokio::test]
#[should_panic = "`x-forwarded-host: replay.invalid` changes the body"]
async fn the_assertion_says_what_was_found() {
    let handler = handler(|fields| reflect(fields, "x-forwarded-host"));
    Replay::new().assert_declared(handler, request).await;
}

#[tokio::test]
async fn every_field_on_the_list_is_changed() {
    for name in [
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "cookie",
        "forwarded",
        "origin",
        "referer",
        "user-agent",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-host",
        "x-http-method-override",
        "x-original-url",
        "x-requested-with",
        "x-rewrite-url",
    ] {
        let found = Replay::new().undeclared(handler(|f| reflect(f, name)), request).await;
        assert_eq!(names(&found), [name]);
    }
}

#[tokio::test]
async fn a_change_of_status_or_of_a_field_is_found_too() {
    let status = handler(|fields| {
        let mut response = Response::new(String::new());
        if fields.contains_key("x-http-method-override") {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        }
        response
    });
    let found = Replay::new().undeclared(status, request).await;
    assert!(found[0].to_string().ends_with("changes the status from 200 to 405"), "{found:?}");
    let field = handler(|fields| {
        let mut response = Response::new(String::new());
        let origin = fields.get("origin").into_iter().cloned();
        response.headers_mut().extend(origin.map(|v| (HeaderName::from_static("x-allow"), v)));
        response
    });
    let found = Replay::new().undeclared(field, request).await;
    assert!(found[0].to_string().ends_with("changes the field `x-allow`"), "{found:?}");
}

#[tokio::test]
async fn a_field_of_the_callers_own_is_changed() {
    let service = handler(|fields| reflect(fields, "x-tenant"));
    assert!(Replay::new().undeclared(service.clone(), request).await.is_empty());
    let tenant = HeaderName::from_static("x-tenant");
    let replay = Replay::new().flip(tenant, HeaderValue::from_static("other"));
    assert_eq!(names(&replay.undeclared(service, request).await), ["x-tenant"]);
}

#[tokio::test]
async fn a_field_that_the_request_has_is_left_out_once() {
    let service = handler(|fields| Response::new(fields.contains_key("cookie").to_string()));
    let with_cookie = || {
        let mut request = request();
        request.headers_mut().insert(COOKIE, HeaderValue::from_static("a=b"));
        request
    };
    let found = Replay::new().undeclared(service, with_cookie).await;
    assert_eq!(found[0].to_string(), "no `cookie` changes the body");
}

/// A response that nominates a field only where it came from it is stored for everyone else.
#[tokio::test]
async fn vary_on_one_of_two_answers_is_not_enough() {
    let service = handler(|fields| {
        let mut response = reflect(fields, "accept-language");
        if fields.contains_key(ACCEPT_LANGUAGE) {
            response.headers_mut().insert("vary", HeaderValue::from_static("accept-language"));
        }
        response
    });
    let found = Replay::new().undeclared(service, request).await;
    assert_eq!(names(&found), ["accept-language"]);
}

#[tokio::test]
async fn an_answer_that_varies_by_everything_is_never_stored() {
    let service = handler(|fields| {
        let mut response = reflect(fields, "x-host");
        response.headers_mut().insert("vary", HeaderValue::from_static("*"));
        response
    });
    Replay::new().assert_declared(service, request).await;
}

#[tokio::test]
async fn a_content_coding_need_not_be_declared() {
    let service = handler(|fields| match fields.get("accept-encoding") {
        Some(coding) if coding == "gzip" => {
            let response = Response::builder().header("content-encoding", "gzip");
            response.body("coded".to_owned()).unwrap()
        }
        _ => Response::new("plain".to_owned()),
    });
    Replay::new().assert_declared(service, request).await;
}

#[tokio::test]
async fn what_changes_with_every_answer_is_not_compared() {
    let count = Arc::new(AtomicUsize::new(0));
    let service = handler(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let response = Response::builder().header("x-request-id", number);
        let response = response.header("x-slow", number / 4).header("date", number);
        response.body("same".to_owned()).unwrap()
    });
    let slow = HeaderName::from_static("x-slow");
    Replay::new().ignored([slow, HOST]).assert_declared(service, request).await;
}

#[tokio::test]
#[should_panic = "changes by itself: the body"]
async fn a_body_that_changes_by_itself_tells_nothing() {
    let count = Arc::new(AtomicUsize::new(0));
    let service = handler(move |_| Response::new(count.fetch_add(1, Ordering::SeqCst).to_string()));
    Replay::new().assert_declared(service, request).await;
}
