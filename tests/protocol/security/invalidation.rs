//! Who can remove what: `SEC-INV-*`.

use http::Method;

use super::{
    Site, numbered,
    support::{GatedBody, get, request, response, with},
};

/// Reads are answered 200, writes with this status.
fn site(status: u16) -> Site {
    Site::new(
        |route| route,
        move |head| response(if head.method == Method::GET { 200 } else { status }, &[], "kept"),
    )
}

fn writes() -> [super::Asked; 3] {
    [
        request(Method::POST, "/cases/1/comments"),
        request(Method::POST, "/cases/1"),
        with(request(Method::DELETE, "/cases/1"), "authorization", "junk"),
    ]
}

#[tokio::test(start_paused = true)]
async fn sec_inv_1_a_write_that_is_refused_removes_nothing() {
    for status in [400, 401, 403, 404, 405, 409, 413, 422, 429, 431] {
        let site = site(status);
        site.ask(get("/cases/1")).await;
        for write in writes() {
            site.ask(write).await;
        }
        assert!(site.ask(get("/cases/1")).await.is_hit(), "{status}");
        assert_eq!(site.handle.metrics().invalidations, 0, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_inv_1_a_write_whose_outcome_is_unknown_removes_what_it_may_have_changed() {
    for status in [408, 499, 500, 503] {
        for write in writes() {
            let site = site(status);
            site.ask(get("/cases/1")).await;
            site.ask(write).await;
            assert!(!site.ask(get("/cases/1")).await.is_hit(), "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_inv_1_a_write_removes_no_location_at_another_origin() {
    for location in ["https://elsewhere.example/cases/2", "//elsewhere.example/cases/2"] {
        let site = Site::new(|route| route, numbered(&[("location", location)]));
        for target in ["/cases/1", "/cases/2"] {
            site.ask(get(target)).await;
        }
        site.ask(request(Method::POST, "/cases/1/comments")).await;
        assert!(site.ask(get("/cases/2")).await.is_hit(), "{location}");
        assert!(!site.ask(get("/cases/1")).await.is_hit(), "{location}");
    }
}

/// Reads are of a group that every response, and every request, claims to invalidate.
#[tokio::test(start_paused = true)]
async fn sec_inv_2_a_read_invalidates_no_group_and_neither_does_what_a_client_says() {
    let site = Site::new(
        |route| route,
        |head| {
            let fields = [("cache-groups", "\"g\""), ("cache-group-invalidation", "\"g\"")];
            let is_read = head.method == Method::GET || head.method == Method::HEAD;
            response(200, if is_read { &fields } else { &[] }, "kept")
        },
    );
    site.ask(get("/cases/1")).await;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        site.ask(request(method, "/cases/2")).await;
    }
    let claim = |request| with(request, "cache-group-invalidation", "\"g\"");
    site.ask(claim(get("/cases/3"))).await;
    site.ask(claim(request(Method::POST, "/cases/3/comments"))).await;
    assert!(site.ask(get("/cases/1")).await.is_hit());
    assert_eq!(site.handle.metrics().tag_invalidations, 0);
}

/// A write whose response names whatever its client wants, at any host.
#[tokio::test(start_paused = true)]
async fn sec_inv_4_a_group_reaches_no_other_origin_and_no_tag_of_a_route() {
    let site = Site::new(
        |route| route.tag("case:{case}"),
        |head| match head.headers.get("x-name") {
            Some(name) => {
                response(204, &[("cache-group-invalidation", name.to_str().unwrap())], "")
            }
            None => response(200, &[("cache-groups", "\"mine\"")], "kept"),
        },
    );
    let at = |request, host| with(request, "host", host);
    let victim = || at(get("/cases/1"), "victim.example");
    site.ask(victim()).await;
    for host in
        ["attacker.example", "victim.example.evil", "xvictim.example", "victim.example:1", ""]
    {
        let write = at(request(Method::POST, "/cases/9/comments"), host);
        site.ask(with(write, "x-name", "\"mine\"")).await;
        assert!(site.ask(victim()).await.is_hit(), "{host}");
    }
    for name in ["case:1", "tag:case:1", "group:case:1", "*", "mine*", "victim.example", "\\\"mine"]
    {
        let write = at(request(Method::POST, "/cases/9/comments"), "victim.example");
        site.ask(with(write, "x-name", &format!("\"{name}\""))).await;
        assert!(site.ask(victim()).await.is_hit(), "{name}");
    }
    let write = at(request(Method::POST, "/cases/9/comments"), "victim.example");
    site.ask(with(write, "x-name", "\"mine\"")).await;
    assert!(!site.ask(victim()).await.is_hit(), "its own origin may");
}

#[tokio::test(start_paused = true)]
async fn sec_inv_3_a_flood_of_invalidations_leaves_other_keys_and_holds_no_memory() {
    let site = site(204);
    site.ask(get("/cases/kept")).await;
    let before = site.counts();
    for number in 0..5_000 {
        site.ask(request(Method::POST, &format!("/cases/{number}/comments"))).await;
        site.handle.invalidate_tag(format!("tag-{number}")).await.unwrap();
    }
    assert_eq!(site.handle.metrics().invalidations, 5_000);
    assert!(site.ask(get("/cases/kept")).await.is_hit());
    let after = site.counts();
    assert_eq!((after.entries, after.bytes), (before.entries, before.bytes));
}

#[tokio::test(start_paused = true)]
async fn sec_inv_3_reads_among_a_flood_of_invalidations_are_never_stale() {
    let version = std::sync::atomic::AtomicUsize::new(0);
    let site = Site::new(
        |route| route,
        move |head| {
            let order = std::sync::atomic::Ordering::SeqCst;
            let is_read = head.method == Method::GET;
            let number =
                if is_read { version.load(order) } else { version.fetch_add(1, order) + 1 };
            http::Response::new(GatedBody::full(number.to_string()))
        },
    );
    for _ in 0..500 {
        let written = site.ask(request(Method::POST, "/cases/1/comments")).await;
        for _ in 0..2 {
            assert_eq!(site.ask(get("/cases/1")).await.text(), written.text());
        }
    }
    assert_eq!(site.counts().hits, 500);
}
