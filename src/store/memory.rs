//! The embedded store.

use std::{
    collections::{
        HashMap,
        hash_map::Entry::{Occupied, Vacant},
    },
    fmt,
    future::{Future, ready},
    hash::BuildHasherDefault,
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use smallvec::{SmallVec, smallvec};

use super::{
    Begin, Commit, Entry, Lookup, Pending, PrimaryKey, Sequence, Slot, Store, Strength, Subject,
    Token, Variant, VariantRef, greedy_dual::GreedyDual, sealed::Sealed,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    fence::{LOCKS, shard},
    key::Prehashed,
    sync::{Mutex, lock},
};

const DEFAULT_CAPACITY: u64 = 64 * 1024 * 1024;
const MIN_CAPACITY: u64 = 16 * 1024;
/// Capacity of a shard, and so the limit of an entry: several bodies of the default limit have room.
const BYTES_PER_SHARD: u64 = 8 * 1024 * 1024;
/// Limit of the variants of one key. With more, the oldest is evicted.
#[cfg(not(shuttle))]
const MAX_VARIANTS: usize = 256;
/// Room for one note and one response: a model has few variants.
#[cfg(shuttle)]
const MAX_VARIANTS: usize = 2;

/// Store in this process's memory.
///
/// It holds at most its capacity in bytes, overhead included. Once it is full, those entries give way that save
/// the least time of the origin for their bytes: by their uses, and by the time that their fill took. Under one key it holds at most 256 variants. Clones share one store, and so do layers that are given
/// clones of it: an invalidation through one is in force for all.
///
/// ```
/// use tower_support_cache::MemoryStore;
///
/// let store = MemoryStore::builder().capacity(256 * 1024 * 1024).build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<MemoryState>,
}

/// State that all clones of a store share.
struct MemoryState {
    sequence: Sequence,
    entries: GreedyDual,
    /// Variants of each primary key, in shards by the sequence's locks. Under the lock of a
    /// key, every entry of that key in `entries` is listed here; the reverse may lag.
    index: Box<[Mutex<Index>]>,
}

type Index = HashMap<PrimaryKey, SmallVec<[Variant; 1]>, BuildHasherDefault<Prehashed>>;

impl MemoryStore {
    /// Creates a store of 64 MiB.
    pub fn new() -> Self {
        Self::with_capacity(DEFAULT_CAPACITY)
    }

    /// Returns a builder, for other sizes.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { capacity: DEFAULT_CAPACITY }
    }

    pub(super) fn with_capacity(capacity: u64) -> Self {
        let threads = available_parallelism().map_or(1, usize::from) as u64;
        let shards = (capacity / BYTES_PER_SHARD).clamp(1, threads * 4);
        // The largest power of two.
        let shards = 1_usize << shards.ilog2();
        Self {
            state: Arc::new(MemoryState {
                sequence: Sequence::new(),
                entries: GreedyDual::new(capacity, shards),
                index: (0..LOCKS).map(|_| Mutex::default()).collect(),
            }),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.state.entries.len())
            .field("bytes", &self.state.entries.weight())
            .finish_non_exhaustive()
    }
}

/// Builder of a [`MemoryStore`], from [`MemoryStore::builder`].
///
/// ```
/// use tower_support_cache::MemoryStore;
///
/// let error = MemoryStore::builder().capacity(100).build().unwrap_err();
/// assert_eq!(error.field(), "capacity");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing itself, use `.build()` to build it"]
pub struct MemoryStoreBuilder {
    capacity: u64,
}

impl MemoryStoreBuilder {
    /// Sets how much the store holds, in bytes, overhead included. Defaults to 64 MiB.
    ///
    /// The tables that an empty store needs, 50 to 130 KiB, come on top, 0.4 % of the capacity once it is
    /// full, and 512 KiB once a tag is invalidated. So do the field names that the responses of a route
    /// have in common: mostly 1 or 2 KiB a route, and 128 KiB at most.
    ///
    /// One entry can be as large as the capacity or 8 MiB, whichever is less, or larger where the capacity is
    /// over 16 MiB for each of four times the number of cores.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// Builds the store.
    ///
    /// # Errors
    ///
    /// A capacity under 16 KiB, which could not hold a single response of ordinary size.
    pub fn build(self) -> Result<MemoryStore, ConfigError> {
        if self.capacity < MIN_CAPACITY {
            let problem = format!("is under 16 KiB: give at least {MIN_CAPACITY}");
            let error = ConfigError::new(ConfigErrorKind::Limit, "capacity", problem);
            return Err(error.of("MemoryStoreBuilder"));
        }
        Ok(MemoryStore::with_capacity(self.capacity))
    }
}

impl Sealed for MemoryStore {}

impl Store for MemoryStore {
    type Lease = ();

    fn sequence(&self) -> &Sequence {
        &self.state.sequence
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        let entry = self.state.entries.get(variant)?;
        if self.state.is_alive(&entry) { Some(entry) } else { self.state.outdate(&entry) }
    }

    fn lookup(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        ready(self.peek(&slot.variant.borrowed()).map_or(Lookup::Absent, Lookup::Found))
    }

    fn inspect(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        let entry = self.state.entries.peek(&slot.variant).and_then(|entry| {
            match self.state.is_alive(&entry) {
                true => Some(entry),
                false => self.state.outdated(&entry).map(Arc::new),
            }
        });
        ready(entry.map_or(Lookup::Absent, Lookup::Found))
    }

    fn begin(
        &self,
        slot: &Slot,
        _: Option<Token>,
        seen: Option<&Entry>,
    ) -> impl Future<Output = Begin<()>> + Send {
        let is_usable = |entry: &Arc<Entry>| {
            entry.is_answer()
                && entry.is_fresh()
                && !seen.is_some_and(|seen| std::ptr::eq(seen, &**entry))
                && self.state.sequence.is_slot_current(entry.slot(), entry.fence())
        };
        ready(match self.state.entries.get(&slot.variant.borrowed()).filter(is_usable) {
            Some(entry) => Begin::Found(entry),
            None => Begin::Granted(()),
        })
    }

    fn commit(
        &self,
        _: (),
        entry: Arc<Entry>,
        note: Option<Arc<Entry>>,
    ) -> impl Future<Output = Commit> + Send {
        ready(self.state.commit(&entry, note))
    }

    fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        match (subject, strength) {
            (Subject::Key(key), Strength::Hard) => self.state.remove_key(key),
            (Subject::Key(key), Strength::Soft) => self.state.outdate_key(key),
            (Subject::Tag(tag), Strength::Hard) => self.state.sequence.invalidate_tag(tag),
            (Subject::Tag(tag), Strength::Soft) => self.state.sequence.invalidate_tag_softly(tag),
        }
        ready(Ok(()))
    }

    fn invalidate_scopes(
        &self,
        scopes: &[[u8; 16]],
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.state.invalidate_scopes(scopes, strength);
        ready(Ok(()))
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.state.sequence.invalidate_all(|shard| {
            let index = std::mem::take(&mut *lock(&self.state.index[shard]));
            self.state.remove(index.values().flat_map(|variants| variants.iter()));
        });
        ready(Ok(()))
    }
}

impl MemoryState {
    fn remove_key(&self, key: &PrimaryKey) {
        self.sequence.invalidate(key, || {
            let variants = lock(&self.index[shard(key)]).remove(key);
            self.remove(variants.iter().flat_map(|variants| variants.iter()));
        });
    }

    fn outdate_key(&self, key: &PrimaryKey) {
        let mut evicted = Vec::new();
        self.sequence.invalidate(key, || {
            let variants = lock(&self.index[shard(key)]).remove(key);
            for variant in variants.iter().flat_map(|variants| variants.iter()) {
                let Some(entry) = self.entries.remove(variant) else { continue };
                if let Some(outdated) = self.outdated(&entry) {
                    self.insert(Arc::new(outdated), entry.fill_time(), &mut evicted);
                }
            }
        });
        self.forget(evicted);
    }

    /// Goes through all entries, which an operator seldom has done.
    fn invalidate_scopes(&self, scopes: &[[u8; 16]], strength: Strength) {
        let mut evicted = Vec::new();
        let is_of = |variant: &&Variant| scopes.iter().any(|scope| variant.scope() == scope);
        self.sequence.invalidate_scopes(scopes, |shard| {
            let listed: Vec<_> = {
                let index = lock(&self.index[shard]);
                index.values().flatten().filter(is_of).cloned().collect()
            };
            for variant in listed {
                let Some(entry) = self.entries.remove(&variant) else { continue };
                let left = match strength {
                    Strength::Hard => None,
                    Strength::Soft => self.outdated(&entry),
                };
                match left {
                    Some(outdated) => {
                        self.insert(Arc::new(outdated), entry.fill_time(), &mut evicted)
                    }
                    None => self.unlist(entry.slot()),
                }
            }
        });
        self.forget(evicted);
    }

    /// Makes an entry stale one of whose tags was invalidated softly, and returns it; `None` if it is dead.
    #[cold]
    fn outdate(&self, found: &Entry) -> Option<Arc<Entry>> {
        let Slot { key, variant, .. } = found.slot();
        let mut evicted = Vec::new();
        let outdated = self.sequence.exclusive(key, || {
            // Meanwhile it may have been removed, replaced, or made stale by another request.
            let entry = self.entries.peek(variant)?;
            if self.is_alive(&entry) {
                return Some(entry);
            }
            let outdated = Arc::new(self.outdated(&entry)?);
            self.insert(Arc::clone(&outdated), entry.fill_time(), &mut evicted);
            Some(outdated)
        });
        self.forget(evicted);
        outdated
    }

    /// Returns an entry as it is after a soft invalidation, under the lock of its key; `None` if it is dead
    /// or of no use.
    fn outdated(&self, entry: &Entry) -> Option<Entry> {
        // It counts as stored now. Its tags are asked after that, or a dead entry would live again.
        let fence = self.sequence.begin();
        let since = self.sequence.outdated_since(&entry.slot().tags, entry.held_at())?;
        entry.outdated(fence, since)
    }

    /// Returns whether no tag of an entry was invalidated since its fill began.
    fn is_alive(&self, entry: &Entry) -> bool {
        let tags = &entry.slot().tags;
        tags.is_empty() || self.sequence.are_current(tags, entry.held_at())
    }

    fn commit(&self, entry: &Arc<Entry>, note: Option<Arc<Entry>>) -> Commit {
        let mut evicted = Vec::new();
        let committed = self.sequence.commit(entry.slot(), entry.held_at(), || {
            let earlier = self.entries.peek(&entry.slot().variant);
            if earlier.is_some_and(|earlier| entry.is_older_than(&earlier)) {
                return Commit::Superseded;
            }
            if entry.is_pass() && self.gives_way(entry, note.as_deref()) {
                return Commit::Superseded;
            }
            let is_too_large = |entry: &Arc<Entry>| entry.weight() > self.entries.largest();
            if is_too_large(entry) || note.as_ref().is_some_and(is_too_large) {
                return Commit::TooLarge;
            }
            // Without its note the entry is not found: both are worth the same time.
            let time = entry.fill_time();
            note.into_iter().for_each(|note| self.insert(note, time, &mut evicted));
            self.insert(Arc::clone(entry), time, &mut evicted);
            Commit::Stored
        });
        self.forget(evicted);
        committed.unwrap_or(Commit::Fenced)
    }

    /// Returns whether a response may still answer at the place of a pass, or of the note that leads to it.
    fn gives_way(&self, pass: &Entry, note: Option<&Entry>) -> bool {
        [Some(pass), note].into_iter().flatten().any(|place| {
            let earlier = self.entries.peek(&place.slot().variant);
            earlier.is_some_and(|earlier| pass.gives_way_to(&earlier) && self.is_alive(&earlier))
        })
    }

    /// Inserts an entry whose fill took `time`, under the lock of its key.
    fn insert(&self, entry: Arc<Entry>, time: Duration, evicted: &mut Vec<Arc<Entry>>) {
        let (key, variant) = (&entry.slot().key, entry.slot().variant.clone());
        // Listed first: an entry that is not listed could not be invalidated.
        match lock(&self.index[shard(key)]).entry(key.clone()) {
            Vacant(place) => drop(place.insert(smallvec![variant.clone()])),
            Occupied(mut known) => {
                let variants = known.get_mut();
                // An entry that is stored again is the newest again. So is a note, with each response that
                // is found by it: it is never the oldest while others need it.
                variants.retain(|known| *known != variant);
                if variants.len() >= MAX_VARIANTS {
                    evicted.extend(self.entries.remove(&variants.remove(0)));
                }
                variants.push(variant);
            }
        }
        entry.hold();
        drop(self.entries.insert(entry, time, evicted));
    }

    fn remove<'v>(&self, variants: impl Iterator<Item = &'v Variant>) {
        for variant in variants {
            self.entries.remove(variant);
        }
    }

    /// Removes evicted entries from the index, each under the lock of its key: its variant may have been
    /// stored again since, and then stays listed.
    fn forget(&self, evicted: Vec<Arc<Entry>>) {
        for entry in evicted {
            let slot = entry.slot();
            entry.evict();
            self.sequence.exclusive(&slot.key, || self.unlist(slot));
        }
    }

    /// Removes a slot from the index if it has no entry, under the lock of its key.
    fn unlist(&self, slot: &Slot) {
        let mut index = lock(&self.index[shard(&slot.key)]);
        if self.entries.contains(&slot.variant) {
            return;
        }
        if let Some(variants) = index.get_mut(&slot.key) {
            variants.retain(|variant| *variant != slot.variant);
            if variants.is_empty() {
                index.remove(&slot.key);
            }
        }
    }
}
