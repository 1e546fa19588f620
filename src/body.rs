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

use crate::{
    insight::{BodyComparison, ComparedBody},
    recording::{Cursor, Next, Rest},
    sync::{Mutex, lock},
    write_body::WriteBody,
};

pin_project! {
    /// Response body of [`SupportCache`](crate::SupportCache): bytes from the store, a body that is
    /// being recorded while it is read, or the inner service's own body passing through.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Full};
    /// use tower_support_cache::{BodyError, ResponseBody};
    ///
    /// async fn read(body: ResponseBody<Full<Bytes>>) -> Result<Bytes, BodyError> {
    ///     Ok(body.collect().await?.to_bytes())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BodyError`] if the inner service's body fails. Requests that share the body fail with it.
    ///
    /// # Cancellation
    ///
    /// Dropping a body harms no other reader. A body that is to be stored is then read to its end on
    /// the runtime, within bounds.
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
        Compared { body: Pin<Box<ComparedBody<B>>> },
        // Locked by no one: it makes the body as shareable between threads as the others are.
        Written { body: Mutex<Box<WriteBody<B>>> },
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

    pub(crate) fn compared(body: B, comparison: BodyComparison) -> Self {
        Self { inner: Inner::Compared { body: Box::pin(ComparedBody::new(body, comparison)) } }
    }

    pub(crate) fn written(body: WriteBody<B>) -> Self {
        Self { inner: Inner::Written { body: Mutex::new(Box::new(body)) } }
    }

    /// The first reader of a recording: it alone can be given the body's error, its panic, or what
    /// is left of it.
    pub(crate) fn first_reader(cursor: Cursor, rest: oneshot::Receiver<Rest<B>>) -> Self {
        Self { inner: Inner::Recorded { cursor, rest: Some(rest) } }
    }

    pub(crate) fn reader(cursor: Cursor) -> Self {
        Self { inner: Inner::Recorded { cursor, rest: None } }
    }

    /// Returns the number of bytes, where it is known.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        match &self.inner {
            Inner::Stored { bytes } => Some(bytes.len() as u64),
            Inner::Recorded { cursor, .. } => cursor.declared_rest(),
            Inner::HandedOver { body } => body.size_hint().exact(),
            Inner::Passing { body } => body.size_hint().exact(),
            Inner::Compared { body } => body.size_hint().exact(),
            Inner::Written { body } => lock(body).size_hint().exact(),
        }
    }
}

/// An empty body, as layers around the cache need for responses of their own.
///
/// ```
/// use http_body::Body;
/// use tower_support_cache::ResponseBody;
///
/// let body = ResponseBody::<String>::default();
/// assert!(body.is_end_stream());
/// ```
impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    // Into the reader's loop: from the store it is a few instructions. What is longer stays outside.
    #[inline]
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
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
            Inner::Compared { body } => body.is_end_stream(),
            Inner::Written { body } => lock(body).is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Stored { bytes } => SizeHint::with_exact(bytes.len() as u64),
            Inner::HandedOver { body } => body.size_hint(),
            Inner::Passing { body } => body.size_hint(),
            Inner::Compared { body } => body.size_hint(),
            Inner::Written { body } => lock(body).size_hint(),
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

impl<B> ResponseBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// Polls what is not in the store yet, or never will be.
    #[inline(never)]
    fn poll_further(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        match self.as_mut().project().inner.project() {
            InnerProjection::Stored { .. } => Poll::Ready(None),
            InnerProjection::Passing { body } => poll_origin(body, cx),
            InnerProjection::HandedOver { body } => poll_origin(body.as_mut(), cx),
            InnerProjection::Compared { body } => poll_origin(body.as_mut(), cx),
            InnerProjection::Written { body } => {
                let polled = ready!(lock(body).poll_frame(cx));
                Poll::Ready(polled.map(|frame| frame.map_err(BodyError::origin)))
            }
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

/// Result of polling a body for a frame.
type Polled = Option<Result<Frame<Bytes>, BodyError>>;

/// Reads a recording; `Err` is what is left of a body that is not stored.
#[inline(never)]
fn poll_recorded<B>(
    cursor: &mut Cursor,
    rest: &mut Option<oneshot::Receiver<Rest<B>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Polled, Pin<Box<B>>>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    Poll::Ready(Ok(match ready!(cursor.poll_next(cx)) {
        Next::Chunk(chunk) => Some(Ok(Frame::data(chunk))),
        Next::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
        Next::End => None,
        Next::Broken => match rest.take().and_then(|mut rest| rest.try_recv().ok()) {
            Some(Rest::Body(body)) => return Poll::Ready(Err(body)),
            Some(Rest::Failed(error)) => Some(Err(BodyError::origin(error))),
            Some(Rest::Panicked(panic)) => resume_unwind(panic),
            // On the wire it ends with the last byte that it declared.
            None if cursor.declared_rest() == Some(0) => None,
            None => Some(Err(BodyError(BodyErrorKind::Interrupted))),
        },
    }))
}

fn poll_origin<B>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Polled>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    Poll::Ready(ready!(body.poll_frame(cx)).map(|polled| match polled {
        Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
        Err(error) => Err(BodyError::origin(error)),
    }))
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.inner {
            Inner::Stored { .. } => "Stored",
            Inner::Recorded { .. } => "Recorded",
            Inner::HandedOver { .. }
            | Inner::Passing { .. }
            | Inner::Compared { .. }
            | Inner::Written { .. } => "Passing",
        };
        f.debug_tuple("ResponseBody").field(&state).finish()
    }
}

/// Boxed error, as servers take it.
type BoxError = Box<dyn Error + Send + Sync>;

/// Error of a [`ResponseBody`]: the inner service's own, or the end of a body that another request was
/// reading.
///
/// The inner service's error is its [`source`](Error::source), and both have one message.
///
/// ```
/// # use http_body_util::BodyExt;
/// # use tower_support_cache::ResponseBody;
/// # type Inner = http_body_util::Empty<bytes::Bytes>;
/// async fn read(body: ResponseBody<Inner>) -> Result<bytes::Bytes, Box<dyn std::error::Error>> {
///     Ok(body.collect().await?.to_bytes())
/// }
/// ```
#[derive(Debug)]
pub struct BodyError(BodyErrorKind);

#[derive(Debug)]
enum BodyErrorKind {
    Origin(BoxError),
    Interrupted,
}

impl BodyError {
    fn origin(error: impl Into<BoxError>) -> Self {
        Self(BodyErrorKind::Origin(error.into()))
    }

    /// Returns the inner service's error. `None` where this request shared the body of another's
    /// forward and that body failed: there is only one error, and it is the other's.
    pub fn into_origin(self) -> Option<BoxError> {
        match self.0 {
            BodyErrorKind::Origin(error) => Some(error),
            BodyErrorKind::Interrupted => None,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BodyErrorKind::Origin(error) => error.fmt(f),
            BodyErrorKind::Interrupted => f.write_str("the shared response body ended early"),
        }
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            BodyErrorKind::Origin(error) => Some(&**error),
            BodyErrorKind::Interrupted => None,
        }
    }
}
