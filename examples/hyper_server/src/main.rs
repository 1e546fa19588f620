//! A server made of hyper alone, with the cache around its service, and an end that loses nothing.
//!
//! ```console
//! $ cargo run -p example-hyper-server
//! $ curl -i http://127.0.0.1:3000/cases/C1
//! $ curl -i -X PUT -d 'waits for a part' http://127.0.0.1:3000/cases/C1
//! ```
//!
//! `PORT` chooses the port (3000; 0 takes any that is free). On Ctrl-C and SIGTERM it accepts nothing more,
//! answers the requests that have begun, and waits for what the cache has still to do.

use std::{
    collections::HashMap,
    env,
    error::Error,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::ALLOW, server::conn::http1,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tower::{Layer, service_fn};
use tower_support_cache::{CacheRoute, InvalidateRoute, MemoryStore, SupportCacheLayer};

/// Time that requests under way have at the end, and after them the cache.
const PATIENCE: Duration = Duration::from_secs(10);

/// State of each case. A real service asks the system of record instead.
type Cases = Arc<Mutex<HashMap<String, Bytes>>>;

async fn answer(
    cases: Cases,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let Some(case) = head.uri.path().strip_prefix("/cases/") else {
        return Ok(with_status(StatusCode::NOT_FOUND));
    };
    match head.method {
        Method::GET => {
            let cases = cases.lock().unwrap_or_else(PoisonError::into_inner);
            let state = cases.get(case).cloned();
            Ok(Response::new(Full::new(state.unwrap_or(Bytes::from_static(b"open")))))
        }
        Method::PUT => {
            let state = body.collect().await?.to_bytes();
            cases.lock().unwrap_or_else(PoisonError::into_inner).insert(case.to_owned(), state);
            Ok(with_status(StatusCode::NO_CONTENT))
        }
        _ => {
            let mut response = with_status(StatusCode::METHOD_NOT_ALLOWED);
            response
                .headers_mut()
                .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, PUT"));
            Ok(response)
        }
    }
}

fn with_status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Ends with the first signal to stop.
async fn stop() -> io::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").key("case:{case}").ttl(Duration::from_secs(60)))
        .invalidate(InvalidateRoute::put("/cases/{case}").key("case:{case}"))
        .build()?;
    let cache = layer.handle();
    let cases = Cases::default();
    let service = layer.layer(service_fn(move |request| answer(Arc::clone(&cases), request)));

    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let (graceful, mut stop) = (GracefulShutdown::new(), std::pin::pin!(stop()));
    println!("http://{}", listener.local_addr()?);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let service = TowerToHyperService::new(service.clone());
                let connection = http1::Builder::new().serve_connection(TokioIo::new(accepted?.0), service);
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        eprintln!("a connection: {error}");
                    }
                });
            }
            stopped = &mut stop => break stopped?,
        }
    }
    // In this order: after the server no request begins, so the drain finds all there is.
    drop(listener);
    if timeout(PATIENCE, graceful.shutdown()).await.is_err() {
        eprintln!("some requests are not answered");
    }
    cache.drain(PATIENCE).await?;
    println!("{} hits, all ended", cache.metrics().buckets.values().map(|it| it.hits).sum::<u64>());
    Ok(())
}
