//! A minute: nothing stale, nothing failed, nothing left, and memory within bounds.

use std::{path::Path, time::Duration};

use tower_support_cache_soak::{Settings, run};

/// Bodies that are being recorded (64 MiB), what attackers hold, connections, and what the allocator keeps.
const MEMORY: u64 = 256 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_faults_and_attacks_brings_nothing_stale_and_fails_nothing() {
    let settings = Settings {
        program: Path::new(env!("CARGO_BIN_EXE_soak")).to_owned(),
        time: Duration::from_secs(60),
        cases: 200_000,
        clients: 16,
        seed: 1,
    };
    let report = run(&settings).await;
    println!("{}", report.table());
    assert_eq!(report.faults(), Vec::<String>::new());
    // Each fault once, on a machine that is busy.
    assert!(report.injected() >= 8, "{} faults", report.injected());
    assert!(report.reads > 2_000 && report.hits > report.reads / 10, "{} reads", report.reads);
    assert!(report.changes > 100 && report.acknowledged > 10, "{} changes", report.changes);
    let most = report.most_memory();
    assert!(most <= MEMORY, "{most} bytes, {MEMORY} at most");
}
