//! Looks at the server, sent together where several are made at once.
//!
//! A look waits until whatever else is ready to run has run, and goes with all that were made
//! meanwhile: one write, one timer, one wake-up of the connection for them all. Alone it goes alone,
//! and none waits for an answer to others before it is sent.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll, Waker},
};

use redis::{Cmd, Value};
use tokio::task::yield_now;

use super::{command::Fault, connection::Connection, link::Link};
use crate::{
    operations::Operation,
    sync::{Mutex, Ordering, lane, lock},
};

/// Threads that share a place here share their looks, so each of a few has its own. It also keeps
/// runtimes apart, of which one may be slow.
const LANES: usize = 16;

/// No more looks go together,
const MOST: usize = 32;

/// and none for whose answers this many bytes are to be expected: all are heard at the end of the
/// last.
const MOST_BYTES: usize = 256 * 1024;

/// The looks over one connection that are not sent yet.
#[derive(Debug)]
pub(super) struct Looks {
    open: Box<[Mutex<Option<Arc<Batch>>>]>,
    /// How many bytes an answer had of late.
    typical: AtomicUsize,
}

#[derive(Debug, Default)]
struct Batch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    looks: Vec<Cmd>,
    /// One for each look that is waited for.
    waiting: Vec<Option<Waker>>,
    answers: Option<Vec<Answer>>,
}

type Answer = Result<Value, Fault>;

impl Looks {
    pub(super) fn new() -> Self {
        let open = (0..LANES).map(|_| Mutex::default()).collect();
        Self { open, typical: AtomicUsize::new(0) }
    }

    /// Adds a look to those that are sent next; the first of them sees to it that they are.
    fn add(&self, look: Cmd) -> (Asked, Option<Sending>) {
        let most = (MOST_BYTES / self.typical.load(Ordering::Relaxed).max(1)).clamp(1, MOST);
        let lane = lane(LANES);
        let mut open = lock(&self.open[lane]);
        if let Some(batch) = &*open {
            let mut state = lock(&batch.0);
            if state.looks.len() < most {
                let place = state.add(look);
                drop(state);
                return (Asked { batch: Arc::clone(batch), place }, None);
            }
        }
        let batch = Arc::<Batch>::default();
        let place = lock(&batch.0).add(look);
        *open = Some(Arc::clone(&batch));
        (Asked { batch: Arc::clone(&batch), place }, Some(Sending { batch, lane }))
    }

    /// Lets no more looks in, and returns those that are to be sent.
    fn close(&self, sending: &Sending) -> Vec<Cmd> {
        let mut open = lock(&self.open[sending.lane]);
        if open.as_ref().is_some_and(|batch| Arc::ptr_eq(batch, &sending.batch)) {
            *open = None;
        }
        drop(open);
        std::mem::take(&mut lock(&sending.batch.0).looks)
    }

    fn take_note(&self, answers: &[Answer]) {
        let bytes = |answer: &Answer| match answer {
            Ok(Value::BulkString(bytes)) => bytes.len(),
            _ => 0,
        };
        let mean = answers.iter().map(bytes).sum::<usize>() / answers.len().max(1);
        let before = self.typical.load(Ordering::Relaxed);
        self.typical.store(before - before / 4 + mean / 4, Ordering::Relaxed);
    }
}

impl State {
    fn add(&mut self, look: Cmd) -> usize {
        self.looks.push(look);
        self.waiting.push(None);
        self.waiting.len() - 1
    }
}

/// A look that was made.
struct Asked {
    batch: Arc<Batch>,
    place: usize,
}

impl Future for Asked {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = lock(&self.batch.0);
        let State { answers, waiting, .. } = &mut *state;
        match answers {
            Some(answers) => {
                // None is there where the answers were fewer than the looks.
                let answer = answers.get_mut(self.place);
                Poll::Ready(answer.map_or(Err(Fault::Refused), |answer| {
                    std::mem::replace(answer, Err(Fault::Refused))
                }))
            }
            None => {
                waiting[self.place] = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Whoever sends looks. Dropped before there are answers, the link is to blame.
struct Sending {
    batch: Arc<Batch>,
    lane: usize,
}

impl Sending {
    fn answer(&self, answers: impl FnOnce(usize) -> Vec<Answer>) {
        let mut state = lock(&self.batch.0);
        if state.answers.is_some() {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        state.answers = Some(answers(waiting.len()));
        drop(state);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.answer(|count| vec![Err(Fault::Link); count]);
    }
}

impl Link {
    /// Looks at the server within the budget of a lookup.
    pub(super) async fn look(self: &Arc<Self>, connection: &Arc<Connection>, look: Cmd) -> Answer {
        let mut wire = connection.wire();
        if !wire.is_one() {
            let asked = (Operation::Lookup, self.settings.lookup_budget);
            return self.ask(connection, asked, look.query_async(&mut wire)).await;
        }
        let (asked, sending) = connection.looks.add(look);
        if let Some(sending) = sending {
            let (link, connection) = (Arc::clone(self), Arc::clone(connection));
            tokio::spawn(async move { link.send(&connection, &sending).await });
        }
        asked.await
    }

    async fn send(&self, connection: &Arc<Connection>, sending: &Sending) {
        yield_now().await;
        let looks = connection.looks.close(sending);
        let answers = self.ask_all(connection, looks).await;
        connection.looks.take_note(&answers);
        sending.answer(|_| answers);
    }
}
