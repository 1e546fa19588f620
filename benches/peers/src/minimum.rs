//! The least that a response cache can be: one lookup by path, the fields cloned, the body shared.
//! It is no cache to use: it knows no methods, no lifetimes, no callers, and fences nothing.

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
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt};

pub struct Stored {
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

/// Where it keeps them.
pub trait Entries: Clone + Send + Sync + 'static {
    fn with(entries: usize) -> Self;
    fn find(&self, path: &str) -> Option<Arc<Stored>>;
    fn keep(&self, path: Box<str>, stored: Arc<Stored>);
    fn remove(&self, path: &str);
}

pub type Quick = Arc<quick_cache::sync::Cache<Box<str>, Arc<Stored>>>;

impl Entries for Quick {
    fn with(entries: usize) -> Self {
        Self::new(quick_cache::sync::Cache::new(entries))
    }

    fn find(&self, path: &str) -> Option<Arc<Stored>> {
        self.get(path)
    }

    fn keep(&self, path: Box<str>, stored: Arc<Stored>) {
        self.insert(path, stored);
    }

    fn remove(&self, path: &str) {
        quick_cache::sync::Cache::remove(self, path);
    }
}

pub type Moka = moka::sync::Cache<Box<str>, Arc<Stored>>;

impl Entries for Moka {
    fn with(entries: usize) -> Self {
        Self::new(entries as u64)
    }

    fn find(&self, path: &str) -> Option<Arc<Stored>> {
        self.get(path)
    }

    fn keep(&self, path: Box<str>, stored: Arc<Stored>) {
        self.insert(path, stored);
    }

    fn remove(&self, path: &str) {
        self.invalidate(path);
    }
}

#[derive(Clone)]
pub struct Minimum<S, E> {
    inner: S,
    pub entries: E,
}

impl<S, E: Entries> Minimum<S, E> {
    pub fn new(inner: S, entries: usize) -> Self {
        Self { inner, entries: E::with(entries) }
    }
}

type Reply = Result<Response<Full<Bytes>>, Infallible>;

/// Ready on a hit, boxed on a miss.
pub enum MinimumFuture {
    Ready(Option<Response<Full<Bytes>>>),
    Filling(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Future for MinimumFuture {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        match &mut *self {
            Self::Ready(response) => {
                Poll::Ready(Ok(response.take().expect("polled after it completed")))
            }
            Self::Filling(filling) => filling.as_mut().poll(cx),
        }
    }
}

impl<S, E, Q, B> Service<Request<Q>> for Minimum<S, E>
where
    S: Service<Request<Q>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    E: Entries,
    Q: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = MinimumFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> MinimumFuture {
        match self.entries.find(request.uri().path()) {
            Some(stored) => MinimumFuture::Ready(Some(stored.response())),
            None => {
                let (inner, entries) = (self.inner.clone(), self.entries.clone());
                MinimumFuture::Filling(Box::pin(fill(inner, entries, request)))
            }
        }
    }
}

async fn fill<S, E, Q, B>(inner: S, entries: E, request: Request<Q>) -> Reply
where
    S: Service<Request<Q>, Response = Response<B>, Error = Infallible>,
    E: Entries,
    B: Body<Data = Bytes, Error = Infallible>,
{
    let path = request.uri().path().into();
    let (head, body) = inner.oneshot(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let stored = Arc::new(Stored { status: head.status, fields: head.headers, body });
    let response = stored.response();
    entries.keep(path, stored);
    Ok(response)
}
