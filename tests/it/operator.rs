//! The service for operators: who may use it, what it does, and that nothing is done by half.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use tower::{Service, ServiceExt};
use tower_support_cache::{ConfigErrorKind, OperatorService, SupportCacheHandle, Switch};

use crate::support::{Cached, cache_with, fetch, get, got, response, send, with};

const TOKEN: &str = "0123456789abcdef";

fn request(method: Method, target: &str) -> Request<()> {
    Request::builder().method(method).uri(target).body(()).unwrap()
}

async fn ask(service: &OperatorService, request: Request<()>) -> Response<String> {
    service.clone().oneshot(request).await.unwrap()
}

async fn post(service: &OperatorService, target: &str) -> (StatusCode, String) {
    let response = ask(service, request(Method::POST, target)).await;
    (response.status(), response.into_body())
}

fn open() -> (Cached, SupportCacheHandle, OperatorService) {
    let (cache, handle, calls) = cache_with(|route| {
        route.tag("account:{case}").stale_while_revalidate(Duration::from_secs(60))
    });
    calls.serve(|_| response(200, &[("cache-groups", "\"g\"")], "x"));
    let service = OperatorService::allow_unauthenticated(handle.clone());
    (cache, handle, service)
}

#[tokio::test(start_paused = true)]
async fn without_its_token_nothing_is_done_or_told() {
    let (_, handle, _) = open();
    let service = OperatorService::new(handle.clone(), TOKEN).unwrap();
    let wrong = TOKEN.replace('f', "e");
    let fields =
        ["", "Bearer ", "Basic x", TOKEN, &format!("Bearer {wrong}"), &format!("Bearer {TOKEN}0")];
    for field in fields {
        for (method, target) in [(Method::POST, "/invalidate-all"), (Method::GET, "/")] {
            let mut request = request(method, target);
            if !field.is_empty() {
                request.headers_mut().insert("authorization", field.parse().unwrap());
            }
            let response = ask(&service, request).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{field}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert!(!response.body().contains("cases"));
        }
    }
    assert_eq!(handle.metrics().invalidations, 0);
    let mut request = request(Method::POST, "/invalidate-all");
    request.headers_mut().insert("authorization", format!("bearer {TOKEN}").parse().unwrap());
    assert_eq!(ask(&service, request).await.status(), StatusCode::OK);
    assert_eq!(handle.metrics().invalidations, 1);
}

#[test]
fn a_token_that_can_be_guessed_is_refused() {
    let (handle, _) = {
        let layer =
            tower_support_cache::SupportCacheLayer::new(tower_support_cache::MemoryStore::new());
        (layer.handle(), layer)
    };
    for token in ["", "0123456789abcde"] {
        let error = OperatorService::new(handle.clone(), token).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Token, "token"));
        assert!(
            error.to_string().starts_with("`OperatorService`: token: is too short: "),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_invalidation_reaches_what_it_names_hard_or_soft() {
    let asked = || with(get("/cases/a%20b"), "host", "portal.example");
    for (parameters, is_reached) in [
        ("?key=case:a%2520b", true),
        ("?key=case:other&key=case:a%2520b", true),
        ("?key=case:other", false),
        ("?tag=account%3Aa%2520b", true),
        ("?tag=account%3Aother", false),
        ("?bucket=cases", true),
        ("?group=g&authority=portal.example", true),
        ("?authority=portal.example&group=other&group=g", true),
        ("?group=g&authority=other.example", false),
        ("-all", true),
    ] {
        for command in ["invalidate", "soft-invalidate", "cache/invalidate"] {
            let (cache, _, service) = open();
            got(send(&cache, asked())).await;
            assert!(got(send(&cache, asked())).await.is_hit());
            let target = format!("/{command}{parameters}");
            assert_eq!(
                post(&service, &target).await,
                (StatusCode::OK, "done\n".to_owned()),
                "{target}"
            );
            let read = got(send(&cache, asked())).await;
            let is_stale = read.cache_status().contains("detail=stale-while-revalidate");
            let expected = match (is_reached, command) {
                (false, _) => (true, false),
                (true, "soft-invalidate") => (true, true),
                (true, _) => (false, false),
            };
            assert_eq!((read.is_hit(), is_stale), expected, "{target}");
        }
    }
}

/// What is not acknowledged is said so, and is in force here.
#[cfg(feature = "testing")]
#[tokio::test(start_paused = true)]
async fn an_invalidation_that_is_not_acknowledged_is_accepted() {
    use tower_support_cache::testing::{Chaos, Fault, StoreCall};

    let store = Chaos::new(tower_support_cache::MemoryStore::new(), |call, _| match call {
        StoreCall::Invalidate | StoreCall::InvalidateAll | StoreCall::FlushPending => Fault::Fail,
        _ => Fault::None,
    });
    let layer = tower_support_cache::SupportCacheLayer::new(store);
    let service = OperatorService::allow_unauthenticated(layer.handle());
    for target in ["/invalidate?key=support:cases:A1", "/invalidate-all", "/drain?seconds=1"] {
        let (status, text) = post(&service, target).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{target}");
        assert!(text.contains("acknowledged"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_with_a_mistake_in_it_does_nothing() {
    let (_, handle, service) = open();
    for (target, problem) in [
        ("/invalidate", "the query names nothing to invalidate\n"),
        ("/invalidate?key=case:1&tags=x", "there is no parameter `tags` here\n"),
        ("/invalidate?key=case:1&key=", "`key` has no value\n"),
        ("/invalidate?key=%ff", "a parameter is no UTF-8\n"),
        ("/invalidate?key=case:1&group=g", "`group` needs an `authority`\n"),
        ("/invalidate?authority=x", "the query names nothing to invalidate\n"),
        ("/invalidate?key=case:1&bucket=unknown", "there is no bucket `unknown`\n"),
        ("/invalidate-all?key=x", "there is no parameter `key` here\n"),
        ("/switch?off=cases&off=unknown", "there is no bucket `unknown`\n"),
        ("/switch?toggle=cases", "there is no parameter `toggle` here\n"),
        ("/drain?seconds=-1", "`seconds` is a number up to 3600\n"),
        ("/drain?seconds=3601", "`seconds` is a number up to 3600\n"),
    ] {
        let expected = (StatusCode::BAD_REQUEST, problem.to_owned());
        assert_eq!(post(&service, target).await, expected, "{target}");
    }
    let counts = handle.metrics();
    assert_eq!((counts.invalidations, counts.tag_invalidations), (0, 0));
    assert_eq!(counts.bucket("cases").unwrap().switch, Switch::On);
    for target in ["/purge", "/", "/soft-switch?on=cases", "/soft-drain"] {
        assert_eq!(post(&service, target).await.0, StatusCode::NOT_FOUND, "{target}");
    }
    // A GET that forgets to be a POST does not look as if it had worked.
    for (method, target, allowed) in [
        (Method::GET, "/invalidate-all", "POST"),
        (Method::GET, "/soft-invalidate?key=case:1", "POST"),
        (Method::DELETE, "/invalidate-all", "POST"),
        (Method::DELETE, "/", "GET"),
    ] {
        let response = ask(&service, request(method, target)).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{target}");
        assert_eq!(response.headers()["allow"], allowed, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn buckets_are_switched_and_the_counts_are_json() {
    let (cache, handle, service) = open();
    fetch(&cache, "/cases/1").await;
    fetch(&cache, "/cases/1").await;
    got(send(&cache, with(get("/cases/1"), "authorization", "x"))).await;
    assert_eq!(post(&service, "/switch?off=cases").await.0, StatusCode::OK);
    assert_eq!(handle.metrics().bucket("cases").unwrap().switch, Switch::Off);
    let response = ask(&service, request(Method::GET, "/")).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let json: serde_json::Value = serde_json::from_str(response.body()).unwrap();
    let bucket = &json["buckets"]["cases"];
    assert_eq!((&bucket["switch"], &bucket["hits"]), (&"off".into(), &1.into()));
    assert_eq!((&bucket["hit_ratio"], &json["store"]), (&0.3333.into(), &serde_json::Value::Null));
    assert_eq!(bucket["bypassed"], serde_json::json!({ "credentials": 1 }));
    assert_eq!(post(&service, "/switch?on=cases").await.0, StatusCode::OK);
    assert_eq!(handle.metrics().bucket("cases").unwrap().switch, Switch::On);
    assert_eq!(post(&service, "/drain").await, (StatusCode::OK, "done\n".to_owned()));
}

/// A service of a router is called with what comes before it cut off, and with any body.
#[tokio::test(start_paused = true)]
async fn it_is_a_service_of_a_router_and_a_router_itself() {
    let (_, handle, service) = open();
    let mut app: axum::Router = axum::Router::new().nest_service("/cache", service.clone());
    #[cfg(feature = "axum")]
    {
        app = app.nest("/ops", service.into_router());
    }
    let mounts = if cfg!(feature = "axum") { &["/cache", "/ops"][..] } else { &["/cache"] };
    for (count, mount) in (1..).zip(mounts) {
        let request = Request::post(format!("{mount}/invalidate?key=case:1"));
        let request = request.body(axum::body::Body::from("x")).unwrap();
        assert_eq!(app.call(request).await.unwrap().status(), StatusCode::OK);
        assert_eq!(handle.metrics().invalidations, count, "{mount}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_browser_is_asked_for_the_token_and_gives_it_as_a_password() {
    let (_, handle, _) = open();
    let service = OperatorService::new(handle, TOKEN).unwrap();
    let asked = ask(&service, request(Method::GET, "/cache/page")).await;
    assert_eq!(asked.status(), StatusCode::UNAUTHORIZED);
    assert!(asked.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic realm="));
    for (credentials, expected) in [
        ("Basic b3BlcmF0b3I6MDEyMzQ1Njc4OWFiY2RlZg==", StatusCode::OK),
        ("basic b3BlcmF0b3I6MDEyMzQ1Njc4OWFiY2RlZg==", StatusCode::OK),
        ("Basic MDEyMzQ1Njc4OWFiY2RlZg==", StatusCode::UNAUTHORIZED),
        ("Basic eDowMTIzNDU2Nzg5YWJjZGVl", StatusCode::UNAUTHORIZED),
        ("Basic :;a=1, ", StatusCode::UNAUTHORIZED),
        ("Basic", StatusCode::UNAUTHORIZED),
    ] {
        let mut request = request(Method::GET, "/cache/page");
        request.headers_mut().insert("authorization", credentials.parse().unwrap());
        assert_eq!(ask(&service, request).await.status(), expected, "{credentials}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_is_one_file_under_a_strict_policy() {
    let (_, _, service) = open();
    let page = async || ask(&service, request(Method::GET, "/cache/page")).await;
    let (one, other) = (page().await, page().await);
    let policy = one.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
    assert!(!policy.contains("unsafe"));
    assert_ne!(policy, other.headers()["content-security-policy"], "each copy has its own number");
    let number = policy.split('\'').nth(3).unwrap().strip_prefix("nonce-").unwrap();
    assert_eq!(one.body().matches(&format!("nonce=\"{number}\"")).count(), 2);
    for elsewhere in ["http://", "https://", "src=", "{nonce}", "style=", "onclick"] {
        assert!(!one.body().contains(elsewhere), "{elsewhere}");
    }
    assert_eq!(one.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_a_page_from_elsewhere_has_sent_is_refused() {
    let (_, handle, service) = open();
    let sent = async |fields: &[(&'static str, &str)]| {
        let mut request = request(Method::POST, "/cache/invalidate-all");
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        ask(&service, request).await.status()
    };
    for fields in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example"), ("host", "portal.example")],
        &[("origin", "null"), ("host", "portal.example")],
        &[("origin", "https://portal.example.evil"), ("host", "portal.example")],
    ] {
        assert_eq!(sent(fields).await, StatusCode::FORBIDDEN, "{fields:?}");
    }
    assert_eq!(handle.metrics().invalidations, 0);
    for fields in [
        &[][..],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://portal.example"), ("host", "portal.example")],
    ] {
        assert_eq!(sent(fields).await, StatusCode::OK, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_explained_and_outcomes_and_audits_are_listed() {
    let (cache, _, service) = open();
    fetch(&cache, "/cases/7").await;
    let text = async |target: &str| {
        let response = ask(&service, request(Method::GET, target)).await;
        (response.status(), response.into_body())
    };
    let (status, body) = text("/explain?target=/cases/7&method=GET").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("key         case:7\n") && body.contains("now         hit:"), "{body}");
    let (_, body) = text("/explain?target=/cases/7&field=authorization:+Bearer+x").await;
    assert!(body.contains("bypass: credentials"), "{body}");
    let (_, body) = text("/explain?target=/cases/7&content=a").await;
    assert!(body.contains("bypass: content"), "{body}");
    for wrong in ["target=%7F", "method=%7F", "field=a", "field=%7F:b", "what=1"] {
        assert_eq!(text(&format!("/explain?{wrong}")).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(text("/outcomes?bucket=cases").await, (StatusCode::OK, "[]".to_owned()));
    assert_eq!(text("/outcomes?bucket=none").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(text("/outcomes").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(text("/audits").await, (StatusCode::OK, "{}".to_owned()));
    let state: serde_json::Value = serde_json::from_str(&text("/state").await.1).unwrap();
    assert_eq!(state["routes"][0]["route"], "GET /cases/{case}");
    assert_eq!(post(&service, "/explain").await.0, StatusCode::METHOD_NOT_ALLOWED);
}
