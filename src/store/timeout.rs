//! The layer's own patience with a store.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;

/// A store keeps budgets of its own, and shorter ones. This is for the one that does not.
const LIMIT: Duration = Duration::from_millis(250);

/// Waits for what a store was asked; `None` once it has taken too long, and it is dropped.
pub(crate) async fn bounded<F: Future>(asked: F) -> Option<F::Output> {
    let mut asked = pin!(asked);
    // Asked once without a timer: a store in this process has answered by then.
    match poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await {
        Poll::Ready(answer) => Some(answer),
        // Boxed, so that who asks such a store has no room for a timer.
        Poll::Pending => Box::pin(timeout(LIMIT, asked)).await.ok(),
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_is_given_up_and_who_has_answered_is_heard() {
        assert_eq!(bounded(ready(1)).await, Some(1));
        assert_eq!(bounded(pending::<u8>()).await, None);
    }
}
