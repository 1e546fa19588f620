//! What of the query counts (draft-ietf-httpbis-no-vary-search-10).

use http::Method;

use super::support::{cache_with, fetch, get, got, request, response, send, with};
use tower_support_cache::CacheRoute;

const FIELD: &str = "no-vary-search";

/// Whether the response to `stored`, which has this field, answers a request for `asked`.
async fn answers(field: &str, stored: &str, asked: &str) -> bool {
    let (cache, _, calls) = cache_with(CacheRoute::no_vary_search);
    let field = field.to_owned();
    calls.serve(move |_| response(200, &[(FIELD, &field)], "x"));
    fetch(&cache, stored).await;
    fetch(&cache, asked).await.is_hit()
}

/// Section 7: the target URIs match, or are equivalent modulo what the stored response declares (section 6).
#[tokio::test(start_paused = true)]
async fn a_stored_response_is_reused_for_an_equivalent_target() {
    for (field, stored, asked, is_hit) in [
        ("key-order", "/cases/1?a=1&b=2", "/cases/1?b=2&a=1", true),
        ("key-order", "/cases/1?a=1&a=2", "/cases/1?a=2&a=1", false),
        ("key-order", "/cases/1", "/cases/1?", true),
        ("key-order", "/cases/1?a=x", "/cases/1?%61=%78", true),
        ("key-order", "/cases/1?a=%f6", "/cases/1?a=%ef%bf%bd", true),
        ("key-order", "/cases/1?a=x&&&&", "/cases/1?a=x", true),
        ("key-order", "/cases/1?a=", "/cases/1?a", true),
        ("key-order", "/cases/1?a=%20", "/cases/1?a=+&", true),
        ("key-order", "/cases/1?a=%C3%A9", "/cases/1?a=e%CC%81", false),
        (r#"params=("a")"#, "/cases/1?a=1&b=2", "/cases/1?b=2", true),
        (r#"params=("a")"#, "/cases/1?b=1&c=2", "/cases/1?c=2&b=1", false),
        (r#"params=("a")"#, "/cases/1?a=1&b=2", "/cases/1?a=1&b=3", false),
        (r#"params=("%C3%A9+%E6%B0%97")"#, "/cases/1", "/cases/1?%C3%A9%20%E6%B0%97=3", true),
        (r#"except=("id")"#, "/cases/1?id=1&b=2", "/cases/1?c=3&id=1", true),
        (r#"except=("id")"#, "/cases/1?id=1", "/cases/1?id=2", false),
        ("except=()", "/cases/1?a=1", "/cases/1?b=2", true),
        ("except=()", "/cases/1", "/cases/2", false),
    ] {
        assert_eq!(answers(field, stored, asked).await, is_hit, "{field}: {stored}, {asked}");
        // The same target is always the same, whatever is declared.
        assert!(answers(field, stored, stored).await, "{field}: {stored}");
    }
}

/// Section 6, step 2: without a declaration even queries that read the same are different.
#[tokio::test(start_paused = true)]
async fn a_default_compares_queries_as_they_were_sent() {
    for field in ["", "params=()", "key-order=?0", "unknown-key"] {
        for (stored, asked) in [("/cases/1", "/cases/1?"), ("/cases/1?a=b&&&c", "/cases/1?a=b&c=")]
        {
            assert!(!answers(field, stored, asked).await, "{field}: {stored}, {asked}");
        }
        assert!(answers(field, "/cases/1?a", "/cases/1?a").await, "{field}");
    }
}

/// Sections 4 and 5.1: a field that breaks a rule of the draft is as good as none.
#[tokio::test(start_paused = true)]
async fn a_field_that_breaks_a_rule_declares_nothing() {
    for field in [
        r#"key-order="not a boolean""#,
        r#"params="not an inner list""#,
        "params=(not-a-string)",
        "params=?0",
        "params",
        r#"params, except=("x")"#,
        r#"params=("a"), except=("x")"#,
        "params=(), except=()",
        r#"except="not an inner list""#,
        "except=(not-a-string)",
        "except=?1",
        "(a)",
        r#"params=("a"),"#,
    ] {
        assert!(!answers(field, "/cases/1?a=1", "/cases/1?a=2").await, "{field}");
    }
}

/// Sections 4 and 5.1: entries of other names, and parameters, are ignored.
#[tokio::test(start_paused = true)]
async fn entries_without_a_meaning_are_ignored() {
    for field in [r#"new=("x"), params=("a")"#, r#"params=("a";b=1);c, key-order=?0;d, e"#] {
        assert!(answers(field, "/cases/1?a=1", "/cases/1?a=2").await, "{field}");
    }
}

/// Section 4: an intermediary must not insert, delete or change the field.
#[tokio::test(start_paused = true)]
async fn the_field_reaches_clients_as_the_origin_sent_it() {
    for field in [r#"params=("a"),  key-order"#, "broken,"] {
        let (cache, _, calls) = cache_with(CacheRoute::no_vary_search);
        calls.serve(move |_| response(200, &[(FIELD, field)], "x"));
        for target in ["/cases/1?a=1", "/cases/1?a=1", "/cases/1?a=2"] {
            let found = fetch(&cache, target).await;
            let lines: Vec<_> = found.fields.get_all(FIELD).iter().collect();
            assert_eq!(lines, [field], "{target}");
        }
    }
    let (cache, _, calls) = cache_with(CacheRoute::no_vary_search);
    calls.serve(|_| response(200, &[], "x"));
    for _ in 0..2 {
        assert!(!fetch(&cache, "/cases/1").await.fields.contains_key(FIELD));
    }
}

/// Section 7: invalidation is as without the field, and may reach equivalent targets. Here it does.
#[tokio::test(start_paused = true)]
async fn a_write_invalidates_the_equivalent_targets_too() {
    let (cache, _, calls) = cache_with(CacheRoute::no_vary_search);
    calls.serve(|_| response(200, &[(FIELD, r#"params=("a")"#)], "x"));
    fetch(&cache, "/cases/1?a=1").await;
    got(send(&cache, request(Method::POST, "/cases/1?a=3"))).await;
    assert!(!fetch(&cache, "/cases/1?a=1").await.is_hit());
    assert!(fetch(&cache, "/cases/1?a=2").await.is_hit());
}

/// Section 7: the field is in addition to `Vary`.
#[tokio::test(start_paused = true)]
async fn vary_tells_responses_apart_all_the_same() {
    let (cache, _, calls) = cache_with(CacheRoute::no_vary_search);
    calls.serve(|head| {
        let language = head.headers["accept-language"].to_str().unwrap();
        let body = if language == "de" { "Fall" } else { "case" };
        response(200, &[(FIELD, r#"params=("a")"#), ("vary", "accept-language")], body)
    });
    let ask = async |target: &str, language: &str| {
        let found = got(send(&cache, with(get(target), "accept-language", language))).await;
        (found.text().to_owned(), found.is_hit())
    };
    assert_eq!(ask("/cases/1?a=1", "de").await, ("Fall".to_owned(), false));
    assert_eq!(ask("/cases/1?a=2", "en").await, ("case".to_owned(), false));
    assert_eq!(ask("/cases/1?a=3", "de").await, ("Fall".to_owned(), true));
    assert_eq!(ask("/cases/1?a=4", "en").await, ("case".to_owned(), true));
    assert_eq!(ask("/cases/1?b=1", "en").await, ("case".to_owned(), false));
}

/// Section 7: of responses that declare different things, the last one says where to look.
#[tokio::test(start_paused = true)]
async fn the_last_declaration_is_followed() {
    let (cache, _, calls) = cache_with(CacheRoute::no_vary_search);
    calls.serve(|head| {
        let is_old = head.uri.query().is_some_and(|query| query.contains("old"));
        let field = if is_old { r#"params=("a")"# } else { r#"params=("b")"# };
        response(200, &[(FIELD, field)], "x")
    });
    fetch(&cache, "/cases/1?old").await;
    assert!(fetch(&cache, "/cases/1?old&a=1").await.is_hit());
    fetch(&cache, "/cases/1?new").await;
    assert!(fetch(&cache, "/cases/1?new&b=1").await.is_hit());
    assert!(!fetch(&cache, "/cases/1?new&a=1").await.is_hit());
}
