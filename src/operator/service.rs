//! The service.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::{
    access::{Access, is_forged},
    command::Command,
    reply::Reply,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    exchange::acknowledged,
    handle::SupportCacheHandle,
};

/// Shortest token, in bytes.
const SHORTEST_TOKEN: usize = 16;

/// Service by which operators invalidate, switch and inspect a running cache.
///
/// It answers below the path where it is mounted. The last segment of a path names the command; parameters
/// are in the query, URL-encoded, and each may repeat.
///
/// | Request | |
/// |---|---|
/// | `GET` | routes and counts as JSON |
/// | `GET /page` | a page for browsers that shows and does all of this |
/// | `GET /outcomes?bucket=…` | the last outcomes as JSON, if they are [recorded](crate::SupportCacheLayerBuilder::record_outcomes) |
/// | `GET /audits` | what came of the [audits](SupportCacheHandle::audits), as JSON |
/// | `GET /explain?target=…&method=…&field=…&content=…` | the [explanation](SupportCacheHandle::explain) of a request, as text |
/// | `POST /invalidate?key=…&tag=…&bucket=…` | removes the responses of keys, tags and buckets |
/// | `POST /invalidate?group=…&authority=…` | removes those of groups (RFC 9875) of a host |
/// | `POST /invalidate-all` | removes everything in the store |
/// | `POST /soft-invalidate?…`, `/soft-invalidate-all` | makes them stale |
/// | `POST /switch?on=…&off=…&shadow=…` | [switches](crate::Switch) buckets |
/// | `POST /drain?seconds=…` | [drains](SupportCacheHandle::drain), for at most 10 s by default |
///
/// 200 means that the store has acknowledged the whole command. 202 means that it has not yet, and is asked
/// again. The body of a 400 names what is wrong with the query; nothing was done. The body of a request is not
/// read.
///
/// A browser asks for a name and a password to show the page: the name is any, the password is the token. A
/// command that a page from elsewhere has the browser send is refused with 403.
///
/// ```
/// use axum::Router;
/// use tower_support_cache::{MemoryStore, OperatorService, SupportCacheLayer};
///
/// let layer = SupportCacheLayer::new(MemoryStore::new());
/// let operators = OperatorService::new(layer.handle(), "a long random secret")?;
/// // Beside the cached routes, not behind the layer.
/// let app: Router = Router::new().nest_service("/cache", operators);
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[doc(alias = "purge", alias = "admin")]
#[derive(Clone)]
pub struct OperatorService {
    cache: SupportCacheHandle,
    access: Access,
}

impl OperatorService {
    /// Creates a service for callers that send `Authorization: Bearer` with the token, or `Basic` with the
    /// token as the password. Tokens are compared in constant time.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the token has fewer than 16 bytes.
    pub fn new(cache: SupportCacheHandle, token: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        let token = token.as_ref();
        if token.len() < SHORTEST_TOKEN {
            let problem = format!("is too short: take at least {SHORTEST_TOKEN} random bytes");
            let error = ConfigError::new(ConfigErrorKind::Token, "token", problem);
            return Err(error.of("OperatorService"));
        }
        Ok(Self { cache, access: Access::of_token(token) })
    }

    /// Creates a service for everybody who can reach it.
    ///
    /// They can empty the cache again and again, and learn the names and counts of buckets. Use it only where
    /// another layer has checked the caller, or on a port that clients do not reach.
    pub fn allow_unauthenticated(cache: SupportCacheHandle) -> Self {
        Self { cache, access: Access::Everybody }
    }

    /// Returns a router with the service at every path.
    #[cfg(feature = "axum")]
    pub fn into_router(self) -> axum::Router {
        axum::Router::new().fallback_service(self)
    }

    async fn run(self, command: Command) -> Reply {
        match command {
            Command::Inspect => Reply::state(&self.cache.routes(), &self.cache.metrics()),
            Command::Page => Reply::page(),
            Command::Outcomes(bucket) => Reply::outcomes(&self.cache.recent_outcomes(&bucket)),
            Command::Audits => Reply::audits(&self.cache.audits()),
            Command::Explain(request) => {
                Reply::text(StatusCode::OK, self.cache.explain_with_content(&request).await)
            }
            Command::Invalidate(targets, strength) => {
                // All invalidations take effect before the first is awaited.
                let calls: Vec<_> =
                    targets.iter().map(|target| target.invalidate(&self.cache, strength)).collect();
                match acknowledged(calls).await {
                    Ok(()) => Reply::done(),
                    Err(pending) => Reply::text(StatusCode::ACCEPTED, &pending),
                }
            }
            Command::Switch(switches) => {
                for (bucket, switch) in switches {
                    self.cache.switch(&bucket, switch);
                }
                Reply::done()
            }
            Command::Drain(limit) => match self.cache.drain(limit).await {
                Ok(()) => Reply::done(),
                Err(unfinished) => Reply::text(StatusCode::ACCEPTED, &unfinished),
            },
        }
    }
}

impl fmt::Debug for OperatorService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorService").finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for OperatorService {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let command = match self.access.admits(request.headers()) {
            true if is_forged(&request) => Err(Reply::forged()),
            true => Command::of(&request, &self.cache.metrics()),
            false => Err(Reply::unauthorized(&request)),
        };
        let service = self.clone();
        Box::pin(async move {
            let reply = match command {
                Ok(command) => service.run(command).await,
                Err(reply) => reply,
            };
            Ok(reply.into_response())
        })
    }
}
