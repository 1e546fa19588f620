//! What responses say about the query: learned from the last one, for its authority and path, and never more
//! than a response says of itself.

use std::time::Duration;

use http::Method;
use tokio::time::advance;
use tower_support_cache::{CacheRoute, MemoryStore, QueryPolicy, Routes};

use crate::support::{
    Cached, Call, GatedBody, TTL, cache_on, cache_with, fetch, get, got, request, response, send,
    settle, with,
};

const FIELD: &str = "no-vary-search";
const NO_UTM: &[(&str, &str)] = &[(FIELD, r#"params=("utm")"#)];

/// Answers with the target, and with a field.
fn answer(call: Call, fields: &[(&str, &str)]) {
    let target: &'static str = call.head.uri.to_string().leak();
    call.respond(response(200, fields, target));
}

/// Asks for targets in turn. The origin gives the field that `field` says, and the body tells the target.
async fn bodies(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
    field: impl Fn(&str) -> &'static str + Send + 'static,
    targets: &[&str],
) -> Vec<String> {
    let (cache, _, calls) = cache_with(route);
    calls.serve(move |head| {
        let target: &'static str = head.uri.to_string().leak();
        let fields = [(FIELD, field(target))];
        response(200, &fields[..usize::from(!fields[0].1.is_empty())], target)
    });
    let mut bodies = Vec::new();
    for target in targets {
        bodies.push(fetch(&cache, target).await.text().to_owned());
    }
    bodies
}

#[tokio::test(start_paused = true)]
async fn a_route_that_does_not_honour_it_tells_queries_apart_as_they_were_sent() {
    let targets = ["/cases/1?utm=1", "/cases/1?utm=2", "/cases/1"];
    assert_eq!(bodies(|route| route, |_| "except=()", &targets).await, targets);
}

#[tokio::test(start_paused = true)]
async fn a_response_answers_for_the_queries_that_it_declares_the_same() {
    let targets = ["/cases/1?a=1&utm=1", "/cases/1?utm=2&a=1", "/cases/1?a=2", "/cases/2?a=1"];
    let found = bodies(CacheRoute::no_vary_search, |_| NO_UTM[0].1, &targets).await;
    assert_eq!(found, [targets[0], targets[0], targets[2], targets[3]]);
}

/// Whatever was learned from another response in between.
#[tokio::test(start_paused = true)]
async fn a_response_never_answers_for_more_than_it_declares_itself() {
    let fields = ["", r#"params=("a")"#, r#"params=("b")"#, "except=()", "key-order"];
    let field = move |target: &str| {
        let chosen = target.rsplit('=').next().and_then(|last| last.parse::<usize>().ok());
        fields[chosen.unwrap_or_default() % fields.len()]
    };
    let targets: Vec<_> = (0..4)
        .flat_map(|a| (0..3).flat_map(move |b| (0..5).map(move |c| (a, b, c))))
        .map(|(a, b, c)| format!("/cases/1?a={a}&b={b}&field={c}"))
        .collect();
    let targets: Vec<_> = targets.iter().map(String::as_str).cycle().step_by(7).take(300).collect();
    let found = bodies(CacheRoute::no_vary_search, field, &targets).await;
    let part = |target: &str, name: &str| {
        let query = target.split_once('?').map_or("", |(_, query)| query).to_owned();
        query.split('&').find(|pair| pair.starts_with(name)).map(str::to_owned)
    };
    let mut other = 0;
    for (asked, found) in targets.iter().zip(&found) {
        other += usize::from(asked != found);
        let is_covered = match field(found) {
            r#"params=("a")"# => ["b", "field"].iter().all(|p| part(asked, p) == part(found, p)),
            r#"params=("b")"# => ["a", "field"].iter().all(|p| part(asked, p) == part(found, p)),
            "except=()" => true,
            _ => asked == found,
        };
        assert!(is_covered, "{asked} got {found}");
    }
    assert!(other > 0);
}

/// Each leaves nothing of its query over.
#[tokio::test(start_paused = true)]
async fn queries_that_are_alike_by_two_declarations_are_told_apart() {
    let field = |target: &str| match target.ends_with("=1") {
        true => r#"params=("a" "field")"#,
        false => r#"params=("b" "field")"#,
    };
    let targets = ["/cases/1?a=3&field=1", "/cases/1?a=1&b=1&field=2", "/cases/1?b=2&field=2"];
    assert_eq!(bodies(CacheRoute::no_vary_search, field, &targets).await, targets);
}

#[tokio::test(start_paused = true)]
async fn a_path_whose_responses_no_longer_have_the_field_is_cached_as_before() {
    let field = |target: &str| if target.ends_with("=1") { "except=()" } else { "" };
    let (one, two) = ("/cases/1?a=1", "/cases/1?a=2");
    let (cache, handle, calls) = cache_with(CacheRoute::no_vary_search);
    let count = calls.serve(move |head| {
        let target: &'static str = head.uri.to_string().leak();
        let fields = [(FIELD, field(target))];
        response(200, &fields[..usize::from(!fields[0].1.is_empty())], target)
    });
    assert_eq!(fetch(&cache, one).await.text(), one);
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(fetch(&cache, two).await.text(), two);
    assert!(fetch(&cache, two).await.is_hit());
    assert_eq!(fetch(&cache, "/cases/1?a=3").await.text(), "/cases/1?a=3");
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 3);
}

// ===== who waits for whom =====

#[tokio::test(start_paused = true)]
async fn requests_of_one_spelling_make_one_call_before_anything_is_learned() {
    let (cache, _, mut calls) = cache_with(CacheRoute::no_vary_search);
    let sent: Vec<_> = (0..50).map(|_| send(&cache, get("/cases/1?a=1&utm=1"))).collect();
    let call = calls.next().await;
    assert!(calls.all().await.is_empty());
    answer(call, NO_UTM);
    for sent in sent {
        assert_eq!(got(sent).await.text(), "/cases/1?a=1&utm=1");
    }
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_of_other_spellings_do_not_wait_for_what_nobody_has_declared() {
    let (cache, _, mut calls) = cache_with(CacheRoute::no_vary_search);
    let sent =
        ["/cases/1?utm=1", "/cases/1?utm=2"].map(|target| (target, send(&cache, get(target))));
    let all = calls.all().await;
    assert_eq!(all.len(), 2);
    all.into_iter().for_each(|call| answer(call, NO_UTM));
    for (target, sent) in sent {
        assert_eq!(got(sent).await.text(), target);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_all_spellings_make_one_call_once_it_is_learned() {
    let (cache, handle, mut calls) = cache_with(CacheRoute::no_vary_search);
    let first = send(&cache, get("/cases/1"));
    answer(calls.next().await, NO_UTM);
    got(first).await;
    handle.invalidate("case:1").await.unwrap();
    let sent: Vec<_> =
        (0..50).map(|utm| send(&cache, get(&format!("/cases/1?utm={utm}")))).collect();
    let call = calls.next().await;
    let led = call.head.uri.to_string();
    assert!(calls.all().await.is_empty());
    answer(call, NO_UTM);
    for sent in sent {
        assert_eq!(got(sent).await.text(), led);
    }
    assert_eq!(calls.count(), 2);
}

/// They wait by what was learned; the response that they wait for declares something else.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_a_response_that_declares_less_ask_for_their_own() {
    let other: &[(&str, &str)] = &[(FIELD, r#"params=("x")"#)];
    for fields in [&[][..], other] {
        let (cache, handle, mut calls) = cache_with(CacheRoute::no_vary_search);
        let first = send(&cache, get("/cases/1"));
        answer(calls.next().await, NO_UTM);
        got(first).await;
        handle.invalidate("case:1").await.unwrap();
        let targets = ["/cases/1?utm=1", "/cases/1?utm=2", "/cases/1?utm=2", "/cases/1?utm=1"];
        let sent = targets.map(|target| (target, send(&cache, get(target))));
        answer(calls.next().await, fields);
        for call in calls.all().await {
            answer(call, fields);
        }
        for (target, sent) in sent {
            assert_eq!(got(sent).await.text(), target);
        }
        assert_eq!(calls.count(), 3, "{fields:?}");
    }
}

// ===== beside other settings =====

#[tokio::test(start_paused = true)]
async fn every_form_of_a_path_is_invalidated_by_its_key() {
    let (cache, handle, calls) = cache_with(CacheRoute::no_vary_search);
    let count = calls.serve(|_| response(200, NO_UTM, "x"));
    let ask = async || {
        let targets = ["/cases/1", "/cases/1?a=1&utm=1", "/cases/1?a=2"];
        let mut hits = Vec::new();
        for target in targets {
            hits.push(fetch(&cache, target).await.is_hit());
        }
        hits
    };
    assert_eq!(ask().await, [false; 3]);
    assert_eq!(ask().await, [true; 3]);
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(ask().await, [false; 3]);
    got(send(&cache, request(Method::POST, "/cases/1/comments"))).await;
    assert_eq!(ask().await, [false; 3]);
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 10);
}

#[tokio::test(start_paused = true)]
async fn keys_and_tags_of_the_query_tell_requests_apart_all_the_same() {
    let targets = ["/cases/1?utm=1", "/cases/1?utm=2", "/cases/1?utm=1&x"];
    let keyed = |route: CacheRoute| {
        route.no_vary_search().tag_with(|request| Some(format!("t:{}", request.uri().query()?)))
    };
    assert_eq!(bodies(keyed, |_| "except=()", &targets).await, targets);
}

#[tokio::test(start_paused = true)]
async fn it_says_more_of_what_the_route_leaves_of_the_query() {
    let policy = QueryPolicy::AllBut(vec!["utm".to_owned()]);
    let route = |route: CacheRoute| route.no_vary_search().query_policy(policy);
    let targets = ["/cases/1?utm=1&a=1&b=1", "/cases/1?utm=2&a=2&b=1", "/cases/1?a=1&b=2"];
    let found = bodies(route, |_| r#"params=("a")"#, &targets).await;
    assert_eq!(found, [targets[0], targets[0], targets[2]]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_means_the_same_forgets_nothing() {
    let (cache, handle, mut calls) = cache_with(CacheRoute::no_vary_search);
    let first = send(&cache, get("/cases/1?utm=1"));
    answer(calls.next().await, NO_UTM);
    got(first).await;
    let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}");
    handle.reload(Routes::new().cache(route.ttl(2 * TTL).no_vary_search())).unwrap();
    assert!(fetch(&cache, "/cases/1?utm=2").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_is_refreshed_for_all_its_spellings() {
    let window = Duration::from_secs(60);
    let (cache, _, mut calls) =
        cache_with(|route| route.no_vary_search().stale_while_revalidate(window));
    let first = send(&cache, get("/cases/1?utm=1"));
    answer(calls.next().await, NO_UTM);
    got(first).await;
    advance(TTL + Duration::from_secs(1)).await;
    for utm in [2, 3] {
        assert!(fetch(&cache, &format!("/cases/1?utm={utm}")).await.is_hit());
    }
    answer(calls.next().await, NO_UTM);
    settle().await;
    assert_eq!(fetch(&cache, "/cases/1?utm=4").await.text(), "/cases/1?utm=2");
    assert_eq!(calls.count(), 2);
}

/// Nothing was learned from what is refused, so it is looked for by the query as it was sent.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_remembered_where_it_is_looked_for() {
    let (cache, _, mut calls) = cache_with(|route| route.no_vary_search().body_limit(1));
    let first = send(&cache, get("/cases/1?utm=1"));
    answer(calls.next().await, NO_UTM);
    got(first).await;
    let sent: Vec<_> = (0..5).map(|_| send(&cache, get("/cases/1?utm=1"))).collect();
    let all = calls.all().await;
    assert_eq!(all.len(), 5, "nobody waits");
    all.into_iter().for_each(|call| answer(call, NO_UTM));
    for sent in sent {
        got(sent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn layers_on_one_store_agree_only_if_both_honour_it() {
    let store = MemoryStore::new();
    let (honours, _, calls) = cache_on(store.clone(), CacheRoute::no_vary_search);
    calls.serve(|_| response(200, NO_UTM, "x"));
    let (too, _, calls) = cache_on(store.clone(), CacheRoute::no_vary_search);
    let learned = calls.serve(|_| response(200, NO_UTM, "y"));
    let (not, _, calls) = cache_on(store, |route| route);
    calls.serve(|_| response(200, NO_UTM, "z"));
    assert_eq!(fetch(&honours, "/cases/1?utm=1").await.text(), "x");
    assert_eq!(fetch(&not, "/cases/1?utm=1").await.text(), "z");
    // It has learned nothing yet, so it asks once for the path.
    assert_eq!(fetch(&too, "/cases/1?utm=2").await.text(), "y");
    assert_eq!(fetch(&honours, "/cases/1?utm=3").await.text(), "y");
    assert_eq!(fetch(&too, "/cases/1?utm=4").await.text(), "y");
    assert_eq!(learned.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// What axum puts into the requests of a nested router.
#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn inside_a_nest_queries_are_the_same_unless_a_layer_has_changed_them() {
    use axum::extract::OriginalUri;

    let (cache, _, calls) = cache_with(CacheRoute::no_vary_search);
    calls.serve(|head| {
        let target: &'static str = head.uri.to_string().leak();
        response(200, NO_UTM, target)
    });
    let ask = async |cache: &Cached, original: &str, seen: &str| {
        let mut request = get(seen);
        request.extensions_mut().insert(OriginalUri(original.parse().unwrap()));
        got(send(cache, request)).await.text().to_owned()
    };
    for (original, seen, expected) in [
        ("/api/cases/1?utm=1", "/cases/1?utm=1", "/cases/1?utm=1"),
        ("/api/cases/1?utm=2", "/cases/1?utm=2", "/cases/1?utm=1"),
        ("/api/cases/1?utm=3", "/cases/1?mine=3", "/cases/1?mine=3"),
        ("/api/cases/1?utm=3", "/cases/1?mine=4", "/cases/1?mine=4"),
    ] {
        assert_eq!(ask(&cache, original, seen).await, expected, "{original} as {seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_learned_of_one_host_says_nothing_of_another() {
    let (cache, _, mut calls) = cache_with(CacheRoute::no_vary_search);
    for host in ["a.example", "b.example"] {
        let first = send(&cache, with(get("/cases/1?utm=1"), "host", host));
        calls.next().await.respond(response(200, NO_UTM, host));
        assert_eq!(got(first).await.text(), host);
    }
    for host in ["a.example", "b.example"] {
        let hit = got(send(&cache, with(get("/cases/1?utm=2"), "host", host))).await;
        assert_eq!((hit.text(), hit.is_hit()), (host, true));
    }
}

/// The body is on its way when others come, and what it declares is not learned before it is stored.
#[tokio::test(start_paused = true)]
async fn requests_that_come_while_a_body_streams_share_it() {
    let (cache, _, mut calls) = cache_with(CacheRoute::no_vary_search);
    let first = send(&cache, get("/cases/1?utm=1"));
    let (body, gate) = GatedBody::gated(Some(2));
    let mut streaming = response(200, NO_UTM, "");
    *streaming.body_mut() = body;
    calls.next().await.respond(streaming);
    gate.send("o");
    let second = send(&cache, get("/cases/1?utm=1"));
    assert!(calls.all().await.is_empty());
    gate.send("k");
    gate.end();
    for sent in [first, second] {
        assert_eq!(got(sent).await.text(), "ok");
    }
    assert!(fetch(&cache, "/cases/1?utm=2").await.is_hit());
    assert_eq!(calls.count(), 1);
}
