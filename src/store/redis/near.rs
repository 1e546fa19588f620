//! The near cache: what this process keeps in memory of what it has read at the server.
//!
//! The server tracks which keys were read over the connection and pushes a message when one of them
//! changes. A copy answers unasked only while the link is proven: with the connection gone or silent,
//! a message may be missing. Only what was read enters, never what this process has stored itself, and
//! nothing that was read before the last message for its key.
//!
//! Otherwise a copy is *recalled*: the server is asked for the number of the record that it has, and where
//! that is the one that was read, the copy is what would be made of it once more.
//!
//! The notes of nominated fields are kept here as well. They are hints, good without any proof: one
//! that is out of date costs no more than a miss.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};

use super::{
    TAGS, command::bulk, deadline::Deadline, familiar::Familiar, settings::Settings,
    waiters::Waiters,
};
use crate::{
    clock::{Instant, now},
    entry::{Entry, Reading},
    fence::Fence,
    key::{PrimaryKey, Tag, VariantRef},
    metrics::operations::NearSnapshot,
    metrics::sharded_counter::ShardedCounter,
    store::{MemoryStore, Store},
    sync::{AtomicU64, Ordering},
};

/// Where no copy may answer unasked there is room for this much, in bytes.
const LEAST: u64 = 4 * 1024 * 1024;

pub(super) struct Near {
    namespace: String,
    epoch_key: String,
    /// Its own sequence is moved by messages, never a flight's.
    copies: MemoryStore,
    familiar: Familiar,
    pub(super) waiters: Waiters,
    /// Whether there has been anything among the copies, and any note.
    has_kept: AtomicBool,
    has_noted: AtomicBool,
    /// How long a copy is used without being read again; zero for not at all.
    limit: Duration,
    /// Until when copies may answer unasked.
    proven: Deadline,
    /// How long the last proof took, in microseconds, and one more; zero if there was none.
    lag: AtomicU64,
    hits: ShardedCounter,
    confirmed: ShardedCounter,
    pub(super) pushes: AtomicU64,
    pub(super) silenced: AtomicU64,
}

impl Near {
    pub(super) fn new(settings: &Settings) -> Self {
        let (capacity, limit) = (settings.near_capacity, settings.near_limit);
        Self {
            namespace: settings.namespace.clone(),
            epoch_key: settings.epoch_key(),
            copies: MemoryStore::with_capacity(capacity.max(LEAST)),
            familiar: Familiar::new(),
            has_kept: AtomicBool::new(false),
            has_noted: AtomicBool::new(false),
            waiters: Waiters::default(),
            limit: if capacity == 0 { Duration::ZERO } else { limit },
            proven: Deadline::none(),
            lag: AtomicU64::new(0),
            hits: ShardedCounter::new(),
            confirmed: ShardedCounter::new(),
            pushes: AtomicU64::new(0),
            silenced: AtomicU64::new(0),
        }
    }

    /// Whether the server is to track what is read.
    pub(super) fn is_wanted(&self) -> bool {
        !self.limit.is_zero()
    }

    pub(super) fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        // Where there is nothing to be found, nothing is hashed.
        if !self.proven.is_set() && !self.has_noted.load(Ordering::Relaxed) {
            return None;
        }
        let entry = self.copies.peek(variant)?;
        if !entry.is_answer() {
            return Some(entry);
        }
        // Asked after the copy was found: what was removed meanwhile is not an answer either.
        let now = now();
        let is_usable = self.proven.is_ahead_at(now) && entry.answers_unasked(now);
        if is_usable {
            self.hits.add();
        }
        is_usable.then_some(entry)
    }

    /// Returns the number for what is read from now on.
    pub(super) fn fence(&self) -> Fence {
        self.copies.sequence().begin()
    }

    /// Returns the copy of a response, if there is one that the server can be asked about.
    pub(super) fn recall(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        let has_kept = self.has_kept.load(Ordering::Relaxed);
        has_kept.then(|| self.copies.peek(variant))?.filter(|copy| copy.reading().is_some())
    }

    /// Keeps a copy of what was read at the server, unless its key has changed since `fence`. Returns
    /// the copy where there is one.
    pub(super) fn keep(
        &self,
        entry: Arc<Entry>,
        reading: Option<Reading>,
        fence: Fence,
    ) -> Arc<Entry> {
        let reading = reading.filter(|_| entry.as_response().is_some());
        let is_known = || reading.as_ref().is_some_and(|read| self.familiar.meet(&read.digest));
        let until = if !entry.is_answer() {
            raise(&self.has_noted);
            entry.fresh_until()
        } else if self.proven.is_set() || is_known() {
            self.unasked_until(&entry)
        } else {
            return entry;
        };
        self.insert(&entry, (fence, until), reading)
    }

    /// Takes note that the server has just had what a copy was made of, and returns the copy. `fence`
    /// was taken before it was asked.
    pub(super) fn renew(&self, copy: &Arc<Entry>, fence: Fence) -> Arc<Entry> {
        self.confirmed.add();
        if !self.proven.is_set() {
            return Arc::clone(copy);
        }
        self.insert(copy, (fence, self.unasked_until(copy)), copy.reading().cloned())
    }

    /// Takes note that what a copy was made of is not at the server any more, or dead: its key has changed.
    pub(super) fn refute(&self, copy: &Arc<Entry>) {
        let held = self.copies.peek(&copy.slot().variant.borrowed());
        if held.is_some_and(|held| Arc::ptr_eq(&held, copy)) {
            self.invalidate(&copy.slot().key);
        }
    }

    /// It is looked up again before it is stale.
    fn unasked_until(&self, entry: &Entry) -> Instant {
        let until = now().checked_add(self.limit);
        until.map_or(entry.fresh_until(), |until| entry.fresh_until().min(until))
    }

    fn insert(
        &self,
        entry: &Entry,
        (fence, until): (Fence, Instant),
        reading: Option<Reading>,
    ) -> Arc<Entry> {
        raise(&self.has_kept);
        let copy = Arc::new(entry.copied(fence, until, reading));
        // Done when it is called.
        drop(self.copies.commit((), Arc::clone(&copy), None));
        copy
    }

    /// Removes the copies of a key, and lets none enter that was read before.
    pub(super) fn invalidate(&self, key: &PrimaryKey) {
        drop(self.copies.invalidate(key));
        self.waiters.wake(key);
    }

    /// Lets no copy answer that has a tag, and none enter that was read before.
    pub(super) fn invalidate_tag(&self, tag: &Tag) {
        drop(self.copies.invalidate_tag(tag));
    }

    pub(super) fn invalidate_all(&self) {
        drop(self.copies.invalidate_all());
        self.waiters.wake_all();
    }

    /// Lets copies answer until an instant: the server tracks what is read, and has just proven that
    /// no message before that is missing.
    pub(super) fn prove(&self, until: Instant, lag: Duration) {
        let lag = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.lag.store(lag.saturating_add(1), Ordering::Relaxed);
        self.proven.set(until);
    }

    /// Removes everything, and lets nothing answer until there is another proof.
    pub(super) fn silence(&self) {
        if self.proven.clear() {
            self.silenced.fetch_add(1, Ordering::Relaxed);
        }
        self.invalidate_all();
    }

    /// Takes a message of the server. It is called where messages are read from the connection, so
    /// that it has been heeded before any later answer is seen. Returns whether the epoch may be over.
    pub(super) fn heed(&self, push: PushInfo) -> bool {
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
            if key == self.epoch_key {
                self.invalidate_all();
                is_epoch_over = true;
            } else if let Some(key) = key.strip_prefix(&self.namespace) {
                // It may be a key of that name as well.
                if let Some(tag) = key.strip_prefix(TAGS) {
                    self.invalidate_tag(&Tag::named(tag));
                }
                self.invalidate(&PrimaryKey::new(key));
            }
        }
        is_epoch_over
    }

    pub(super) fn snapshot(&self) -> NearSnapshot {
        let lag = self.lag.load(Ordering::Relaxed).checked_sub(1);
        NearSnapshot {
            is_proven: self.proven.is_ahead(),
            hits: self.hits.get(),
            confirmed: self.confirmed.get(),
            pushes: self.pushes.load(Ordering::Relaxed),
            silenced: self.silenced.load(Ordering::Relaxed),
            lag: lag.map(Duration::from_micros),
        }
    }
}

/// Written to once: it is read by all.
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
        store::redis::RedisStore,
    };

    fn near() -> Near {
        let builder = RedisStore::builder("redis://127.0.0.1/").namespace("ns:");
        Near::new(&builder.build().expect("an address").shared.link.settings)
    }

    fn proven() -> Near {
        let near = near();
        near.prove(now() + Duration::from_secs(60), Duration::ZERO);
        near
    }

    /// What was read for the example's slot.
    fn read() -> Entry {
        let fence = MemoryStore::new().sequence().begin();
        let provenance =
            Provenance { slot: Slot::example(), fence, requested: now(), gauge: Arc::default() };
        Entry::restored(provenance, Content::Pass, now() + Duration::from_secs(60))
    }

    /// A response that was read for it, as it stood at the server.
    fn response() -> (Arc<Entry>, Option<Reading>) {
        let (parts, ()) = http::Response::new(()).into_parts();
        let (received, lifetime) = (now(), Duration::from_secs(60));
        let timing = Timing { requested: received, received, lifetime };
        let head = Head::new(&parts, timing);
        let fence = MemoryStore::new().sequence().begin();
        let provenance =
            Provenance { slot: Slot::example(), fence, requested: now(), gauge: Arc::default() };
        let content = Content::Response { head, body: Bytes::new() };
        let record = Bytes::from_static(b"record");
        let digest = [b'0'; 32];
        let reading = Reading { record, number: 1, digest, epoch: 1, incarnation: 1, clock: 0 };
        (Arc::new(Entry::restored(provenance, content, received + lifetime)), Some(reading))
    }

    /// The same, with a tag.
    fn tagged() -> Entry {
        let fence = MemoryStore::new().sequence().begin();
        let tags = [Tag::new("t")].into_iter().collect();
        let slot = Slot { tags, ..Slot::example() };
        let provenance = Provenance { slot, fence, requested: now(), gauge: Arc::default() };
        Entry::restored(provenance, Content::Pass, now() + Duration::from_secs(60))
    }

    fn found(near: &Near) -> bool {
        near.peek(&Slot::example().variant.borrowed()).is_some()
    }

    fn push(keys: Value) -> PushInfo {
        PushInfo { kind: PushKind::Invalidate, data: vec![keys] }
    }

    fn keys(key: &str) -> Value {
        Value::Array(vec![Value::BulkString(key.into())])
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_answers_only_while_the_link_is_proven() {
        let near = near();
        near.prove(now() + Duration::from_secs(1), Duration::ZERO);
        near.keep(Arc::new(read()), None, near.fence());
        assert!(found(&near));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!found(&near), "nobody has said that the link is lost, nor that it is not");
        near.silence();
        near.keep(Arc::new(read()), None, near.fence());
        assert!(!found(&near));
        near.prove(now() + Duration::from_secs(60), Duration::ZERO);
        near.keep(Arc::new(read()), None, near.fence());
        assert!(found(&near));
        near.silence();
        assert!(!found(&near));
        near.prove(now() + Duration::from_secs(60), Duration::ZERO);
        assert!(!found(&near), "nothing of before is left");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_before_a_proof_has_the_limit() {
        let near = near();
        for is_known in [false, true] {
            let (entry, reading) = response();
            near.keep(entry, reading, near.fence());
            assert_eq!(near.recall(&Slot::example().variant.borrowed()).is_some(), is_known);
        }
        near.prove(now() + Duration::from_secs(60), Duration::ZERO);
        assert!(found(&near));
        tokio::time::advance(near.limit).await;
        assert!(!found(&near), "it is to be read again");
        let copy = near
            .recall(&Slot::example().variant.borrowed())
            .expect("and until then it is recalled");
        near.renew(&copy, near.fence());
        assert!(found(&near));
    }

    /// To the layer a copy is what was read, whatever becomes of the link.
    #[tokio::test(start_paused = true)]
    async fn a_copy_is_as_fresh_as_what_it_is_a_copy_of() {
        let near = proven();
        let (entry, reading) = response();
        let copy = near.keep(Arc::clone(&entry), reading, near.fence());
        assert_eq!((copy.fresh_until(), copy.fence()), (entry.fresh_until(), entry.fence()));
        tokio::time::advance(near.limit).await;
        near.silence();
        let renewed = near.renew(&copy, near.fence());
        assert_eq!((renewed.fresh_until(), renewed.fence()), (entry.fresh_until(), entry.fence()));
    }

    #[test]
    fn a_limit_may_have_no_end() {
        let near = Near { limit: Duration::MAX, ..proven() };
        near.keep(Arc::new(read()), None, near.fence());
        assert!(found(&near));
    }

    #[test]
    fn what_this_process_invalidates_is_gone_when_it_is_called() {
        let store = RedisStore::connect("redis://127.0.0.1/").expect("an address");
        let near = &store.shared.link.near;
        near.prove(now() + Duration::from_secs(60), Duration::ZERO);
        for what in ["key", "tag", "all"] {
            near.keep(Arc::new(tagged()), None, near.fence());
            assert!(found(near));
            match what {
                "key" => drop(store.invalidate(&Slot::example().key)),
                "tag" => drop(store.invalidate_tag(&Tag::new("t"))),
                _ => drop(store.invalidate_all()),
            }
            assert!(!found(near), "{what}");
        }
    }

    #[test]
    fn what_was_read_before_a_message_does_not_enter() {
        let near = proven();
        for (message, is_for_it) in [
            (keys("ns:support:cases:A1"), true),
            (keys("support:cases:A1"), false),
            (keys("ns:tower-support-cache:epoch"), true),
            (keys("ns:tower-support-cache:tag:t"), true),
            (keys("ns:tower-support-cache:tag:u"), false),
            (Value::Nil, true),
        ] {
            near.keep(Arc::new(tagged()), None, near.fence());
            assert!(found(&near));
            let fence = near.fence();
            near.heed(push(message.clone()));
            assert_eq!(found(&near), !is_for_it, "{message:?}");
            near.keep(Arc::new(tagged()), None, fence);
            assert_eq!(found(&near), !is_for_it, "{message:?}");
        }
    }
}
