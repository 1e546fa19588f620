//! The one origin that all columns are put in front of, and what it can be told to do.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tower::Service;

use crate::values::{CHANGES, TAGS};

/// Length of the work's body.
pub const BODY_LENGTH: usize = 1024;
pub const CHUNK: usize = 64 * 1024;

/// Whether the response may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storable {
    Yes,
    No,
}

/// The body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The work's 1 KiB of JSON, which costs nothing to make.
    Shared,
    /// So many bytes in a buffer of the response's own, as a handler makes it.
    Owned(usize),
    /// The number of the call, in decimal: responses can be told apart.
    Serial,
    /// The value of the script when the call began.
    Value,
    /// So many bytes in chunks of [`CHUNK`], `gap` apart, without a length.
    Chunked { length: usize, gap: Duration },
}

/// When a response comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At the first poll.
    AtOnce,
    /// After everything else that can run has run.
    Yielding,
    /// After so long.
    After(Duration),
    /// The first call when the gate opens, later ones at once.
    Gated,
}

/// What the origin of one service does, and what it has seen. Lives as long as the process, so that an
/// origin is a pointer.
#[derive(Debug)]
pub struct Script {
    pub storable: Storable,
    pub content: Content,
    pub pace: Pace,
    pub calls: AtomicU64,
    pub value: AtomicU64,
    pub gate: Semaphore,
}

impl Script {
    pub fn new(storable: Storable, content: Content, pace: Pace) -> &'static Self {
        Box::leak(Box::new(Self {
            storable,
            content,
            pace,
            calls: AtomicU64::new(0),
            value: AtomicU64::new(1),
            gate: Semaphore::new(0),
        }))
    }

    /// The work: 200, 1 KiB of JSON, six fields, at once.
    pub fn work() -> &'static Self {
        Self::new(Storable::Yes, Content::Shared, Pace::AtOnce)
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn response(&self, call: u64, value: u64) -> Response<OriginBody> {
        let body = match self.content {
            Content::Shared => OriginBody::whole(Bytes::from_static(&JSON)),
            Content::Owned(length) => OriginBody::whole(Bytes::from(vec![b'x'; length])),
            Content::Serial => OriginBody::whole(Bytes::from(call.to_string())),
            Content::Value => OriginBody::whole(Bytes::from(value.to_string())),
            Content::Chunked { length, gap } => OriginBody::Chunked(Chunks::new(length, gap)),
        };
        let mut response = Response::new(body);
        self.fields(response.headers_mut(), call as usize);
        response
    }

    /// Half of them are the same in all responses, the others differ from one to the next.
    fn fields(&self, fields: &mut HeaderMap, call: usize) {
        fields.reserve(6);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.content {
            Content::Shared => {
                fields.insert(CONTENT_LENGTH, HeaderValue::from_static("1024"));
            }
            Content::Owned(length) => {
                fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            _ => {}
        }
        fields.insert(
            CACHE_CONTROL,
            HeaderValue::from_static(match self.storable {
                Storable::Yes => "public, max-age=3600",
                Storable::No => "no-store",
            }),
        );
        fields.insert(DATE, DATES[call % DATES.len()].clone());
        fields.insert(ETAG, TAGS[call % TAGS.len()].clone());
        fields.insert(LAST_MODIFIED, CHANGES[call % CHANGES.len()].clone());
    }
}

static JSON: [u8; BODY_LENGTH] = json();

/// `"xxx…"`
const fn json() -> [u8; BODY_LENGTH] {
    let mut text = [b'x'; BODY_LENGTH];
    text[0] = b'"';
    text[BODY_LENGTH - 1] = b'"';
    text
}

/// `Date`, of about the process' start: a response of another day would be stale to a cache that looks.
static DATES: LazyLock<[HeaderValue; 4]> = LazyLock::new(|| {
    let now = SystemTime::now();
    [0, 1, 2, 3].map(|second| {
        let date = httpdate::fmt_http_date(now - Duration::from_secs(second));
        HeaderValue::from_static(date.leak())
    })
});

// ===== the service =====

#[derive(Clone, Copy, Debug)]
pub struct Origin(pub &'static Script);

impl<B> Service<Request<B>> for Origin {
    type Response = Response<OriginBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Answer {
        match self.0.pace {
            Pace::AtOnce => Answer::Now(self.0),
            _ => Answer::Later(Box::pin(later(self.0))),
        }
    }
}

/// Does nothing before it is polled, as the future of an `async fn` does.
pub enum Answer {
    Now(&'static Script),
    Later(Pin<Box<dyn Future<Output = Response<OriginBody>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Response<OriginBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(script) => {
                let call = script.calls.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Ok(script.response(call, script.value.load(Ordering::Relaxed))))
            }
            Self::Later(later) => later.as_mut().poll(cx).map(Ok),
        }
    }
}

async fn later(script: &'static Script) -> Response<OriginBody> {
    let call = script.calls.fetch_add(1, Ordering::SeqCst);
    let value = script.value.load(Ordering::SeqCst);
    match script.pace {
        Pace::AtOnce => {}
        Pace::Yielding => tokio::task::yield_now().await,
        Pace::After(delay) => tokio::time::sleep(delay).await,
        Pace::Gated if call == 0 => {
            let _open = script.gate.acquire().await;
        }
        Pace::Gated => {}
    }
    script.response(call, value)
}

/// Answers with the body and no fields: what remains is the harness.
#[derive(Clone, Copy, Debug)]
pub struct Blank;

impl<B> Service<Request<B>> for Blank {
    type Response = Response<OriginBody>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<OriginBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        std::future::ready(Ok(Response::new(OriginBody::whole(Bytes::from_static(&JSON)))))
    }
}

// ===== the body =====

pub enum OriginBody {
    Whole(Full<Bytes>),
    Chunked(Chunks),
}

impl OriginBody {
    fn whole(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Chunked(chunks) => chunks.poll_chunk(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Chunked(chunks) => chunks.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Chunked(_) => SizeHint::new(),
        }
    }
}

/// Makes its chunks when it is asked for them.
pub struct Chunks {
    left: usize,
    gap: Duration,
    wait: Pin<Box<tokio::time::Sleep>>,
}

impl Chunks {
    fn new(length: usize, gap: Duration) -> Self {
        Self { left: length, gap, wait: Box::pin(tokio::time::sleep(gap)) }
    }

    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.wait.as_mut().poll(cx));
        self.wait.as_mut().reset(tokio::time::Instant::now() + self.gap);
        let length = self.left.min(CHUNK);
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; length])))))
    }
}
