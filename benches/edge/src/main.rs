//! A server with a handler of 1 KiB, for `benches/edge.sh`, and with one of 30 KiB, for `benches/encode.sh`.
//!
//! ```sh
//! edge handler PORT       # the handler
//! edge cache PORT         # the cache, and the handler within
//! edge plain PORT         # the cache, and the handler of 30 KiB within
//! edge coded PORT         # the same, with a coded form
//! edge compressed PORT    # the same without, and a compression layer around it
//! ```

#![allow(clippy::disallowed_methods)] // Time that passes, not the cache's.

use std::{env, error::Error, time::SystemTime};

use axum::{Router, extract::Path, response::IntoResponse, routing::get};
use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LAST_MODIFIED},
};
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;
use tower_support_cache::{
    CacheRoute, ContentCoding, Credentials, Freshness, MemoryStore, SupportCacheLayer,
};

const USAGE: &str = "usage: edge handler|cache|plain|coded|compressed PORT";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [kind, port] = env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| USAGE)?;
    let small = || Router::new().route("/items/{id}", get(item));
    let large = || Router::new().route("/items/{id}", get(page));
    let app = match kind.as_str() {
        "handler" => small(),
        "cache" => small().layer(layer(|route| route)?),
        "plain" => large().layer(layer(|route| route)?),
        "coded" => large().layer(layer(|route| route.encode([ContentCoding::Gzip]))?),
        "compressed" => large().layer(layer(|route| route)?).layer(CompressionLayer::new()),
        _ => return Err(USAGE.into()),
    };
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    axum::serve(listener, app).await?;
    Ok(())
}

/// What nginx and Varnish do as they come: the response says for how long it is fresh.
fn layer(
    change: impl FnOnce(CacheRoute) -> CacheRoute,
) -> Result<SupportCacheLayer<MemoryStore>, Box<dyn Error>> {
    let route = CacheRoute::get("/items/{id}")
        .key("item:{id}")
        .freshness(Freshness::Origin)
        .credentials(Credentials::ByResponse);
    Ok(SupportCacheLayer::builder(MemoryStore::new()).cache(change(route)).build()?)
}

/// 1 KiB of JSON with the fields that an application sends.
async fn item(Path(id): Path<String>) -> impl IntoResponse {
    (fields(&id), format!("{{\"id\":\"{id}\",\"text\":\"{:.<980}\"}}", ""))
}

/// 30 KiB of JSON: a list of cases, of which each differs.
async fn page(Path(id): Path<String>) -> impl IntoResponse {
    let number: u64 = id.parse().unwrap_or_default();
    let cases = (0_u64..200).map(|n| {
        let mixed = (n + 1000 * number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{{\"case\":\"{mixed:016x}\",\"subject\":\"printer {} in building {} prints blank pages\",\
             \"status\":\"{}\",\"opened\":\"2026-{:02}-{:02}\",\"priority\":{}}}",
            mixed % 977,
            mixed % 31,
            ["new", "open", "waiting for customer", "closed"][(mixed % 4) as usize],
            mixed % 12 + 1,
            mixed % 28 + 1,
            mixed % 5,
        )
    });
    (fields(&id), format!("[{}]", cases.collect::<Vec<_>>().join(",")))
}

fn fields(id: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    let date = httpdate::fmt_http_date(SystemTime::now());
    for (name, value) in [(ETAG, format!("\"{id}\"")), (LAST_MODIFIED, date)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            fields.insert(name, value);
        }
    }
    fields
}
