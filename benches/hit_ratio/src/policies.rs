//! The caches beside ours. Each has one shard, which is best for its hit ratio, and weighs entries as ours does.

use foyer_memory::{Cache as Foyer, CacheBuilder, EvictionConfig, S3FifoConfig};
use quick_cache::{
    OptionsBuilder, Weighter,
    unsync::{Cache as Quick, DefaultLifecycle},
};

/// What a cache learns with a fill.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Bytes that our store counts for the entry.
    pub weight: u64,
    /// Milliseconds that this fill took.
    pub time: u64,
}

/// Room of a cache.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub bytes: u64,
    /// Entries of mean weight for which it has room.
    pub entries: usize,
}

/// Cache under test.
pub trait Policy {
    /// Looks an object up, and returns whether it was there.
    fn get(&mut self, key: u32) -> bool;

    /// Stores an object that was not there.
    fn insert(&mut self, key: u32, fill: Fill);
}

// ===== quick_cache =====

/// `quick_cache`, with a share for entries that are used often.
pub struct QuickCache(Quick<u32, u64, ByWeight>);

#[derive(Clone)]
struct ByWeight;

impl Weighter<u32, u64> for ByWeight {
    fn weight(&self, _: &u32, weight: &u64) -> u64 {
        *weight
    }
}

impl QuickCache {
    /// `hot` is `None` for the share that comes with the library.
    pub fn new(room: Room, hot: Option<f64>) -> Self {
        let mut options = OptionsBuilder::new();
        options.weight_capacity(room.bytes).estimated_items_capacity(room.entries);
        if let Some(hot) = hot {
            options.hot_allocation(hot);
        }
        let options = options.build().expect("capacity and estimate are set");
        Self(Quick::with_options(
            options,
            ByWeight,
            Default::default(),
            DefaultLifecycle::default(),
        ))
    }
}

impl Policy for QuickCache {
    fn get(&mut self, key: u32) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&mut self, key: u32, fill: Fill) {
        self.0.insert(key, fill.weight);
    }
}

// ===== moka =====

/// `moka`, which weighs in 32 bits.
pub struct Moka(moka::sync::Cache<u32, u64>);

impl Moka {
    pub fn new(room: Room) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(room.bytes);
        Self(builder.weigher(|_, weight: &u64| *weight as u32).build())
    }
}

impl Policy for Moka {
    fn get(&mut self, key: u32) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&mut self, key: u32, fill: Fill) {
        self.0.insert(key, fill.weight);
        // Otherwise it admits and evicts later, by a clock.
        self.0.run_pending_tasks();
    }
}

// ===== S3-FIFO =====

/// S3-FIFO of `foyer`.
pub struct S3Fifo(Foyer<u32, u64>);

impl S3Fifo {
    pub fn new(room: Room) -> Self {
        let builder = CacheBuilder::new(room.bytes as usize).with_shards(1);
        let builder = builder.with_eviction_config(EvictionConfig::S3Fifo(S3FifoConfig::default()));
        Self(builder.with_weighter(|_: &u32, weight: &u64| *weight as usize).build())
    }
}

impl Policy for S3Fifo {
    fn get(&mut self, key: u32) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&mut self, key: u32, fill: Fill) {
        self.0.insert(key, fill.weight);
    }
}
