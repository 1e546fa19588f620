//! The second half of a leader's life: from the head of the response to the end of its flight.

mod revalidate;

use std::{borrow::Cow, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::DATE, response};
use http_body::Body;
use tokio::runtime::Handle;

use crate::{
    answer::{Fill, FillBody},
    body::ResponseBody,
    bounded::bounded,
    budget::Reservation,
    clock::{Instant, now, time_of_day},
    coalesce::Lead,
    entry::{Entry, Head, Provenance, Timing},
    key::{MAX_TAGS, Slot, Tag, Tags, Variant, seeded_hash},
    nominated::Nominated,
    outcome::Refusal,
    policy::{Asked, CACHE_GROUPS, date_value, declared_length, groups, judge, may_be_remembered},
    read::Read,
    recording::{Recorded, Recorder, Recording, Stop, Tape},
    route::CacheRule,
    shared::Shared,
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

/// A response that may be stored, by its head.
#[derive(Clone)]
struct Storable {
    head: Head,
    place: Place,
    tags: Tags,
}

/// Where a response belongs.
#[derive(Clone)]
struct Place {
    /// What the response was made for, and the nominated fields that this holds.
    variant: Variant,
    nominated: Nominated,
    /// Where the note of these fields belongs, if a response has nominated any.
    noted_at: Option<Variant>,
}

/// Whether a response is stored, as its head tells it, and the body to send.
type Received<B> = (Result<(), Refusal>, ResponseBody<B>);

impl<St: Store> Filling<St> {
    /// Judges a response by its head, and records the body or lets it pass. `asked` is the
    /// request, and its fields.
    pub(crate) async fn receive<B>(
        self: Box<Self>,
        asked: (&Read, &HeaderMap),
        head: &response::Parts,
        body: B,
    ) -> Received<B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let tape = |declared| {
            let reservation = Reservation::none(&self.shared.bodies);
            Tape::new(self.rule().body_limit, declared, reservation)
        };
        let place = self.place(asked, &head.headers);
        let tags = self.tags(&head.headers);
        let judged = self.judge(asked.0, head, (place.as_ref(), tags)).and_then(|storable| {
            let declared = declared_length(&head.headers, body.size_hint().exact())?;
            Ok((storable, tape(declared)?, declared))
        });
        match judged {
            Ok((storable, tape, declared)) => self.record(storable, body, (tape, declared)).await,
            Err(refusal) => {
                self.refuse(refusal, head.status, place.as_ref()).await;
                (Err(refusal), ResponseBody::passing(body))
            }
        }
    }

    /// Dates a response that has no date, where its age depends on it (RFC 9110 §6.6.1).
    pub(crate) fn date(&self, response: &mut HeaderMap) {
        if self.rule().validates() && !response.contains_key(DATE) {
            response.insert(DATE, date_value(time_of_day()));
        }
    }

    /// Returns where the response to a request belongs, or `None` where no request shows it.
    fn place(&self, (read, fields): (&Read, &HeaderMap), response: &HeaderMap) -> Option<Place> {
        let nominated = read.nominated.with(response).ok()?;
        let variant = if nominated == read.nominated {
            read.slot.variant.clone()
        } else {
            read.base.nominating(&nominated.values(fields, &self.shared.identity.secret))
        };
        let noted_at = (variant != read.base).then(|| read.base.clone());
        Some(Place { variant, nominated, noted_at })
    }

    /// Returns the tags of a response: those that its request tells, and the groups that it names.
    fn tags(&self, response: &HeaderMap) -> Tags {
        let slot = self.lead.slot();
        let groups = groups(&CACHE_GROUPS, response);
        if groups.is_empty() {
            return slot.tags.clone();
        }
        let origin = slot.variant.origin();
        slot.tags.with(groups.iter().map(|group| Tag::group(&origin, group)))
    }

    fn judge(
        &self,
        read: &Read,
        head: &response::Parts,
        (place, tags): (Option<&Place>, Tags),
    ) -> Result<Storable, Refusal> {
        let received = now();
        let dice = seeded_hash((read.slot.variant.seeded_hash(), received));
        let rule = self.rule();
        if head.headers.keys_len() > MAX_FIELDS {
            return Err(Refusal::TooLarge);
        }
        let mut timing = Timing { requested: self.requested, received, lifetime: Duration::ZERO };
        let asked = Asked {
            needs_permission: read.asks.needs_permission,
            dice,
            corrected_age: timing.corrected_age(&head.headers),
            time_of_day,
        };
        let terms = judge(rule, head, &asked)?;
        let place = place.ok_or(Refusal::Vary)?.clone();
        if tags.len() > MAX_TAGS {
            return Err(Refusal::Tags);
        }
        timing.lifetime = terms.fresh_for;
        let unstored = match terms.withheld.is_empty() {
            true => Cow::Borrowed(&*rule.stripped),
            false => Cow::Owned([&rule.stripped, &terms.withheld[..]].concat()),
        };
        let mould = &self.shared.moulds[self.route];
        let head = Head::new(head, (mould, &unstored), timing)
            .at_least(terms.initial_age)
            .with_windows(terms.windows);
        Ok(Storable { head, place, tags })
    }

    /// Settles the flight with nothing to share: there is no response.
    pub(crate) fn fail(self) {
        self.give_up(Refusal::Failed);
    }

    /// Settles the flight with what there was before.
    pub(crate) fn fill_with(self, fill: Fill) {
        self.shared.store.release(self.lease);
        self.lead.fill(fill);
    }

    fn give_up(self, refusal: Refusal) {
        self.shared.metrics().refused(self.shared.bucket(self.route), refusal);
        self.shared.store.release(self.lease);
        self.lead.decline();
    }

    /// Settles the flight with nothing to share: the response may not be stored. That is remembered
    /// where it belongs, so that a refusal of one variant says nothing of the others.
    async fn refuse(self: Box<Self>, refusal: Refusal, status: StatusCode, place: Option<&Place>) {
        let bucket = self.shared.bucket(self.route);
        self.shared.metrics().refused(bucket, refusal);
        if may_be_remembered(refusal, status) {
            let variant = place.map_or(&self.lead.slot().variant, |place| &place.variant);
            let provenance = self.provenance(variant, Tags::none());
            let pass = Arc::new(Entry::pass(provenance, now() + PASS));
            let note = place.and_then(|place| self.note(place, now()));
            // Before the followers are let go, so that those behind them need not wait at all.
            bounded(self.shared.store.commit(self.lease, pass, note)).await;
        } else {
            self.shared.store.release(self.lease);
        }
        self.lead.decline();
    }

    /// Returns the note that leads to a place, where something is of use until `until` at least.
    fn note(&self, place: &Place, until: Instant) -> Option<Arc<Entry>> {
        let base = self.provenance(place.noted_at.as_ref()?, Tags::none());
        // Other responses that are found by the same note may be of use for longer than this one.
        let until = until.max(now() + self.rule().longest());
        Some(Arc::new(Entry::nominated(base, place.nominated.clone(), until)))
    }

    fn provenance(&self, variant: &Variant, tags: Tags) -> Provenance {
        Provenance {
            slot: Slot { key: self.lead.slot().key.clone(), variant: variant.clone(), tags },
            fence: self.lead.fence(),
            requested: self.requested,
            gauge: self.shared.metrics().gauge(self.shared.bucket(self.route)),
        }
    }

    fn rule(&self) -> &CacheRule {
        &self.shared.table.read_rules()[self.route]
    }

    async fn record<B>(
        self: Box<Self>,
        storable: Storable,
        body: B,
        (mut tape, declared): (Tape, Option<u64>),
    ) -> Received<B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let mut body = Box::pin(body);
        let polled = poll_fn(|cx| Poll::Ready(tape.advance(body.as_mut(), cx))).await;
        if matches!(polled, Poll::Ready(Stop::End)) && tape.is_plain(declared) {
            let (stored, body) = self.commit(storable, &tape.chunks).await;
            return (stored, ResponseBody::stored(body));
        }
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
            let settled = self.settle(storable, recorded).await;
            recorder.conclude(settled.as_ref().ok());
            return (settled.map(drop), reader);
        }
        let is_for_all = storable.head.may_be_shared() && !self.has_tags_beside(&storable.tags);
        if declared.is_some() && is_for_all {
            self.lead.share(storable.fill(FillBody::Streaming(recording)));
        }
        if let Ok(runtime) = runtime {
            runtime.spawn(async move {
                let recorded = recorder.run().await;
                // Stored first: who has read the whole body finds it stored.
                let settled = self.settle(storable, recorded).await;
                recorder.conclude(settled.as_ref().ok());
            });
        }
        (Ok(()), reader)
    }

    /// Settles the flight by what the recorder brought. Returns the body if it is stored.
    async fn settle(
        self: Box<Self>,
        storable: Storable,
        recorded: Recorded,
    ) -> Result<Bytes, Refusal> {
        match recorded {
            Recorded::Complete(chunks) => {
                let (stored, body) = self.commit(storable, &chunks).await;
                stored.map(|()| body)
            }
            Recorded::Refused(refusal) => {
                self.refuse(refusal, storable.head.status, Some(&storable.place)).await;
                Err(refusal)
            }
            Recorded::Deserted => Err(Refusal::Failed),
        }
    }

    /// Stores a whole response and shares it. Returns its body as it is stored.
    async fn commit(
        self: Box<Self>,
        storable: Storable,
        chunks: &[Bytes],
    ) -> (Result<(), Refusal>, Bytes) {
        let provenance = self.provenance(&storable.place.variant, storable.tags.clone());
        let (entry, body) = Entry::response(provenance, storable.head.clone(), chunks);
        (self.store(storable, Arc::new(entry), body.clone()).await, body)
    }

    /// Stores a response whose body is stored already, and shares it.
    async fn commit_freshened(
        self: Box<Self>,
        storable: Storable,
        body: Bytes,
    ) -> Result<(), Refusal> {
        let provenance = self.provenance(&storable.place.variant, storable.tags.clone());
        let entry = Entry::freshened(provenance, storable.head.clone(), body.clone());
        self.store(storable, Arc::new(entry), body).await
    }

    /// Whether there are tags among these that nobody knew who joined the flight: it may be that one of
    /// them was invalidated between the flight's beginning and theirs.
    pub(crate) fn has_tags_beside(&self, tags: &Tags) -> bool {
        tags.len() > self.lead.slot().tags.len()
    }

    async fn store(
        self: Box<Self>,
        storable: Storable,
        entry: Arc<Entry>,
        body: Bytes,
    ) -> Result<(), Refusal> {
        let bucket = self.shared.bucket(self.route);
        let metrics = self.shared.metrics();
        let is_grouped = self.has_tags_beside(&storable.tags);
        if is_grouped {
            // Who joins later could be younger than what the commit finds to be in order.
            self.lead.close();
        }
        let note = self.note(&storable.place, entry.kept_until());
        entry.note_route(self.route);
        let commit = bounded(self.shared.store.commit(self.lease, entry, note)).await;
        let stored = match commit.unwrap_or(Commit::Failed) {
            Commit::Stored => {
                self.shared.early[self.route].note(now() - self.requested);
                metrics.stored(bucket);
                Ok(())
            }
            Commit::Fenced => {
                metrics.fenced(bucket);
                Err(Refusal::Fenced)
            }
            Commit::Superseded => Err(Refusal::Superseded),
            Commit::TooLarge => Err(Refusal::TooLarge),
            Commit::Failed => Err(Refusal::Store),
        };
        if let Err(refusal) = stored
            && refusal != Refusal::Fenced
        {
            metrics.refused(bucket, refusal);
        }
        let is_in_doubt = is_grouped && matches!(stored, Err(Refusal::Fenced | Refusal::Store));
        match storable.head.may_be_shared() {
            // One of those who wait asks the origin again, for all.
            _ if is_in_doubt => drop(self.lead),
            // Those who follow began before whatever may have fenced the commit.
            true => self.lead.fill(storable.fill(FillBody::Whole(body))),
            false => self.lead.decline(),
        }
        stored
    }
}

impl Storable {
    fn fill(&self, body: FillBody) -> Fill {
        Fill {
            head: Arc::new(self.head.clone()),
            body,
            variant: self.place.variant.clone(),
            nominated: self.place.nominated.clone(),
        }
    }
}
