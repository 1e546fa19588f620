//! Requests that are sent before clients ask.

use std::{future::poll_fn, pin::pin};

use http::{HeaderValue, Request, Response, header::HOST};
use http_body::Body;
use tokio::task::JoinSet;
use tower::ServiceExt;
use tower_service::Service;

use crate::metrics::cache_outcome::{CacheOutcome, ReportOutcome};

/// Requests that fill the cache before clients ask: after a deploy, or after everything was invalidated.
///
/// They go through a service, the whole router for instance, so that they meet what a client's requests
/// meet: authentication, the cache, the handlers. A stored response is for one host. So a request without
/// `Host` gets the given one, which must be that of the clients.
///
/// ```
/// use axum::{Router, body::Body, routing::get};
/// use http::{HeaderValue, Request};
/// use tower_support_cache::{MemoryStore, SupportCacheLayer, Warmup};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let layer = SupportCacheLayer::new(MemoryStore::new());
/// let app = Router::new().route("/accounts/{account}/cases", get(async || "the cases"));
/// let app: Router = app.layer(layer);
///
/// let accounts = ["A1", "A2", "A3"];
/// let requests = accounts.map(|id| {
///     Request::get(format!("/accounts/{id}/cases")).body(Body::empty()).unwrap()
/// });
/// let host = HeaderValue::from_static("portal.example");
/// let warmed = Warmup::new(app, host).concurrency(2).send(requests).await;
/// assert_eq!((warmed.stored, warmed.failed), (3, 0));
/// # }
/// ```
#[doc(alias = "warm up")]
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `.send(..)`"]
pub struct Warmup<S> {
    service: S,
    host: HeaderValue,
    concurrency: usize,
}

/// Result of a [`Warmup`].
///
/// ```
/// use tower_support_cache::Warmed;
///
/// assert_eq!(Warmed::default().stored, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warmed {
    /// Requests whose responses were stored.
    pub stored: u64,
    /// Requests that were answered from the cache, by then or before.
    pub present: u64,
    /// Requests whose responses were not stored: another layer answered, no route is for them, or the cache
    /// refused the response.
    pub uncached: u64,
    /// Requests that ended with an error or a panic of the service.
    pub failed: u64,
}

impl<S> Warmup<S> {
    /// Creates a warm-up through a service, for clients that send this `Host`.
    pub fn new(service: S, host: HeaderValue) -> Self {
        Self { service, host, concurrency: 4 }
    }

    /// Sets how many requests are on their way at once, at least one. Defaults to 4.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sends requests, and reads each response to its end.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancellation
    ///
    /// Dropped, it sends no more, and gives up those on their way.
    pub async fn send<Q, B>(&self, requests: impl IntoIterator<Item = Request<Q>>) -> Warmed
    where
        S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        Q: Send + 'static,
        B: Body + Send + 'static,
    {
        let (mut sent, mut warmed) = (JoinSet::new(), Warmed::default());
        for mut request in requests {
            if sent.len() >= self.concurrency
                && let Some(ended) = sent.join_next().await
            {
                warmed.count(ended.unwrap_or(Err(())));
            }
            if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, self.host.clone());
            }
            request.extensions_mut().insert(ReportOutcome);
            sent.spawn(outcome(self.service.clone(), request));
        }
        while let Some(ended) = sent.join_next().await {
            warmed.count(ended.unwrap_or(Err(())));
        }
        warmed
    }
}

impl Warmed {
    fn count(&mut self, ended: Result<Option<CacheOutcome>, ()>) {
        let counter = match ended {
            Ok(Some(CacheOutcome::Miss(Ok(())))) => &mut self.stored,
            Ok(Some(CacheOutcome::Hit | CacheOutcome::Stale(_) | CacheOutcome::Collapsed)) => {
                &mut self.present
            }
            Ok(_) => &mut self.uncached,
            Err(()) => &mut self.failed,
        };
        *counter += 1;
    }
}

/// Sends a request and reads its response to the end.
async fn outcome<S, Q, B>(service: S, request: Request<Q>) -> Result<Option<CacheOutcome>, ()>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    let response = service.oneshot(request).await.map_err(drop)?;
    let outcome = response.extensions().get().copied();
    let mut body = pin!(response.into_body());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        frame.map_err(drop)?;
    }
    Ok(outcome)
}
