//! Service for operators: invalidation, switches and inspection over HTTP.

use std::{
    convert::Infallible,
    fmt::{self, Display, Write},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use percent_encoding::percent_decode_str;
use tower_service::Service;

use crate::{
    error::{ConfigError, ConfigErrorKind},
    exchange::acknowledged,
    handle::{Invalidation, SupportCacheHandle},
    key::Strength,
    metrics::{BucketSnapshot, Snapshot, switch::Switch},
};

/// Shortest token, in bytes.
const SHORTEST_TOKEN: usize = 16;
/// Default limit of a drain.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Longest limit of a drain, in seconds.
const LONGEST_DRAIN: u64 = 3600;

/// Service by which operators invalidate, switch and inspect a running cache.
///
/// It answers below the path where it is mounted. The last segment of a path names the command; parameters
/// are in the query, URL-encoded, and each may repeat.
///
/// | Request | |
/// |---|---|
/// | `GET` | the counts as JSON |
/// | `POST /invalidate?key=…&tag=…&bucket=…` | removes the responses of keys, tags and buckets |
/// | `POST /invalidate?group=…&authority=…` | removes those of groups (RFC 9875) of a host |
/// | `POST /invalidate-all` | removes everything in the store |
/// | `POST /soft-invalidate?…`, `/soft-invalidate-all` | makes them stale |
/// | `POST /switch?on=…&off=…&shadow=…` | [switches](Switch) buckets |
/// | `POST /drain?seconds=…` | [drains](SupportCacheHandle::drain), for at most 10 s by default |
///
/// 200 means that the store has acknowledged the whole command. 202 means that it has not yet, and is asked
/// again. The body of a 400 names what is wrong with the query; nothing was done. The body of a request is not
/// read.
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

#[derive(Clone, Copy)]
enum Access {
    /// Callers that send the token of this digest.
    Token(blake3::Hash),
    Everybody,
}

impl OperatorService {
    /// Creates a service for callers that send `Authorization: Bearer` with the token. Tokens are compared in
    /// constant time.
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
        Ok(Self { cache, access: Access::Token(blake3::hash(token)) })
    }

    /// Creates a service for everybody who can reach it.
    ///
    /// They can empty the cache again and again, and learn the names and counts of buckets. A web page that an
    /// operator opens can send such requests, too. Use it only where another layer has checked the caller, or
    /// on a port that neither clients nor browsers reach.
    pub fn allow_unauthenticated(cache: SupportCacheHandle) -> Self {
        Self { cache, access: Access::Everybody }
    }

    /// Returns a router with the service at every path.
    #[cfg(feature = "axum")]
    pub fn into_router(self) -> axum::Router {
        axum::Router::new().fallback_service(self)
    }

    fn admits(&self, request: &HeaderMap) -> bool {
        let Access::Token(expected) = self.access else { return true };
        let field = request.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let token = field.and_then(|field| {
            let (scheme, token) = field.split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
        });
        // Digests are compared in constant time.
        token.is_some_and(|token| blake3::hash(token) == expected)
    }

    async fn run(self, command: Command) -> Reply {
        match command {
            Command::Inspect => Reply::counts(&self.cache.metrics()),
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
        let command = match self.admits(request.headers()) {
            true => Command::of(&request, &self.cache.metrics()),
            false => Err(Reply::unauthorized()),
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

// ===== commands =====

/// Command of an operator.
enum Command {
    Inspect,
    Invalidate(Vec<PurgeTarget>, Strength),
    Switch(Vec<(String, Switch)>),
    Drain(Duration),
}

/// Target of one invalidation.
enum PurgeTarget {
    Key(String),
    Tag(String),
    Bucket(String),
    Group { authority: String, group: String },
    All,
}

impl Command {
    /// Reads a whole request, so that nothing is done if a part of it is wrong.
    fn of<B>(request: &Request<B>, counts: &Snapshot) -> Result<Self, Reply> {
        let name = match (request.method(), CommandName::of(request.uri().path())) {
            (&Method::POST, Some(name)) => name,
            (&Method::GET, None) => return Ok(Self::Inspect),
            (&Method::POST, None) => {
                return Err(Reply::text(StatusCode::NOT_FOUND, "there is no such command"));
            }
            (_, Some(_)) => return Err(Reply::not_allowed("POST")),
            (_, None) => return Err(Reply::not_allowed("GET")),
        };
        let parameters = parameters(request.uri().query().unwrap_or_default())?;
        match name {
            CommandName::Invalidate(strength) => {
                Ok(Self::Invalidate(targets(&parameters, counts)?, strength))
            }
            CommandName::InvalidateAll(strength) => {
                allow(&parameters, &[])?;
                Ok(Self::Invalidate(vec![PurgeTarget::All], strength))
            }
            CommandName::Switch => switches(parameters, counts),
            CommandName::Drain => drain(&parameters),
        }
    }
}

/// Name of a command, the last segment of a path.
enum CommandName {
    Invalidate(Strength),
    InvalidateAll(Strength),
    Switch,
    Drain,
}

impl CommandName {
    fn of(path: &str) -> Option<Self> {
        match path.trim_end_matches('/').rsplit('/').next()? {
            "invalidate" => Some(Self::Invalidate(Strength::Hard)),
            "soft-invalidate" => Some(Self::Invalidate(Strength::Soft)),
            "invalidate-all" => Some(Self::InvalidateAll(Strength::Hard)),
            "soft-invalidate-all" => Some(Self::InvalidateAll(Strength::Soft)),
            "switch" => Some(Self::Switch),
            "drain" => Some(Self::Drain),
            _ => None,
        }
    }
}

impl PurgeTarget {
    fn invalidate(&self, cache: &SupportCacheHandle, strength: Strength) -> Invalidation {
        match (self, strength) {
            (Self::Key(key), Strength::Hard) => cache.invalidate(key),
            (Self::Key(key), Strength::Soft) => cache.soft_invalidate(key),
            (Self::Tag(tag), Strength::Hard) => cache.invalidate_tag(tag),
            (Self::Tag(tag), Strength::Soft) => cache.soft_invalidate_tag(tag),
            (Self::Bucket(name), Strength::Hard) => cache.invalidate_bucket(name),
            (Self::Bucket(name), Strength::Soft) => cache.soft_invalidate_bucket(name),
            (Self::Group { authority, group }, Strength::Hard) => {
                cache.invalidate_group(authority, group)
            }
            (Self::Group { authority, group }, Strength::Soft) => {
                cache.soft_invalidate_group(authority, group)
            }
            (Self::All, Strength::Hard) => cache.invalidate_all(),
            (Self::All, Strength::Soft) => cache.soft_invalidate_all(),
        }
    }
}

/// Decoded parameter of a query.
struct Parameter {
    name: String,
    value: String,
}

fn parameters(query: &str) -> Result<Vec<Parameter>, Reply> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let decoded = percent_decode_str(&text).decode_utf8();
        decoded.map(Into::into).map_err(|_| Reply::refused("a parameter is no UTF-8"))
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let parameter = Parameter { name: decode(name)?, value: decode(value)? };
            match parameter.value.trim().is_empty() {
                true => Err(Reply::refused(format_args!("`{}` has no value", parameter.name))),
                false => Ok(parameter),
            }
        })
        .collect()
}

/// Refuses parameters that a command does not have.
fn allow(parameters: &[Parameter], names: &[&str]) -> Result<(), Reply> {
    match parameters.iter().find(|parameter| !names.contains(&&*parameter.name)) {
        Some(Parameter { name, .. }) => {
            Err(Reply::refused(format_args!("there is no parameter `{name}` here")))
        }
        None => Ok(()),
    }
}

fn known(bucket: &str, counts: &Snapshot) -> Result<String, Reply> {
    match counts.bucket(bucket) {
        Some(_) => Ok(bucket.to_owned()),
        None => Err(Reply::refused(format_args!("there is no bucket `{bucket}`"))),
    }
}

fn targets(parameters: &[Parameter], counts: &Snapshot) -> Result<Vec<PurgeTarget>, Reply> {
    allow(parameters, &["key", "tag", "bucket", "group", "authority"])?;
    let authority = parameters.iter().find(|parameter| parameter.name == "authority");
    let mut targets = Vec::new();
    for Parameter { name, value } in parameters {
        targets.push(match (&**name, authority) {
            ("key", _) => PurgeTarget::Key(value.clone()),
            ("tag", _) => PurgeTarget::Tag(value.clone()),
            ("bucket", _) => PurgeTarget::Bucket(known(value, counts)?),
            ("group", Some(authority)) => {
                PurgeTarget::Group { authority: authority.value.clone(), group: value.clone() }
            }
            ("group", None) => return Err(Reply::refused("`group` needs an `authority`")),
            _ => continue,
        });
    }
    match targets.is_empty() {
        true => Err(Reply::refused("the query names nothing to invalidate")),
        false => Ok(targets),
    }
}

fn switches(parameters: Vec<Parameter>, counts: &Snapshot) -> Result<Command, Reply> {
    allow(&parameters, &["on", "off", "shadow"])?;
    let switch = |Parameter { name, value }| {
        let switch = match &*name {
            "on" => Switch::On,
            "off" => Switch::Off,
            _ => Switch::Shadow,
        };
        Ok((known(&value, counts)?, switch))
    };
    parameters.into_iter().map(switch).collect::<Result<_, _>>().map(Command::Switch)
}

fn drain(parameters: &[Parameter]) -> Result<Command, Reply> {
    allow(parameters, &["seconds"])?;
    let Some(seconds) = parameters.first() else { return Ok(Command::Drain(DRAIN_LIMIT)) };
    match seconds.value.parse() {
        Ok(seconds @ 0..=LONGEST_DRAIN) => Ok(Command::Drain(Duration::from_secs(seconds))),
        _ => Err(Reply::refused(format_args!("`seconds` is a number up to {LONGEST_DRAIN}"))),
    }
}

// ===== replies =====

/// Response to an operator.
struct Reply {
    status: StatusCode,
    media_type: &'static str,
    text: String,
    /// Field that says what to do instead.
    hint: Option<(HeaderName, &'static str)>,
}

impl Reply {
    fn text(status: StatusCode, text: impl Display) -> Self {
        let (media_type, text) = ("text/plain; charset=utf-8", format!("{text}\n"));
        Self { status, media_type, text, hint: None }
    }

    fn done() -> Self {
        Self::text(StatusCode::OK, "done")
    }

    fn refused(problem: impl Display) -> Self {
        Self::text(StatusCode::BAD_REQUEST, problem)
    }

    fn unauthorized() -> Self {
        let reply = Self::text(StatusCode::UNAUTHORIZED, "a token is needed");
        Self { hint: Some((WWW_AUTHENTICATE, "Bearer")), ..reply }
    }

    fn not_allowed(allowed: &'static str) -> Self {
        let text = format!("send it by {allowed}");
        let reply = Self::text(StatusCode::METHOD_NOT_ALLOWED, text);
        Self { hint: Some((ALLOW, allowed)), ..reply }
    }

    /// Writes the counts as JSON. Names of buckets and reasons need no escapes.
    fn counts(counts: &Snapshot) -> Self {
        let Snapshot { buckets, flights, detached, hook_pending, writes, .. } = counts;
        let Snapshot { invalidations, tag_invalidations, invalidations_unmatched, .. } = counts;
        let buckets = object(buckets.iter().map(|(name, bucket)| (name, bucket_counts(bucket))));
        let store = match &counts.store {
            Some(store) => object([
                ("is_linked", store.is_linked.to_string()),
                ("is_breaker_open", store.is_breaker_open.to_string()),
                ("pending", store.pending.to_string()),
            ]),
            None => "null".to_owned(),
        };
        let json = object([
            ("buckets", buckets),
            ("flights", flights.to_string()),
            ("detached", detached.to_string()),
            ("hook_pending", hook_pending.to_string()),
            ("writes", writes.to_string()),
            ("invalidations", invalidations.to_string()),
            ("tag_invalidations", tag_invalidations.to_string()),
            ("invalidations_unmatched", invalidations_unmatched.to_string()),
            ("store", store),
        ]);
        let media_type = "application/json";
        Self { status: StatusCode::OK, media_type, text: json, hint: None }
    }

    fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.text);
        *response.status_mut() = self.status;
        let fields = [(CONTENT_TYPE, self.media_type), (CACHE_CONTROL, "no-store")];
        for (name, value) in fields.into_iter().chain(self.hint) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn bucket_counts(bucket: &BucketSnapshot) -> String {
    let ratio = bucket.hit_ratio().map_or("null".to_owned(), |ratio| format!("{ratio:.4}"));
    object([
        ("switch", format!("\"{}\"", bucket.switch.as_str())),
        ("requests", bucket.requests().to_string()),
        ("hit_ratio", ratio),
        ("hits", bucket.hits.to_string()),
        ("misses", bucket.misses.to_string()),
        ("coalesced", bucket.coalesced.to_string()),
        ("stored", bucket.stored.to_string()),
        ("bypassed", object(&bucket.bypassed)),
        ("refused", object(&bucket.refused)),
        ("shadow", object(&bucket.shadow)),
        ("entries", bucket.entries.to_string()),
        ("bytes", bucket.bytes.to_string()),
    ])
}

/// Writes a JSON object of names and JSON values.
fn object<N: Display, V: Display>(members: impl IntoIterator<Item = (N, V)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        let comma = if text.len() > 1 { "," } else { "" };
        let _ = write!(text, "{comma}\"{name}\":{value}");
    }
    text + "}"
}
