//! Hashes that only this process can compute.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::LazyLock,
};

use foldhash::quality::RandomState;

/// Seeded anew in each process, so that no client can choose colliding targets.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Hashes with the process's secret seed.
#[inline]
pub(crate) fn seeded_hash(value: impl Hash) -> u64 {
    HASHER.hash_one(value)
}

/// Hasher for keys and variants, which carry a seeded hash already.
#[derive(Clone, Copy, Default)]
pub(crate) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "only prehashed keys, not {} bytes", bytes.len());
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
