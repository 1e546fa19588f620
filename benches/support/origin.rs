//! The work: 200, 1 KiB of JSON, six fields.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED},
};
use http_body_util::{Empty, Full};
use tower::Service;

use super::values::{CHANGES, TAGS};

pub(crate) const BODY_LENGTH: usize = 1024;

static JSON: [u8; BODY_LENGTH] = json();

/// What all responses have in common.
const SAME: [(HeaderName, HeaderValue); 3] = [
    (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (CONTENT_LENGTH, HeaderValue::from_static("1024")),
    (CACHE_CONTROL, HeaderValue::from_static("max-age=3600")),
];

/// What they differ in, in turn.
static DATES: [HeaderValue; 4] = [
    HeaderValue::from_static("Sun, 22 Nov 2026 12:00:00 GMT"),
    HeaderValue::from_static("Sun, 22 Nov 2026 12:00:10 GMT"),
    HeaderValue::from_static("Sun, 22 Nov 2026 12:00:20 GMT"),
    HeaderValue::from_static("Sun, 22 Nov 2026 12:00:30 GMT"),
];

/// `"xxx…"`
const fn json() -> [u8; BODY_LENGTH] {
    let mut text = [b'x'; BODY_LENGTH];
    text[0] = b'"';
    text[BODY_LENGTH - 1] = b'"';
    text
}

/// Of all origins of the process: a clone of an origin that held the count would cost.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Returns how often any origin was called.
pub(crate) fn calls() -> usize {
    CALLS.load(Ordering::Relaxed)
}

/// The inner service. It answers at once, and without an allocation but for the fields.
#[derive(Clone, Debug)]
pub(crate) struct Origin;

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        ready(Ok(response(CALLS.fetch_add(1, Ordering::Relaxed))))
    }
}

/// Answers with the body and no fields: what remains is the harness.
#[derive(Clone, Debug)]
pub(crate) struct Blank;

impl Service<Request<Empty<Bytes>>> for Blank {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        ready(Ok(blank()))
    }
}

fn blank() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(&JSON)))
}

/// Makes the response of the work for the `n`th time.
pub(crate) fn response(n: usize) -> Response<Full<Bytes>> {
    let mut response = blank();
    let fields = response.headers_mut();
    fields.reserve(2 * SAME.len());
    for (name, value) in SAME {
        fields.insert(name, value);
    }
    for (name, values) in [(DATE, &DATES), (ETAG, &TAGS), (LAST_MODIFIED, &CHANGES)] {
        fields.insert(name, values[n % values.len()].clone());
    }
    response
}
