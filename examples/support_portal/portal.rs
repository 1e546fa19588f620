//! The portal's routes, with the cache in front of their handlers, and beside them the page that
//! shows both.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tower_support_cache::{
    CASE_LIST_TTL, CASE_MESSAGES_TTL, CacheRoute, ConfigError, Credentials, InvalidateRoute,
    MemoryStore, OperatorService, OriginBudget, Store, SupportCacheHandle, SupportCacheLayer,
};

use crate::{
    auth, burst, control,
    crm::{CALLS_A_DAY, Case, Crm, CrmError, DAY, Message},
    metrics, page,
    processes::Processes,
    server::Server,
};

const MAX_TEXT: usize = 4_000;

/// Time for which a stale response answers while it is revalidated.
const WHILE_REVALIDATE: Duration = Duration::from_secs(60);
/// Time for which one answers while the CRM fails, or while its calls are nearly spent.
const WITHOUT_CRM: Duration = Duration::from_secs(60 * 60);

/// Makes the portal of one process, whose responses are in its memory.
pub(crate) fn alone(crm: Arc<Crm>) -> Result<(Router, SupportCacheHandle), ConfigError> {
    router(MemoryStore::new(), crm, Processes::default())
}

/// Makes the portal of one of several processes, which share a Redis.
pub(crate) fn shared(
    server: &Server,
    crm: Arc<Crm>,
    processes: Processes,
) -> Result<(Router, SupportCacheHandle), ConfigError> {
    let (router, handle) = router(server.store()?, crm, processes)?;
    // A stored response is for one host, and here each process is reached at an address of its own.
    // The same name for all comes from a load balancer otherwise.
    let named = middleware::map_request(async |mut request: axum::extract::Request| {
        let host = axum::http::HeaderValue::from_static("portal.example");
        request.headers_mut().insert(axum::http::header::HOST, host);
        request
    });
    Ok((router.layer(named), handle))
}

fn router<St: Store>(
    store: St,
    crm: Arc<Crm>,
    processes: Processes,
) -> Result<(Router, SupportCacheHandle), ConfigError> {
    let cache = cache_layer(store)?;
    let handle = cache.handle();
    let authentication = middleware::from_fn_with_state(auth::tokens(), auth::require_own_account);
    let accounts = Router::new()
        .route("/accounts/{account}/cases", get(list_cases).post(create_case))
        .route("/accounts/{account}/cases/{case}/messages", get(list_messages))
        .route("/accounts/{account}/cases/{case}/comments", post(add_comment))
        // The layer added last is the outermost, and a hit runs nothing that lies within the cache:
        // authentication inside it would let whoever knows a URL read what is stored.
        .route_layer(cache)
        .route_layer(authentication.clone())
        .with_state(Arc::clone(&crm));
    let burst = burst::router(accounts.clone(), handle.clone(), Arc::clone(&crm))
        .route_layer(authentication);
    let portal = page::router()
        .merge(control::router(handle.clone()))
        // The program listens on the loopback interface only, so the operator's page needs no token.
        .nest_service("/cache", OperatorService::allow_unauthenticated(handle.clone()))
        .merge(metrics::router(handle.clone(), crm, processes))
        .merge(burst)
        .merge(accounts);
    Ok((portal, handle))
}

fn cache_layer<St: Store>(store: St) -> Result<SupportCacheLayer<St>, ConfigError> {
    // As the calls of a day are spent, the cache makes fewer.
    let calls = u32::try_from(CALLS_A_DAY).unwrap_or(u32::MAX);
    SupportCacheLayer::builder(store)
        .origin_budget(OriginBudget::new(calls, DAY).name("crm"))
        // For the operator's page.
        .record_outcomes(200)
        .cache(
            CacheRoute::get("/accounts/{account}/cases")
                .bucket("case_list")
                .key("support:cases:{account}")
                .ttl(CASE_LIST_TTL)
                .early_refresh(1.0)
                .stale_while_revalidate(WHILE_REVALIDATE)
                .stale_if_error(WITHOUT_CRM),
        )
        .cache(
            CacheRoute::get("/accounts/{account}/cases/{case}/messages")
                .bucket("messages")
                .key("support:messages:{case}")
                .ttl(CASE_MESSAGES_TTL)
                .early_refresh(1.0)
                .stale_while_revalidate(WHILE_REVALIDATE)
                .stale_if_error(WITHOUT_CRM),
        )
        // A new case needs no rule: a successful write to a cached path invalidates that path's key.
        .invalidate(
            InvalidateRoute::post("/accounts/{account}/cases/{case}/comments")
                .key("support:messages:{case}")
                .key("support:cases:{account}"),
        )
        // All who may see an account's path have the same right to it: `auth` has made sure.
        .credentials(Credentials::CoveredByKey)
        .build()
}

async fn list_cases(
    State(crm): State<Arc<Crm>>,
    Path(account): Path<String>,
) -> Result<Json<Value>, CrmError> {
    let cases = crm.cases(&account).await?;
    Ok(Json(json!({ "account": account, "cases": cases.iter().map(summary).collect::<Vec<_>>() })))
}

async fn create_case(
    State(crm): State<Arc<Crm>>,
    Path(account): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, CrmError> {
    let (Some(subject), Some(text)) = (text_of(&body, "subject"), text_of(&body, "text")) else {
        return Ok(unfit("give a `subject` and a `text`\n"));
    };
    let case = crm.create_case(&account, subject, text).await?;
    Ok((StatusCode::CREATED, Json(summary(&case))).into_response())
}

async fn list_messages(
    State(crm): State<Arc<Crm>>,
    Path((account, case)): Path<(String, String)>,
) -> Result<Json<Value>, CrmError> {
    let messages = crm.messages(&account, &case).await?;
    Ok(Json(json!({ "case": case, "messages": messages.iter().map(full).collect::<Vec<_>>() })))
}

async fn add_comment(
    State(crm): State<Arc<Crm>>,
    Path((account, case)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Response, CrmError> {
    let Some(text) = text_of(&body, "text") else {
        return Ok(unfit("give a `text`\n"));
    };
    let message = crm.add_comment(&account, &case, text).await?;
    Ok((StatusCode::CREATED, Json(full(&message))).into_response())
}

/// A case as the list shows it. The comments change it too, which is why they invalidate the list.
fn summary(case: &Case) -> Value {
    let Case { id, subject, status, messages } = case;
    json!({ "case": id, "subject": subject, "status": status, "messages": messages.len() })
}

fn full(message: &Message) -> Value {
    json!({ "author": message.author, "text": message.text })
}

/// Returns a field that is a text, neither blank nor too long.
fn text_of(body: &Value, field: &str) -> Option<String> {
    let text = body.get(field)?.as_str()?.trim();
    (!text.is_empty() && text.len() <= MAX_TEXT).then(|| text.to_owned())
}

fn unfit(problem: &'static str) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response()
}

impl IntoResponse for CrmError {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "there is no such case\n"),
            Self::QuotaExhausted => {
                (StatusCode::SERVICE_UNAVAILABLE, "the CRM takes no more calls today\n")
            }
            Self::Unreachable => (StatusCode::SERVICE_UNAVAILABLE, "the CRM is not there\n"),
        }
        .into_response()
    }
}
