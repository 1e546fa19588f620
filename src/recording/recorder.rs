//! Recorder: the owner of the origin's body.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body::Body;
use tokio::{sync::oneshot, time::Sleep};

use super::{
    cursor::{End, Recorded, Recording},
    tape::{FRAMES_PER_TURN, Stop, poll_piece},
};
use crate::{
    clock::{Instant, by_timer, now, sleep_until},
    entry::Entry,
    metrics::outcome::Refusal,
};

/// Rest of a body. Only the first reader gets it: it cannot be copied.
pub(crate) enum Rest<B: Body> {
    /// The body's error.
    Failed(B::Error),
    /// The body's panic.
    Panicked(Box<dyn Any + Send>),
    /// The unread part of a body that is not stored.
    Body(Pin<Box<B>>),
}

/// Owns the origin's body and reads it into the recording.
pub(crate) struct Recorder<B: Body> {
    recording: Arc<Recording>,
    body: Option<Pin<Box<B>>>,
    rest: Option<oneshot::Sender<Rest<B>>>,
    /// Set if bytes have come since the time was last read.
    has_moved: bool,
    /// Time at which the body has stalled, unless bytes come before.
    stalls_at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Time without a byte after which a body has stalled.
const STALL: Duration = Duration::from_secs(5);

impl<B: Body> Recorder<B> {
    pub(crate) fn new(
        recording: Arc<Recording>,
        body: Pin<Box<B>>,
    ) -> (Self, oneshot::Receiver<Rest<B>>) {
        let (rest, receiver) = oneshot::channel();
        let (body, rest, stalls_at) = (Some(body), Some(rest), now() + STALL);
        (Self { recording, body, rest, has_moved: false, stalls_at, timer: None }, receiver)
    }

    /// Reads the body to its end. Readers see the end only with [`conclude`](Self::conclude): a client
    /// that has read the whole body then finds it stored.
    pub(crate) async fn run(&mut self) -> Recorded {
        poll_fn(|cx| self.poll_run(cx)).await
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Recorded> {
        for _ in 0..FRAMES_PER_TURN {
            let Ok(deadline) = self.recording.attend(cx.waker()) else {
                return Poll::Ready(Recorded::Deserted);
            };
            let Some(body) = self.body.as_mut() else { return Poll::Ready(Recorded::Deserted) };
            let polled = catch_unwind(AssertUnwindSafe(|| poll_piece(body.as_mut(), cx)));
            let stop = match polled {
                Ok(Poll::Pending) if self.poll_timer(deadline, cx).is_ready() => continue,
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Some(Ok(piece)))) => {
                    let is_last = piece.is_last();
                    self.has_moved |= !piece.is_empty();
                    match self.recording.push(piece) {
                        Ok(()) if is_last => Stop::End,
                        Ok(()) => continue,
                        Err(refusal) => Stop::Refused(refusal),
                    }
                }
                Ok(Poll::Ready(Some(Err(error)))) => Stop::Failed(error),
                Ok(Poll::Ready(None)) => Stop::End,
                Err(panic) => {
                    self.hand_over(Rest::Panicked(panic));
                    return Poll::Ready(Recorded::Refused(Refusal::Panicked));
                }
            };
            return Poll::Ready(self.stop(stop));
        }
        self.note_time();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Notes that bytes have come, or that the body has stalled.
    fn note_time(&mut self) {
        let now = now();
        if std::mem::take(&mut self.has_moved) {
            self.stalls_at = now + STALL;
        } else if self.stalls_at <= now {
            self.recording.stall();
        }
    }

    /// Waits until a body without bytes stalls, or until `deadline` if that is earlier.
    fn poll_timer(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        self.note_time();
        let stall = Some(self.stalls_at).filter(|stall| now() < *stall);
        let Some(until) = deadline.into_iter().chain(stall).min() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        let until = by_timer(until);
        // A timer that is too early is set again when it fires, not with each byte.
        if timer.is_elapsed() || until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }

    /// Ends the recording for a reason.
    pub(crate) fn stop(&mut self, stop: Stop<B::Error>) -> Recorded {
        match stop {
            Stop::End => {
                self.body = None;
                self.recording.whole()
            }
            Stop::Failed(error) => {
                self.hand_over(Rest::Failed(error));
                Recorded::Refused(Refusal::Incomplete)
            }
            Stop::Refused(refusal) => {
                if let Some(body) = self.body.take() {
                    self.hand_over(Rest::Body(body));
                }
                Recorded::Refused(refusal)
            }
        }
    }

    /// Ends the recording for its readers. `stored` holds the body if it was stored.
    pub(crate) fn conclude(self, stored: Option<&Arc<Entry>>) {
        if let Some((_, body)) = stored.and_then(|entry| entry.as_response()) {
            self.recording.replace(body);
        }
        self.recording.finish(End::Complete);
    }

    fn hand_over(&mut self, rest: Rest<B>) {
        if let Some(sender) = self.rest.take() {
            // The first reader may have gone. Then the rest is dropped.
            let _ = sender.send(rest);
        }
        self.recording.finish(End::Broken);
    }
}

impl<B: Body> Drop for Recorder<B> {
    fn drop(&mut self) {
        // Its runtime has ended. That of the first reader may go on.
        if let Some(body) = self.body.take() {
            self.hand_over(Rest::Body(body));
        }
        self.recording.finish(End::Broken);
    }
}
