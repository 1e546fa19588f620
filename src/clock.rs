//! The one place that reads the time, and that waits for an instant.
//!
//! Time has passed if either clock says so. The monotonic clock stands still while a machine is suspended;
//! the clock of the day is right afterwards, and may be set at any time. So each reading compares them, and
//! adds to the monotonic one what only the other has counted.

use std::{
    future::Future,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub(crate) use tokio::time::Instant;
use tokio::time::{Sleep, Timeout};

/// Nanoseconds that the clocks may come apart unnoticed: less than any heartbeat takes, and more than a
/// clock is slewed by in minutes.
const TOLERANCE: u64 = 50_000_000;

static CLOCKS: Clocks = Clocks::new();

/// Returns the current instant: tokio's clock, so that paused time in tests moves the cache too, and what
/// only the clock of the day has counted.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    let monotonic = Instant::now();
    CLOCKS.look(lead(day(), monotonic.into_std()), measured_lead);
    CLOCKS.add_missed(monotonic)
}

/// Returns the current instant by the last comparison of the clocks. For times that begin and end where
/// another reading compares them.
#[allow(clippy::disallowed_methods)]
pub(crate) fn recent() -> Instant {
    CLOCKS.add_missed(Instant::now())
}

/// Returns the current time of day, moved along with the instant where tests move that.
#[allow(clippy::disallowed_methods)]
pub(crate) fn time_of_day() -> SystemTime {
    let (moved, actual) = (Instant::now().into_std(), std::time::Instant::now());
    let time = day();
    let shifted = match moved.checked_duration_since(actual) {
        Some(ahead) => time.checked_add(ahead),
        None => time.checked_sub(actual.saturating_duration_since(moved)),
    };
    shifted.unwrap_or(time)
}

/// Waits for an instant. Time that the monotonic clock misses from now on is waited for.
#[allow(clippy::disallowed_methods)]
pub(crate) fn sleep_until(instant: Instant) -> Sleep {
    tokio::time::sleep_until(by_timer(instant))
}

/// Limits a future by an instant, as [`sleep_until`] waits for it.
#[allow(clippy::disallowed_methods)]
pub(crate) fn timeout_at<F: Future>(instant: Instant, future: F) -> Timeout<F> {
    tokio::time::timeout_at(by_timer(instant), future)
}

/// Returns an instant as timers count it, which know the monotonic clock alone.
pub(crate) fn by_timer(instant: Instant) -> Instant {
    instant.checked_sub(CLOCKS.missed()).unwrap_or(instant)
}

/// Comparison of the two clocks.
struct Clocks {
    /// Lead of the clock of the day at the last comparison, in nanoseconds.
    seen: AtomicI64,
    /// Nanoseconds that only the clock of the day has counted.
    missed: AtomicU64,
    /// The same lead, measured: instants of paused time give another one.
    measured: Mutex<Option<i64>>,
}

impl Clocks {
    const fn new() -> Self {
        let (seen, missed) = (AtomicI64::new(0), AtomicU64::new(0));
        Self { seen, missed, measured: Mutex::new(None) }
    }

    /// Compares the clocks, if `lead` is another than it was. `measure` measures it.
    #[inline]
    fn look(&self, lead: i64, measure: impl FnOnce() -> i64) {
        if lead.abs_diff(self.seen.load(Ordering::Acquire)) > TOLERANCE {
            self.compare(lead, measure);
        }
    }

    #[inline]
    fn add_missed(&self, monotonic: Instant) -> Instant {
        match self.missed.load(Ordering::Relaxed) {
            0 => monotonic,
            missed => monotonic + Duration::from_nanos(missed),
        }
    }

    /// Returns the time that only the clock of the day has counted.
    fn missed(&self) -> Duration {
        Duration::from_nanos(self.missed.load(Ordering::Relaxed))
    }

    #[cold]
    fn compare(&self, lead: i64, measure: impl FnOnce() -> i64) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let now = measure();
        let before = *measured.get_or_insert(now);
        if now.abs_diff(before) > TOLERANCE {
            // The clock of the day counts from where it was set back to.
            let missed = u64::try_from(now.saturating_sub(before)).unwrap_or(0);
            self.missed.fetch_add(missed, Ordering::Relaxed);
            *measured = Some(now);
        }
        // Last: who sees this sees what was missed.
        self.seen.store(lead, Ordering::Release);
    }
}

/// Measures the lead of the clock of the day. That is read first, and twice: a thread that is interrupted
/// in between must not take the interruption for time that was missed.
#[allow(clippy::disallowed_methods)]
fn measured_lead() -> i64 {
    let measure = || {
        let day = day();
        lead(day, std::time::Instant::now())
    };
    measure().max(measure())
}

/// Returns the nanoseconds by which the clock of the day is ahead of the monotonic one, from any origin.
#[inline]
#[allow(clippy::disallowed_methods)]
fn lead(day: SystemTime, monotonic: std::time::Instant) -> i64 {
    static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    let nanos = |time: Duration| {
        (time.as_secs() as i64).wrapping_mul(1_000_000_000) + i64::from(time.subsec_nanos())
    };
    let day = day.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    nanos(day).wrapping_sub(nanos(monotonic.saturating_duration_since(*ORIGIN)))
}

/// Reads the clock of the day.
#[cfg(not(feature = "testing"))]
#[inline]
#[allow(clippy::disallowed_methods)]
fn day() -> SystemTime {
    SystemTime::now()
}

#[cfg(feature = "testing")]
pub(crate) use testing::{day, step};

/// Clock of the day that tests can set.
#[cfg(feature = "testing")]
mod testing {
    use std::{
        sync::atomic::{AtomicI64, Ordering},
        time::{Duration, SystemTime},
    };

    /// Milliseconds that it was set forward by.
    static STEPS: AtomicI64 = AtomicI64::new(0);

    /// Sets the clock forward, or back.
    pub(crate) fn step(millis: i64) {
        STEPS.fetch_add(millis, Ordering::Relaxed);
    }

    #[allow(clippy::disallowed_methods)]
    pub(crate) fn day() -> SystemTime {
        let steps = STEPS.load(Ordering::Relaxed);
        let by = Duration::from_millis(steps.unsigned_abs());
        let now = SystemTime::now();
        if steps < 0 { now - by } else { now + by }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Compares clocks at these leads, and says how many milliseconds are missed after each.
    #[track_caller]
    fn check(leads: &[(i64, u64)]) {
        let clocks = Clocks::new();
        for (at, (lead, missed)) in leads.iter().enumerate() {
            clocks.look(*lead, || *lead);
            assert_eq!(clocks.missed(), Duration::from_millis(*missed), "{at}");
        }
    }

    #[test]
    fn what_only_the_clock_of_the_day_counts_is_counted_once() {
        let start = 1_795_000_000 * SECOND;
        let hour = 3600 * SECOND;
        check(&[(start, 0), (start + hour, 3_600_000), (start + hour, 3_600_000)]);
        // Set back nothing is counted, and from there on everything is.
        check(&[(start, 0), (start - hour, 0), (start, 3_600_000), (start + hour, 7_200_000)]);
        check(&[(-hour, 0), (0, 3_600_000)]);
    }

    #[test]
    fn small_differences_are_counted_once_they_are_large_together() {
        let (start, step) = (SECOND, SECOND / 100);
        let leads: Vec<_> = (0..13).map(|n| start + n * step).collect();
        let missed = |n: usize| (n / 6 * 60) as u64;
        check(&leads.iter().enumerate().map(|(n, lead)| (*lead, missed(n))).collect::<Vec<_>>());
        check(&[(start, 0), (start + step, 0), (start - step, 0), (start, 0)]);
    }

    /// The instants of a test with paused time are no clock to measure by.
    #[tokio::test(start_paused = true)]
    async fn time_that_a_test_moves_is_not_missed() {
        let began = now();
        for seconds in [3600, 1] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        let passed = now().duration_since(began);
        assert!(passed.as_secs() == 3601, "{passed:?}");
        let clocks = Clocks::new();
        clocks.look(0, || 7);
        clocks.look(SECOND, || 7);
        assert_eq!(clocks.missed(), Duration::ZERO);
    }
}
