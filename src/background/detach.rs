//! Completion of work whose caller goes away.
//!
//! A fill or a write that loses its caller is handed to the runtime and completes, within a bound on
//! their number and on the time of each. This is the one place that spawns on drop.

use std::{
    collections::BTreeSet,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Notify;

use super::runtime::runtime;
use crate::{
    clock::{Instant, now, timeout_at},
    metrics::Metrics,
    sync::{Mutex, lock},
};

/// Bound on work without a caller.
#[derive(Debug)]
pub(crate) struct Detachments {
    permits: Mutex<Permits>,
    count: usize,
    limit: Duration,
    /// Notified of each permit that is given back.
    returned: Notify,
    /// Set once work without a caller is given up: at the end of a drain.
    is_closed: AtomicBool,
    closing: Arc<Notify>,
    metrics: Arc<Metrics>,
}

/// Permits that are not given back. One that is over counts no more: its work may be in a runtime that
/// nobody drives.
#[derive(Debug, Default)]
struct Permits {
    /// Deadlines, each with the number of its permit.
    deadlines: BTreeSet<(Instant, u64)>,
    last: u64,
}

/// Permit to go on without a caller until a deadline.
#[derive(Debug)]
pub(crate) struct DetachedPermit {
    detachments: Arc<Detachments>,
    deadline: Instant,
    number: u64,
}

impl Detachments {
    pub(crate) fn new(count: usize, limit: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            permits: Mutex::default(),
            count,
            limit,
            returned: Notify::new(),
            is_closed: AtomicBool::new(false),
            closing: Arc::default(),
            metrics,
        }
    }

    /// Returns the number of fills and writes that go on without a caller.
    pub(crate) fn len(&self) -> usize {
        lock(&self.permits).in_force(now())
    }

    /// Waits until nothing goes on without a caller. Returns whether that is so at the deadline.
    pub(crate) async fn are_done(&self, deadline: Instant) -> bool {
        loop {
            let returned = self.returned.notified();
            if self.len() == 0 {
                return true;
            }
            if timeout_at(deadline, returned).await.is_err() {
                return self.len() == 0;
            }
        }
    }

    /// Drops the work that goes on without a caller, now and from now on. A write then has an unknown
    /// outcome.
    pub(crate) fn give_up(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
    }

    /// Returns a permit to go on, or `None` where too much does already.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<DetachedPermit> {
        if self.is_closed.load(Ordering::SeqCst) {
            return None;
        }
        let now = now();
        let mut permits = lock(&self.permits);
        if permits.in_force(now) >= self.count {
            self.metrics.detached_dropped();
            return None;
        }
        permits.last += 1;
        let (deadline, number) = (now + self.limit, permits.last);
        permits.deadlines.insert((deadline, number));
        Some(DetachedPermit { detachments: Arc::clone(self), deadline, number })
    }
}

impl Permits {
    /// Returns the number of permits that are in force, and drops the others.
    fn in_force(&mut self, now: Instant) -> usize {
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline < now) {
            self.deadlines.pop_first();
        }
        self.deadlines.len()
    }
}

impl DetachedPermit {
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Drop for DetachedPermit {
    fn drop(&mut self) {
        lock(&self.detachments.permits).deadlines.remove(&(self.deadline, self.number));
        self.detachments.returned.notify_waiters();
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
        let Some(runtime) = runtime() else { return };
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
        let metrics = Arc::new(Metrics::new("cache", Vec::new(), 0));
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
