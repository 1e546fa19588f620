//! Content of GET and HEAD: found whatever wraps the body, and forwarded as it came.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt::Display,
    future::ready,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, PeekContentLayer, SupportCacheLayer,
};

use crate::support::TTL;

pub(super) type Polled = Result<Frame<Bytes>, &'static str>;

/// Body that tells nothing about itself before it is read, as wrapped bodies do.
pub(super) struct Hidden {
    frames: VecDeque<Polled>,
    /// Set if a poll brings nothing before each frame.
    is_late: bool,
    has_waited: bool,
    hint: SizeHint,
}

impl Hidden {
    pub(super) fn of(frames: impl IntoIterator<Item = Polled>) -> Self {
        let frames = frames.into_iter().collect();
        Self { frames, is_late: false, has_waited: false, hint: SizeHint::default() }
    }

    pub(super) fn late(self) -> Self {
        Self { is_late: true, ..self }
    }
}

impl Body for Hidden {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Polled>> {
        if self.is_late && !std::mem::replace(&mut self.has_waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_waited = false;
        Poll::Ready(self.frames.pop_front())
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

pub(super) fn data(text: &'static str) -> Polled {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub(super) fn trailers() -> Polled {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().unwrap());
    Ok(Frame::trailers(trailers))
}

/// Text of a frame or an error, as the handler tells it.
fn line(polled: Result<Frame<Bytes>, impl Display>) -> String {
    match polled {
        Ok(frame) => format!("{frame:?}"),
        Err(error) => error.to_string(),
    }
}

fn layer() -> SupportCacheLayer<MemoryStore> {
    SupportCacheLayer::builder(MemoryStore::new())
        .cache(CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL))
        .invalidate(InvalidateRoute::post("/cases/{case}").key("case:{case}"))
        .build()
        .unwrap()
}

/// Service that answers with the frames of its request, each on a line of its own.
fn echo<Q>() -> (
    impl Service<Request<Q>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static,
    Arc<AtomicUsize>,
)
where
    Q: Body<Data = Bytes, Error: Display> + Send + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&count);
    let service = tower::service_fn(move |request: Request<Q>| {
        calls.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut body = Box::pin(request.into_body());
            let mut told = Vec::new();
            while let Some(frame) = body.frame().await {
                told.push(line(frame));
            }
            Ok(Response::new(Full::from(told.join("\n"))))
        }
    });
    (service, count)
}

/// Head of a request, and the body that the cache sees.
struct Case {
    method: Method,
    version: Version,
    fields: &'static [(&'static str, &'static str)],
    has_content: bool,
}

const HTTP_1: Case =
    Case { method: Method::GET, version: Version::HTTP_11, fields: &[], has_content: false };

impl Case {
    fn request<Q>(&self, body: Q) -> Request<Q> {
        let mut request = Request::builder().method(&self.method).uri("/cases/1");
        for (name, value) in self.fields {
            request = request.header(*name, *value);
        }
        request.version(self.version).body(body).unwrap()
    }
}

/// Sends a request twice. One with content reaches the origin both times, as it was sent.
async fn check<S, Q, B>(service: S, case: &Case, body: impl Fn() -> Q, told: &str, label: &str)
where
    S: Service<Request<Q>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Error: std::fmt::Debug>,
{
    for is_second in [false, true] {
        let response = service.clone().oneshot(case.request(body())).await.unwrap();
        let said = response.headers()["cache-status"].to_str().unwrap().to_owned();
        let expected = match (case.has_content, is_second) {
            (true, _) => "support-cache;fwd=bypass;fwd-status=200;detail=content",
            (false, false) if case.method == Method::HEAD => "fwd=uri-miss",
            (false, false) => ";stored",
            (false, true) if case.method == Method::HEAD => "fwd=uri-miss",
            (false, true) => ";hit",
        };
        assert!(said.contains(expected), "{label}: {said}");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, told, "{label}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_hides_its_size_is_no_content_where_the_head_announces_none() {
    for case in [
        HTTP_1,
        Case { version: Version::HTTP_10, ..HTTP_1 },
        Case { method: Method::HEAD, ..HTTP_1 },
        Case { fields: &[("content-length", "0")], ..HTTP_1 },
        Case { fields: &[("content-length", "1")], has_content: true, ..HTTP_1 },
        Case { fields: &[("content-length", "x")], has_content: true, ..HTTP_1 },
        Case { fields: &[("content-length", "")], has_content: true, ..HTTP_1 },
        Case {
            fields: &[("content-length", "0"), ("content-length", "1")],
            has_content: true,
            ..HTTP_1
        },
        Case { fields: &[("transfer-encoding", "chunked")], has_content: true, ..HTTP_1 },
        Case { fields: &[("expect", "100-continue")], has_content: true, ..HTTP_1 },
        // It may have been decompressed, which takes `Content-Length` off.
        Case { fields: &[("content-type", "text/plain")], has_content: true, ..HTTP_1 },
        // A request in HTTP/2 need not announce its content.
        Case { version: Version::HTTP_2, has_content: true, ..HTTP_1 },
    ] {
        let label = format!("{:?} {:?} {:?}", case.method, case.version, case.fields);
        check(layer().layer(echo().0), &case, || Hidden::of([]), "", &label).await;
    }
}

/// Body with the name of tower-http's, which hides its size where it has decompressed something.
struct DecompressionBody<B>(B);

impl<B: Body + Unpin> Body for DecompressionBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_was_decompressed_is_found_where_nothing_announces_it_any_more() {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let case = Case { version, has_content: true, ..HTTP_1 };
        let body = || DecompressionBody(Hidden::of([data("x")]));
        check(layer().layer(echo().0), &case, body, &line(data("x")), "content").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_tells_its_size_is_believed() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let case = |has_content| Case { version, has_content, ..HTTP_1 };
        let body = || Full::from("");
        check(layer().layer(echo().0), &case(false), body, "", "empty").await;
        let body = || Full::from("x");
        let told = line(data("x"));
        check(layer().layer(echo().0), &case(true), body, &told, "full").await;
        let hint = SizeHint::with_exact(0);
        let body = || Hidden { hint, ..Hidden::of([]) };
        check(layer().layer(echo().0), &case(false), body, "", "no bytes, and no end").await;
    }
    // The outer layer that has read the content has told the handler of it elsewhere.
    let case = Case { fields: &[("content-length", "5")], has_content: true, ..HTTP_1 };
    check(layer().layer(echo().0), &case, || Full::from(""), "", "read already").await;
}

/// The frames of a body, and whether there is content.
fn bodies() -> Vec<(&'static str, fn() -> Hidden, bool)> {
    vec![
        ("nothing", || Hidden::of([]), false),
        ("a chunk", || Hidden::of([data("x")]), true),
        ("chunks", || Hidden::of([data("x"), data(""), data("y"), trailers()]), true),
        ("trailers", || Hidden::of([trailers()]), true),
        ("an empty chunk", || Hidden::of([data("")]), true),
        ("a late chunk", || Hidden::of([data("x"), trailers()]).late(), true),
        ("an error", || Hidden::of([Err("reset")]), true),
        ("an error behind", || Hidden::of([data("x"), Err("reset")]), true),
        ("late nothing", || Hidden::of([]).late(), true),
    ]
}

fn told(body: Hidden) -> String {
    body.frames.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(start_paused = true)]
async fn the_first_frame_decides_where_it_is_read_and_all_frames_are_forwarded() {
    for (label, body, has_content) in bodies() {
        for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_10] {
            let case = Case { version, has_content, ..HTTP_1 };
            let service = PeekContentLayer::new().layer(layer().layer(echo().0));
            check(service, &case, body, &told(body()), label).await;
        }
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn the_first_frame_of_a_body_of_axum_is_read_without_a_layer() {
    for (label, body, has_content) in bodies() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let case = Case { version, has_content, ..HTTP_1 };
            let boxed = || axum::body::Body::new(body());
            check(layer().layer(echo().0), &case, boxed, &told(body()), label).await;
        }
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn only_the_body_of_a_read_that_announces_no_content_is_looked_into() {
    struct Unread;
    impl Body for Unread {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            // A server sends `100 Continue` when the body is read.
            panic!("nobody asked for the content")
        }
    }
    let origin = tower::service_fn(|_: Request<axum::body::Body>| {
        ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))))
    });
    let cache = layer().layer(origin);
    for (method, target, field) in [
        (Method::POST, "/cases/1", ("x", "y")),
        (Method::GET, "/elsewhere", ("x", "y")),
        (Method::GET, "/cases/1", ("content-length", "5")),
        (Method::GET, "/cases/1", ("expect", "100-continue")),
    ] {
        let request = Request::builder().method(method).uri(target).header(field.0, field.1);
        let request = request.body(axum::body::Body::new(Unread)).unwrap();
        assert!(cache.clone().oneshot(request).await.unwrap().status().is_success());
    }
}
