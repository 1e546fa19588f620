//! What a read finds beyond this process's memory: an entry, the right to fill, or somebody who has it.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use http::{HeaderMap, Response};
use http_body::Body;
use tokio::time::timeout_at;

use crate::{
    body::ResponseBody,
    clock::{Instant, now},
    entry::Entry,
    exchange::cache::Shared,
    exchange::fill::Filling,
    exchange::request::Read,
    exchange::respond::{Fill, Telling, hit, unsatisfied},
    flight::{Lead, Settled, Turn},
    key::Token,
    metrics::outcome::{Alone, Bypass, Forward, Unshared},
    route::Coalescing,
    store::timeout::bounded,
    store::{Begin, Lookup, Store},
};

/// Where a search for a response ends: with one, or with the reason to forward alone.
pub(crate) enum Ended<B: Body> {
    Answer(Response<ResponseBody<B>>),
    /// With what is stale or soon will be: it is to be asked about afterwards.
    Refresh(Response<ResponseBody<B>>),
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

/// Where one step of a search leads.
pub(crate) enum Step<St: Store, B: Body> {
    Again,
    Fill(Filling<St>),
    Ended(Ended<B>),
}

/// How far a search is.
#[derive(Debug)]
pub(crate) struct Search {
    /// When it waits no longer; `None` before its first step.
    deadline: Option<Instant>,
    /// Whether it has looked, and nothing has happened since.
    has_looked: bool,
    /// The fill that has the right to the slot, as the store has shown it since the search began.
    held: Option<Token>,
    was_abandoned: bool,
    has_varied: bool,
}

impl Search {
    /// A search that waits for as long as its read may.
    pub(crate) fn new() -> Self {
        let (deadline, held) = (None, None);
        Self { deadline, has_looked: false, held, was_abandoned: false, has_varied: false }
    }

    /// A search that waits for nobody.
    pub(crate) fn without_waiting() -> Self {
        Self { deadline: Some(now()), ..Self::new() }
    }

    /// Takes note that its next look is made.
    pub(crate) fn has_looked(&mut self) {
        self.has_looked = true;
    }
}

impl<St: Store> Shared<St> {
    /// Looks, and then waits for a fill or takes the right to one.
    pub(crate) async fn step<B: Body>(
        self: &Arc<Self>,
        search: &mut Search,
        read: &mut Read,
        fields: &HeaderMap,
    ) -> Step<St, B> {
        let wait = || self.follower_wait.min(self.patience(read).unwrap_or(Duration::MAX));
        let deadline = *search.deadline.get_or_insert_with(|| now() + wait());
        let has_looked = std::mem::take(&mut search.has_looked);
        if !has_looked
            && search.held.is_none()
            && !read.is_early()
            && let ControlFlow::Break(ended) = self.look(search, read, fields).await
        {
            return Step::Ended(ended);
        }
        let held = search.held.take();
        let next = match (self.turn(read, held), held) {
            (None, _) => ControlFlow::Break(Alone::Held.into()),
            (Some(Turn::Crowd), _) => ControlFlow::Break(Alone::Crowd.into()),
            (Some(Turn::Follow(flight)), _) => match timeout_at(deadline, flight.settled()).await {
                Ok(settled) => self.heed(settled, (search, read), fields),
                Err(_) => ControlFlow::Break(Alone::Deadline.into()),
            },
            // Boxed: it is the longest wait by far, and rare.
            (Some(Turn::Lead(lead)), Some(token)) => {
                Box::pin(self.wait(lead, (deadline, read), token)).await
            }
            (Some(Turn::Lead(lead)), None) => match self.begin_fill(lead, (search, read)).await {
                Begun::Filling(filling) => return Step::Fill(filling),
                Begun::Elsewhere => ControlFlow::Continue(()),
                Begun::Ended(ended) => ControlFlow::Break(ended),
            },
        };
        match next {
            ControlFlow::Break(ended) => Step::Ended(ended),
            ControlFlow::Continue(()) if now() < deadline => Step::Again,
            ControlFlow::Continue(()) => Step::Ended(Alone::Deadline.into()),
        }
    }

    /// `held` is the fill that has the right to the slot, if the store has shown one. `None` if the
    /// read waits for nobody and so has no turn.
    fn turn(&self, read: &Read, held: Option<Token>) -> Option<Turn<Fill>> {
        let Self { flights, store, table, .. } = self;
        let sequence = store.sequence();
        let boards = (&read.slot, held.or_else(|| store.token()));
        // A request that wants something newer than what is fresh waits for nobody: what is good
        // enough for others is not for it.
        let is_alone =
            read.asks_for_itself() || table.read_rules()[read.route].coalescing == Coalescing::Off;
        if is_alone {
            let lead = || Turn::Lead(flights.take_off(boards, sequence.begin()));
            return held.is_none().then(lead);
        }
        // A request that began after an invalidation never joins an older flight.
        Some(flights.enter(
            boards,
            |fence| sequence.is_slot_current(&read.slot, fence),
            || sequence.begin(),
        ))
    }

    /// Asks the store, where it holds more than this process does.
    async fn look<B: Body>(
        &self,
        search: &mut Search,
        read: &mut Read,
        fields: &HeaderMap,
    ) -> ControlFlow<Ended<B>> {
        let mut found = self.lookup(read).await;
        if read.is_told_to_vary(self, &found, fields) {
            found = self.lookup(read).await;
        }
        self.see(found, search, read)
    }

    /// Decides what to make of what the store has.
    pub(crate) fn see<B: Body>(
        &self,
        found: Lookup,
        search: &mut Search,
        read: &mut Read,
    ) -> ControlFlow<Ended<B>> {
        let telling = self.telling(read.route);
        if let Lookup::Found(entry) = &found {
            // What comes from elsewhere does not know it yet.
            entry.note_route(read.route);
        }
        match found {
            Lookup::Unavailable => return ControlFlow::Break(Bypass::Store.into()),
            Lookup::Found(entry) if entry.is_fresh_at(telling.now) => {
                self.found_fresh(read, entry, telling)?;
            }
            Lookup::Held(token) => search.held = Some(token),
            Lookup::Found(entry) => read.found_stale(&self.table.read_rules()[read.route], entry),
            Lookup::Absent => {}
        }
        if !read.is_background
            && let Some(response) = self.stale_at_once(read)
        {
            return ControlFlow::Break(Ended::Refresh(response));
        }
        if read.asks.wishes.only_if_cached {
            self.metrics().unsatisfied(telling.bucket);
            return ControlFlow::Break(Ended::Answer(unsatisfied()));
        }
        if read.asks.is_head {
            return ControlFlow::Break(Alone::Head.into());
        }
        if read.asks.range.is_some() {
            return ControlFlow::Break(Alone::Range.into());
        }
        if read.asks.wishes.no_store {
            return ControlFlow::Break(Alone::NoStore.into());
        }
        ControlFlow::Continue(())
    }

    /// Answers with what the store has that is fresh, unless the request wants something newer.
    fn found_fresh<B: Body>(
        &self,
        read: &mut Read,
        entry: Arc<Entry>,
        telling: Telling<'_>,
    ) -> ControlFlow<Ended<B>> {
        match entry.as_response() {
            None if read.asks.wishes.only_if_cached => {}
            None => return ControlFlow::Break(Alone::Pass.into()),
            Some(response) if read.asks.accept(response.0, telling.now) => {
                if self.is_due((read.route, &read.asks), &entry, telling.now) {
                    let answer = hit(response, telling, &read.asks);
                    read.forward = Forward::Stale;
                    read.seen = Some(entry);
                    return ControlFlow::Break(Ended::Refresh(answer));
                }
                let answer = hit(response, telling, &read.asks);
                return ControlFlow::Break(Ended::Answer(answer));
            }
            Some(_) => {
                read.forward = Forward::Request;
                read.seen = Some(entry);
            }
        }
        ControlFlow::Continue(())
    }

    pub(crate) async fn lookup(&self, read: &Read) -> Lookup {
        if St::PEEK_TELLS_ALL {
            return Lookup::Absent;
        }
        match St::KEEPS_BUDGETS {
            true => self.store.lookup(&read.slot).await,
            // Boxed: a future has room for both.
            false => {
                let found = Box::pin(bounded(self.store.lookup(&read.slot)));
                found.await.unwrap_or(Lookup::Unavailable)
            }
        }
    }

    /// Hears how a flight settled that the read has followed.
    fn heed<B: Body>(
        &self,
        settled: Settled<Fill>,
        (search, read): (&mut Search, &mut Read),
        fields: &HeaderMap,
    ) -> ControlFlow<Ended<B>> {
        match settled {
            Settled::Over => return ControlFlow::Continue(()),
            Settled::Declined => return ControlFlow::Break(Alone::Declined.into()),
            Settled::Filled(fill) => {
                // Made for other values of fields that nobody knew to matter: look again, by
                // these, once.
                if read.slot.variant != fill.variant {
                    read.vary_by(self, &fill.nominated, fields);
                }
                if read.slot.variant != fill.variant {
                    if std::mem::replace(&mut search.has_varied, true) {
                        return ControlFlow::Break(Alone::Declined.into());
                    }
                    read.forward = Forward::VaryMiss;
                    return ControlFlow::Continue(());
                }
                if let Some(response) = fill.answer(self.telling(read.route), &read.asks) {
                    return ControlFlow::Break(Ended::Answer(response));
                }
            }
            Settled::Abandoned => {}
        }
        // The fill died. One follower leads; a second dead fill in a row is enough.
        if std::mem::replace(&mut search.was_abandoned, true) {
            return ControlFlow::Break(Alone::Declined.into());
        }
        ControlFlow::Continue(())
    }

    /// Waits for another process's fill, for all in this process that wait for it.
    async fn wait<B: Body>(
        &self,
        lead: Lead<Fill>,
        (deadline, read): (Instant, &Read),
        token: Token,
    ) -> ControlFlow<Ended<B>> {
        let lead = lead.awaiting();
        match timeout_at(deadline, self.store.wait(&read.slot, token)).await {
            Err(_) => return ControlFlow::Break(Alone::Deadline.into()),
            Ok(Lookup::Unavailable) => return ControlFlow::Break(Bypass::Store.into()),
            Ok(Lookup::Found(entry)) if entry.is_fresh() => {
                // Whoever waits has read the token before this look did not find it any more, so
                // what it found is new enough for all of them.
                let Some(fill) = Fill::of(&entry, &read.nominated) else {
                    return ControlFlow::Continue(());
                };
                lead.fill(|| fill.clone());
                if let Some(response) = fill.answer(self.telling(read.route), &read.asks) {
                    return ControlFlow::Break(Ended::Answer(response));
                }
            }
            Ok(Lookup::Found(_) | Lookup::Held(_) | Lookup::Absent) => {}
        }
        ControlFlow::Continue(())
    }

    /// Takes the right to fill; where there is none, the flight is settled. `Continue` if another
    /// fill turns out to have it.
    async fn begin_fill<B: Body>(
        self: &Arc<Self>,
        lead: Lead<Fill>,
        (search, read): (&mut Search, &Read),
    ) -> Begun<St, B> {
        // Asked after the flight took its number: see `Unsettled::enter`.
        if self.store.sequence().unsettled().contains(&read.slot) {
            lead.decline();
            return Begun::Ended(Bypass::Unsettled.into());
        }
        let begin = self.store.begin(lead.slot(), lead.token(), read.seen.as_deref());
        match bounded(begin).await.unwrap_or(Begin::Unavailable) {
            Begin::Granted(lease) => {
                let shared = Arc::clone(self);
                let route = read.route;
                let requested = now();
                Begun::Filling(Filling { shared, lead, lease, route, requested })
            }
            Begin::Found(entry) => Begun::Ended(self.found(&entry, lead, read)),
            Begin::Held(token) => {
                // Nobody has read the token of this flight anywhere, so nobody follows it.
                search.held = Some(token);
                Begun::Elsewhere
            }
            Begin::Unavailable => {
                lead.decline();
                Begun::Ended(Bypass::Store.into())
            }
        }
    }

    /// Shares what was stored just before the fill could begin.
    fn found<B: Body>(&self, entry: &Entry, lead: Lead<Fill>, read: &Read) -> Ended<B> {
        // Who joined has asked for the tags that the request tells, and for no other.
        lead.close();
        match Fill::of(entry, &read.nominated) {
            Some(_) if !entry.is_current(self.store.sequence()) => drop(lead),
            Some(fill) => lead.fill(|| fill),
            None => lead.decline(),
        }
        match entry.as_response() {
            Some(found) => Ended::Answer(hit(found, self.telling(read.route), &read.asks)),
            None => Alone::Pass.into(),
        }
    }
}

/// What became of a flight that was to fill.
enum Begun<St: Store, B: Body> {
    Filling(Filling<St>),
    /// Another fill has the right.
    Elsewhere,
    Ended(Ended<B>),
}
