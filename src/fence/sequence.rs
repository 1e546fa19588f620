//! The sequence, which makes an invalidation final for fills that are already in flight.
//!
//! An invalidation takes the next number and raises its key's stripe to it; a fill remembers the
//! number at which it began and commits only where the stripe is not newer. Stripes are shared by
//! keys and never lowered, so a shared stripe costs at most one lost fill, and a hit checks nothing.
//!
//! Tags have stripes of their own. No index lists the entries of a tag: an entry is dead once a stripe
//! of its tags is newer than its fill, and each read compares. So an invalidation of a tag costs no
//! more than one of a key, however many entries have it, and a shared stripe costs a miss. A soft one
//! is remembered with its time: an entry from before is not dead but stale since then.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    recent::{InvalidatedExtent, RecentInvalidations},
    softened::{SoftInvalidation, Softened},
    unsettled::Unsettled,
};
use crate::{
    clock::{Instant, now},
    key::{PrimaryKey, Slot, Strength, Subject, Tag, Tags},
    sync::{AtomicU64, Mutex, Ordering, lock},
};

#[cfg(not(shuttle))]
const STRIPES: usize = 4096;
#[cfg(shuttle)]
const STRIPES: usize = 2;

/// More than keys have, because each read compares them. Half a mebibyte.
#[cfg(not(shuttle))]
const TAG_STRIPES: usize = 65_536;
#[cfg(shuttle)]
const TAG_STRIPES: usize = 2;

/// Enough that two routes seldom share one.
#[cfg(not(shuttle))]
const SCOPE_STRIPES: usize = 1024;
#[cfg(shuttle)]
const SCOPE_STRIPES: usize = 2;

/// Number of locks that the stripes share; also the number of shards of a store's index.
#[cfg(not(shuttle))]
pub(crate) const LOCKS: usize = 256;
#[cfg(shuttle)]
pub(crate) const LOCKS: usize = 2;

/// The number at which a fill began: invalidations with a higher one void it.
///
/// ```
/// use tower_support_cache::store::{PrimaryKey, Sequence};
///
/// let sequence = Sequence::new();
/// let earlier = sequence.begin();
/// sequence.invalidate(&PrimaryKey::new("cases"), || {});
/// assert!(earlier < sequence.begin());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(u64);

/// Orders invalidations and fills of one store in one process.
///
/// Every [`Store`](crate::store::Store) owns one. Layers on the same store share it.
///
/// ```
/// use tower_support_cache::store::{PrimaryKey, Sequence};
///
/// let sequence = Sequence::new();
/// let key = PrimaryKey::new("support:cases:A1");
/// let fence = sequence.begin();                       // a fill begins
/// assert!(sequence.is_current(&key, fence));
/// sequence.invalidate(&key, || { /* remove what is stored */ });
/// assert!(!sequence.is_current(&key, fence));         // and must not be stored
/// assert!(sequence.is_current(&key, sequence.begin()));
/// ```
pub struct Sequence {
    current: AtomicU64,
    /// Held while a number is taken, put where it counts, and only then published.
    numbering: Mutex<Softened>,
    /// Raised by an invalidation of everything.
    floor: AtomicU64,
    stripes: Box<[AtomicU64]>,
    /// Made for the first tag that is invalidated.
    tag_stripes: OnceLock<Box<[AtomicU64]>>,
    /// Made for the first scope that is invalidated.
    scope_stripes: OnceLock<Box<[AtomicU64]>>,
    locks: Box<[Mutex<()>]>,
    unsettled: Unsettled,
    recent: Arc<RecentInvalidations>,
}

impl Sequence {
    /// Creates a sequence at zero.
    pub fn new() -> Self {
        Self {
            current: AtomicU64::new(0),
            numbering: Mutex::default(),
            floor: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            tag_stripes: OnceLock::new(),
            scope_stripes: OnceLock::new(),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            unsettled: Unsettled::default(),
            recent: Arc::default(),
        }
    }

    /// Returns the invalidations in this process that were a short while ago.
    pub(crate) fn recent(&self) -> &Arc<RecentInvalidations> {
        &self.recent
    }

    /// Returns the keys and tags for which no layer on this store stores anything for now.
    pub(crate) fn unsettled(&self) -> &Unsettled {
        &self.unsettled
    }

    /// Returns the number for a fill that begins now. Take it before the request is forwarded.
    pub fn begin(&self) -> Fence {
        Fence(self.current.load(Ordering::SeqCst))
    }

    /// Returns whether nothing has invalidated `key` since `fence` was taken.
    pub fn is_current(&self, key: &PrimaryKey, fence: Fence) -> bool {
        let raised = self.stripes[stripe(key)].load(Ordering::SeqCst);
        raised.max(self.floor.load(Ordering::SeqCst)) <= fence.0
    }

    /// Returns whether nothing has invalidated any of `tags` since `fence` was taken.
    ///
    /// A store that keeps entries in this process calls it at every read, with the entry's own
    /// [`fence`](crate::store::Entry::fence). Without tags that costs nothing.
    #[inline]
    pub fn are_current(&self, tags: &Tags, fence: Fence) -> bool {
        tags.is_empty() || self.have_not_been_raised(tags, fence)
    }

    #[cold]
    fn have_not_been_raised(&self, tags: &[Tag], fence: Fence) -> bool {
        let Some(stripes) = self.tag_stripes.get() else { return true };
        tags.iter().all(|tag| stripes[tag_stripe(tag)].load(Ordering::SeqCst) <= fence.0)
    }

    /// Returns whether nothing has invalidated a slot since `fence` was taken, neither by its key, nor by
    /// one of its tags, nor by its route.
    pub fn is_slot_current(&self, slot: &Slot, fence: Fence) -> bool {
        self.is_current(&slot.key, fence)
            && self.are_current(&slot.tags, fence)
            && self.scope_stripes.get().is_none_or(|stripes| {
                stripes[scope_stripe(slot.variant.scope())].load(Ordering::SeqCst) <= fence.0
            })
    }

    /// Runs `store` unless `slot` was invalidated since `fence` was taken; no invalidation of its
    /// key runs meanwhile. Returns what `store` returned, or `None` if it was not run.
    pub fn commit<R>(&self, slot: &Slot, fence: Fence, store: impl FnOnce() -> R) -> Option<R> {
        let _held = lock(&self.locks[shard(&slot.key)]);
        // A tag that is invalidated from here on is newer than what is stored: no read returns that.
        self.is_slot_current(slot, fence).then(store)
    }

    /// Runs `act` while neither a commit nor an invalidation of `key` runs.
    pub(crate) fn exclusive<R>(&self, key: &PrimaryKey, act: impl FnOnce() -> R) -> R {
        let _held = lock(&self.locks[shard(key)]);
        act()
    }

    /// Voids all fills of `key` that have begun, then runs `remove`; no commit runs meanwhile.
    pub fn invalidate(&self, key: &PrimaryKey, remove: impl FnOnce()) {
        self.recent.note(|| InvalidatedExtent::Of(Subject::Key(key.clone())));
        let _held = lock(&self.locks[shard(key)]);
        // The stripe is raised before anything is removed: a fill that begins in between has a
        // number that is high enough, and waits for the lock to commit.
        self.raise(&self.stripes[stripe(key)]);
        remove();
    }

    /// Voids all fills of what has `tag` that have begun, and all entries that they have stored.
    pub fn invalidate_tag(&self, tag: &Tag) {
        self.raise_tag(tag, Strength::Hard);
    }

    /// Voids all fills of what has `tag` that have begun, and makes all entries stale that they have
    /// stored: see [`outdated_since`](Self::outdated_since).
    pub(crate) fn invalidate_tag_softly(&self, tag: &Tag) {
        self.raise_tag(tag, Strength::Soft);
    }

    /// Returns the instant since which something with `tags` is stale that was made at `fence`: this one,
    /// if nothing has invalidated it. `None` if it is dead.
    pub(crate) fn outdated_since(&self, tags: &Tags, fence: Fence) -> Option<Instant> {
        let Some(stripes) = self.tag_stripes.get() else { return Some(now()) };
        let softened = lock(&self.numbering);
        let raised = tags.iter().map(tag_stripe);
        let raised = raised.filter(|stripe| stripes[*stripe].load(Ordering::SeqCst) > fence.0);
        raised
            .map(|stripe| softened.since(stripe, fence.0))
            .try_fold(now(), |first, since| since.map(|since| first.min(since)))
    }

    fn raise_tag(&self, tag: &Tag, strength: Strength) {
        self.recent.note(|| InvalidatedExtent::Of(Subject::Tag(tag.clone())));
        let stripes =
            self.tag_stripes.get_or_init(|| (0..TAG_STRIPES).map(|_| AtomicU64::new(0)).collect());
        let stripe = tag_stripe(tag);
        let mut softened = lock(&self.numbering);
        let last = stripes[stripe].load(Ordering::SeqCst);
        let number = self.raise_held(&stripes[stripe]);
        match strength {
            Strength::Hard => softened.remove(stripe),
            Strength::Soft => softened.add(stripe, last, SoftInvalidation { number, at: now() }),
        }
    }

    /// Voids all fills of variants with these scopes that have begun, then runs `remove` for every shard of
    /// keys, each under the lock that commits of its keys need.
    pub(crate) fn invalidate_scopes(&self, scopes: &[[u8; 16]], remove: impl FnMut(usize)) {
        let stripes = self
            .scope_stripes
            .get_or_init(|| (0..SCOPE_STRIPES).map(|_| AtomicU64::new(0)).collect());
        for scope in scopes {
            self.recent.note(|| InvalidatedExtent::Scope(scope[..].into()));
            self.raise(&stripes[scope_stripe(scope)]);
        }
        self.visit(remove);
    }

    /// Voids all fills that have begun, then runs `remove` for every shard of keys, each under the
    /// lock that commits of its keys need.
    pub fn invalidate_all(&self, remove: impl FnMut(usize)) {
        self.recent.note(|| InvalidatedExtent::All);
        self.raise(&self.floor);
        self.visit(remove);
    }

    fn visit(&self, mut remove: impl FnMut(usize)) {
        for (shard, mutex) in self.locks.iter().enumerate() {
            let _held = lock(mutex);
            remove(shard);
        }
    }

    /// Raises a stripe, or the floor, to the next number, and publishes the number last.
    ///
    /// So a flight that has number `n` began after every place of `n` or less was raised: what it
    /// then finds current is no older than those invalidations, and requests after them may join it.
    /// Were it published first, a flight could take `n`, find an entry that `n` is about to outdate,
    /// and share it with a request that began after the invalidation was acknowledged.
    fn raise(&self, place: &AtomicU64) {
        let _held = lock(&self.numbering);
        self.raise_held(place);
    }

    /// Does the same for a caller that holds the numbering. Returns the number.
    fn raise_held(&self, place: &AtomicU64) -> u64 {
        let next = self.current.load(Ordering::SeqCst) + 1;
        place.store(next, Ordering::SeqCst);
        self.current.store(next, Ordering::SeqCst);
        next
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequence").field("current", &self.current).finish_non_exhaustive()
    }
}

fn stripe(key: &PrimaryKey) -> usize {
    key.seeded_hash() as usize % STRIPES
}

fn tag_stripe(tag: &Tag) -> usize {
    tag.seeded_hash() as usize % TAG_STRIPES
}

fn scope_stripe(scope: &[u8]) -> usize {
    // A digest, whose beginning is as good as all of it.
    scope.iter().take(2).fold(0, |place, byte| place << 8 | usize::from(*byte)) % SCOPE_STRIPES
}

/// Returns the lock that `key` belongs to, which is also its shard of an index.
pub(crate) fn shard(key: &PrimaryKey) -> usize {
    key.seeded_hash() as usize % LOCKS
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn key(text: &str) -> PrimaryKey {
        PrimaryKey::new(text)
    }

    fn slot(text: &str, tags: &[Tag]) -> Slot {
        let tags = tags.iter().cloned().collect();
        Slot { key: key(text), tags, ..Slot::example() }
    }

    #[test]
    fn a_fill_begun_before_an_invalidation_does_not_commit() {
        let sequence = Sequence::new();
        let before = sequence.begin();
        sequence.invalidate(&key("a"), || ());
        assert_eq!(sequence.commit(&slot("a", &[]), before, || ()), None);
        assert_eq!(sequence.commit(&slot("a", &[]), sequence.begin(), || ()), Some(()));
    }

    #[test]
    fn a_tag_voids_the_fills_and_the_entries_of_all_that_have_it_and_of_nothing_else() {
        let sequence = Sequence::new();
        let tag = Tag::new("t");
        let other = (0..).map(|n| Tag::new(n.to_string()));
        let other = other.into_iter().find(|other| tag_stripe(other) != tag_stripe(&tag)).unwrap();
        let (one, two) = (slot("a", std::slice::from_ref(&tag)), slot("b", &[other, tag.clone()]));
        let before = sequence.begin();
        assert!(sequence.is_slot_current(&one, before));
        sequence.invalidate_tag(&tag);
        for slot in [&one, &two] {
            assert!(!sequence.are_current(&slot.tags, before));
            assert_eq!(sequence.commit(slot, before, || ()), None);
            assert_eq!(sequence.commit(slot, sequence.begin(), || ()), Some(()));
        }
        for others in [&[][..], &two.tags[..1]] {
            assert_eq!(sequence.commit(&slot("a", others), before, || ()), Some(()));
        }
    }

    #[test]
    fn a_key_is_not_fenced_by_the_invalidation_of_a_key_on_another_stripe() {
        let sequence = Sequence::new();
        let other = (0..).map(|n| key(&n.to_string())).find(|k| stripe(k) != stripe(&key("a")));
        let before = sequence.begin();
        sequence.invalidate(&other.unwrap(), || ());
        assert_eq!(sequence.commit(&slot("a", &[]), before, || ()), Some(()));
    }

    #[test]
    fn an_invalidation_of_everything_fences_every_key_and_visits_every_shard() {
        let sequence = Sequence::new();
        let before = sequence.begin();
        let mut visited = Vec::new();
        sequence.invalidate_all(|shard| visited.push(shard));
        assert_eq!(visited, (0..LOCKS).collect::<Vec<_>>());
        assert!(!sequence.is_current(&key("a"), before));
        assert!(sequence.is_current(&key("a"), sequence.begin()));
    }
}
