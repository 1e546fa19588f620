//! What only shows on a real connection: `SEC-DRAIN-*`, and bodies cut off or streamed over the
//! wire.

use std::{convert::Infallible, future::Future, net::SocketAddr, time::Duration};

use axum::{Router, extract::Path, routing::get as on_get};
use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, client, server};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower::{Layer, Service};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, SupportCacheHandle, SupportCacheLayer,
};

use super::support::{GatedBody, TTL};

/// Which protocol a test speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

fn layer() -> SupportCacheLayer<MemoryStore> {
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap()
}

/// Serves one connection after another.
async fn serve<S, B>(version: Version, service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (io, service) = (TokioIo::new(stream), TowerToHyperService::new(service.clone()));
            tokio::spawn(async move {
                match version {
                    Version::Http1 => {
                        let _ =
                            server::conn::http1::Builder::new().serve_connection(io, service).await;
                    }
                    Version::Http2 => {
                        let connection = server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = connection.serve_connection(io, service).await;
                    }
                }
            });
        }
    });
    address
}

/// An application whose handlers answer with their target and leave content unread.
async fn application() -> (SocketAddr, SupportCacheHandle) {
    let (app, handle) = router();
    (serve(Version::Http1, app).await, handle)
}

type App = <SupportCacheLayer<MemoryStore> as Layer<Router>>::Service;

fn router() -> (App, SupportCacheHandle) {
    let layer = layer();
    let case =
        |Path(case): Path<String>| async move { ([("etag", "\"1\"")], format!("case {case}")) };
    let routes = Router::new()
        .route("/cases/{case}", on_get(case))
        .route("/cases/{case}/comments", axum::routing::post(|| async { "commented" }))
        .fallback(|| async { "smuggled" });
    (layer.layer(routes), layer.handle())
}

/// Fails a test that would otherwise wait for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it hangs")
}

/// Sends all of `text` on one connection and reads until it is closed.
async fn converse(address: SocketAddr, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    soon(async {
        // A server that closes early may not take everything.
        let _ = stream.write_all(text).await;
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    String::from_utf8(answer).unwrap()
}

const LAST: &str = "GET /cases/2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn sec_drain_1_the_next_request_on_the_connection_parses() {
    let (address, handle) = application().await;
    let fill = "GET /cases/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    converse(address, fill.as_bytes()).await;
    let length = SMUGGLED.len();
    let content = format!("content-length: {length}\r\n\r\n{SMUGGLED}");
    let chunked =
        format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
    for (label, request, status) in [
        ("hit", "GET /cases/1 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 200),
        ("HEAD hit", "HEAD /cases/1 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 200),
        ("304", "GET /cases/1 HTTP/1.1\r\nhost: a\r\nif-none-match: \"1\"\r\n\r\n".to_owned(), 304),
        (
            "empty content",
            "GET /cases/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".to_owned(),
            200,
        ),
        ("GET with content", format!("GET /cases/1 HTTP/1.1\r\nhost: a\r\n{content}"), 200),
        ("GET with chunks", format!("GET /cases/1 HTTP/1.1\r\nhost: a\r\n{chunked}"), 200),
        ("HEAD with content", format!("HEAD /cases/1 HTTP/1.1\r\nhost: a\r\n{content}"), 200),
        ("write", format!("POST /cases/9/comments HTTP/1.1\r\nhost: a\r\n{content}"), 200),
        (
            "write with chunks",
            format!("POST /cases/9/comments HTTP/1.1\r\nhost: a\r\n{chunked}"),
            200,
        ),
    ] {
        let answer = converse(address, format!("{request}{LAST}").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{label}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{label}: {answer}");
        assert!(answer.ends_with("case 2") && !answer.contains("smuggled"), "{label}: {answer}");
    }
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!(counts.bypassed[&tower_support_cache::Bypass::Content], 3, "the rest were hits");
}

#[tokio::test]
async fn sec_drain_1_content_that_nobody_reads_is_never_a_request() {
    let (address, _) = application().await;
    let smuggled = SMUGGLED.repeat(20_000);
    for target in ["GET /cases/1", "POST /cases/1/comments", "GET /elsewhere"] {
        let length = smuggled.len();
        let head = format!("{target} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        let answer = converse(address, format!("{head}{smuggled}{LAST}").as_bytes()).await;
        // A server may close the connection instead of reading on.
        assert!(answer.matches("HTTP/1.1 ").count() <= 2, "{target}");
        assert!(answer.matches("smuggled").count() <= usize::from(target.ends_with("elsewhere")));
    }
}

#[tokio::test]
async fn sec_drain_1_streams_of_one_http_2_connection_stay_apart() {
    let (app, _) = router();
    let address = serve(Version::Http2, app).await;
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for (method, target, content, body) in [
        ("GET", "/cases/1", "", "case 1"),
        ("GET", "/cases/1", "content", "case 1"),
        ("HEAD", "/cases/1", "", ""),
        ("POST", "/cases/1/comments", "content", "commented"),
        ("GET", "/cases/2", "", "case 2"),
    ] {
        let request = Request::builder().method(method).uri(format!("http://a{target}"));
        let request = request.body(Full::new(Bytes::from_static(content.as_bytes()))).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        let received = soon(response.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(received, body, "{method} {target}");
    }
}

/// A server that gives each connection one of these answers, byte for byte, and closes it.
async fn raw_upstream(answers: Vec<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

/// The cache as a reverse proxy: hyper's client is what it wraps.
async fn proxy(version: Version, upstream: SocketAddr) -> (SocketAddr, SupportCacheHandle) {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .http2_only(version == Version::Http2)
        .build_http();
    let inner = tower::service_fn(move |request: Request<Incoming>| {
        let uri = format!("http://{upstream}{}", request.uri().path());
        client.request(Request::get(uri).body(Empty::new()).unwrap())
    });
    let layer = layer();
    (serve(Version::Http1, layer.layer(inner)).await, layer.handle())
}

/// Sends a request over HTTP/1.1 and returns the response as soon as its head is there.
async fn open(address: SocketAddr) -> Result<http::Response<Incoming>, hyper::Error> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/cases/1").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
    soon(sender.send_request(request)).await
}

/// Reads a response over HTTP/1.1: its whole body, or the error that ends it.
async fn fetch(address: SocketAddr) -> Result<String, hyper::Error> {
    let body = soon(open(address).await?.into_body().collect()).await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn sec_body_1_an_upstream_that_closes_early_is_an_error_and_not_a_shorter_success() {
    for truncated in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
    ] {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole";
        let upstream = raw_upstream(vec![truncated, whole]).await;
        let (address, handle) = proxy(Version::Http1, upstream).await;
        let cut = fetch(address).await;
        assert!(cut.is_err(), "{truncated:?} became {cut:?}");
        assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 0, "{truncated:?}");
        // The upstream is gone by the third time: the answer is the one that was stored.
        for _ in 0..2 {
            assert_eq!(fetch(address).await.unwrap(), "whole", "{truncated:?}");
        }
    }
}

#[tokio::test]
async fn sec_body_1_an_http_2_stream_that_is_reset_is_an_error_and_not_a_shorter_success() {
    let (sender, mut gates) = mpsc::unbounded_channel();
    let upstream = tower::service_fn(move |_: Request<Incoming>| {
        let (body, gate) = GatedBody::gated(None);
        sender.send(gate).unwrap();
        std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
    });
    let upstream = serve(Version::Http2, upstream).await;
    let (address, handle) = proxy(Version::Http2, upstream).await;
    for _ in 0..2 {
        let mut body = open(address).await.unwrap().into_body();
        let gate = gates.recv().await.unwrap();
        gate.send("half");
        assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "half");
        // hyper resets the stream of a body that fails.
        gate.fail();
        let end = soon(body.frame()).await;
        assert!(matches!(end, Some(Err(_))), "{end:?}");
    }
    let counts = handle.metrics().bucket("cases").unwrap().clone();
    assert_eq!((counts.stored, counts.hits, counts.misses), (0, 0, 2));
}

#[tokio::test]
async fn sec_body_5_an_event_arrives_when_it_is_sent() {
    for version in [Version::Http1, Version::Http2] {
        let (sender, mut gates) = mpsc::unbounded_channel();
        let handler = tower::service_fn(move |_: Request<Incoming>| {
            let (body, gate) = GatedBody::gated(None);
            sender.send(gate).unwrap();
            let response = http::Response::builder().header("content-type", "text/event-stream");
            std::future::ready(Ok::<_, Infallible>(response.body(body).unwrap()))
        });
        let layer = layer();
        let address = serve(version, layer.layer(handler)).await;
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let request =
            Request::get("http://a/cases/1").header("host", "a").body(Empty::<Bytes>::new());
        let request = request.unwrap();
        let response = match version {
            Version::Http1 => {
                let (mut sender, connection) = client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                soon(sender.send_request(request)).await.unwrap()
            }
            Version::Http2 => {
                let executor = TokioExecutor::new();
                let (mut sender, connection) =
                    client::conn::http2::handshake(executor, io).await.unwrap();
                tokio::spawn(connection);
                soon(sender.send_request(request)).await.unwrap()
            }
        };
        let gate = gates.recv().await.unwrap();
        let mut body = response.into_body();
        assert!(!body.is_end_stream());
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            gate.send(event);
            let frame = soon(body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event, "{version:?}");
        }
        assert_eq!(layer.handle().metrics().bucket("cases").unwrap().stored, 0);
    }
}
