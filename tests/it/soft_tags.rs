//! Soft invalidations of tags: what has one is stale from then on.

use std::time::Duration;

use tokio::time::advance;
use tower_support_cache::{CacheRoute, CacheTags, SupportCacheHandle};

use crate::support::{
    Cached, Calls, GatedBody, cache_with, fetch, get, got, response, send, settle,
};

const WINDOW: Duration = Duration::from_secs(10);

fn stale(route: CacheRoute) -> CacheRoute {
    route.tag("all").tag("case:{case}").stale_while_revalidate(WINDOW)
}

/// Fills `/cases/1`.
async fn filled(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
) -> (Cached, SupportCacheHandle, Calls) {
    let (cache, handle, mut calls) = cache_with(route);
    let read = send(&cache, get("/cases/1"));
    calls.next().await.ok("old");
    got(read).await;
    (cache, handle, calls)
}

/// Asserts that `/cases/1` is not answered from the store.
async fn is_gone(cache: &Cached, calls: &mut Calls) {
    let read = send(cache, get("/cases/1"));
    calls.now().await.expect("nothing stored answers").ok("new");
    assert_eq!(got(read).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn what_has_the_tag_answers_stale_and_is_refreshed_and_nothing_else_changes() {
    let (cache, handle, mut calls) = filled(stale).await;
    let read = send(&cache, get("/cases/2"));
    calls.next().await.ok("other");
    got(read).await;
    handle.soft_invalidate_tag("case:1").await.unwrap();
    let read = fetch(&cache, "/cases/1").await;
    assert_eq!(read.text(), "old");
    assert!(
        read.cache_status().contains("detail=stale-while-revalidate"),
        "{}",
        read.cache_status()
    );
    let refresh = calls.now().await.expect("the origin is asked");
    assert!(fetch(&cache, "/cases/2").await.cache_status().contains("ttl=60"));
    refresh.ok("new");
    settle().await;
    let read = fetch(&cache, "/cases/1").await;
    assert_eq!(read.text(), "new");
    assert!(read.cache_status().contains("ttl=60"), "{}", read.cache_status());
    assert_eq!(handle.metrics().tag_invalidations, 1);
}

#[tokio::test(start_paused = true)]
async fn the_window_begins_with_the_invalidation_however_late_it_is_read() {
    for (late, answers) in [(9, true), (11, false)] {
        let (cache, handle, mut calls) = filled(stale).await;
        handle.soft_invalidate_tag("all").await.unwrap();
        advance(Duration::from_secs(late)).await;
        match answers {
            true => assert_eq!(fetch(&cache, "/cases/1").await.text(), "old"),
            false => is_gone(&cache, &mut calls).await,
        }
    }
    // Nor is it opened again by a later one, of the tag, of another, or of the key.
    for later in ["all", "case:1", "key"] {
        let (cache, handle, mut calls) = filled(stale).await;
        handle.soft_invalidate_tag("all").await.unwrap();
        advance(Duration::from_secs(9)).await;
        match later {
            "key" => handle.soft_invalidate("case:1").await.unwrap(),
            tag => handle.soft_invalidate_tag(tag).await.unwrap(),
        }
        advance(Duration::from_secs(2)).await;
        is_gone(&cache, &mut calls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_stale_is_gone() {
    let (cache, handle, mut calls) = filled(|route| route.tag("all")).await;
    handle.soft_invalidate_tag("all").await.unwrap();
    is_gone(&cache, &mut calls).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_answers_after_an_invalidation_that_is_not_soft() {
    for is_soft_first in [false, true] {
        for is_read_between in [false, true] {
            let (cache, handle, mut calls) = filled(stale).await;
            if is_soft_first {
                handle.soft_invalidate_tag("all").await.unwrap();
                if is_read_between {
                    assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
                    drop(calls.now().await.expect("the refresh"));
                }
            }
            handle.invalidate_tag("all").await.unwrap();
            if !is_soft_first {
                handle.soft_invalidate_tag("all").await.unwrap();
                handle.soft_invalidate_tag("case:1").await.unwrap();
            }
            let read = send(&cache, get("/cases/1"));
            calls.now().await.expect("nothing stored answers").ok("new");
            assert_eq!(got(read).await.text(), "new");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_has_begun_is_not_stored_and_late_comers_do_not_join_it() {
    let (cache, handle, mut calls) = cache_with(stale);
    let early = send(&cache, get("/cases/1"));
    let old = calls.next().await;
    handle.soft_invalidate_tag("all").await.unwrap();
    let late = send(&cache, get("/cases/1"));
    let new = calls.now().await.expect("who comes after it asks for itself");
    old.ok("old");
    let read = got(early).await;
    assert!(read.cache_status().ends_with("detail=fenced"), "{}", read.cache_status());
    new.ok("new");
    assert_eq!(got(late).await.text(), "new");
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}

/// A tag is remembered with a few of its soft invalidations.
#[tokio::test(start_paused = true)]
async fn what_nobody_reads_for_many_of_them_is_gone() {
    for (count, is_left) in [(4, true), (5, false)] {
        let (cache, handle, mut calls) = filled(stale).await;
        for _ in 0..count {
            handle.soft_invalidate_tag("all").await.unwrap();
        }
        match is_left {
            true => assert_eq!(fetch(&cache, "/cases/1").await.text(), "old"),
            false => is_gone(&cache, &mut calls).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_keys_and_tags_are_invalidated_at_once_and_softly() {
    let targets = ["/cases/1", "/cases/2", "/cases/3"];
    for (how, is_stale) in [("soft keys", true), ("soft tags", true), ("tags", false)] {
        let (cache, handle, calls) = cache_with(stale);
        let count = calls.serve(|_| response(200, &[], "x"));
        for target in targets {
            fetch(&cache, target).await;
        }
        match how {
            "soft keys" => handle.soft_invalidate_many(["case:1", "case:2"]).await.unwrap(),
            "soft tags" => handle.soft_invalidate_tags(["case:1", "case:2"]).await.unwrap(),
            _ => handle.invalidate_tags(["case:1", "case:2"]).await.unwrap(),
        }
        for (target, is_hit) in targets.into_iter().zip([is_stale, is_stale, true]) {
            assert_eq!(fetch(&cache, target).await.is_hit(), is_hit, "{how} {target}");
        }
        settle().await;
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 5, "{how}");
    }
}

/// A tag that only the response names.
#[tokio::test(start_paused = true)]
async fn a_tag_that_a_response_names_is_invalidated_softly() {
    let (cache, handle, mut calls) = cache_with(|route| route.stale_while_revalidate(WINDOW));
    let read = send(&cache, get("/cases/1"));
    let tags = CacheTags::new(["product:7"]);
    let named = http::Response::builder().extension(tags).body(GatedBody::full("old")).unwrap();
    calls.next().await.respond(named);
    got(read).await;
    handle.soft_invalidate_tag("product:7").await.unwrap();
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "old");
    calls.now().await.expect("the origin is asked").ok("new");
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1").await.text(), "new");
}
