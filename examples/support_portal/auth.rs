//! Who asks, and whether it is about their own account.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Path, Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::seed;

/// The account that each valid token is for. A portal of your own asks its sessions or its identity
/// provider.
pub(crate) type AccountByToken = Arc<HashMap<String, String>>;

pub(crate) fn tokens() -> AccountByToken {
    Arc::new(seed::account_names().map(|account| (token_of(&account), account)).collect())
}

pub(crate) fn token_of(account: &str) -> String {
    format!("demo-{account}")
}

/// Lets a request pass whose token is for the account in its path.
pub(crate) async fn require_own_account(
    State(accounts): State<AccountByToken>,
    Path(parameters): Path<HashMap<String, String>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(own) = bearer_token(request.headers()).and_then(|token| accounts.get(token)) else {
        let challenge = [(WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, "a valid token is needed\n").into_response();
    };
    // A route without an account in its path has no owner, so nobody may pass.
    if parameters.get("account") != Some(own) {
        return (StatusCode::FORBIDDEN, "this account is not yours\n").into_response();
    }
    next.run(request).await
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
