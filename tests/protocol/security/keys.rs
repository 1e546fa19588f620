//! What tells two requests apart: `SEC-KEY-*`.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, extract::Path, routing::get as on_get};
use http::{Method, StatusCode};
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    Bypass, CacheRoute, HostPolicy, InvalidateRoute, MemoryStore, QueryPolicy, SupportCacheLayer,
};

use super::{
    Asked, Site, numbered,
    support::{TTL, cache_with, get, got, origin, request, response, send, with},
};

/// How careless a key builder can be.
#[derive(Clone, Copy, Debug)]
enum Builder {
    /// `.key("same")`.
    Constant,
    /// `.key_with(|_| Some("same".into()))`.
    ConstantClosure,
    /// The whole path.
    Path,
}

impl Builder {
    const ALL: [Self; 3] = [Self::Constant, Self::ConstantClosure, Self::Path];

    fn route(self) -> CacheRoute {
        let route = CacheRoute::get("/{*path}").bucket("cases").ttl(TTL).jitter(0);
        match self {
            Self::Constant => route.key("same"),
            Self::ConstantClosure => route.key_with(|_| Some("same".into())),
            Self::Path => route.key("path:{path}"),
        }
    }
}

/// Neither request is ever answered with what was made for the other, in either order.
async fn never_share(label: &str, left: &Asked, right: &Asked) {
    for builder in Builder::ALL {
        let site = Site::new(|_| builder.route(), numbered(&[]));
        let mut texts = [Vec::new(), Vec::new()];
        for (side, request) in [(0, left), (1, right), (0, left), (1, right)] {
            texts[side].push(site.ask(request.clone()).await.text().to_owned());
        }
        let [left, right] = &texts;
        assert!(left.iter().all(|text| !right.contains(text)), "{label}, {builder:?}: {texts:?}");
        // Without this, a cache that stores nothing would pass.
        let is_kept = left[0] == left[1] && right[0] == right[1];
        assert!(is_kept || !matches!(builder, Builder::Constant), "{label}: {texts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_1_every_difference_in_the_target_is_a_difference() {
    for (left, right) in [
        ("/a?b=1", "/a?b=2"),
        ("/a?b=1&c=2", "/a?c=2&b=1"),
        ("/a?a=1&a=2", "/a?a=2&a=1"),
        ("/a?a=1&a=1", "/a?a=1"),
        ("/a", "/a?"),
        ("/a?", "/a?a"),
        ("/a?a", "/a?a="),
        ("/a", "/a/"),
        ("/a/b", "/a//b"),
        ("/a", "//a"),
        ("/a/b", "/a/./b"),
        ("/a/b", "/a/c/../b"),
        ("/b", "/a/../b"),
        ("/a/b", "/a%2Fb"),
        ("/a%2Fb", "/a%2fb"),
        ("/A", "/%41"),
        ("/a/.", "/a/%2e"),
        ("/a/%2e%2e/b", "/a/../b"),
        ("/a", "/a;x=1"),
        ("/a;x=1", "/a;x=2"),
        ("/a/b", "/a;v=1/b"),
        ("/a+b", "/a%20b"),
        ("/a?q=a+b", "/a?q=a%20b"),
        ("/a?q=a%26b=1", "/a?q=a&b=1"),
        ("/a", "/A"),
        ("/a?Q=1", "/a?q=1"),
        ("/a", "/a%00"),
        ("/a%00", "/a%00.css"),
        ("/a%0d%0a", "/a"),
        ("/a/b", "/a%C0%AFb"),
        ("/a%2Fb", "/a%C0%AFb"),
        ("/a%FE", "/a%FF"),
        ("/\u{e9}", "/%C3%A9"),
        ("/%C3%A9", "/e%CC%81"),
        ("/\u{e9}", "/\u{e8}"),
        ("/a%3Fb", "/a?b"),
        ("/a%23b", "/a"),
        ("/a%2500", "/a%00"),
    ] {
        never_share(&format!("{left} {right}"), &get(left), &get(right)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_1_every_difference_in_scheme_and_authority_is_a_difference() {
    let to = |host| with(get("/a"), "host", host);
    for (label, left, right) in [
        ("host", to("a.example"), to("b.example")),
        ("no host", to("a.example"), get("/a")),
        ("port", to("a.example"), to("a.example:8080")),
        ("final dot", to("a.example"), to("a.example.")),
        ("authority", get("http://a.example/a"), get("http://b.example/a")),
        ("default port of an unknown scheme", to("a.example"), to("a.example:443")),
        ("port of the authority", get("http://a.example/a"), get("http://a.example:443/a")),
        ("case of the user", get("http://u@a.example/a"), get("http://U@a.example/a")),
        ("scheme", get("http://a.example/a"), get("https://a.example/a")),
        ("user", get("http://a.example/a"), get("http://u@a.example/a")),
        ("form of the target", get("http://a.example/a"), to("a.example")),
        (
            "host against authority",
            with(get("http://a.example/a"), "host", "b.example"),
            with(get("http://b.example/a"), "host", "a.example"),
        ),
    ] {
        never_share(label, &left, &right).await;
    }
}

/// RFC 3986 §6.2.2.1 and §6.2.3: these name one resource.
#[tokio::test(start_paused = true)]
async fn a_host_is_one_however_it_is_spelled() {
    let to = |host| with(get("/a"), "host", host);
    let both = |uri, host| with(get(uri), "host", host);
    for (scheme, left, right, is_shared) in [
        ("", to("a.example"), to("A.Example"), true),
        ("", to("a.example"), to("a.example:"), true),
        ("", to("a.example"), to("a.example:80"), false),
        ("", get("http://a.example/a"), get("http://A.example:80/a"), true),
        ("", get("https://a.example/a"), get("https://a.example:443/a"), true),
        ("", get("https://a.example/a"), both("https://a.example/a", "A.example:443"), true),
        ("", get("https://a.example/a"), both("https://a.example/a", "b.example"), false),
        ("", get("https://a.example/a"), both("https://a.example/a", ""), false),
        ("", get("https://a.example/a"), to("a.example"), false),
        ("https", get("https://a.example/a"), to("a.example"), true),
        ("https", get("https://a.example:443/a"), to("A.example:443"), true),
        ("https", get("http://a.example/a"), to("a.example"), false),
        ("https", get("https://a.example/a"), to("b.example"), false),
        ("https", get("https://a.example/a"), to("a.example:80"), false),
        ("https", get("https://a.example/a"), get("/a"), false),
        ("https", to(""), get("/a"), false),
        ("http", get("http://a.example/a"), to("a.example:80"), true),
    ] {
        let asks = [&left, &right].map(|asked| format!("{} {:?}", asked.uri(), asked.headers()));
        let layer = SupportCacheLayer::builder(MemoryStore::new()).scheme(scheme);
        let layer = layer.cache(CacheRoute::get("/a").key("a").ttl(TTL)).build().unwrap();
        let (origin, calls) = origin();
        calls.serve(|_| response(200, &[], "a"));
        let cache = layer.layer(origin);
        for (asked, is_hit) in [(left.clone(), false), (right, is_shared), (left, true)] {
            assert_eq!(got(send(&cache, asked)).await.is_hit(), is_hit, "{scheme} {asks:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_may_ignore_the_host_or_name_those_that_it_is_for() {
    let ask = async |policy: HostPolicy, first, second| {
        let (cache, handle, calls) = cache_with(|route| route.host(policy));
        calls.serve(|_| response(200, &[], "a"));
        let ask = |host| send(&cache, with(get("/cases/1"), "host", host));
        got(ask(first)).await;
        let is_hit = got(ask(second)).await.is_hit();
        let bypassed = handle.metrics().bucket("cases").unwrap().bypassed.clone();
        (is_hit, bypassed.get(&Bypass::Host).copied().unwrap_or_default())
    };
    let only = || HostPolicy::Only(vec!["A.example".to_owned(), "b.example".to_owned()]);
    assert_eq!(ask(HostPolicy::Ignore, "a.example", "b.example").await, (true, 0));
    assert_eq!(ask(HostPolicy::Ignore, "a.example", "").await, (true, 0));
    assert_eq!(ask(only(), "a.example", "A.EXAMPLE").await, (true, 0));
    assert_eq!(ask(only(), "a.example", "b.example").await, (false, 0));
    assert_eq!(ask(only(), "c.example", "c.example").await, (false, 2));
    assert_eq!(ask(only(), "", "").await, (false, 2));
}

#[tokio::test(start_paused = true)]
async fn sec_key_1_two_hosts_are_a_bypass() {
    for builder in Builder::ALL {
        let site = Site::new(|_| builder.route(), numbered(&[]));
        let twice = || with(with(get("/a"), "host", "a.example"), "host", "b.example");
        assert_ne!(site.ask(twice()).await.text(), site.ask(twice()).await.text());
        assert_eq!(site.counts().bypassed[&Bypass::Key], 2);
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_1_no_other_method_is_answered_from_what_get_stored() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "QUERY", "get"] {
        for builder in Builder::ALL {
            let site = Site::new(|_| builder.route(), numbered(&[]));
            let stored = site.ask(get("/a")).await;
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let other = site.ask(request(method.clone(), "/a")).await;
            assert_ne!(stored.text(), other.text(), "{method}, {builder:?}");
            let after = site.ask(get("/a")).await;
            assert_ne!(other.text(), after.text(), "{method}, {builder:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_2_a_separator_in_a_value_does_not_forge_another_tag() {
    for (forged, meant) in [
        ("/t/1:2/c/3", "/t/1/c/2:3"),
        ("/t/1%3A2/c/3", "/t/1/c/2%3A3"),
        ("/t/1%253A2/c/3", "/t/1%3A2/c/3"),
        ("/t/*/c/3", "/t/1/c/3"),
        ("/t/1/c/%7Bcase%7D", "/t/1/c/case"),
        ("/t/tag:x:1/c/3", "/t/1/c/3"),
        ("/t/1/c/3%0a", "/t/1/c/3"),
    ] {
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(
                CacheRoute::get("/t/{tenant}/c/{case}")
                    .key("support:cases:{tenant}")
                    .tag("x:{tenant}:{case}")
                    .ttl(TTL),
            )
            .invalidate(InvalidateRoute::post("/t/{tenant}/c/{case}/x").tag("x:{tenant}:{case}"))
            .build()
            .unwrap();
        let (origin, calls) = origin();
        let cache = layer.layer(origin);
        calls.serve(|_| response(200, &[], "x"));
        got(send(&cache, get(meant))).await;
        let write = |target| send(&cache, request(Method::POST, &format!("{target}/x")));
        got(write(forged)).await;
        assert!(got(send(&cache, get(meant))).await.is_hit(), "{forged} removes {meant}");
        got(write(meant)).await;
        assert!(!got(send(&cache, get(meant))).await.is_hit(), "its own tag removes it");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_2_a_separator_in_a_value_does_not_forge_another_key() {
    let route = |_| {
        let pattern = CacheRoute::get("/t/{tenant}/c/{case}").bucket("cases").ttl(TTL);
        pattern.key("support:cases:{tenant}:{case}")
    };
    for (forged, meant) in [
        ("/t/1:2/c/3", "/t/1/c/2:3"),
        ("/t/1%3A2/c/3", "/t/1/c/2%3A3"),
        ("/t/1%253A2/c/3", "/t/1%3A2/c/3"),
        ("/t/1/c/%7Bcase%7D", "/t/1/c/case"),
        ("/t/*/c/3", "/t/1/c/3"),
        ("/t/1/c/%3F", "/t/1/c/3"),
        ("/t/1/c/%5B3%5D", "/t/1/c/3"),
        ("/t/support:cases:1/c/3", "/t/1/c/3"),
        ("/t/1/c/3%0a", "/t/1/c/3"),
    ] {
        let site = Site::new(route, numbered(&[]));
        let stored = site.ask(get(meant)).await;
        // Invalidates the key of its own target.
        site.ask(request(Method::DELETE, forged)).await;
        let after = site.ask(get(meant)).await;
        assert!(after.is_hit() && after.text() == stored.text(), "{forged} removes {meant}");
        site.ask(request(Method::DELETE, meant)).await;
        assert!(!site.ask(get(meant)).await.is_hit(), "its own key is removed");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_4_an_unusable_key_is_a_bypass_and_not_even_coalesced() {
    let long = "k".repeat(513);
    for key in [None, Some(""), Some(" "), Some("a\nb"), Some("a\0"), Some(&long)] {
        let key = key.map(str::to_owned);
        let shown = key.clone();
        let route = |_| {
            let pattern = CacheRoute::get("/cases/{case}").bucket("cases").ttl(TTL);
            pattern.key_with(move |_| key.clone())
        };
        let (cache, handle, mut calls) = cache_with(route);
        let requests = [send(&cache, get("/cases/1")), send(&cache, get("/cases/2"))];
        let all = calls.all().await;
        assert_eq!(all.len(), 2, "{shown:?}");
        all.into_iter().for_each(|call| call.ok(""));
        for request in requests {
            assert!(got(request).await.cache_status().ends_with("detail=key"), "{shown:?}");
        }
        let counts = handle.metrics().bucket("cases").unwrap().clone();
        assert_eq!((counts.bypassed[&Bypass::Key], counts.entries), (2, 0), "{shown:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_5_a_key_builder_sees_the_value_that_the_handler_sees() {
    let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let seen_by_builder = Arc::clone(&seen);
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").ttl(TTL).key_with(move |request| {
            let value = request.param("case").map(|value| value.into_owned());
            seen_by_builder.lock().unwrap().push(value.clone());
            value
        }))
        .build()
        .unwrap();
    let app = Router::new()
        .route("/cases/{case}", on_get(|Path(case): Path<String>| async move { case }))
        .layer(layer);
    for raw in ["a", "%41", "a%2Fb", "a%252Fb", "a+b", "a%20b", "a;x=1", "%C3%A9", "%2e%2e", "[id]"]
    {
        let request = get(&format!("/cases/{raw}")).map(Body::new);
        let response = app.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        let by_builder = seen.lock().unwrap().last().unwrap().clone();
        assert_eq!(by_builder.as_deref().map(str::as_bytes), Some(&body[..]), "{raw}");
    }
    let invalid = app.oneshot(get("/cases/%FF").map(Body::new)).await.unwrap();
    assert_eq!(invalid.status(), StatusCode::BAD_REQUEST);
    assert_eq!(seen.lock().unwrap().last(), Some(&None));
}

#[tokio::test(start_paused = true)]
async fn sec_key_6_a_representation_is_for_the_fields_that_chose_it() {
    for field in [
        "accept",
        "accept-language",
        "accept-encoding",
        "x-requested-with",
        "x-http-method-override",
    ] {
        for is_declared in [true, false] {
            let vary = if is_declared { ("x", "y") } else { ("vary", field) };
            let declared = is_declared.then(|| http::HeaderName::from_static(field));
            let site = Site::new(|route| route.vary(declared), numbered(&[vary]));
            let mut texts = Vec::new();
            for request in [
                with(get("/cases/1"), field, "a"),
                with(get("/cases/1"), field, "b"),
                get("/cases/1"),
            ] {
                texts.push(site.ask(request).await.text().to_owned());
            }
            assert_eq!(texts, ["1", "2", "3"], "{field}, {is_declared}");
            assert!(site.ask(with(get("/cases/1"), field, "b")).await.is_hit());
        }
    }
    for query in ["?format=json", "?_method=delete", "?/_payload.json"] {
        let target = format!("/cases{query}");
        never_share(query, &get("/cases"), &get(&target)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_7_a_named_parameter_cannot_be_cloaked() {
    let only = || QueryPolicy::Only(vec!["callback".to_owned()]);
    for cloaked in [
        "?utm_content=x;callback=evil",
        "?utm=1&amp;callback=evil",
        "?callback=good&callback=evil",
        "?callback=evil&callback=good",
        "?%63allback=evil",
    ] {
        let site = Site::new(|route| route.query_policy(only()), numbered(&[]));
        let evil = site.ask(get(&format!("/cases/1{cloaked}"))).await;
        for clean in ["/cases/1", "/cases/1?callback=good", "/cases/1?callback=evil"] {
            assert_ne!(site.ask(get(clean)).await.text(), evil.text(), "{cloaked} {clean}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_key_7_a_get_with_content_is_a_bypass() {
    let (cache, handle, calls) = cache_with(|route| route);
    let calls = calls.serve(|_| super::support::response(200, &[], "answer"));
    for _ in 0..2 {
        let body = http_body_util::Full::new(bytes::Bytes::from_static(b"{\"id\":2}"));
        let fat = http::Request::get("/cases/1").body(body).unwrap();
        let reply = cache.clone().oneshot(fat).await.unwrap();
        let status = reply.headers()["cache-status"].to_str().unwrap().to_owned();
        assert!(status.ends_with("fwd=bypass;fwd-status=200;detail=content"), "{status}");
    }
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.bypassed[&Bypass::Content], counts.entries), (2, 0));
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 2);
}
