//! Statuses, bodies and fields that must not be kept: `SEC-STAT-*`, `SEC-BODY-*`, `SEC-HOP-*`.

use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_support_cache::{Bypass, CacheRoute, MemoryStore, Refusal, SupportCacheLayer};

use super::{
    Site, numbered,
    support::{
        BodyGate, GatedBody, TTL, cache, cache_with, fetch, get, got, response, send, settle, with,
    },
    with_all,
};

#[tokio::test(start_paused = true)]
async fn sec_stat_1_an_error_that_one_request_provokes_answers_no_other() {
    let long = "x".repeat(20_000);
    for (field, value, status) in [
        ("x-oversized", long.as_str(), 431),
        ("x-oversized", &long, 400),
        ("x-meta", "\t", 400),
        ("x-http-method-override", "DELETE", 405),
        ("x-http-method", "POST", 404),
        ("x-forwarded-proto", "junk", 301),
        ("x-forwarded-port", "0", 503),
        ("transfer-encoding", "junk", 501),
    ] {
        let answer = move |head: &http::request::Parts| {
            response(if head.headers.contains_key(field) { status } else { 200 }, &[], "page")
        };
        let site = Site::new(|route| route, answer);
        assert_eq!(site.ask(with(get("/cases/1"), field, value)).await.status, status);
        assert_eq!(site.ask(get("/cases/1")).await.status, 200, "{field} {status}");
        assert_eq!(site.ask(with(get("/cases/2"), field, value)).await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn sec_stat_2_nothing_but_200_is_stored_by_default() {
    let others = [201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403]
        .into_iter()
        .chain([404, 405, 410, 414, 429, 451, 500, 501, 502, 503, 504, 599, 999]);
    for status in others {
        let site = Site::new(|route| route, move |_| response(status, &[], ""));
        for _ in 0..2 {
            assert!(!site.ask(get("/cases/1")).await.is_hit(), "{status}");
        }
        assert_eq!((site.calls(), site.counts().stored), (2, 0), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_stat_2_negative_responses_are_stored_for_a_time_of_their_own() {
    let second = std::time::Duration::from_secs(1);
    for (status, is_stored) in [(404, true), (410, true), (403, false), (500, false)] {
        let site =
            Site::new(|route| route.negative_ttl(second), move |_| response(status, &[], "none"));
        site.ask(get("/cases/1")).await;
        assert_eq!(site.ask(get("/cases/1")).await.is_hit(), is_stored, "{status}");
        tokio::time::advance(second).await;
        assert!(!site.ask(get("/cases/1")).await.is_hit(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_stat_2_what_is_no_whole_response_cannot_be_declared_storable() {
    for status in [100, 101, 206, 304, 401, 407, 500, 503] {
        let status = http::StatusCode::from_u16(status).unwrap();
        let route = CacheRoute::get("/a").key("a").ttl(TTL).statuses([status]);
        let built = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build();
        assert!(built.is_err(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_body_1_a_truncated_body_is_an_error_to_its_client_and_is_not_stored() {
    let cut: [(&str, fn(BodyGate)); 3] = [
        ("fails", |gate| gate.fail()),
        ("ends early", |gate| gate.end()),
        ("is too long", |gate| {
            gate.send("and more");
            gate.end();
        }),
    ];
    for (label, cut) in cut {
        for is_at_once in [true, false] {
            let (cache, handle, mut calls) = cache();
            let first = send(&cache, get("/cases/1"));
            let (body, gate) = GatedBody::gated(None);
            let call = calls.next().await;
            let head = Response::builder().header("content-length", "10").body(body).unwrap();
            if is_at_once {
                gate.send("half");
                cut(gate);
                call.respond(head);
            } else {
                call.respond(head);
                settle().await;
                gate.send("half");
                settle().await;
                cut(gate);
            }
            let first = got(first).await;
            // What ends with its length unmet is the server's to turn into an error.
            assert_eq!(first.fields["content-length"], "10");
            assert_eq!(first.body.is_err(), label == "fails", "{label}");
            assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0, "{label}");
            let next = send(&cache, get("/cases/1"));
            calls.next().await.ok("whole");
            assert_eq!(got(next).await.text(), "whole", "{label}, {is_at_once}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_body_2_a_body_over_the_limit_streams_through_and_is_not_kept() {
    const CHUNK: usize = 1000;
    let (cache, handle, mut calls) = cache_with(|route| route.body_limit(4 * CHUNK as u64));
    let reply = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    let gate = calls.next().await.stream(None);
    let mut body = reply.await.unwrap().unwrap().into_body();
    let mut length = 0;
    for _ in 0..100 {
        gate.send(vec![b'x'; CHUNK]);
        length += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    gate.end();
    assert!(body.frame().await.is_none());
    assert_eq!(length, 100 * CHUNK);
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.stored, counts.refused[&Refusal::TooLarge]), (0, 1));
    assert!(counts.bytes < CHUNK as u64, "only the note that there is nothing: {}", counts.bytes);
}

#[tokio::test(start_paused = true)]
async fn sec_body_3_a_coded_body_is_for_those_who_accept_its_coding() {
    for fields in
        [&[("content-encoding", "gzip")][..], &[("content-encoding", "br"), ("vary", "x")]]
    {
        let site = Site::new(|route| route, numbered(fields));
        let accepting = |coding| with(get("/cases/1"), "accept-encoding", coding);
        let mut texts = Vec::new();
        for request in [accepting("gzip, br"), get("/cases/1"), accepting("identity")] {
            texts.push(site.ask(request).await.text().to_owned());
        }
        assert_eq!(texts, ["1", "2", "3"], "{fields:?}");
        assert_eq!(site.ask(accepting("gzip, br")).await.text(), "1");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_body_4_trailers_become_no_fields() {
    for is_at_once in [true, false] {
        let (cache, _, mut calls) = cache();
        let first = send(&cache, get("/cases/1"));
        let (body, gate) = GatedBody::gated(None);
        let call = calls.next().await;
        let mut trailers = HeaderMap::new();
        trailers.insert("set-cookie", "sid=1".parse().unwrap());
        trailers.insert("x-role", "admin".parse().unwrap());
        let response = Response::builder().header("x-role", "user").body(body).unwrap();
        gate.send("body");
        if is_at_once {
            gate.trailers(trailers);
            gate.end();
            call.respond(response);
        } else {
            call.respond(response);
            settle().await;
            gate.trailers(trailers);
            gate.end();
        }
        assert_eq!(got(first).await.trailers.unwrap().len(), 2, "they pass through");
        let hit = fetch(&cache, "/cases/1").await;
        assert!(hit.is_hit() && hit.trailers.is_none(), "{hit:?}");
        assert_eq!(
            (hit.fields["x-role"].as_bytes(), hit.fields.get("set-cookie")),
            (&b"user"[..], None)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn sec_body_5_streams_and_upgrades_are_untouched() {
    let (cache, handle, mut calls) = cache();
    for media_type in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
        let reply = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
        let (body, gate) = GatedBody::gated(None);
        let stream = Response::builder().header("content-type", media_type).body(body).unwrap();
        calls.next().await.respond(stream);
        let mut body = reply.await.unwrap().unwrap().into_body();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            gate.send(event);
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), event);
        }
        gate.end();
        assert!(body.frame().await.is_none());
        assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0, "{media_type}");
    }
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    for _ in 0..2 {
        let upgrade = send(&cache, with_all(get("/cases/2"), &fields));
        let call = calls.next().await;
        assert_eq!(call.head.headers["upgrade"], "websocket");
        call.with(101, ("upgrade", "websocket"), "");
        let upgraded = got(upgrade).await;
        let said = "support-cache;fwd=bypass;fwd-status=101;detail=upgrade";
        assert_eq!((upgraded.status.as_u16(), upgraded.cache_status()), (101, said));
    }
    assert_eq!(handle.metrics().bucket("cases").unwrap().bypassed[&Bypass::Upgrade], 2);
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn sec_hop_1_what_belongs_to_the_connection_is_not_stored() {
    let fields = [
        ("connection", "close, X-Hop"),
        ("connection", "X-Other"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-end-to-end", "1"),
    ];
    let site = Site::new(|route| route, numbered(&fields));
    site.ask(get("/cases/1")).await;
    let hit = site.ask(get("/cases/1")).await;
    assert!(hit.is_hit());
    let mut names: Vec<_> = hit.fields.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["age", "cache-status", "x-end-to-end"]);
}

#[tokio::test(start_paused = true)]
async fn sec_hop_1_connection_removes_no_field_that_a_client_must_see() {
    let kept = [
        ("cache-control", "max-age=5"),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("content-length", "1"),
        ("content-security-policy", "default-src 'self'"),
        ("content-type", "text/plain"),
        ("date", "Sun, 22 Nov 2026 08:00:00 GMT"),
        ("etag", "\"1\""),
        ("expires", "0"),
        ("last-modified", "Sun, 22 Nov 2026 08:00:00 GMT"),
        ("vary", "accept"),
    ];
    for (name, value) in kept {
        let site = Site::new(|route| route, numbered(&[("connection", name), (name, value)]));
        site.ask(get("/cases/1")).await;
        let hit = site.ask(get("/cases/1")).await;
        assert!(hit.is_hit(), "{name}");
        assert_eq!(
            hit.fields.get(name).map(|value| value.as_bytes()),
            Some(value.as_bytes()),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn sec_hop_1_connection_hides_no_restriction() {
    for (name, value) in [("cache-control", "no-store"), ("set-cookie", "sid=1"), ("vary", "*")] {
        let site = Site::new(|route| route, numbered(&[("connection", name), (name, value)]));
        site.ask(get("/cases/1")).await;
        assert!(!site.ask(get("/cases/1")).await.is_hit(), "{name}");
    }
}
