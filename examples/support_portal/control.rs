//! `/demo`: what the page offers besides the portal itself. It lies outside the cache, and asks for
//! no token: the program listens on the loopback interface only, and what is here is made up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

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

#[derive(Clone)]
struct Control {
    cache: SupportCacheHandle,
    /// Whether each bucket is on: a handle switches, but does not tell.
    is_on: Arc<Mutex<BTreeMap<String, bool>>>,
}

/// Routes that list the accounts and the buckets, and switch a bucket.
pub(crate) fn router(cache: SupportCacheHandle) -> Router {
    let buckets = cache.metrics().buckets.into_keys();
    let is_on = Arc::new(Mutex::new(buckets.map(|name| (name, true)).collect()));
    Router::new()
        .route("/demo", get(show))
        // The body is JSON, so that a page from elsewhere cannot send it without being asked first.
        .route("/demo/buckets/{bucket}", put(switch))
        .with_state(Control { cache, is_on })
}

async fn show(State(control): State<Control>) -> Json<Value> {
    let accounts: Vec<_> = seed::account_names().collect();
    let is_on = control.is_on.lock().expect("nothing panics under the lock");
    Json(json!({ "accounts": accounts, "buckets": *is_on }))
}

/// Takes `{"on": true}` or `{"on": false}`.
async fn switch(
    State(control): State<Control>,
    Path(bucket): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let Some(on) = body.get("on").and_then(Value::as_bool) else {
        return (StatusCode::UNPROCESSABLE_ENTITY, "give `on`, true or false\n").into_response();
    };
    // Under the lock from the switch to the note of it: of two at once, the later is noted last.
    let mut is_on = control.is_on.lock().expect("nothing panics under the lock");
    if !control.cache.switch(&bucket, if on { Switch::On } else { Switch::Off }) {
        return (StatusCode::NOT_FOUND, "there is no such bucket\n").into_response();
    }
    is_on.insert(bucket.clone(), on);
    Json(json!({ "bucket": bucket, "on": on })).into_response()
}
