//! Flights and leases: a read follows a fill that is on its way, or takes the right to one.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use http::HeaderMap;
use http_body::Body;
use tokio::time::timeout_at;

use super::{
    assess::{Assessment, Circumstances, Origin, Purpose, Question, assess},
    cache::Cache,
    fill::Filling,
    lookup::{Ended, Search},
    request::Read,
    respond::{Reuse, SharedResponse},
};
use crate::{
    clock::{Instant, now},
    entry::Entry,
    flight::{Follower, Lead, Settled, Turn},
    key::Token,
    metrics::outcome::{Alone, Bypass},
    policy::Wishes,
    route::Coalescing,
    store::{Begin, Lookup, Store, timeout::bounded},
};

/// Result of one turn.
pub(crate) enum Step<St: Store, B: Body> {
    /// Look again.
    Again,
    Fill(Filling<St>),
    Ended(Ended<B>),
}

impl<St: Store> Cache<St> {
    /// Follows a fill, or takes the right to one. Never looks: the loop around it does.
    pub(crate) async fn join<B: Body>(
        self: &Arc<Self>,
        search: &mut Search,
        read: &mut Read,
        fields: &HeaderMap,
    ) -> Step<St, B> {
        let wait = || self.follower_wait.min(self.patience(read).unwrap_or(Duration::MAX));
        let deadline = *search.deadline.get_or_insert_with(|| now() + wait());
        let held = search.held.take();
        let next = match (self.turn(read, held), held) {
            (None, _) => ControlFlow::Break(Alone::Held.into()),
            (Some(Turn::Crowd), _) => ControlFlow::Break(Alone::Crowd.into()),
            (Some(Turn::Follow(flight)), _) => {
                let followed = timeout_at(deadline, self.follow(flight, search, read, fields));
                followed.await.unwrap_or(ControlFlow::Break(Alone::Deadline.into()))
            }
            // Boxed: it is the longest wait by far, and rare.
            (Some(Turn::Lead(lead)), Some(token)) => {
                Box::pin(self.wait_elsewhere(lead, read, token, deadline)).await
            }
            (Some(Turn::Lead(lead)), None) => match self.begin_fill(lead, read).await {
                Begun::Filling(filling) => return Step::Fill(filling),
                Begun::Elsewhere(token) => {
                    search.held = Some(token);
                    ControlFlow::Continue(())
                }
                Begun::Ended(ended) => ControlFlow::Break(ended),
            },
        };
        match next {
            ControlFlow::Break(ended) => Step::Ended(ended),
            ControlFlow::Continue(()) if now() < deadline => Step::Again,
            ControlFlow::Continue(()) => Step::Ended(Alone::Deadline.into()),
        }
    }

    /// Returns the turn of a read. `held` is the fill that has the right to the slot, if the store has
    /// shown one; `None` if there is one and the read waits for none.
    fn turn(&self, read: &Read, held: Option<Token>) -> Option<Turn<SharedResponse>> {
        let sequence = self.store.sequence();
        let token = held.or_else(|| self.store.token());
        // A response that is new enough for others is not for a request that wants a newer one.
        if read.leads_alone() || self.rule(read.route).coalescing == Coalescing::Off {
            let lead = || Turn::Lead(self.flights.lead_alone(&read.slot, token, sequence.begin()));
            return held.is_none().then(lead);
        }
        // A request that began after an invalidation never joins an older flight.
        let may_join = |fence| sequence.is_slot_current(&read.slot, fence);
        Some(self.flights.enter(&read.slot, token, may_join, || sequence.begin()))
    }

    /// Waits for what a flight settles with, and for the beginning of a body that is on its way.
    async fn follow<B: Body>(
        &self,
        flight: Follower<SharedResponse>,
        search: &mut Search,
        read: &mut Read,
        fields: &HeaderMap,
    ) -> ControlFlow<Ended<B>> {
        match flight.settled().await {
            Settled::Over => return ControlFlow::Continue(()),
            Settled::Declined => return ControlFlow::Break(Alone::Declined.into()),
            Settled::Filled(shared) => {
                // Made for other values of fields that were not known to matter: look again, by
                // these, once.
                if read.slot.variant != shared.variant {
                    let values = shared.nominated.values(fields, &self.identity.secret);
                    read.vary_by(&shared.nominated, &values);
                }
                if read.slot.variant != shared.variant {
                    if std::mem::replace(&mut search.has_varied, true) {
                        return ControlFlow::Break(Alone::Declined.into());
                    }
                    return ControlFlow::Continue(());
                }
                if let Some(body) = shared.open(&read.asks).await {
                    let response = shared.respond(body, self.context(read.route), &read.asks);
                    return ControlFlow::Break(Ended::Collapsed(response));
                }
            }
            Settled::Abandoned => {}
        }
        // The fill was lost. One follower leads; a second lost fill in a row is enough.
        if std::mem::replace(&mut search.was_abandoned, true) {
            return ControlFlow::Break(Alone::Declined.into());
        }
        ControlFlow::Continue(())
    }

    /// Waits for another process's fill, for all requests of this process that wait for it.
    async fn wait_elsewhere<B: Body>(
        &self,
        lead: Lead<SharedResponse>,
        read: &Read,
        token: Token,
        deadline: Instant,
    ) -> ControlFlow<Ended<B>> {
        let lead = lead.awaiting();
        let entry = match timeout_at(deadline, self.store.wait(&read.slot, token)).await {
            Err(_) => return ControlFlow::Break(Alone::Deadline.into()),
            Ok(Lookup::Unavailable) => return ControlFlow::Break(Bypass::Store.into()),
            Ok(Lookup::Held(_) | Lookup::Absent) => return ControlFlow::Continue(()),
            Ok(Lookup::Found(entry)) => entry,
        };
        // All that wait have read the token before this look no longer found it, so the entry is new
        // enough for all of them.
        let Assessment::Fresh { .. } = assess_fill(&entry, now()) else {
            return ControlFlow::Continue(());
        };
        let Some(shared) = SharedResponse::of(&entry, &read.nominated) else {
            return ControlFlow::Continue(());
        };
        lead.fill(|| shared.clone());
        match shared.open(&read.asks).await {
            Some(body) => {
                let response = shared.respond(body, self.context(read.route), &read.asks);
                ControlFlow::Break(Ended::Collapsed(response))
            }
            None => ControlFlow::Continue(()),
        }
    }

    /// Takes the right to fill; where there is none, the flight is settled.
    async fn begin_fill<B: Body>(
        self: &Arc<Self>,
        lead: Lead<SharedResponse>,
        read: &Read,
    ) -> Begun<St, B> {
        // Asked after the flight took its number: see `Unsettled::enter`.
        if self.store.sequence().unsettled().contains(&read.slot) {
            lead.decline();
            return Begun::Ended(Bypass::Unsettled.into());
        }
        let begin = self.store.begin(lead.slot(), lead.token(), read.seen.as_deref());
        match bounded(begin).await.unwrap_or(Begin::Unavailable) {
            Begin::Granted(lease) => {
                let (cache, route, requested) = (Arc::clone(self), read.route, now());
                Begun::Filling(Filling { cache, lead, lease, route, requested })
            }
            Begin::Found(entry) => Begun::Ended(self.share_found(entry, lead, read)),
            // The token of this flight was never read by others, so nothing follows it.
            Begin::Held(token) => Begun::Elsewhere(token),
            Begin::Unavailable => {
                lead.decline();
                Begun::Ended(Bypass::Store.into())
            }
        }
    }

    /// Shares an entry that was stored just before the fill could begin.
    fn share_found<B: Body>(
        &self,
        entry: Arc<Entry>,
        lead: Lead<SharedResponse>,
        read: &Read,
    ) -> Ended<B> {
        let now = now();
        // Requests that joined know the tags of the request, and no other.
        lead.close();
        match (assess_fill(&entry, now), SharedResponse::of(&entry, &read.nominated)) {
            (Assessment::Fresh { .. }, Some(shared)) => {
                match entry.is_current(self.store.sequence()) {
                    true => lead.fill(|| shared),
                    false => drop(lead),
                }
                Ended::Stored(Reuse::new(entry, None, now))
            }
            _ => {
                lead.decline();
                Alone::Pass.into()
            }
        }
    }
}

/// Assesses an entry that was stored after the request had looked. It is as new as what the origin
/// would send the request now, so the request's directives do not apply.
fn assess_fill(entry: &Entry, now: Instant) -> Assessment<'_> {
    let question = Question { wishes: &Wishes::NONE, early: None, now, purpose: Purpose::Answer };
    // A stale one never answers here.
    let circumstances = || Circumstances { is_current: false, origin: Origin::Unasked };
    assess(entry, &question, circumstances)
}

/// Result of an attempt to fill.
enum Begun<St: Store, B: Body> {
    Filling(Filling<St>),
    /// Another fill has the right.
    Elsewhere(Token),
    Ended(Ended<B>),
}
