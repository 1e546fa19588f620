//! The second half of a leader's life: from the head of the response to the end of its flight.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::DATE, response};
use http_body::Body;
use tokio::runtime::Handle;

use crate::{
    body::ResponseBody,
    clock::{Instant, now, time_of_day},
    entry::{Entry, Head, Provenance, Timing, exact_copy},
    exchange::cache::Shared,
    exchange::request::Read,
    exchange::respond::{Fill, FillBody},
    flight::Lead,
    key::vary::{Kept, Nominated},
    key::{MAX_TAGS, Slot, Tag, Tags, Variant, seeded_hash},
    metrics::outcome::Refusal,
    policy::{
        CACHE_GROUPS, Reception, Terms, date_value, declared_length, groups, may_be_remembered,
    },
    recording::budget::Reservation,
    recording::{Recorded, Recorder, Recording, Stop, Tape},
    route::CacheRule,
    store::timeout::bounded,
    store::{Commit, Store},
};

/// How long a slot whose response may not be stored is remembered.
const PASS: Duration = Duration::from_secs(10);

/// A head with more names than this is not stored: a map of fields holds no more than 24,576, and
/// two are added.
const MAX_FIELDS: usize = 4096;

/// A fill that has begun. Dropped, it abandons its flight and gives its lease back.
pub(crate) struct Filling<St: Store> {
    pub(crate) shared: Arc<Shared<St>>,
    pub(crate) lead: Lead<Fill>,
    pub(crate) lease: St::Lease,
    pub(crate) route: usize,
    /// When the request was forwarded.
    pub(crate) requested: Instant,
}

/// A response that may be stored, by its head, and where it belongs.
pub(super) struct Storable {
    pub(super) head: Head,
    pub(super) place: Place,
}

/// What is known of a response that may be stored before it is copied.
pub(super) struct Judged {
    terms: Terms,
    timing: Timing,
}

/// Where a response belongs.
pub(super) struct Place {
    /// What the response was made for, and the nominated fields that this holds.
    variant: Variant,
    nominated: Nominated,
    /// Where the note of these fields belongs, if a response has nominated any.
    noted_at: Option<Variant>,
    tags: Tags,
}

/// A response as its client gets it, and what is to be done before.
pub(crate) struct Received<St: Store, B: Body> {
    pub(crate) head: response::Parts,
    pub(crate) body: ResponseBody<B>,
    /// What the origin said, which may be that what is stored is still good.
    pub(crate) status: StatusCode,
    /// `None` where a task reads the body: it ends the flight.
    pub(super) ending: Option<Ending<St>>,
    /// The recorder of a body that has ended otherwise than it should.
    pub(super) recorder: Option<Recorder<B>>,
}

/// The end of a flight: what is told to the store, and then to those who wait.
pub(super) struct Ending<St: Store> {
    shared: Arc<Shared<St>>,
    lead: Lead<Fill>,
    route: usize,
    requested: Instant,
    /// What is stored, and the note that leads to it.
    entries: Option<(St::Lease, Arc<Entry>, Option<Arc<Entry>>)>,
    last: Last,
    /// The share of the budget that a body has which no recording holds.
    reservation: Option<Reservation>,
}

/// How a flight ends.
pub(super) enum Last {
    /// With a response, if it is in order to store it.
    Response(Arc<Entry>, Nominated),
    /// With nothing to share. That may be remembered for a while.
    Refusal(Refusal),
    /// With nothing to share, and what is stored is no good either.
    Invalidation(Refusal),
    /// Without a word: it died.
    Nothing,
}

impl<St: Store, B: Body> Received<St, B> {
    /// Ends the flight, if all that it waits for is the store. Returns whether the response is stored,
    /// as its head tells it.
    pub(crate) async fn settle(&mut self) -> Result<(), Refusal> {
        let Some(ending) = &mut self.ending else { return Ok(()) };
        let commit = ending.store().await;
        let Some(ending) = self.ending.take() else { return Ok(()) };
        let settled = ending.tell(commit);
        if let Some(recorder) = self.recorder.take() {
            recorder.conclude(settled.as_ref().ok());
        }
        settled.map(drop)
    }
}

impl<St: Store> Filling<St> {
    /// Judges a response by its head, and records the body or lets it pass. `asked` is the
    /// request, and its fields.
    pub(crate) fn receive<B>(
        self,
        asked: (&Read, &Kept),
        head: response::Parts,
        body: B,
    ) -> Received<St, B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let status = head.status;
        let tags = self.tags(&head.headers);
        let place = self.place(asked, &head.headers, tags);
        let judged = self.judge(asked.0, &head, place.as_ref()).and_then(|judged| {
            let declared = declared_length(&head.headers, body.size_hint().exact())?;
            let reservation = Reservation::none(&self.shared.bodies);
            let tape = Tape::new(self.rule().body_limit, declared, reservation)?;
            Ok((judged, (tape, declared)))
        });
        let (body, ending, recorder) = match (judged, place) {
            (Ok((judged, tape)), Some(place)) => self.record((&head, judged, place), body, tape),
            (judged, place) => {
                let refusal = judged.err().unwrap_or(Refusal::Vary);
                let ending = self.refuse(refusal, status, place.as_ref());
                (ResponseBody::passing(body), Some(ending), None)
            }
        };
        Received { head, body, status, ending, recorder }
    }

    /// Dates a response that has no date, where its age depends on it (RFC 9110 §6.6.1).
    pub(crate) fn date(&self, response: &mut HeaderMap) {
        if self.rule().validates() && !response.contains_key(DATE) {
            response.insert(DATE, date_value(time_of_day()));
        }
    }

    /// Returns where the response to a request belongs, or `None` where no request shows it.
    pub(super) fn place(
        &self,
        (read, fields): (&Read, &Kept),
        response: &HeaderMap,
        tags: Tags,
    ) -> Option<Place> {
        let nominated = read.nominated.with(response).ok()?;
        let variant = if nominated == read.nominated {
            read.slot.variant.clone()
        } else {
            read.base.nominating(&nominated.values(fields, &self.shared.identity.secret))
        };
        let noted_at = (variant != read.base).then(|| read.base.clone());
        Some(Place { variant, nominated, noted_at, tags })
    }

    /// Returns the tags of a response: those that its request tells, and the groups that it names.
    pub(super) fn tags(&self, response: &HeaderMap) -> Tags {
        let slot = self.lead.slot();
        let groups = groups(&CACHE_GROUPS, response);
        if groups.is_empty() {
            return slot.tags.clone();
        }
        let origin = slot.variant.origin();
        slot.tags.with(groups.iter().map(|group| Tag::group(&origin, group)))
    }

    pub(super) fn judge(
        &self,
        read: &Read,
        head: &response::Parts,
        place: Option<&Place>,
    ) -> Result<Judged, Refusal> {
        let received = now();
        let dice = seeded_hash((read.slot.variant.seeded_hash(), received));
        let rule = self.rule();
        if head.headers.keys_len() > MAX_FIELDS {
            return Err(Refusal::TooLarge);
        }
        let mut timing = Timing { requested: self.requested, received, lifetime: Duration::ZERO };
        let needs_permission = read.asks.needs_permission;
        let reception = Reception { needs_permission, dice, timing, time_of_day };
        let terms = rule.storage.judge(head, &reception)?;
        if place.ok_or(Refusal::Vary)?.tags.len() > MAX_TAGS {
            return Err(Refusal::Tags);
        }
        timing.lifetime = terms.fresh_for;
        Ok(Judged { terms, timing })
    }

    /// Copies a head as it is stored, and a body with it.
    pub(super) fn copy(
        &self,
        head: &response::Parts,
        judged: Judged,
        body: &[Bytes],
    ) -> (Head, Bytes) {
        let Judged { terms, timing } = judged;
        let stripped = &self.rule().storage.stripped;
        let unstored = match terms.withheld.is_empty() {
            true => Cow::Borrowed(&**stripped),
            false => Cow::Owned([stripped, &terms.withheld[..]].concat()),
        };
        let mould = &self.shared.routes[self.route].mould;
        let (mut head, body) = Head::with_body(head, (mould, &unstored), timing, body);
        head.be_at_least(terms.initial_age);
        head.set_windows(terms.windows);
        (head, body)
    }

    /// Settles the flight with nothing to share: there is no response.
    pub(crate) fn fail(self) {
        self.shared.metrics().refused(self.shared.bucket(self.route), Refusal::Failed);
        self.shared.store.release(self.lease);
        self.lead.decline();
    }

    /// Settles the flight with what there was before.
    pub(crate) fn fill_with(self, fill: Fill) {
        self.shared.store.release(self.lease);
        self.lead.fill(|| fill);
    }

    /// Ends the flight with nothing to share: the response may not be stored. That is remembered
    /// where it belongs, so that a refusal of one variant says nothing of the others.
    pub(super) fn refuse(
        self,
        refusal: Refusal,
        status: StatusCode,
        place: Option<&Place>,
    ) -> Ending<St> {
        let bucket = self.shared.bucket(self.route);
        self.shared.metrics().refused(bucket, refusal);
        let pass = may_be_remembered(refusal, status).then(|| {
            let variant = place.map_or(&self.lead.slot().variant, |place| &place.variant);
            let provenance = self.provenance(variant.clone(), Tags::none());
            let pass = Arc::new(Entry::pass(provenance, now() + PASS));
            (pass, place.and_then(|place| self.note(place, now())))
        });
        self.ending(pass, Last::Refusal(refusal))
    }

    /// Returns the note that leads to a place, where something is of use until `until` at least.
    fn note(&self, place: &Place, until: Instant) -> Option<Arc<Entry>> {
        let base = self.provenance(place.noted_at.clone()?, Tags::none());
        // Other responses that are found by the same note may be of use for longer than this one.
        let until = until.max(now() + self.rule().longest());
        Some(Arc::new(Entry::nominated(base, place.nominated.clone(), until)))
    }

    fn provenance(&self, variant: Variant, tags: Tags) -> Provenance {
        Provenance {
            slot: Slot { key: self.lead.slot().key.clone(), variant, tags },
            fence: self.lead.fence(),
            requested: self.requested,
            gauge: self.shared.metrics().gauge(self.shared.bucket(self.route)),
        }
    }

    pub(super) fn rule(&self) -> &CacheRule {
        &self.shared.table.read_rules()[self.route]
    }

    fn record<B>(
        self,
        (head, judged, place): (&response::Parts, Judged, Place),
        body: B,
        (mut tape, declared): (Tape, Option<u64>),
    ) -> (ResponseBody<B>, Option<Ending<St>>, Option<Recorder<B>>)
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let mut body = Box::pin(body);
        // Who goes on reading it has it polled again, and is woken.
        let polled = tape.advance(body.as_mut(), &mut Context::from_waker(Waker::noop()));
        if matches!(polled, Poll::Ready(Stop::End)) && tape.is_plain(declared) {
            let (head, body) = self.copy(head, judged, &tape.chunks);
            let mut ending = self.commit(Storable { head, place }, body.clone());
            ending.reservation = Some(tape.reservation);
            return (ResponseBody::stored(body), Some(ending), None);
        }
        let storable = Storable { head: self.copy(head, judged, &[]).0, place };
        let detachments = Arc::clone(&self.shared.detachments);
        let (recording, cursor) = Recording::new(tape, declared, detachments);
        let (mut recorder, rest) = Recorder::new(Arc::clone(&recording), body);
        let reader = ResponseBody::first_reader(cursor, rest);
        let runtime = Handle::try_current();
        let stop = match (polled, &runtime) {
            (Poll::Ready(stop), _) => Some(stop),
            (Poll::Pending, Err(_)) => Some(Stop::Refused(Refusal::Runtime)),
            (Poll::Pending, Ok(_)) => None,
        };
        if let Some(stop) = stop {
            let recorded = recorder.stop(stop);
            return (reader, Some(self.end(storable, recorded)), Some(recorder));
        }
        let has_tags_beside = self.has_tags_beside(&storable.place.tags);
        let is_for_all = storable.head.may_be_shared() && !has_tags_beside;
        if declared.is_some() && is_for_all {
            self.lead.share(storable.streaming(recording));
        }
        if let Ok(runtime) = runtime {
            runtime.spawn(async move {
                let recorded = recorder.run().await;
                // Stored first: who has read the whole body finds it stored.
                let settled = self.end(storable, recorded).settle().await;
                recorder.conclude(settled.as_ref().ok());
            });
        }
        (reader, None, None)
    }

    /// Ends the flight by what the recorder brought.
    fn end(self, storable: Storable, recorded: Recorded) -> Ending<St> {
        match recorded {
            Recorded::Complete(chunks) => self.commit(storable, exact_copy(&chunks)),
            Recorded::Refused(refusal) => {
                self.refuse(refusal, storable.head.status, Some(&storable.place))
            }
            Recorded::Deserted => self.ending(None, Last::Nothing),
        }
    }

    /// Stores a whole response and shares it.
    pub(super) fn commit(self, storable: Storable, body: Bytes) -> Ending<St> {
        let Storable { head, place } = storable;
        let provenance = self.provenance(place.variant.clone(), place.tags.clone());
        let entry = Entry::response(provenance, head, body);
        entry.note_route(self.route);
        let note = self.note(&place, entry.kept_until());
        let entry = Arc::new(entry);
        self.ending(Some((Arc::clone(&entry), note)), Last::Response(entry, place.nominated))
    }

    /// Whether there are tags among these that nobody knew who joined the flight: it may be that one of
    /// them was invalidated between the flight's beginning and theirs.
    pub(crate) fn has_tags_beside(&self, tags: &Tags) -> bool {
        tags.len() > self.lead.slot().tags.len()
    }

    pub(super) fn ending(
        self,
        entries: Option<(Arc<Entry>, Option<Arc<Entry>>)>,
        last: Last,
    ) -> Ending<St> {
        let Self { shared, lead, lease, route, requested } = self;
        let entries = match entries {
            Some((entry, note)) => Some((lease, entry, note)),
            None => {
                shared.store.release(lease);
                None
            }
        };
        Ending { shared, lead, route, requested, entries, last, reservation: None }
    }
}

impl<St: Store> Ending<St> {
    /// Returns what is stored now.
    async fn settle(mut self) -> Result<Arc<Entry>, Refusal> {
        let commit = self.store().await;
        self.tell(commit)
    }

    /// Tells the store, before anybody who waits is let go: so those behind them need not wait at all.
    async fn store(&mut self) -> Commit {
        if self.is_grouped() {
            // Who joins later could be younger than what the commit finds to be in order.
            self.lead.close();
        }
        if matches!(self.last, Last::Invalidation(_)) {
            bounded(self.shared.invalidate(&self.lead.slot().key)).await;
        }
        let Some((lease, entry, note)) = self.entries.take() else { return Commit::Failed };
        bounded(self.shared.store.commit(lease, entry, note)).await.unwrap_or(Commit::Failed)
    }

    /// Whether its response has tags that nobody knew who joined the flight.
    fn is_grouped(&self) -> bool {
        match &self.last {
            Last::Response(entry, _) => entry.slot().tags.len() > self.lead.slot().tags.len(),
            Last::Refusal(_) | Last::Invalidation(_) | Last::Nothing => false,
        }
    }

    /// Tells those who wait how it went with the store.
    fn tell(self, commit: Commit) -> Result<Arc<Entry>, Refusal> {
        let is_grouped = self.is_grouped();
        let (entry, nominated) = match self.last {
            Last::Response(entry, nominated) => (entry, nominated),
            Last::Refusal(refusal) | Last::Invalidation(refusal) => {
                self.lead.decline();
                return Err(refusal);
            }
            Last::Nothing => return Err(Refusal::Failed),
        };
        let stored = match commit {
            Commit::Stored => Ok(()),
            Commit::Fenced => Err(Refusal::Fenced),
            Commit::Superseded => Err(Refusal::Superseded),
            Commit::TooLarge => Err(Refusal::TooLarge),
            Commit::Failed => Err(Refusal::Store),
        };
        let (bucket, metrics) = (self.shared.bucket(self.route), self.shared.metrics());
        match stored {
            Ok(()) => {
                self.shared.routes[self.route].early.note(|| now() - self.requested);
                metrics.stored(bucket);
            }
            Err(Refusal::Fenced) => metrics.fenced(bucket),
            Err(refusal) => metrics.refused(bucket, refusal),
        }
        let is_in_doubt = is_grouped && matches!(stored, Err(Refusal::Fenced | Refusal::Store));
        match entry.as_response().filter(|(head, _)| head.may_be_shared()) {
            // One of those who wait asks the origin again, for all.
            _ if is_in_doubt => drop(self.lead),
            // Those who follow began before whatever may have fenced the commit.
            Some((head, body)) => self.lead.fill(|| Fill {
                head: Arc::new(head.clone()),
                body: FillBody::Whole(body.clone()),
                variant: entry.slot().variant.clone(),
                nominated,
            }),
            None => self.lead.decline(),
        }
        stored.map(|()| entry)
    }
}

impl Storable {
    fn streaming(&self, recording: Arc<Recording>) -> Fill {
        Fill {
            head: Arc::new(self.head.clone()),
            body: FillBody::Streaming(recording),
            variant: self.place.variant.clone(),
            nominated: self.place.nominated.clone(),
        }
    }
}
