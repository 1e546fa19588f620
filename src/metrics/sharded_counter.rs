//! A counter on which threads do not slow each other down.

use crate::sync::{AtomicU64, Ordering, lane};

/// Threads that share a stripe share its cache line; each of a few has its own.
const STRIPES: usize = 16;

/// A count that is added to often, and read seldom.
#[derive(Debug)]
pub(crate) struct ShardedCounter(Box<[Stripe; STRIPES]>);

/// Two lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl ShardedCounter {
    pub(crate) fn new() -> Self {
        Self(Box::new(std::array::from_fn(|_| Stripe::default())))
    }

    #[inline]
    pub(crate) fn add(&self) {
        self.0[lane(STRIPES)].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_all_threads_have_added_is_counted() {
        let count = ShardedCounter::new();
        thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| (0..100).for_each(|_| count.add()));
            }
        });
        assert_eq!(count.get(), 200 * STRIPES as u64);
    }
}
