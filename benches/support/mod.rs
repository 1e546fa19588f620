//! What the benchmarks share: one work, an origin that does it at once, and the modes of asking
//! for it that are compared.

#![allow(dead_code)] // Each benchmark uses a part of it.

pub(crate) mod minimum;
pub(crate) mod origin;
mod values;

use std::{
    convert::Infallible, future::poll_fn, hint::black_box, ops::Range, pin::pin, time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{ACCEPT, AUTHORIZATION, HOST},
};
use http_body::Body;
use http_body_util::Empty;
use tokio::runtime::{self, Runtime};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, Caller, Credentials, InvalidateRoute, MemoryStore, SupportCache, SupportCacheLayer,
};

use minimum::Minimum;
use origin::{BODY_LENGTH, Blank, Origin};

const TTL: Duration = Duration::from_secs(3600);
/// Holds every response of a run of `cost`, so that no miss pays for an eviction.
const CAPACITY: u64 = 256 * 1024 * 1024;
/// The same for the minimum, which counts entries.
const ENTRIES: usize = 1 << 17;
const WARM_UP: usize = 1000;
/// How many other resources a route has answered for.
const OTHERS: usize = 64;
/// Numbers in targets begin here, so that all have the same length.
const FIRST_NUMBER: usize = 100_000;

// ===== modes =====

/// What is asked of which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The harness alone: the request is made and dropped, a body read, and no fields are made.
    Harness,
    /// The inner service alone.
    Bare,
    /// A hit of the minimum.
    Minimum,
    Hit,
    /// A hit on a route per caller.
    HitPerCaller,
    /// A hit while outcomes are recorded.
    HitRecorded,
    /// A hit on a route whose every fill is sampled for an audit.
    HitAudited,
    /// HEAD, answered from a stored GET.
    HeadHit,
    /// A miss of the minimum, which stores the response.
    MinimumMiss,
    /// Each request for another target, each response stored.
    Miss,
    /// GET that no route is for.
    Pass,
    /// POST that no rule is for.
    PlainPost,
    /// POST that invalidates one key.
    Write,
}

impl Mode {
    pub(crate) const ALL: [Self; 13] = [
        Self::Harness,
        Self::Bare,
        Self::Minimum,
        Self::Hit,
        Self::HitPerCaller,
        Self::HitRecorded,
        Self::HitAudited,
        Self::HeadHit,
        Self::MinimumMiss,
        Self::Miss,
        Self::Pass,
        Self::PlainPost,
        Self::Write,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Harness => "harness",
            Self::Bare => "bare",
            Self::Minimum => "minimum",
            Self::Hit => "hit",
            Self::HitPerCaller => "hit_per_caller",
            Self::HitRecorded => "hit_recorded",
            Self::HitAudited => "hit_audited",
            Self::HeadHit => "head_hit",
            Self::MinimumMiss => "minimum_miss",
            Self::Miss => "miss",
            Self::Pass => "pass",
            Self::PlainPost => "plain_post",
            Self::Write => "write",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    fn method(self) -> Method {
        match self {
            Self::HeadHit => Method::HEAD,
            Self::PlainPost | Self::Write => Method::POST,
            _ => Method::GET,
        }
    }

    /// Returns the first segment of the path, of one length in all modes.
    fn directory(self) -> &'static str {
        match self {
            Self::Pass | Self::PlainPost => "other",
            Self::Write => "notes",
            _ => "cases",
        }
    }

    /// Makes the `n`th request. Its fields and the length of its path are the same in all modes,
    /// so that making and dropping it costs what it does in `Harness`.
    fn request(self, n: usize) -> Request<Empty<Bytes>> {
        let is_miss = matches!(self, Self::Miss | Self::MinimumMiss);
        let number = FIRST_NUMBER + if is_miss { n } else { 0 };
        request(self.method(), &format!("/{}/{number}", self.directory()))
    }

    /// Returns how often one request reaches the origin once the service is warm.
    fn calls(self) -> usize {
        match self {
            Self::Harness | Self::Minimum => 0,
            _ if self.is_hit() => 0,
            _ => 1,
        }
    }

    /// Returns a part of what `Cache-Status` says once the service is warm; empty where there is
    /// no such field.
    fn status(self) -> &'static str {
        match self {
            _ if self.is_hit() => ";hit;",
            Self::Miss => ";stored",
            Self::Write => ";fwd=method",
            _ => "",
        }
    }

    /// Returns whether the cache answers from what is stored.
    fn is_hit(self) -> bool {
        matches!(
            self,
            Self::Hit | Self::HitPerCaller | Self::HitRecorded | Self::HitAudited | Self::HeadHit
        )
    }

    fn body_length(self) -> usize {
        if self == Self::HeadHit { 0 } else { BODY_LENGTH }
    }

    fn credentials(self) -> Credentials {
        match self {
            Self::HitPerCaller => Credentials::PerCaller(Caller::authorization()),
            _ => Credentials::CoveredByKey,
        }
    }
}

/// Makes a request with the fields that all have.
pub(crate) fn request(method: Method, target: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().expect("a path is a URI");
    let fields = request.headers_mut();
    fields.reserve(3);
    fields.insert(HOST, HeaderValue::from_static("portal.example"));
    fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(AUTHORIZATION, HeaderValue::from_static("Bearer 0123456789abcdef"));
    request
}

// ===== services =====

/// A warm service, and how far its requests have been counted.
pub(crate) struct Course {
    mode: Mode,
    service: Subject,
    next: usize,
}

enum Subject {
    Harness(Blank),
    Bare(Origin),
    Minimum(Minimum<Origin>),
    Cache(SupportCache<Origin, MemoryStore>),
}

impl Course {
    /// Makes the service of a mode, warms it up, and checks that it does what the mode says.
    pub(crate) async fn new(mode: Mode) -> Self {
        let service = match mode {
            Mode::Harness => Subject::Harness(Blank),
            Mode::Bare => Subject::Bare(Origin),
            Mode::Minimum | Mode::MinimumMiss => Subject::Minimum(Minimum::new(Origin, ENTRIES)),
            _ => Subject::Cache(layer(mode).layer(Origin)),
        };
        let mut course = Self { mode, service, next: 0 };
        if mode.is_hit() {
            // As a route in use has: other responses before the one that is asked for.
            course.send(Mode::Miss, 1..1 + OTHERS).await;
            course.send(Mode::Hit, 0..1).await;
        }
        course.run(WARM_UP).await;
        course.check().await;
        course
    }

    /// Sends requests and reads each response to its end.
    pub(crate) async fn run(&mut self, count: usize) {
        let requests = self.next..self.next + count;
        self.next = requests.end;
        self.send(self.mode, requests).await;
    }

    async fn send(&self, mode: Mode, requests: Range<usize>) {
        match &self.service {
            Subject::Harness(service) => send(service, mode, requests).await,
            Subject::Bare(service) => send(service, mode, requests).await,
            Subject::Minimum(service) => send(service, mode, requests).await,
            Subject::Cache(service) => send(service, mode, requests).await,
        }
    }

    async fn check(&mut self) {
        let request = self.mode.request(self.next);
        self.next += 1;
        let before = origin::calls();
        let (fields, length) = match &self.service {
            Subject::Harness(service) => look(service, request).await,
            Subject::Bare(service) => look(service, request).await,
            Subject::Minimum(service) => look(service, request).await,
            Subject::Cache(service) => look(service, request).await,
        };
        let name = self.mode.name();
        assert!(fields.contains(self.mode.status()), "{name}: {fields}");
        assert_eq!(fields.is_empty(), self.mode.status().is_empty(), "{name}: {fields}");
        assert_eq!(length, self.mode.body_length(), "{name}");
        assert_eq!(origin::calls() - before, self.mode.calls(), "{name}");
    }
}

pub(crate) fn layer(mode: Mode) -> SupportCacheLayer<MemoryStore> {
    let store = MemoryStore::builder().capacity(CAPACITY).build().expect("a capacity like this");
    let cases = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL);
    SupportCacheLayer::builder(store)
        .cache(cases.audit(if mode == Mode::HitAudited { 1.0 } else { 0.0 }))
        .record_outcomes(if mode == Mode::HitRecorded { 1000 } else { 0 })
        .invalidate(InvalidateRoute::post("/notes/{case}").key("case:{case}"))
        .credentials(mode.credentials())
        .build()
        .expect("the routes are valid")
}

async fn send<S, B>(service: &S, mode: Mode, requests: Range<usize>)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes>,
{
    for n in requests {
        let Ok(response) = service.clone().oneshot(mode.request(n)).await;
        black_box(read(response.into_body()).await);
    }
}

/// Sends one request, and returns what `Cache-Status` says and the length of the body.
async fn look<S, B>(service: &S, request: Request<Empty<Bytes>>) -> (String, usize)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes>,
{
    let Ok(response) = service.clone().oneshot(request).await;
    let status = response.headers().get("cache-status");
    let status = status.map_or("", |value| value.to_str().expect("it is ASCII")).to_owned();
    (status, read(response.into_body()).await)
}

/// Reads a body to its end and returns its length.
pub(crate) async fn read<B: Body<Data = Bytes>>(body: B) -> usize {
    let mut body = pin!(body);
    let mut length = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    length
}

pub(crate) fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be built")
}
