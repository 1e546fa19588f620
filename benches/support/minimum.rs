//! The least that a response cache can be: one lookup by path, the fields cloned, the body shared.
//! It is no cache to use: it knows no methods, no lifetimes, no callers and no invalidation.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use quick_cache::sync::Cache;
use tower::{Service, ServiceExt};

struct Stored {
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
}

impl Stored {
    fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields.clone();
        response
    }
}

type Entries = Cache<Box<str>, Arc<Stored>>;

#[derive(Clone)]
pub(crate) struct Minimum<S> {
    inner: S,
    entries: Arc<Entries>,
}

impl<S> Minimum<S> {
    pub(crate) fn new(inner: S, capacity: usize) -> Self {
        Self { inner, entries: Arc::new(Cache::new(capacity)) }
    }
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Ready on a hit, boxed on a miss.
pub(crate) enum MinimumFuture {
    Ready(Option<Response<Full<Bytes>>>),
    Filling(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Future for MinimumFuture {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::Ready(response) => {
                Poll::Ready(Ok(response.take().expect("polled after it completed")))
            }
            Self::Filling(filling) => filling.as_mut().poll(cx),
        }
    }
}

impl<S, B> Service<Request<Empty<Bytes>>> for Minimum<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = MinimumFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        match self.entries.get(request.uri().path()) {
            Some(stored) => MinimumFuture::Ready(Some(stored.response())),
            None => {
                let (inner, entries) = (self.inner.clone(), Arc::clone(&self.entries));
                MinimumFuture::Filling(Box::pin(fill(inner, entries, request)))
            }
        }
    }
}

async fn fill<S, B>(inner: S, entries: Arc<Entries>, request: Request<Empty<Bytes>>) -> Answer
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error = Infallible>,
{
    let path = request.uri().path().into();
    let (head, body) = inner.oneshot(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let stored = Stored { status: head.status, fields: head.headers, body };
    let stored = Arc::new(stored);
    let response = stored.response();
    entries.insert(path, stored);
    Ok(response)
}
