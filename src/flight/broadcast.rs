//! A notice that many may wait for: it is put up, and may be replaced, but is never taken down.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::sync::{Mutex, lock};

/// What is told to whoever waits. Until somebody does, it costs no allocation.
pub(crate) struct Notice<T> {
    board: Mutex<Board<T>>,
}

struct Board<T> {
    told: Option<T>,
    waiting: BTreeMap<u64, Waker>,
    next_reader: u64,
}

impl<T: Clone> Notice<T> {
    pub(crate) fn new() -> Self {
        let board = Board { told: None, waiting: BTreeMap::new(), next_reader: 0 };
        Self { board: Mutex::new(board) }
    }

    /// Tells everybody who waits, and who comes later.
    pub(crate) fn put(&self, told: T) {
        let mut board = lock(&self.board);
        let earlier = board.told.replace(told);
        let waiting = std::mem::take(&mut board.waiting);
        drop(board);
        // Woken and dropped without the lock: either may run an executor's code, which may read.
        waiting.into_values().for_each(Waker::wake);
        drop(earlier);
    }

    /// Waits until there is something to read.
    pub(crate) fn read(&self) -> Reading<'_, T> {
        Reading { notice: self, id: None }
    }
}

impl<T> fmt::Debug for Notice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").finish_non_exhaustive()
    }
}

/// Waits for a [`Notice`]. Dropped, it waits no longer.
pub(crate) struct Reading<'a, T> {
    notice: &'a Notice<T>,
    /// Under which the waker is kept.
    id: Option<u64>,
}

impl<T: Clone> Future for Reading<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut board = lock(&self.notice.board);
        if let Some(told) = &board.told {
            return Poll::Ready(told.clone());
        }
        let id = self.id.unwrap_or(board.next_reader);
        board.next_reader = board.next_reader.max(id + 1);
        let earlier = board.waiting.insert(id, cx.waker().clone());
        drop(board);
        drop(earlier);
        self.id = Some(id);
        Poll::Pending
    }
}

impl<T> Drop for Reading<'_, T> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = lock(&self.notice.board).waiting.remove(&id);
            // Without the lock, as above.
            drop(waker);
        }
    }
}
