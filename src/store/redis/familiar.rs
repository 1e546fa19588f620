//! What was read lately: what is read but once is not worth keeping.

use super::Digest;
use crate::sync::{AtomicU64, Ordering};

/// How many pairs of digests are remembered at most, as a power of two.
const PAIRS: u32 = 11;

/// Pairs of the last two that were read: so two that share a place, and are read in turn, are known.
pub(super) struct Familiar(Box<[[AtomicU64; 2]]>);

impl Familiar {
    pub(super) fn new() -> Self {
        Self((0..1 << PAIRS).map(|_| [const { AtomicU64::new(0) }; 2]).collect())
    }

    /// Takes note of a digest that was read, and returns whether it was noted before.
    pub(super) fn meet(&self, digest: &Digest) -> bool {
        /// Spreads what is hexadecimal over the bits from the top.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let ([part, whose, ..], _) = digest.as_chunks() else { return false };
        let [part, whose] = [part, whose].map(|half| u64::from_ne_bytes(*half));
        let pair = &self.0[(part.wrapping_mul(SPREAD) >> (u64::BITS - PAIRS)) as usize];
        let [last, before] = pair.each_ref().map(|known| known.load(Ordering::Relaxed));
        if whose != last && whose != before {
            pair[1].store(last, Ordering::Relaxed);
            pair[0].store(whose, Ordering::Relaxed);
        }
        whose == last || whose == before
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{key::Slot, store::redis::digest};

    #[test]
    fn what_was_read_is_known_unless_much_else_was_since() {
        let (familiar, slot) = (Familiar::new(), Slot::example());
        let digests: Vec<Digest> = (1..=100_000).map(|epoch| digest(&slot, epoch)).collect();
        let known =
            |digests: &[Digest]| digests.iter().filter(|known| familiar.meet(known)).count();
        let (few, many) = digests.split_at(1000);
        assert_eq!(known(few), 0, "nobody has read them");
        // Of 1,000 in 2,048 pairs few share theirs with two others.
        assert!(known(few) > 850, "they are spread");
        assert_eq!(known(many), 0);
        assert!(known(few) < 10);
    }
}
