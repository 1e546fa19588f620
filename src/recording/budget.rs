//! Byte budget that all requests of a layer share.

use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// Bytes of bodies that are being recorded, or read after they turned out not to be storable.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Share of a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    pub(crate) fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Gives everything back.
    pub(crate) fn release(&mut self) {
        self.budget.used.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }

    /// Grows to `bytes` in all. Returns whether the budget has room; without room nothing changes.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return true;
        };
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= self.budget.limit);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if taken.is_ok() {
            self.bytes = bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_never_exceeds_the_budget_and_gives_back_what_it_took() {
        let budget = Arc::new(Budget::new(10));
        let mut first = Reservation::none(&budget);
        let mut second = Reservation::none(&budget);
        assert!(first.grow_to(6) && first.grow_to(4));
        assert!(!second.grow_to(5));
        assert!(second.grow_to(4));
        assert_eq!(budget.used(), 10);
        drop(first);
        assert!(second.grow_to(10));
        drop(second);
        assert_eq!(budget.used(), 0);
    }
}
