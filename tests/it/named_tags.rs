//! Tags that a response names itself: by an extension, and by a field.

use std::time::Duration;

use http::{HeaderName, Method, Response};
use tokio::time::advance;
use tower::Layer;
use tower_support_cache::{
    CacheRoute, CacheTags, Freshness, InvalidateRoute, MemoryStore, Refusal, SupportCacheHandle,
    SupportCacheLayer, key,
};

use crate::support::{
    Cached, Calls, GatedBody, TTL, fetch, get, got, origin, request, send, settle,
};

const FIELD: HeaderName = HeaderName::from_static("surrogate-key");

/// Lists of products, and writes that name one.
fn shop(route: impl FnOnce(CacheRoute) -> CacheRoute) -> (Cached, SupportCacheHandle, Calls) {
    let lists = CacheRoute::get("/lists/{list}").bucket("lists").key("list:{list}");
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .tag_field(FIELD)
        .cache(route(lists.ttl(TTL).jitter(0)))
        .invalidate(InvalidateRoute::put("/products/{product}").tag("product:{product}"))
        .invalidate(InvalidateRoute::post("/products").tag_with(|request| {
            let product = request.headers().get("x-product")?.to_str().ok()?;
            key("product:{product}").with("product", product).to_text()
        }))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

/// Ways in which a response names a product.
#[derive(Clone, Copy, Debug)]
enum By {
    Field,
    Extension,
}

const WAYS: [By; 2] = [By::Field, By::Extension];

fn list(by: By, product: &str, body: &'static str) -> Response<GatedBody> {
    head(by, product).body(GatedBody::full(body)).unwrap()
}

fn head(by: By, product: &str) -> http::response::Builder {
    let named = key("product:{id}").with("id", product);
    match by {
        By::Field => {
            let text = named.to_text().unwrap();
            Response::builder().header(FIELD, format!("other {text}"))
        }
        By::Extension => Response::builder().extension(CacheTags::new([named])),
    }
}

async fn fill(cache: &Cached, calls: &mut Calls, response: Response<GatedBody>) {
    let read = send(cache, get("/lists/1"));
    calls.next().await.respond(response);
    got(read).await;
    assert!(fetch(cache, "/lists/1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_a_response_names_is_one_of_templates_closures_and_the_handle() {
    // Each as a handler has it, and as it is in a path.
    for (product, in_path) in [("7", "7"), ("urn:7 8%", "urn%3A7%208%25"), ("ä", "%C3%A4")] {
        for by in WAYS {
            let (cache, handle, mut calls) = shop(|route| route);
            fill(&cache, &mut calls, list(by, product, "x")).await;
            let other = send(&cache, request(Method::PUT, "/products/9"));
            calls.next().await.ok("");
            got(other).await;
            assert!(fetch(&cache, "/lists/1").await.is_hit(), "{by:?} {product}");
            let mut writes = vec![request(Method::PUT, &format!("/products/{in_path}"))];
            if product.is_ascii() {
                let mut write = request(Method::POST, "/products");
                write.headers_mut().insert("x-product", product.parse().unwrap());
                writes.push(write);
            }
            for write in writes {
                let write = send(&cache, write);
                calls.next().await.ok("");
                got(write).await;
                fill(&cache, &mut calls, list(by, product, "x")).await;
            }
            handle.invalidate_tag(key("product:{id}").with("id", product)).await.unwrap();
            fill(&cache, &mut calls, list(by, product, "x")).await;
            assert_eq!(handle.metrics().invalidations_unmatched, 0);
        }
    }
}

/// No template makes it, and no route says that there is a field.
#[tokio::test(start_paused = true)]
async fn a_tag_is_not_unmatched_once_a_response_may_have_it() {
    let (cache, handle, mut calls) = crate::support::cache();
    handle.invalidate_tag("product:7").await.unwrap();
    assert_eq!(handle.metrics().invalidations_unmatched, 1);
    let read = send(&cache, get("/cases/1"));
    calls.next().await.respond(list(By::Extension, "7", "x"));
    got(read).await;
    handle.invalidate_tag("product:8").await.unwrap();
    assert_eq!(handle.metrics().invalidations_unmatched, 1);
}

#[tokio::test(start_paused = true)]
async fn a_fill_of_a_response_whose_tag_was_invalidated_meanwhile_is_not_stored() {
    for by in WAYS {
        let (cache, handle, mut calls) = shop(|route| route);
        let early = send(&cache, get("/lists/1"));
        let old = calls.next().await;
        handle.invalidate_tag("product:7").await.unwrap();
        let late = [(); 3].map(|()| send(&cache, get("/lists/1")));
        assert!(calls.now().await.is_none(), "nothing tells them that they may not join");
        old.respond(list(by, "7", "old"));
        assert_eq!(got(early).await.text(), "old");
        let mut asked = calls.all().await;
        assert_eq!(asked.len(), 1, "one of them asks for all");
        asked.remove(0).respond(list(by, "7", "new"));
        for late in late {
            assert_eq!(got(late).await.text(), "new");
        }
    }
}

/// With a body on its way and its length known, others would stream along.
#[tokio::test(start_paused = true)]
async fn who_comes_while_a_response_with_tags_of_its_own_streams_waits_for_its_end() {
    for by in WAYS {
        for is_invalidated in [false, true] {
            let (cache, handle, mut calls) = shop(|route| route);
            let early = send(&cache, get("/lists/1"));
            let (body, gate) = GatedBody::gated(Some(3));
            calls.next().await.respond(head(by, "7").body(body).unwrap());
            settle().await;
            if is_invalidated {
                handle.invalidate_tag("product:7").await.unwrap();
            }
            let late = send(&cache, get("/lists/1"));
            assert!(calls.now().await.is_none());
            gate.send("old");
            gate.end();
            assert_eq!(got(early).await.text(), "old");
            if let Some(again) = calls.now().await {
                again.ok("new");
            }
            assert_eq!(got(late).await.text(), if is_invalidated { "new" } else { "old" });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_with_a_tag_that_cannot_be_made_is_not_stored() {
    let field = |text: &[u8]| Response::builder().header(FIELD, text);
    let named =
        |texts: &[&str]| Response::builder().extension(CacheTags::new(texts.iter().copied()));
    let many: Vec<_> = (0..40_000).map(|n| n.to_string()).collect();
    let each = many.join(" ");
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (head, is_stored) in [
        (field(b"a b"), true),
        (field(b"a \xff"), false),
        (field("x".repeat(513).as_bytes()), false),
        (field(each.as_bytes()), false),
        (named(&[]), true),
        (named(&many[..128]), true),
        (named(&many), false),
        (named(&["a", ""]), false),
        (named(&["tower-support-cache:epoch"]), false),
    ] {
        let (cache, handle, mut calls) = shop(|route| route);
        let read = send(&cache, get("/lists/1"));
        calls.next().await.respond(head.body(GatedBody::full("x")).unwrap());
        assert_eq!(got(read).await.text(), "x");
        let again = send(&cache, get("/lists/1"));
        if let Some(again) = calls.now().await {
            again.ok("x");
        }
        assert_eq!(got(again).await.is_hit(), is_stored);
        let refused = handle.metrics().bucket("lists").unwrap().refused.clone();
        assert_eq!(refused.contains_key(&Refusal::Tags), !is_stored);
    }
}

/// A 304 describes the same list, of which the handler may name less.
#[tokio::test(start_paused = true)]
async fn a_304_adds_tags_and_takes_none_away() {
    for (by, again, invalidated) in [
        (By::Field, None, "7"),
        (By::Extension, None, "7"),
        (By::Field, Some("8"), "7"),
        (By::Extension, Some("8"), "7"),
        (By::Field, Some("8"), "8"),
        (By::Extension, Some("8"), "8"),
    ] {
        let (cache, handle, mut calls) = shop(|route| route.freshness(Freshness::Origin));
        let first = head(by, "7").header("etag", "\"1\"").header("cache-control", "max-age=60");
        fill(&cache, &mut calls, first.body(GatedBody::full("x")).unwrap()).await;
        advance(Duration::from_secs(61)).await;
        let read = send(&cache, get("/lists/1"));
        let confirmed = again.map_or(Response::builder(), |product| head(by, product));
        let confirmed =
            confirmed.status(304).header("etag", "\"1\"").header("cache-control", "max-age=60");
        calls.next().await.respond(confirmed.body(GatedBody::full("")).unwrap());
        got(read).await;
        assert!(fetch(&cache, "/lists/1").await.is_hit(), "freshened");
        handle.invalidate_tag(key("product:{id}").with("id", invalidated)).await.unwrap();
        let late = send(&cache, get("/lists/1"));
        calls.now().await.expect("it is invalidated").ok("new");
        assert_eq!(got(late).await.text(), "new", "{by:?} {again:?} {invalidated}");
    }
}
