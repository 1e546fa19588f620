//! The proxy: a service that forwards to the origin, the cache around it, and a server.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONNECTION, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA},
    uri::{Authority, Scheme},
};
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, ConfigError, Credentials, Freshness, MemoryStore, RequestDirectives,
    SupportCacheLayer,
};

/// RFC 9110 §7.6.1: what is for the next hop alone, besides what `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What an origin says to caches in front of it and to no other (RFC 9213, and what came before it).
const TARGETED: [HeaderName; 2] =
    [HeaderName::from_static("cdn-cache-control"), HeaderName::from_static("surrogate-control")];

/// Sends requests on to one origin.
#[derive(Clone, Debug)]
struct Forward {
    client: Client<HttpConnector, Incoming>,
    scheme: Scheme,
    authority: Authority,
}

impl Service<Request<Incoming>> for Forward {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, legacy::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(self.scheme.clone());
        target.authority = Some(self.authority.clone());
        // Scheme, authority and a path that was one before are a URI.
        *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
        prepare(request.headers_mut());
        let answer = self.client.request(request);
        Box::pin(async move {
            let mut response = answer.await?;
            prepare(response.headers_mut());
            Ok(response)
        })
    }
}

/// Makes the fields of a message those of the next hop's.
fn prepare(fields: &mut HeaderMap) {
    let named: Vec<_> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
    fields.append(VIA, HeaderValue::from_static("1.1 support-cache"));
}

/// The cache of a proxy: the responses say what may be stored, for how long, and for whom.
fn layer() -> Result<SupportCacheLayer<MemoryStore>, ConfigError> {
    let route = |pattern: &str, key: &str| {
        CacheRoute::get(pattern)
            .bucket("pages")
            .key(key)
            .freshness(Freshness::Origin)
            .credentials(Credentials::ByResponse)
            .heuristic(10)
            .targeted(TARGETED)
            // RFC 9111 §3.1: it is for the proxy that asked.
            .strip([PROXY_AUTHENTICATE])
            .body_limit(4 * 1024 * 1024)
            .stale_if_error(Duration::from_secs(60))
            .request_directives(RequestDirectives::Honour)
            // To the letter: a response is fresh for as long as it says.
            .jitter(0)
    };
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(route("/", "page:"))
        .cache(route("/{*path}", "page:{path}"))
        .build()
}

/// Serves one connection after the other, each on a task of its own.
pub(crate) async fn serve(listener: TcpListener, origin: &Uri) -> Result<(), Box<dyn Error>> {
    let forward = Forward {
        client: Client::builder(TokioExecutor::new()).build_http(),
        scheme: origin.scheme().cloned().unwrap_or(Scheme::HTTP),
        authority: origin.authority().cloned().ok_or("the origin has no authority")?,
    };
    let cache = layer()?.layer(forward);
    loop {
        let (stream, _) = listener.accept().await?;
        let cache = cache.clone();
        let service = service_fn(move |request| {
            let answer = cache.clone().oneshot(request);
            async move {
                Ok::<_, legacy::Error>(match answer.await {
                    Ok(response) => response.map(Either::Left),
                    Err(_) => bad_gateway().map(Either::Right),
                })
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn bad_gateway() -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
