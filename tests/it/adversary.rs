//! What a hostile reviewer tried: interleavings, extremes and lies that no list of attacks names.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::AUTHORIZATION};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt};
use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};

use crate::support::{self, *};

fn asking(x: &str) -> http::Request<http_body_util::Empty<Bytes>> {
    with(get("/cases/1"), "x", x)
}

// ===== privacy =====

/// Trailers are not stored, so they are not shared either.
#[tokio::test(start_paused = true)]
async fn trailers_are_the_leaders_own() {
    let (cache, _, mut calls) = cache();
    let leader = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(Some(4));
    settle().await;
    let follower = send(&cache, get("/cases/1"));
    settle().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("set-cookie", "session=alice".parse().unwrap());
    gate.send("body");
    gate.trailers(trailers);
    gate.end();
    assert!(got(leader).await.trailers.is_some());
    let follower = got(follower).await;
    assert!(follower.cache_status().contains("collapsed"), "{}", follower.cache_status());
    assert_eq!((follower.text(), &follower.trailers), ("body", &None));
}

/// What a layer in between made of the scheme is seen by the handler, so it tells responses apart.
#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_scheme_that_is_rewritten_after_the_original_was_noted_tells_responses_apart() {
    use axum::extract::OriginalUri;

    let (cache, _, calls) = cache();
    calls.serve(|head| match head.uri.scheme_str() {
        Some("https") => response(200, &[], "secret"),
        _ => response(200, &[], "go to https"),
    });
    let seen = |uri: &str| {
        let mut request = get(uri);
        request.extensions_mut().insert(OriginalUri("/cases/1".parse().unwrap()));
        request
    };
    assert_eq!(got(send(&cache, seen("https://h/cases/1"))).await.text(), "secret");
    assert_eq!(got(send(&cache, seen("http://h/cases/1"))).await.text(), "go to https");
}

/// Layers that disagree on what a credential is share no responses: what one stored without asking
/// may be what the other protects.
#[tokio::test(start_paused = true)]
async fn layers_with_other_credential_fields_share_nothing() {
    let store = MemoryStore::new();
    let build = |fields: Option<Vec<HeaderName>>| {
        let builder = SupportCacheLayer::builder(store.clone())
            .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL));
        let builder = match fields {
            Some(fields) => builder.credential_fields(fields),
            None => builder,
        };
        let (origin, calls) = origin();
        calls.serve(|head| match head.headers.get(AUTHORIZATION) {
            Some(_) => response(200, &[], "alice's"),
            None => response(200, &[], "anybody's"),
        });
        builder.build().unwrap().layer(origin)
    };
    let (careless, careful) = (build(Some(vec![])), build(None));
    got(send(&careless, with(get("/cases/1"), "authorization", "alice"))).await;
    assert_eq!(fetch(&careful, "/cases/1").await.text(), "anybody's");
}

// ===== extremes of HTTP =====

/// As many fields as a map can hold, in as many lines: the cache does not fail the request.
#[tokio::test(start_paused = true)]
async fn a_head_as_large_as_can_be_passes() {
    for (names, lines) in [(1, 30_000), (24_576, 1), (24_575, 1), (20_000, 1)] {
        let (cache, _, mut calls) = cache();
        let sent = send(&cache, get("/cases/1"));
        let mut answer = Response::new(GatedBody::full("body"));
        for name in 0..names {
            let name = HeaderName::try_from(format!("x-{name}")).unwrap();
            for _ in 0..lines {
                answer.headers_mut().append(&name, HeaderValue::from_static("v"));
            }
        }
        calls.next().await.respond(answer);
        assert_eq!(got(sent).await.text(), "body", "{names} names, {lines} lines");
    }
}

// ===== stores =====

#[tokio::test(start_paused = true)]
async fn what_is_replaced_was_not_evicted() {
    let (cache, handle, calls) = cache();
    calls.serve(|_| response(200, &[("vary", "x")], "body"));
    for x in ["1", "2", "3"] {
        got(send(&cache, asking(x))).await;
    }
    tokio::time::advance(TTL).await;
    got(send(&cache, asking("1"))).await;
    assert_eq!(handle.metrics().bucket("cases").unwrap().evicted, 0);
}

/// An entry that the eviction library does not take is not said to be stored.
#[tokio::test(start_paused = true)]
async fn what_is_stored_can_be_found() {
    for length in (14_000..16_384).step_by(32) {
        let store = MemoryStore::builder().capacity(16 * 1024).build().unwrap();
        let (cache, handle, calls) = cache_on(store, |route| route);
        calls.serve(move |_| Response::new(GatedBody::full(vec![b'x'; length])));
        fetch(&cache, "/cases/1").await;
        let stored = handle.metrics().bucket("cases").unwrap().stored == 1;
        assert_eq!(fetch(&cache, "/cases/1").await.is_hit(), stored, "{length} bytes");
    }
}

#[test]
fn any_capacity_builds() {
    for capacity in [1 << 40, 1 << 62, u64::MAX] {
        MemoryStore::builder().capacity(capacity).build().unwrap();
    }
}

// ===== writes =====

/// Layers on one store share what is stored, so they share what must not be.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_in_one_layer_is_in_force_for_the_others() {
    let store = MemoryStore::new();
    let (writer, _, mut writes) = cache_on(store.clone(), |route| route);
    let (reader, _, mut reads) = cache_on(store, |route| route);
    let write = send(&writer, request(http::Method::POST, "/cases/1/comments"));
    writes.next().await.fail();
    assert!(write.await.unwrap().is_err());
    // The origin has not committed yet.
    let old = send(&reader, get("/cases/1"));
    reads.next().await.ok("old");
    assert_eq!(got(old).await.text(), "old");
    // Now it has.
    let new = send(&reader, get("/cases/1"));
    settle().await;
    assert!(reads.now().await.is_some(), "answered from the store");
    new.abort();
}

// ===== recordings =====

/// A waker may poll at once what it wakes.
#[test]
fn a_waker_that_polls_at_once_does_not_deadlock() {
    type Polling = Box<dyn FnMut(&mut Context<'_>) -> bool + Send>;
    struct Inline(Mutex<Option<Polling>>);
    impl Wake for Inline {
        fn wake(self: Arc<Self>) {
            let taken = self.0.lock().unwrap().take();
            if let Some(mut poll) = taken {
                let waker = Waker::from(Arc::clone(&self));
                if !poll(&mut Context::from_waker(&waker)) {
                    *self.0.lock().unwrap() = Some(poll);
                }
            }
        }
    }
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (cache, _, mut calls) = cache();
            let call = tokio::spawn({
                let cache = cache.clone();
                async move { cache.oneshot(get("/cases/1")).await.unwrap() }
            });
            let gate = calls.next().await.stream(None);
            let mut body = Box::pin(call.await.unwrap().into_body());
            let inline = Arc::new(Inline(Mutex::new(None)));
            let mut seen = Vec::new();
            let done = done.clone();
            *inline.0.lock().unwrap() = Some(Box::new(move |cx| {
                loop {
                    match body.as_mut().poll_frame(cx) {
                        Poll::Pending => return false,
                        Poll::Ready(Some(frame)) => {
                            seen.extend_from_slice(&frame.unwrap().into_data().unwrap());
                        }
                        Poll::Ready(None) => {
                            done.send(seen.clone()).unwrap();
                            return true;
                        }
                    }
                }
            }));
            Waker::from(inline).wake_by_ref();
            gate.send("a");
            settle().await;
            gate.send("b");
            gate.end();
            settle().await;
        });
    });
    let read = finished.recv_timeout(Duration::from_secs(10));
    assert_eq!(read.expect("neither deadlock nor panic"), b"ab");
}

// ===== refusals =====

/// What one client can have refused is not forwarded for all others.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_variant_says_nothing_of_the_others() {
    let (cache, _, calls) = cache();
    calls.serve(|head| {
        let status = if head.headers["x"] == "bad" { 404 } else { 200 };
        response(status, &[("vary", "x")], "body")
    });
    for _ in 0..2 {
        assert!(got(send(&cache, asking("bad"))).await.cache_status().ends_with("detail=status"));
    }
    got(send(&cache, asking("good"))).await;
    assert!(got(send(&cache, asking("good"))).await.is_hit());
}

// ===== runtimes =====

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn a_write_that_is_lost_with_its_runtime_invalidates() {
    let (cache, handle, mut calls) = cache();
    let runtime = runtime();
    let write = runtime.block_on(async {
        let read = send(&cache, get("/cases/1"));
        calls.next().await.ok("old");
        got(read).await;
        send(&cache, request(http::Method::POST, "/cases/1/comments"));
        calls.next().await
    });
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 1);
    drop(runtime);
    assert!(!write.is_wanted());
    assert_eq!(handle.metrics().bucket("cases").unwrap().entries, 0);
}

#[test]
fn a_fill_that_is_lost_with_its_runtime_leaves_nothing_behind() {
    let (cache, handle, mut calls) = cache();
    for _ in 0..2 {
        let runtime = runtime();
        let gate = runtime.block_on(async {
            send(&cache, get("/cases/1"));
            let gate = calls.next().await.stream(Some(5));
            gate.send("ab");
            send(&cache, get("/cases/1"));
            settle().await;
            gate
        });
        assert_eq!(handle.metrics().flights, 1);
        drop(runtime);
        assert!(gate.is_abandoned());
        assert_eq!(handle.metrics().flights, 0);
    }
}

// ===== memory =====

/// A server's read buffer is shared by the frames that were cut from it.
#[tokio::test(start_paused = true)]
async fn tiny_chunks_do_not_keep_the_buffers_they_were_cut_from() {
    struct Buffer(Vec<u8>, Arc<()>);

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            let _ = &self.1;
            &self.0
        }
    }

    let (cache, _, mut calls) = cache();
    let reply = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    let gate = calls.next().await.stream(None);
    let _unread = reply.await.unwrap().unwrap();
    let alive = Arc::new(());
    for _ in 0..1000 {
        let buffer = Bytes::from_owner(Buffer(vec![b'x'; 8192], Arc::clone(&alive)));
        gate.send(buffer.slice(..1));
    }
    settle().await;
    assert!(Arc::strong_count(&alive) < 20, "{} buffers are alive", Arc::strong_count(&alive));
}

#[tokio::test(start_paused = true)]
async fn a_body_in_many_pieces_is_stored() {
    let (cache, handle, mut calls) = cache();
    let request = send(&cache, get("/cases/1"));
    let gate = calls.next().await.stream(None);
    settle().await;
    for _ in 0..20_000 {
        gate.send("x");
    }
    gate.end();
    assert_eq!(got(request).await.text().len(), 20_000);
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 1);
    assert_eq!(fetch(&cache, "/cases/1").await.text().len(), 20_000);
}

/// A body that is always ready and never comes to an end.
struct Endless {
    frame: fn() -> Frame<Bytes>,
    polls: Arc<AtomicUsize>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polls = self.polls.fetch_add(1, SeqCst);
        assert!(polls < 1_000_000, "the worker does nothing else any more");
        Poll::Ready(Some(Ok((self.frame)())))
    }
}

/// Frames without a byte are not worth a worker: neither before the head is sent nor after that.
#[tokio::test(start_paused = true)]
async fn a_body_of_endless_empty_frames_does_not_keep_its_worker() {
    let polls = Arc::new(AtomicUsize::new(0));
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL))
        .build()
        .unwrap();
    let cache = layer.layer(tower::service_fn({
        let polls = Arc::clone(&polls);
        move |_: http::Request<http_body_util::Empty<Bytes>>| {
            let frame: fn() -> Frame<Bytes> = || Frame::data(Bytes::new());
            let body = Endless { frame, polls: Arc::clone(&polls) };
            async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
        }
    }));
    let reply = cache.oneshot(get("/cases/1")).await.unwrap();
    assert!(polls.load(SeqCst) < 1000, "the head waits for so many: {}", polls.load(SeqCst));
    // Whatever reads on lets others run.
    let before = polls.load(SeqCst);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(polls.load(SeqCst) > before);
    drop(reply);
}

/// Trailers end a body: a server sends nothing after them, and asks for nothing.
#[tokio::test(start_paused = true)]
async fn trailers_are_the_end_of_a_body() {
    let polls = Arc::new(AtomicUsize::new(0));
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL))
        .build()
        .unwrap();
    let cache = layer.layer(tower::service_fn({
        let polls = Arc::clone(&polls);
        move |_: http::Request<http_body_util::Empty<Bytes>>| {
            let frame: fn() -> Frame<Bytes> = || Frame::trailers(HeaderMap::new());
            let body = Endless { frame, polls: Arc::clone(&polls) };
            async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
        }
    }));
    let reply = cache.clone().oneshot(get("/cases/1")).await.unwrap();
    let collected = reply.into_body().collect().await.unwrap();
    assert_eq!((collected.trailers().is_some(), polls.load(SeqCst)), (true, 1));
    // The same while others read along.
    let (cache, _, mut calls) = support::cache();
    let reply = tokio::spawn(cache.clone().oneshot(get("/cases/1")));
    let gate = calls.next().await.stream(None);
    let reply = reply.await.unwrap().unwrap();
    settle().await;
    gate.send("body");
    for _ in 0..100 {
        gate.trailers(HeaderMap::new());
    }
    settle().await;
    assert!(gate.is_abandoned());
    let read = support::read(reply).await;
    assert!(read.text() == "body" && read.trailers.is_some());
    assert!(fetch(&cache, "/cases/1").await.is_hit());
}

/// What is stored has its place in the store; the budget is for what is not yet.
#[tokio::test(start_paused = true)]
async fn who_reads_slowly_holds_no_budget_once_the_body_is_stored() {
    const LENGTH: usize = 7 * 1024 * 1024;
    let (cache, _, mut calls) = cache_with(|route| route.body_limit(LENGTH as u64));
    let mut slow = Vec::new();
    for n in 0..10 {
        let reply = tokio::spawn(cache.clone().oneshot(get(&format!("/cases/{n}"))));
        let gate = calls.next().await.stream(Some(LENGTH as u64));
        let reply = reply.await.unwrap().unwrap();
        assert!(reply.headers()["cache-status"].to_str().unwrap().ends_with("stored"), "{n}");
        for _ in 0..2 {
            gate.send(vec![n; LENGTH / 2]);
        }
        gate.end();
        settle().await;
        slow.push(reply);
    }
    for (n, reply) in slow.into_iter().enumerate() {
        assert_eq!(read(reply).await.body.unwrap(), vec![n as u8; LENGTH]);
    }
}
