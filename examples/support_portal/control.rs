//! `/demo`: what the page offers besides the portal itself. It lies outside the cache, and asks for
//! no token: the program listens on the loopback interface only, and what is here is made up.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::{Value, json};
use tower_support_cache::{SupportCacheHandle, Switch};

use crate::seed;

/// Routes that list the accounts and the buckets, and switch a bucket.
pub(crate) fn router(cache: SupportCacheHandle) -> Router {
    Router::new()
        .route("/demo", get(show))
        // The body is JSON, so that a page from elsewhere cannot send it without being asked first.
        .route("/demo/buckets/{bucket}", put(switch))
        .with_state(cache)
}

async fn show(State(cache): State<SupportCacheHandle>) -> Json<Value> {
    let accounts: Vec<_> = seed::account_names().collect();
    let metrics = cache.metrics();
    let is_on: BTreeMap<_, _> =
        metrics.buckets.iter().map(|(name, bucket)| (name, bucket.switch == Switch::On)).collect();
    Json(json!({ "accounts": accounts, "buckets": is_on }))
}

/// Takes `{"on": true}` or `{"on": false}`.
async fn switch(
    State(cache): State<SupportCacheHandle>,
    Path(bucket): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let Some(on) = body.get("on").and_then(Value::as_bool) else {
        return (StatusCode::UNPROCESSABLE_ENTITY, "give `on`, true or false\n").into_response();
    };
    if !cache.switch(&bucket, if on { Switch::On } else { Switch::Off }) {
        return (StatusCode::NOT_FOUND, "there is no such bucket\n").into_response();
    }
    Json(json!({ "bucket": bucket, "on": on })).into_response()
}
