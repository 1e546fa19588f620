//! Filters of warp behind the cache: `warp::service` makes a tower service of them, and the layer wraps it.
//!
//! ```console
//! $ cargo run -p example-warp-stack
//! $ curl -i http://127.0.0.1:3000/accounts/A1/cases
//! $ curl -i -X POST http://127.0.0.1:3000/accounts/A1/cases
//! ```
//!
//! `PORT` chooses the port (3000; 0 takes any that is free).

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{net::TcpListener, signal};
use tower::Layer;
use tower_support_cache::{CacheRoute, InvalidateRoute, MemoryStore, SupportCacheLayer};
use warp::{Filter, Reply, filters::BoxedFilter, http::StatusCode};

const CASES: &str = "/accounts/{account}/cases";

/// Makes the service: the cases of an account are listed and created.
fn filters() -> BoxedFilter<(impl Reply,)> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let list = warp::get().and(warp::path!("accounts" / String / "cases")).map(move |account| {
        format!("{} cases of {account}", count.load(Ordering::Relaxed)).into_response()
    });
    let create = warp::post().and(warp::path!("accounts" / String / "cases")).map(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        StatusCode::CREATED.into_response()
    });
    list.or(create).unify().boxed()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get(CASES).key("cases:{account}").ttl(Duration::from_secs(60)))
        .invalidate(InvalidateRoute::post(CASES).key("cases:{account}"))
        .build()?;
    let cache = layer.handle();
    let service = layer.layer(warp::service(filters()));

    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    let mut stop = std::pin::pin!(signal::ctrl_c());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let service = TowerToHyperService::new(service.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(accepted?.0), service));
            }
            stopped = &mut stop => break stopped?,
        }
    }
    cache.drain(Duration::from_secs(10)).await?;
    Ok(())
}
