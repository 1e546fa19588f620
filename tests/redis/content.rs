//! Reads with content (QUERY, and POST that reads) by processes on one server.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, ReadContent, RedisStore, SupportCacheHandle, SupportCacheLayer,
};

use crate::{
    patient,
    server::{PATIENCE, Server, until},
    support::{Calls, Got, Origin, TTL, origin, read},
};

/// A cache of reads with content, as one process has it.
struct Process {
    cache: ReadContent<Origin, RedisStore>,
    handle: SupportCacheHandle,
    calls: Calls,
}

impl Process {
    async fn on(server: &Server) -> Self {
        let graph = CacheRoute::post_read("/graph", |_, content| content.starts_with(b"read"));
        let layer = SupportCacheLayer::builder(patient(&server.url()).build().unwrap())
            .cache(CacheRoute::query("/search").key("search").ttl(TTL).jitter(0))
            .cache(graph.bucket("post").key("graph").ttl(TTL).jitter(0))
            .invalidate(InvalidateRoute::put("/cats").key("search"))
            .build()
            .unwrap();
        let (origin, calls) = origin();
        let process =
            Self { cache: layer.reading_content().layer(origin), handle: layer.handle(), calls };
        until(PATIENCE, "there is a link", async || {
            process.handle.invalidate("another").await.is_ok().then_some(())
        })
        .await;
        process
    }

    fn send(&self, request: Request<Full<Bytes>>) -> JoinHandle<Got> {
        let cache = self.cache.clone();
        tokio::spawn(async move { read(cache.oneshot(request).await.unwrap()).await })
    }

    /// Sends a request, which the origin is asked for and answers with `body`.
    async fn is_asked(&mut self, request: Request<Full<Bytes>>, body: &'static str) {
        let sent = self.send(request);
        self.calls.next().await.ok(body);
        assert_eq!(sent.await.unwrap().text(), body);
    }

    /// Asserts that a request is answered from the store.
    async fn hits(&self, request: Request<Full<Bytes>>, body: &str) {
        let got = self.send(request).await.unwrap();
        assert_eq!((got.text(), got.is_hit()), (body, true), "{}", got.cache_status());
    }
}

fn request(method: &str, target: &str, content: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(target);
    request.header("content-type", "text/plain").body(Full::from(content)).unwrap()
}

fn query(content: &'static str) -> Request<Full<Bytes>> {
    request("QUERY", "/search", content)
}

fn post(content: &'static str) -> Request<Full<Bytes>> {
    request("POST", "/graph", content)
}

#[tokio::test]
async fn equal_contents_are_one_fill_for_all_processes_and_others_never_are() {
    let server = Server::start().await;
    let (mut one, mut other) = (Process::on(&server).await, Process::on(&server).await);
    for of in [query, post] {
        let first = one.send(of("read cats"));
        let call = one.calls.next().await;
        let waiting: Vec<_> = (0..5).map(|_| other.send(of("read cats"))).collect();
        assert!(other.calls.now().await.is_none());
        // It is another question, and waits for nothing.
        other.is_asked(of("read dogs"), "dogs").await;
        call.ok("cats");
        assert_eq!(first.await.unwrap().text(), "cats");
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().text(), "cats");
        }
        one.hits(of("read dogs"), "dogs").await;
        other.hits(of("read cats"), "cats").await;
    }
    assert_eq!((one.calls.count(), other.calls.count()), (2, 2));
}

#[tokio::test]
async fn an_invalidation_by_one_process_reaches_what_others_have_asked() {
    let server = Server::start().await;
    let (mut one, mut other) = (Process::on(&server).await, Process::on(&server).await);
    for content in ["read cats", "read dogs"] {
        one.is_asked(query(content), "old").await;
        one.is_asked(post(content), "old").await;
    }
    other.hits(query("read dogs"), "old").await;
    other.handle.invalidate("search").await.unwrap();
    one.is_asked(query("read cats"), "new").await;
    one.is_asked(query("read dogs"), "new").await;
    other.hits(query("read dogs"), "new").await;
    other.hits(post("read dogs"), "old").await;
    // A POST that is no read is a write.
    other.is_asked(post("write"), "written").await;
    one.is_asked(post("read dogs"), "new").await;
    one.is_asked(request("PUT", "/cats", "x"), "written").await;
    other.is_asked(query("read cats"), "newer").await;
}

#[tokio::test]
async fn a_fill_that_an_invalidation_overtakes_is_no_answer_to_its_content() {
    let server = Server::start().await;
    let (mut one, mut other) = (Process::on(&server).await, Process::on(&server).await);
    let first = one.send(query("cats"));
    let call = one.calls.next().await;
    other.handle.invalidate("search").await.unwrap();
    call.ok("old");
    first.await.unwrap();
    other.is_asked(query("cats"), "new").await;
    one.hits(query("cats"), "new").await;
}

#[tokio::test]
async fn a_process_that_starts_later_finds_what_was_asked() {
    let server = Server::start().await;
    let mut one = Process::on(&server).await;
    one.is_asked(query("read cats"), "cats").await;
    one.is_asked(post("read dogs"), "dogs").await;
    drop(one);
    let mut later = Process::on(&server).await;
    later.hits(query("read cats"), "cats").await;
    later.hits(post("read dogs"), "dogs").await;
    later.is_asked(query("read dogs"), "other").await;
    later.is_asked(post("read cats"), "other").await;
}
