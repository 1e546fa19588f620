//! Work that outlives its caller.
//!
//! A fill or a write whose caller goes away is handed to the runtime and completes, within a bound
//! on how many there are and how long each takes. This is the one place that spawns on drop.

use std::{
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

/// A future that completes on the runtime if it is dropped once begun.
pub(crate) struct Detachable<F: Future + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    is_begun: bool,
    detachments: Arc<Detachments>,
}

impl<F: Future + Send + 'static> Detachable<F> {
    pub(crate) fn new(future: F, detachments: &Arc<Detachments>) -> Self {
        let detachments = Arc::clone(detachments);
        Self { future: Some(Box::pin(future)), is_begun: false, detachments }
    }
}

impl<F: Future + Send + 'static> Future for Detachable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.is_begun = true;
        // Taken out while it is polled: if it panics it is dropped with the panic, and the runtime
        // is never handed a future that has panicked.
        let mut future = self.future.take().expect("polled after it completed");
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl<F: Future + Send + 'static> Drop for Detachable<F> {
    fn drop(&mut self) {
        let Some(future) = self.future.take().filter(|_| self.is_begun) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(detached) = self.detachments.begin() else { return };
        runtime.spawn(async move {
            let output = timeout_at(detached.deadline, future).await;
            // A response whose body is still being recorded asks for a permit of its own.
            drop(detached);
            drop(output);
        });
    }
}
