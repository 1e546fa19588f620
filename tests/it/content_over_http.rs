//! Content of QUERY, and of POST that may read, over HTTP/1.1 and HTTP/2, as hyper reads it: the origin gets it as without the cache.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http2 as client,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
    time::timeout,
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};
use tower_support_cache::{CacheRoute, MemoryStore, ResponseBody, SupportCacheLayer};

use super::{
    content::{Hidden, Polled, data, trailers},
    content_reads::arrived,
};

const LIMIT: u64 = 64;

fn layer() -> SupportCacheLayer<MemoryStore> {
    let route = CacheRoute::query("/search").key("search").ttl(Duration::from_secs(60));
    let route = route.content_limit(LIMIT);
    let reads = CacheRoute::post_read("/search", |_, content| content.starts_with(b"cats"));
    let reads = reads.bucket("reads").key("reads").ttl(Duration::from_secs(60));
    let reads = reads.content_limit(LIMIT);
    SupportCacheLayer::builder(MemoryStore::new()).cache(route).cache(reads).build().unwrap()
}

type Served = BoxCloneService<Request<Incoming>, Response<String>, Infallible>;

/// What reached the origin, in order.
type Arrivals = mpsc::UnboundedReceiver<String>;

/// Service that answers with the content of its request, with the cache or without it.
fn site(is_cached: bool) -> (Served, Arrivals) {
    let (sender, arrivals) = mpsc::unbounded_channel();
    let service = match is_cached {
        true => {
            let service = layer()
                .reading_content()
                .layer(service_fn(move |request| answer(request, sender.clone())));
            let text = |response: Response<ResponseBody<String>>| async {
                let (head, body) = response.into_parts();
                let text = body.collect().await.unwrap().to_bytes();
                Ok(Response::from_parts(head, String::from_utf8(text.to_vec()).unwrap()))
            };
            BoxCloneService::new(service.and_then(text))
        }
        false => BoxCloneService::new(service_fn(move |request| answer(request, sender.clone()))),
    };
    (service, arrivals)
}

async fn answer<Q>(
    request: Request<Q>,
    sender: mpsc::UnboundedSender<String>,
) -> Result<Response<String>, Infallible>
where
    Q: Body<Data = Bytes, Error: std::fmt::Display>,
{
    let (head, body) = request.into_parts();
    let told = format!("{:?} {}", head.headers, arrived(body).await);
    let _ = sender.send(told.clone());
    Ok(Response::new(told))
}

/// What a client sends in turn: it waits for `100 Continue` before the rest if it expects that.
const BODIES: [(&str, &str, &str); 9] = [
    ("declared", "content-length: 4\r\n", "cats"),
    ("empty", "content-length: 0\r\n", ""),
    ("none", "", ""),
    ("chunked", "transfer-encoding: chunked\r\n", "2\r\nca\r\n2\r\nts\r\n0\r\n\r\n"),
    (
        "trailers",
        "transfer-encoding: chunked\r\ntrailer: x-a\r\n",
        "4\r\ncats\r\n0\r\nx-a: 1\r\n\r\n",
    ),
    ("compressed", "content-encoding: gzip\r\ncontent-length: 4\r\n", "\u{1f}\u{8}\0\u{1}"),
    ("expected", "expect: 100-continue\r\ncontent-length: 4\r\n", "cats"),
    ("long", "content-length: 70\r\n", LONG),
    ("long chunks", "transfer-encoding: chunked\r\n", LONG_CHUNKS),
];

const METHODS: [&str; 2] = ["QUERY", "POST"];

/// Returns what `Cache-Status` says about a body, which a POST shows to be a read or not.
fn expected(method: &str, label: &str, is_second: bool) -> &'static str {
    let is_read = !["empty", "none", "compressed"].contains(&label) && !label.starts_with("long");
    match (method, is_second) {
        ("POST", _) if !is_read => "fwd=method",
        _ if label.starts_with("long") => "detail=too-large",
        (_, false) => "stored",
        (_, true) => ";hit",
    }
}

const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789";
const LONG_CHUNKS: &str = "28\r\n0123456789012345678901234567890123456789\r\n\
                           1e\r\n012345678901234567890123456789\r\n0\r\nx-a: 1\r\n\r\n";

/// Begins a request over HTTP/1.1, and sends its head and the body as far as it goes.
async fn send_1(service: Served, method: &str, fields: &str, body: &str) -> DuplexStream {
    let (mut client, server) = duplex(16);
    tokio::spawn(async move {
        let service = TowerToHyperService::new(service);
        let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    });
    let head = format!(
        "{method} /search HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\nconnection: close\r\n{fields}\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    if fields.contains("expect") {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut got = vec![0; go_on.len()];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, go_on);
    }
    client.write_all(body.as_bytes()).await.unwrap();
    client
}

/// Sends a request over HTTP/1.1, and returns the head and the body of its response.
async fn ask_1(service: Served, method: &str, fields: &str, body: &str) -> (String, String) {
    let mut client = send_1(service, method, fields, body).await;
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn over_http_1_each_content_reaches_the_origin_as_without_the_cache() {
    for (method, (label, fields, body)) in METHODS.iter().flat_map(|of| BODIES.map(|to| (of, to))) {
        let (bare, _) = site(false);
        let (_, alone) = ask_1(bare, method, fields, body).await;
        let (cached, _) = site(true);
        for is_second in [false, true] {
            let (head, through) = ask_1(cached.clone(), method, fields, body).await;
            assert_eq!(through, alone, "{method} {label}");
            let expected = expected(method, label, is_second);
            assert!(head.contains(expected), "{method} {label}: {head}");
        }
    }
}

#[tokio::test]
async fn over_http_1_content_that_is_aborted_reaches_the_origin_as_without_the_cache() {
    let bodies = || BODIES.into_iter().filter(|(.., body)| body.len() > 2);
    for (method, (label, fields, body)) in
        METHODS.iter().flat_map(|of| bodies().map(move |to| (of, to)))
    {
        let mut told = Vec::new();
        for is_cached in [false, true] {
            let (service, mut arrivals) = site(is_cached);
            let client = send_1(service, method, fields, &body[..body.len() - 1]).await;
            drop(client);
            told.push(arrival(&mut arrivals).await);
        }
        assert_eq!(told[0], told[1], "{method} {label}");
    }
}

/// Returns what has reached the origin; `None` where hyper has dropped the handler.
async fn arrival(arrivals: &mut Arrivals) -> Option<String> {
    timeout(Duration::from_millis(300), arrivals.recv()).await.ok().flatten()
}

type Frames = Vec<Polled>;

/// Sends a request over HTTP/2, and returns the fields and the body of its response.
async fn ask_2(
    service: Served,
    method: &str,
    fields: &[(&str, &str)],
    frames: Frames,
) -> Option<(HeaderMap, Bytes)> {
    let (client, server) = duplex(1024);
    tokio::spawn(async move {
        let service = TowerToHyperService::new(service);
        let server = TokioIo::new(server);
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(server, service).await;
    });
    let (mut sender, connection) =
        client::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri("http://a/search");
    request = request.header("content-type", "text/plain");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let asked = sender.send_request(request.body(Hidden::of(frames)).unwrap());
    let response = timeout(Duration::from_millis(300), asked).await.ok()?.ok()?;
    let (head, body) = response.into_parts();
    Some((head.headers, body.collect().await.unwrap().to_bytes()))
}

#[tokio::test]
async fn over_http_2_each_content_reaches_the_origin_as_without_the_cache() {
    let bodies: [(&str, &[(&str, &str)], fn() -> Frames); 8] = [
        ("declared", &[("content-length", "4")], || vec![data("ca"), data("ts")]),
        ("undeclared", &[], || vec![data("cats")]),
        ("empty", &[], Vec::new),
        ("trailers", &[], || vec![data("cats"), trailers()]),
        ("compressed", &[("content-encoding", "gzip")], || vec![data("\u{1f}\0")]),
        ("expected", &[("expect", "100-continue")], || vec![data("cats")]),
        ("long", &[], || vec![data("cats"), data(LONG), trailers()]),
        ("aborted", &[], || vec![data("cats"), Err("reset")]),
    ];
    for (method, (label, fields, frames)) in METHODS.iter().flat_map(|of| bodies.map(|to| (of, to)))
    {
        let (bare, mut arrivals) = site(false);
        let alone = ask_2(bare, method, fields, frames()).await;
        let arrived = arrival(&mut arrivals).await;
        let (cached, mut arrivals) = site(true);
        for is_second in [false, true] {
            let through = ask_2(cached.clone(), method, fields, frames()).await;
            let text =
                |got: &Option<(HeaderMap, Bytes)>| got.as_ref().map(|(_, text)| text.clone());
            assert_eq!(text(&through), text(&alone), "{method} {label}");
            let expected = expected(method, label, is_second);
            if let Some((head, _)) = through {
                let said = head["cache-status"].to_str().unwrap();
                assert!(said.contains(expected), "{method} {label}: {said}");
            }
            if expected != ";hit" || label == "aborted" {
                assert_eq!(arrival(&mut arrivals).await, arrived, "{method} {label}");
            }
        }
    }
}
