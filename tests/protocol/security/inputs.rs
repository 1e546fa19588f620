//! What a request says without being asked: `SEC-UNK-*` and `SEC-WCD-*`.

use http::{HeaderName, Method};
use tower_support_cache::CacheRoute;

use super::{
    Site, numbered,
    support::{GatedBody, TTL, get, request, response, with},
};

/// Fields that routers and frameworks act on.
const FORWARDED: [&str; 9] = [
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-forwarded-port",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
    "x-host",
    "x-http-method-override",
];

#[tokio::test(start_paused = true)]
async fn sec_unk_1_a_field_that_the_handler_reflects_reaches_nobody_else_once_it_is_named() {
    for field in FORWARDED {
        for is_declared in [true, false] {
            let declared = is_declared.then(|| HeaderName::from_static(field));
            let site = Site::new(
                |route| route.vary(declared),
                move |head| {
                    let reflected = head.headers.get(field).map(|value| value.as_bytes().to_vec());
                    let body = GatedBody::full(reflected.unwrap_or_else(|| b"clean".to_vec()));
                    let mut response = http::Response::new(body);
                    if !is_declared {
                        response.headers_mut().insert("vary", field.parse().unwrap());
                    }
                    response
                },
            );
            let evil = site.ask(with(get("/cases/1"), field, "evil.example")).await;
            assert_eq!(evil.text(), "evil.example");
            let victim = site.ask(get("/cases/1")).await;
            assert_eq!(victim.text(), "clean", "{field}, declared: {is_declared}");
            assert!(site.ask(get("/cases/1")).await.is_hit());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_unk_2_no_field_of_a_request_makes_the_uncacheable_cacheable() {
    for (field, value) in [
        ("cache-control", "max-age=3600, public"),
        ("cache-control", "max-stale=3600"),
        ("cache-control", "only-if-cached"),
        ("pragma", "x-cache"),
        ("x-cache-control", "public"),
        ("surrogate-control", "max-age=3600"),
        ("cdn-cache-control", "max-age=3600"),
        ("x-middleware-cache", "1"),
        ("x-now-route-matches", "1"),
        ("x-nextjs-data", "1"),
    ] {
        for refused in ["no-store", "private", "no-cache"] {
            let site = Site::new(|route| route, numbered(&[("cache-control", refused)]));
            for number in ["1", "2"] {
                let got = site.ask(with(get("/cases/1"), field, value)).await;
                assert_eq!(got.text(), number, "{field}: {value}, {refused}");
            }
            let uncached = site.ask(with(get("/elsewhere"), field, value)).await;
            assert_eq!(uncached.cache_status(), "", "{field}: {value}");
            assert_eq!(site.counts().stored, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_unk_2_no_field_of_a_request_purges_or_bypasses_what_is_stored() {
    for (field, value) in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "no-store"),
        ("cache-control", "min-fresh=100000"),
        ("pragma", "no-cache"),
        ("x-cache-purge", "1"),
        ("x-purge", "1"),
        ("x-bypass-cache", "1"),
        ("cache-group-invalidation", "\"cases\""),
        ("surrogate-key", "case:1"),
    ] {
        let site = Site::new(|route| route, numbered(&[]));
        site.ask(get("/cases/1")).await;
        for _ in 0..2 {
            let got = site.ask(with(get("/cases/1"), field, value)).await;
            assert!(got.is_hit() && got.text() == "1", "{field}: {value}: {got:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_unk_2_a_purge_that_the_origin_refuses_removes_nothing() {
    let site = Site::new(
        |route| route,
        |head| response(if head.method == Method::GET { 200 } else { 405 }, &[], "kept"),
    );
    site.ask(get("/cases/1")).await;
    for method in ["PURGE", "BAN", "PURGEKEYS", "FOO"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        site.ask(request(method, "/cases/1")).await;
        assert!(site.ask(get("/cases/1")).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn sec_wcd_1_the_matched_route_decides_and_never_an_extension_or_a_prefix() {
    let route = |_| CacheRoute::get("/static/{*file}").bucket("cases").key("file:{file}").ttl(TTL);
    for target in [
        "/cases/123/nonexistent.css",
        "/cases/123.css",
        "/cases/123;x.js",
        "/cases/123%2f..%2fstatic/x",
        "/cases/123/..%2f..%2fstatic/x",
        "/cases/123%00.css",
        "/cases/123%3f.png",
        "/cases/123%0a.ico",
        "/static",
        "//static/x",
        "/%73tatic/x",
        "/STATIC/x",
    ] {
        let site = Site::new(route, numbered(&[]));
        let first = site.ask(get(target)).await;
        let second = site.ask(get(target)).await;
        assert_ne!(first.text(), second.text(), "{target}");
        assert_eq!((second.cache_status(), site.counts().entries), ("", 0), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_wcd_1_a_page_with_credentials_is_not_stored_under_a_static_disguise() {
    let route = |_| CacheRoute::get("/{*path}").bucket("cases").key("file:{path}").ttl(TTL);
    for target in ["/static/..%2fcases", "/static/../cases/1.css", "/cases/1;x.js", "/cases/1.css"]
    {
        let site = Site::new(route, numbered(&[("cache-control", "public, max-age=60")]));
        let victim = site.ask(with(get(target), "cookie", "sid=victim")).await;
        let attacker = site.ask(get(target)).await;
        assert_ne!(victim.text(), attacker.text(), "{target}");
    }
}
