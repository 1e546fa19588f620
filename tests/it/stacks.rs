//! Stacks: the layer in axum, under a hyper server and around a hyper client, and what it asks of
//! the types around it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    marker::PhantomPinned,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body as AxumBody, extract::Path, routing::get};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, SupportCache, SupportCacheLayer,
};

fn layer_on(store: MemoryStore, mount: &str) -> SupportCacheLayer<MemoryStore> {
    SupportCacheLayer::builder(store)
        .mount(mount)
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(Duration::from_secs(60)))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap()
}

fn layer() -> SupportCacheLayer<MemoryStore> {
    layer_on(MemoryStore::new(), "")
}

/// Status, fields and text of a response.
struct Got {
    status: StatusCode,
    fields: HeaderMap,
    text: String,
}

impl Got {
    fn is_hit(&self) -> bool {
        self.fields.get("cache-status").is_some_and(|v| v.to_str().unwrap().contains(";hit"))
    }
}

async fn read<B: Body>(response: Response<B>) -> Got
where
    B::Error: std::fmt::Debug,
{
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Got { status: head.status, fields: head.headers, text }
}

// ===== axum =====

/// Handlers that say who they are; what they are called with is counted.
fn portal(name: &'static str) -> Router {
    let count = Arc::new(AtomicUsize::new(0));
    let answer = move |Path(case): Path<String>| async move {
        format!("{name} {case} {}", count.fetch_add(1, Ordering::SeqCst))
    };
    Router::new()
        .route("/cases/{case}", get(answer))
        .route("/cases/{case}/comments", axum::routing::post(|| async { StatusCode::CREATED }))
}

async fn ask(router: &Router, method: Method, uri: &str) -> Got {
    let request = Request::builder().method(method).uri(uri).body(AxumBody::empty()).unwrap();
    read(router.clone().oneshot(request).await.unwrap()).await
}

async fn assert_caches(router: &Router, prefix: &str, name: &str) {
    let (case, comments) = (format!("{prefix}/cases/1"), format!("{prefix}/cases/1/comments"));
    for (is_hit, call) in [(false, 0), (true, 0)] {
        let got = ask(router, Method::GET, &case).await;
        assert_eq!((got.is_hit(), got.text), (is_hit, format!("{name} 1 {call}")));
    }
    assert_eq!(ask(router, Method::POST, &comments).await.status, StatusCode::CREATED);
    assert_eq!(ask(router, Method::GET, &case).await.text, format!("{name} 1 1"));
}

#[tokio::test]
async fn a_router_is_layered() {
    assert_caches(&portal("a").layer(layer()), "", "a").await;
}

#[tokio::test]
async fn the_routes_of_a_router_are_layered() {
    let router = portal("a").route_layer(layer());
    assert_caches(&router, "", "a").await;
    assert_eq!(ask(&router, Method::GET, "/elsewhere").await.status, StatusCode::NOT_FOUND);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn one_layer_in_two_nests_does_not_mix_them() {
    let layer = layer();
    let router = Router::new()
        .nest("/a", portal("a").layer(layer.clone()))
        .nest("/b", portal("b").route_layer(layer.clone()))
        .nest("/c", Router::new().nest("/a", portal("c").layer(layer)));
    for (prefix, name) in [("/a", "a"), ("/b", "b"), ("/c/a", "c")] {
        let got = ask(&router, Method::GET, &format!("{prefix}/cases/1")).await;
        assert_eq!((got.is_hit(), got.text), (false, format!("{name} 1 0")));
    }
    for (prefix, name) in [("/a", "a"), ("/b", "b"), ("/c/a", "c")] {
        let got = ask(&router, Method::GET, &format!("{prefix}/cases/1")).await;
        assert_eq!((got.is_hit(), got.text), (true, format!("{name} 1 0")));
    }
}

#[tokio::test]
async fn layers_of_two_mounts_on_one_store_do_not_mix_two_nests() {
    let store = MemoryStore::new();
    let router = Router::new()
        .nest("/a", portal("a").layer(layer_on(store.clone(), "a")))
        .nest("/b", portal("b").layer(layer_on(store, "b")));
    for (prefix, name) in [("/a", "a"), ("/b", "b")] {
        assert_caches(&router, prefix, name).await;
    }
}

#[tokio::test]
async fn a_layer_around_all_nests_sees_whole_paths() {
    let outer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(
            CacheRoute::get("/{portal}/cases/{case}")
                .key("{portal}:{case}")
                .ttl(Duration::from_secs(60)),
        )
        .build()
        .unwrap();
    let nests = Router::new().nest("/a", portal("a")).nest("/b", portal("b")).layer(outer);
    for name in ["a", "b", "a", "b"] {
        let got = ask(&nests, Method::GET, &format!("/{name}/cases/1")).await;
        assert_eq!(got.text, format!("{name} 1 0"));
    }
}

// ===== hyper =====

/// Serves over TCP, and returns where and a count of the connections that came.
async fn serve<S, B>(service: S) -> (SocketAddr, Arc<AtomicUsize>)
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
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, connections)
}

/// Answers with its count of calls, without a `Content-Length` of its own.
fn counting() -> (
    impl Service<
        Request<hyper::body::Incoming>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static,
    Arc<AtomicUsize>,
) {
    let count = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&count);
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let text = format!("{} call {call}", request.uri());
        ready(Ok(Response::builder().header("etag", "\"1\"").body(Full::from(text)).unwrap()))
    });
    (service, count)
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn on(connection: &mut SendRequest<Empty<Bytes>>, method: Method, uri: &str) -> Got {
    let request =
        Request::builder().method(method).uri(uri).header("host", "h").body(Empty::new()).unwrap();
    connection.ready().await.unwrap();
    read(connection.send_request(request).await.unwrap()).await
}

#[tokio::test]
async fn a_connection_stays_in_sync_over_hits_and_heads() {
    let (origin, calls) = counting();
    let (address, connections) = serve(ServiceBuilder::new().layer(layer()).service(origin)).await;
    let mut connection = connect(address).await;
    let mut lengths = Vec::new();
    for method in [Method::GET, Method::GET, Method::HEAD, Method::HEAD, Method::GET] {
        let got = on(&mut connection, method.clone(), "/cases/1").await;
        let text = if method == Method::HEAD { "" } else { "/cases/1 call 0" };
        assert_eq!((got.status, got.text.as_str()), (StatusCode::OK, text));
        assert_eq!(got.is_hit(), !lengths.is_empty());
        assert_eq!(got.fields["etag"], "\"1\"");
        lengths.push(got.fields["content-length"].to_str().unwrap().to_owned());
    }
    assert_eq!(lengths, ["15"; 5], "HEAD has the length that GET has");
    let last = on(&mut connection, Method::GET, "/cases/2").await;
    assert_eq!(last.text, "/cases/2 call 1");
    assert_eq!((connections.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn the_layer_goes_around_a_client() {
    let (origin, calls) = counting();
    let (address, _) = serve(origin).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let cached = layer().layer(client);
    let ask = |method: Method, path: &str| {
        let uri = format!("http://{address}{path}");
        let request = Request::builder().method(method).uri(uri).body(Empty::new()).unwrap();
        let cached = cached.clone();
        async move { read(cached.oneshot(request).await.unwrap()).await }
    };
    for is_hit in [false, true] {
        let got = ask(Method::GET, "/cases/1").await;
        assert_eq!((got.is_hit(), got.text.as_str()), (is_hit, "/cases/1 call 0"));
        assert_eq!(got.fields["content-length"], "15");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    ask(Method::POST, "/cases/1/comments").await;
    assert_eq!(ask(Method::GET, "/cases/1").await.text, "/cases/1 call 2");
}

// ===== types =====

/// Not `Clone`, not `Sync`, and no `Error`.
#[derive(Debug)]
struct MyError(#[allow(dead_code)] std::cell::Cell<u8>);

/// Not `Unpin` and not `Sync`.
struct MyBody(#[allow(dead_code)] std::cell::Cell<u8>, #[allow(dead_code)] PhantomPinned);

impl Body for MyBody {
    type Data = Bytes;
    type Error = MyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, MyError>>> {
        Poll::Ready(None)
    }
}

#[derive(Clone)]
struct MyService;

impl Service<Request<MyBody>> for MyService {
    type Response = Response<MyBody>;
    type Error = MyError;
    type Future = Ready<Result<Self::Response, MyError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), MyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<MyBody>) -> Self::Future {
        ready(Err(MyError(std::cell::Cell::new(7))))
    }
}

/// `Clone` and `Send`, but not `Sync`.
#[derive(Clone)]
struct Unsync(#[allow(dead_code)] std::cell::Cell<u8>);

#[tokio::test]
async fn the_error_type_is_the_inner_services_own() {
    fn assert_error<S: Service<Request<MyBody>, Error = MyError>>(_: &S)
    where
        S::Future: Send + 'static,
    {
    }
    let service = layer().layer(MyService);
    assert_error(&service);
    let body = MyBody(std::cell::Cell::new(0), PhantomPinned);
    let request = Request::get("/cases/1").body(body).unwrap();
    let Err(MyError(code)) = service.oneshot(request).await else { panic!("the origin fails") };
    assert_eq!(code.get(), 7);
}

#[test]
fn the_service_is_what_the_inner_service_is() {
    fn assert_all<T: Clone + Send + Sync + 'static>() {}
    fn assert_send<T: Clone + Send + 'static>() {}
    assert_all::<SupportCache<MyService, MemoryStore>>();
    assert_send::<SupportCache<Unsync, MemoryStore>>();
    assert_all::<SupportCacheLayer<MemoryStore>>();
    assert_all::<tower_support_cache::SupportCacheHandle>();
    assert_all::<MemoryStore>();
}
