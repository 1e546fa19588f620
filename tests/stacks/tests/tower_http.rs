//! Each layer of tower-http that goes with the cache in one `ServiceBuilder`, around it and within it:
//! it compiles, and the cache works.

#![allow(clippy::unwrap_used)] // Clippy sees no test in a function that tests share.

use std::{
    convert::Infallible,
    fmt::Debug,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use flate2::read::GzEncoder;
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    decompression::{DecompressionLayer, RequestDecompressionLayer},
    limit::RequestBodyLimitLayer,
    normalize_path::NormalizePathLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveHeadersLayer,
    services::ServeDir,
    set_header::SetResponseHeaderLayer,
    timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
    validate_request::ValidateRequestHeaderLayer,
};
use tower_support_cache::{
    Bypass, CacheRoute, InvalidateRoute, MemoryStore, PeekContentLayer, SupportCacheLayer,
};

const MINUTE: Duration = Duration::from_secs(60);

fn cache() -> SupportCacheLayer<MemoryStore> {
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(MINUTE))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap()
}

/// Service that answers with the number of the call, in a body that is worth compressing, and with the
/// content of the request.
fn numbered<Q>()
-> impl Service<Request<Q>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static
where
    Q: Body<Error: Debug> + Send + 'static,
    Q::Data: Send,
{
    let count = Arc::new(AtomicUsize::new(0));
    tower::service_fn(move |request: Request<Q>| {
        let call = count.fetch_add(1, Ordering::SeqCst);
        async move {
            let (head, body) = request.into_parts();
            assert!(head.uri.path() != "/panic", "the handler panics, as the test asked");
            let content = body.collect().await.unwrap().to_bytes();
            let text = format!("{call} {} {}", String::from_utf8_lossy(&content), "x".repeat(100));
            Ok(Response::new(Full::from(text)))
        }
    })
}

struct Got {
    status: StatusCode,
    cache_status: String,
    text: String,
}

impl Got {
    fn is_hit(&self) -> bool {
        self.cache_status.contains(";hit")
    }
}

async fn ask<S, B>(service: &S, request: Request<Full<Bytes>>) -> Got
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug> + Clone,
    B: Body<Error: Debug>,
{
    let response = service.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let cache_status = head.headers.get("cache-status").map(|said| said.to_str().unwrap());
    let cache_status = cache_status.unwrap_or_default().to_owned();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Got { status: head.status, cache_status, text }
}

fn request(method: Method, target: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(target).body(Full::default()).unwrap()
}

/// Checks that a second GET is a hit, that a write invalidates, and that all frames arrive.
async fn assert_caches<S, B>(service: S)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug> + Clone,
    B: Body<Error: Debug>,
{
    let get = || request(Method::GET, "/cases/1");
    for (is_hit, call) in [(false, "0 "), (true, "0 ")] {
        let got = ask(&service, get()).await;
        assert_eq!((got.status, got.is_hit()), (StatusCode::OK, is_hit), "{}", got.cache_status);
        assert!(got.text.starts_with(call) && got.text.ends_with("xxx"), "{}", got.text);
    }
    assert!(ask(&service, request(Method::HEAD, "/cases/1")).await.is_hit());
    let write = ask(&service, request(Method::POST, "/cases/1/comments")).await;
    assert_eq!(write.status, StatusCode::OK);
    let got = ask(&service, get()).await;
    assert!(!got.is_hit() && got.text.starts_with("2 "), "{}", got.text);
}

/// Declares a test for each layer, around the cache and within it.
macro_rules! stacks {
    ($($name:ident: $layer:expr,)*) => {
        mod around {
            use super::*;

            $(#[tokio::test]
            async fn $name() {
                let service = ServiceBuilder::new().layer($layer).layer(cache());
                assert_caches(service.service(numbered())).await;
            })*
        }

        mod within {
            use super::*;

            $(#[tokio::test]
            async fn $name() {
                let service = ServiceBuilder::new().layer(cache()).layer($layer);
                assert_caches(service.service(numbered())).await;
            })*
        }

        mod routers {
            use axum::{Router, routing::{get, post}};

            use super::*;

            $(#[tokio::test]
            async fn $name() {
                let router = || {
                    let answer = numbered();
                    Router::new()
                        .route_service("/cases/{case}", answer.clone())
                        .route_service("/cases/{case}/comments", answer)
                        .fallback(get(|| async {}).merge(post(|| async {})))
                };
                assert_caches(router().layer(cache()).layer($layer)).await;
                assert_caches(router().layer($layer).layer(cache())).await;
                let both = ServiceBuilder::new().layer($layer).layer(cache());
                assert_caches(router().layer(both)).await;
            })*
        }
    };
}

stacks! {
    cors: CorsLayer::permissive(),
    timeout: TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, MINUTE),
    validate_request_header: ValidateRequestHeaderLayer::accept("text/plain"),
    trace: TraceLayer::new_for_http(),
    compression: CompressionLayer::new(),
    decompression: DecompressionLayer::new(),
    request_decompression: RequestDecompressionLayer::new(),
    request_body_timeout: RequestBodyTimeoutLayer::new(MINUTE),
    response_body_timeout: ResponseBodyTimeoutLayer::new(MINUTE),
    request_body_limit: RequestBodyLimitLayer::new(1000),
    catch_panic: CatchPanicLayer::new(),
    normalize_path: NormalizePathLayer::trim_trailing_slash(),
    set_request_id: SetRequestIdLayer::x_request_id(MakeRequestUuid),
    propagate_request_id: PropagateRequestIdLayer::x_request_id(),
    sensitive_headers: SetSensitiveHeadersLayer::new([http::header::ETAG]),
    set_response_header: SetResponseHeaderLayer::overriding(
        HeaderName::from_static("x-frame-options"),
        http::HeaderValue::from_static("DENY"),
    ),
}

// ===== all at once =====

#[tokio::test]
async fn all_layers_go_into_one_stack_around_the_cache_and_within_it() {
    macro_rules! layers {
        ($builder:expr) => {
            $builder
                // These three have bodies without a default, which the layers below need.
                .layer(RequestDecompressionLayer::new())
                .layer(CatchPanicLayer::new())
                .layer(RequestBodyLimitLayer::new(1000))
                .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                .layer(PropagateRequestIdLayer::x_request_id())
                .layer(TraceLayer::new_for_http())
                .layer(CorsLayer::permissive())
                .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, MINUTE))
                .layer(ValidateRequestHeaderLayer::accept("text/plain"))
                .layer(NormalizePathLayer::trim_trailing_slash())
                .layer(DecompressionLayer::new())
                .layer(CompressionLayer::new())
                .layer(RequestBodyTimeoutLayer::new(MINUTE))
        };
    }
    // The timeout hides whether a body was decompressed.
    let around = layers!(ServiceBuilder::new()).layer(PeekContentLayer::new()).layer(cache());
    assert_caches(around.service(numbered())).await;
    assert_caches(layers!(ServiceBuilder::new().layer(cache())).service(numbered())).await;
}

// ===== what each does =====

fn with(
    mut request: Request<Full<Bytes>>,
    name: &'static str,
    value: &str,
) -> Request<Full<Bytes>> {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn what_is_compressed_within_is_stored_for_each_coding() {
    let service = ServiceBuilder::new().layer(cache()).layer(CompressionLayer::new());
    let service = service.service(numbered());
    for (coding, calls) in [("gzip", ["0", "0"]), ("identity", ["1", "1"]), ("gzip", ["0", "0"])] {
        for call in calls {
            let asked = with(request(Method::GET, "/cases/1"), "accept-encoding", coding);
            let decoding = ServiceBuilder::new().layer(DecompressionLayer::new());
            let got = ask(&decoding.service(service.clone()), asked).await;
            assert!(got.text.starts_with(call), "{coding}: {}", got.text);
        }
    }
}

#[tokio::test]
async fn what_is_compressed_around_is_stored_once() {
    let service = ServiceBuilder::new().layer(CompressionLayer::new()).layer(cache());
    let service = service.service(numbered());
    for (coding, is_hit) in [("gzip", false), ("identity", true), ("gzip", true)] {
        let asked = with(request(Method::GET, "/cases/1"), "accept-encoding", coding);
        let decoding = ServiceBuilder::new().layer(DecompressionLayer::new());
        let got = ask(&decoding.service(service.clone()), asked).await;
        assert!(got.is_hit() == is_hit && got.text.starts_with("0 "), "{coding}: {}", got.text);
    }
}

#[tokio::test]
async fn files_are_served_from_the_cache() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/{*file}").bucket("files").key("file:{file}").ttl(MINUTE))
        .build()
        .unwrap();
    let service = ServiceBuilder::new().layer(layer).service(ServeDir::new(folder));
    let file = || request(Method::GET, "/tower_http.rs");
    let first = ask(&service, file()).await;
    assert!(!first.is_hit() && first.text == include_str!("tower_http.rs"));
    let second = ask(&service, file()).await;
    assert!(second.is_hit() && second.text == first.text);
    let part = ask(&service, with(file(), "range", "bytes=0-6")).await;
    assert_eq!((part.status.as_u16(), &*part.text, part.is_hit()), (206, &first.text[..7], true));
    let later = "Sun, 22 Nov 2099 08:00:00 GMT";
    let had = ask(&service, with(file(), "if-modified-since", later)).await;
    assert_eq!((had.status.as_u16(), had.is_hit()), (304, true));
    let missing = ask(&service, request(Method::GET, "/missing")).await;
    assert_eq!((missing.status.as_u16(), missing.is_hit()), (404, false));
}

#[tokio::test]
async fn a_panic_is_caught_around_the_cache_and_counted_in_it() {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/panic").bucket("cases").key("panic").ttl(MINUTE))
        .build()
        .unwrap();
    let handle = layer.handle();
    let around = ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(layer.clone());
    let got = ask(&around.service(numbered()), request(Method::GET, "/panic")).await;
    assert_eq!((got.status.as_u16(), got.cache_status.as_str()), (500, ""));
    assert_eq!(handle.metrics().bucket("cases").unwrap().panicked, 1);
    let within = ServiceBuilder::new().layer(layer).layer(CatchPanicLayer::new());
    let got = ask(&within.service(numbered()), request(Method::GET, "/panic")).await;
    assert_eq!(got.status, 500);
    assert!(got.cache_status.ends_with(";detail=status"), "{}", got.cache_status);
}

#[tokio::test]
async fn a_path_is_normalized_around_the_cache() {
    let service = ServiceBuilder::new().layer(NormalizePathLayer::trim_trailing_slash());
    let service = service.layer(cache()).service(numbered());
    for (target, is_hit) in [("/cases/1/", false), ("/cases/1", true), ("/cases/1//", true)] {
        assert_eq!(ask(&service, request(Method::GET, target)).await.is_hit(), is_hit, "{target}");
    }
}

// ===== the content of requests =====

/// Returns a GET whose content is compressed.
fn compressed() -> Request<Full<Bytes>> {
    let mut content = Vec::new();
    GzEncoder::new(&b"content"[..], flate2::Compression::fast()).read_to_end(&mut content).unwrap();
    let asked = Request::get("/cases/1").header("content-encoding", "gzip");
    let asked = asked.header("content-length", content.len());
    asked.body(Full::from(content)).unwrap()
}

/// The layer takes `Content-Length` and `Content-Encoding` off, and its body tells nothing.
#[tokio::test]
async fn content_that_was_decompressed_is_found_by_the_first_frame() {
    let layer = cache();
    let handle = layer.handle();
    let service = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .layer(PeekContentLayer::new())
        .layer(layer)
        .service(numbered());
    for call in ["0 content", "1 content"] {
        let got = ask(&service, compressed()).await;
        assert!(got.text.starts_with(call), "{}", got.text);
    }
    assert_eq!(handle.metrics().bucket("cases").unwrap().bypassed[&Bypass::Content], 2);
    for is_hit in [false, true] {
        let got = ask(&service, request(Method::GET, "/cases/1")).await;
        assert!(got.is_hit() == is_hit && got.text.starts_with("2 "), "{}", got.text);
    }
}

/// The type of the body tells that its size is hidden because it was decompressed.
#[tokio::test]
async fn content_that_was_decompressed_bypasses_the_cache_without_a_layer_between() {
    let decompressing = || ServiceBuilder::new().layer(RequestDecompressionLayer::new());
    let service = decompressing().layer(cache()).service(numbered());
    assert_bypassed(&service).await;
    for is_hit in [false, true] {
        let got = ask(&service, request(Method::GET, "/cases/1")).await;
        assert!(got.is_hit() == is_hit && got.text.starts_with("2 "), "{}", got.text);
    }
    let timing = decompressing().layer(RequestBodyTimeoutLayer::new(MINUTE));
    assert_bypassed(&timing.layer(cache()).service(numbered())).await;
    let limiting = || decompressing().layer(RequestBodyLimitLayer::new(1000)).layer(cache());
    assert_bypassed(&limiting().service(numbered())).await;
    assert_caches(limiting().service(numbered())).await;
}

/// Checks that content which was compressed reaches the handler each time.
async fn assert_bypassed<S, B>(service: &S)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug> + Clone,
    B: Body<Error: Debug>,
{
    for call in ["0 content", "1 content"] {
        let got = ask(service, compressed()).await;
        assert!(got.text.starts_with(call), "{}", got.text);
        assert!(got.cache_status.ends_with("detail=content"), "{}", got.cache_status);
    }
}

/// A router boxes the bodies, and these are looked into without a layer.
#[tokio::test]
async fn content_is_found_between_two_layers_of_a_router() {
    let router = axum::Router::new().route_service("/cases/{case}", numbered());
    let router = router.layer(cache()).layer(RequestDecompressionLayer::new());
    let router = router.layer(RequestBodyTimeoutLayer::new(MINUTE));
    for call in ["0 content", "1 content"] {
        assert!(ask(&router, compressed()).await.text.starts_with(call));
    }
    for is_hit in [false, true] {
        let got = ask(&router, request(Method::GET, "/cases/1")).await;
        assert!(got.is_hit() == is_hit && got.text.starts_with("2 "), "{}", got.text);
    }
}

async fn serve<S, B>(service: S) -> std::net::SocketAddr
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Asks over a connection of its own in HTTP/1.1 or HTTP/2; content of an unknown length follows, if
/// there is any.
async fn over(
    version: http::Version,
    address: std::net::SocketAddr,
    content: Option<&'static str>,
) -> Got {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let has_content = content.is_some();
    let content = content.map(|text| Ok::<_, Infallible>(http_body::Frame::data(text.into())));
    let body: http_body_util::combinators::BoxBody<Bytes, Infallible> = match content {
        None => Full::default().boxed(),
        Some(frame) => http_body_util::StreamBody::new(futures_util::stream::iter([frame])).boxed(),
    };
    let case = if version == http::Version::HTTP_2 { 2 } else { 1 };
    let asked = Request::get(format!("http://{address}/cases/{case}")).header("host", "a");
    // Without this field hyper sends no content with a GET in HTTP/1.
    let asked = match version {
        http::Version::HTTP_11 if has_content => asked.header("transfer-encoding", "chunked"),
        _ => asked,
    };
    let asked = asked.body(body).unwrap();
    let response = match version {
        http::Version::HTTP_2 => {
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
            let (mut sender, connection) = handshake.await.unwrap();
            tokio::spawn(connection);
            sender.send_request(asked).await.unwrap()
        }
        _ => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(asked).await.unwrap()
        }
    };
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let cache_status = head.headers["cache-status"].to_str().unwrap().to_owned();
    Got { status: head.status, cache_status, text }
}

#[tokio::test]
async fn a_get_over_either_version_is_cached_behind_a_timeout_of_the_body() {
    let around = ServiceBuilder::new().layer(RequestBodyTimeoutLayer::new(MINUTE));
    let service = around.layer(PeekContentLayer::new()).layer(cache()).service(numbered());
    let router = axum::Router::new().route_service("/cases/{case}", numbered()).layer(cache());
    let router = router.layer(RequestBodyTimeoutLayer::new(MINUTE));
    for address in [serve(service).await, serve(router).await] {
        for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
            let with_content = over(version, address, Some("content")).await;
            assert!(with_content.cache_status.ends_with(";detail=content"), "{version:?}");
            assert!(with_content.text.contains(" content "), "{version:?}");
            for is_hit in [false, true] {
                assert_eq!(over(version, address, None).await.is_hit(), is_hit, "{version:?}");
            }
        }
    }
}

// ===== types =====

/// The error of a body goes wherever `?` takes errors.
#[tokio::test]
async fn the_error_of_a_body_is_an_error() {
    async fn read() -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let service = ServiceBuilder::new().layer(cache()).service(numbered());
        let response = service.oneshot(request(Method::GET, "/cases/1")).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }
    assert!(read().await.unwrap().starts_with(b"0 "));
}
