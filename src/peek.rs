//! Frames of a request's body that are read before it is forwarded: the first, to find whether there is
//! content, or all, to find what is asked.

#[cfg(feature = "axum")]
use std::any::Any;
use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Layer that shows the cache whether a request has content.
///
/// Some layers wrap the bodies of requests and hide whether they are empty, such as tower-http's
/// `RequestBodyTimeoutLayer` and `RequestDecompressionLayer`. A GET with content bypasses the cache
/// ([`Bypass::Content`](crate::Bypass::Content)), so the cache has to know. Over HTTP/1 the head of the
/// request tells; over HTTP/2 it does not, and every request through a body timeout bypasses the cache. So
/// does one through a body timeout within request decompression, which takes `Content-Length` off. Put this
/// layer between such layers and the cache; or put them within the cache, where they cost a hit nothing.
///
/// It reads the first frame of a body that hides its size, and puts it back: the request is forwarded
/// frame by frame as it came. Where axum boxes the bodies, between two calls of `Router::layer`, the
/// cache does so by itself (feature `axum`).
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_support_cache::{MemoryStore, PeekContentLayer, PeekedBody, SupportCacheLayer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let service = ServiceBuilder::new()
///     // `.layer(RequestBodyTimeoutLayer::new(limit))`
///     .layer(PeekContentLayer::new())
///     .layer(SupportCacheLayer::new(MemoryStore::new()))
///     .service_fn(async |_: Request<PeekedBody<Full<Bytes>>>| {
///         Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
///     });
/// let response = service.oneshot(Request::new(Full::new(Bytes::new()))).await.unwrap();
/// assert!(response.status().is_success());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PeekContentLayer {}

/// Service of [`PeekContentLayer`].
///
/// ```
/// use tower_layer::Layer;
/// use tower_support_cache::{MemoryStore, PeekContent, PeekContentLayer, SupportCache, SupportCacheLayer};
///
/// let cache = SupportCacheLayer::new(MemoryStore::new()).layer("inner");
/// let service: PeekContent<SupportCache<&str, MemoryStore>> = PeekContentLayer::new().layer(cache);
/// ```
#[derive(Clone, Debug)]
pub struct PeekContent<S> {
    inner: S,
}

pin_project! {
    /// Request body of which frames have been read and put back: the first by [`PeekContentLayer`], if the
    /// size was hidden, or all by [`ReadContentLayer`](crate::ReadContentLayer).
    ///
    /// Its bytes, its trailers and its error come as the client sent them. Data that was read comes as one
    /// frame, and its size is known.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Full};
    /// use tower_support_cache::PeekedBody;
    ///
    /// /// Reads a body in a handler behind the layer: it is as the client sent it.
    /// async fn read(body: PeekedBody<Full<Bytes>>) -> Bytes {
    ///     body.collect().await.unwrap().to_bytes()
    /// }
    /// ```
    pub struct PeekedBody<B: Body> {
        #[pin]
        state: PeekState<B>,
    }
}

pin_project! {
    #[project = PeekStateProjection]
    enum PeekState<B: Body> {
        Unread { #[pin] body: B },
        // The frames come before the rest, which is `None` once it has ended.
        Read { frames: [Option<Polled<B>>; 2], rest: Option<Pin<Box<B>>> },
    }
}

type Polled<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

/// Content of a request that was read before the request is looked up.
#[derive(Clone, Debug)]
pub(crate) enum SentContent {
    /// All of it.
    Whole { data: Bytes, trailers: HeaderMap },
    /// It is longer than is read.
    TooLong,
    /// It failed or was late.
    Incomplete,
    /// It cannot be read here.
    Unreadable,
}

/// Body that can be read and put together again.
pub(crate) trait ReadBody: Send {
    /// Reads on, until all of it has been read or more than `limit` bytes have.
    fn poll_content(&mut self, cx: &mut Context<'_>, limit: u64) -> Poll<SentContent>;
}

/// Returns the body if it can be read and put together again.
pub(crate) type Readable<Q> = fn(&mut Q) -> Option<&mut dyn ReadBody>;

impl PeekContentLayer {
    /// Creates the layer.
    pub fn new() -> Self {
        Self {}
    }
}

impl<S> Layer<S> for PeekContentLayer {
    type Service = PeekContent<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PeekContent { inner }
    }
}

impl<S, Q> Service<Request<Q>> for PeekContent<S>
where
    S: Service<Request<PeekedBody<Q>>>,
    Q: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> S::Future {
        let mut request = request.map(PeekedBody::of);
        if matches!(request.body().state, PeekState::Read { .. }) {
            request.extensions_mut().insert(HasContent);
        }
        self.inner.call(request)
    }
}

impl<B: Body> PeekedBody<B> {
    /// Takes a body of which nothing is read yet.
    pub(crate) fn unread(body: B) -> Self {
        Self { state: PeekState::Unread { body } }
    }

    /// Reads the first frame of a body that does not show whether there is one.
    pub(crate) fn of(body: B) -> Self {
        let hint = body.size_hint();
        let is_hidden = hint.lower() == 0 && hint.upper() != Some(0) && !body.is_end_stream();
        let state = match is_hidden {
            true => PeekState::read(Box::pin(body)),
            false => PeekState::Unread { body },
        };
        Self { state }
    }
}

impl<B: Body> PeekState<B> {
    fn read(mut body: Pin<Box<B>>) -> Self {
        // Whoever reads on polls it again, and is woken.
        let (first, rest) = match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(None) => (None, None),
            Poll::Ready(first) => (first, Some(body)),
            Poll::Pending => (None, Some(body)),
        };
        Self::Read { frames: [first, None], rest }
    }
}

impl<B> ReadBody for PeekedBody<B>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Send,
{
    fn poll_content(&mut self, cx: &mut Context<'_>, limit: u64) -> Poll<SentContent> {
        let taken = PeekState::Read { frames: [None, None], rest: None };
        let (mut frames, mut rest) = match mem::replace(&mut self.state, taken) {
            PeekState::Unread { body } => ([None, None], Some(Box::pin(body))),
            PeekState::Read { frames, rest } => (frames, rest),
        };
        let content = poll_content(&mut frames, &mut rest, cx, limit);
        self.state = PeekState::Read { frames, rest };
        content
    }
}

/// Reads on: the data becomes the first frame, and what ends it early the second.
fn poll_content<B: Body<Data = Bytes>>(
    [content, next]: &mut [Option<Polled<B>>; 2],
    rest: &mut Option<Pin<Box<B>>>,
    cx: &mut Context<'_>,
    limit: u64,
) -> Poll<SentContent> {
    let is_over = |data: u64| data > limit;
    if rest.as_ref().is_some_and(|rest| is_over(rest.size_hint().lower())) {
        return Poll::Ready(SentContent::TooLong);
    }
    while let Some(body) = rest {
        let frame = match ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                *next = Some(Err(error));
                return Poll::Ready(SentContent::Incomplete);
            }
            None => {
                *rest = None;
                break;
            }
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = frame.trailers_ref().cloned();
                *next = Some(Ok(frame));
                let whole = |trailers| SentContent::Whole { data: data_of(content), trailers };
                return Poll::Ready(trailers.map_or(SentContent::Incomplete, whole));
            }
        };
        let known = data_of(content);
        if is_over(known.len() as u64 + data.len() as u64) {
            *next = Some(Ok(Frame::data(data)));
            return Poll::Ready(SentContent::TooLong);
        }
        // Taken out first, so that it is not shared and is appended to in place.
        *content = None;
        *content = Some(Ok(Frame::data(append(known, &data))));
    }
    Poll::Ready(SentContent::Whole { data: data_of(content), trailers: HeaderMap::new() })
}

/// Returns the data that was read.
fn data_of<E>(content: &Option<Result<Frame<Bytes>, E>>) -> Bytes {
    let frame = content.as_ref().and_then(|frame| frame.as_ref().ok());
    frame.and_then(Frame::data_ref).cloned().unwrap_or_default()
}

/// Appends data, in place if there is room.
fn append(data: Bytes, more: &Bytes) -> Bytes {
    if data.is_empty() {
        return more.clone();
    }
    let mut data = data.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    data.extend_from_slice(more);
    data.freeze()
}

impl<B: Body> Body for PeekedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Polled<B>>> {
        match self.project().state.project() {
            PeekStateProjection::Unread { body } => body.poll_frame(cx),
            PeekStateProjection::Read { frames, rest } => {
                match (frames.iter_mut().find_map(Option::take), rest) {
                    (Some(frame), _) => Poll::Ready(Some(frame)),
                    (None, Some(rest)) => rest.as_mut().poll_frame(cx),
                    (None, None) => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            PeekState::Unread { body } => body.is_end_stream(),
            PeekState::Read { frames, rest } => {
                frames.iter().all(Option::is_none)
                    && rest.as_ref().is_none_or(|rest| rest.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (frames, rest) = match &self.state {
            PeekState::Unread { body } => return body.size_hint(),
            PeekState::Read { frames, rest } => (frames, rest),
        };
        let data = frames.iter().flatten().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let length = data.map(|data| data.remaining() as u64).sum::<u64>();
        let rest = rest.as_ref().map_or(SizeHint::with_exact(0), |rest| rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(length));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(length)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B: Body> fmt::Debug for PeekedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekedBody").finish_non_exhaustive()
    }
}

/// Mark of a request whose body did not end at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HasContent;

/// Returns whether a body of this type can be put together again.
#[cfg(feature = "axum")]
pub(crate) fn can_peek<Q: Body + 'static>(body: &Q) -> bool {
    let body: &dyn Any = body;
    body.is::<axum::body::Body>()
}

#[cfg(not(feature = "axum"))]
pub(crate) fn can_peek<Q: Body>(_: &Q) -> bool {
    false
}

/// Reads the first frame of a body that can be put together again, and puts it back. Returns whether
/// there may be content.
#[cfg(feature = "axum")]
pub(crate) fn peek<Q: Body + 'static>(request: &mut Request<Q>) -> bool {
    let body: &mut dyn Any = request.body_mut();
    if let Some(body) = body.downcast_mut::<axum::body::Body>() {
        *body = axum::body::Body::new(PeekedBody::of(std::mem::take(body)));
    }
    !request.body().is_end_stream()
}

#[cfg(not(feature = "axum"))]
pub(crate) fn peek<Q: Body>(request: &mut Request<Q>) -> bool {
    !request.body().is_end_stream()
}
