//! Invalidations by this process, and the marks that those of all processes leave.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Value, cmd};
use tokio::time::sleep;

use super::{
    link::bulk,
    near::Near,
    outbox::{InvalidationScope, Ticket},
    state::StoreState,
};
use crate::{
    clock::now,
    error::Pending,
    key::{Slot, Subject},
};

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
        let (scope, state) = (&self.scope, &self.state);
        let sent = state.outbox.send(scope, &state.link, &connection, scope.strength(), window);
        let sent = Box::pin(sent);
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

impl StoreState {
    /// Returns the time since the last invalidation of a slot by any process; zero if the server does not say.
    pub(super) async fn since_invalidation(&self, slot: &Slot) -> Option<Duration> {
        let own = self.sequence.recent().since(slot);
        let Some(marked) = self.marked(slot).await else { return Some(Duration::ZERO) };
        own.into_iter().chain(marked).min()
    }

    /// Returns the times since the invalidations of a slot whose marks the server still has; `None` if it does
    /// not say.
    async fn marked(&self, slot: &Slot) -> Option<Vec<Duration>> {
        let connection = self.link.connection()?;
        let mut read = cmd("MGET");
        read.arg(self.link.settings.invalidation_marks(slot));
        let reply = self.link.look(&connection, &read).await.ok()?;
        let Value::Array(marks) = reply else { return None };
        let now = now();
        let since = |mark: Bytes| {
            let millis = std::str::from_utf8(&mark).ok().and_then(|text| text.parse().ok());
            let at = millis.and_then(|millis| self.link.local_time(&connection, millis));
            // A foreign value says that there was something.
            at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
        };
        Some(marks.into_iter().filter_map(bulk).map(since).collect())
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
