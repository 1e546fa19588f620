//! Tape: the part of a body that has been read.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;

use super::budget::Reservation;
use crate::metrics::outcome::Refusal;

/// Chunks of a body. Most bodies have one.
pub(crate) type Chunks = smallvec::SmallVec<[Bytes; 1]>;

/// Part of a body that has been read.
#[derive(Debug)]
pub(crate) struct Tape {
    /// The whole body, once it has ended.
    pub(crate) chunks: Chunks,
    /// Small pieces after the chunks, until they fill another chunk.
    tail: Vec<u8>,
    pub(super) bytes: u64,
    /// Boxed: few bodies have any.
    pub(super) trailers: Option<Box<HeaderMap>>,
    pub(crate) declared: Option<u64>,
    limit: u64,
    pub(crate) reservation: Reservation,
}

/// Length in bytes under which pieces are gathered, once there are [`FEW`] chunks. A small piece may keep a
/// large buffer alive that it is a part of, and a million pieces take more memory than their bytes.
const SMALL: usize = 1024;
const FEW: usize = 16;

/// Number of frames that are read in one poll. A body that is always ready, with empty frames, could
/// otherwise keep a worker for ever.
pub(super) const FRAMES_PER_TURN: usize = 256;

/// Reason for which reading stopped.
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
    /// Creates a tape for a body of at most `limit` bytes. The `declared` bytes are reserved at once.
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
        let (chunks, tail) = (Chunks::new(), Vec::new());
        Ok(Self { chunks, tail, bytes: 0, trailers: None, declared, limit, reservation })
    }

    /// Returns whether a body that has ended has its declared length and no trailers.
    pub(crate) fn is_plain(&self) -> bool {
        self.trailers.is_none() && self.is_whole()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.declared.is_none_or(|declared| declared == self.bytes)
    }

    /// Reads until the body stops or waits, or for [`FRAMES_PER_TURN`] frames. In the last case it wakes no
    /// task: the caller hands the body to a recorder, which polls it again.
    pub(crate) fn advance<B: Body>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Stop<B::Error>> {
        for _ in 0..FRAMES_PER_TURN {
            let piece = match ready!(poll_piece(body.as_mut(), cx)) {
                None => return Poll::Ready(self.end()),
                Some(Err(error)) => return Poll::Ready(Stop::Failed(error)),
                Some(Ok(piece)) => piece,
            };
            let is_last = piece.is_last();
            match self.push(piece) {
                Ok(()) if is_last => return Poll::Ready(self.end()),
                Ok(()) => {}
                Err(refusal) => return Poll::Ready(Stop::Refused(refusal)),
            }
        }
        Poll::Pending
    }

    fn end<E>(&mut self) -> Stop<E> {
        self.seal();
        Stop::End
    }

    /// Adds a piece. It is kept even if it is too much: the first reader is owed it.
    pub(super) fn push(&mut self, piece: Piece) -> Result<(), Refusal> {
        match piece {
            Piece::Trailers(trailers) => {
                self.trailers = Some(Box::new(trailers));
                return Ok(());
            }
            Piece::Chunk(chunk) if chunk.len() < SMALL && self.chunks.len() >= FEW => {
                self.bytes += chunk.len() as u64;
                self.tail.extend_from_slice(&chunk);
                if self.tail.len() >= SMALL {
                    self.seal();
                }
            }
            Piece::Chunk(chunk) if chunk.is_empty() => {}
            Piece::Chunk(chunk) => {
                self.seal();
                self.bytes += chunk.len() as u64;
                self.chunks.push(chunk);
            }
        }
        if self.bytes > self.limit {
            return Err(Refusal::TooLarge);
        }
        if self.reservation.grow_to(self.bytes) { Ok(()) } else { Err(Refusal::Budget) }
    }

    /// Makes a chunk of the small pieces.
    pub(super) fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(Bytes::copy_from_slice(&self.tail));
            self.tail.clear();
        }
    }

    /// Returns the bytes at a position and advances it; `None` if there are none yet. `is_last` says that
    /// no other reader will ask for them.
    pub(super) fn read(&mut self, position: &mut TapePosition, is_last: bool) -> Option<Bytes> {
        while let Some(chunk) = self.chunks.get_mut(position.chunk) {
            let chunk = if is_last { std::mem::take(chunk) } else { chunk.clone() };
            let rest = chunk.slice(position.offset..);
            *position = TapePosition { chunk: position.chunk + 1, offset: 0 };
            if !rest.is_empty() {
                return Some(rest);
            }
        }
        let rest = self.tail.get(position.offset..).filter(|rest| !rest.is_empty())?;
        position.offset = self.tail.len();
        Some(Bytes::copy_from_slice(rest))
    }

    /// Replaces the chunks by slices of the stored body, so that the buffers they were cut from are freed.
    pub(super) fn replace(&mut self, stored: &Bytes) {
        let mut at = 0;
        for chunk in self.chunks.iter_mut() {
            let end = at + chunk.len();
            *chunk = stored.slice(at..end);
            at = end;
        }
    }
}

/// Position of a reader on a tape.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TapePosition {
    chunk: usize,
    /// Number of bytes of that chunk that were read while it was gathered.
    offset: usize,
}

pub(super) enum Piece {
    Chunk(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    /// Returns whether the body ends with this piece: nothing follows trailers.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::Trailers(_))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Chunk(chunk) if chunk.is_empty())
    }
}

pub(super) fn poll_piece<B: Body>(
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;

    use super::{super::budget::Budget, *};

    const LIMIT: u64 = 1024 * 1024;

    fn tape() -> Tape {
        let budget = Arc::new(Budget::new(LIMIT));
        Tape::new(LIMIT, None, Reservation::none(&budget)).expect("nothing is declared")
    }

    fn piece(length: usize) -> Piece {
        Piece::Chunk(vec![b'x'; length].into())
    }

    #[test]
    fn pieces_of_any_size_take_little_more_than_their_bytes() {
        for lengths in [&[1][..], &[SMALL - 1], &[0, 2], &[1, SMALL], &[SMALL, 1, 1, 1]] {
            let mut tape = tape();
            let mut lengths = lengths.iter().cycle();
            while tape.bytes + 2 * SMALL as u64 <= LIMIT {
                tape.push(piece(*lengths.next().unwrap())).unwrap();
            }
            tape.seal();
            let bytes: usize = tape.chunks.iter().map(Bytes::len).sum();
            assert_eq!(bytes as u64, tape.bytes);
            assert!(tape.chunks.len() <= FEW + 2 * bytes / SMALL, "{} chunks", tape.chunks.len());
        }
    }

    /// Pieces are read while they are gathered, after that, and both.
    #[test]
    fn each_reader_reads_every_byte_once_whenever_it_reads() {
        for every in 1..40 {
            let mut tape = tape();
            let (mut position, mut seen) = (TapePosition::default(), Vec::new());
            let mut expected = Vec::new();
            for n in 0..500_usize {
                let bytes = vec![n as u8; [1, 700, 3, 2000, 5, 400][n % 6]];
                expected.extend_from_slice(&bytes);
                tape.push(Piece::Chunk(bytes.into())).unwrap();
                while n % every == 0
                    && let Some(read) = tape.read(&mut position, false)
                {
                    seen.extend_from_slice(&read);
                }
            }
            tape.seal();
            while let Some(read) = tape.read(&mut position, true) {
                seen.extend_from_slice(&read);
            }
            assert!(seen == expected, "read after every {every} pieces");
        }
    }
}
