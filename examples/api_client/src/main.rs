//! A client of an API that takes few calls. The cache is around the client: equal requests cost one call, and
//! while the API refuses calls, stale answers stand in.
//!
//! ```console
//! $ cargo run -p example-api-client
//! ```
//!
//! The API is a small one in this process, with three calls to spend.

mod api;

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    CacheRoute, ConfigError, MemoryStore, Quota, SupportCache, SupportCacheLayer, key,
};

use crate::api::Api;

type CachedClient = SupportCache<Client<HttpConnector, Empty<Bytes>>, MemoryStore>;

const RATE: &str = "rate:{currency}";

fn layer() -> Result<SupportCacheLayer<MemoryStore>, ConfigError> {
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(
            CacheRoute::get("/rates/{currency}")
                .bucket("rates")
                .key(RATE)
                .ttl(Duration::from_secs(60))
                .stale_if_error(Duration::from_secs(3600))
                // All calls of this program are counted together.
                .quota(Quota::Service),
        )
        .build()
}

/// Asks for a rate, and says what came of it.
async fn ask(client: CachedClient, url: String) -> Result<String, Box<dyn Error + Send + Sync>> {
    let request = Request::get(&url).body(Empty::new())?;
    let (head, body) = client.oneshot(request).await?.into_parts();
    // Read to its end, so that it is stored.
    let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    let end = head.headers["cache-status"].to_str()?;
    Ok(format!("{} {text}: {end}", head.status.as_u16()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let api = Api::start(3).await?;
    let layer = layer()?;
    let cache = layer.handle();
    let client = layer.layer(Client::builder(TokioExecutor::new()).build_http());
    let url = |currency: &str| format!("http://{}/rates/{currency}", api.address());

    for currency in ["EUR", "EUR", "EUR"] {
        println!("{}", ask(client.clone(), url(currency)).await?);
    }
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        tasks.spawn(ask(client.clone(), url("USD")));
    }
    while let Some(asked) = tasks.join_next().await {
        asked??;
    }
    println!("{} calls for 23 requests", api.calls());

    // The third call is the last, and the fourth is refused: from then on the API is spared for a minute.
    for currency in ["GBP", "CHF"] {
        println!("{}", ask(client.clone(), url(currency)).await?);
    }
    cache.soft_invalidate(key(RATE).with("currency", "EUR")).await?;
    println!("{}", ask(client, url("EUR")).await?);
    println!(
        "{} calls, {:?} answered stale",
        api.calls(),
        cache.metrics().bucket("rates").map(|it| &it.stale)
    );
    Ok(())
}
