//! Limits of waiting for a store.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;

use crate::{background::runtime, clock::now};

/// A store keeps budgets of its own, and shorter ones. This is for the one that does not.
const LIMIT: Duration = Duration::from_millis(250);

/// Parts of a limit. Each has a timer of its own, which tells whether the runtime is starved.
const PARTS: u32 = 5;

/// Delay from which on a timer is late.
const LATE: Duration = Duration::from_millis(10);

/// Time beyond a limit after which late timers count as well.
const GRACE: Duration = Duration::from_secs(5);

/// Waits for what a store was asked; `None` once it has taken too long, and it is dropped.
pub(crate) async fn bounded<F: Future>(asked: F) -> Option<F::Output> {
    let mut asked = pin!(asked);
    // Asked once without a timer: a store in this process has answered by then.
    match poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await {
        Poll::Ready(answer) => Some(answer),
        // Boxed, so that who asks such a store has no room for a timer.
        Poll::Pending => Box::pin(within(LIMIT, asked, || ())).await,
    }
}

/// Waits for a future within a limit. `None` if it takes longer, or if the runtime has no timers.
///
/// A timer that fires late shows a starved runtime: a reply may be here, and no task has read it. That part
/// of the limit does not count, and `on_late` is called.
pub(crate) async fn within<F: Future>(
    limit: Duration,
    future: F,
    on_late: impl Fn(),
) -> Option<F::Output> {
    runtime()?;
    let mut future = pin!(future);
    let (part, last) = (limit / PARTS, now() + limit + GRACE);
    let mut left = PARTS;
    while left > 0 {
        let due = now() + part;
        if let Ok(output) = timeout(part, &mut future).await {
            return Some(output);
        }
        let now = now();
        if now < due + LATE || now > last {
            left -= 1;
        } else {
            on_late();
        }
    }
    None
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, ready},
    };

    use tokio::{
        task::yield_now,
        time::{advance, sleep},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_is_given_up_and_who_has_answered_is_heard() {
        assert_eq!(bounded(ready(1)).await, Some(1));
        assert_eq!(bounded(pending::<u8>()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_kept_where_timers_are_in_time() {
        let began = now();
        let late = || panic!("no timer is late");
        let shorter = LIMIT - Duration::from_millis(1);
        assert_eq!(within(LIMIT, sleep(shorter), late).await, Some(()));
        assert_eq!(within(LIMIT, pending::<()>(), late).await, None);
        let took = now() - began;
        assert!((shorter + LIMIT..shorter + LIMIT + LATE).contains(&took), "{took:?}");
    }

    /// A reply that is read in the turn after the late timer's.
    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_runtime_is_starved_does_not_count() {
        let (late, turns) = (Cell::new(0), Cell::new(0));
        let read_late = poll_fn(|cx| {
            turns.set(turns.get() + 1);
            cx.waker().wake_by_ref();
            if turns.get() > 10 { Poll::Ready(()) } else { Poll::Pending }
        });
        let starving = async {
            loop {
                yield_now().await;
                advance(Duration::from_millis(400)).await;
            }
        };
        let waiting = within(LIMIT, read_late, || late.set(late.get() + 1));
        tokio::select! {
            output = waiting => assert_eq!(output, Some(())),
            () = starving => {}
        }
        assert!(late.get() > 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_stays_starved_does_not_wait_for_ever() {
        let began = now();
        let starving = async {
            loop {
                yield_now().await;
                advance(Duration::from_millis(400)).await;
            }
        };
        tokio::select! {
            output = within(LIMIT, pending::<()>(), || ()) => assert_eq!(output, None),
            () = starving => {}
        }
        assert!(now() - began < 2 * GRACE);
    }
}
