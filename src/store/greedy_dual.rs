//! Entries within a number of bytes, and the choice of those that give way: GreedyDual-Size-Frequency
//! (Cherkasova: Improving WWW Proxies Performance with GreedyDual-Size-Frequency Caching Policy, HP 1998).
//!
//! An entry is worth the time that its fill took, for each byte and each use. The lowest rank gives way, and the
//! ranks of later entries begin there: so it also gives way in time what was worth much and is used no more.
//!
//! What is stale beyond all use gives way first, as far as it is found.
//!
//! A hit holds a shared lock and counts a use, no more. The uses move an entry in the queue when its turn comes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use hashbrown::HashTable;

use super::{Entry, Variant, VariantRef};
use crate::{
    clock::recent,
    sync::{RwLock, read, write},
};

/// Uses that count: 5 bits of a ghost.
const MAX_USES: u8 = 31;
/// Part of the uses that does not count. It is most of the first: what is stored is mostly not used again.
/// Chosen by `benches/hit_ratio.sh`.
const DISCOUNT: f64 = 0.8;
/// Cost of each miss besides the time that its fill took: of small costs no difference counts.
const MIN_COST: Duration = Duration::from_millis(1);
/// Part of its worth by which an entry raises the ranks after it.
const TIE: f64 = 1.0 / (1_u64 << 40) as f64;
/// Places of the table that are looked at for a dead entry before a live one gives way.
const SWEEP: usize = 4;
/// Weight for each evicted entry whose uses are remembered: two for one of common weight.
const WEIGHT_PER_GHOST: u64 = 1024;

/// Entries by their variants, in shards.
pub(super) struct GreedyDual {
    shards: Box<[RwLock<Shard>]>,
    shard_capacity: u64,
}

/// Entries that share a lock.
#[derive(Default)]
struct Shard {
    table: HashTable<Ranked>,
    /// Ranks and hashes of all entries; the first gives way.
    queue: BTreeSet<(Rank, u64)>,
    ghosts: Ghosts,
    weight: u64,
    /// Beginning of ranks: the rank at which the last entry gave way.
    inflation: f64,
    /// Place in the table up to which dead entries were looked for.
    hand: usize,
}

struct Ranked {
    entry: Arc<Entry>,
    rank: Rank,
    /// Seconds of the fill for each byte.
    density: f32,
    /// Uses that the rank knows of.
    counted: u8,
    /// Uses since.
    uses: AtomicU8,
}

/// Bits of a positive number, which are in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

/// Uses of evicted entries. Of two at one place, the later is remembered.
#[derive(Default)]
struct Ghosts {
    /// Bits of a hash, and uses in the lowest 5 bits. Empty until the shard is full for the first time: a capacity
    /// may be a number that is never reached.
    places: Vec<u32>,
}

// ===== impl GreedyDual =====

impl GreedyDual {
    /// Creates the map, for a number of shards that is a power of two.
    pub(super) fn new(capacity: u64, shards: usize) -> Self {
        debug_assert!(shards.is_power_of_two());
        let shard_capacity = capacity / shards as u64;
        Self { shards: (0..shards).map(|_| RwLock::default()).collect(), shard_capacity }
    }

    /// Returns the limit of an entry's weight.
    pub(super) fn largest(&self) -> u64 {
        self.shard_capacity
    }

    /// Finds an entry, and counts a use of it.
    #[inline]
    pub(super) fn get(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        let shard = read(self.shard(variant.seeded_hash()));
        let ranked = shard.find(variant)?;
        ranked.count();
        Some(Arc::clone(&ranked.entry))
    }

    /// Finds an entry.
    pub(super) fn peek(&self, variant: &Variant) -> Option<Arc<Entry>> {
        let shard = read(self.shard(variant.seeded_hash()));
        Some(Arc::clone(&shard.find(&variant.borrowed())?.entry))
    }

    pub(super) fn contains(&self, variant: &Variant) -> bool {
        read(self.shard(variant.seeded_hash())).find(&variant.borrowed()).is_some()
    }

    /// Stores an entry of at most the [`largest`](Self::largest) weight, whose fill took `time`. Returns the
    /// one in its place before, and adds to `evicted` those that gave way.
    pub(super) fn insert(
        &self,
        entry: Arc<Entry>,
        time: Duration,
        evicted: &mut Vec<Arc<Entry>>,
    ) -> Option<Arc<Entry>> {
        let hash = entry.slot().variant.seeded_hash();
        let mut shard = write(self.shard(hash));
        let before = shard.remove(&entry.slot().variant);
        let counted = match &before {
            Some(before) => before.all_uses(),
            None => (shard.ghosts.take(hash) + 1).min(MAX_USES),
        };
        // Before it is there, so that it does not give way itself: whoever stored it finds it.
        while shard.weight + entry.weight() > self.shard_capacity {
            let Some(gone) = shard.take_dead().or_else(|| shard.take_lowest()) else { break };
            shard.ghosts.make_room(self.shard_capacity);
            shard.ghosts.remember(&gone);
            evicted.push(gone.entry);
        }
        let density = time.saturating_add(MIN_COST).as_secs_f32() / entry.weight() as f32;
        let (rank, uses) = (Rank::default(), AtomicU8::new(0));
        shard.place(Ranked { entry, rank, density, counted, uses });
        before.map(|before| before.entry)
    }

    /// Removes an entry. Its uses are remembered: what is invalidated is often filled again.
    pub(super) fn remove(&self, variant: &Variant) -> Option<Arc<Entry>> {
        let mut shard = write(self.shard(variant.seeded_hash()));
        let removed = shard.remove(variant)?;
        shard.ghosts.remember(&removed);
        Some(removed.entry)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).table.len()).sum()
    }

    pub(super) fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| read(shard).weight).sum()
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // By other bits than the table of the shard.
        &self.shards[(hash >> 32) as usize & (self.shards.len() - 1)]
    }
}

// ===== impl Shard =====

impl Shard {
    fn find(&self, variant: &VariantRef<'_>) -> Option<&Ranked> {
        self.table.find(variant.seeded_hash(), |ranked| ranked.is_of(variant))
    }

    /// Ranks an entry, and puts it in.
    fn place(&mut self, mut ranked: Ranked) {
        let worth = f64::from(ranked.density) * (f64::from(ranked.counted) - DISCOUNT);
        ranked.rank = Rank((self.inflation + worth).to_bits());
        // Of two entries of one worth, the older gives way.
        self.inflation += worth * TIE;
        let hash = ranked.hash();
        self.queue.insert((ranked.rank, hash));
        self.weight += ranked.entry.weight();
        self.table.insert_unique(hash, ranked, Ranked::hash);
    }

    fn remove(&mut self, variant: &Variant) -> Option<Ranked> {
        let (hash, variant) = (variant.seeded_hash(), variant.borrowed());
        let found = self.table.find_entry(hash, |ranked| ranked.is_of(&variant)).ok()?;
        let (removed, _) = found.remove();
        self.queue.remove(&(removed.rank, hash));
        self.weight -= removed.entry.weight();
        Some(removed)
    }

    /// Removes an entry that is of no use any more, if it is at one of the next places.
    fn take_dead(&mut self) -> Option<Ranked> {
        let now = recent();
        let places = self.table.num_buckets();
        for _ in 0..SWEEP {
            self.hand = (self.hand + 1) % places;
            let is_dead = |ranked: &Ranked| ranked.entry.kept_until() <= now;
            let Some(dead) = self.table.get_bucket(self.hand).filter(|ranked| is_dead(ranked))
            else {
                continue;
            };
            let variant = dead.entry.slot().variant.clone();
            return self.remove(&variant);
        }
        None
    }

    /// Removes the entry of the lowest rank, once its uses are counted.
    fn take_lowest(&mut self) -> Option<Ranked> {
        loop {
            let (rank, hash) = self.queue.pop_first()?;
            let first = self.table.find_entry(hash, |ranked| ranked.rank == rank).ok()?;
            let (mut first, _) = first.remove();
            self.weight -= first.entry.weight();
            if *first.uses.get_mut() == 0 {
                self.inflation = self.inflation.max(f64::from_bits(rank.0));
                return Some(first);
            }
            (first.counted, first.uses) = (first.all_uses(), AtomicU8::new(0));
            self.place(first);
        }
    }
}

// ===== impl Ranked =====

impl Ranked {
    fn is_of(&self, variant: &VariantRef<'_>) -> bool {
        self.entry.slot().variant.borrowed() == *variant
    }

    fn hash(&self) -> u64 {
        self.entry.slot().variant.seeded_hash()
    }

    /// Counts a use. One that is lost to a concurrent one changes little.
    #[inline]
    fn count(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MAX_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    fn all_uses(&self) -> u8 {
        (self.counted + self.uses.load(Ordering::Relaxed)).min(MAX_USES)
    }
}

// ===== impl Ghosts =====

impl Ghosts {
    /// Makes the table for a shard of a capacity, the first time.
    fn make_room(&mut self, capacity: u64) {
        if self.places.is_empty() {
            self.places = vec![0; (capacity / WEIGHT_PER_GHOST).max(1) as usize];
        }
    }

    fn remember(&mut self, gone: &Ranked) {
        let hash = gone.hash();
        if let Some(place) = self.place(hash) {
            *place = tag(hash) | u32::from(gone.all_uses());
        }
    }

    /// Returns the uses of an evicted entry and forgets them; 0 for one that is not known.
    fn take(&mut self, hash: u64) -> u8 {
        let ghost = self.place(hash).filter(|ghost| tag_of(**ghost) == tag(hash));
        ghost.map_or(0, |ghost| (std::mem::take(ghost) & u32::from(MAX_USES)) as u8)
    }

    fn place(&mut self, hash: u64) -> Option<&mut u32> {
        let place = hash as usize % self.places.len().max(1);
        self.places.get_mut(place)
    }
}

fn tag(hash: u64) -> u32 {
    tag_of((hash >> 32) as u32)
}

fn tag_of(bits: u32) -> u32 {
    bits & !u32::from(MAX_USES)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{
        clock::now,
        entry::{Head, Provenance, Timing},
        fence::Sequence,
        key::{Slot, VariantParts},
        verify::random::for_all,
    };

    const CAPACITY: u64 = 64 * 1024;
    const FAST: Duration = Duration::from_millis(20);
    const SLOW: Duration = Duration::from_millis(200);

    struct Tested {
        map: GreedyDual,
        evicted: Vec<Arc<Entry>>,
    }

    fn variant(number: u32) -> Variant {
        let target = number.to_be_bytes();
        VariantParts { target: &target, ..Slot::example_variant() }.to_variant()
    }

    fn entry(number: u32, length: usize) -> Arc<Entry> {
        entry_for(number, length, Duration::from_secs(3600))
    }

    fn entry_for(number: u32, length: usize, lifetime: Duration) -> Arc<Entry> {
        let slot = Slot { variant: variant(number), ..Slot::example() };
        let (fence, gauge) = (Sequence::new().begin(), Arc::default());
        let provenance = Provenance { slot, fence, requested: now(), gauge };
        let (parts, ()) = http::Response::new(()).into_parts();
        let (requested, received) = (now(), now());
        let head = Head::new(&parts, Timing { requested, received, lifetime });
        Arc::new(Entry::response(provenance, head, vec![0; length].into()))
    }

    impl Tested {
        fn new() -> Self {
            Self { map: GreedyDual::new(CAPACITY, 1), evicted: Vec::new() }
        }

        fn insert(&mut self, number: u32, length: usize, time: Duration) {
            self.map.insert(entry(number, length), time, &mut self.evicted);
        }

        fn use_it(&self, number: u32) {
            assert!(self.map.get(&variant(number).borrowed()).is_some(), "{number} is there");
        }

        /// Stores entries that nobody uses, twice as many as there is room for. They are fast and of 1 KiB.
        fn flood(&mut self) {
            for number in 1_000_000..1_000_000 + 2 * (CAPACITY / 1024) as u32 {
                self.insert(number, 1024, FAST);
            }
        }

        fn has(&self, number: u32) -> bool {
            self.map.contains(&variant(number))
        }
    }

    #[test]
    fn the_weight_is_within_the_capacity_and_the_queue_lists_what_is_there() {
        for_all(|random| {
            let mut tested = Tested::new();
            for _ in 0..60 {
                let number = random.below(60) as u32;
                match random.below(4) {
                    0 => drop(tested.map.get(&variant(number).borrowed())),
                    1 => assert_eq!(
                        tested.has(number),
                        tested.map.remove(&variant(number)).is_some()
                    ),
                    _ => {
                        let length = random.below(8 * 1024);
                        tested.insert(
                            number,
                            length,
                            Duration::from_millis(random.below(500) as u64),
                        );
                        assert!(tested.has(number), "what was just stored is found");
                    }
                }
                let shard = read(&tested.map.shards[0]);
                let weights = shard.table.iter().map(|ranked| ranked.entry.weight());
                assert_eq!(weights.sum::<u64>(), shard.weight);
                assert!(shard.weight <= CAPACITY);
                let listed = shard.table.iter().map(|ranked| (ranked.rank, ranked.hash()));
                assert_eq!(listed.collect::<BTreeSet<_>>(), shard.queue);
            }
        });
    }

    #[test]
    fn a_capacity_that_is_never_reached_costs_nothing() {
        let map = GreedyDual::new(u64::MAX, 1);
        map.insert(entry(1, 1024), FAST, &mut Vec::new());
        assert!(map.remove(&variant(1)).is_some());
    }

    #[test]
    fn an_entry_as_large_as_a_shard_has_room() {
        let mut tested = Tested::new();
        tested.flood();
        let besides = entry(1, 0).weight();
        tested.insert(1, (tested.map.largest() - besides) as usize, FAST);
        assert!(tested.has(1));
        assert_eq!((tested.map.len(), tested.map.weight()), (1, CAPACITY));
    }

    #[test]
    fn of_entries_alike_the_oldest_gives_way() {
        let mut tested = Tested::new();
        for number in 0..1000 {
            tested.insert(number, 1024, FAST);
        }
        let numbers = tested.evicted.iter().map(|entry| entry.slot().variant.clone());
        let oldest = (0..tested.evicted.len() as u32).map(variant);
        assert!(numbers.eq(oldest));
    }

    #[test]
    fn what_is_used_stays() {
        let mut tested = Tested::new();
        tested.insert(1, 1024, FAST);
        tested.insert(2, 1024, FAST);
        tested.use_it(1);
        tested.flood();
        assert_eq!((tested.has(1), tested.has(2)), (true, false));
    }

    /// A use counts though no further one would raise its worth.
    #[test]
    fn what_is_used_most_stays_by_each_further_use() {
        let mut tested = Tested::new();
        tested.insert(1, 1024, FAST);
        for _ in 0..50 {
            (0..100).for_each(|_| tested.use_it(1));
            tested.flood();
        }
    }

    #[test]
    fn what_took_longer_or_is_smaller_stays_longer() {
        for [stays, goes] in [[(1024, SLOW), (1024, FAST)], [(1024, FAST), (10 * 1024, FAST)]] {
            let mut tested = Tested::new();
            tested.insert(1, stays.0, stays.1);
            tested.insert(2, goes.0, goes.1);
            let mut number = 1000;
            while tested.has(1) && tested.has(2) {
                tested.insert(number, 1024, FAST);
                number += 1;
            }
            assert_eq!((tested.has(1), tested.has(2)), (true, false));
        }
    }

    #[test]
    fn what_is_used_no_more_gives_way_in_time() {
        let mut tested = Tested::new();
        tested.insert(1, 1024, SLOW);
        (0..3).for_each(|_| tested.use_it(1));
        let floods = (0..1000).take_while(|_| {
            tested.flood();
            tested.has(1)
        });
        assert!((1..1000).contains(&floods.count()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_of_no_use_any_more_gives_way_first() {
        let mut tested = Tested::new();
        let lifetime = Duration::from_secs(1);
        for number in 0..8 {
            tested.map.insert(entry_for(number, 1024, lifetime), 100 * SLOW, &mut tested.evicted);
            (0..10).for_each(|_| tested.use_it(number));
        }
        tested.flood();
        assert!((0..8).all(|number| tested.has(number)));
        tokio::time::advance(lifetime).await;
        tested.flood();
        assert!((0..8).all(|number| !tested.has(number)));
    }

    #[test]
    fn what_comes_again_has_the_uses_that_it_had() {
        for is_removed in [false, true] {
            let mut tested = Tested::new();
            tested.flood();
            tested.insert(1, 1024, FAST);
            (0..5).for_each(|_| tested.use_it(1));
            if is_removed {
                assert!(tested.map.remove(&variant(1)).is_some());
            } else {
                // Others whose ghosts leave its own alone, one at a time.
                let places = read(&tested.map.shards[0]).ghosts.places.len();
                let place = |number| variant(number).seeded_hash() as usize % places;
                let mut others = (2..).filter(|number| place(*number) != place(1));
                while tested.has(1) {
                    tested.insert(others.next().expect("there are more"), 1024, 500 * SLOW);
                }
            }
            tested.insert(1, 1024, FAST);
            let shard = read(&tested.map.shards[0]);
            let counted = shard.find(&variant(1).borrowed()).map(|ranked| ranked.counted);
            assert_eq!(counted, Some(1 + 5 + 1), "removed: {is_removed}");
        }
    }
}
