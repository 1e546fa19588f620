//! First frame of a request's body, read to find whether there is content.

#[cfg(feature = "axum")]
use std::any::Any;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Buf;
use http::Request;
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
    /// Request body whose first frame has been read and put back, if its size was hidden.
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
        Read { first: Option<First<B>>, body: Pin<Box<B>> },
        Ended,
    }
}

type First<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

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
        match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(None) => Self::Ended,
            Poll::Ready(Some(first)) => Self::Read { first: Some(first), body },
            Poll::Pending => Self::Read { first: None, body },
        }
    }
}

impl<B: Body> Body for PeekedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<First<B>>> {
        match self.project().state.project() {
            PeekStateProjection::Unread { body } => body.poll_frame(cx),
            PeekStateProjection::Read { first, body } => match first.take() {
                Some(first) => Poll::Ready(Some(first)),
                None => body.as_mut().poll_frame(cx),
            },
            PeekStateProjection::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            PeekState::Unread { body } => body.is_end_stream(),
            PeekState::Read { first, body } => first.is_none() && body.is_end_stream(),
            PeekState::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (first, body) = match &self.state {
            PeekState::Unread { body } => return body.size_hint(),
            PeekState::Read { first, body } => (first, body),
            PeekState::Ended => return SizeHint::with_exact(0),
        };
        let first = first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
        let length = first.map_or(0, |data| data.remaining() as u64);
        let rest = body.size_hint();
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
