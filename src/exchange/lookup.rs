//! Look-ups, and what a request does about an entry that was found.

use std::{ops::ControlFlow, sync::Arc};

use http::{HeaderMap, Response};
use http_body::Body;

use super::{
    assess::{Assessment, Circumstances, Origin, Purpose, Question, assess},
    cache::Cache,
    request::Read,
    respond::Reuse,
};
use crate::{
    body::ResponseBody,
    clock::{Instant, now},
    entry::Entry,
    key::{Nominated, Token},
    metrics::outcome::{Alone, Bypass, ForwardReason, Unshared},
    policy::Wishes,
    store::{Lookup, Store},
};

/// Course that a request takes because of an entry.
pub(crate) enum Verdict {
    /// It answers.
    Answer(Reuse),
    /// It answers, and the origin is asked about it afterwards.
    Refresh(Reuse),
    /// The request is forwarded by itself.
    Forward(Alone),
    /// The origin is asked for this reason; the entry is kept if it can be revalidated or may stand in.
    Keep(ForwardReason, Option<Arc<Entry>>),
    /// The request looks again by these fields.
    Vary(Nominated),
    Nothing,
}

/// End of a search for a response.
pub(crate) enum Ended<B: Body> {
    /// A stored response answers.
    Stored(Reuse),
    /// A stored response answers, and the origin is asked about it afterwards.
    Refresh(Reuse),
    /// The response of another request's flight answers.
    Collapsed(Response<ResponseBody<B>>),
    /// Nothing is stored, and the request must not be forwarded (`only-if-cached`).
    Unsatisfied,
    /// The request is forwarded by itself.
    Unshared(Unshared),
}

impl<B: Body> From<Alone> for Ended<B> {
    fn from(reason: Alone) -> Self {
        Self::Unshared(Unshared::Alone(reason))
    }
}

impl<B: Body> From<Bypass> for Ended<B> {
    fn from(reason: Bypass) -> Self {
        Self::Unshared(Unshared::Bypassed(reason))
    }
}

/// Progress of a search for a response.
#[derive(Debug)]
pub(crate) struct Search {
    pub(super) began: Instant,
    /// End of all waiting; `None` before the first turn.
    pub(super) deadline: Option<Instant>,
    /// Token of a fill elsewhere that holds the lease, if the last look found one.
    pub(crate) held: Option<Token>,
    pub(super) was_abandoned: bool,
    pub(super) has_varied: bool,
}

impl Search {
    /// Creates a search that waits for as long as its read may.
    pub(crate) fn new() -> Self {
        let (began, deadline, held) = (now(), None, None);
        Self { began, deadline, held, was_abandoned: false, has_varied: false }
    }

    /// Creates a search that waits for nothing.
    pub(crate) fn without_waiting() -> Self {
        Self { deadline: Some(now()), ..Self::new() }
    }
}

impl<St: Store> Cache<St> {
    /// Decides about an entry that was just found by a peek or a look-up. An entry that was kept across an
    /// await is [`stand_in`](Read::stand_in)'s: its fence must be asked first.
    pub(crate) fn consider(
        &self,
        route: usize,
        wishes: &Wishes,
        purpose: Purpose,
        entry: Arc<Entry>,
    ) -> Verdict {
        let now = now();
        let question = Question { wishes, early: Some(&self.routes[route].early), now, purpose };
        let keeps_stale = || self.rule(route).keeps_stale();
        match assess(&entry, &question, || self.circumstances(&entry)) {
            Assessment::Fresh { is_due: false } => Verdict::Answer(Reuse::new(entry, None, now)),
            Assessment::Fresh { is_due: true } => Verdict::Refresh(Reuse::new(entry, None, now)),
            Assessment::Unacceptable => Verdict::Keep(ForwardReason::Request, Some(entry)),
            Assessment::Stale { reason: Some(reason) } if keeps_stale() => {
                Verdict::Refresh(Reuse::new(entry, Some(reason), now))
            }
            Assessment::Stale { .. } => {
                Verdict::Keep(ForwardReason::Stale, Some(entry).filter(|_| keeps_stale()))
            }
            Assessment::Pass => Verdict::Forward(Alone::Pass),
            Assessment::Varies(nominated) => Verdict::Vary(nominated.clone()),
            Assessment::Nothing => Verdict::Nothing,
        }
    }

    /// Reads the circumstances of a stale entry that was just found.
    fn circumstances(&self, entry: &Entry) -> Circumstances {
        let origin = match self.revalidations.is_paused(&entry.slot().variant) {
            true => Origin::BackedOff,
            false => Origin::Unasked,
        };
        Circumstances { is_current: entry.is_current(self.store.sequence()), origin }
    }

    /// Looks for the response of a read; looks once more if a note names other fields.
    pub(crate) async fn look<B: Body>(
        &self,
        search: &mut Search,
        read: &mut Read,
        fields: &HeaderMap,
    ) -> ControlFlow<Ended<B>> {
        let mut found = self.store.lookup(&read.slot).await;
        if let Lookup::Found(note) = &found
            && let Some(nominated) = note.as_nominated()
        {
            read.vary_by(nominated, &nominated.values(fields, &self.identity.secret));
            found = self.store.lookup(&read.slot).await;
        }
        match found {
            Lookup::Found(entry) => self.found(read, entry)?,
            Lookup::Held(token) => search.held = Some(token),
            Lookup::Unavailable if !read.asks.wishes.only_if_cached => {
                return ControlFlow::Break(Bypass::Store.into());
            }
            Lookup::Unavailable | Lookup::Absent => {}
        }
        Self::miss(read)
    }

    /// Answers with the entry that a look-up found, or keeps it.
    fn found<B: Body>(&self, read: &mut Read, entry: Arc<Entry>) -> ControlFlow<Ended<B>> {
        let purpose = if read.is_background { Purpose::Refresh } else { Purpose::Answer };
        match self.consider(read.route, &read.asks.wishes, purpose, entry) {
            Verdict::Answer(reuse) => return ControlFlow::Break(Ended::Stored(reuse)),
            Verdict::Refresh(reuse) => {
                read.reason = ForwardReason::Stale;
                read.seen = Some(Arc::clone(reuse.entry()));
                return ControlFlow::Break(Ended::Refresh(reuse));
            }
            Verdict::Forward(alone) => return ControlFlow::Break(alone.into()),
            Verdict::Keep(reason, seen) => {
                read.reason = reason;
                read.seen = seen;
            }
            Verdict::Vary(_) | Verdict::Nothing => {}
        }
        ControlFlow::Continue(())
    }

    /// Ends a read that has found no answer and must not fill.
    fn miss<B: Body>(read: &Read) -> ControlFlow<Ended<B>> {
        let asks = &read.asks;
        if asks.wishes.only_if_cached {
            return ControlFlow::Break(Ended::Unsatisfied);
        }
        let alone = if asks.is_head {
            Alone::Head
        } else if asks.range.is_some() {
            Alone::Range
        } else if asks.wishes.no_store {
            Alone::NoStore
        } else {
            return ControlFlow::Continue(());
        };
        ControlFlow::Break(alone.into())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::{super::assess::tests::response_of, *};
    use crate::{CacheRoute, MemoryStore, SupportCacheLayer, key::Strength};

    /// A store over a network may still return an entry that this process has invalidated.
    #[tokio::test(start_paused = true)]
    async fn a_stale_entry_that_was_invalidated_does_not_answer() {
        let route = CacheRoute::get("/").key("a").ttl(Duration::from_secs(60));
        let route = route.stale_while_revalidate(Duration::from_secs(10));
        let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
        let cache = layer.cache();
        let entry = Arc::new(response_of(cache.store.sequence().begin()));
        let consider = || cache.consider(0, &Wishes::NONE, Purpose::Answer, Arc::clone(&entry));
        advance(Duration::from_secs(61)).await;
        assert!(matches!(consider(), Verdict::Refresh(_)));
        cache.store.invalidate(&entry.slot().key.clone().into(), Strength::Hard).await.unwrap();
        assert!(matches!(consider(), Verdict::Keep(ForwardReason::Stale, Some(_))));
    }
}
