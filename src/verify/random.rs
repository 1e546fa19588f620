//! Random input for property tests: the same on every machine and in every run.

use std::{env, ops::Range, thread};

const CASES: u64 = 256;

/// Checks a property for many inputs, each from a seed of its own. `PROPERTY_CASES` sets their number.
pub(crate) fn for_all(mut property: impl FnMut(&mut Random)) {
    let cases = env::var("PROPERTY_CASES").ok().and_then(|text| text.parse().ok());
    for seed in 0..cases.unwrap_or(CASES) {
        let _case = Case(seed);
        property(&mut Random::of(seed));
    }
}

/// Names its seed if the property panics.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the property fails for the input of seed {}", self.0);
        }
    }
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// Creates the input of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn pick<T: Clone>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())].clone()
    }

    pub(crate) fn vec<T>(
        &mut self,
        lengths: Range<usize>,
        mut item: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let length = lengths.start + self.below(lengths.len());
        (0..length).map(|_| item(self)).collect()
    }

    pub(crate) fn text(
        &mut self,
        letters: impl IntoIterator<Item = char>,
        lengths: Range<usize>,
    ) -> String {
        let letters: Vec<_> = letters.into_iter().collect();
        self.vec(lengths, |random| random.pick(&letters)).into_iter().collect()
    }
}
