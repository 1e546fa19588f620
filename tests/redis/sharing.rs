//! Processes on one server: what they share, and what they must not.

use std::time::Duration;

use http::StatusCode;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    Alone, CacheRoute, Caller, CallerKey, ConfigErrorKind, Credentials, RedisStore,
    SupportCacheLayer,
};

use crate::{
    Site, far, layer_on, patient,
    server::{PATIENCE, Server, pause, until},
    support::{Sent, TTL, get, got, send, with},
};

#[tokio::test]
async fn what_one_process_stores_another_answers_with() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let reading = send(&site.cache, get("/cases/1"));
    let fields = ("x-request-id", "7");
    site.calls.next().await.with(200, fields, "shared");
    let first = got(reading).await;
    let read = other.read("not stored").await;
    assert_eq!((read.text(), read.status), ("shared", first.status));
    assert_eq!(read.fields[fields.0], fields.1);
    assert!(read.is_hit() && read.age().is_some(), "{}", read.cache_status());
    assert_eq!(other.counts().hits, 1);
}

#[tokio::test]
async fn another_processes_fill_is_not_done_twice() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let first = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    let waiting: Vec<_> = (0..5).map(|_| send(&other.cache, get("/cases/1"))).collect();
    assert!(other.calls.now().await.is_none());
    call.ok("one");
    assert_eq!(got(first).await.text(), "one");
    for reading in waiting {
        assert_eq!(got(reading).await.text(), "one");
    }
    assert_eq!(other.calls.count(), 0);
}

/// A fill ends without a response: its lease must not keep others for the half minute it lasts.
async fn gives_its_lease_back(end: impl AsyncFn(&mut Site, Sent)) {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let reading = send(&site.cache, get("/cases/1"));
    end(&mut site, reading).await;
    until(PATIENCE, "no lease is left", async || {
        (server.command::<u64>(&["EXISTS", "case:1"]).await == 0).then_some(())
    })
    .await;
    other.fill("new").await;
}

#[tokio::test]
async fn a_fill_that_fails_gives_its_lease_back() {
    gives_its_lease_back(async |site, reading| {
        site.calls.next().await.fail();
        assert!(reading.await.unwrap().is_err());
    })
    .await;
}

#[tokio::test]
async fn a_fill_that_panics_gives_its_lease_back() {
    gives_its_lease_back(async |site, reading| {
        site.calls.next().await.panic();
        assert!(reading.await.unwrap_err().is_panic());
    })
    .await;
}

#[tokio::test]
async fn a_fill_whose_body_breaks_gives_its_lease_back() {
    gives_its_lease_back(async |site, reading| {
        let gate = site.calls.next().await.stream(Some(100));
        gate.send("half");
        gate.fail();
        assert!(got(reading).await.body.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_server_error_gives_the_lease_back() {
    gives_its_lease_back(async |site, reading| {
        site.calls.next().await.with(500, ("x", "y"), "");
        got(reading).await;
    })
    .await;
}

/// Its fill goes on without it, and is stored.
#[tokio::test]
async fn a_request_that_is_cancelled_leaves_no_lease() {
    let server = Server::start().await;
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::on(&server.url()).await);
    let reading = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    reading.abort();
    assert!(reading.await.is_err());
    call.ok("one");
    until(PATIENCE, "it is stored", async || other.read("one").await.is_hit().then_some(())).await;
    until(PATIENCE, "no flight is left", async || {
        (site.handle.metrics().flights == 0).then_some(())
    })
    .await;
}

/// Requests that go away before they are forwarded hold a lease, or are about to.
#[tokio::test]
async fn requests_that_are_cancelled_at_any_moment_leave_no_lease() {
    let server = Server::start().await;
    let site = Site::on(&server.url()).await;
    let cache = site.cache.clone();
    site.calls.serve(|_| crate::support::response(200, &[("cache-control", "no-store")], ""));
    for yields in 0..300 {
        let reading = send(&cache, get(&format!("/cases/{yields}")));
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        reading.abort();
        let _ = reading.await;
    }
    until(PATIENCE, "no lease is left", async || {
        for key in server.command::<Vec<String>>(&["KEYS", "case:*"]).await {
            let fields: Vec<String> = server.command(&["HKEYS", &key]).await;
            if fields.iter().any(|field| field.starts_with("l:")) {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// A lease is for the time of a handler: who died with one keeps others no longer than that.
#[tokio::test]
async fn a_lease_runs_out_by_itself() {
    let server = Server::start().await;
    let lease = Duration::from_millis(300);
    let store = patient(&server.url()).lease(lease).build().unwrap();
    let (mut site, mut other) = (Site::over(store).await, Site::on(&server.url()).await);
    let hanging = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    other.fill("two").await;
    call.ok("one");
    let late = got(hanging).await;
    assert!(!late.cache_status().ends_with(";stored"), "{}", late.cache_status());
    site.hits("two").await;
}

#[tokio::test]
async fn sec_red_6_two_namespaces_share_nothing() {
    let server = Server::start().await;
    let at = |namespace: &str| patient(&server.url()).namespace(namespace).build().unwrap();
    let (mut site, mut other) = (Site::over(at("a:")).await, Site::over(at("b:")).await);
    let mut bare = Site::on(&server.url()).await;
    site.fill("of a").await;
    other.fill("of b").await;
    bare.fill("of none").await;
    site.handle.invalidate("case:1").await.unwrap();
    other.hits("of b").await;
    site.fill("of a").await;
    site.handle.invalidate_all().await.unwrap();
    other.hits("of b").await;
    bare.hits("of none").await;
    assert_eq!(site.read("new").await.text(), "new");
    let keys: Vec<String> = server.command(&["KEYS", "*case:1"]).await;
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[tokio::test]
async fn sec_red_6_two_databases_share_nothing() {
    let server = Server::start().await;
    let in_second = patient(&server.url()).database(1).build().unwrap();
    let (mut site, mut other) = (Site::on(&server.url()).await, Site::over(in_second).await);
    site.fill("of 0").await;
    other.fill("of 1").await;
    site.hits("of 0").await;
    other.handle.invalidate_all().await.unwrap();
    site.hits("of 0").await;
    let by_url = RedisStore::connect(format!("{}1", server.url())).unwrap();
    other.fill("of 1").await;
    Site::over(by_url).await.hits("of 1").await;
}

/// A deploy: the process that runs already goes on, and the new one reads nothing of the old rules.
#[tokio::test]
async fn a_layer_with_other_routes_reads_nothing_of_the_old_ones_and_invalidates_for_them() {
    let server = Server::start().await;
    let mut old = Site::on(&server.url()).await;
    old.fill("by old rules").await;
    let changed = |route: CacheRoute| route.statuses([StatusCode::OK]);
    let mut new = Site::lazy(patient(&server.url()).build().unwrap(), changed).linked().await;
    assert_eq!(new.read("by new rules").await.text(), "by new rules");
    new.hits("by new rules").await;
    old.hits("by old rules").await;
    new.handle.invalidate("case:1").await.unwrap();
    assert_eq!(old.read("newer").await.text(), "newer");
}

#[tokio::test]
async fn callers_share_nothing_and_processes_with_one_key_agree_who_they_are() {
    let server = Server::start().await;
    let layer = || {
        let route = CacheRoute::get("/mine").key("mine").ttl(Duration::from_secs(60));
        let route = route.credentials(Credentials::PerCaller(Caller::authorization()));
        let store = patient(&server.url()).build().unwrap();
        let layer = SupportCacheLayer::builder(store)
            .caller_key(CallerKey::new([1; 32]))
            .cache(route)
            .build();
        Site::of(&layer.unwrap())
    };
    let (mut site, mut other) = (layer().linked().await, layer().linked().await);
    let of = |caller: &str| with(get("/mine"), "authorization", caller);
    assert_eq!(site.ask(of("Bearer a"), "of a").await.text(), "of a");
    assert_eq!(other.ask(of("Bearer b"), "of b").await.text(), "of b");
    assert_eq!(other.ask(of("Bearer a"), "not stored").await.text(), "of a");
    assert_eq!(site.ask(of("Bearer b"), "not stored").await.text(), "of b");
    let everything: Vec<u8> = server.command(&["DUMP", "mine"]).await;
    let has = |text: &[u8]| everything.windows(text.len()).any(|window| window == text);
    assert!(!has(b"Bearer"), "no credentials are in Redis");
}

#[tokio::test]
async fn clones_of_a_store_are_one_store() {
    let server = Server::start().await;
    let store = patient(&server.url()).build().unwrap();
    let mut site = Site::over(store.clone()).await;
    let mut other = Site::lazy(store, |route| route);
    site.fill("one").await;
    other.hits("one").await;
    assert_eq!(site.store(), other.store());
    assert_eq!(server.info("clients", "connected_clients").await, "2", "it and this question");
}

#[tokio::test]
async fn routes_that_digest_callers_need_a_key_that_all_processes_have() {
    let route = || CacheRoute::get("/a/{id}").key("a:{id}").ttl(TTL);
    let build = |route: CacheRoute, key: Option<[u8; 32]>| {
        let builder = SupportCacheLayer::builder(far("redis://127.0.0.1:1/").build().unwrap());
        let builder = builder.cache(route);
        key.into_iter()
            .fold(builder, |builder, key| builder.caller_key(CallerKey::new(key)))
            .build()
    };
    let per_caller = || route().credentials(Credentials::PerCaller(Caller::authorization()));
    let varying = || route().vary([http::header::ACCEPT]);
    for digesting in [per_caller(), varying()] {
        let error = build(digesting, None).unwrap_err();
        assert_eq!(error.kind(), ConfigErrorKind::CallerKey);
        assert_eq!((error.field(), error.route()), ("caller_key", Some("GET /a/{id}")));
    }
    assert!(build(per_caller(), Some([1; 32])).is_ok() && build(varying(), Some([1; 32])).is_ok());
    assert!(build(route(), None).is_ok());
    // The original policy has no error to return: there each process digests by its own.
    let layer = SupportCacheLayer::new(far("redis://127.0.0.1:1/").build().unwrap());
    drop(layer.credentials(Credentials::PerCaller(Caller::authorization())));
}

/// Each hit tosses; whose toss wins asks for all processes.
#[tokio::test]
async fn what_is_in_use_is_refreshed_before_it_is_stale() {
    let server = Server::start().await;
    let route = |route: CacheRoute| route.ttl(Duration::from_secs(20)).early_refresh(10.0);
    let linked = async || Site::lazy(patient(&server.url()).build().unwrap(), route).linked().await;
    let (mut site, mut other) = (linked().await, linked().await);
    let first = send(&site.cache, get("/cases/1"));
    let call = site.calls.next().await;
    pause(Duration::from_millis(500)).await;
    call.ok("old");
    got(first).await;
    // e^-4 of the hits refresh.
    let refresh = until(PATIENCE, "a hit refreshes", async || {
        let hit = got(send(&site.cache, get("/cases/1"))).await;
        assert_eq!((hit.text(), hit.is_hit()), ("old", true), "{}", hit.cache_status());
        site.calls.now().await
    })
    .await;
    other.hits("old").await;
    refresh.ok("new");
    until(PATIENCE, "what is new is stored", async || {
        (other.read("not stored").await.text() == "new").then_some(())
    })
    .await;
}

/// Returns a layer that is linked to its server.
async fn linked_layer(url: &str) -> SupportCacheLayer<RedisStore> {
    let layer = layer_on(patient(url).build().unwrap(), |route| route);
    until(PATIENCE, "there is a link", async || {
        layer.handle().invalidate("another").await.is_ok().then_some(())
    })
    .await;
    layer
}

/// Two layers of one process, one within the other, as two stores on one server see them: the inner one
/// does not wait for the fill that waits for it.
#[tokio::test]
async fn a_layer_within_another_on_the_same_server_does_not_wait_for_it() {
    let server = Server::start().await;
    let (mut inner, outer) = (Site::on(&server.url()).await, linked_layer(&server.url()).await);
    let service = outer.layer(inner.cache.clone());
    for case in 0..20 {
        let asked = get(&format!("/cases/{case}"));
        let request = tokio::spawn(service.clone().oneshot(asked));
        // A request that waits does so for 5 s.
        let limit = Duration::from_secs(4);
        let call = tokio::time::timeout(limit, inner.calls.next()).await.expect("it waits");
        call.ok("case");
        let response = request.await.unwrap().unwrap();
        assert_eq!(response.status(), 200, "{case}");
    }
    assert_eq!(inner.counts().alone[&Alone::Held], 20);
}

/// What a process has learned of the query only says where it looks.
#[tokio::test]
async fn processes_that_have_learned_other_things_of_the_query_do_not_mislead_each_other() {
    let server = Server::start().await;
    let site = async || {
        Site::lazy(patient(&server.url()).build().unwrap(), CacheRoute::no_vary_search)
            .linked()
            .await
    };
    let (mut one, mut two) = (site().await, site().await);
    const FIELD: &str = "no-vary-search";
    async fn fill(site: &mut Site, target: &str, field: &str, body: &'static str) {
        let reading = send(&site.cache, get(target));
        site.calls.next().await.with(200, (FIELD, field), body);
        assert_eq!(got(reading).await.text(), body);
    }
    fill(&mut one, "/cases/1?a=1&b=1", r#"params=("a")"#, "by b").await;
    // The other one has learned nothing of the path, and learns another thing.
    fill(&mut two, "/cases/1?a=2&b=2", r#"params=("b")"#, "by a").await;
    let ask = async |site: &mut Site, target: &str| {
        let found = site.ask(get(target), "own").await;
        (found.text().to_owned(), found.is_hit())
    };
    // Each looks by its own, and finds what declares that and nothing else.
    assert_eq!(ask(&mut one, "/cases/1?a=3&b=1").await, ("by b".to_owned(), true));
    assert_eq!(ask(&mut two, "/cases/1?a=2&b=3").await, ("by a".to_owned(), true));
    // One learns what the other has, and they share.
    fill(&mut two, "/cases/1?a=4&b=4", r#"params=("a")"#, "by b too").await;
    assert_eq!(ask(&mut one, "/cases/1?a=5&b=4").await, ("by b too".to_owned(), true));
    assert_eq!(ask(&mut two, "/cases/1?a=6&b=1").await, ("by b".to_owned(), true));
    // Either invalidates all of it, at both.
    two.handle.invalidate("case:1").await.unwrap();
    for (target, field) in [("/cases/1?b=1", r#"params=("a")"#), ("/cases/1?b=4", "params=()")] {
        fill(&mut one, target, field, "new").await;
    }
}
