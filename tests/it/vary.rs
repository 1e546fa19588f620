//! Responses that differ by fields of the request: nobody gets what was made for other values.

use std::{sync::atomic::Ordering, time::Duration};

use http::{
    Method,
    header::{ACCEPT, ACCEPT_LANGUAGE},
};
use tokio::time::advance;
use tower_support_cache::{Coalescing, MemoryStore};

use crate::support::{
    Cached, Call, Calls, GatedBody, Got, Sent, cache, cache_on, cache_with, get, got, request,
    response, send, settle, with,
};

const DE: &str = "de";
const EN: &str = "en";

fn ask(cache: &Cached, language: &str) -> Sent {
    send(cache, with(get("/cases/1"), "accept-language", language))
}

async fn asked(cache: &Cached, language: &str) -> Got {
    got(ask(cache, language)).await
}

fn language(call: &Call) -> String {
    call.head.headers["accept-language"].to_str().unwrap().to_owned()
}

fn body(language: &str) -> &'static str {
    if language == DE { "Fall" } else { "case" }
}

/// Answers in the language that was asked for.
fn answer(call: Call, fields: &[(&str, &str)]) {
    let body = body(&language(&call));
    call.respond(response(200, fields, body));
}

const BY_LANGUAGE: &[(&str, &str)] = &[("vary", "Accept-Language")];

/// Sends `count` requests in each language, turn by turn.
fn burst(cache: &Cached, count: usize) -> Vec<(&'static str, Sent)> {
    (0..count).flat_map(|_| [(DE, ask(cache, DE)), (EN, ask(cache, EN))]).collect()
}

async fn each_has_its_own(requests: Vec<(&'static str, Sent)>) {
    for (language, request) in requests {
        assert_eq!(got(request).await.text(), body(language), "{language}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_in_two_languages_makes_two_calls() {
    let (cache, _, mut calls) = cache();
    let requests = burst(&cache, 100);
    let first = calls.next().await;
    assert!(calls.all().await.is_empty(), "nobody knows yet that languages differ");
    let known = language(&first);
    answer(first, BY_LANGUAGE);
    let second = calls.all().await;
    assert_eq!(second.len(), 1, "one call for the other language");
    assert_ne!(language(&second[0]), known);
    second.into_iter().for_each(|call| answer(call, BY_LANGUAGE));
    each_has_its_own(requests).await;
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_declared_field_is_told_apart_from_the_first_request_on() {
    let (cache, _, mut calls) = cache_with(|route| route.vary([ACCEPT_LANGUAGE]));
    let requests = burst(&cache, 10);
    let both = calls.all().await;
    assert_eq!(both.len(), 2, "one flight for each language");
    both.into_iter().for_each(|call| answer(call, &[]));
    each_has_its_own(requests).await;
    for language in [DE, EN] {
        let hit = asked(&cache, language).await;
        assert!(hit.is_hit() && hit.text() == body(language));
    }
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_declared_field_and_a_learned_one_go_together() {
    let (cache, _, calls) = cache_with(|route| route.vary([ACCEPT]));
    let count = calls.serve(|_| response(200, BY_LANGUAGE, "x"));
    for _ in 0..2 {
        for (accept, language) in [("a", DE), ("a", EN), ("b", DE), ("b", EN)] {
            let request =
                with(with(get("/cases/1"), "accept", accept), "accept-language", language);
            got(send(&cache, request)).await;
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn learned_names_are_used_by_the_next_request() {
    let (cache, handle, mut calls) = cache();
    for language in [DE, EN] {
        let request = ask(&cache, language);
        answer(calls.next().await, BY_LANGUAGE);
        got(request).await;
    }
    for language in [DE, EN, DE] {
        let hit = asked(&cache, language).await;
        assert_eq!((hit.text(), hit.cache_status()), (body(language), "support-cache;hit;ttl=60"));
    }
    let metrics = handle.metrics();
    let bucket = metrics.bucket("cases").unwrap();
    assert_eq!((bucket.hits, bucket.misses, calls.count()), (3, 2, 2));
}

/// A note that went with the first of its responses would take the others with it.
#[tokio::test(start_paused = true)]
async fn learned_names_live_as_long_as_any_response_that_needs_them() {
    let (cache, _, mut calls) = cache_with(|route| route.negative_ttl(Duration::from_secs(5)));
    let request = ask(&cache, EN);
    answer(calls.next().await, BY_LANGUAGE);
    got(request).await;
    let request = ask(&cache, DE);
    calls.next().await.with(404, BY_LANGUAGE[0], "");
    got(request).await;
    advance(Duration::from_secs(30)).await;
    let hit = ask(&cache, EN);
    assert!(calls.now().await.is_none(), "stored, and for 30 s more");
    assert!(got(hit).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn learned_names_live_on_with_the_next_response() {
    let (cache, _, mut calls) = cache();
    for round in 0..3 {
        let requests = burst(&cache, 2);
        let both = if round == 0 { vec![calls.next().await] } else { calls.all().await };
        both.into_iter().for_each(|call| answer(call, BY_LANGUAGE));
        calls.all().await.into_iter().for_each(|call| answer(call, BY_LANGUAGE));
        each_has_its_own(requests).await;
        advance(Duration::from_secs(40)).await;
        asked(&cache, EN).await;
        advance(Duration::from_secs(20)).await;
    }
    assert_eq!(calls.count(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_takes_all_variants_and_what_was_learned() {
    let (cache, handle, mut calls) = cache();
    let requests = burst(&cache, 1);
    answer(calls.next().await, BY_LANGUAGE);
    answer(calls.next().await, BY_LANGUAGE);
    each_has_its_own(requests).await;
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 3, "two, and the note");
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 0);
    let requests = burst(&cache, 1);
    let alone = calls.all().await;
    assert_eq!(alone.len(), 1, "nothing is known of languages any more");
    alone.into_iter().for_each(|call| call.ok("one for all"));
    for (_, request) in requests {
        assert_eq!(got(request).await.text(), "one for all");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_overtakes_a_variant_that_is_being_filled() {
    let (cache, handle, mut calls) = cache();
    let first = ask(&cache, EN);
    answer(calls.next().await, BY_LANGUAGE);
    got(first).await;
    let second = ask(&cache, DE);
    let call = calls.next().await;
    handle.invalidate("case:1").await.unwrap();
    answer(call, BY_LANGUAGE);
    assert_eq!(got(second).await.text(), "Fall");
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_remembered_for_its_variant_alone() {
    let (cache, _, mut calls) = cache();
    let first = ask(&cache, EN);
    answer(calls.next().await, BY_LANGUAGE);
    got(first).await;
    let refused = ask(&cache, DE);
    answer(calls.next().await, &[BY_LANGUAGE[0], ("cache-control", "no-store")]);
    got(refused).await;
    let requests = [ask(&cache, DE), ask(&cache, DE)];
    let own = calls.all().await;
    assert_eq!(own.len(), 2, "nobody waits for what was refused");
    let refused = [BY_LANGUAGE[0], ("cache-control", "no-store")];
    own.into_iter().for_each(|call| answer(call, &refused));
    for (request, detail) in requests.into_iter().zip(["no-store", "pass"]) {
        let own = got(request).await;
        assert!(own.cache_status().ends_with(&format!("detail={detail}")), "{own:?}");
    }
    assert!(asked(&cache, EN).await.is_hit());
    advance(Duration::from_secs(10)).await;
    let again = ask(&cache, DE);
    answer(calls.next().await, BY_LANGUAGE);
    assert_eq!(got(again).await.text(), "Fall");
    assert!(asked(&cache, DE).await.is_hit() && asked(&cache, EN).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_anything_is_known_holds_for_its_variant_and_then_is_forgotten() {
    let (cache, _, mut calls) = cache();
    let first = ask(&cache, EN);
    answer(calls.next().await, &[BY_LANGUAGE[0], ("cache-control", "private")]);
    got(first).await;
    let requests = burst(&cache, 2);
    let own = calls.all().await;
    assert_eq!(own.len(), 3, "each for the refused variant, one for the other");
    for call in own {
        let is_refused = language(&call) == EN;
        answer(
            call,
            &[BY_LANGUAGE[0], ("cache-control", if is_refused { "private" } else { "x" })],
        );
    }
    each_has_its_own(requests).await;
    advance(Duration::from_secs(10)).await;
    let requests = burst(&cache, 2);
    answer(calls.next().await, BY_LANGUAGE);
    each_has_its_own(requests).await;
    assert_eq!(calls.count(), 5);
}

/// SEC-BODY-3: a handler that compresses and does not say by what it chose.
#[tokio::test(start_paused = true)]
async fn a_content_coding_is_told_apart_without_vary() {
    let (cache, _, calls) = cache();
    let count = calls.serve(|head| match head.headers.get("accept-encoding") {
        Some(coding) if coding == "gzip" => response(200, &[("content-encoding", "gzip")], "gz"),
        _ => response(200, &[], "plain"),
    });
    let ask = |coding: Option<&str>| {
        let request = get("/cases/1");
        send(
            &cache,
            coding.into_iter().fold(request, |r, coding| with(r, "accept-encoding", coding)),
        )
    };
    assert_eq!(got(ask(Some("gzip"))).await.text(), "gz");
    assert_eq!(got(ask(None)).await.text(), "plain");
    assert_eq!(got(ask(Some("br"))).await.text(), "plain");
    for (coding, body) in [(Some("gzip"), "gz"), (None, "plain"), (Some("br"), "plain")] {
        let hit = got(ask(coding)).await;
        assert!(hit.is_hit() && hit.text() == body, "{coding:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

/// RFC 9111 §4.1: case and whitespace of a list of languages mean nothing.
#[tokio::test(start_paused = true)]
async fn spellings_of_one_list_share_a_response() {
    let (cache, _, calls) = cache();
    let count = calls.serve(|_| response(200, BY_LANGUAGE, "Fall"));
    assert!(!asked(&cache, "de-CH, en;q=0.5").await.is_hit());
    for same in ["de-CH,en;q=0.5", "DE-ch ,\ten; q=0.5"] {
        assert!(asked(&cache, same).await.is_hit(), "{same}");
    }
    assert!(!asked(&cache, "en;q=0.5, de-CH").await.is_hit(), "some readers prefer the first");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_codings_never_mixes_them() {
    let (cache, _, mut calls) = cache();
    let coded = |coding: &str| send(&cache, with(get("/cases/1"), "accept-encoding", coding));
    let (gzip, plain) = (coded("gzip"), coded("identity"));
    let call = calls.next().await;
    assert_eq!(call.head.headers["accept-encoding"], "gzip");
    call.with(200, ("content-encoding", "gzip"), "gz");
    assert_eq!(got(gzip).await.text(), "gz");
    calls.next().await.ok("plain");
    assert_eq!(got(plain).await.text(), "plain");
}

/// SEC-VARY-2: whether `y` matters depends on `x`.
#[tokio::test(start_paused = true)]
async fn names_add_up_where_responses_nominate_different_ones() {
    let (cache, _, calls) = cache();
    let count = calls.serve(|head| {
        let (x, y) = (head.headers.get("x"), head.headers.get("y"));
        let (vary, text) = match x {
            Some(_) => ("x", format!("{x:?}")),
            None => ("x, y", format!("{y:?}")),
        };
        http::Response::builder().header("vary", vary).body(GatedBody::full(text)).unwrap()
    });
    for round in 0..3 {
        for (x, y) in [(Some("1"), "a"), (None, "a"), (Some("2"), "b"), (None, "b")] {
            let request = with(get("/cases/1"), "y", y);
            let request = x.into_iter().fold(request, |request, x| with(request, "x", x));
            let answer = got(send(&cache, request)).await;
            assert_eq!(answer.text(), format!("Some({:?})", x.unwrap_or(y)));
            assert!(round < 2 || answer.is_hit(), "{x:?} {y} in round {round}");
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 5, "the first once more, by both names");
}

#[tokio::test(start_paused = true)]
async fn a_response_without_vary_does_not_undo_what_was_learned() {
    let (cache, _, mut calls) = cache();
    let first = ask(&cache, EN);
    answer(calls.next().await, BY_LANGUAGE);
    got(first).await;
    let second = ask(&cache, DE);
    answer(calls.next().await, &[]);
    assert_eq!(got(second).await.text(), "Fall");
    for language in [DE, EN] {
        let hit = asked(&cache, language).await;
        assert!(hit.is_hit() && hit.text() == body(language));
    }
}

async fn fill(cache: &Cached, calls: &mut Calls, language: &str) {
    let request = ask(cache, language);
    calls.next().await.with(200, BY_LANGUAGE[0], "x");
    got(request).await;
}

/// The note is one of the 256 that a key may have.
#[tokio::test(start_paused = true)]
async fn of_more_than_256_variants_the_oldest_goes() {
    let (cache, handle, mut calls) = cache();
    for number in 0..300 {
        fill(&cache, &mut calls, &format!("l{number}")).await;
        let entries = handle.metrics().bucket("cases").unwrap().entries;
        assert_eq!(entries, (number + 2).min(256), "after {number}");
        let hit = ask(&cache, &format!("l{number}"));
        assert!(calls.now().await.is_none(), "the newest is there: {number}");
        assert!(got(hit).await.is_hit());
    }
    for number in 45..300 {
        assert!(asked(&cache, &format!("l{number}")).await.is_hit(), "{number}");
    }
    let gone = ask(&cache, "l44");
    assert!(calls.now().await.is_some());
    gone.abort();
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 0, "all of them were listed");
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_again_is_no_longer_the_oldest() {
    let (cache, _, mut calls) = cache();
    fill(&cache, &mut calls, "first").await;
    advance(Duration::from_secs(59)).await;
    for number in 0..100 {
        fill(&cache, &mut calls, &format!("a{number}")).await;
    }
    advance(Duration::from_secs(1)).await;
    fill(&cache, &mut calls, "first").await;
    for number in 0..200 {
        fill(&cache, &mut calls, &format!("b{number}")).await;
    }
    let hit = ask(&cache, "first");
    assert!(calls.now().await.is_none());
    assert!(got(hit).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_small_store_stays_within_its_capacity_whatever_varies() {
    let store = MemoryStore::builder().capacity(64 * 1024).build().unwrap();
    let (cache, handle, calls) = cache_on(store, |route| route);
    calls.serve(|_| response(200, BY_LANGUAGE, "x"));
    for number in 0..2000 {
        asked(&cache, &format!("l{number}")).await;
        assert!(handle.metrics().bucket("cases").unwrap().bytes <= 64 * 1024);
    }
    handle.invalidate("case:1").await.unwrap();
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn streaming_followers_read_only_what_was_made_for_them() {
    let (cache, _, mut calls) = cache();
    let requests = burst(&cache, 3);
    let first = calls.next().await;
    settle().await;
    let is_german = language(&first) == DE;
    let (stream, gate) = GatedBody::gated(Some(4));
    first
        .respond(http::Response::builder().header("vary", "accept-language").body(stream).unwrap());
    let second = calls.all().await;
    assert_eq!(second.len(), 1, "the other language need not wait for the body");
    second.into_iter().for_each(|call| answer(call, BY_LANGUAGE));
    settle().await;
    let others = if is_german { EN } else { DE };
    let (own, rest): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|(language, _)| *language != others);
    each_has_its_own(rest.into_iter().filter(|(language, _)| *language == others).collect()).await;
    assert!(own.iter().all(|(_, request)| !request.is_finished()));
    gate.send(body(if is_german { DE } else { EN }));
    gate.end();
    each_has_its_own(own).await;
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_coalescing_each_language_has_its_own_too() {
    let (cache, _, mut calls) = cache_with(|route| route.coalescing(Coalescing::Off));
    let requests = burst(&cache, 3);
    let all = calls.all().await;
    assert_eq!(all.len(), 6);
    all.into_iter().rev().for_each(|call| answer(call, BY_LANGUAGE));
    each_has_its_own(requests).await;
    for language in [DE, EN] {
        let hit = asked(&cache, language).await;
        assert!(hit.is_hit() && hit.text() == body(language));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_rule_takes_all_variants_of_its_target() {
    let (cache, handle, mut calls) = cache();
    for language in [DE, EN] {
        fill(&cache, &mut calls, language).await;
    }
    let write = send(&cache, request(Method::PUT, "/cases/1"));
    calls.next().await.ok("");
    got(write).await;
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 0);
}
