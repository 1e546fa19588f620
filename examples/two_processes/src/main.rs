//! A service that runs in several processes, which share a Redis: each answers with what another has stored, and
//! a write in one invalidates for all.
//!
//! ```console
//! $ redis-server --save '' &
//! $ PORT=3000 cargo run -p example-two-processes &
//! $ PORT=3001 cargo run -p example-two-processes &
//! $ curl -i http://127.0.0.1:3000/accounts/A1/cases
//! $ curl -i http://127.0.0.1:3001/accounts/A1/cases
//! $ curl -i -X POST http://127.0.0.1:3001/accounts/A1/cases
//! ```
//!
//! `REDIS_URL` names another server than `redis://127.0.0.1:6379/`. While there is none, requests are forwarded.

use std::{env, error::Error, process, time::Duration};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use tokio::{net::TcpListener, signal, time::sleep};
use tower_support_cache::{
    CacheRoute, HostPolicy, RedisStore, SupportCacheHandle, SupportCacheLayer,
};

/// Lists the cases, and says which process has done so.
async fn list(Path(account): Path<String>) -> String {
    format!("the cases of {account}, by process {}", process::id())
}

/// Creates a case. Its path is that of the cached route, so success invalidates that route's key.
async fn create() -> StatusCode {
    StatusCode::CREATED
}

/// Says on stderr when the server is there.
async fn report_link(cache: SupportCacheHandle) {
    while !cache.metrics().store.is_some_and(|store| store.is_linked) {
        sleep(Duration::from_millis(20)).await;
    }
    eprintln!("linked to Redis");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned());
    let store = RedisStore::builder(url).namespace("example:").build()?;
    let layer = SupportCacheLayer::builder(store)
        .cache(
            CacheRoute::get("/accounts/{account}/cases")
                .key("cases:{account}")
                // The processes have ports of their own here. Behind a load balancer all have one host.
                .host(HostPolicy::Ignore)
                .ttl(Duration::from_secs(120)),
        )
        .build()?;
    let cache = layer.handle();
    let app = Router::new().route("/accounts/{account}/cases", get(list).post(create)).layer(layer);

    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    tokio::spawn(report_link(cache.clone()));
    axum::serve(listener, app)
        .with_graceful_shutdown(async { signal::ctrl_c().await.expect("a handler of signals") })
        .await?;
    // What the server has not acknowledged yet would be lost with the process.
    cache.drain(Duration::from_secs(10)).await?;
    Ok(())
}
