//! What a write does to the keys and tags that it may have changed.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
};

use http::StatusCode;

use crate::{
    exchange::cache::Shared,
    key::Subject,
    store::timeout::bounded,
    store::{Pending, Store},
};

/// What is known of a write once it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It succeeded (RFC 9111 §4.4: a non-error status is 2xx or 3xx).
    Changed,
    /// It was refused.
    Unchanged,
    /// It may have succeeded, or may succeed yet: a timeout, a server error, no answer at all.
    Unknown,
}

impl Effect {
    pub(crate) fn of(status: StatusCode) -> Self {
        /// nginx's "client closed request", used by proxies that gave up waiting.
        const CLIENT_CLOSED_REQUEST: u16 = 499;
        match status.as_u16() {
            408 | CLIENT_CLOSED_REQUEST | 500.. => Self::Unknown,
            400..=499 => Self::Unchanged,
            _ => Self::Changed,
        }
    }
}

/// A write that has been forwarded. Dropped without a word, its outcome is unknown.
pub(crate) struct PendingWrite<St: Store> {
    shared: Arc<Shared<St>>,
    subjects: Vec<Subject>,
}

impl<St: Store> PendingWrite<St> {
    pub(crate) fn new(shared: Arc<Shared<St>>, subjects: Vec<Subject>) -> Self {
        Self { shared, subjects }
    }

    /// Adds what the write has changed too.
    pub(crate) fn also(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        for subject in subjects {
            if !self.subjects.contains(&subject) {
                self.subjects.push(subject);
            }
        }
    }

    /// Invalidates what the write has changed or may have changed. The store keeps its own budget
    /// and retries by itself, so what it answers changes nothing for the writer.
    pub(crate) async fn settle(mut self, effect: Effect) {
        let subjects = std::mem::take(&mut self.subjects);
        let shared = &self.shared;
        match effect {
            Effect::Unchanged => {}
            Effect::Changed => all(subjects.iter().map(|one| shared.invalidate_subject(one))).await,
            Effect::Unknown => all(subjects.iter().map(|one| shared.invalidate_unknown(one))).await,
        }
    }
}

/// Begins all calls, and waits for them together.
async fn all<F: Future<Output = Result<(), Pending>>>(calls: impl Iterator<Item = F>) {
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let settled = poll_fn(|cx| {
        calls.retain_mut(|call| call.as_mut().poll(cx).is_pending());
        if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    bounded(settled).await;
}

impl<St: Store> Drop for PendingWrite<St> {
    fn drop(&mut self) {
        for subject in &self.subjects {
            // What happens in this process has happened when the call returns.
            drop(self.shared.invalidate_unknown(subject));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_unknown_where_the_origin_may_have_committed() {
        for (status, effect) in [
            (200, Effect::Changed),
            (303, Effect::Changed),
            (400, Effect::Unchanged),
            (404, Effect::Unchanged),
            (408, Effect::Unknown),
            (429, Effect::Unchanged),
            (499, Effect::Unknown),
            (500, Effect::Unknown),
            (504, Effect::Unknown),
            (999, Effect::Unknown),
        ] {
            assert_eq!(Effect::of(StatusCode::from_u16(status).unwrap()), effect, "{status}");
        }
    }
}
