//! The example `reverse_proxy`, between a client and an origin on this machine.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

#[path = "../../examples/reverse_proxy/src/proxy.rs"]
mod proxy;

/// A client of a proxy in front of an origin.
struct Site {
    client: Client<HttpConnector, Empty<Bytes>>,
    proxy: String,
    calls: Arc<AtomicUsize>,
}

struct Got {
    status: StatusCode,
    cache_status: String,
    text: String,
}

impl Site {
    async fn start() -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::clone(&calls)));
        Self::before(&format!("http://{origin}"), calls).await
    }

    async fn before(origin: &str, calls: Arc<AtomicUsize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let origin: Uri = origin.parse().unwrap();
        tokio::spawn(async move { drop(proxy::serve(listener, &origin).await) });
        Self { client: Client::builder(TokioExecutor::new()).build_http(), proxy, calls }
    }

    async fn ask(&self, method: Method, target: &str, fields: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.proxy));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let line = head.headers.get("cache-status").map_or("", |line| line.to_str().unwrap());
        let body = body.collect().await.unwrap().to_bytes();
        Got {
            status: head.status,
            cache_status: line.to_owned(),
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, target: &str) -> Got {
        self.ask(Method::GET, target, &[]).await
    }
}

/// Answers with the number of the call; the query is what the response says of its freshness.
async fn serve(listener: TcpListener, calls: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let calls = Arc::clone(&calls);
        let answer = move |request: Request<Incoming>| {
            let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
            let mut response = Response::builder().header("etag", "\"a\"");
            if let Some(line) = request.uri().query() {
                response = response.header("cache-control", line);
            }
            let is_known = request.headers().get("if-none-match").is_some_and(|tag| tag == "\"a\"");
            let response = match is_known {
                true => response.status(304).body(Full::<Bytes>::default()),
                false => response.body(Full::from(number.to_string())),
            };
            async { Ok::<_, Infallible>(response.unwrap()) }
        };
        let service = service_fn(answer);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

#[tokio::test]
async fn the_origin_says_what_is_reused() {
    let site = Site::start().await;
    // What says nothing is asked about each time, and here the origin knows it.
    assert_eq!(site.get("/").await.text, "1");
    let again = site.get("/").await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (200, "1"));
    assert_eq!(again.cache_status, "support-cache;fwd=stale;fwd-status=304;stored");
    assert_eq!(site.calls.load(Ordering::SeqCst), 2);

    assert_eq!(site.get("/page?max-age=60").await.text, "3");
    // As test suites ask.
    let fields = [("pragma", "foo"), ("cache-control", "nothing-to-see-here")];
    let hit = site.ask(Method::GET, "/page?max-age=60", &fields).await;
    assert!(hit.text == "3" && hit.cache_status.contains(";hit;ttl="), "{}", hit.cache_status);
    let part = site.ask(Method::GET, "/page?max-age=60", &[("range", "bytes=0-0")]).await;
    assert_eq!((part.status.as_u16(), part.text.as_str()), (206, "3"));

    site.ask(Method::POST, "/page", &[]).await;
    assert_eq!(site.get("/page?max-age=60").await.text, "5");

    assert_eq!(site.get("/private?max-age=60,private").await.text, "6");
    assert_eq!(site.get("/private?max-age=60,private").await.text, "7");
}

#[tokio::test]
async fn the_response_says_whether_credentials_matter() {
    let site = Site::start().await;
    for (target, is_hit) in [("/a?max-age=60", false), ("/b?s-maxage=60", true)] {
        let mut last = String::new();
        for caller in ["alice", "bob"] {
            let fields = [("authorization", caller), ("cookie", caller)];
            last = site.ask(Method::GET, target, &fields).await.cache_status;
        }
        assert_eq!(last.contains(";hit"), is_hit, "{last}");
    }
}

#[tokio::test]
async fn an_origin_that_is_not_there_is_a_502() {
    // Bound and dropped: nobody listens there now.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let site = Site::before(&format!("http://{nobody}"), Arc::default()).await;
    assert_eq!(site.get("/").await.status, 502);
}
