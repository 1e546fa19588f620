//! An invalidation by this process.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    link::Link,
    pending::{Target, Ticket},
};
use crate::error::Pending;

/// One call of an invalidation. Dropped before the server has acknowledged it, it is due.
pub(super) struct Call {
    link: Arc<Link>,
    target: Target,
    ticket: Option<Ticket>,
}

impl Call {
    /// What happens in this process has happened when this returns.
    pub(super) fn new(link: &Arc<Link>, target: Target) -> Self {
        link.forget(&target);
        let ticket = Some(link.pending.enter(target.clone(), &link.wake));
        Self { link: Arc::clone(link), target, ticket }
    }

    /// Tells the server, and waits `later` than it has done it.
    pub(super) async fn run(self, later: Duration) -> Result<(), Pending> {
        let connection = self.link.connection().ok_or(Pending)?;
        // Boxed: a fill has room for this, and mostly does not need it.
        let told = Box::pin(self.link.invalidate(&connection, &self.target));
        told.await.map_err(|_| Pending)?;
        self.acknowledge();
        if !later.is_zero() {
            sleep(later).await;
        }
        Ok(())
    }

    /// The same, but what allows stale answers is left for these. What fails is done in full later.
    pub(super) async fn run_softly(self) -> Result<(), Pending> {
        let connection = self.link.connection().ok_or(Pending)?;
        let Target::Softly(key) = &self.target else { return Err(Pending) };
        Box::pin(self.link.outdate(&connection, key)).await.map_err(|_| Pending)?;
        self.acknowledge();
        Ok(())
    }

    fn acknowledge(mut self) {
        // What was read between the call and the server's doing.
        self.link.forget(&self.target);
        if let Some(ticket) = self.ticket.take() {
            ticket.acknowledge();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            // From here on nobody reads the key, and what was read before is forgotten.
            drop(ticket);
            self.link.forget(&self.target);
        }
    }
}
