//! What the tests share: an origin whose every step waits for the test's word, and a client that
//! reports what came back.

#![allow(dead_code, missing_debug_implementations)] // Each test file uses a part of it.
#![allow(clippy::unwrap_used, clippy::unused_self)]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, Store, SupportCache, SupportCacheHandle,
    SupportCacheLayer,
};

/// An error that is not `Clone`.
#[derive(Debug)]
pub(crate) struct OriginError;

impl std::fmt::Display for OriginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the origin failed")
    }
}

impl std::error::Error for OriginError {}

// ===== the origin =====

/// Returns an origin, and the calls it receives, each of which the test answers.
pub(crate) fn origin() -> (Origin, Calls) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let count = Arc::new(AtomicUsize::new(0));
    (Origin { calls: sender, count: Arc::clone(&count) }, Calls { receiver, count })
}

#[derive(Clone)]
pub(crate) struct Origin {
    calls: mpsc::UnboundedSender<Call>,
    count: Arc<AtomicUsize>,
}

impl<B> Service<Request<B>> for Origin {
    type Response = Response<GatedBody>;
    type Error = OriginError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<GatedBody>, OriginError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OriginError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        self.count.fetch_add(1, Ordering::SeqCst);
        let head = request.into_parts().0;
        self.calls.send(Call { head, answer }).expect("the test listens");
        Box::pin(async move {
            match answered.await {
                Ok(Answer::Response(response)) => Ok(*response),
                Ok(Answer::Fail) => Err(OriginError),
                Ok(Answer::Panic) => panic!("the handler panics, as the test asked"),
                Err(_) => std::future::pending().await,
            }
        })
    }
}

pub(crate) struct Calls {
    receiver: mpsc::UnboundedReceiver<Call>,
    count: Arc<AtomicUsize>,
}

impl Calls {
    /// Waits for the next call.
    pub(crate) async fn next(&mut self) -> Call {
        self.receiver.recv().await.expect("the origin lives")
    }

    /// Lets everything run that can, and returns the call that has come by then, if any.
    pub(crate) async fn now(&mut self) -> Option<Call> {
        settle().await;
        self.receiver.try_recv().ok()
    }

    /// Lets everything run that can, and returns all calls that have come by then.
    pub(crate) async fn all(&mut self) -> Vec<Call> {
        settle().await;
        std::iter::from_fn(|| self.receiver.try_recv().ok()).collect()
    }

    /// How many calls there have been.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Answers every call from now on at once.
    pub(crate) fn serve(
        mut self,
        answer: impl Fn(&request::Parts) -> Response<GatedBody> + Send + 'static,
    ) -> Arc<AtomicUsize> {
        let count = Arc::clone(&self.count);
        tokio::spawn(async move {
            while let Some(call) = self.receiver.recv().await {
                let response = answer(&call.head);
                call.respond(response);
            }
        });
        count
    }
}

/// A request that waits at the origin. Dropped, it is never answered.
pub(crate) struct Call {
    pub(crate) head: request::Parts,
    answer: oneshot::Sender<Answer>,
}

enum Answer {
    Response(Box<Response<GatedBody>>),
    Fail,
    Panic,
}

impl Call {
    pub(crate) fn respond(self, response: Response<GatedBody>) {
        let _ = self.answer.send(Answer::Response(Box::new(response)));
    }

    /// Answers 200 with a body.
    pub(crate) fn ok(self, body: &'static str) {
        self.respond(Response::new(GatedBody::full(body)));
    }

    /// Answers a status with one field and a body.
    pub(crate) fn with(self, status: u16, field: (&str, &str), body: &'static str) {
        self.respond(response(status, &[field], body));
    }

    /// Answers 200 with a body that the test goes on to send.
    pub(crate) fn stream(self, declared: Option<u64>) -> BodyGate {
        let (body, gate) = GatedBody::gated(declared);
        self.respond(Response::new(body));
        gate
    }

    pub(crate) fn fail(self) {
        let _ = self.answer.send(Answer::Fail);
    }

    pub(crate) fn panic(self) {
        let _ = self.answer.send(Answer::Panic);
    }

    /// Whether somebody still waits for the answer.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// Makes a response.
pub(crate) fn response(
    status: u16,
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<GatedBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(GatedBody::full(body)).unwrap()
}

// ===== bodies =====

enum Step {
    Frame(Frame<Bytes>),
    Fail,
    Panic,
}

/// A body whose every frame waits for the test.
pub(crate) struct GatedBody {
    steps: mpsc::UnboundedReceiver<Step>,
    declared: Option<u64>,
}

/// The test's end of a [`GatedBody`]. Dropped, the body ends.
pub(crate) struct BodyGate(mpsc::UnboundedSender<Step>);

impl GatedBody {
    pub(crate) fn gated(declared: Option<u64>) -> (Self, BodyGate) {
        let (sender, steps) = mpsc::unbounded_channel();
        (Self { steps, declared }, BodyGate(sender))
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let (body, gate) = Self::gated(Some(bytes.len() as u64));
        if !bytes.is_empty() {
            gate.send(bytes);
        }
        body
    }
}

impl BodyGate {
    pub(crate) fn send(&self, bytes: impl Into<Bytes>) {
        let _ = self.0.send(Step::Frame(Frame::data(bytes.into())));
    }

    pub(crate) fn trailers(&self, trailers: HeaderMap) {
        let _ = self.0.send(Step::Frame(Frame::trailers(trailers)));
    }

    pub(crate) fn fail(self) {
        let _ = self.0.send(Step::Fail);
    }

    pub(crate) fn panic(self) {
        let _ = self.0.send(Step::Panic);
    }

    pub(crate) fn end(self) {}

    /// Whether the body has been dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        self.steps.poll_recv(cx).map(|step| match step? {
            Step::Frame(frame) => Some(Ok(frame)),
            Step::Fail => Some(Err(OriginError)),
            Step::Panic => panic!("the body panics, as the test asked"),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_closed() && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

// ===== the client =====

pub(crate) type Cached<St = MemoryStore> = SupportCache<Origin, St>;
pub(crate) type Reply = Response<tower_support_cache::ResponseBody<GatedBody>>;

/// A response that has been read to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Result<Bytes, String>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Got {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.body.as_ref().unwrap()).unwrap()
    }

    /// What the cache says of the request.
    pub(crate) fn cache_status(&self) -> &str {
        self.fields.get("cache-status").map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().contains(";hit")
    }

    pub(crate) fn age(&self) -> Option<u64> {
        self.fields.get("age").map(|value| value.to_str().unwrap().parse().unwrap())
    }
}

pub(crate) async fn read(reply: Reply) -> Got {
    let (head, body) = reply.into_parts();
    let (body, trailers) = match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            (Ok(collected.to_bytes()), trailers)
        }
        Err(error) => (Err(error.to_string()), None),
    };
    Got { status: head.status, fields: head.headers, body, trailers }
}

pub(crate) fn request(method: Method, uri: &str) -> Request<Empty<Bytes>> {
    Request::builder().method(method).uri(uri).body(Empty::new()).unwrap()
}

pub(crate) fn get(uri: &str) -> Request<Empty<Bytes>> {
    request(Method::GET, uri)
}

pub(crate) fn with(
    mut request: Request<Empty<Bytes>>,
    name: &'static str,
    value: &str,
) -> Request<Empty<Bytes>> {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

/// A request on a task of its own, whose response is read to its end.
pub(crate) type Sent = JoinHandle<Result<Got, OriginError>>;

/// Sends a request on a task of its own and reads the response to its end.
pub(crate) fn send<St: Store>(cache: &Cached<St>, request: Request<Empty<Bytes>>) -> Sent {
    let cache = cache.clone();
    tokio::spawn(async move { Ok(read(cache.oneshot(request).await?).await) })
}

/// Waits for a response.
pub(crate) async fn got(request: Sent) -> Got {
    request.await.unwrap().unwrap()
}

/// Sends a GET and reads the response to its end.
pub(crate) async fn fetch<St: Store>(cache: &Cached<St>, uri: &str) -> Got {
    send(cache, get(uri)).await.unwrap().unwrap()
}

/// Lets every task run until none can go on without the test or the clock.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Runs a test with one thread for blocking work.
pub(crate) fn with_one_blocking_thread(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

/// Holds one thread for blocking work until what it returns is dropped.
pub(crate) fn hold_blocking_thread() -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv());
    release
}

// ===== layers =====

pub(crate) const TTL: Duration = Duration::from_secs(60);

/// A layer with one cached route, `/cases/{case}`, under `case:{case}`, and `POST
/// /cases/{case}/comments` that invalidates it; the route as the test wants it.
pub(crate) fn cache_with(
    route: impl FnOnce(CacheRoute) -> CacheRoute,
) -> (Cached, SupportCacheHandle, Calls) {
    cache_on(MemoryStore::new(), route)
}

pub(crate) fn cache_on<St: Store>(
    store: St,
    route: impl FnOnce(CacheRoute) -> CacheRoute,
) -> (Cached<St>, SupportCacheHandle, Calls) {
    let layer = SupportCacheLayer::builder(store)
        .cache(route(
            CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL).jitter(0),
        ))
        .invalidate(InvalidateRoute::post("/cases/{case}/comments").key("case:{case}"))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

pub(crate) fn cache() -> (Cached, SupportCacheHandle, Calls) {
    cache_with(|route| route)
}
