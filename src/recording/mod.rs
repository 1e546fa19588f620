//! Recording a body while it is served.
//!
//! A recorder owns the origin's body and reads it as fast as it comes; readers share the chunks, so
//! a slow reader slows nobody. Where the body turns out not to be storable, the recorder hands what
//! is left of it to the first reader, who goes on at its own pace.

pub(crate) mod budget;

use std::{
    any::Any,
    collections::BTreeMap,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep_until},
};

use crate::{
    background::{DetachedPermit, Detachments},
    clock::{Instant, now},
    entry::Entry,
    metrics::outcome::Refusal,
    recording::budget::Reservation,
    sync::{Mutex, lock},
};

/// The chunks of a body, which mostly are one.
pub(crate) type Chunks = smallvec::SmallVec<[Bytes; 1]>;

/// What has been read of a body.
#[derive(Debug)]
pub(crate) struct Tape {
    pub(crate) chunks: Chunks,
    bytes: u64,
    /// Boxed: few bodies have any.
    trailers: Option<Box<HeaderMap>>,
    pub(crate) declared: Option<u64>,
    limit: u64,
    pieces: usize,
    pub(crate) reservation: Reservation,
}

/// A body in more pieces is not stored: what a piece takes besides its bytes is bounded too.
const MAX_PIECES: usize = 16_384;

/// Chunks under this many bytes are copied, once there are more than a few.
const SMALL: usize = 1024;
const FEW: usize = 16;

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// The body ended.
    End,
    /// The body failed.
    Failed(E),
    /// The body is longer than may be stored, or than the budget has room for.
    Refused(Refusal),
}

impl Tape {
    /// Takes bodies of at most `limit` bytes. `declared` bytes are reserved at once.
    pub(crate) fn new(
        limit: u64,
        declared: Option<u64>,
        mut reservation: Reservation,
    ) -> Result<Self, Refusal> {
        let reserved = declared.unwrap_or(0);
        if reserved > limit {
            return Err(Refusal::TooLarge);
        }
        if !reservation.grow_to(reserved) {
            return Err(Refusal::Budget);
        }
        let chunks = Chunks::new();
        Ok(Self { chunks, bytes: 0, trailers: None, declared, limit, pieces: 0, reservation })
    }

    /// Returns whether a body that has ended is what it declared to be, and nothing but bytes.
    pub(crate) fn is_plain(&self) -> bool {
        self.trailers.is_none() && self.is_whole()
    }

    fn is_whole(&self) -> bool {
        self.declared.is_none_or(|declared| declared == self.bytes)
    }

    /// Reads on until the body stops or waits.
    pub(crate) fn advance<B: Body>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Stop<B::Error>> {
        loop {
            let piece = match ready!(poll_piece(body.as_mut(), cx)) {
                None => return Poll::Ready(Stop::End),
                Some(Err(error)) => return Poll::Ready(Stop::Failed(error)),
                Some(Ok(piece)) => piece,
            };
            if let Err(refusal) = self.push(piece) {
                return Poll::Ready(Stop::Refused(refusal));
            }
        }
    }

    /// Adds a piece. It is kept even if it is too much: the first reader is owed it.
    fn push(&mut self, piece: Piece) -> Result<(), Refusal> {
        self.pieces += 1;
        let chunk = match piece {
            Piece::Chunk(chunk) if chunk.is_empty() => return self.check(),
            // Copied: a small chunk may be a part of a large buffer, which it would keep.
            Piece::Chunk(chunk) if chunk.len() < SMALL && self.chunks.len() >= FEW => {
                Bytes::copy_from_slice(&chunk)
            }
            Piece::Chunk(chunk) => chunk,
            Piece::Trailers(trailers) => {
                self.trailers = Some(Box::new(trailers));
                return Ok(());
            }
        };
        self.bytes += chunk.len() as u64;
        self.chunks.push(chunk);
        self.check()
    }

    fn check(&mut self) -> Result<(), Refusal> {
        if self.bytes > self.limit || self.pieces > MAX_PIECES {
            return Err(Refusal::TooLarge);
        }
        if self.reservation.grow_to(self.bytes) { Ok(()) } else { Err(Refusal::Budget) }
    }

    /// Takes the chunks from a copy of the body that is stored: what they were cut from is free,
    /// and so is their share of the budget.
    fn replace(&mut self, stored: &Bytes) {
        let mut at = 0;
        for chunk in self.chunks.iter_mut() {
            let end = at + chunk.len();
            *chunk = stored.slice(at..end);
            at = end;
        }
        self.reservation.release();
    }
}

enum Piece {
    Chunk(Bytes),
    Trailers(HeaderMap),
}

fn poll_piece<B: Body>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Piece, B::Error>>> {
    let Some(frame) = ready!(body.poll_frame(cx)?) else { return Poll::Ready(None) };
    let piece = match frame.into_data() {
        Ok(mut data) => Piece::Chunk(data.copy_to_bytes(data.remaining())),
        Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
    };
    Poll::Ready(Some(Ok(piece)))
}

/// What only the first reader can be given.
pub(crate) enum Rest<B: Body> {
    /// The body's error.
    Failed(B::Error),
    /// The body's panic.
    Panicked(Box<dyn Any + Send>),
    /// What is left of a body that is not stored.
    Body(Pin<Box<B>>),
}

/// How the chunks of a recording end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As the body did.
    Complete,
    /// With something only the first reader can be given; for other readers, with an error.
    Broken,
}

/// Who wants the recording.
#[derive(Debug)]
enum Attendance {
    Readers,
    /// Every reader has gone; the recorder may finish nevertheless.
    Detached(DetachedPermit),
    /// Every reader has gone, and the recorder stops.
    Deserted,
}

/// A body as recorder and readers share it.
#[derive(Debug)]
pub(crate) struct Recording {
    shared: Mutex<Shared>,
    declared: Option<u64>,
    detachments: Arc<Detachments>,
}

#[derive(Debug)]
struct Shared {
    tape: Tape,
    end: Option<End>,
    attendance: Attendance,
    readers: BTreeMap<u64, Option<Waker>>,
    next_reader: u64,
    recorder: Option<Waker>,
}

impl Recording {
    /// Creates a recording that goes on from `tape`, and its first cursor.
    pub(crate) fn new(tape: Tape, detachments: Arc<Detachments>) -> (Arc<Self>, Cursor) {
        let declared = tape.declared;
        let mut shared = Shared {
            tape,
            end: None,
            attendance: Attendance::Readers,
            readers: BTreeMap::new(),
            next_reader: 0,
            recorder: None,
        };
        let id = shared.admit();
        let recording = Arc::new(Self { shared: Mutex::new(shared), declared, detachments });
        let cursor = Cursor::new(Arc::clone(&recording), id);
        (recording, cursor)
    }

    /// Returns a cursor at the beginning, or `None` if the recording came to nothing.
    pub(crate) fn cursor(self: &Arc<Self>) -> Option<Cursor> {
        let mut shared = lock(&self.shared);
        let is_lost = matches!(shared.attendance, Attendance::Deserted);
        if is_lost || shared.end == Some(End::Broken) {
            return None;
        }
        let id = shared.admit();
        // Trailers are not stored, so they are the first reader's alone.
        let mut cursor = Cursor::new(Arc::clone(self), id);
        cursor.is_past_trailers = true;
        Some(cursor)
    }

    /// Adds a piece and wakes the readers.
    fn push(&self, piece: Piece) -> Result<(), Refusal> {
        let mut shared = lock(&self.shared);
        let pushed = shared.tape.push(piece);
        let waiting = shared.take_waiting();
        drop(shared);
        waiting.into_iter().for_each(Waker::wake);
        pushed
    }

    /// Tells whether the recorder may go on, and until when where nobody reads any more.
    fn attend(&self, recorder: &Waker) -> Result<Option<Instant>, Deserted> {
        let mut shared = lock(&self.shared);
        match &shared.attendance {
            Attendance::Deserted => return Err(Deserted),
            Attendance::Detached(detached) if detached.deadline() <= now() => {
                shared.attendance = Attendance::Deserted;
                return Err(Deserted);
            }
            _ => {}
        }
        shared.recorder = Some(recorder.clone());
        Ok(match &shared.attendance {
            Attendance::Detached(detached) => Some(detached.deadline()),
            _ => None,
        })
    }

    fn finish(&self, end: End) {
        let mut shared = lock(&self.shared);
        if shared.end.is_none() {
            shared.end = Some(end);
            let waiting = shared.take_waiting();
            drop(shared);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Returns the chunks of a body that has ended, if it has the length it declared.
    fn whole(&self) -> Recorded {
        let shared = lock(&self.shared);
        if shared.tape.is_whole() {
            Recorded::Complete(shared.tape.chunks.clone())
        } else {
            Recorded::Refused(Refusal::Incomplete)
        }
    }
}

struct Deserted;

impl Shared {
    fn admit(&mut self) -> u64 {
        self.attendance = Attendance::Readers;
        let id = self.next_reader;
        self.next_reader += 1;
        self.readers.insert(id, None);
        id
    }

    /// Takes the wakers of those who wait. To be woken, and dropped, without the lock: either may
    /// run an executor's code, and that may poll or drop a reader.
    fn take_waiting(&mut self) -> Vec<Waker> {
        self.readers.values_mut().filter_map(Option::take).collect()
    }
}

/// How a recorder ended, for the flight.
#[derive(Debug)]
pub(crate) enum Recorded {
    /// The whole body, in chunks.
    Complete(Chunks),
    /// The body cannot be stored.
    Refused(Refusal),
    /// Nobody was left to record for.
    Deserted,
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
        loop {
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
                Ok(Poll::Ready(Some(Ok(piece)))) => match self.recording.push(piece) {
                    Ok(()) => continue,
                    Err(refusal) => Stop::Refused(refusal),
                },
                Ok(Poll::Ready(Some(Err(error)))) => Stop::Failed(error),
                Ok(Poll::Ready(None)) => Stop::End,
                Err(panic) => {
                    self.hand_over(Rest::Panicked(panic));
                    return Poll::Ready(Recorded::Refused(Refusal::Failed));
                }
            };
            return Poll::Ready(self.stop(stop));
        }
    }

    /// Ends the recording for a reason.
    pub(crate) fn stop(&mut self, stop: Stop<B::Error>) -> Recorded {
        match stop {
            Stop::End => self.recording.whole(),
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
            lock(&self.recording.shared).tape.replace(body);
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

/// A reader's place in a recording.
#[derive(Debug)]
pub(crate) struct Cursor {
    recording: Arc<Recording>,
    id: u64,
    position: usize,
    bytes: u64,
    is_past_trailers: bool,
}

/// What a cursor comes upon.
#[derive(Debug)]
pub(crate) enum Next {
    Chunk(Bytes),
    Trailers(HeaderMap),
    End,
    /// The chunks end with something only the first reader can be given.
    Broken,
}

impl Cursor {
    fn new(recording: Arc<Recording>, id: u64) -> Self {
        Self { recording, id, position: 0, bytes: 0, is_past_trailers: false }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut shared = lock(&self.recording.shared);
        let is_last_to_read = shared.end == Some(End::Broken) && shared.readers.len() == 1;
        if let Some(chunk) = shared.tape.chunks.get_mut(self.position) {
            // A body that is not stored need not be kept either.
            let chunk = if is_last_to_read { std::mem::take(chunk) } else { chunk.clone() };
            self.position += 1;
            self.bytes += chunk.len() as u64;
            return Poll::Ready(Next::Chunk(chunk));
        }
        match shared.end {
            None => {
                let waker = cx.waker().clone();
                let earlier = shared.readers.get_mut(&self.id).and_then(|old| old.replace(waker));
                drop(shared);
                drop(earlier);
                Poll::Pending
            }
            Some(End::Broken) => Poll::Ready(Next::Broken),
            Some(End::Complete) => {
                let trailers = shared.tape.trailers.clone().filter(|_| !self.is_past_trailers);
                self.is_past_trailers = true;
                Poll::Ready(trailers.map_or(Next::End, |trailers| Next::Trailers(*trailers)))
            }
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        let shared = lock(&self.recording.shared);
        shared.end == Some(End::Complete)
            && self.position == shared.tape.chunks.len()
            && (self.is_past_trailers || shared.tape.trailers.is_none())
    }

    /// Returns how many bytes are left, where the length was declared.
    pub(crate) fn declared_rest(&self) -> Option<u64> {
        self.recording.declared.map(|declared| declared.saturating_sub(self.bytes))
    }

    /// Returns how many bytes are there to be read at once.
    pub(crate) fn recorded_rest(&self) -> u64 {
        lock(&self.recording.shared).tape.bytes.saturating_sub(self.bytes)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let mut shared = lock(&self.recording.shared);
        let waker = shared.readers.remove(&self.id);
        let mut recorder = None;
        if shared.readers.is_empty() && shared.end.is_none() {
            shared.attendance = match self.recording.detachments.begin() {
                Some(detached) => Attendance::Detached(detached),
                None => Attendance::Deserted,
            };
            recorder = shared.recorder.take();
        }
        drop(shared);
        drop(waker);
        if let Some(recorder) = recorder {
            recorder.wake();
        }
    }
}
