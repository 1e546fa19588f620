//! Ends of requests: each is counted, in a counter of its own.

use http::{Method, Request};
use http_body_util::Empty;
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    BucketSnapshot, Bypass, CacheRoute, Freshness, InvalidateRoute, MemoryStore, Refusal, Snapshot,
    SupportCacheHandle, SupportCacheLayer,
};

use crate::support::{
    Call, GatedBody, TTL, cache, cache_with, get, got, request, response, send, settle, with,
};

fn counts(handle: &SupportCacheHandle) -> (Snapshot, BucketSnapshot) {
    let snapshot = handle.metrics();
    let bucket = snapshot.bucket("cases").unwrap().clone();
    (snapshot, bucket)
}

type Asked = fn() -> Request<Empty<bytes::Bytes>>;

/// Requests of each kind that is forwarded on a cached route.
const READS: [Asked; 4] = [
    || get("/cases/1"),
    || request(Method::HEAD, "/cases/1"),
    || with(get("/cases/1"), "range", "bytes=0-1"),
    || with(get("/cases/1"), "cookie", "a=b"),
];

#[tokio::test(start_paused = true)]
async fn a_read_whose_handler_panics_is_counted() {
    for asked in READS {
        let (cache, handle, mut calls) = cache();
        let request = send(&cache, asked());
        calls.next().await.panic();
        assert!(request.await.unwrap_err().is_panic());
        let (_, bucket) = counts(&handle);
        assert_eq!((bucket.panicked, bucket.failed), (1, 0), "{:?}", asked());
        let is_fill = asked().method() == Method::GET && asked().headers().is_empty();
        let refused = bucket.refused.get(&Refusal::Panicked).copied().unwrap_or_default();
        assert_eq!(refused, u64::from(is_fill), "{:?}", asked());
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_handler_fails_is_counted() {
    for asked in READS {
        let (cache, handle, mut calls) = cache();
        let request = send(&cache, asked());
        calls.next().await.fail();
        assert!(request.await.unwrap().is_err());
        let (_, bucket) = counts(&handle);
        assert_eq!((bucket.panicked, bucket.failed), (0, 1), "{:?}", asked());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_its_client_gives_up_is_no_panic() {
    for asked in READS {
        let (cache, handle, mut calls) = cache();
        let request = send(&cache, asked());
        let _never_answered = calls.next().await;
        request.abort();
        settle().await;
        let (_, bucket) = counts(&handle);
        assert_eq!((bucket.panicked, bucket.failed), (0, 0), "{:?}", asked());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_counted_at_its_first_poll_and_later() {
    for has_begun in [false, true] {
        let (cache, handle, mut calls) = cache();
        let request = send(&cache, get("/cases/1"));
        let (body, gate) = GatedBody::gated(None);
        let call = calls.next().await;
        if has_begun {
            call.respond(http::Response::new(body));
            settle().await;
            gate.panic();
        } else {
            gate.panic();
            call.respond(http::Response::new(body));
        }
        assert!(request.await.unwrap_err().is_panic());
        assert_eq!(counts(&handle).1.refused[&Refusal::Panicked], 1, "{has_begun}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_handler_panics_is_counted() {
    let (cache, handle, mut calls) = cache_with(|route| route.stale_while_revalidate(TTL));
    let first = send(&cache, get("/cases/1"));
    calls.next().await.ok("stored");
    got(first).await;
    tokio::time::advance(TTL).await;
    assert_eq!(got(send(&cache, get("/cases/1"))).await.text(), "stored");
    calls.next().await.panic();
    settle().await;
    assert_eq!(counts(&handle).1.panicked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_counted_by_its_end() {
    let ends: [(fn(Call), [u64; 3]); 3] = [
        (|call| call.ok("done"), [1, 0, 0]),
        (|call| call.fail(), [0, 1, 0]),
        (|call| call.panic(), [0, 0, 1]),
    ];
    for (end, expected) in ends {
        let (cache, handle, mut calls) = cache();
        let write = send(&cache, request(Method::POST, "/cases/1/comments"));
        end(calls.next().await);
        let _ = write.await;
        let (all, _) = counts(&handle);
        assert_eq!([all.writes, all.writes_failed, all.writes_panicked], expected);
        assert_eq!(all.invalidations, 1, "what is unknown may have changed something");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_no_rule_is_for_is_counted_apart() {
    let (cache, handle, calls) = cache();
    calls.serve(|_| response(200, &[], ""));
    for (method, target, is_unmatched) in [
        (Method::POST, "/elsewhere", true),
        (Method::DELETE, "/elsewhere", true),
        (Method::from_bytes(b"PURGE").unwrap(), "/cases/1/comments", true),
        (Method::POST, "/cases/1/comments", false),
        (Method::PUT, "/cases/1", false),
        (Method::GET, "/elsewhere", false),
        (Method::OPTIONS, "/cases/1", false),
        (Method::from_bytes(b"PROPFIND").unwrap(), "/cases/1", false),
    ] {
        let before = handle.metrics();
        got(send(&cache, request(method.clone(), target))).await;
        let after = handle.metrics();
        let unmatched = after.writes_unmatched - before.writes_unmatched;
        assert_eq!(unmatched, u64::from(is_unmatched), "{method} {target}");
    }
    assert_eq!((handle.metrics().writes, handle.metrics().writes_unmatched), (2, 3));
}

/// Each field that is for one client is a reason of its own.
#[tokio::test(start_paused = true)]
async fn a_refusal_names_its_field() {
    for (field, detail) in [
        ("set-cookie", "set-cookie"),
        ("set-cookie2", "set-cookie"),
        ("clear-site-data", "clear-site-data"),
        ("www-authenticate", "www-authenticate"),
        ("proxy-authenticate", "proxy-authenticate"),
        ("authentication-info", "authentication-info"),
    ] {
        for freshness in [Freshness::Fixed, Freshness::Origin] {
            let (cache, _, mut calls) = cache_with(|route| route.freshness(freshness));
            let request = send(&cache, get("/cases/1"));
            calls.next().await.with(200, (field, "x"), "");
            let said = got(request).await.cache_status().to_owned();
            assert!(said.ends_with(&format!(";detail={detail}")), "{field}: {said}");
        }
    }
}

/// A handler that panics before it returns a future, or when it is asked whether it is ready.
#[tokio::test]
async fn a_service_that_panics_at_once_is_counted() {
    #[derive(Clone)]
    struct Panics {
        when_asked: bool,
    }

    impl<Q> Service<Request<Q>> for Panics {
        type Response = http::Response<Empty<bytes::Bytes>>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            assert!(!self.when_asked, "the service panics, as the test asked");
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Q>) -> Self::Future {
            panic!("the service panics, as the test asked")
        }
    }

    for when_asked in [false, true] {
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(CacheRoute::get("/cases/{case}").bucket("cases").key("k").ttl(TTL))
            .invalidate(InvalidateRoute::post("/cases/{case}").key("k"))
            .build()
            .unwrap();
        let cache = layer.layer(Panics { when_asked });
        for asked in READS {
            let cache = cache.clone();
            let request = tokio::spawn(async move { cache.oneshot(asked()).await.map(drop) });
            assert!(request.await.unwrap_err().is_panic());
        }
        let write = tokio::spawn(cache.oneshot(request(Method::POST, "/cases/1")));
        assert!(write.await.unwrap_err().is_panic());
        let (all, bucket) = counts(&layer.handle());
        assert_eq!((all.writes_panicked, bucket.panicked), (1, READS.len() as u64));
        assert_eq!(bucket.bypassed.get(&Bypass::Credentials), None, "it was not answered");
    }
}
