//! `POST /demo/accounts/{account}/burst`: many requests at once for a list that is not stored.
//!
//! They are made here because a browser opens only about six connections to a host. Each goes
//! through the portal as one from outside does: authentication, the cache, the handler.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{
        HeaderMap, Request, StatusCode, Uri,
        header::{AUTHORIZATION, HOST, HeaderName},
    },
    routing::post,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tower_support_cache::SupportCacheHandle;

use crate::crm::Crm;

const REQUESTS: usize = 200;
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

#[derive(Clone)]
struct Burst {
    portal: Router,
    cache: SupportCacheHandle,
    crm: Arc<Crm>,
}

/// How one request of the burst ended.
struct Answer {
    status: StatusCode,
    cache_status: String,
    milliseconds: f64,
}

/// The route, to be put within the authentication of `portal`.
pub(crate) fn router(portal: Router, cache: SupportCacheHandle, crm: Arc<Crm>) -> Router {
    Router::new().route("/demo/accounts/{account}/burst", post(burst)).with_state(Burst {
        portal,
        cache,
        crm,
    })
}

async fn burst(
    State(Burst { portal, cache, crm }): State<Burst>,
    Path(account): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let cases: Uri = format!("/accounts/{account}/cases")
        .parse()
        .map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    cache.invalidate_case_list(&account).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;

    // What else reaches the CRM during the burst is counted too: it is the CRM's own count.
    let calls_before = crm.usage().calls;
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        requests.spawn(ask(portal.clone(), request(&cases, &headers)));
    }
    let answers = requests.join_all().await;
    Ok(Json(summary(&answers, crm.usage().calls - calls_before)))
}

/// Makes a request with the right of `caller` and for the same host. The host is a part of what a
/// stored response is for, so without it the page's next read would not be a hit.
fn request(path: &Uri, caller: &HeaderMap) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.clone();
    for name in [AUTHORIZATION, HOST] {
        if let Some(value) = caller.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    request
}

async fn ask(portal: Router, request: Request<Body>) -> Answer {
    let sent = now();
    let (head, body) =
        portal.oneshot(request).await.unwrap_or_else(|error| match error {}).into_parts();
    let cache_status = head.headers.get(CACHE_STATUS).and_then(|value| value.to_str().ok());
    let was_read = to_bytes(body, usize::MAX).await.is_ok();
    Answer {
        status: if was_read { head.status } else { StatusCode::BAD_GATEWAY },
        cache_status: cache_status.unwrap_or_default().to_owned(),
        milliseconds: sent.elapsed().as_secs_f64() * 1000.0,
    }
}

/// Counts the answers that say the same in `Cache-Status`, and those with the same status.
fn summary(answers: &[Answer], calls: u64) -> Value {
    let mut statuses = BTreeMap::<&str, u64>::new();
    let mut by_cache_status = BTreeMap::<&str, Vec<f64>>::new();
    for answer in answers {
        *statuses.entry(answer.status.as_str()).or_default() += 1;
        by_cache_status.entry(&answer.cache_status).or_default().push(answer.milliseconds);
    }
    let groups: Vec<_> = by_cache_status
        .iter()
        .map(|(cache_status, milliseconds)| {
            let slowest = milliseconds.iter().copied().fold(0.0, f64::max).round();
            json!({
                "cache_status": cache_status,
                "requests": milliseconds.len(),
                "slowest_ms": slowest,
            })
        })
        .collect();
    json!({ "requests": answers.len(), "calls": calls, "statuses": statuses, "answers": groups })
}

#[allow(clippy::disallowed_methods)] // Time that passes, not the cache's.
fn now() -> Instant {
    Instant::now()
}
