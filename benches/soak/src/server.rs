//! A server: axum, the cache over Redis, and handlers that ask the origin.

use std::{error::Error, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin},
    net::TcpListener,
    runtime::Handle,
    sync::oneshot,
};
use tower_support_cache::{
    CacheRoute, HostPolicy, InvalidateRoute, RedisStore, Routes, SupportCacheHandle,
    SupportCacheLayer, key,
};

/// Lifetime of a case: short enough that hot ones expire.
const TTL: Duration = Duration::from_secs(20);
/// Time that a process has for what is under way when it ends.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Handlers {
    origin: String,
    client: Client<HttpConnector, Empty<Bytes>>,
    cache: SupportCacheHandle,
}

/// Serves until standard input says `end` or ends. Prints the address, and an answer to each line of input:
/// `tasks`, `reload`, `end`.
///
/// # Errors
///
/// The address cannot be bound, or the cache not be built.
pub async fn serve(origin: String, redis: String) -> Result<(), Box<dyn Error>> {
    let store = RedisStore::builder(redis).namespace("soak:").build()?;
    let layer = SupportCacheLayer::builder(store).scheme("http").routes(routes(TTL)).build()?;
    let cache = layer.handle();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let handlers = Handlers { origin, client, cache: cache.clone() };
    let app = Router::new()
        .route("/accounts/{account}/cases/{case}", get(read).post(change))
        .route("/accounts/{account}", post(change_all))
        .route("/events/accounts/{account}/cases/{case}", post(change_and_tell))
        .with_state(handlers)
        .merge(tower_support_cache_hostile::origin())
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (end, ended) = oneshot::channel();
    let commands = tokio::spawn(obey(BufReader::new(stdin()).lines(), cache.clone(), end));
    axum::serve(listener, app).with_graceful_shutdown(async { drop(ended.await) }).await?;
    commands.abort();
    match cache.drain(DRAIN).await {
        Ok(()) => println!("drained"),
        Err(unfinished) => println!("{unfinished}"),
    }
    Ok(())
}

fn routes(ttl: Duration) -> Routes {
    let case = "/accounts/{account}/cases/{case}";
    let read = CacheRoute::get(case)
        .bucket("cases")
        .key("case:{case}")
        .tag("account:{account}")
        .host(HostPolicy::Ignore)
        .ttl(ttl);
    let routes = Routes::new()
        .cache(read)
        .invalidate(InvalidateRoute::post(case).key("case:{case}"))
        .invalidate(InvalidateRoute::post("/accounts/{account}").tag("account:{account}"));
    tower_support_cache_hostile::add_routes(routes)
}

/// Does what the lines of standard input say. The end of it is an `end`.
async fn obey(
    mut lines: Lines<BufReader<Stdin>>,
    cache: SupportCacheHandle,
    end: oneshot::Sender<()>,
) {
    let mut ttl = TTL;
    while let Ok(Some(line)) = lines.next_line().await {
        match line.as_str() {
            "tasks" => println!("{}", Handle::current().metrics().num_alive_tasks()),
            "reload" => {
                // Another lifetime: what is stored goes on.
                ttl = if ttl == TTL { TTL / 2 } else { TTL };
                println!("{}", cache.reload(routes(ttl)).is_ok());
            }
            _ => break,
        }
    }
    let _ = end.send(());
}

// ===== handlers =====

impl Handlers {
    async fn ask(&self, method: http::Method, path: &str) -> Result<String, StatusCode> {
        let uri: Uri = format!("{}{path}", self.origin).parse().expect("a path is one of a URI");
        let request = Request::builder().method(method).uri(uri).body(Empty::new());
        let request = request.expect("a method and a URI make a request");
        let response = self.client.request(request).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
        let body = response.into_body().collect().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(|_| StatusCode::BAD_GATEWAY)
    }
}

/// Returns the body of a case: its number, its version, and as many bytes as the number says.
async fn read(
    State(handlers): State<Handlers>,
    Path((_, case)): Path<(usize, usize)>,
) -> Result<String, StatusCode> {
    let version = handlers.ask(http::Method::GET, &format!("/cases/{case}")).await?;
    Ok(format!("{:.<width$}", format!("{case}:{version}:"), width = length(case)))
}

/// Returns the length of the body of a case, in bytes: from 200 to 4,000, and 60,000 for one in 100.
pub(crate) fn length(case: usize) -> usize {
    if case.is_multiple_of(100) { 60_000 } else { 200 + case * 7919 % 3800 }
}

/// Changes a case. Its rule invalidates it.
async fn change(
    State(handlers): State<Handlers>,
    Path((_, case)): Path<(usize, usize)>,
) -> Result<String, StatusCode> {
    handlers.ask(http::Method::PUT, &format!("/cases/{case}")).await
}

/// Changes all cases of an account. Its rule invalidates their tag.
async fn change_all(
    State(handlers): State<Handlers>,
    Path(account): Path<usize>,
) -> Result<String, StatusCode> {
    handlers.ask(http::Method::PUT, &format!("/accounts/{account}")).await
}

/// Changes a case on a path that no rule is for, invalidates it through the handle, and says whether that was
/// acknowledged.
async fn change_and_tell(
    State(handlers): State<Handlers>,
    Path((_, case)): Path<(usize, usize)>,
) -> Result<(StatusCode, String), StatusCode> {
    let changed = handlers.ask(http::Method::PUT, &format!("/cases/{case}")).await?;
    let key = key("case:{case}").with("case", case.to_string());
    let status = match handlers.cache.invalidate(key).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::ACCEPTED,
    };
    Ok((status, changed))
}
