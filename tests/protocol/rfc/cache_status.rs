//! `Cache-Status` (RFC 9211): its grammar, its parameters, and their types.

use http::HeaderMap;
use sfv::{BareItem, Item, List, ListEntry, Parser};
use tower_support_cache::RequestDirectives;

use super::{
    row::{Answer, Row},
    support::{cache, cache_with, fetch, get, got, request, response, send, with},
};

const FORWARDS: [&str; 8] =
    ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"];

/// Checks that all lines are one list of what RFC 9211 knows, and that the last member is ours.
pub(crate) fn check(fields: &HeaderMap) -> Result<(), String> {
    let lines: Vec<_> = fields.get_all("cache-status").iter().collect();
    if lines.is_empty() {
        return Ok(());
    }
    let text = lines.iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join(", ");
    let list: List = Parser::new(&text).parse().map_err(|error| format!("{text}: {error}"))?;
    let Some(ListEntry::Item(ours)) = list.last() else { return Err(text) };
    check_member(ours).map_err(|fault| format!("`{text}`: {fault}"))
}

fn check_member(member: &Item) -> Result<(), String> {
    if !matches!(&member.bare_item, BareItem::Token(name) if name.as_str() == "support-cache") {
        return Err("a cache is named by a token".to_owned());
    }
    let is_there = |name: &str| member.params.keys().any(|key| key.as_str() == name);
    if is_there("hit") == is_there("fwd") {
        return Err("either `hit` or `fwd`".to_owned());
    }
    for (name, value) in &member.params {
        let is_of_its_type = match (name.as_str(), value) {
            ("hit", BareItem::Boolean(is_hit)) => *is_hit,
            ("stored" | "collapsed", BareItem::Boolean(_)) => is_there("fwd"),
            ("fwd", BareItem::Token(why)) => FORWARDS.contains(&why.as_str()),
            ("fwd-status", BareItem::Integer(status)) => {
                is_there("fwd") && (100..1000).contains(&i64::from(*status))
            }
            ("ttl", BareItem::Integer(_)) | ("detail", BareItem::Token(_)) => true,
            _ => false,
        };
        if !is_of_its_type {
            return Err(format!("`{}` is not known as {value:?}", name.as_str()));
        }
    }
    Ok(())
}

#[test]
fn the_check_of_the_grammar_finds_what_is_wrong() {
    let verdict = |text: &str| {
        let mut fields = HeaderMap::new();
        fields.insert("cache-status", text.parse().unwrap());
        check(&fields).is_ok()
    };
    for text in [
        "support-cache;hit;ttl=-3",
        "\"inner\";hit, support-cache;fwd=stale;fwd-status=200;stored",
        "support-cache;fwd=uri-miss;collapsed=?0;detail=declined",
    ] {
        assert!(verdict(text), "{text}");
    }
    for text in [
        "support-cache",
        "other;hit",
        "support-cache;hit=1",
        "support-cache;hit=?0",
        "support-cache;hit;fwd=stale",
        "support-cache;fwd=elsewhere",
        "support-cache;fwd=\"stale\"",
        "support-cache;fwd=stale;fwd-status=x",
        "support-cache;hit;stored",
        "support-cache;hit;key=\"k\"",
        "support-cache;hit;ttl=1.5",
        "support-cache hit",
    ] {
        assert!(!verdict(text), "{text}");
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |answer| Row::new("3.7 grammar", "RFC 9211 §2", answer);
    let append = |answer| Row::new("3.7 appended", "RFC 9211 §2", answer);
    vec![
        row(Answer::Stored).age(7).says("support-cache;hit;ttl=53"),
        row(Answer::Forwarded).age(60).says("support-cache;fwd=stale;fwd-status=200;stored"),
        row(Answer::Forwarded)
            .stored(&[("vary", "accept")])
            .request(&[("accept", "text/plain")])
            .says("support-cache;fwd=vary-miss;fwd-status=200;stored"),
        row(Answer::Forwarded)
            .route(|route| route.request_directives(RequestDirectives::Honour))
            .request(&[("cache-control", "no-cache")])
            .says("support-cache;fwd=request;fwd-status=200;stored"),
        row(Answer::Forwarded)
            .request(&[("cookie", "a=b")])
            .says("support-cache;fwd=bypass;fwd-status=200;detail=credentials"),
        row(Answer::Forwarded)
            .request(&[("if-match", "\"a\"")])
            .says("support-cache;fwd=bypass;fwd-status=200;detail=precondition"),
        row(Answer::Forwarded)
            .stored(&[("cache-control", "no-store")])
            .request(&[("range", "bytes=0-0")])
            .says("support-cache;fwd=uri-miss;fwd-status=200;detail=pass"),
        append(Answer::Stored)
            .stored(&[("cache-status", "inner;hit;ttl=5")])
            .has("cache-status", &["inner;hit;ttl=5", "support-cache;hit;ttl=59"]),
        append(Answer::Stored)
            .stored(&[("cache-status", "a;hit, b;fwd=stale"), ("cache-status", "\"c\";hit")])
            .has("cache-status", &["a;hit, b;fwd=stale", "\"c\";hit", "support-cache;hit;ttl=59"]),
    ]
}

#[tokio::test(start_paused = true)]
async fn cache_status_is_a_list_of_what_rfc_9211_knows() {
    super::row::check(rows()).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_says_that_it_was_forwarded_for_its_method() {
    let (cache, _, calls) = cache();
    calls.serve(|_| response(201, &[("cache-status", "inner;fwd=method")], ""));
    let written = got(send(&cache, request(http::Method::POST, "/cases/1/comments"))).await;
    check(&written.fields).unwrap();
    let lines = super::row::lines(&written.fields, "cache-status");
    assert_eq!(lines, ["inner;fwd=method", "support-cache;fwd=method;fwd-status=201"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_caches_own_has_no_cache_status() {
    let (cache, _, _calls) =
        cache_with(|route| route.request_directives(RequestDirectives::Honour));
    let request = with(get("/cases/1"), "cache-control", "only-if-cached");
    let own = got(send(&cache, request)).await;
    assert_eq!((own.status.as_u16(), own.cache_status()), (504, ""));
}

/// RFC 9211 §6: a key tells what others have asked for.
#[tokio::test(start_paused = true)]
async fn no_key_and_no_target_are_in_cache_status() {
    let (cache, _, calls) = cache();
    calls.serve(|_| response(200, &[], "x"));
    for _ in 0..2 {
        let got = fetch(&cache, "/cases/secret?q=hidden").await;
        assert!(!got.cache_status().contains("secret") && !got.cache_status().contains("hidden"));
    }
}
