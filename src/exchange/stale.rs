//! Using what is no longer fresh (RFC 9111 §4.2.4, RFC 5861).
//!
//! Each time it is asked anew whether that is allowed: the window that the response was stored with,
//! and that nothing has invalidated it since.

use std::{ops::ControlFlow, pin::Pin, time::Duration};

use http::{Response, StatusCode};
use http_body::Body;
use tokio::time::timeout;

use crate::{
    background::detach::Detachable,
    body::ResponseBody,
    clock::now,
    entry::{Entry, Windows},
    exchange::cache::Shared,
    exchange::fill::Filling,
    exchange::request::Read,
    exchange::respond::{Fill, stale},
    metrics::outcome::{Forward, Outcome, Stale},
    policy::Wishes,
    store::Store,
};

impl Read {
    /// Returns the stale response that may answer the request, if there is one and `window` allows it.
    fn stale<St: Store>(
        &self,
        shared: &Shared<St>,
        window: fn(&Windows) -> Duration,
    ) -> Option<&Entry> {
        let entry = self.seen.as_deref()?;
        let (head, _) = entry.as_response()?;
        let is_allowed = self.forward == Forward::Stale
            && self.asks.wishes == Wishes::default()
            && now() < head.fresh_until() + window(&head.windows())
            && entry.is_current(shared.store.sequence());
        is_allowed.then_some(entry)
    }

    /// Whether what has been found may be used while it is stale, now or some time.
    pub(crate) fn may_be_stale(&self) -> bool {
        let stored = self.seen.as_ref().and_then(|entry| entry.as_response());
        stored.is_some_and(|(head, _)| head.windows().allow_stale())
    }
}

impl<St: Store> Shared<St> {
    /// Answers with what is stale at once. It is to be refreshed in the background, where the origin
    /// has not just failed.
    pub(crate) fn stale_at_once<B: Body>(&self, read: &Read) -> Option<Response<ResponseBody<B>>> {
        if !read.may_be_stale() {
            return None;
        }
        let (entry, why) = match read.stale(self, |windows| windows.while_revalidate) {
            Some(entry) => (entry, Stale::Revalidate),
            None if self.refreshes.is_paused(&read.slot.variant) => {
                (read.stale(self, |windows| windows.if_error)?, Stale::Error)
            }
            None => return None,
        };
        self.stale_for(read, entry, why)
    }

    /// Answers with what is stale because the origin takes long.
    pub(crate) fn stale_for_now<B: Body>(&self, read: &Read) -> Option<Response<ResponseBody<B>>> {
        let entry = read.stale(self, |windows| windows.if_error)?;
        self.stale_for(read, entry, Stale::Timeout)
    }

    /// Returns how long a read waits before it takes what is stale.
    pub(crate) fn patience(&self, read: &Read) -> Option<Duration> {
        let limit = self.table.read_rules()[read.route].soft_timeout?;
        read.stale(self, |windows| windows.if_error).map(|_| limit)
    }

    /// Waits for the fill of a read, for as long as that has patience: then what is stale answers, and
    /// the fill goes on without its caller.
    pub(crate) fn filled_within<B, E, F>(
        &self,
        patience: Duration,
        read: &Read,
        fill: Pin<Box<F>>,
    ) -> Pin<Box<impl Future<Output = F::Output>>>
    where
        B: Body,
        F: Future<Output = Result<Response<ResponseBody<B>>, E>> + Send + 'static,
    {
        let mut fill = Detachable::new(fill, &self.detachments);
        Box::pin(async move {
            match timeout(patience, &mut fill).await {
                Ok(answer) => answer,
                Err(_) => match self.stale_for_now(read) {
                    Some(response) => Ok(response),
                    None => fill.await,
                },
            }
        })
    }

    fn stale_for<B: Body>(
        &self,
        read: &Read,
        entry: &Entry,
        why: Stale,
    ) -> Option<Response<ResponseBody<B>>> {
        let (found, telling) = (entry.as_response()?, self.telling(read.route));
        let outcome = Outcome::Stale { over: found.0.staleness(telling.now), why };
        Some(stale(found, outcome, telling, &read.asks))
    }
}

/// Whether a status is an error that what is stale may stand in for (RFC 5861 §4).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

impl<St: Store> Filling<St> {
    /// Notes how the origin has answered, `None` if not at all, and answers with what is stale where
    /// it has failed and that is allowed; all who wait share it.
    pub(crate) fn rescue<B: Body>(
        self,
        read: &Read,
        status: Option<StatusCode>,
    ) -> ControlFlow<Response<ResponseBody<B>>, Self> {
        if !read.may_be_stale() && !read.is_background {
            return ControlFlow::Continue(self);
        }
        let variant = &read.slot.variant;
        if status.is_some_and(|status| !is_failure(status)) {
            self.shared.refreshes.answered(variant);
            return ControlFlow::Continue(self);
        }
        self.shared.refreshes.failed(variant);
        // What is asked from here on holds for all who wait.
        self.lead.close();
        let Some(entry) = read.stale(&self.shared, |windows| windows.if_error) else {
            return ControlFlow::Continue(self);
        };
        let (Some(found), Some(fill)) = (entry.as_response(), Fill::of(entry, &read.nominated))
        else {
            return ControlFlow::Continue(self);
        };
        let telling = self.shared.telling(read.route);
        let outcome = Outcome::Rescued { status };
        let response = stale(found, outcome, telling, &read.asks);
        // Over a store that processes share, nobody here can tell whether another has invalidated a
        // group before some of those who wait came: they look for themselves.
        let may_share = self.lead.token().is_none() || !self.has_tags_beside(&entry.slot().tags);
        match may_share {
            true => self.fill_with(fill),
            false => drop(self),
        }
        ControlFlow::Break(response)
    }
}
