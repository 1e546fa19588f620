//! A portal's backend as a user of the crate writes it: sign-in, tenants, a nested router, a consumer of
//! messages that invalidates, commands for operators, and an end that loses nothing.
//!
//! ```console
//! $ OPERATOR_TOKEN=0123456789abcdef cargo run -p example-service &
//! $ curl -i -H 'authorization: Bearer anna@acme' http://127.0.0.1:3000/api/cases
//! $ curl -H 'authorization: Bearer 0123456789abcdef' http://127.0.0.1:3000/cache/
//! $ curl -X POST -H 'authorization: Bearer 0123456789abcdef' 'http://127.0.0.1:3000/cache/invalidate?bucket=cases'
//! ```

mod auth;
mod cases;

use std::{env, error::Error, time::Duration};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use tokio::{net::TcpListener, signal, sync::mpsc};
use tower_support_cache::{
    CacheRoute, Caller, ConfigError, Credentials, InvalidateRoute, MemoryStore, OperatorService,
    SupportCacheHandle, SupportCacheLayer, key,
};

use crate::{auth::User, cases::Cases};

const CASES: &str = "cases:{tenant}";

/// Message of the system of record: the cases of a tenant have changed.
struct Changed {
    tenant: String,
}

/// Returns the layer. It runs inside sign-in, so the user is among the extensions.
fn cache() -> Result<SupportCacheLayer<MemoryStore>, ConfigError> {
    let tenant = |user: &User| key(CASES).with("tenant", &user.tenant).to_text();
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(
            CacheRoute::get("/cases")
                .bucket("cases")
                .key_with(move |request| tenant(request.extensions().get()?))
                .credentials(Credentials::PerTenant(Caller::with(|request| {
                    Some(request.extensions().get::<User>()?.tenant.clone())
                })))
                .ttl(Duration::from_secs(120))
                .stale_if_error(Duration::from_secs(3600)),
        )
        .cache(
            CacheRoute::get("/me")
                .bucket("me")
                .key_with(|request| {
                    Some(format!("me:{}", request.extensions().get::<User>()?.name))
                })
                .credentials(Credentials::PerCaller(Caller::with(|request| {
                    Some(request.extensions().get::<User>()?.name.clone())
                })))
                .ttl(Duration::from_secs(30)),
        )
        .invalidate(
            InvalidateRoute::post("/cases")
                .key_with(move |request| tenant(request.extensions().get()?)),
        )
        .build()
}

/// Returns the service. From the inside out: handlers, cache, sign-in.
fn app(cases: Cases, layer: SupportCacheLayer<MemoryStore>) -> Router {
    let api = Router::new()
        .route("/cases", get(cases::list).post(cases::create))
        .route("/me", get(cases::me))
        .with_state(cases)
        .layer(layer)
        .layer(middleware::from_fn(auth::sign_in));
    Router::new().nest("/api", api).route("/health", post(async || ()).get(async || "ok"))
}

/// Returns the commands of operators, who have a token of their own. Without one there are none.
fn operators(cache: SupportCacheHandle, token: Option<String>) -> Result<Router, ConfigError> {
    match token {
        Some(token) => Ok(OperatorService::new(cache, token)?.into_router()),
        None => Ok(Router::new()),
    }
}

/// Invalidates what the system of record says has changed.
async fn consume(mut messages: mpsc::Receiver<Changed>, cache: SupportCacheHandle) {
    while let Some(Changed { tenant }) = messages.recv().await {
        // Pending: in force here, and retried until the store has acknowledged it.
        if let Err(pending) = cache.invalidate(key(CASES).with("tenant", tenant)).await {
            eprintln!("{pending}");
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let layer = cache()?;
    let cache = layer.handle();
    let (sender, messages) = mpsc::channel(100);
    let consumer = tokio::spawn(consume(messages, cache.clone()));
    let operators = operators(cache.clone(), env::var("OPERATOR_TOKEN").ok())?;
    let app = app(Cases::new(sender), layer).nest("/cache", operators);

    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { signal::ctrl_c().await.expect("a handler of signals") })
        .await?;
    consumer.await?;
    cache.drain(Duration::from_secs(10)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    /// Sends a request as a user; returns the end of it by `Cache-Status`, or else the status.
    async fn send(app: &Router, method: &str, path: &str, user: &str) -> String {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {user}"));
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        http_body_util::BodyExt::collect(body).await.unwrap();
        match head.headers.get("cache-status") {
            Some(end) => end.to_str().unwrap().replace("support-cache;", ""),
            None => head.status.to_string(),
        }
    }

    fn start() -> (Router, SupportCacheHandle, mpsc::Receiver<Changed>) {
        let layer = cache().unwrap();
        let (sender, messages) = mpsc::channel(100);
        (app(Cases::new(sender), layer.clone()), layer.handle(), messages)
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_shares_and_a_person_does_not() {
        let (app, _, _messages) = start();
        assert!(send(&app, "GET", "/api/cases", "anna@acme").await.starts_with("fwd=uri-miss"));
        assert!(send(&app, "GET", "/api/cases", "bert@acme").await.starts_with("hit"));
        assert!(send(&app, "GET", "/api/cases", "carl@globex").await.starts_with("fwd=uri-miss"));
        assert!(send(&app, "GET", "/api/me", "anna@acme").await.starts_with("fwd=uri-miss"));
        assert!(send(&app, "GET", "/api/me", "bert@acme").await.starts_with("fwd=uri-miss"));
        assert!(send(&app, "GET", "/api/me", "anna@acme").await.starts_with("hit"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hit_is_only_for_the_signed_in() {
        let (app, _, _messages) = start();
        send(&app, "GET", "/api/cases", "anna@acme").await;
        assert_eq!(send(&app, "GET", "/api/cases", "nobody").await, "401 Unauthorized");
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_invalidates_by_a_token_and_nobody_without_one() {
        let (app, cache, _messages) = start();
        let token = "0123456789abcdef";
        let guarded =
            app.clone().nest("/cache", operators(cache.clone(), Some(token.into())).unwrap());
        let closed = app.nest("/cache", operators(cache, None).unwrap());
        send(&guarded, "GET", "/api/cases", "anna@acme").await;
        let purge = "/cache/invalidate?bucket=cases";
        assert_eq!(send(&closed, "POST", purge, token).await, "404 Not Found");
        assert_eq!(send(&guarded, "POST", purge, "anna@acme").await, "401 Unauthorized");
        assert!(send(&guarded, "GET", "/api/cases", "anna@acme").await.starts_with("hit"));
        assert_eq!(send(&guarded, "POST", purge, token).await, "200 OK");
        assert!(send(&guarded, "GET", "/api/cases", "anna@acme").await.starts_with("fwd"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_and_a_message_invalidate() {
        let (app, cache, messages) = start();
        let consumer = tokio::spawn(consume(messages, cache));
        for write in ["POST", "message"] {
            send(&app, "GET", "/api/cases", "anna@acme").await;
            assert!(send(&app, "GET", "/api/cases", "anna@acme").await.starts_with("hit"));
            match write {
                "POST" => drop(send(&app, "POST", "/api/cases", "anna@acme").await),
                // The handler of `/api/me` of a root user stands in for the system of record.
                _ => drop(send(&app, "GET", "/api/me", "root@acme").await),
            }
            tokio::task::yield_now().await;
            assert!(send(&app, "GET", "/api/cases", "anna@acme").await.starts_with("fwd"));
        }
        drop(app);
        consumer.await.unwrap();
    }
}
