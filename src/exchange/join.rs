//! Flights and leases: a read follows a fill that is on its way, or takes the right to one.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use http::HeaderMap;
use http_body::Body;

use super::{
    assess::{Assessment, Circumstances, Origin, Purpose, Question, assess},
    cache::Cache,
    fill::Filling,
    lookup::{Ended, Search},
    request::{Read, Selection},
    respond::{Reuse, SharedResponse},
};
use crate::{
    background::runtime,
    clock::{Instant, now, recent, timeout_at},
    entry::Entry,
    flight::{Follower, Lead, Settled, Turn},
    key::Token,
    metrics::outcome::{Alone, Bypass, Unshared},
    policy::{Validators, Wishes},
    route::Coalescing,
    store::{Begin, Holder, Lookup, Store, timeout::bounded},
};

/// Result of one turn.
pub(crate) enum Step<St: Store, B: Body> {
    /// Look again.
    Again,
    Fill(Filling<St>),
    Ended(Ended<B>),
}

/// Result of an attempt to fill.
enum Begun<St: Store, B: Body> {
    Filling(Filling<St>),
    /// Another fill has the right, or may have it by now.
    Again(Option<Holder>),
    Ended(Ended<B>),
}

impl<St: Store> Cache<St> {
    /// Follows a flight, or leads one. It does not look up: the loop around it does.
    pub(crate) async fn join<B: Body>(
        self: &Arc<Self>,
        search: &mut Search,
        read: &mut Read,
        fields: &HeaderMap,
    ) -> Step<St, B> {
        let wait = || self.follower_wait.min(self.patience(read).unwrap_or(Duration::MAX));
        let deadline = *search.deadline.get_or_insert_with(|| search.began + wait());
        let held = search.held.take();
        if let Some(holder) = held
            && read.outer.as_ref().is_some_and(|outer| outer.have(holder.token()))
        {
            self.warn_of_nesting(&read.route);
            return Step::Ended(Alone::Held.into());
        }
        let next = match (self.turn(read, held), held) {
            (Err(alone), _) => ControlFlow::Break(alone.into()),
            (Ok(Turn::Crowd), _) => ControlFlow::Break(Alone::Crowd.into()),
            (Ok(Turn::Follow(_)), _) | (Ok(_), Some(_)) if runtime().is_none() => {
                ControlFlow::Break(Alone::Runtime.into())
            }
            (Ok(Turn::Follow(flight)), _) => {
                // Boxed, as the next: with room for these waits the future of a read would be longer than
                // what allocators keep at hand.
                let followed = timeout_at(deadline, self.follow(flight, search, read, fields));
                Box::pin(followed).await.unwrap_or(ControlFlow::Break(Alone::Deadline.into()))
            }
            (Ok(Turn::Lead(lead)), Some(Holder::Fill(token))) => {
                Box::pin(self.wait_elsewhere(lead, read, token, deadline)).await
            }
            (Ok(Turn::Lead(lead)), None | Some(Holder::Unsettled(_))) => {
                // A token that others have may be gone with an invalidation, and must not come back.
                let token = if held.is_some() { self.store.token() } else { lead.token() };
                match self.begin_fill(lead, token, read).await {
                    Begun::Filling(filling) => return Step::Fill(filling),
                    Begun::Again(holder) => {
                        search.held = holder;
                        ControlFlow::Continue(())
                    }
                    Begun::Ended(ended) => ControlFlow::Break(ended),
                }
            }
        };
        if let ControlFlow::Break(Ended::Unshared(Unshared::Alone(Alone::Deadline))) = next {
            read.route.nesting.suspect();
        }
        match next {
            ControlFlow::Break(ended) => Step::Ended(ended),
            ControlFlow::Continue(()) if now() < deadline => Step::Again,
            ControlFlow::Continue(()) => Step::Ended(Alone::Deadline.into()),
        }
    }

    /// Returns the turn of a read, or the reason why it has none. `held` is the holder of the slot
    /// in the store, if there is one.
    fn turn(&self, read: &mut Read, held: Option<Holder>) -> Result<Turn<SharedResponse>, Alone> {
        // The refusal is remembered here where the store keeps a response that may still stand in.
        if read.may_be_stale()
            && read.right.is_none()
            && self.revalidations.is_refused(&read.slot.variant)
        {
            read.right = self.retry(&read.slot.variant, &read.asks);
            if read.right.is_none() {
                return Err(Alone::Pass);
            }
        }
        let sequence = self.store.sequence();
        let token = held.map(Holder::token).or_else(|| self.store.token());
        // A request that wants a newer response than others do shares none.
        if read.leads_privately() || read.route.rule.coalescing == Coalescing::Off {
            if matches!(held, Some(Holder::Fill(_))) {
                return Err(Alone::Held);
            }
            let lead = self.flights.lead_privately(&read.slot, token, sequence.begin());
            return Ok(Turn::Lead(lead));
        }
        // A request that began after an invalidation never joins an older flight.
        let may_join = |fence| {
            read.route.uses_flights_of(fence) && sequence.is_slot_current(&read.slot, fence)
        };
        Ok(self.flights.enter(&read.slot, token, may_join, || sequence.begin()))
    }

    /// Waits for the result of a flight, and for the beginning of a body that is on its way.
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
                // The response was made for other values of fields that it alone nominates: the read
                // looks again, once, with its own values of these fields.
                if read.slot.variant != shared.variant {
                    let Selection { nominated, variation } = &shared.selection;
                    read.base = read.base_by(variation.as_deref());
                    read.vary_by(nominated, &nominated.values(fields, &self.identity.secret));
                }
                if read.slot.variant != shared.variant {
                    if std::mem::replace(&mut search.has_varied, true) {
                        return ControlFlow::Break(Alone::Declined.into());
                    }
                    return ControlFlow::Continue(());
                }
                if let Some(body) = shared.open(&read.asks).await {
                    let response =
                        shared.respond(body, self.context(read.route.bucket), &read.asks);
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

    /// Waits for another process's fill on behalf of all requests of this process. If this request stops
    /// waiting, the others look again ([`Settled::Over`]).
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
        // Each follower read the token in the store, and this entry was stored after the token was
        // gone. So it is new enough for all of them.
        let Some(entry) = newly_stored(read, entry) else { return ControlFlow::Continue(()) };
        let Some(shared) = SharedResponse::of(&entry, &read.nominated) else {
            return ControlFlow::Continue(());
        };
        lead.fill(|| shared.clone());
        match shared.open(&read.asks).await {
            Some(body) => {
                let response = shared.respond(body, self.context(read.route.bucket), &read.asks);
                ControlFlow::Break(Ended::Collapsed(response))
            }
            None => ControlFlow::Continue(()),
        }
    }

    /// Asks for the lease of a HEAD that has found a stale response, for this request alone. `None` for another
    /// request, if the answer could not confirm that response, or if another fill has the lease.
    pub(crate) async fn begin_update<B: Body>(
        self: &Arc<Self>,
        read: &Read,
        why: &Unshared,
    ) -> Option<Filling<St>> {
        let (head, _) = read.found().filter(|_| matches!(why, Unshared::Alone(Alone::Head)))?;
        Validators::of(&head.stored())?;
        self.begin_alone::<B>(read).await
    }

    /// Asks for the lease of a request that no other one follows. `None` if another fill has it.
    pub(crate) async fn begin_alone<B: Body>(self: &Arc<Self>, read: &Read) -> Option<Filling<St>> {
        let sequence = self.store.sequence();
        let lead = self.flights.lead_privately(&read.slot, self.store.token(), sequence.begin());
        let token = lead.token();
        match self.begin_fill::<B>(lead, token, read).await {
            Begun::Filling(filling) => Some(filling).filter(|filling| filling.lease.is_some()),
            Begun::Again(_) | Begun::Ended(_) => None,
        }
    }

    /// Asks the store for the lease, with a token that no request knows yet. Without one the flight is
    /// settled, or shares what it brings with all fills of an unsettled slot that have its own token.
    async fn begin_fill<B: Body>(
        self: &Arc<Self>,
        lead: Lead<SharedResponse>,
        token: Option<Token>,
        read: &Read,
    ) -> Begun<St, B> {
        if let Some(wait) = self.refusal(&read.route.rule) {
            // The followers look again, and each is refused or follows another.
            lead.end();
            return Begun::Ended(Ended::Exhausted(wait));
        }
        // Asked after the flight took its number, so that no write can begin its window unseen.
        let is_unsettled =
            self.store.sequence().unsettled().contains(&read.slot) || read.route.is_unsettled();
        let mut begin = bounded(self.store.begin(lead.slot(), token, read.seen.as_deref())).await;
        if let Some(Begin::Found(found)) = &begin
            && found.as_response().is_some()
            && newly_stored(read, Arc::clone(found)).is_none()
        {
            // Fresh for the route that has stored it, and not for this one, which has shorter times.
            let seen = Arc::clone(found);
            begin = bounded(self.store.begin(lead.slot(), token, Some(&seen))).await;
        }
        let is_own = token == lead.token();
        let lease = match begin.unwrap_or(Begin::Unavailable) {
            Begin::Granted(lease) if is_own => Some(lease).filter(|_| !is_unsettled),
            Begin::Unsettled if is_own => None,
            Begin::Held(Holder::Unsettled(token)) if Some(token) == lead.token() => None,
            Begin::Found(entry) => return Begun::Ended(self.share_found(entry, lead, read)),
            Begin::Granted(lease) => {
                self.store.release(lease);
                lead.end();
                return Begun::Again(None);
            }
            Begin::Unsettled => {
                lead.end();
                return Begun::Again(token.map(Holder::Unsettled));
            }
            Begin::Held(holder) => {
                lead.end();
                return Begun::Again(Some(holder));
            }
            Begin::Unavailable => {
                lead.decline();
                return Begun::Ended(Bypass::Store.into());
            }
        };
        if lease.is_none() && read.is_background {
            // Nobody waits for what it would bring.
            return Begun::Ended(Alone::Held.into());
        }
        let followed = self.followed(lead.slot(), &read.route.rule).await;
        Begun::Filling(Filling {
            cache: Arc::clone(self),
            lead,
            lease,
            route: Arc::clone(&read.route),
            requested: recent(),
            followed,
            right: read.right.clone(),
            is_refresh: false,
            sampled: None,
        })
    }

    /// Shares an entry that was stored just before the fill could begin.
    fn share_found<B: Body>(
        &self,
        entry: Arc<Entry>,
        lead: Lead<SharedResponse>,
        read: &Read,
    ) -> Ended<B> {
        let now = now();
        // From now on nobody joins: followers know the tags of the request only, and the fences of the
        // entry's other tags are asked here, once for all of them.
        lead.close();
        let entry = newly_stored(read, entry);
        let shared = entry.as_ref().and_then(|entry| SharedResponse::of(entry, &read.nominated));
        let (Some(entry), Some(shared)) = (entry, shared) else {
            lead.decline();
            return Alone::Pass.into();
        };
        match entry.is_current(self.store.sequence()) {
            true => lead.fill(|| shared),
            false => drop(lead),
        }
        Ended::Stored(Reuse { entry, stale: None, is_due: false, now })
    }
}

/// Returns an entry that was stored after a request had looked, if it is fresh. It is as new as what
/// the origin would send the request now, so the request's directives do not apply.
fn newly_stored(read: &Read, entry: Arc<Entry>) -> Option<Arc<Entry>> {
    let entry = read.route.adopt(entry)?;
    let (wishes, early, purpose) = (&Wishes::NONE, None, Purpose::Answer);
    let question = Question { wishes, early, now: now(), purpose };
    // A stale one never answers here.
    let circumstances = || Circumstances { is_current: false, origin: Origin::Unasked };
    let assessment = assess(&entry, &question, circumstances);
    matches!(assessment, Assessment::Fresh { .. }).then_some(entry)
}
