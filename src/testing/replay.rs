//! Replay of a request with one field changed at a time.

use std::{fmt, future::poll_fn, pin::pin};

use bytes::Buf;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT_ENCODING, AGE, DATE},
};
use http_body::Body;
use tower::ServiceExt;
use tower_service::Service;

use crate::{key::Nominated, route::CacheRoute};

/// Fields that handlers, frameworks and routers are known to read, with the values to send.
const FLIPPED: &[(&str, &[&str])] = &[
    ("accept", &["application/json", "text/html", "application/xml"]),
    ("accept-encoding", &["gzip", "br", "identity"]),
    ("accept-language", &["de", "fr"]),
    ("authorization", &["Bearer replay", "Basic cmVwbGF5OnJlcGxheQ=="]),
    ("cookie", &["replay=1; session=replay; lang=de"]),
    ("forwarded", &["for=192.0.2.1;host=replay.invalid;proto=https"]),
    ("origin", &["https://replay.invalid"]),
    ("referer", &["https://replay.invalid/"]),
    (
        "user-agent",
        &["replay/1.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile"],
    ),
    ("x-forwarded-host", &["replay.invalid"]),
    ("x-forwarded-port", &["8443"]),
    ("x-forwarded-prefix", &["/replay"]),
    ("x-forwarded-proto", &["https", "http"]),
    ("x-host", &["replay.invalid"]),
    ("x-http-method-override", &["DELETE", "POST"]),
    ("x-original-url", &["/replay"]),
    ("x-requested-with", &["XMLHttpRequest"]),
    ("x-rewrite-url", &["/replay"]),
];

/// Replay of a request with one field changed at a time, which finds undeclared fields that a handler
/// reads.
///
/// It changes `Accept`, `Accept-Encoding`, `Accept-Language`, `Authorization`, `Cookie`,
/// `Forwarded`, `Origin`, `Referer`, `User-Agent`, `X-Forwarded-Host`, `-Port`, `-Prefix` and
/// `-Proto`, `X-Host`, `X-HTTP-Method-Override`, `X-Original-URL`, `X-Requested-With`,
/// `X-Rewrite-URL`, and what [`flip`](Self::flip) adds: each is set to one or a few typical
/// values, and left out if the request has it. See the [module documentation](super).
///
/// ```
/// use axum::{Router, body::Body, routing::get};
/// use http::Request;
/// use tower_support_cache::testing::Replay;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let app: Router = Router::new().route("/cases", get(async || "the cases"));
/// let request = || Request::get("/cases").body(Body::empty()).unwrap();
/// Replay::new().assert_declared(app, request).await;
/// # }
/// ```
///
/// Further fields to change, and differences to expect:
///
/// ```
/// use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
/// use tower_support_cache::{CacheRoute, testing::Replay};
///
/// let replay = Replay::new()
///     .route(&CacheRoute::get("/cases").key("cases"))
///     .declared([AUTHORIZATION]) // such requests bypass the cache
///     .flip(HeaderName::from_static("x-theme"), HeaderValue::from_static("dark"))
///     .ignored([HeaderName::from_static("x-request-id")]);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a replay does nothing until it is given a service"]
pub struct Replay {
    flipped: Vec<(HeaderName, HeaderValue)>,
    declared: Vec<HeaderName>,
    ignored: Vec<HeaderName>,
}

/// Undeclared request field that changed the response, from [`Replay::undeclared`].
///
/// ```
/// use axum::{Router, body::Body, http::HeaderMap, routing::get};
/// use http::Request;
/// use tower_support_cache::testing::{Replay, Undeclared};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let greet = async |fields: HeaderMap| match fields.contains_key("x-requested-with") {
///     true => "hello, script",
///     false => "hello",
/// };
/// let app: Router = Router::new().route("/", get(greet));
/// let request = || Request::get("/").body(Body::empty()).unwrap();
/// let found: Vec<Undeclared> = Replay::new().undeclared(app, request).await;
/// assert_eq!(found[0].to_string(), "`x-requested-with: XMLHttpRequest` changes the body");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Undeclared {
    name: HeaderName,
    /// Value that was sent; `None` if the field was left out.
    sent: Option<HeaderValue>,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Status(StatusCode, StatusCode),
    Body,
    Field(HeaderName),
}

/// Response that has been read to its end.
#[derive(Debug)]
struct ReplayedResponse {
    status: StatusCode,
    fields: HeaderMap,
    body: Vec<u8>,
}

// ===== impl Replay =====

impl Replay {
    /// Changes the fields that handlers are known to read. No field is declared yet.
    pub fn new() -> Self {
        let all = FLIPPED.iter().flat_map(|(name, values)| {
            values
                .iter()
                .map(|value| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        });
        Self { flipped: all.collect(), declared: Vec::new(), ignored: vec![DATE, AGE] }
    }

    /// Declares the fields that `route` declares by [`CacheRoute::vary`].
    ///
    /// Its [`Credentials`](crate::Credentials) are not taken into account: if requests with credentials
    /// bypass the cache, declare those fields by [`declared`](Self::declared).
    pub fn route(self, route: &CacheRoute) -> Self {
        self.declared(route.declared().iter().cloned())
    }

    /// Names fields that may change the response, because the cache tells requests apart by them or is
    /// bypassed, as by `Authorization` under [`Credentials::Bypass`](crate::Credentials::Bypass).
    /// Defaults to none.
    pub fn declared(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.declared.extend(names);
        self
    }

    /// Changes a further field, to `value`. Several calls with one name try several values.
    pub fn flip(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.flipped.push((name, value));
        self
    }

    /// Names response fields that are not compared. Defaults to `Age`, `Date`, and fields that differ
    /// between two responses to the unchanged request, such as a request id.
    pub fn ignored(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.ignored.extend(names);
        self
    }

    /// Returns the fields that change the response, each once, although they are neither declared nor
    /// nominated by the `Vary` of both responses. The list is empty if the cache may wrap the service.
    ///
    /// `service` is the handler *without* the cache. `request` makes the request that is replayed. Give
    /// one that succeeds, since an error rarely shows its dependencies. Status, body and fields of the
    /// responses are compared. Bodies are held in memory.
    ///
    /// # Panics
    ///
    /// Panics if the service or a body fails, or if status or body differ already between two responses
    /// to the unchanged request.
    pub async fn undeclared<S, Q, B>(
        mut self,
        service: S,
        request: impl Fn() -> Request<Q>,
    ) -> Vec<Undeclared>
    where
        S: Service<Request<Q>, Response = Response<B>> + Clone,
        S::Error: fmt::Debug,
        B: Body,
        B::Error: fmt::Debug,
    {
        let unchanged = ReplayedResponse::of(service.clone(), request()).await;
        let again = ReplayedResponse::of(service.clone(), request()).await;
        self.ignored.extend(unchanged.differing(&again));
        if let Some(change) = unchanged.change(&again, &self.ignored) {
            panic!("the answer to the unchanged request changes by itself: {change}");
        }
        let mut found: Vec<Undeclared> = Vec::new();
        for (name, sent) in self.changes(request().headers()) {
            if self.declared.contains(&name) || found.iter().any(|other| other.name == name) {
                continue;
            }
            let mut changed = request();
            match &sent {
                Some(value) => drop(changed.headers_mut().insert(name.clone(), value.clone())),
                None => drop(changed.headers_mut().remove(&name)),
            }
            let answer = ReplayedResponse::of(service.clone(), changed).await;
            match unchanged.change(&answer, &self.ignored) {
                Some(change) if !are_distinguished(&name, &unchanged, &answer) => {
                    found.push(Undeclared { name, sent, change });
                }
                _ => {}
            }
        }
        found
    }

    /// Checks that no undeclared field changes the response. For a route's test.
    ///
    /// # Panics
    ///
    /// Panics if a field does. The message names each field, the value that was sent and the change.
    /// Also panics in the cases of [`undeclared`](Self::undeclared).
    pub async fn assert_declared<S, Q, B>(self, service: S, request: impl Fn() -> Request<Q>)
    where
        S: Service<Request<Q>, Response = Response<B>> + Clone,
        S::Error: fmt::Debug,
        B: Body,
        B::Error: fmt::Debug,
    {
        let target = request().uri().clone();
        let found = self.undeclared(service, request).await;
        let all: Vec<_> = found.iter().map(|undeclared| format!("  {undeclared}\n")).collect();
        assert!(
            found.is_empty(),
            "the answer to {target} depends on fields that the cache does not know of, so one \
             client's response would answer others:\n{}declare them by `CacheRoute::vary`, \
             nominate them by `Vary`, or do not read them",
            all.concat(),
        );
    }

    /// Returns the changes to make to a request with these fields.
    fn changes(&self, fields: &HeaderMap) -> Vec<(HeaderName, Option<HeaderValue>)> {
        let removed = self.flipped.iter().filter(|(name, _)| fields.contains_key(name));
        let removed = removed.map(|(name, _)| (name.clone(), None));
        let set = self.flipped.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        removed.chain(set).collect()
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

// ===== impl Undeclared =====

impl Undeclared {
    /// Returns the field's name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }
}

impl fmt::Display for Undeclared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, sent, change } = self;
        match sent {
            Some(value) => write!(f, "`{name}: {}`", String::from_utf8_lossy(value.as_bytes()))?,
            None => write!(f, "no `{name}`")?,
        }
        write!(f, " changes {change}")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(from, to) => {
                write!(f, "the status from {} to {}", from.as_u16(), to.as_u16())
            }
            Self::Body => f.write_str("the body"),
            Self::Field(name) => write!(f, "the field `{name}`"),
        }
    }
}

// ===== impl ReplayedResponse =====

impl ReplayedResponse {
    async fn of<S, Q, B>(service: S, request: Request<Q>) -> Self
    where
        S: Service<Request<Q>, Response = Response<B>>,
        S::Error: fmt::Debug,
        B: Body,
        B::Error: fmt::Debug,
    {
        let response = service.oneshot(request).await.expect("the service answers");
        let (head, body) = response.into_parts();
        let mut body = pin!(body);
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            if let Ok(mut chunk) = frame.expect("the body comes to its end").into_data() {
                while chunk.has_remaining() {
                    let part = chunk.chunk();
                    bytes.extend_from_slice(part);
                    let length = part.len();
                    chunk.advance(length);
                }
            }
        }
        Self { status: head.status, fields: head.headers, body: bytes }
    }

    /// Returns the first difference from `other`.
    fn change(&self, other: &Self, ignored: &[HeaderName]) -> Option<Change> {
        if self.status != other.status {
            return Some(Change::Status(self.status, other.status));
        }
        if self.body != other.body {
            return Some(Change::Body);
        }
        self.differing(other).into_iter().find(|name| !ignored.contains(name)).map(Change::Field)
    }

    /// Returns the names of fields that differ.
    fn differing(&self, other: &Self) -> Vec<HeaderName> {
        let lines = |answer: &Self, name| -> Vec<HeaderValue> {
            answer.fields.get_all(name).iter().cloned().collect()
        };
        let only_there = other.fields.keys().filter(|name| !self.fields.contains_key(*name));
        let names = self.fields.keys().chain(only_there);
        names.filter(|name| lines(self, *name) != lines(other, *name)).cloned().collect()
    }

    /// Returns whether the response nominates a field.
    fn nominates(&self, name: &HeaderName) -> bool {
        Nominated::default().with(&self.fields).is_ok_and(|names| names.names().contains(name))
    }

    /// Returns whether the response varies by something that no request shows, so no cache stores it.
    fn is_unpredictable(&self) -> bool {
        Nominated::default().with(&self.fields).is_err()
    }
}

/// Returns whether the cache gives neither of two responses to the request of the other.
fn are_distinguished(
    name: &HeaderName,
    unchanged: &ReplayedResponse,
    changed: &ReplayedResponse,
) -> bool {
    let is_safe = |answer: &ReplayedResponse| answer.is_unpredictable() || answer.nominates(name);
    // A client that accepts a coding can also read content without it.
    let is_plain = |answer: &ReplayedResponse| {
        *name == ACCEPT_ENCODING && !answer.fields.contains_key(http::header::CONTENT_ENCODING)
    };
    match (is_safe(unchanged), is_safe(changed)) {
        (true, true) => true,
        (false, true) => is_plain(unchanged),
        (true, false) => is_plain(changed),
        (false, false) => false,
    }
}
