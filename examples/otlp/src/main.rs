//! A cached service whose metrics go to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! ```console
//! $ OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 cargo run -p example-otlp
//! ```
//!
//! The exporter reads the variables that OpenTelemetry specifies: the collector's address, and the interval
//! in milliseconds (`OTEL_METRIC_EXPORT_INTERVAL`, 60,000 by default). `PORT` chooses the port of the service
//! (3000; 0 takes any that is free).

use std::{env, error::Error, time::Duration};

use axum::{Router, extract::Path, routing::get};
use metrics_exporter_otel::OpenTelemetryRecorder;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use tokio::{net::TcpListener, signal};
use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};

/// Interval at which counts are handed to the exporter. Shorter than the one at which it sends them.
const PUBLISHED_EVERY: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let meters = meters()?;
    // From here on everything that uses the facade `metrics` is sent, the cache and your own code.
    metrics::set_global_recorder(OpenTelemetryRecorder::new(meters.meter("portal")))?;

    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(
            CacheRoute::get("/cases/{case}")
                .bucket("cases")
                .key("case:{case}")
                .ttl(Duration::from_secs(60)),
        )
        .build()?;
    let cache = layer.handle();
    let publisher = cache.clone();
    tokio::spawn(async move { publisher.publish_metrics_every(PUBLISHED_EVERY).await });

    let case = async |Path(case): Path<String>| format!("case {case}");
    let app = Router::new().route("/cases/{case}", get(case)).layer(layer);
    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    let signal = async { signal::ctrl_c().await.expect("a handler of signals") };
    axum::serve(listener, app).with_graceful_shutdown(signal).await?;

    cache.drain(Duration::from_secs(10)).await?;
    // What was counted since the last time, and then the last export.
    cache.publish_metrics();
    tokio::task::spawn_blocking(move || meters.shutdown()).await??;
    Ok(())
}

/// Returns the meters of this process, which a thread of the exporter reads and sends.
fn meters() -> Result<SdkMeterProvider, Box<dyn Error>> {
    let exporter = MetricExporter::builder().with_http().build()?;
    let resource = Resource::builder().with_service_name("portal").build();
    Ok(SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(resource).build())
}
