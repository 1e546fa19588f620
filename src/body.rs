//! The body of responses that went through the layer.

use std::{
    error::Error,
    fmt,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::oneshot;

use crate::recording::{Cursor, Next, Rest};

pin_project! {
    /// Response body of [`SupportCache`](crate::SupportCache): bytes from the store, a body that is
    /// being recorded while it is read, or the inner service's own body passing through.
    ///
    /// See the [crate documentation](crate).
    pub struct ResponseBody<B: Body> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<B: Body> {
        Stored { bytes: Bytes },
        Recorded { cursor: Cursor, rest: Option<oneshot::Receiver<Rest<B>>> },
        HandedOver { body: Pin<Box<B>> },
        Passing { #[pin] body: B },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(crate) fn empty() -> Self {
        Self::stored(Bytes::new())
    }

    pub(crate) fn stored(bytes: Bytes) -> Self {
        Self { inner: Inner::Stored { bytes } }
    }

    pub(crate) fn passing(body: B) -> Self {
        Self { inner: Inner::Passing { body } }
    }

    /// The first reader of a recording: it alone can be given the body's error, its panic, or what
    /// is left of it.
    pub(crate) fn first_reader(cursor: Cursor, rest: oneshot::Receiver<Rest<B>>) -> Self {
        Self { inner: Inner::Recorded { cursor, rest: Some(rest) } }
    }

    pub(crate) fn reader(cursor: Cursor) -> Self {
        Self { inner: Inner::Recorded { cursor, rest: None } }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    // Into the reader's loop: from the store it is a few instructions. What is longer stays outside.
    #[inline]
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled<B>> {
        match self.as_mut().project().inner.project() {
            InnerProjection::Stored { bytes } if bytes.is_empty() => Poll::Ready(None),
            InnerProjection::Stored { bytes } => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            _ => self.poll_further(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Stored { bytes } => bytes.is_empty(),
            Inner::Recorded { cursor, .. } => cursor.is_at_end(),
            Inner::HandedOver { body } => body.is_end_stream(),
            Inner::Passing { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Stored { bytes } => SizeHint::with_exact(bytes.len() as u64),
            Inner::HandedOver { body } => body.size_hint(),
            Inner::Passing { body } => body.size_hint(),
            Inner::Recorded { cursor, .. } => match cursor.declared_rest() {
                Some(bytes) => SizeHint::with_exact(bytes),
                None => {
                    let mut hint = SizeHint::new();
                    hint.set_lower(cursor.recorded_rest());
                    hint
                }
            },
        }
    }
}

impl<B: Body> ResponseBody<B> {
    /// Polls what is not in the store yet, or never will be.
    #[inline(never)]
    fn poll_further(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled<B>> {
        match self.as_mut().project().inner.project() {
            InnerProjection::Stored { .. } => Poll::Ready(None),
            InnerProjection::Passing { body } => poll_origin(body, cx),
            InnerProjection::HandedOver { body } => poll_origin(body.as_mut(), cx),
            InnerProjection::Recorded { cursor, rest } => {
                match ready!(poll_recorded(cursor, rest, cx)) {
                    Ok(frame) => Poll::Ready(frame),
                    Err(mut body) => {
                        let polled = poll_origin(body.as_mut(), cx);
                        self.project().inner.set(Inner::HandedOver { body });
                        polled
                    }
                }
            }
        }
    }
}

/// What a body is polled for.
type Polled<B> = Option<Result<Frame<Bytes>, BodyError<<B as Body>::Error>>>;

/// Reads a recording; `Err` is what is left of a body that is not stored.
#[inline(never)]
fn poll_recorded<B: Body>(
    cursor: &mut Cursor,
    rest: &mut Option<oneshot::Receiver<Rest<B>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Polled<B>, Pin<Box<B>>>> {
    Poll::Ready(Ok(match ready!(cursor.poll_next(cx)) {
        Next::Chunk(chunk) => Some(Ok(Frame::data(chunk))),
        Next::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
        Next::End => None,
        Next::Broken => match rest.take().and_then(|mut rest| rest.try_recv().ok()) {
            Some(Rest::Body(body)) => return Poll::Ready(Err(body)),
            Some(Rest::Failed(error)) => Some(Err(BodyError(Cause::Origin(error)))),
            Some(Rest::Panicked(panic)) => resume_unwind(panic),
            None => Some(Err(BodyError(Cause::Interrupted))),
        },
    }))
}

fn poll_origin<B: Body>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Polled<B>> {
    Poll::Ready(ready!(body.poll_frame(cx)).map(|polled| match polled {
        Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
        Err(error) => Err(BodyError(Cause::Origin(error))),
    }))
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.inner {
            Inner::Stored { .. } => "Stored",
            Inner::Recorded { .. } => "Recorded",
            Inner::HandedOver { .. } | Inner::Passing { .. } => "Passing",
        };
        f.debug_tuple("ResponseBody").field(&state).finish()
    }
}

/// An error of a [`ResponseBody`]: the inner service's own, or the end of a body that another
/// request was reading.
///
/// Boxed, as servers do with it, the inner service's error is what it was before: its sources and
/// its type are not hidden.
pub struct BodyError<E>(Cause<E>);

enum Cause<E> {
    Origin(E),
    Interrupted,
}

impl<E> BodyError<E> {
    /// Returns the inner service's error. `None` where this request shared the body of another's
    /// forward and that body failed: there is only one error, and it is the other's.
    pub fn into_origin(self) -> Option<E> {
        match self.0 {
            Cause::Origin(error) => Some(error),
            Cause::Interrupted => None,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for BodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Origin(error) => f.debug_tuple("BodyError").field(error).finish(),
            Cause::Interrupted => fmt::Debug::fmt(&Interrupted, f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for BodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Origin(error) => error.fmt(f),
            Cause::Interrupted => Interrupted.fmt(f),
        }
    }
}

// Not `Error` itself: `Box<dyn Error>`, which many bodies have for an error, is none either, and
// servers ask for no more than this conversion.
impl<E: Into<Self>> From<BodyError<E>> for Box<dyn Error + Send + Sync> {
    fn from(error: BodyError<E>) -> Self {
        match error.0 {
            Cause::Origin(error) => error.into(),
            Cause::Interrupted => Interrupted.into(),
        }
    }
}

#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shared response body ended early")
    }
}

impl Error for Interrupted {}
