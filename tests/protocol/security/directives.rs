//! What a response forbids, however it is written: `SEC-CC-*`.

use bytes::Bytes;
use http::{HeaderValue, Response, header::CACHE_CONTROL};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, util::MapResponseLayer};
use tower_support_cache::{CacheRoute, Credentials, MemoryStore, Refusal, SupportCacheLayer};

use super::{
    Site,
    support::{GatedBody, TTL, get, got, origin, send, with},
};

/// What a response with these lines of `Cache-Control` comes to, through the whole layer.
async fn refusal(lines: &[&[u8]], credentials: Credentials) -> Option<Refusal> {
    let lines: Vec<_> = lines.iter().map(|line| HeaderValue::from_bytes(line).unwrap()).collect();
    let answer = move |_: &http::request::Parts| {
        let mut response = Response::new(GatedBody::full("body"));
        lines.iter().for_each(|line| {
            response.headers_mut().append(CACHE_CONTROL, line.clone());
        });
        response
    };
    let is_by_response = matches!(credentials, Credentials::ByResponse);
    let site = Site::new(|route| route.credentials(credentials), answer);
    let ask = || match is_by_response {
        true => with(get("/cases/1"), "authorization", "Bearer alice"),
        false => get("/cases/1"),
    };
    site.ask(ask()).await;
    let second = site.ask(ask()).await;
    let counts = site.counts();
    assert_eq!(second.is_hit(), counts.refused.is_empty());
    assert_eq!(counts.stored == 0, counts.entries == 0 || !counts.refused.is_empty());
    counts.refused.into_keys().next()
}

async fn check(line: &str, expected: Option<Refusal>) {
    let lines = [line.as_bytes()];
    assert_eq!(refusal(&lines, Credentials::Bypass).await, expected, "{line:?}");
}

#[tokio::test(start_paused = true)]
async fn sec_cc_1_a_restriction_counts_wherever_it_stands() {
    for line in [
        "no-store",
        "private, no-store",
        "no-store, private",
        "no-cache, no-store, max-age=0, must-revalidate",
        "NO-STORE",
        "No-Store",
        "public,max-age=60,no-store",
        "\tno-store\t",
        ",,no-store,,",
        "max-age=60 , no-store ",
        "max-age=60,no-store,",
        "x=\"a, b\", no-store",
        "public, max-age=31536000, immutable, no-store",
    ] {
        check(line, Some(Refusal::NoStore)).await;
    }
    for line in ["private", "PRIVATE", "max-age=60, Private", "private,", "public, private"] {
        check(line, Some(Refusal::Private)).await;
    }
    for line in ["no-cache", "No-Cache , max-age=60", "public, no-cache", " no-cache"] {
        check(line, Some(Refusal::NoCache)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sec_cc_1_every_line_counts() {
    for (lines, expected) in [
        (["max-age=60", "no-store"], Refusal::NoStore),
        (["no-store", "public"], Refusal::NoStore),
        (["public", "private"], Refusal::Private),
        (["", "no-cache"], Refusal::NoCache),
        (["max-age=\"60", "no-store"], Refusal::NoStore),
    ] {
        let lines = lines.map(str::as_bytes);
        assert_eq!(refusal(&lines, Credentials::Bypass).await, Some(expected), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_cc_2_an_argument_lifts_no_restriction() {
    for line in [
        "private=\"\"",
        "private=\" authorization\"",
        "private=\"set-cookie\"",
        "private, private=\"x\"",
        "private=x",
        "private=",
        "private=0",
        "private=false",
    ] {
        check(line, Some(Refusal::Private)).await;
    }
    for line in
        ["no-cache=\"set-cookie\"", "no-cache=\"\"", "no-cache=", "no-cache, no-cache=\"x\""]
    {
        check(line, Some(Refusal::NoCache)).await;
    }
    for line in ["no-store=0", "no-store=\"\"", "no-store=false"] {
        check(line, Some(Refusal::NoStore)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sec_cc_3_space_around_a_restriction_lifts_it_not() {
    check("private = \"set-cookie\"", Some(Refusal::Private)).await;
    check("private\t=\t\"x\"", Some(Refusal::Private)).await;
    check("no-cache =x", Some(Refusal::NoCache)).await;
    check("no-store ;x", Some(Refusal::NoStore)).await;
    check("no-store max-age=60", Some(Refusal::NoStore)).await;
    check("\"no-store\"", Some(Refusal::NoStore)).await;
    check("=private", Some(Refusal::Private)).await;
}

#[tokio::test(start_paused = true)]
async fn sec_cc_4_a_quote_hides_no_restriction_that_stands_outside_it() {
    check("x=\"a, no-store", Some(Refusal::NoStore)).await;
    check("x=\"a\\\", private", Some(Refusal::Private)).await;
    check("x=\"a\\\"\", private", Some(Refusal::Private)).await;
    check("private=\"x, max-age=60", Some(Refusal::Private)).await;
    check("x=\"a\", no-cache=\"b", Some(Refusal::NoCache)).await;
    check("x=\"no-store, private\"", None).await;
}

#[tokio::test(start_paused = true)]
async fn sec_cc_5_numbers_and_junk_neither_crash_nor_permit() {
    for line in [
        "max-age=\"60\"",
        "max-age=-1",
        "max-age=1.5",
        "max-age=60,max-age=0",
        "max-age=99999999999999999999",
        "s-maxage=0, public",
        "privately",
        "xprivate",
        "no-store-not",
    ] {
        // The route's own lifetime is in force.
        check(line, None).await;
    }
    let long = format!("{}, no-store", "x=\"".repeat(16_000));
    check(&long, Some(Refusal::NoStore)).await;
    for (line, expected) in [
        (&b"\xff, no-store"[..], Some(Refusal::NoStore)),
        (b"\xffno-store", Some(Refusal::NoStore)),
        (b"private=\"\xc0\xaf\"", Some(Refusal::Private)),
        (b"max-age=\xff", None),
    ] {
        assert_eq!(refusal(&[line], Credentials::Bypass).await, expected, "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_cc_5_what_is_malformed_permits_nothing() {
    for line in [
        "public=\"x\"",
        "public=",
        "xpublic",
        "\"public\"",
        "x=\"public, s-maxage=60\"",
        "s-maxage=-1",
        "s-maxage=1.5",
        "s-maxage=\"",
        "s-maxage",
        "must-revalidate=0",
        "max-age=60",
    ] {
        let refused = refusal(&[line.as_bytes()], Credentials::ByResponse).await;
        assert_eq!(refused, Some(Refusal::Credentials), "{line}");
    }
    for line in ["public", "s-maxage=60", "S-MAXAGE=\"60\"", "must-revalidate, max-age=1"] {
        assert_eq!(refusal(&[line.as_bytes()], Credentials::ByResponse).await, None, "{line}");
    }
}

/// A layer that adds a directive, inside the cache or around it.
#[tokio::test(start_paused = true)]
async fn sec_cc_6_what_a_layer_within_the_cache_adds_counts() {
    let cache = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL))
        .build()
        .unwrap();
    let forbidding = MapResponseLayer::new(|mut response: Response<GatedBody>| {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    });
    let (origin, calls) = origin();
    let calls = calls.serve(|_| super::support::response(200, &[("cache-control", "public")], "x"));
    let app = cache.layer(forbidding.layer(origin));
    for _ in 0..2 {
        let reply = app.clone().oneshot(get("/cases/1")).await.unwrap();
        assert_eq!(reply.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), Bytes::from("x"));
    }
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(cache.handle().metrics().bucket("cases").unwrap().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn sec_cc_6_what_a_layer_around_the_cache_adds_reaches_the_client_alone() {
    let (cache, _, mut calls) = super::support::cache();
    let forbidding = tower::util::MapResponse::new(cache.clone(), |mut response: Response<_>| {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    });
    let outer = tokio::spawn(forbidding.oneshot(get("/cases/1")));
    calls.next().await.ok("stored");
    let reply = outer.await.unwrap().unwrap();
    assert_eq!(reply.headers()[CACHE_CONTROL], "no-store");
    drop(reply);
    let inner = got(send(&cache, get("/cases/1"))).await;
    assert!(inner.is_hit() && !inner.fields.contains_key(CACHE_CONTROL));
}
