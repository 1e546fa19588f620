//! Batches of lookups that are made at the same moment.
//!
//! While other batches are in flight, a batch waits until every task that is ready has run, and takes the
//! lookups that were made meanwhile: one write, one timer and one wake-up of the connection for all, and
//! one command for equal ones. No lookup waits for the reply to another before it is sent, and each was made
//! before it is sent, so its reply is as new as if it had been sent alone.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak, atomic::AtomicUsize},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use redis::{Cmd, Pipeline};

use super::command::{LinkFault, Sought};
use crate::{
    key::PrimaryKey,
    store::redis::record::VariantDigest,
    sync::{Mutex, Ordering, lane, lock},
};

/// Limit of commands in a batch. All its lookups are answered when the last reply has come.
const LIMIT: usize = 32;

/// Number of threads that can have an open batch at a time.
const LANES: usize = 16;

/// Batches of a connection that are not sent yet, by the thread that makes the lookups.
///
/// A batch is sent by the runtime of its thread. Another runtime may be slow, and a lookup that joined its
/// batch would wait for it beyond any budget.
#[derive(Debug)]
pub(super) struct LookupBatches {
    /// Weak: a batch that was answered is dropped with the last of its callers.
    open: Box<[Mutex<Weak<LookupBatch>>]>,
    limit: usize,
    in_flight: AtomicUsize,
}

/// Lookups that are sent together.
#[derive(Debug)]
struct LookupBatch {
    thread: usize,
    state: Mutex<BatchState>,
}

#[derive(Debug)]
struct BatchState {
    lookups: Vec<BatchedLookup>,
    is_closed: bool,
    replies: Option<Vec<LookupReply>>,
    waiting: Vec<Waker>,
}

/// Lookup that is sent once, for all callers that ask for the same field.
#[derive(Debug)]
pub(super) struct BatchedLookup {
    pub(super) key: PrimaryKey,
    pub(super) sought: Sought,
    pub(super) digest: VariantDigest,
    /// Number of callers that have not taken the reply.
    callers: usize,
}

/// Content of a field; `None` if there is no such field.
pub(crate) type LookupReply = Result<Option<Bytes>, LinkFault>;

/// Reply that is on its way.
#[derive(Debug)]
pub(crate) struct PendingReply {
    batch: Arc<LookupBatch>,
    index: usize,
}

/// Batch that a task has to send. Dropped before it is answered, its lookups fail.
#[derive(Debug)]
pub(super) struct UnsentBatch(Arc<LookupBatch>);

impl LookupBatches {
    /// Creates the batches of a connection. Only lookups to one server are sent together.
    pub(super) fn new(is_to_one_server: bool) -> Self {
        let open = (0..LANES).map(|_| Mutex::default()).collect();
        let limit = if is_to_one_server { LIMIT } else { 1 };
        Self { open, limit, in_flight: AtomicUsize::new(0) }
    }

    /// Adds a lookup. The first of a batch returns the batch, too, for the caller to send.
    pub(super) fn add(
        &self,
        key: &PrimaryKey,
        sought: Sought,
        digest: &VariantDigest,
    ) -> (PendingReply, Option<UnsentBatch>) {
        let thread = lane(usize::MAX);
        let mut open = lock(&self.open[thread % LANES]);
        let joined = open.upgrade().filter(|batch| batch.thread == thread);
        let join =
            |batch: &Arc<LookupBatch>| lock(&batch.state).add(self.limit, key, sought, digest);
        let index = joined.as_ref().and_then(join);
        if let (Some(batch), Some(index)) = (joined, index) {
            return (PendingReply { batch, index }, None);
        }
        let lookup = BatchedLookup { key: key.clone(), sought, digest: *digest, callers: 1 };
        let batch = Arc::new(LookupBatch::new(thread, lookup, self.limit));
        *open = Arc::downgrade(&batch);
        (PendingReply { batch: Arc::clone(&batch), index: 0 }, Some(UnsentBatch(batch)))
    }

    /// Returns whether a batch is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Counts a batch as in flight.
    pub(super) fn sent(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a batch as answered.
    pub(super) fn answered(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LookupBatch {
    fn new(thread: usize, first: BatchedLookup, limit: usize) -> Self {
        let mut lookups = Vec::with_capacity(limit);
        lookups.push(first);
        let (is_closed, replies, waiting) = (false, None, Vec::with_capacity(limit));
        Self { thread, state: Mutex::new(BatchState { lookups, is_closed, replies, waiting }) }
    }
}

impl BatchState {
    /// Adds a lookup, and returns its index; `None` if the batch takes no more.
    fn add(
        &mut self,
        limit: usize,
        key: &PrimaryKey,
        sought: Sought,
        digest: &VariantDigest,
    ) -> Option<usize> {
        if self.is_closed || self.lookups.len() >= limit {
            return None;
        }
        let is_same = |known: &BatchedLookup| {
            known.digest == *digest && known.sought == sought && known.key == *key
        };
        if let Some(index) = self.lookups.iter().position(is_same) {
            self.lookups[index].callers += 1;
            return Some(index);
        }
        self.lookups.push(BatchedLookup { key: key.clone(), sought, digest: *digest, callers: 1 });
        Some(self.lookups.len() - 1)
    }
}

impl UnsentBatch {
    /// Closes the batch, and returns the commands for its lookups.
    pub(super) fn close(&self, command: impl Fn(&BatchedLookup) -> Cmd) -> Pipeline {
        let mut state = lock(&self.0.state);
        state.is_closed = true;
        let mut commands = Pipeline::with_capacity(state.lookups.len());
        state.lookups.iter().for_each(|lookup| {
            commands.add_command(command(lookup));
        });
        commands
    }

    /// Passes the replies on, in the order of the lookups.
    pub(super) fn answer(&self, replies: Vec<LookupReply>) {
        let mut state = lock(&self.0.state);
        if state.replies.is_none() {
            state.is_closed = true;
            state.replies = Some(replies);
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for UnsentBatch {
    fn drop(&mut self) {
        self.answer(Vec::new());
    }
}

impl Future for PendingReply {
    type Output = LookupReply;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LookupReply> {
        let mut state = lock(&self.batch.state);
        let BatchState { lookups, replies, waiting, .. } = &mut *state;
        let Some(replies) = replies else {
            waiting.push(cx.waker().clone());
            return Poll::Pending;
        };
        let Some(reply) = replies.get_mut(self.index) else {
            return Poll::Ready(Err(LinkFault::Lost));
        };
        let callers = &mut lookups[self.index].callers;
        *callers -= 1;
        Poll::Ready(if *callers == 0 { std::mem::replace(reply, Ok(None)) } else { reply.clone() })
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn add(batches: &LookupBatches, key: &str, field: &str) -> (PendingReply, Option<UnsentBatch>) {
        let digest = format!("{field:>32}");
        let digest = digest.as_bytes().try_into().expect("a field is short");
        batches.add(&PrimaryKey::new(key), Sought::Record, digest)
    }

    /// Closes a batch, and returns the number of its commands.
    fn close(batch: &UnsentBatch) -> usize {
        batch.close(|_| Cmd::new()).len()
    }

    fn found(text: &str) -> LookupReply {
        Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
    }

    #[tokio::test]
    async fn each_lookup_gets_the_reply_to_its_own_command() {
        let batches = LookupBatches::new(true);
        let (first, batch) = add(&batches, "key", "first");
        // The same field, of another key.
        let others = [("key", "second"), ("other key", "first"), ("key", "first")]
            .map(|(key, field)| add(&batches, key, field).0);
        let batch = batch.expect("the first sends it");
        assert_eq!(close(&batch), 3, "the same twice is one");
        batch.answer(vec![found("1"), found("2"), Err(LinkFault::Foreign)]);
        let [second, other, again] = others;
        assert_eq!(first.await, found("1"));
        assert_eq!((second.await, again.await), (found("2"), found("1")));
        assert_eq!(other.await, Err(LinkFault::Foreign));
    }

    #[test]
    fn a_number_is_not_the_record() {
        let (batches, key, digest) = (LookupBatches::new(true), PrimaryKey::new("key"), [0; 32]);
        let (_, batch) = batches.add(&key, Sought::Record, &digest);
        let (_, joined) = batches.add(&key, Sought::Number, &digest);
        assert_eq!((close(&batch.expect("the first sends it")), joined.is_none()), (2, true));
    }

    #[test]
    fn a_lookup_that_is_late_is_not_among_those_that_are_sent() {
        let batches = LookupBatches::new(true);
        let (_, batch) = add(&batches, "key", "a");
        let batch = batch.expect("the first sends it");
        assert_eq!(close(&batch), 1);
        assert!(add(&batches, "key", "a").1.is_some(), "it opens another batch");
        drop(batch);
    }

    #[tokio::test]
    async fn lookups_that_are_never_sent_are_answered_all_the_same() {
        let batches = LookupBatches::new(true);
        let (reply, batch) = add(&batches, "key", "a");
        drop(batch);
        assert_eq!(reply.await, Err(LinkFault::Lost));
        let (reply, batch) = add(&batches, "key", "b");
        batch.expect("it opens another batch").answer(Vec::new());
        assert_eq!(reply.await, Err(LinkFault::Lost), "no reply is no content");
    }

    #[test]
    fn no_more_lookups_go_together_than_a_limit() {
        for (is_to_one_server, limit) in [(true, LIMIT), (false, 1)] {
            let batches = LookupBatches::new(is_to_one_server);
            let batch = |number: usize| add(&batches, "key", &number.to_string()).1;
            let opened: Vec<_> = (0..4 * LIMIT).filter_map(batch).collect();
            assert_eq!(opened.len(), 4 * LIMIT / limit);
            assert!(opened.iter().all(|batch| close(batch) == limit));
        }
    }

    #[test]
    fn a_lookup_joins_no_batch_of_another_thread() {
        let batches = LookupBatches::new(true);
        let on_another_thread = |_| {
            std::thread::scope(|scope| {
                scope.spawn(|| add(&batches, "key", "a").1).join().expect("it ends")
            })
        };
        let opened: Vec<_> = (0..=LANES).map(on_another_thread).collect();
        assert!(opened.iter().all(Option::is_some));
    }

    #[test]
    fn there_is_a_batch_in_flight_until_all_are_answered() {
        let batches = LookupBatches::new(true);
        assert!(!batches.is_busy());
        batches.sent();
        batches.sent();
        batches.answered();
        assert!(batches.is_busy());
        batches.answered();
        assert!(!batches.is_busy());
    }
}
