//! Memory that the entries of one bucket occupy in this process.

use crate::sync::{AtomicU64, Ordering};

/// Number and bytes of the entries of one bucket that stores hold now.
#[derive(Debug, Default)]
pub(crate) struct MemoryGauge {
    entries: AtomicU64,
    bytes: AtomicU64,
    evicted: AtomicU64,
}

impl MemoryGauge {
    /// Adds an entry of `weight` bytes.
    pub(crate) fn hold(&self, weight: u64) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(weight, Ordering::Relaxed);
    }

    /// Subtracts an entry of `weight` bytes.
    pub(crate) fn release(&self, weight: u64) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
    }

    /// Counts an eviction.
    pub(crate) fn evict(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}
