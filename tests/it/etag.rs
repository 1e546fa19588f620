//! Entity tags that are made when a response is stored.

use std::time::Duration;

use http::StatusCode;
use tokio::time::advance;

use crate::support::{
    Cached, Calls, Got, cache_with, fetch, get, got, response, send, settle, with,
};

const MINUTE: Duration = Duration::from_secs(60);

fn tag_of(got: &Got) -> Option<&str> {
    got.fields.get("etag").map(|tag| tag.to_str().unwrap())
}

fn tagging() -> (Cached, Calls) {
    let (cache, _, calls) = cache_with(|route| route.etag().negative_ttl(MINUTE));
    (cache, calls)
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_has_the_content_is_answered_with_a_304() {
    let (cache, calls) = tagging();
    calls.serve(|_| response(200, &[], "the cases"));
    let first = fetch(&cache, "/cases/1").await;
    let tag = tag_of(&first).expect("the request that fills has it too").to_owned();
    assert!(tag.starts_with("W/\"") && tag.len() == 36, "{tag}");
    let asked = || with(get("/cases/1"), "if-none-match", &tag);
    for _ in 0..2 {
        let answer = got(send(&cache, asked())).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::NOT_MODIFIED, ""));
        assert_eq!(tag_of(&answer), Some(&*tag));
        assert_eq!(tag_of(&fetch(&cache, "/cases/1").await), Some(&*tag));
        // Filled anew with the same content, by a request that has it.
        advance(2 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn other_content_has_another_tag() {
    let (cache, calls) = tagging();
    calls.serve(|head| match head.uri.path() {
        "/cases/1" => response(200, &[], "a"),
        "/cases/2" => response(200, &[], "b"),
        _ => response(200, &[("content-language", "de")], "a"),
    });
    let mut tags = Vec::new();
    for path in ["/cases/1", "/cases/2", "/cases/3"] {
        tags.push(tag_of(&fetch(&cache, path).await).unwrap().to_owned());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "{tags:?}");
    let answer = got(send(&cache, with(get("/cases/1"), "if-none-match", "W/\"b\""))).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "a"));
}

/// The head of a body that streams is sent before the end of the body.
#[tokio::test(start_paused = true)]
async fn a_body_that_streams_is_tagged_once_it_is_stored() {
    let (cache, mut calls) = tagging();
    let first = send(&cache, get("/cases/1"));
    let body = calls.next().await.stream(None);
    settle().await;
    body.send("the ");
    body.send("cases");
    body.end();
    assert_eq!(tag_of(&got(first).await), None);
    let hit = fetch(&cache, "/cases/1").await;
    assert!(hit.is_hit() && hit.text() == "the cases", "{}", hit.cache_status());
    // The chunks of a body do not matter.
    let whole = send(&cache, get("/cases/2"));
    calls.next().await.ok("the cases");
    assert_eq!(tag_of(&hit), tag_of(&got(whole).await));
    assert!(tag_of(&hit).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_has_a_validator_or_is_no_200_stays_as_it_is() {
    let modified = ("last-modified", "Mon, 30 Nov 2026 20:00:00 GMT");
    for (status, field) in [(200, ("etag", "\"1\"")), (200, modified), (404, ("x-name", "1"))] {
        let (cache, calls) = tagging();
        calls.serve(move |_| response(status, &[field], "page"));
        for _ in 0..2 {
            let answer = fetch(&cache, "/cases/1").await;
            let expected = (field.0 == "etag").then_some("\"1\"");
            assert_eq!(tag_of(&answer), expected, "{status} {field:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_route_makes_tags_unasked() {
    let (cache, _, calls) = cache_with(|route| route);
    calls.serve(|_| response(200, &[], "the cases"));
    for _ in 0..2 {
        assert_eq!(tag_of(&fetch(&cache, "/cases/1").await), None);
    }
}
