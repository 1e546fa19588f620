//! Credentials that are asked for at each connection.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc};

use redis::{ErrorKind, RedisConnectionInfo, RedisError};

/// Credentials of one connection to the server, from
/// [`RedisStoreBuilder::credentials`](crate::store::RedisStoreBuilder::credentials). `Debug` does not show
/// the password.
///
/// ```
/// use tower_support_cache::RedisCredentials;
///
/// let credentials = RedisCredentials::new("portal", "a token of this hour");
/// assert_eq!(format!("{credentials:?}"), "RedisCredentials(..)");
/// ```
#[derive(Clone)]
pub struct RedisCredentials {
    username: Option<String>,
    password: String,
}

/// Source of credentials.
#[derive(Clone)]
pub(crate) struct CredentialSource(Arc<Ask>);

type Ask = dyn Fn() -> Pin<Box<Asked>> + Send + Sync;
type Asked = dyn Future<Output = Result<RedisCredentials, RedisError>> + Send;

impl RedisCredentials {
    /// Takes a user and a password, or a token in its place.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: Some(username.into()), password: password.into() }
    }

    /// Takes a password for the default user.
    pub fn password(password: impl Into<String>) -> Self {
        Self { username: None, password: password.into() }
    }
}

impl fmt::Debug for RedisCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisCredentials(..)")
    }
}

impl CredentialSource {
    pub(crate) fn new<F, A, E>(source: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<RedisCredentials, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Arc::new(move || {
            let asked = source();
            Box::pin(async {
                asked.await.map_err(|error| {
                    let problem = error.into().to_string();
                    (ErrorKind::Client, "there are no credentials", problem).into()
                })
            })
        }))
    }

    /// Sets the credentials of the next connection.
    pub(super) async fn fill_in(
        &self,
        redis: RedisConnectionInfo,
    ) -> Result<RedisConnectionInfo, RedisError> {
        let RedisCredentials { username, password } = self.0().await?;
        let redis = redis.set_password(password);
        Ok(match username {
            Some(username) => redis.set_username(username),
            None => redis,
        })
    }
}
