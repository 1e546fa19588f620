//! A server with a handler of 1 KiB, for `benches/edge.sh`.
//!
//! ```sh
//! edge handler PORT    # the handler
//! edge cache PORT      # the cache, and the handler within
//! ```

#![allow(clippy::disallowed_methods)] // Time that passes, not the cache's.

use std::{env, error::Error, time::SystemTime};

use axum::{Router, extract::Path, response::IntoResponse, routing::get};
use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LAST_MODIFIED},
};
use tokio::net::TcpListener;
use tower_support_cache::{CacheRoute, Credentials, Freshness, MemoryStore, SupportCacheLayer};

const USAGE: &str = "usage: edge handler|cache PORT";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [kind, port] = env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| USAGE)?;
    let mut app = Router::new().route("/items/{id}", get(item));
    match kind.as_str() {
        "handler" => {}
        "cache" => app = app.layer(layer()?),
        _ => return Err(USAGE.into()),
    }
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    axum::serve(listener, app).await?;
    Ok(())
}

/// What nginx and Varnish do as they come: the response says for how long it is fresh.
fn layer() -> Result<SupportCacheLayer<MemoryStore>, Box<dyn Error>> {
    let route = CacheRoute::get("/items/{id}")
        .key("item:{id}")
        .freshness(Freshness::Origin)
        .credentials(Credentials::ByResponse);
    Ok(SupportCacheLayer::builder(MemoryStore::new()).cache(route).build()?)
}

/// 1 KiB of JSON with the fields that an application sends.
async fn item(Path(id): Path<String>) -> impl IntoResponse {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    let date = httpdate::fmt_http_date(SystemTime::now());
    for (name, value) in [(ETAG, format!("\"{id}\"")), (LAST_MODIFIED, date)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            fields.insert(name, value);
        }
    }
    (fields, format!("{{\"id\":\"{id}\",\"text\":\"{:.<980}\"}}", ""))
}
