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

/// The chunks of a body, which mostly are one.
pub(crate) type Chunks = smallvec::SmallVec<[Bytes; 1]>;

/// What has been read of a body.
#[derive(Debug)]
pub(crate) struct Tape {
    pub(crate) chunks: Chunks,
    pub(super) bytes: u64,
    /// Boxed: few bodies have any.
    pub(super) trailers: Option<Box<HeaderMap>>,
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

    pub(super) fn is_whole(&self) -> bool {
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
    pub(super) fn push(&mut self, piece: Piece) -> Result<(), Refusal> {
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
    pub(super) fn replace(&mut self, stored: &Bytes) {
        let mut at = 0;
        for chunk in self.chunks.iter_mut() {
            let end = at + chunk.len();
            *chunk = stored.slice(at..end);
            at = end;
        }
        self.reservation.release();
    }
}

pub(super) enum Piece {
    Chunk(Bytes),
    Trailers(HeaderMap),
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
