//! The handle: what an operator sees and does; and the original service's policy.

use std::borrow::Cow;

use http::{Method, Response};
use tower::Layer;
use tower_support_cache::{
    Bypass, CASE_LIST_TTL, CASE_MESSAGES_TTL, CacheRoute, KeyRequest, MemoryStore,
    SupportCacheHandle, SupportCacheLayer, Switch, key,
};

use crate::support::{
    Cached, Calls, GatedBody, TTL, cache, cache_with, fetch, get, got, origin, request, response,
    send, with,
};

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_off_forwards_everything_and_stores_nothing() {
    let (cache, handle, mut calls) = cache();
    assert!(handle.switch("cases", Switch::Off));
    assert_eq!(handle.metrics().bucket("cases").unwrap().switch, Switch::Off);
    let both = [send(&cache, get("/cases/1")), send(&cache, get("/cases/1"))];
    let own = calls.all().await;
    assert_eq!(own.len(), 2, "nobody waits");
    own.into_iter().for_each(|call| call.ok("x"));
    for request in both {
        assert!(got(request).await.cache_status().ends_with("detail=switch"));
    }
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    assert_eq!((bucket.stored, bucket.bypassed[&Bypass::Switch]), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_off_is_off_on_all_its_routes() {
    let route = |path: &str| CacheRoute::get(path).bucket("both").key("{id}").ttl(CASE_LIST_TTL);
    let builder = SupportCacheLayer::builder(MemoryStore::new());
    let layer = builder.cache(route("/cases/{id}")).cache(route("/notes/{id}")).build().unwrap();
    let (origin, calls) = origin();
    calls.serve(|_| response(200, &[], "x"));
    let (cache, handle) = (layer.layer(origin), layer.handle());
    for switch in [Switch::Off, Switch::On] {
        assert!(handle.switch("both", switch));
        assert_eq!(handle.metrics().bucket("both").unwrap().switch, switch);
        for path in ["/cases/1", "/notes/2"] {
            fetch(&cache, path).await;
            assert_eq!(fetch(&cache, path).await.is_hit(), switch == Switch::On, "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_is_used_again_once_a_bucket_is_on_unless_it_was_invalidated() {
    let (cache, handle, calls) = cache();
    calls.serve(|_| response(200, &[], "x"));
    fetch(&cache, "/cases/1").await;
    fetch(&cache, "/cases/2").await;
    handle.switch("cases", Switch::Off);
    assert!(!fetch(&cache, "/cases/1").await.is_hit());
    got(send(&cache, request(Method::POST, "/cases/2/comments"))).await;
    handle.switch("cases", Switch::On);
    assert_eq!(handle.metrics().bucket("cases").unwrap().switch, Switch::On);
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    assert!(!fetch(&cache, "/cases/2").await.is_hit());
}

#[test]
fn a_bucket_that_no_route_names_cannot_be_switched() {
    let handle = SupportCacheLayer::new(MemoryStore::new()).handle();
    assert!(!handle.switch("unknown", Switch::Off));
    assert!(handle.metrics().bucket("unknown").is_none());
    assert!(handle.switch("case_list", Switch::Off) && handle.switch("messages", Switch::Off));
}

fn original() -> (Cached, SupportCacheHandle, Calls) {
    let layer = SupportCacheLayer::new(MemoryStore::new());
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

const LIST: &str = "/accounts/A%3A1/cases";
const MESSAGES: &str = "/accounts/A%3A1/cases/C1/messages";

/// Fills both, and returns which of them are still hits after `change`.
async fn kept(change: impl AsyncFnOnce(&Cached, &SupportCacheHandle)) -> [bool; 2] {
    let (cache, handle, calls) = original();
    calls.serve(|_| response(200, &[], "x"));
    for uri in [LIST, MESSAGES] {
        fetch(&cache, uri).await;
        assert!(fetch(&cache, uri).await.is_hit());
    }
    change(&cache, &handle).await;
    [fetch(&cache, LIST).await.is_hit(), fetch(&cache, MESSAGES).await.is_hit()]
}

#[tokio::test(start_paused = true)]
async fn the_originals_three_invalidations_and_the_general_ones() {
    let (list, messages) = ([false, true], [true, false]);
    assert_eq!(kept(async |_, h| h.invalidate_case_list("A:1").await.unwrap()).await, list);
    assert_eq!(kept(async |_, h| h.invalidate_case_messages("C1").await.unwrap()).await, messages);
    let for_account = kept(async |_, h| h.invalidate_all_for_account("A:1", None).await.unwrap());
    assert_eq!(for_account.await, list);
    let both =
        kept(async |_, h| h.invalidate_all_for_account("A:1", Some("C1")).await.unwrap()).await;
    assert_eq!(both, [false, false]);
    let key = kept(async |_, h| h.invalidate("support:cases:A%3A1").await.unwrap()).await;
    assert_eq!(key, list);
    assert_eq!(kept(async |_, h| h.invalidate_all().await.unwrap()).await, [false, false]);
    assert_eq!(kept(async |_, h| h.invalidate_case_list(" ").await.unwrap()).await, [true, true]);
}

#[tokio::test(start_paused = true)]
async fn the_originals_writes_invalidate_what_they_change() {
    for (path, expected) in [
        ("/accounts/A%3A1/cases", [false, true]),
        ("/accounts/A%3A1/cases/C1/comments", [false, false]),
        ("/accounts/A%3A1/cases/C1/messages", [false, false]),
        ("/accounts/A%3A1/cases/C1/close", [true, true]),
    ] {
        let write = async |cache: &Cached, _: &SupportCacheHandle| {
            got(send(cache, request(Method::POST, path))).await;
        };
        assert_eq!(kept(write).await, expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_originals_lifetimes_are_its_own_less_a_tenth_at_most() {
    assert_eq!((CASE_LIST_TTL.as_secs(), CASE_MESSAGES_TTL.as_secs()), (120, 60));
    let (cache, _, calls) = original();
    calls.serve(|_| response(200, &[], "x"));
    for (uri, ttl) in [(LIST, 120_u64), (MESSAGES, 60)] {
        fetch(&cache, uri).await;
        let hit = fetch(&cache, uri).await;
        let left: u64 = hit.cache_status().rsplit('=').next().unwrap().parse().unwrap();
        assert!((ttl * 9 / 10 - 1..=ttl).contains(&left), "{uri}: {left}");
    }
}

#[tokio::test(start_paused = true)]
async fn counts_are_copied_out_and_add_up() {
    let (cache, handle, calls) = cache();
    calls.serve(|_| response(200, &[], "x"));
    let before = handle.metrics();
    for _ in 0..3 {
        fetch(&cache, "/cases/1").await;
    }
    got(send(&cache, request(Method::POST, "/cases/1/comments"))).await;
    handle.invalidate("case:2").await.unwrap();
    let (after, bucket) = (handle.metrics(), handle.metrics().bucket("cases").cloned().unwrap());
    assert_eq!((before.invalidations, after.invalidations, after.writes), (0, 2, 1));
    assert_eq!((bucket.hits, bucket.misses, bucket.stored, bucket.entries), (2, 1, 1, 0));
}

// ===== keys and tags by name =====

/// Values that a template escapes, and some that it does not.
const VALUES: [&str; 12] = [
    "1",
    "urn:case:7",
    "a b",
    "100%",
    "é",
    "%3A",
    "{x}",
    "*",
    "a/b",
    "\"",
    "ключ",
    "tower-support",
];

fn path_segment(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_template_stores_the_handle_removes_by_name() {
    for by_tag in [false, true] {
        for value in VALUES {
            let (cache, handle, calls) = cache_with(|route| route.tag("tag:{case}:x"));
            calls.serve(|_| response(200, &[], "stored"));
            let uri = format!("/cases/{}", path_segment(value));
            fetch(&cache, &uri).await;
            assert!(fetch(&cache, &uri).await.is_hit(), "{value}");
            match by_tag {
                false => handle.invalidate(key("case:{case}").with("case", value)).await.unwrap(),
                true => {
                    handle.invalidate_tag(key("tag:{case}:x").with("case", value)).await.unwrap();
                }
            }
            assert!(!fetch(&cache, &uri).await.is_hit(), "{value}");
            assert_eq!(handle.metrics().invalidations_unmatched, 0, "{value}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_or_a_tag_that_no_route_makes_is_counted() {
    let (_, handle, _) = cache_with(|route| route.tag("account:{case}"));
    let unmatched = || handle.metrics().invalidations_unmatched;
    for text in ["case:1", "case:urn%3Acase%3A7", "case:%C3%A9"] {
        handle.invalidate(text).await.unwrap();
        assert_eq!(unmatched(), 0, "{text}");
    }
    let wrong = ["case:urn:case:7", "case:", "cases:1", "case:a b", "case:é", "case:100%", "x", ""];
    for (count, text) in (1..).zip(wrong) {
        handle.invalidate(text).await.unwrap();
        assert_eq!(unmatched(), count, "{text}");
    }
    handle.soft_invalidate("case:a b").await.unwrap();
    handle.invalidate_tag("account:a:b").await.unwrap();
    handle.invalidate_tag("case:1").await.unwrap();
    handle.invalidate(key("case:{case}").with("id", "1")).await.unwrap();
    assert_eq!(unmatched(), 8 + 4);
    handle.invalidate_tag("account:1").await.unwrap();
    assert_eq!(unmatched(), 8 + 4);
}

/// Closures may make any key: nothing is claimed of them.
#[tokio::test(start_paused = true)]
async fn a_key_of_a_closure_is_never_unmatched() {
    let (_, handle, _) = cache_with(|_| {
        CacheRoute::get("/cases/{case}").key_with(|_| Some("k".to_owned())).ttl(TTL)
    });
    handle.invalidate("anything: at all").await.unwrap();
    assert_eq!(handle.metrics().invalidations_unmatched, 0);
}

/// A name that a store keeps for itself is no key: it could empty the cache of every process.
#[tokio::test(start_paused = true)]
async fn a_key_that_could_be_a_name_of_the_store_is_refused() {
    let reserved = "tower-support-cache:epoch";
    let (cache, handle, calls) = cache_with(|_| {
        let key = |request: &KeyRequest<'_>| request.param("case").map(Cow::into_owned);
        CacheRoute::get("/cases/{case}").key_with(key).ttl(TTL)
    });
    calls.serve(|_| response(200, &[], "stored"));
    let uri = format!("/cases/{}", path_segment(reserved));
    for _ in 0..2 {
        let passed = fetch(&cache, &uri).await;
        assert_eq!(passed.cache_status(), "support-cache;fwd=bypass;fwd-status=200;detail=key");
    }
    handle.invalidate(reserved).await.unwrap();
    assert_eq!(handle.metrics().invalidations_unmatched, 1);
}

#[tokio::test(start_paused = true)]
async fn no_value_makes_a_templates_key_a_name_of_the_store() {
    let (cache, _, calls) = cache_with(|_| CacheRoute::get("/{case}").key("{case}:epoch").ttl(TTL));
    calls.serve(|_| response(200, &[], "stored"));
    for (uri, is_stored) in [("/tower-support-cache", false), ("/tower-support-cached", true)] {
        fetch(&cache, uri).await;
        assert_eq!(fetch(&cache, uri).await.is_hit(), is_stored, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_says_what_its_entries_weigh() {
    let (cache, handle, calls) = cache_with(|route| route.bucket("cases"));
    calls.serve(|_| Response::new(GatedBody::full("x".repeat(10_000))));
    let bytes = || handle.metrics().bucket("cases").unwrap().bytes;
    fetch(&cache, "/cases/1").await;
    let one = bytes();
    assert!((10_000..12_000).contains(&one), "{one}");
    fetch(&cache, "/cases/2").await;
    // The first is charged with what both share.
    let other = bytes() - one;
    assert!((10_000..=one).contains(&other), "{other}");
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(bytes(), other);
}

#[tokio::test(start_paused = true)]
async fn several_keys_are_invalidated_at_once_and_when_called() {
    let (cache, handle, calls) = cache_with(|route| route);
    calls.serve(|_| response(200, &[], "stored"));
    for uri in ["/cases/1", "/cases/2"] {
        fetch(&cache, uri).await;
        assert!(fetch(&cache, uri).await.is_hit());
    }
    // Never polled.
    drop(handle.invalidate_many(["case:1", "case:2"]));
    for uri in ["/cases/1", "/cases/2"] {
        assert!(!fetch(&cache, uri).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_responses_name_is_invalidated_by_the_handle() {
    let (cache, handle, calls) = cache_with(|route| route);
    calls.serve(|_| response(200, &[("cache-groups", "\"cases\"")], "stored"));
    let asked = || with(get("/cases/1"), "host", "portal.example");
    got(send(&cache, asked())).await;
    assert!(got(send(&cache, asked())).await.is_hit());
    handle.invalidate_group("other.example", "cases").await.unwrap();
    assert!(got(send(&cache, asked())).await.is_hit());
    handle.invalidate_group("Portal.Example:443", "cases").await.unwrap();
    assert!(!got(send(&cache, asked())).await.is_hit());
}
