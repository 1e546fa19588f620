//! Near cache: copies, in this process's memory, of entries that it has read at the server.
//!
//! A server tracks which keys were read over a connection and pushes a message when one of them
//! changes. A copy answers unasked only while each connection that it was read over is proven: with one gone
//! or silent, a message may be missing. In a cluster these are those to the primaries of its key, of its tags
//! and of the epoch. Only entries that were read enter, never ones that this process has stored itself, and
//! none that was read before the last message for its key.
//!
//! Otherwise the server is asked for the number of its record. If it is the one that was read, the copy
//! is what decoding that record again would give.
//!
//! The notes of nominated fields are kept here as well. They are hints and need no proof: one
//! that is out of date costs a miss.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};

use super::{
    link::bulk,
    settings::{EPOCH, HEARTBEATS, IDENTITY, OWN, RedisSettings},
    waiters::Waiters,
};
use crate::{
    clock::now,
    deadline::Deadline,
    entry::{Entry, Proofs, SourceRecord, Unasked},
    fence::Fence,
    key::{PrimaryKey, Strength, Subject, Tag, VariantRef},
    metrics::operations::NearSnapshot,
    metrics::sharded_counter::ShardedCounter,
    store::{MemoryStore, Store},
    sync::{AtomicU64, Ordering},
};

/// Capacity in bytes at least, for copies that the server is asked about.
const MIN_CAPACITY: u64 = 4 * 1024 * 1024;

/// Near cache of a store.
pub(super) struct Near {
    namespace: String,
    /// Its sequence is moved by messages; flights have another.
    copies: MemoryStore,
    pub(super) waiters: Waiters,
    /// Set with the first copy, and below with the first note.
    has_copies: AtomicBool,
    has_notes: AtomicBool,
    /// Set with the first copy that may answer unasked.
    is_tracked: AtomicBool,
    /// Time for which a copy is used without being read again; zero if it is not.
    limit: Duration,
    /// Duration of the last proof in microseconds, plus one; zero if there was none.
    lag: AtomicU64,
    hits: ShardedCounter,
    confirmed: ShardedCounter,
    pushes: AtomicU64,
    silenced: AtomicU64,
}

/// State from before an entry was read, on which its copy depends.
#[derive(Clone)]
pub(super) struct Basis {
    pub(super) fence: Fence,
    /// Proofs of the connections that it was read over; none where nothing is tracked.
    pub(super) proofs: Proofs,
}

impl Basis {
    /// Adds a proof, unless it is there.
    pub(super) fn depend_on(&mut self, proof: &Arc<Deadline>) {
        if !self.proofs.iter().any(|known| Arc::ptr_eq(known, proof)) {
            self.proofs.push(Arc::clone(proof));
        }
    }
}

impl Near {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        Self {
            namespace: settings.namespace.clone(),
            copies: MemoryStore::with_capacity(settings.near_capacity.max(MIN_CAPACITY)),
            has_copies: AtomicBool::new(false),
            has_notes: AtomicBool::new(false),
            waiters: Waiters::default(),
            limit: settings.near_limit(),
            is_tracked: AtomicBool::new(false),
            lag: AtomicU64::new(0),
            hits: ShardedCounter::new(),
            confirmed: ShardedCounter::new(),
            pushes: AtomicU64::new(0),
            silenced: AtomicU64::new(0),
        }
    }

    /// Returns a copy that answers unasked, or a note.
    pub(super) fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        // Most stores without a near cache have neither, and need no look at the copies.
        if !self.is_tracked.load(Ordering::Relaxed) && !self.has_notes.load(Ordering::Relaxed) {
            return None;
        }
        let entry = self.copies.peek(variant)?;
        if !entry.is_answer() {
            return Some(entry);
        }
        // Read after the copy was found: one that was removed meanwhile must not answer.
        let is_usable = entry.answers_unasked(now());
        if is_usable {
            self.hits.add();
        }
        is_usable.then_some(entry)
    }

    /// Returns the fence for entries that are read from now on.
    pub(super) fn fence(&self) -> Fence {
        self.copies.sequence().begin()
    }

    /// Returns the copy of a response about which the server can be asked.
    pub(super) fn remembered(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        let has_copies = self.has_copies.load(Ordering::Relaxed);
        has_copies.then(|| self.copies.peek(variant))?.filter(|copy| copy.source().is_some())
    }

    /// Keeps an entry that was read at the server from a record, unless its key has changed since the fence.
    pub(super) fn keep(&self, entry: Entry, source: SourceRecord, basis: Basis) -> Arc<Entry> {
        let source = Some(source).filter(|_| entry.as_response().is_some());
        if source.is_none() && entry.is_answer() && basis.proofs.is_empty() {
            return Arc::new(entry);
        }
        let unasked = self.unasked(&entry, basis.proofs);
        self.insert(entry.into_copy(basis.fence, unasked, source))
    }

    /// Keeps a note that this process has stored.
    pub(super) fn keep_note(&self, note: &Entry) {
        self.insert(note.copied(self.fence(), self.unasked(note, Proofs::new()), None));
    }

    /// Confirms that the server had the record of a copy, and returns the copy.
    pub(super) fn confirm(&self, copy: &Arc<Entry>, basis: Basis) -> Arc<Entry> {
        self.confirmed.add();
        if basis.proofs.is_empty() {
            return Arc::clone(copy);
        }
        let unasked = self.unasked(copy, basis.proofs);
        self.insert(copy.copied(basis.fence, unasked, copy.source().cloned()))
    }

    /// Removes a copy whose record is gone from the server, or dead: its key has changed.
    pub(super) fn refute(&self, copy: &Arc<Entry>) {
        let held = self.copies.peek(&copy.slot().variant.borrowed());
        if held.is_some_and(|held| Arc::ptr_eq(&held, copy)) {
            self.invalidate(&copy.slot().key);
        }
    }

    /// Returns the terms on which a copy answers unasked; a note needs no question.
    fn unasked(&self, entry: &Entry, proofs: Proofs) -> Unasked {
        if !proofs.is_empty() {
            raise(&self.is_tracked);
        }
        let until = now().checked_add(self.limit).filter(|_| entry.is_answer());
        let until = until.map_or(entry.fresh_until(), |until| entry.fresh_until().min(until));
        Unasked { until, proofs }
    }

    fn insert(&self, copy: Entry) -> Arc<Entry> {
        raise(if copy.is_answer() { &self.has_copies } else { &self.has_notes });
        let copy = Arc::new(copy);
        // Done when it is called.
        drop(self.copies.commit((), Arc::clone(&copy), None));
        copy
    }

    /// Removes the copies of a key, and refuses ones that were read before.
    pub(super) fn invalidate(&self, key: &PrimaryKey) {
        drop(self.copies.invalidate(&Subject::Key(key.clone()), Strength::Hard));
        self.waiters.wake(key);
    }

    /// Voids the copies that have a tag, and refuses ones that were read before.
    pub(super) fn invalidate_tag(&self, tag: &Tag) {
        drop(self.copies.invalidate(&Subject::Tag(tag.clone()), Strength::Hard));
    }

    /// Removes all copies, and refuses ones that were read before.
    pub(super) fn invalidate_all(&self) {
        drop(self.copies.invalidate_all());
        self.waiters.wake_all();
    }

    /// Notes how long a proof took.
    pub(super) fn note_lag(&self, lag: Duration) {
        let lag = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.lag.store(lag.saturating_add(1), Ordering::Relaxed);
    }

    /// Handles the loss of a proof: copies have stopped answering, and no message wakes a request that waits.
    pub(super) fn on_silence(&self) {
        self.silenced.fetch_add(1, Ordering::Relaxed);
        self.waiters.wake_all();
    }

    /// Handles a message of the server. It is called where messages are read from the connection, so
    /// that later replies are seen afterwards. Returns whether the epoch may be over.
    pub(super) fn on_push(&self, push: PushInfo) -> bool {
        if push.kind != PushKind::Invalidate {
            return false;
        }
        self.pushes.fetch_add(1, Ordering::Relaxed);
        let Some(Value::Array(keys)) = push.data.into_iter().next() else {
            // The server was flushed.
            self.invalidate_all();
            return true;
        };
        let mut is_epoch_over = false;
        for key in keys.into_iter().filter_map(bulk) {
            let Ok(key) = std::str::from_utf8(&key) else { continue };
            let Some(key) = key.strip_prefix(&*self.namespace) else { continue };
            match key.strip_prefix(OWN) {
                Some(EPOCH) => {
                    self.invalidate_all();
                    is_epoch_over = true;
                }
                // Lost with the register, this process's heartbeat is entered again at once.
                Some(name) if name == IDENTITY || name.starts_with(HEARTBEATS) => {
                    is_epoch_over = true;
                }
                Some(tag) => self.invalidate_tag(&Tag::named(tag)),
                None => {}
            }
            // A primary key may have the name of a tag's key.
            self.invalidate(&PrimaryKey::new(key));
        }
        is_epoch_over
    }

    pub(super) fn snapshot(&self, is_proven: bool) -> NearSnapshot {
        let lag = self.lag.load(Ordering::Relaxed).checked_sub(1);
        NearSnapshot {
            is_proven,
            hits: self.hits.get(),
            confirmed: self.confirmed.get(),
            pushes: self.pushes.load(Ordering::Relaxed),
            silenced: self.silenced.load(Ordering::Relaxed),
            lag: lag.map(Duration::from_micros),
        }
    }
}

/// Raises a flag. It is written once, because every thread reads it.
fn raise(flag: &AtomicBool) {
    if !flag.load(Ordering::Relaxed) {
        flag.store(true, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        entry::{Content, Head, Provenance, Timing},
        key::Slot,
    };

    fn near() -> Near {
        Near::new(&RedisSettings { namespace: "ns:".to_owned(), ..RedisSettings::default() })
    }

    /// Returns a proof for a time.
    fn proof(seconds: u64) -> Arc<Deadline> {
        let proof = Deadline::none();
        proof.set(now() + Duration::from_secs(seconds));
        Arc::new(proof)
    }

    /// Returns the state before something is read over connections with these proofs.
    fn basis(near: &Near, proofs: &[&Arc<Deadline>]) -> Basis {
        let mut basis = Basis { fence: near.fence(), proofs: Proofs::new() };
        proofs.iter().for_each(|proof| basis.depend_on(proof));
        basis
    }

    fn proven(near: &Near) -> Basis {
        basis(near, &[&proof(60)])
    }

    /// Returns an entry that was read for the example's slot, with tags.
    fn entry(content: Content, tags: &[&str]) -> Entry {
        let fence = MemoryStore::new().sequence().begin();
        let slot = Slot { tags: tags.iter().map(Tag::new).collect(), ..Slot::example() };
        let provenance = Provenance { slot, fence, requested: now(), gauge: Arc::default() };
        Entry::new(provenance, content, now() + Duration::from_secs(60))
    }

    fn pass() -> Entry {
        entry(Content::Pass, &["t"])
    }

    fn response() -> Entry {
        let (parts, ()) = http::Response::new(()).into_parts();
        let (received, lifetime) = (now(), Duration::from_secs(60));
        let head = Head::new(&parts, Timing { requested: received, received, lifetime });
        entry(Content::Response { head, body: Bytes::new(), coded: Box::default() }, &[])
    }

    /// Returns the record that an entry was read from.
    fn source() -> SourceRecord {
        let (record, digest) = (Bytes::from_static(b"record"), [b'0'; 32]);
        SourceRecord { record, number: 1, digest, epoch: 1, incarnation: 1, clock: 0 }
    }

    fn found(near: &Near) -> bool {
        near.peek(&Slot::example().variant.borrowed()).is_some()
    }

    fn remembered(near: &Near) -> Option<Arc<Entry>> {
        near.remembered(&Slot::example().variant.borrowed())
    }

    fn push(keys: Value) -> PushInfo {
        PushInfo { kind: PushKind::Invalidate, data: vec![keys] }
    }

    fn keys(key: &str) -> Value {
        Value::Array(vec![Value::BulkString(key.into())])
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_answers_only_while_its_connection_is_proven() {
        let (near, first) = (near(), proof(1));
        near.keep(pass(), source(), basis(&near, &[&first]));
        assert!(found(&near));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!found(&near), "nobody has said that the link is lost, nor that it is not");
        first.set(now() + Duration::from_secs(60));
        assert!(found(&near));
        first.clear();
        assert!(!found(&near));
        near.keep(pass(), source(), basis(&near, &[&first]));
        assert!(!found(&near), "it was read over what is lost");
        near.keep(pass(), source(), basis(&near, &[]));
        assert!(!found(&near), "nobody tracks it");
        near.keep(pass(), source(), basis(&near, &[&proof(60)]));
        assert!(found(&near));
    }

    #[test]
    fn a_copy_answers_only_while_all_that_it_was_read_over_is_proven() {
        let near = near();
        let proofs = [60, 60].map(proof);
        let [key, tag] = &proofs;
        let basis = basis(&near, &[key, tag, key]);
        assert_eq!(basis.proofs.len(), 2, "each counts once");
        near.keep(pass(), source(), basis);
        assert!(found(&near));
        tag.clear();
        assert!(!found(&near));
        tag.set(now() + Duration::from_secs(60));
        assert!(found(&near));
        key.clear();
        assert!(!found(&near));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_before_a_proof_has_the_limit() {
        let (near, proof) = (near(), Arc::new(Deadline::none()));
        near.keep(response(), source(), basis(&near, &[&proof]));
        assert!(!found(&near) && remembered(&near).is_some());
        proof.set(now() + Duration::from_secs(60));
        assert!(found(&near));
        tokio::time::advance(near.limit).await;
        assert!(!found(&near), "it is to be read again");
        let copy = remembered(&near).expect("and until then the server is asked about it");
        near.confirm(&copy, basis(&near, &[&proof]));
        assert!(found(&near));
    }

    /// To the layer a copy is what was read, whatever becomes of the link.
    #[tokio::test(start_paused = true)]
    async fn a_copy_is_as_fresh_as_what_it_is_a_copy_of() {
        let near = near();
        let read = response();
        let expected = (read.fresh_until(), read.fence());
        let copy = near.keep(read, source(), proven(&near));
        assert_eq!((copy.fresh_until(), copy.fence()), expected);
        tokio::time::advance(near.limit).await;
        near.on_silence();
        let confirmed = near.confirm(&copy, proven(&near));
        assert!(!Arc::ptr_eq(&copy, &confirmed), "it is one to keep");
        assert_eq!((confirmed.fresh_until(), confirmed.fence()), expected);
    }

    #[test]
    fn a_limit_may_have_no_end() {
        let near = Near { limit: Duration::MAX, ..near() };
        near.keep(pass(), source(), proven(&near));
        assert!(found(&near));
    }

    #[test]
    fn what_was_read_before_a_message_does_not_enter() {
        let near = near();
        for (message, is_for_it) in [
            (keys("ns:support:cases:A1"), true),
            (keys("support:cases:A1"), false),
            (keys("ns:tower-support-cache:epoch"), true),
            (keys("ns:tower-support-cache:tag:t"), true),
            (keys("ns:tower-support-cache:tag:u"), false),
            (Value::Nil, true),
        ] {
            near.keep(pass(), source(), proven(&near));
            assert!(found(&near));
            let before = proven(&near);
            near.on_push(push(message.clone()));
            assert_eq!(found(&near), !is_for_it, "{message:?}");
            near.keep(pass(), source(), before);
            assert_eq!(found(&near), !is_for_it, "{message:?}");
        }
    }

    #[test]
    fn what_was_confirmed_before_a_message_does_not_enter() {
        let near = near();
        let copy = near.keep(response(), source(), proven(&near));
        let before = proven(&near);
        near.on_push(push(keys("ns:support:cases:A1")));
        near.confirm(&copy, before);
        assert!(!found(&near) && remembered(&near).is_none());
    }
}
