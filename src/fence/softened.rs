//! Soft invalidations of tags: the instants at which what has a tag became stale.

use std::collections::BTreeMap;

use arrayvec::ArrayVec;

use crate::clock::Instant;

/// Soft invalidations of a stripe that are remembered. What was made before the oldest of more is dead.
const KEPT: usize = 4;

/// Number of stripes above which none is remembered. Of those before only what was read since is left.
const MAX_STRIPES: usize = 4096;

/// Soft invalidations of stripes that nothing else has invalidated since.
#[derive(Debug, Default)]
pub(super) struct Softened(BTreeMap<usize, SoftStripe>);

#[derive(Debug)]
struct SoftStripe {
    /// Number below which everything is dead.
    floor: u64,
    invalidations: ArrayVec<SoftInvalidation, KEPT>,
}

/// Soft invalidation of a stripe.
#[derive(Clone, Copy, Debug)]
pub(super) struct SoftInvalidation {
    pub(super) number: u64,
    pub(super) at: Instant,
}

impl Softened {
    /// Adds a soft invalidation of a stripe. `last` is the number of the one before, of any strength.
    pub(super) fn add(&mut self, stripe: usize, last: u64, invalidation: SoftInvalidation) {
        if self.0.len() >= MAX_STRIPES && !self.0.contains_key(&stripe) {
            self.0.clear();
        }
        let invalidations = ArrayVec::new();
        let soft = self.0.entry(stripe).or_insert(SoftStripe { floor: last, invalidations });
        if soft.invalidations.is_full() {
            soft.floor = soft.invalidations.remove(0).number;
        }
        soft.invalidations.push(invalidation);
    }

    /// Forgets the soft invalidations of a stripe: another one leaves nothing.
    pub(super) fn remove(&mut self, stripe: usize) {
        self.0.remove(&stripe);
    }

    /// Returns the instant at which what was made at a number became stale; `None` if it is dead.
    pub(super) fn since(&self, stripe: usize, number: u64) -> Option<Instant> {
        let soft = self.0.get(&stripe).filter(|soft| soft.floor <= number)?;
        let first = soft.invalidations.iter().find(|invalidation| invalidation.number > number)?;
        Some(first.at)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_made_before_is_stale_since_the_first_soft_invalidation_or_dead() {
        let (mut softened, began) = (Softened::default(), now());
        let at = |number: u64| began + SECOND * number as u32;
        let add = |softened: &mut Softened, last, number| {
            softened.add(7, last, SoftInvalidation { number, at: at(number) });
        };
        add(&mut softened, 3, 5);
        add(&mut softened, 5, 8);
        for (number, since) in [(2, None), (3, Some(5)), (4, Some(5)), (5, Some(8)), (8, None)] {
            assert_eq!(softened.since(7, number), since.map(at), "{number}");
        }
        assert_eq!(softened.since(8, 4), None, "another stripe");
        for number in 9..12 {
            add(&mut softened, number - 1, number);
        }
        assert_eq!((softened.since(7, 4), softened.since(7, 5)), (None, Some(at(8))), "forgotten");
        softened.remove(7);
        assert_eq!(softened.since(7, 10), None);
        add(&mut softened, 20, 21);
        assert_eq!((softened.since(7, 19), softened.since(7, 20)), (None, Some(at(21))));
    }

    #[test]
    fn a_bounded_number_of_stripes_is_remembered() {
        let mut softened = Softened::default();
        for stripe in 0..=MAX_STRIPES {
            softened.add(stripe, 0, SoftInvalidation { number: 1, at: now() });
            assert!(softened.since(stripe, 0).is_some() && softened.0.len() <= MAX_STRIPES);
        }
    }
}
