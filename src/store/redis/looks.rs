//! Looks at the server, sent together where several are made at once.
//!
//! While others are on their way, a look waits until whatever else is ready to run has run, and goes
//! with all that were made meanwhile: one write, one timer, one wake-up of the connection for them
//! all, and one command for those that are for the same field. Where none is, it does not wait.
//! None waits for an answer to others before it is sent, and each was made before it is sent, so what
//! it brings is as new as if it had gone by itself.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};
use tokio::task::yield_now;

use super::{
    Digest,
    command::{Fault, Sought, bulk},
    connection::Connection,
    link::Link,
};
use crate::{
    key::PrimaryKey,
    metrics::operations::Operation,
    sync::{Mutex, Ordering, lane, lock},
};

/// Threads that share a place here share their looks, so each of a few has its own. It also keeps
/// runtimes apart, of which one may be slow.
const LANES: usize = 16;

/// No more looks go together,
const MOST: usize = 32;

/// for no more who wait,
const MOST_HEARERS: usize = 1024;

/// and none for whose answers this many bytes are to be expected: all are heard at the end of the
/// last.
const MOST_BYTES: usize = 256 * 1024;

/// The looks over one connection that are not sent yet.
#[derive(Debug)]
pub(super) struct Looks {
    open: Box<[Mutex<Option<Arc<Batch>>>]>,
    /// How many batches were begun and are not answered.
    on_the_way: Arc<AtomicUsize>,
    /// How many were sent together of late.
    usual: AtomicUsize,
    /// How many bytes an answer had of late.
    typical: AtomicUsize,
}

#[derive(Debug)]
struct Batch(Mutex<State>);

#[derive(Debug)]
struct State {
    looks: Pipeline,
    /// A part of each look's digest, which tells most of them apart.
    marks: Vec<u64>,
    /// How many have not heard the answer to each look.
    hearers: Vec<usize>,
    /// All who wait for an answer to any.
    waiting: Vec<Option<Waker>>,
    answers: Option<Vec<Answer>>,
}

/// What is at a field.
type Answer = Result<Option<Bytes>, Fault>;

impl Looks {
    pub(super) fn new() -> Self {
        let open = (0..LANES).map(|_| Mutex::default()).collect();
        let [usual, typical] = [const { AtomicUsize::new(0) }; 2];
        Self { open, on_the_way: Arc::default(), usual, typical }
    }

    /// Adds a look to those that are sent next; the first of them sees to it that they are.
    fn add(&self, look: Cmd, vk: &Digest) -> (Asked, Option<Sending>) {
        let most = (MOST_BYTES / self.typical.load(Ordering::Relaxed).max(1)).clamp(1, MOST);
        let lane = lane(LANES);
        let mut open = lock(&self.open[lane]);
        if let Some(batch) = &*open {
            let mut state = lock(&batch.0);
            // One that has answers was given up before it was sent.
            let is_open = state.answers.is_none() && state.waiting.len() < MOST_HEARERS;
            if is_open && state.looks.len() < most {
                let (look, place) = state.add(look, vk);
                drop(state);
                return (Asked { batch: Arc::clone(batch), look, place }, None);
            }
        }
        let mut state = State::for_as_many_as(self.usual.load(Ordering::Relaxed));
        let (look, place) = state.add(look, vk);
        let batch = Arc::new(Batch(Mutex::new(state)));
        *open = Some(Arc::clone(&batch));
        let is_first = self.on_the_way.fetch_add(1, Ordering::Relaxed) == 0;
        let on_the_way = OnTheWay(Arc::clone(&self.on_the_way));
        let asked = Asked { batch: Arc::clone(&batch), look, place };
        (asked, Some(Sending { batch, lane, is_first, _on_the_way: on_the_way }))
    }

    /// Lets no more looks in, and returns those that are to be sent.
    fn close(&self, sending: &Sending) -> Pipeline {
        let mut open = lock(&self.open[sending.lane]);
        if open.as_ref().is_some_and(|batch| Arc::ptr_eq(batch, &sending.batch)) {
            *open = None;
        }
        drop(open);
        let looks = std::mem::take(&mut lock(&sending.batch.0).looks);
        self.usual.store(looks.len(), Ordering::Relaxed);
        looks
    }

    fn take_note(&self, answers: &[Answer]) {
        let bytes = |answer: &Answer| match answer {
            Ok(Some(bytes)) => bytes.len(),
            Ok(None) | Err(_) => 0,
        };
        let mean = answers.iter().map(bytes).sum::<usize>() / answers.len().max(1);
        let before = self.typical.load(Ordering::Relaxed);
        self.typical.store(before - before / 4 + mean / 4, Ordering::Relaxed);
    }
}

impl State {
    /// Lists that do not grow bit by bit where there are as many looks as before.
    fn for_as_many_as(usual: usize) -> Self {
        Self {
            looks: Pipeline::with_capacity(usual),
            marks: Vec::with_capacity(usual),
            hearers: Vec::with_capacity(usual),
            waiting: Vec::with_capacity(usual),
            answers: None,
        }
    }

    /// Returns the place of the look, and of who waits for the answer.
    fn add(&mut self, look: Cmd, vk: &Digest) -> (usize, usize) {
        let mark = vk.last_chunk().map_or(0, |end| u64::from_ne_bytes(*end));
        let is_same = |place: &usize| {
            let known = self.looks.cmd_iter().nth(*place);
            known.is_some_and(|known| known.args_iter().eq(look.args_iter()))
        };
        let known = self.marks.iter().position(|known| *known == mark);
        let place = match known.filter(is_same) {
            Some(place) => place,
            None => {
                self.looks.add_command(look);
                self.marks.push(mark);
                self.hearers.push(0);
                self.looks.len() - 1
            }
        };
        self.hearers[place] += 1;
        self.waiting.push(None);
        (place, self.waiting.len() - 1)
    }
}

/// A look that was made.
pub(super) struct Asked {
    batch: Arc<Batch>,
    look: usize,
    place: usize,
}

impl Future for Asked {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = lock(&self.batch.0);
        let State { answers, hearers, waiting, .. } = &mut *state;
        let Some(answers) = answers else {
            waiting[self.place] = Some(cx.waker().clone());
            return Poll::Pending;
        };
        // There is none where the answers were fewer than the looks.
        let Some(answer) = answers.get_mut(self.look) else {
            return Poll::Ready(Err(Fault::Refused));
        };
        hearers[self.look] -= 1;
        Poll::Ready(match hearers[self.look] {
            0 => std::mem::replace(answer, Ok(None)),
            _ => answer.clone(),
        })
    }
}

/// A batch that was begun and counted, until it is dropped.
#[derive(Debug)]
struct OnTheWay(Arc<AtomicUsize>);

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whoever sends looks. Dropped before there are answers, the link is to blame.
struct Sending {
    batch: Arc<Batch>,
    lane: usize,
    /// Whether no other was on its way when it was begun.
    is_first: bool,
    _on_the_way: OnTheWay,
}

impl Sending {
    fn answer(&self, answers: impl FnOnce(usize) -> Vec<Answer>) {
        let mut state = lock(&self.batch.0);
        if state.answers.is_some() {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        state.answers = Some(answers(state.hearers.len()));
        drop(state);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.answer(|count| vec![Err(Fault::Link); count]);
    }
}

/// The answer to a look, on its way.
pub(super) enum Look<'a> {
    Together(Asked),
    /// Boxed, so that the way of every other hit is not as long.
    Alone(Pin<Box<dyn Future<Output = Answer> + Send + 'a>>),
}

impl Future for Look<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::Together(asked) => Pin::new(asked).poll(cx),
            Self::Alone(asked) => asked.as_mut().poll(cx),
        }
    }
}

impl Link {
    /// Looks at the server within the budget of a lookup.
    pub(super) fn look<'a>(
        self: &'a Arc<Self>,
        connection: &'a Arc<Connection>,
        (key, sought, vk): (&PrimaryKey, Sought, &Digest),
    ) -> Look<'a> {
        let look = self.settings.look(key, sought, vk);
        if !connection.is_one() {
            return Look::Alone(Box::pin(self.look_alone(connection, look)));
        }
        let (asked, sending) = connection.looks(sought).add(look, vk);
        if let Some(sending) = sending {
            let (link, connection) = (Arc::clone(self), Arc::clone(connection));
            tokio::spawn(async move { link.send(&connection, (sought, &sending)).await });
        }
        Look::Together(asked)
    }

    async fn look_alone(&self, connection: &Arc<Connection>, look: Cmd) -> Answer {
        self.look_with(connection, &look).await.map(bulk)
    }

    /// Sends a command by itself that reads, within the budget of a lookup.
    pub(super) async fn look_with(
        &self,
        connection: &Arc<Connection>,
        look: &Cmd,
    ) -> Result<Value, Fault> {
        let mut wire = connection.wire();
        let asked = (Operation::Lookup, self.settings.lookup_budget);
        self.ask(connection, asked, look.query_async(&mut wire)).await
    }

    async fn send(&self, connection: &Arc<Connection>, (sought, sending): (Sought, &Sending)) {
        let all = connection.looks(sought);
        if !sending.is_first {
            yield_now().await;
        }
        let looks = all.close(sending);
        let answers = self.ask_all(connection, looks).await;
        all.take_note(&answers);
        sending.answer(|_| answers);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::{super::command::look, *};

    fn add(looks: &Looks, key: &str, field: &str) -> (Asked, Option<Sending>) {
        let vk = format!("{field:>32}");
        let vk = vk.as_bytes().try_into().expect("a field is short");
        looks.add(look(["", key], Sought::Record, vk), vk)
    }

    fn found(text: &str) -> Answer {
        Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
    }

    #[tokio::test]
    async fn each_hears_the_answer_to_its_own_look() {
        let looks = Looks::new();
        let (first, sending) = add(&looks, "key", "first");
        // The same field, of another key.
        let others = [("key", "second"), ("other key", "first"), ("key", "first")]
            .map(|(key, field)| add(&looks, key, field).0);
        let sending = sending.expect("the first sees to it");
        assert_eq!(looks.close(&sending).len(), 3, "the same twice is one");
        sending.answer(|_| vec![found("1"), found("2"), Err(Fault::Foreign)]);
        let [second, other, again] = others;
        assert_eq!(first.await, found("1"));
        assert_eq!((second.await, again.await), (found("2"), found("1")));
        assert_eq!(other.await, Err(Fault::Foreign));
    }

    #[tokio::test]
    async fn a_look_that_is_late_is_not_among_those_that_are_sent() {
        let looks = Looks::new();
        let (_, sending) = add(&looks, "key", "a");
        let sending = sending.expect("the first sees to it");
        assert_eq!(looks.close(&sending).len(), 1);
        assert!(add(&looks, "key", "a").1.is_some(), "it goes by itself");
    }

    #[test]
    fn a_look_waits_for_more_only_where_others_are_on_their_way() {
        let looks = Looks::new();
        let begin = |field: &str| add(&looks, "key", field).1.expect("it begins a batch");
        let first = begin("a");
        assert!(first.is_first);
        looks.close(&first);
        let second = begin("b");
        looks.close(&second);
        assert!(!second.is_first);
        drop(first);
        assert!(!begin("c").is_first, "the second is not answered");
        drop(second);
        assert!(begin("d").is_first);
    }

    #[tokio::test]
    async fn looks_that_are_never_sent_are_answered_all_the_same() {
        let looks = Looks::new();
        let (asked, sending) = add(&looks, "key", "a");
        drop(sending);
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), asked).await;
        assert_eq!(answer, Ok(Err(Fault::Link)));
        let (asked, sending) = add(&looks, "key", "b");
        sending.expect("the first sees to it").answer(|_| Vec::new());
        assert_eq!(asked.await, Err(Fault::Refused), "no answer is no answer");
    }

    #[test]
    fn no_more_go_together_than_a_limit_and_fewer_where_answers_are_long() {
        let sendings = |looks: &Looks| {
            let begun = |number: usize| add(looks, "key", &number.to_string()).1;
            (0..4 * MOST)
                .filter_map(begun)
                .filter(|sending| looks.close(sending).len() == 1)
                .count()
        };
        let looks = Looks::new();
        let kept: Vec<_> =
            (0..4 * MOST).filter_map(|n| add(&looks, "key", &n.to_string()).1).collect();
        assert_eq!(kept.len(), 4);
        assert!(kept.iter().all(|sending| looks.close(sending).len() == MOST));
        for _ in 0..20 {
            looks.take_note(&[Ok(Some(vec![0; MOST_BYTES].into()))]);
        }
        assert_eq!(sendings(&looks), 4 * MOST, "each by itself");
    }
}
