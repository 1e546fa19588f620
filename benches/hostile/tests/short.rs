//! A short run: under each attack honest clients are answered, their requests are coalesced and their
//! responses stored, and the server's memory is bounded.

use std::{path::Path, time::Duration};

use tower_support_cache_hostile::{
    Attack, CAPACITY, Honest, KEYS, Kind, Scale, Turn, measure, table,
};

/// Memory of a server under attack beyond its store, in bytes: bodies that are being recorded (64 MiB),
/// connections, and what the allocator keeps.
const OVERHEAD: u64 = 128 * 1024 * 1024;
/// The longest body that is stored: a response that is not read holds at most that.
const BODY: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_are_answered_coalesced_and_stored_under_each_attack() {
    let program = Path::new(env!("CARGO_BIN_EXE_hostile"));
    let mut turns = Vec::new();
    for attack in Attack::ALL {
        for protocol in attack.protocols() {
            let turn = measure(program, attack, *protocol, Kind::Cached, Scale::SHORT).await;
            turns.push(turn.expect("the server starts and tells its figures"));
        }
    }
    println!("{}", table(&turns));
    turns.iter().for_each(check);
}

#[track_caller]
fn check(turn: &Turn) {
    let name = format!("{}, {}", turn.attack.name(), turn.protocol.name());
    let Honest { times, failed, reason, crowds, crowd_calls, crowds_stored, .. } = &turn.honest;
    assert!(!times.is_empty() && *crowds > 0, "{name}: {times:?}");
    assert_eq!(*failed, 0, "{name}: {reason:?}");
    assert_eq!(
        (*crowd_calls, *crowds_stored),
        (*crowds, *crowds),
        "{name}: not coalesced or not stored"
    );
    // Hot keys are fresh for a second each.
    let most = KEYS * (turn.taken + Duration::from_secs(2)).as_secs() + crowds;
    assert!(turn.calls <= most, "{name}: {} calls, {most} at most", turn.calls);
    let unread = match turn.attack {
        Attack::UnreadStreams => 100 * Scale::SHORT.unread as u64,
        Attack::StalledReaders => Scale::SHORT.stalled as u64,
        _ => 0,
    };
    let (used, limit) = (turn.memory_most * 1024, CAPACITY + OVERHEAD + unread * BODY);
    assert!(used <= limit, "{name}: {used} bytes, {limit} at most");
}
