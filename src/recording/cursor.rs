//! Recording that its recorder and its readers share, and the cursors of the readers.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;

use super::tape::{Chunks, Piece, Tape, TapePosition};
use crate::{
    background::{DetachedPermit, Detachments},
    clock::{Instant, now},
    metrics::outcome::Refusal,
    sync::{Mutex, MutexGuard, lock},
};

/// End of the chunks of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The body ended there.
    Complete,
    /// The [rest](super::Rest) is for the first reader alone. Other readers end with an error.
    Broken,
}

/// Readers of the recording, or the permit to finish without any.
#[derive(Debug)]
enum Attendance {
    Readers,
    /// Every reader has gone; the recorder may finish nevertheless.
    Detached(DetachedPermit),
    /// Every reader has gone, and the recorder stops.
    Deserted,
}

const FIRST_READER: u64 = 0;

/// Body that is being recorded, for its recorder and its readers.
#[derive(Debug)]
pub(crate) struct Recording {
    state: Mutex<RecordingState>,
    declared: Option<u64>,
    detachments: Arc<Detachments>,
}

#[derive(Debug)]
struct RecordingState {
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
        let mut state = RecordingState {
            tape,
            end: None,
            attendance: Attendance::Readers,
            readers: BTreeMap::new(),
            next_reader: FIRST_READER,
            recorder: None,
        };
        let id = state.admit();
        let recording = Arc::new(Self { state: Mutex::new(state), declared, detachments });
        let cursor = Cursor::new(Arc::clone(&recording), id);
        (recording, cursor)
    }

    /// Returns a cursor at the beginning, or `None` if the recording is broken or deserted.
    pub(crate) fn cursor(self: &Arc<Self>) -> Option<Cursor> {
        let mut state = lock(&self.state);
        let is_lost = matches!(state.attendance, Attendance::Deserted);
        if is_lost || state.end == Some(End::Broken) {
            return None;
        }
        let id = state.admit();
        // Trailers are not stored, so they are the first reader's alone.
        let mut cursor = Cursor::new(Arc::clone(self), id);
        cursor.is_past_trailers = true;
        Some(cursor)
    }

    /// Adds a piece and wakes the readers. A lack of budget stops no recording that others than the first
    /// reader read: they were promised the body, and its length is within the limit.
    pub(super) fn push(&self, piece: Piece) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        let mut pushed = state.tape.push(piece);
        if pushed == Err(Refusal::Budget) && state.is_shared() {
            pushed = Ok(());
        }
        let waiting = state.take_waiting();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        pushed
    }

    /// Gives back the reservation of a body that has stalled. Its next bytes reserve again.
    pub(super) fn stall(&self) {
        lock(&self.state).tape.reservation.release();
    }

    /// Registers the recorder's waker. Returns the recorder's deadline if no reader is left.
    pub(super) fn attend(&self, recorder: &Waker) -> Result<Option<Instant>, Deserted> {
        let mut state = lock(&self.state);
        match &state.attendance {
            Attendance::Deserted => return Err(Deserted),
            Attendance::Detached(detached) if detached.deadline() <= now() => {
                state.attendance = Attendance::Deserted;
                return Err(Deserted);
            }
            _ => {}
        }
        state.recorder = Some(recorder.clone());
        Ok(match &state.attendance {
            Attendance::Detached(detached) => Some(detached.deadline()),
            _ => None,
        })
    }

    /// Takes the chunks from a copy of the body that is stored.
    pub(super) fn replace(&self, stored: &Bytes) {
        lock(&self.state).tape.replace(stored);
    }

    /// Ends the recording. Its chunks no longer count against the budget, like bodies that are read from
    /// the store.
    pub(super) fn finish(&self, end: End) {
        let mut state = lock(&self.state);
        if state.end.is_none() {
            state.end = Some(end);
            state.tape.reservation.release();
            let waiting = state.take_waiting();
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Returns the chunks of a body that has ended, if it has the length it declared.
    pub(super) fn whole(&self) -> Recorded {
        let mut state = lock(&self.state);
        state.tape.seal();
        if state.tape.is_whole() {
            Recorded::Complete(state.tape.chunks.clone())
        } else {
            Recorded::Refused(Refusal::Incomplete)
        }
    }
}

/// Result of a recorder, for the flight.
#[derive(Debug)]
pub(crate) enum Recorded {
    /// The whole body, in chunks.
    Complete(Chunks),
    /// The body cannot be stored.
    Refused(Refusal),
    /// No reader was left.
    Deserted,
}

/// Refusal to go on: no reader is left.
pub(super) struct Deserted;

impl RecordingState {
    fn admit(&mut self) -> u64 {
        self.attendance = Attendance::Readers;
        let id = self.next_reader;
        self.next_reader += 1;
        self.readers.insert(id, None);
        id
    }

    /// Returns whether there are readers besides the first.
    fn is_shared(&self) -> bool {
        self.readers.keys().any(|id| *id != FIRST_READER)
    }

    /// Takes the wakers of the readers that wait. Wake and drop them without the lock: either may run an
    /// executor's code, which may poll or drop a reader.
    fn take_waiting(&mut self) -> Vec<Waker> {
        self.readers.values_mut().filter_map(Option::take).collect()
    }
}

/// A reader's place in a recording.
#[derive(Debug)]
pub(crate) struct Cursor {
    recording: Arc<Recording>,
    id: u64,
    position: TapePosition,
    /// Number of bytes that were read.
    bytes: u64,
    is_past_trailers: bool,
}

/// Next piece of a recording at a cursor.
#[derive(Debug)]
pub(crate) enum Next {
    Chunk(Bytes),
    Trailers(HeaderMap),
    End,
    /// The chunks end with a [rest](super::Rest) for the first reader alone.
    Broken,
}

impl Cursor {
    fn new(recording: Arc<Recording>, id: u64) -> Self {
        Self { recording, id, position: TapePosition::default(), bytes: 0, is_past_trailers: false }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = lock(&self.recording.state);
        // The last reader of a body that is not stored takes its chunks.
        let is_last = state.end == Some(End::Broken) && state.readers.len() == 1;
        if let Some(chunk) = state.tape.read(&mut self.position, is_last) {
            self.bytes += chunk.len() as u64;
            return Poll::Ready(Next::Chunk(chunk));
        }
        match state.end {
            None => self.wait(state, cx),
            Some(End::Broken) => Poll::Ready(Next::Broken),
            Some(End::Complete) => {
                let trailers = state.tape.trailers.clone().filter(|_| !self.is_past_trailers);
                self.is_past_trailers = true;
                Poll::Ready(trailers.map_or(Next::End, |trailers| Next::Trailers(*trailers)))
            }
        }
    }

    /// Waits for the first byte or the end. Returns whether there is a body to share.
    pub(crate) async fn begun(&self) -> bool {
        poll_fn(|cx| self.poll_begun(cx)).await
    }

    fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let state = lock(&self.recording.state);
        let is_whole = self.recording.declared == Some(state.tape.bytes);
        match state.end {
            Some(End::Broken) => Poll::Ready(is_whole),
            Some(End::Complete) => Poll::Ready(true),
            None if state.tape.bytes > 0 => Poll::Ready(true),
            None => self.wait(state, cx),
        }
    }

    fn wait<T>(&self, mut state: MutexGuard<'_, RecordingState>, cx: &Context<'_>) -> Poll<T> {
        let waker = cx.waker().clone();
        let earlier = state.readers.get_mut(&self.id).and_then(|old| old.replace(waker));
        drop(state);
        // Without the lock, as above.
        drop(earlier);
        Poll::Pending
    }

    pub(crate) fn is_at_end(&self) -> bool {
        let state = lock(&self.recording.state);
        state.end == Some(End::Complete)
            && self.bytes == state.tape.bytes
            && (self.is_past_trailers || state.tape.trailers.is_none())
    }

    /// Returns the number of bytes that are left, if the length was declared.
    pub(crate) fn declared_rest(&self) -> Option<u64> {
        self.recording.declared.map(|declared| declared.saturating_sub(self.bytes))
    }

    /// Returns the number of bytes that can be read without waiting.
    pub(crate) fn recorded_rest(&self) -> u64 {
        lock(&self.recording.state).tape.bytes.saturating_sub(self.bytes)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let mut state = lock(&self.recording.state);
        let waker = state.readers.remove(&self.id);
        let mut recorder = None;
        if state.readers.is_empty() && state.end.is_none() {
            state.attendance = match self.recording.detachments.begin() {
                Some(detached) => Attendance::Detached(detached),
                None => Attendance::Deserted,
            };
            recorder = state.recorder.take();
        }
        drop(state);
        drop(waker);
        if let Some(recorder) = recorder {
            recorder.wake();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::{
        super::budget::{Budget, Reservation},
        *,
    };
    use crate::metrics::Metrics;

    #[test]
    fn a_recording_that_may_not_go_on_without_readers_has_none_any_more() {
        let metrics = Arc::new(Metrics::new("cache", Vec::new(), 0));
        let detachments = Arc::new(Detachments::new(0, Duration::ZERO, metrics));
        let reservation = Reservation::none(&Arc::new(Budget::new(0)));
        let tape = Tape::new(0, None, reservation).expect("nothing is declared");
        let (recording, first) = Recording::new(tape, detachments);
        assert!(recording.cursor().is_some());
        drop(first);
        assert!(recording.cursor().is_none());
    }
}
