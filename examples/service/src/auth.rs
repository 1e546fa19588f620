//! Sign-in, which stands in for a real one: the token is `name@tenant`.

use axum::{
    extract::Request,
    http::{StatusCode, header::AUTHORIZATION},
    middleware::Next,
    response::Response,
};

/// User who has signed in.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) tenant: String,
}

/// Refuses a request without a user, and adds the user to the others.
pub(crate) async fn sign_in(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let token = request.headers().get(AUTHORIZATION).and_then(|token| token.to_str().ok());
    let user = token.and_then(|token| token.strip_prefix("Bearer ")?.split_once('@'));
    let (name, tenant) = user.ok_or(StatusCode::UNAUTHORIZED)?;
    let user = User { name: name.to_owned(), tenant: tenant.to_owned() };
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}
