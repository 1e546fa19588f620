//! The hook behind invalidations, and the names by which a cache in front purges.

use std::sync::{Arc, Mutex};

use http::{HeaderName, Method};
use tokio::{sync::Semaphore, time::Duration};
use tower::Layer;
use tower_support_cache::{
    CacheRoute, Freshness, InvalidateRoute, Invalidated, MemoryStore, Store, SupportCacheHandle,
    SupportCacheLayer,
    store::{PrimaryKey, Strength, Tag},
    testing::{Chaos, Fault, StoreCall},
};

use crate::support::{
    Cached, Calls, TTL, fetch, get, got, origin, request, response, send, settle, with,
};

/// Keeps what it is given, once it may.
#[derive(Clone)]
struct Cdn {
    purged: Arc<Mutex<Vec<Invalidated>>>,
    may: Arc<Semaphore>,
}

impl Cdn {
    fn ready() -> Self {
        Self { purged: Arc::default(), may: Arc::new(Semaphore::new(1_000_000)) }
    }

    fn purged(&self) -> Vec<String> {
        let purged = std::mem::take(&mut *self.purged.lock().unwrap());
        let name =
            |one: &Invalidated| one.surrogate_key().map_or("*".into(), |key| key.into_owned());
        purged.iter().map(name).collect()
    }
}

fn site<St: Store>(store: St, cdn: &Cdn) -> (Cached<St>, SupportCacheHandle, Calls) {
    let cdn = cdn.clone();
    let layer = SupportCacheLayer::builder(store)
        .cache(
            CacheRoute::get("/cases/{case}")
                .bucket("cases")
                .key("case:{case}")
                .tag("account:{case}")
                .ttl(TTL),
        )
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .surrogate_key_field(HeaderName::from_static("surrogate-key"))
        .invalidation_hook(move |invalidated: Invalidated| {
            let cdn = cdn.clone();
            async move {
                cdn.may.acquire().await.unwrap().forget();
                cdn.purged.lock().unwrap().push(invalidated);
            }
        })
        .build()
        .unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

#[tokio::test(start_paused = true)]
async fn each_invalidation_is_passed_on_in_the_order_of_the_calls() {
    let cdn = Cdn::ready();
    let (cache, handle, calls) = site(MemoryStore::new(), &cdn);
    calls.serve(|_| response(200, &[], "x"));
    handle.invalidate("case:1").await.unwrap();
    // Never polled: it is in force, and passed on.
    drop(handle.invalidate_many(["case:2", "case:3"]));
    handle.invalidate_tag("account:1").await.unwrap();
    got(send(&cache, request(Method::POST, "/cases/4/comments"))).await;
    handle.invalidate_bucket("cases").await.unwrap();
    handle.invalidate_bucket("none").await.unwrap();
    handle.invalidate_all().await.unwrap();
    settle().await;
    let expected = ["case:1", "case:2", "case:3", "tag:account:1", "case:4", "bucket:cases", "*"];
    assert_eq!(cdn.purged(), expected);
    handle.soft_invalidate("case:1").await.unwrap();
    handle.soft_invalidate_all().await.unwrap();
    settle().await;
    let soft = Invalidated::Subject(PrimaryKey::new("case:1").into(), Strength::Soft);
    assert_eq!(*cdn.purged.lock().unwrap(), [soft, Invalidated::All(Strength::Soft)]);
}

/// The origin may still commit, so what the CDN has fetched meanwhile may be old.
#[tokio::test(start_paused = true)]
async fn a_write_with_an_unknown_outcome_is_passed_on_at_once_and_again_later() {
    let cdn = Cdn::ready();
    let (cache, _, calls) = site(MemoryStore::new(), &cdn);
    calls.serve(|_| response(500, &[], "x"));
    got(send(&cache, request(Method::POST, "/cases/4/comments"))).await;
    settle().await;
    assert_eq!(cdn.purged(), ["case:4"]);
    tokio::time::advance(Duration::from_secs(11)).await;
    settle().await;
    assert_eq!(cdn.purged(), ["case:4"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_or_hangs_harms_nothing_but_what_it_passes_on() {
    let purged = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let purged = Arc::clone(&purged);
        move |invalidated: Invalidated| {
            let key = invalidated.surrogate_key().unwrap().into_owned();
            assert_ne!(key, "case:1", "it panics before its future is there");
            let purged = Arc::clone(&purged);
            async move {
                assert_ne!(key, "case:2", "and here inside");
                purged.lock().unwrap().push(key.clone());
                if key == "case:4" {
                    std::future::pending().await
                }
            }
        }
    };
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL))
        .invalidation_hook(hook)
        .build()
        .unwrap();
    let (origin, calls) = origin();
    let (cache, handle) = (layer.layer(origin), layer.handle());
    calls.serve(|_| response(200, &[], "x"));
    handle.invalidate_many(["case:1", "case:2", "case:3", "case:4", "case:5"]).await.unwrap();
    settle().await;
    assert_eq!(*purged.lock().unwrap(), ["case:3", "case:4"]);
    // Reads and writes go on while the hook hangs.
    assert!(!fetch(&cache, "/cases/1").await.is_hit());
    assert!(fetch(&cache, "/cases/1").await.is_hit());
    got(send(&cache, request(Method::POST, "/cases/1"))).await;
    assert!(!fetch(&cache, "/cases/1").await.is_hit());
    assert_eq!(handle.metrics().hook_pending, 3, "4, 5 and the write's");
    let unfinished = handle.drain(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(unfinished.pending(), 3);
}

#[test]
fn what_is_invalidated_without_a_runtime_is_passed_on_by_a_drain() {
    let cdn = Cdn::ready();
    let (_, handle, _) = site(MemoryStore::new(), &cdn);
    drop(handle.invalidate("case:1"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(handle.drain(Duration::from_secs(1))).unwrap();
    assert_eq!(cdn.purged(), ["case:1"]);
}

/// Before that another process may answer with what is stale, and so would fill the CDN again.
#[tokio::test(start_paused = true)]
async fn an_invalidation_is_passed_on_once_it_is_acknowledged() {
    let is_away = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (cdn, away) = (Cdn::ready(), Arc::clone(&is_away));
    let store = Chaos::new(MemoryStore::new(), move |call, _| match call {
        StoreCall::Invalidate | StoreCall::FlushPending
            if away.load(std::sync::atomic::Ordering::SeqCst) =>
        {
            Fault::Fail
        }
        _ => Fault::None,
    });
    let (_, handle, _) = site(store, &cdn);
    assert!(handle.invalidate("case:1").await.is_err());
    settle().await;
    assert!(cdn.purged().is_empty());
    is_away.store(false, std::sync::atomic::Ordering::SeqCst);
    handle.drain(Duration::from_secs(10)).await.unwrap();
    assert_eq!(cdn.purged(), ["case:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_hook_and_says_what_it_was_not_given() {
    let cdn = Cdn { purged: Arc::default(), may: Arc::new(Semaphore::new(1)) };
    let (_, handle, _) = site(MemoryStore::new(), &cdn);
    handle.invalidate_many(["case:1", "case:2", "case:3"]).await.unwrap();
    let unfinished = handle.drain(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!((unfinished.pending(), cdn.purged()), (2, vec!["case:1".to_owned()]));
    cdn.may.add_permits(10);
    handle.drain(Duration::from_secs(1)).await.unwrap();
    assert_eq!(cdn.purged(), ["case:2", "case:3"]);
}

#[tokio::test(start_paused = true)]
async fn more_than_can_wait_become_one_of_everything() {
    let cdn = Cdn { purged: Arc::default(), may: Arc::new(Semaphore::new(0)) };
    let (_, handle, _) = site(MemoryStore::new(), &cdn);
    handle.invalidate_many((0..10_001).map(|case| format!("case:{case}"))).await.unwrap();
    cdn.may.add_permits(20_000);
    handle.drain(Duration::from_secs(10)).await.unwrap();
    let purged = cdn.purged();
    assert_eq!(purged.last().unwrap(), "*");
    assert!(purged.len() <= 2, "{}", purged.len());
}

#[tokio::test(start_paused = true)]
async fn a_response_names_bucket_key_and_tags_whether_it_is_new_stored_or_forwarded_alone() {
    let cdn = Cdn::ready();
    let (cache, _, calls) = site(MemoryStore::new(), &cdn);
    calls.serve(|_| response(200, &[("cache-groups", "\"g\""), ("surrogate-key", "own")], "x"));
    let requests = [
        (get("/cases/a,b"), false),
        (get("/cases/a,b"), true),
        (request(Method::HEAD, "/cases/c,d"), false),
    ];
    for (request, is_hit) in requests {
        let case = if request.method() == Method::HEAD { "c%2Cd" } else { "a%2Cb" };
        let got = got(send(&cache, request)).await;
        assert_eq!(got.is_hit(), is_hit);
        let names = got.fields["surrogate-key"].to_str().unwrap();
        let names: Vec<_> = names.split(' ').collect();
        let expected =
            ["bucket:cases".to_owned(), format!("case:{case}"), format!("tag:account:{case}")];
        assert_eq!(names[..3], expected);
        assert!(names[3].starts_with("group:"), "{names:?}");
        assert_eq!(names.len(), 4, "{names:?}");
    }
    let of_tag = Invalidated::Subject(Tag::new("account:a%2Cb").into(), Strength::Hard);
    assert_eq!(of_tag.surrogate_key().unwrap(), "tag:account:a%2Cb");
    let bypass = with(get("/cases/1"), "authorization", "x");
    let bypassed = got(send(&cache, bypass)).await;
    assert_eq!(bypassed.fields["surrogate-key"], "own", "the handler's own stays");
}

/// The answer of a 304 that names other groups, and the next hit, name these.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_freshened_names_what_it_belongs_to_now() {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/").bucket("site").key("home").freshness(Freshness::Origin))
        .tag_field(HeaderName::from_static("surrogate-key"))
        .surrogate_key_field(HeaderName::from_static("surrogate-key"))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    let cache = layer.layer(origin);
    let control = ("cache-control", "max-age=10");
    let answers = [(200, "a"), (304, "b")].into_iter();
    let answers = Mutex::new(answers);
    calls.serve(move |_| {
        let (status, tag) = answers.lock().unwrap().next().unwrap();
        response(status, &[control, ("etag", "\"1\""), ("surrogate-key", tag)], "x")
    });
    let expected = [
        "bucket:site home tag:a",
        "bucket:site home tag:a",
        "bucket:site home tag:b tag:a",
        "bucket:site home tag:b tag:a",
    ];
    for (turn, expected) in expected.into_iter().enumerate() {
        if turn == 2 {
            tokio::time::advance(Duration::from_secs(11)).await;
        }
        let got = fetch(&cache, "/").await;
        assert_eq!(got.fields["surrogate-key"], expected, "{turn}");
    }
}

/// A CDN that is given a response without names cannot purge it.
#[tokio::test(start_paused = true)]
async fn layers_that_name_differently_share_no_responses() {
    let store = MemoryStore::new();
    let layer = |field: Option<&'static str>| {
        let mut builder = SupportCacheLayer::builder(store.clone())
            .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL));
        if let Some(field) = field {
            builder = builder.surrogate_key_field(HeaderName::from_static(field));
        }
        let (origin, calls) = origin();
        calls.serve(|_| response(200, &[], "x"));
        builder.build().unwrap().layer(origin)
    };
    for field in [None, Some("surrogate-key"), Some("cache-tag")] {
        let cache = layer(field);
        assert!(!fetch(&cache, "/cases/1").await.is_hit(), "{field:?}");
        let same = layer(field);
        assert!(fetch(&same, "/cases/1").await.is_hit(), "{field:?}");
    }
}
