//! A process whose clock stands still. Benchmarks use the server of the tests without tokio's means for that.

use std::time::Duration;

/// Lets time pass everywhere but here, as where the host of this process is suspended.
pub(crate) async fn stand_still(time: Duration) {
    tokio::time::pause();
    // While it runs, the time does not move by itself.
    tokio::task::spawn_blocking(move || std::thread::sleep(time)).await.unwrap();
    tokio::time::resume();
}
