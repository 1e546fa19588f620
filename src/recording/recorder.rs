//! Recorder: the owner of the origin's body.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::Body;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep_until},
};

use super::{
    cursor::{End, Recorded, Recording},
    tape::{FRAMES_PER_TURN, Stop, poll_piece},
};
use crate::{entry::Entry, metrics::outcome::Refusal};

/// Rest of a body that only the first reader can be given.
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
    patience: Option<Pin<Box<Sleep>>>,
}

impl<B: Body> Recorder<B> {
    pub(crate) fn new(
        recording: Arc<Recording>,
        body: Pin<Box<B>>,
    ) -> (Self, oneshot::Receiver<Rest<B>>) {
        let (rest, receiver) = oneshot::channel();
        (Self { recording, body: Some(body), rest: Some(rest), patience: None }, receiver)
    }

    /// Reads the body to its end. Readers learn of the end from [`conclude`](Self::conclude), so
    /// that who has read it all finds it stored.
    pub(crate) async fn run(&mut self) -> Recorded {
        poll_fn(|cx| self.poll_run(cx)).await
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Recorded> {
        for _ in 0..FRAMES_PER_TURN {
            let Ok(deadline) = self.recording.attend(cx.waker()) else {
                return Poll::Ready(Recorded::Deserted);
            };
            self.patience = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
            if self.patience.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
                continue;
            }
            let Some(body) = self.body.as_mut() else { return Poll::Ready(Recorded::Deserted) };
            let polled = catch_unwind(AssertUnwindSafe(|| poll_piece(body.as_mut(), cx)));
            let stop = match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Some(Ok(piece)))) => {
                    let is_last = piece.is_last();
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
                    return Poll::Ready(Recorded::Refused(Refusal::Failed));
                }
            };
            return Poll::Ready(self.stop(stop));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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

    /// Tells the readers that the recording is over. `stored` holds the body if it is stored now.
    pub(crate) fn conclude(self, stored: Option<&Arc<Entry>>) {
        if let Some((_, body)) = stored.and_then(|entry| entry.as_response()) {
            self.recording.replace(body);
        }
        self.recording.finish(End::Complete);
    }

    fn hand_over(&mut self, rest: Rest<B>) {
        if let Some(sender) = self.rest.take() {
            // The first reader may have gone; then the rest is nobody's.
            let _ = sender.send(rest);
        }
        self.recording.finish(End::Broken);
    }
}

impl<B: Body> Drop for Recorder<B> {
    fn drop(&mut self) {
        self.recording.finish(End::Broken);
    }
}
