//! Completion of work whose caller goes away.
//!
//! A fill or a write that loses its caller is handed to the runtime and completes, within a bound on
//! their number and on the time of each. This is the one place that spawns on drop.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};

use crate::{
    clock::{Instant, now, timeout_at},
    metrics::Metrics,
};

/// Bound on work without a caller.
#[derive(Debug)]
pub(crate) struct Detachments {
    permits: Arc<Semaphore>,
    count: usize,
    limit: Duration,
    /// Set once work without a caller is given up: at the end of a drain.
    is_closed: AtomicBool,
    closing: Arc<Notify>,
    metrics: Arc<Metrics>,
}

/// Permit to go on without a caller until a deadline.
#[derive(Debug)]
pub(crate) struct DetachedPermit {
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
}

impl Detachments {
    pub(crate) fn new(count: usize, limit: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(count)),
            count,
            limit,
            is_closed: AtomicBool::new(false),
            closing: Arc::default(),
            metrics,
        }
    }

    /// Returns the number of fills and writes that go on without a caller.
    pub(crate) fn len(&self) -> usize {
        self.count.saturating_sub(self.permits.available_permits())
    }

    /// Waits until nothing goes on without a caller. Returns whether that is so at the deadline.
    pub(crate) async fn are_done(&self, deadline: Instant) -> bool {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        // A closed semaphore cannot be: it is never closed.
        timeout_at(deadline, self.permits.acquire_many(all)).await.is_ok()
    }

    /// Drops the work that goes on without a caller, now and from now on. A write then has an unknown
    /// outcome.
    pub(crate) fn give_up(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
    }

    /// Returns a permit to go on, or `None` where too much does already.
    pub(crate) fn begin(&self) -> Option<DetachedPermit> {
        if self.is_closed.load(Ordering::SeqCst) {
            return None;
        }
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Some(DetachedPermit { _permit: permit, deadline: now() + self.limit }),
            Err(_) => {
                self.metrics.detached_dropped();
                None
            }
        }
    }
}

impl DetachedPermit {
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// Future that completes on the runtime if it is dropped after its first poll.
///
/// Dropped before, it has done nothing and is dropped with its caller.
pub(crate) struct Detachable<F: Future + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    has_begun: bool,
    detachments: Arc<Detachments>,
}

impl<F: Future + Send + 'static> Detachable<F> {
    pub(crate) fn new(future: F, detachments: &Arc<Detachments>) -> Self {
        let future = Some(Box::pin(future));
        Self { future, has_begun: false, detachments: Arc::clone(detachments) }
    }
}

impl<F: Future + Send + 'static> Future for Detachable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out while it is polled: if it panics it is dropped with the panic, and the runtime
        // is never handed a future that has panicked.
        let mut future = self.future.take().expect("polled after it completed");
        let polled = future.as_mut().poll(cx);
        self.has_begun = true;
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl<F: Future + Send + 'static> Drop for Detachable<F> {
    fn drop(&mut self) {
        let Some(future) = self.future.take().filter(|_| self.has_begun) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        // Registered before the permit is asked for, so that no drain is missed.
        let closing = Arc::clone(&self.detachments.closing).notified_owned();
        let Some(permit) = self.detachments.begin() else { return };
        runtime.spawn(async move {
            let (mut closing, mut work) =
                (pin!(closing), pin!(timeout_at(permit.deadline, future)));
            let output = poll_fn(|cx| match closing.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => work.as_mut().poll(cx).map(Some),
            });
            let output = output.await;
            // A response whose body is still being recorded takes a permit of its own.
            drop(permit);
            drop(output);
        });
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::pending;

    use super::*;

    fn one() -> Arc<Detachments> {
        let metrics = Arc::new(Metrics::new("cache", Vec::new()));
        Arc::new(Detachments::new(1, Duration::from_secs(30), metrics))
    }

    #[tokio::test]
    async fn a_future_that_has_begun_goes_on_without_its_caller() {
        let detachments = one();
        let mut waiting = Detachable::new(pending::<()>(), &detachments);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut waiting).poll(cx))).await;
        assert!(polled.is_pending());
        drop(waiting);
        assert!(detachments.begin().is_none());
    }

    #[tokio::test]
    async fn a_future_that_has_not_begun_is_dropped() {
        let detachments = one();
        drop(Detachable::new(pending::<()>(), &detachments));
        assert!(detachments.begin().is_some());
    }
}
