//! Invalidations by this process.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    near::Near,
    outbox::{InvalidationScope, Ticket},
    state::StoreState,
};
use crate::{error::Pending, key::Subject};

/// Call of an invalidation. Dropped before the server has acknowledged it, it is due.
pub(super) struct InvalidationCall {
    state: Arc<StoreState>,
    scope: InvalidationScope,
    ticket: Option<Ticket>,
}

impl InvalidationCall {
    /// Invalidates in this process, and enters the call to the server.
    pub(super) fn new(state: &Arc<StoreState>, scope: InvalidationScope, window: Duration) -> Self {
        scope.forget(&state.near);
        let ticket = Some(state.outbox.enter(scope.clone(), window));
        Self { state: Arc::clone(state), scope, ticket }
    }

    /// Invalidates at the server, and waits until every process sees it. A soft one that fails is done in
    /// full later.
    pub(super) async fn run(self) -> Result<(), Pending> {
        let connection = self.state.link.connection().ok_or(Pending)?;
        // Boxed: a fill has room for this, and mostly does not need it.
        let window = self.ticket.as_ref().map_or(Duration::ZERO, |ticket| ticket.window);
        let (scope, link) = (&self.scope, &self.state.link);
        let sent = Box::pin(scope.send(link, &connection, scope.strength(), window));
        let later = sent.await.map_err(|_| Pending)?;
        self.acknowledge(later);
        if !later.is_zero() {
            sleep(later).await;
        }
        Ok(())
    }

    fn acknowledge(mut self, later: Duration) {
        // Copies that were read between the call and the server's removal.
        self.scope.forget(&self.state.near);
        if let Some(ticket) = self.ticket.take() {
            ticket.acknowledge(later);
        }
    }
}

impl Drop for InvalidationCall {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            // From here on the key is not read, and copies that were read before are removed.
            drop(ticket);
            self.scope.forget(&self.state.near);
        }
    }
}

impl InvalidationScope {
    /// Removes the copies that this process has of what is invalidated.
    fn forget(&self, near: &Near) {
        match self {
            Self::Of { subject: Subject::Key(key), .. } => near.invalidate(key),
            Self::Of { subject: Subject::Tag(tag), .. } => near.invalidate_tag(tag),
            Self::All => near.invalidate_all(),
        }
    }
}
