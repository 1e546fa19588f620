//! Body of the response to a write; the end of the body settles the write once more.
//!
//! A write may commit while its response streams. So there is work to be done before the last frame is
//! handed over. A body that is dropped earlier drops that work.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::{StatusCode, header::CONTENT_LENGTH, response};
use http_body::{Body, Frame, SizeHint};

/// Work at the end of a body. A drop tells it that the body has not ended.
pub(crate) trait AtEnd: Send {
    /// Does the work, before the end is handed over.
    fn act(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Body that does some work before its end.
pub(crate) struct WriteBody<B: Body> {
    body: Pin<Box<B>>,
    /// Result of the first poll, until it is handed over.
    first: Option<PolledFrame<B>>,
    /// Bytes of the declared length that have not been read.
    missing: Option<u64>,
    is_over: bool,
    stage: Stage,
}

type PolledFrame<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

enum Stage {
    /// The last frame has not been read.
    Open(Box<dyn AtEnd>),
    /// The last frame waits for the work.
    Acting { act: Pin<Box<dyn Future<Output = ()> + Send>>, last: Option<Frame<Bytes>> },
    /// No work is left.
    Done,
}

impl<B: Body> WriteBody<B> {
    /// Reads the first frame of a body, if it is ready. It is usually the whole body.
    pub(crate) fn begin(head: &response::Parts, body: B) -> Self {
        let lengths = head.headers.get_all(CONTENT_LENGTH).iter();
        let declared = lengths.filter_map(|length| length.to_str().ok()?.parse().ok());
        // A server drops a body after the bytes that it declared, without asking for its end.
        let missing = declared.chain(body.size_hint().exact()).min();
        let has_content = !head.status.is_informational() && head.status != StatusCode::NO_CONTENT;
        let is_over = body.is_end_stream() || missing == Some(0) || !has_content;
        let mut this =
            Self { body: Box::pin(body), first: None, missing, is_over, stage: Stage::Done };
        if !is_over {
            // No wake-up is lost: the body is polled again, with a waker.
            let polled = this.poll_body(&mut Context::from_waker(Waker::noop()));
            this.first = match polled {
                Poll::Ready(frame) => Some(frame),
                Poll::Pending => None,
            };
        }
        this
    }

    /// Returns whether no frame is left to read.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Sets the work to do at the end of the body.
    pub(crate) fn at_end(mut self, work: Box<dyn AtEnd>) -> Self {
        self.stage = Stage::Open(work);
        self
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<PolledFrame<B>> {
        loop {
            match &mut self.stage {
                Stage::Done => {
                    return match self.first.take() {
                        Some(first) => Poll::Ready(first),
                        None => self.poll_body(cx),
                    };
                }
                Stage::Acting { act, last } => {
                    ready!(act.as_mut().poll(cx));
                    let last = last.take();
                    self.stage = Stage::Done;
                    return Poll::Ready(last.map(Ok));
                }
                Stage::Open(_) => {}
            }
            let frame = match self.first.take() {
                Some(first) => first,
                None => ready!(self.poll_body(cx)),
            };
            let last = match frame {
                Some(Err(error)) => {
                    self.stage = Stage::Done;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) if !self.is_over => return Poll::Ready(Some(Ok(frame))),
                Some(Ok(frame)) => Some(frame),
                None => None,
            };
            if let Stage::Open(work) = std::mem::replace(&mut self.stage, Stage::Done) {
                self.stage = Stage::Acting { act: work.act(), last };
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Done)
            && match &self.first {
                Some(first) => first.is_none(),
                None => self.body.is_end_stream(),
            }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let held = match (&self.first, &self.stage) {
            (Some(Some(Ok(frame))), _) | (_, Stage::Acting { last: Some(frame), .. }) => {
                frame.data_ref().map_or(0, |data| data.len() as u64)
            }
            _ => 0,
        };
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<PolledFrame<B>> {
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        let frame = frame.map(|frame| {
            frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
        });
        self.is_over = match &frame {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(frame)) => {
                let read = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.missing = self.missing.map(|missing| missing.saturating_sub(read));
                self.missing == Some(0) || self.body.is_end_stream()
            }
        };
        Poll::Ready(frame)
    }
}

impl<B: Body> fmt::Debug for WriteBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBody").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
