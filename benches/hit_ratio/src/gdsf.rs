//! Our own reference of GreedyDual-Size-Frequency (Cherkasova: Improving WWW Proxies Performance with
//! GreedyDual-Size-Frequency Caching Policy, HP 1998), exact and in one thread.
//!
//! The kept crate that has it, `cache-rs` 0.4, has no costs, and keeps priorities in thousandths of a hit per byte:
//! with sizes in bytes all are equal.

use std::collections::{BTreeMap, HashMap};

use crate::policies::{Fill, Policy};

/// Cache that evicts the lowest *inflation + frequency · worth*.
pub struct Gdsf {
    worth: fn(Fill) -> f64,
    room: u64,
    used: u64,
    /// Priority of the last eviction.
    inflation: f64,
    entries: HashMap<u32, Entry>,
    /// Order of eviction: bits of a positive number compare as the number does.
    queue: BTreeMap<(u64, u32), u64>,
}

struct Entry {
    fill: Fill,
    frequency: f64,
    priority: f64,
}

impl Gdsf {
    pub fn new(room: u64, worth: fn(Fill) -> f64) -> Self {
        let (entries, queue) = (HashMap::new(), BTreeMap::new());
        Self { worth, room, used: 0, inflation: 0.0, entries, queue }
    }

    fn place(&mut self, key: u32, fill: Fill, frequency: f64) {
        let priority = self.inflation + frequency * (self.worth)(fill);
        self.entries.insert(key, Entry { fill, frequency, priority });
        self.queue.insert((priority.to_bits(), key), fill.weight);
    }
}

impl Policy for Gdsf {
    fn get(&mut self, key: u32) -> bool {
        let Some(Entry { fill, frequency, priority }) = self.entries.remove(&key) else {
            return false;
        };
        self.queue.remove(&(priority.to_bits(), key));
        self.place(key, fill, frequency + 1.0);
        true
    }

    fn insert(&mut self, key: u32, fill: Fill) {
        if fill.weight > self.room {
            return;
        }
        self.place(key, fill, 1.0);
        self.used += fill.weight;
        while self.used > self.room {
            let ((priority, evicted), weight) = self.queue.pop_first().expect("something is used");
            self.entries.remove(&evicted);
            self.inflation = f64::from_bits(priority);
            self.used -= weight;
        }
    }
}
