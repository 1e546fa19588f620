//! Work that outlives its caller.
//!
//! A fill or a write whose caller goes away is handed to the runtime and completes, within a bound
//! on how many there are and how long each takes. This is the one place that spawns on drop.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};

use crate::{
    clock::{Instant, now},
    metrics::Metrics,
};

/// The bound on work without a caller.
#[derive(Debug)]
pub(crate) struct Detachments {
    permits: Arc<Semaphore>,
    limit: Duration,
    metrics: Arc<Metrics>,
}

/// The right to go on without a caller until the deadline.
#[derive(Debug)]
pub(crate) struct Detached {
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
}

impl Detachments {
    pub(crate) fn new(count: usize, limit: Duration, metrics: Arc<Metrics>) -> Self {
        Self { permits: Arc::new(Semaphore::new(count)), limit, metrics }
    }

    /// Returns the right to go on, or `None` where too much does already.
    pub(crate) fn begin(&self) -> Option<Detached> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Some(Detached { _permit: permit, deadline: now() + self.limit }),
            Err(_) => {
                self.metrics.detached_dropped();
                None
            }
        }
    }
}

impl Detached {
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

thread_local! {
    /// Whether what is being polled has begun what is to be completed.
    static IS_BEGUN: Cell<bool> = const { Cell::new(false) };
}

/// Says of the [`Detachable`] that is being polled that it is to be completed from here on.
pub(crate) fn begin() {
    IS_BEGUN.set(true);
}

/// A future that can go on without its caller.
pub(crate) trait Detach: Future {
    /// Hands it to the runtime, where it has until the deadline.
    fn detach(self: Pin<Box<Self>>, runtime: &Handle, detached: Detached);
}

impl<F: Future + Send + 'static> Detach for F {
    fn detach(self: Pin<Box<Self>>, runtime: &Handle, detached: Detached) {
        runtime.spawn(async move {
            let output = timeout_at(detached.deadline, self).await;
            // A response whose body is still being recorded asks for a permit of its own.
            drop(detached);
            drop(output);
        });
    }
}

/// A future that completes on the runtime if it is dropped once it has said that it has [begun](begin).
pub(crate) struct Detachable<F: Detach + ?Sized> {
    future: Option<Pin<Box<F>>>,
    is_begun: bool,
    detachments: Arc<Detachments>,
}

impl<F: Detach + ?Sized> Detachable<F> {
    pub(crate) fn new(future: Pin<Box<F>>, detachments: &Arc<Detachments>) -> Self {
        Self { future: Some(future), is_begun: false, detachments: Arc::clone(detachments) }
    }
}

impl<F: Detach + ?Sized> Future for Detachable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out while it is polled: if it panics it is dropped with the panic, and the runtime
        // is never handed a future that has panicked.
        let mut future = self.future.take().expect("polled after it completed");
        let polling = Polling::of(self.is_begun);
        let polled = future.as_mut().poll(cx);
        self.is_begun = IS_BEGUN.get();
        drop(polling);
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl<F: Detach + ?Sized> Drop for Detachable<F> {
    fn drop(&mut self) {
        let Some(future) = self.future.take().filter(|_| self.is_begun) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        if let Some(detached) = self.detachments.begin() {
            future.detach(&runtime, detached);
        }
    }
}

/// Keeps what another is polled within from being taken to have begun what that has: a layer may
/// be inside another.
struct Polling {
    outer: bool,
}

impl Polling {
    fn of(is_begun: bool) -> Self {
        Self { outer: IS_BEGUN.replace(is_begun) }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        IS_BEGUN.set(self.outer);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    #[track_caller]
    fn check(detachments: &Detachments, free: bool) {
        assert_eq!(detachments.begin().is_some(), free);
    }

    fn one() -> Arc<Detachments> {
        let metrics = Arc::new(Metrics::new(Vec::new()));
        Arc::new(Detachments::new(1, Duration::from_secs(30), metrics))
    }

    #[tokio::test]
    async fn what_has_begun_within_another_goes_on_without_it() {
        let (inner, outer) = (one(), one());
        let begun = Box::pin(async {
            begin();
            pending::<()>().await;
        });
        let within = Detachable::new(begun, &inner);
        let mut waiting = Detachable::new(Box::pin(within), &outer);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut waiting).poll(cx))).await;
        assert!(polled.is_pending());
        drop(waiting);
        check(&inner, false);
        check(&outer, true);
    }

    #[tokio::test]
    async fn what_has_not_begun_is_dropped_whatever_has_begun_before() {
        let detachments = one();
        begin();
        let mut waiting = Detachable::new(Box::pin(pending::<()>()), &detachments);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut waiting).poll(cx))).await;
        assert!(polled.is_pending());
        drop(waiting);
        check(&detachments, true);
    }
}
