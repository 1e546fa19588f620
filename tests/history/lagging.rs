//! A database whose replica lags: what is filled after an invalidation.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Builder, time::advance};
use tower_support_cache::MemoryStore;

use crate::replica::{Database, Process, Reads, Times, live};

const LAG: Duration = Duration::from_secs(4);

/// Lets clients of one process live over memory, and returns how outdated their reads were.
fn outdated(settle: Duration, reads: Reads) -> Duration {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let database = Database::new(Times { lag: LAG, settle }, reads, 20_261_130);
        let process = Process::new(&database, Arc::new(MemoryStore::new()));
        live(std::slice::from_ref(&process), 6000, async |part| {
            advance(Duration::from_millis(part * 8)).await;
        })
        .await;
        println!("{settle:?} {reads:?}: {:?}, told {}", database.outdated(), database.told());
        assert!(process.hits() > 5000, "a cache that only forwards proves nothing");
        assert_eq!(database.told() > 500, !settle.is_zero());
        database.outdated()
    })
}

#[test]
fn a_handler_that_reads_the_primary_where_it_is_told_fills_with_nothing_outdated() {
    assert_eq!(outdated(LAG, Reads::Heeding), Duration::ZERO);
}

#[test]
fn with_a_settling_time_alone_reads_are_outdated_for_no_longer_than_that_and_the_lag() {
    let settle = 5 * LAG / 4;
    let outdated = outdated(settle, Reads::Heedless);
    assert!(!outdated.is_zero(), "the replica does lag");
    assert!(outdated <= settle + LAG, "{outdated:?}");
}

#[test]
fn without_a_settling_time_they_are_for_much_longer() {
    assert!(outdated(Duration::ZERO, Reads::Heeding) > 10 * LAG);
}
