//! The README's example over Redis, which several processes can share.
//!
//! ```console
//! $ redis-server --save '' &
//! $ cargo run --features redis --example redis
//! ```
//!
//! Run it twice within two minutes: the second process begins with what the first has stored.
//! `REDIS_URL` names another server than `redis://127.0.0.1:6379/`.

use std::{env, error::Error, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{Request, Response},
    routing::{get, post},
};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tower_support_cache::{
    CacheRoute, InvalidateRoute, RedisStore, SupportCacheHandle, SupportCacheLayer,
};

async fn list_cases(Path(account): Path<String>) -> String {
    format!("the cases of {account}")
}

async fn add_comment() {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned());
    let store = RedisStore::builder(url).namespace("example:").build()?;
    let layer = SupportCacheLayer::builder(store)
        .cache(
            CacheRoute::get("/accounts/{account}/cases")
                .bucket("case_list")
                .key("support:cases:{account}")
                .ttl(Duration::from_secs(120)),
        )
        .invalidate(
            InvalidateRoute::post("/accounts/{account}/cases/{case}/comments")
                .key("support:cases:{account}"),
        )
        .build()?;
    let cache = layer.handle();
    let app = Router::new()
        .route("/accounts/{account}/cases", get(list_cases))
        .route("/accounts/{account}/cases/{case}/comments", post(add_comment))
        .layer(layer);

    // A service would not wait: until there is a link, its requests are forwarded.
    if timeout(Duration::from_secs(1), linked(&cache)).await.is_err() {
        println!("there is no server, and no request fails for it");
    }
    let list = || Request::get("/accounts/A1/cases").body(Body::empty());
    for _ in 0..2 {
        tell("GET list", &app.clone().oneshot(list()?).await?);
    }
    let comment = Request::post("/accounts/A1/cases/C42/comments").body(Body::empty())?;
    tell("POST comment", &app.clone().oneshot(comment).await?);
    tell("GET list", &app.oneshot(list()?).await?);

    // What a process owes the server, it owes before it ends.
    if cache.flush_pending(Duration::from_secs(1)).await.is_err() {
        println!("an invalidation was not delivered");
    }
    let store = cache.metrics().store.ok_or("a Redis store has counts")?;
    println!("linked {}, pending {}", store.is_linked, store.pending);
    println!("near cache: {} hits, {} messages", store.near.hits, store.near.pushes);
    for (operation, counts) in &store.operations {
        let median = counts.latency.quantile(0.5).unwrap_or_default();
        println!("{}: {} answered, half within {median:?}", operation.as_str(), counts.answered);
    }
    Ok(())
}

async fn linked(cache: &SupportCacheHandle) {
    while !cache.metrics().store.is_some_and(|store| store.is_linked) {
        sleep(Duration::from_millis(5)).await;
    }
}

fn tell(asked: &str, response: &Response<Body>) {
    let status = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
    println!("{asked}: {}", status.unwrap_or_default());
}
