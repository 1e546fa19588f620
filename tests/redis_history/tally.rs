//! Counts of a process, which it reports to its parent as one line of numbers.

/// Declares the counts once: fields, their sum, their line.
macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Tally { $($(#[$doc])* pub(crate) $name: u64,)* }

        /// The same while it is being counted.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: std::sync::atomic::AtomicU64,)* }

        impl Counters {
            pub(crate) fn tally(&self) -> Tally {
                Tally { $($name: self.$name.load(std::sync::atomic::Ordering::Relaxed),)* }
            }
        }

        impl Tally {
            pub(crate) fn plus(mut self, other: Self) -> Self {
                $(self.$name += other.$name;)*
                self
            }

            pub(crate) fn line(&self) -> String {
                let numbers = [$(self.$name.to_string(),)*];
                format!("{MARK}{}", numbers.join(" "))
            }

            pub(crate) fn parse(line: &str) -> Option<Self> {
                let mut numbers = line.strip_prefix(MARK)?.split(' ').map(str::parse);
                Some(Self { $($name: numbers.next()?.ok()?,)* })
            }
        }
    };
}

const MARK: &str = "tally ";

tally! {
    /// Reads that were answered to their end.
    reads,
    hits,
    /// Of these, reads that near caches answered.
    near,
    /// Reads of which the server confirmed what the process remembered.
    confirmed,
    /// Of the hits, reads that said they were stale: after a soft invalidation.
    stale,
    joins,
    /// Reads that were dropped on the way.
    cancelled,
    /// Reads whose handler panicked.
    panics,
    /// Versions that were written and then invalidated.
    invalidations,
    acknowledged,
    /// Invalidations that were not acknowledged at once.
    pending,
    /// Invalidations that were dropped on the way.
    dropped,
    /// Versions that the origin committed after it had failed, or had only accepted them.
    doubts,
    /// Of these, versions that had to be seen in the end.
    settled,
    /// Processes that were told to end, and have seen to all that they owed.
    drained,
    /// Reads that took over a second.
    slow,
    /// Requests that failed though the origin answers all.
    failures,
    violations,
}
