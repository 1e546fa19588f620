//! Invalidations by this process.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    near::Near,
    outbox::{InvalidationScope, Ticket},
    state::StoreState,
};
use crate::{error::Pending, metrics::operations::Operation};

/// Call of an invalidation. Dropped before the server has acknowledged it, it is due.
pub(super) struct InvalidationCall {
    state: Arc<StoreState>,
    scope: InvalidationScope,
    ticket: Option<Ticket>,
}

impl InvalidationCall {
    /// Invalidates in this process, and enters the call to the server.
    pub(super) fn new(state: &Arc<StoreState>, scope: InvalidationScope) -> Self {
        scope.forget(&state.near);
        let ticket = Some(state.outbox.enter(scope.clone()));
        Self { state: Arc::clone(state), scope, ticket }
    }

    /// Invalidates at the server, and waits until every process sees it.
    pub(super) async fn run(self) -> Result<(), Pending> {
        let connection = self.state.link.connection().ok_or(Pending)?;
        // Boxed: a fill has room for this, and mostly does not need it.
        let sent = Box::pin(self.scope.send(&self.state.link, &connection));
        let later = sent.await.map_err(|_| Pending)?;
        self.acknowledge(later);
        if !later.is_zero() {
            sleep(later).await;
        }
        Ok(())
    }

    /// Invalidates softly at the server. If that fails it is done in full later.
    pub(super) async fn run_softly(self) -> Result<(), Pending> {
        let link = &self.state.link;
        let connection = link.connection().ok_or(Pending)?;
        let InvalidationScope::SoftKey(key) = &self.scope else { return Err(Pending) };
        let key = link.settings.key(key);
        let sent = link.ask(&connection, Operation::Invalidate, connection.soft_invalidate(&key));
        Box::pin(sent).await.map_err(|_| Pending)?;
        self.acknowledge(Duration::ZERO);
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
            Self::Key(key) | Self::SoftKey(key) => near.invalidate(key),
            Self::Tag(tag) => near.invalidate_tag(tag),
            Self::All => near.invalidate_all(),
        }
    }
}
