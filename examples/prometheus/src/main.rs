//! The support portal, scraped by Prometheus at `GET /metrics/prometheus`.
//!
//! ```console
//! $ cargo run -p example-prometheus
//! ```
//!
//! `ops/prometheus/` has the rules, and `ops/grafana/` a dashboard. `PORT` chooses the port (3000; 0 takes any
//! that is free), and with `REDIS_URL` the portal stores in Redis. All but this file is the example
//! `support_portal`.

#[path = "../../support_portal/auth.rs"]
mod auth;
#[path = "../../support_portal/burst.rs"]
mod burst;
#[path = "../../support_portal/control.rs"]
mod control;
#[path = "../../support_portal/crm.rs"]
mod crm;
#[path = "../../support_portal/metrics.rs"]
mod metrics;
#[path = "../../support_portal/page.rs"]
mod page;
#[path = "../../support_portal/portal.rs"]
mod portal;
#[path = "../../support_portal/processes.rs"]
mod processes;
#[path = "../../support_portal/seed.rs"]
mod seed;
#[path = "../../support_portal/server.rs"]
mod server;

use std::{env, error::Error, sync::Arc};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tower_support_cache::SupportCacheHandle;

use crate::{crm::Crm, processes::Processes, server::Server};

/// Upper bounds of the histograms, in seconds: from a lookup in Redis to a slow origin. Without bounds the
/// exporter makes summaries, which no query can add up.
const BOUNDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let prometheus = PrometheusBuilder::new().set_buckets(&BOUNDS)?.install_recorder()?;
    let server = env::var("REDIS_URL").ok().map(Server::at).transpose()?;
    let (crm, processes) = (Arc::new(Crm::new(42, server.clone())), Processes::default());
    let (portal, cache) = match &server {
        Some(server) => portal::shared(server, Arc::clone(&crm), processes.clone())?,
        None => portal::alone(Arc::clone(&crm))?,
    };
    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("{url}/metrics/prometheus");
    let (account, token) = (seed::FIRST_ACCOUNT, auth::token_of(seed::FIRST_ACCOUNT));
    println!("curl -si -H 'Authorization: Bearer {token}' {url}/accounts/{account}/cases");
    println!("{url}/accounts/{account}/cases/{}/messages", seed::FIRST_CASE);
    if let Some(server) = server {
        tokio::spawn(processes.exchange(server, url, cache.clone(), Arc::clone(&crm)));
    }
    tokio::spawn(async move { crm.renew_quota_daily().await });
    axum::serve(listener, portal.merge(scraped(prometheus, cache))).await?;
    Ok(())
}

/// Makes the route that Prometheus scrapes.
fn scraped(prometheus: PrometheusHandle, cache: SupportCacheHandle) -> Router {
    let render = async move || {
        cache.publish_metrics();
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], prometheus.render())
    };
    Router::new().route("/metrics/prometheus", get(render))
}
