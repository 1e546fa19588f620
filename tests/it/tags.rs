//! Tags: what is invalidated together, whatever its keys are.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use tokio::time::advance;
use tower::Layer;
use tower_support_cache::{
    Alone, Bypass, CacheRoute, ConfigErrorKind, InvalidateRoute, MemoryStore, Refusal,
    SupportCacheHandle, SupportCacheLayer,
};

use crate::support::{
    self, Cached, Calls, cache_on, cache_with, fetch, get, got, origin, request, response, send,
    settle, with,
};

const FENCED: &str = "support-cache;fwd=uri-miss;fwd-status=200;detail=fenced";

/// `/accounts/{account}/cases/{case}` under a key for each case, with tags for the account and for
/// everything; and writes that invalidate an account.
fn tagged() -> (Cached, SupportCacheHandle, Calls) {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(
            CacheRoute::get("/accounts/{account}/cases/{case}")
                .bucket("cases")
                .key("case:{case}")
                .tag("account:{account}")
                .tag("all")
                .ttl(Duration::from_secs(60))
                .jitter(0),
        )
        .invalidate(
            InvalidateRoute::put("/accounts/{account}")
                .key("list:{account}")
                .tag("account:{account}"),
        )
        .build()
        .unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

const CASES: [&str; 3] = ["/accounts/A1/cases/1", "/accounts/A1/cases/2", "/accounts/A2/cases/3"];

async fn are_hits(cache: &Cached) -> Vec<bool> {
    let mut hits = Vec::new();
    for case in CASES {
        hits.push(fetch(cache, case).await.is_hit());
    }
    hits
}

fn change() -> Request<Empty<Bytes>> {
    request(Method::PUT, "/accounts/A1")
}

// ===== of routes and rules =====

#[tokio::test(start_paused = true)]
async fn a_tag_removes_what_has_it_under_every_key_and_nothing_else() {
    let (cache, handle, calls) = tagged();
    calls.serve(|_| response(200, &[], "x"));
    are_hits(&cache).await;
    for (tag, left) in [
        ("account:A1", [false, false, true]),
        ("account:A2", [true, true, false]),
        ("account:A3", [true, true, true]),
        ("all", [false, false, false]),
        // A key, and what a tag is called within.
        ("case:1", [true, true, true]),
        ("tag:all", [true, true, true]),
    ] {
        handle.invalidate_tag(tag).await.unwrap();
        assert_eq!(are_hits(&cache).await, left, "{tag}");
        assert_eq!(are_hits(&cache).await, [true; 3], "what is stored afterwards is there");
    }
    handle.invalidate("account:A1").await.unwrap();
    assert_eq!(are_hits(&cache).await, [true; 3], "a tag is no key");
    let metrics = handle.metrics();
    assert_eq!((metrics.tag_invalidations, metrics.invalidations), (6, 1));
}

#[tokio::test(start_paused = true)]
async fn a_tag_fences_a_fill_and_late_comers_do_not_join_it() {
    let (cache, handle, mut calls) = tagged();
    let early = send(&cache, get(CASES[0]));
    let old = calls.next().await;
    let with_it = send(&cache, get(CASES[0]));
    assert!(calls.now().await.is_none(), "it joins");
    handle.invalidate_tag("account:A1").await.unwrap();
    let late = send(&cache, get(CASES[0]));
    let new = calls.now().await.expect("who comes after the invalidation asks for itself");
    old.ok("old");
    let read = got(early).await;
    assert_eq!((read.text(), read.cache_status()), ("old", FENCED));
    assert_eq!(got(with_it).await.text(), "old", "who came before may have it");
    new.ok("new");
    assert_eq!(got(late).await.text(), "new");
    assert_eq!(fetch(&cache, CASES[0]).await.text(), "new");
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.fenced, counts.stored, counts.hits), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_the_tags_of_its_rule_before_its_writer_sees_the_response() {
    for (status, left) in
        [(204, [false, false, true]), (303, [false, false, true]), (403, [true; 3])]
    {
        let (cache, handle, mut calls) = tagged();
        for case in CASES {
            let first = send(&cache, get(case));
            calls.next().await.ok("x");
            got(first).await;
        }
        let write = send(&cache, change());
        calls.next().await.with(status, ("x", "y"), "");
        got(write).await;
        calls.serve(|_| response(200, &[], "x"));
        assert_eq!(are_hits(&cache).await, left, "{status}");
        let metrics = handle.metrics();
        let expected = u64::from(status != 403);
        assert_eq!((metrics.tag_invalidations, metrics.invalidations), (expected, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_nothing_with_the_tag_is_stored_for_a_while() {
    let (cache, handle, calls) = tagged();
    calls.serve(|head| response(if head.method == Method::PUT { 503 } else { 200 }, &[], "x"));
    are_hits(&cache).await;
    got(send(&cache, change())).await;
    for _ in 0..2 {
        assert_eq!(are_hits(&cache).await, [false, false, true]);
    }
    let unsettled = handle.metrics().bucket("cases").unwrap().refused[&Refusal::Unsettled];
    assert_eq!(unsettled, 4);
    settle().await;
    advance(Duration::from_secs(10)).await;
    settle().await;
    assert_eq!(are_hits(&cache).await, [false, false, true]);
    assert_eq!(are_hits(&cache).await, [true; 3]);
    assert_eq!(handle.metrics().tag_invalidations, 1, "what is done at the end is not counted");
}

#[tokio::test(start_paused = true)]
async fn nothing_stale_is_used_after_its_tag_was_invalidated() {
    for is_softly_first in [false, true] {
        let (cache, handle, mut calls) = cache_with(|route| {
            let window = Duration::from_secs(100);
            route.tag("all").stale_while_revalidate(window).stale_if_error(window)
        });
        let first = send(&cache, get("/cases/1"));
        calls.next().await.ok("old");
        got(first).await;
        if is_softly_first {
            handle.soft_invalidate("case:1").await.unwrap();
        }
        handle.invalidate_tag("all").await.unwrap();
        if !is_softly_first {
            // Dead already: it does not live again as something stale.
            handle.soft_invalidate("case:1").await.unwrap();
        }
        advance(Duration::from_secs(61)).await;
        let late = send(&cache, get("/cases/1"));
        calls.now().await.expect("nothing stale answers").with(503, ("x", "y"), "down");
        assert_eq!(got(late).await.status, 503, "nor does it stand in for an error");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_tag_cannot_be_made_bypasses_the_cache() {
    let (cache, handle, calls) = cache_with(|route| route.tag_with(|_| None));
    calls.serve(|_| response(200, &[], "x"));
    for _ in 0..2 {
        assert!(!fetch(&cache, "/cases/1").await.is_hit());
    }
    assert_eq!(handle.metrics().bucket("cases").unwrap().bypassed[&Bypass::Key], 2);
}

/// What the target does not tell tells responses apart, as with keys: otherwise a response would be
/// used where its tag is another.
#[tokio::test(start_paused = true)]
async fn requests_with_other_tags_of_a_closure_share_no_response() {
    let (cache, handle, calls) = cache_with(|route| {
        route.tag_with(|request| {
            let team = request.headers().get("x-team")?;
            Some(format!("team:{}", team.to_str().ok()?))
        })
    });
    calls.serve(|_| response(200, &[], "x"));
    let ask = async |team| got(send(&cache, with(get("/cases/1"), "x-team", team))).await.is_hit();
    assert!(!ask("a").await && !ask("b").await && ask("a").await && ask("b").await);
    handle.invalidate_tag("team:b").await.unwrap();
    assert!(ask("a").await && !ask("b").await);
    handle.invalidate("case:1").await.unwrap();
    assert!(!ask("a").await && !ask("b").await);
}

#[test]
fn a_tag_that_cannot_be_made_is_refused_by_build() {
    let route =
        |tag: &str| CacheRoute::get("/cases/{case}").key("k").ttl(Duration::from_secs(1)).tag(tag);
    for tag in ["", "account:{account}", "{case", "a b"] {
        let builder = SupportCacheLayer::builder(MemoryStore::new());
        let error = builder.cache(route(tag)).build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Key, "tag"), "{tag}");
        let builder = SupportCacheLayer::builder(MemoryStore::new());
        let rule = InvalidateRoute::post("/cases/{case}").tag(tag);
        let error = builder.invalidate(rule).build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Key, "tag"), "{tag}");
    }
    let builder = SupportCacheLayer::builder(MemoryStore::new());
    let error = builder.invalidate(InvalidateRoute::post("/x")).build().unwrap_err();
    assert_eq!(error.kind(), ConfigErrorKind::MissingKey);
}

/// A deploy that adds a tag reads nothing that was stored without it.
#[tokio::test(start_paused = true)]
async fn layers_with_other_tags_share_no_responses() {
    let store = MemoryStore::new();
    let (plain, _, calls) = cache_on(store.clone(), |route| route);
    calls.serve(|_| response(200, &[], "x"));
    fetch(&plain, "/cases/1").await;
    for add in [|route: CacheRoute| route.tag("all"), |route: CacheRoute| route.tag("case:{case}")]
    {
        let (tagged, _, calls) = cache_on(store.clone(), add);
        calls.serve(|_| response(200, &[], "x"));
        assert!(!fetch(&tagged, "/cases/1").await.is_hit());
    }
}

// ===== groups =====

/// The response to a POST names this group; reads are gated.
async fn invalidate_group(cache: &Cached, calls: &mut Calls, group: &str) {
    let write = send(cache, request(Method::POST, "/cases/9/comments"));
    let field = ("cache-group-invalidation", group);
    calls.now().await.expect("the write").with(204, field, "");
    got(write).await;
}

/// It is known only from the response that the flight it joined is of a group, and then it is not
/// known when it joined.
#[tokio::test(start_paused = true)]
async fn who_came_after_its_group_was_invalidated_is_not_given_a_response_of_before() {
    let (cache, handle, mut calls) = cache_with(|route| route);
    let early = send(&cache, get("/cases/1"));
    let old = calls.next().await;
    invalidate_group(&cache, &mut calls, "\"g\"").await;
    let late = [(); 3].map(|()| send(&cache, get("/cases/1")));
    assert!(calls.now().await.is_none(), "nothing tells them that they may not join");
    old.with(200, ("cache-groups", "\"g\""), "old");
    let read = got(early).await;
    assert_eq!((read.text(), read.cache_status()), ("old", FENCED));
    let mut asked = calls.all().await;
    assert_eq!(asked.len(), 1, "one of them asks for all");
    asked.remove(0).with(200, ("cache-groups", "\"g\""), "new");
    for late in late {
        assert_eq!(got(late).await.text(), "new");
    }
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
    assert!(!handle.metrics().bucket("cases").unwrap().alone.contains_key(&Alone::Declined));
}

/// With a body on its way and its length known, others would stream along.
#[tokio::test(start_paused = true)]
async fn who_comes_while_a_response_of_a_group_streams_waits_for_its_end() {
    for is_invalidated in [false, true] {
        let (cache, _, mut calls) = cache_with(|route| route);
        let early = send(&cache, get("/cases/1"));
        let (body, gate) = support::GatedBody::gated(Some(3));
        let head = http::Response::builder().header("cache-groups", "\"g\"");
        calls.next().await.respond(head.body(body).unwrap());
        settle().await;
        if is_invalidated {
            invalidate_group(&cache, &mut calls, "\"g\"").await;
        }
        let late = send(&cache, get("/cases/1"));
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

#[tokio::test(start_paused = true)]
async fn a_burst_on_a_response_of_a_group_makes_one_forward() {
    let (cache, handle, mut calls) = cache_with(|route| route);
    let burst: Vec<_> = (0..20).map(|_| send(&cache, get("/cases/1"))).collect();
    calls.next().await.with(200, ("cache-groups", "\"g\""), "x");
    for read in burst {
        assert_eq!(got(read).await.text(), "x");
    }
    assert_eq!((calls.count(), handle.metrics().bucket("cases").unwrap().coalesced), (1, 19));
}

/// What stands in for an error is shared with all who wait, so it must be good for all of them.
#[tokio::test(start_paused = true)]
async fn what_is_stale_stands_in_for_nobody_after_its_group_was_invalidated() {
    let (cache, _, mut calls) = cache_with(|route| route.stale_if_error(Duration::from_secs(100)));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.with(200, ("cache-groups", "\"g\""), "old");
    got(first).await;
    advance(Duration::from_secs(61)).await;
    let (one, two) = (send(&cache, get("/cases/1")), send(&cache, get("/cases/1")));
    let asked = calls.now().await.expect("it is stale");
    invalidate_group(&cache, &mut calls, "\"g\"").await;
    asked.with(503, ("x", "y"), "down");
    calls.now().await.expect("declined").with(503, ("x", "y"), "down");
    assert_eq!((got(one).await.status.as_u16(), got(two).await.status.as_u16()), (503, 503));
}

#[tokio::test(start_paused = true)]
async fn a_response_with_more_groups_than_are_kept_is_not_stored() {
    let groups =
        |count: usize| (0..count).map(|n| format!("\"{n:032}\"")).collect::<Vec<_>>().join(", ");
    for (count, is_stored) in [(32, true), (127, true), (128, false), (1000, false)] {
        let (cache, handle, calls) = cache_with(|route| route.tag("all"));
        let line = groups(count);
        calls.serve(move |_| response(200, &[("cache-groups", &line)], "x"));
        fetch(&cache, "/cases/1").await;
        assert_eq!(fetch(&cache, "/cases/1").await.is_hit(), is_stored, "{count}");
        let refused = handle.metrics().bucket("cases").unwrap().refused.clone();
        assert_eq!(refused.contains_key(&Refusal::Tags), !is_stored, "{count}");
    }
}

/// Where no rule and no cached route matches, a rule says that the response is to be heeded.
#[tokio::test(start_paused = true)]
async fn a_rule_may_leave_it_to_the_response_what_a_write_invalidates() {
    for is_heeded in [false, true] {
        let mut builder = SupportCacheLayer::builder(MemoryStore::new()).cache(
            CacheRoute::get("/cases/{case}").key("case:{case}").ttl(Duration::from_secs(60)),
        );
        if is_heeded {
            builder = builder.invalidate(InvalidateRoute::any_unsafe("/{*path}").groups());
        }
        let layer = builder.build().unwrap();
        let (origin, calls) = origin();
        let cache = layer.layer(origin);
        calls.serve(|head| match head.method {
            Method::GET => response(200, &[("cache-groups", "\"g\"")], "x"),
            _ => response(200, &[("cache-group-invalidation", "\"g\"")], ""),
        });
        fetch(&cache, "/cases/1").await;
        got(send(&cache, request(Method::POST, "/elsewhere"))).await;
        assert_eq!(fetch(&cache, "/cases/1").await.is_hit(), !is_heeded);
        assert_eq!(layer.handle().metrics().invalidation_failures, 0);
    }
}
