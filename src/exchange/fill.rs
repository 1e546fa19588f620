//! Fill: from the head of the origin's response to the end of its body.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode, response};
use http_body::Body;

use super::{
    cache::Cache,
    notices::surrogate_keys,
    refill::Followed,
    request::{Placement, Read},
    respond::{SharedBody, SharedResponse},
    rules::CachedRoute,
    settle::{Conclusion, Ending},
};
use crate::{
    background::{Revalidation, runtime},
    body::ResponseBody,
    clock::{Instant, now, time_of_day},
    entry::{Entry, Head, MAX_FIELD_NAMES, Provenance, Timing, exact_copy},
    flight::Lead,
    insight::{FieldDigests, is_sampled},
    key::{FieldList, MAX_TAGS, Slot, Tag, Tags, Variant, seeded_hash},
    metrics::{outcome::Refusal, telemetry},
    policy::{
        CACHE_GROUPS, Reception, Terms, declared_length, groups, is_overloaded, may_be_remembered,
        named_tags,
    },
    recording::{Recorded, Recorder, Recording, Reservation, Stop, Tape},
    route::CacheRule,
    store::Store,
};

/// Time for which a refusal is remembered.
const PASS: Duration = Duration::from_secs(10);

/// Fill that has begun. Dropped, it abandons its flight and gives its lease back.
pub(crate) struct Filling<St: Store> {
    pub(crate) cache: Arc<Cache<St>>,
    pub(crate) lead: Lead<SharedResponse>,
    /// Right to store. Without it the response is only shared: a write has an unknown outcome.
    pub(crate) lease: Option<St::Lease>,
    pub(crate) route: Arc<CachedRoute>,
    /// Time at which the request was forwarded.
    pub(crate) requested: Instant,
    /// Invalidation a moment ago.
    pub(crate) followed: Option<Followed>,
    /// Right of its read, which ends with the flight.
    pub(crate) right: Option<Arc<Revalidation>>,
    /// Set once the origin has answered a refresh: how its body ends decides about the pause.
    pub(crate) is_refresh: bool,
    /// Fields of its request, if it is sampled for an audit.
    pub(crate) sampled: Option<Box<FieldDigests>>,
}

/// Request as it was forwarded.
pub(crate) struct ForwardedRequest<'r> {
    pub(crate) read: &'r Read,
    pub(crate) fields: FieldList,
}

/// Judgement of a response by its head: it may be stored, here and on these terms.
pub(super) struct Judgement {
    placement: Placement,
    tags: Tags,
    terms: Terms,
    timing: Timing,
}

/// Judgement of a response by its head: it may not be stored.
pub(super) struct Refused {
    refusal: Refusal,
    /// Its placement, if it has one.
    placement: Option<Placement>,
}

/// Response that may be stored, and its place.
pub(super) struct Storable {
    head: Head,
    placement: Placement,
    tags: Tags,
}

/// Response as its client gets it, and the work that is left before it is returned.
pub(crate) struct Received<St: Store, B: Body> {
    pub(crate) head: response::Parts,
    pub(crate) body: ResponseBody<B>,
    /// Status of the origin's answer, which is 304 where a stored response was revalidated.
    pub(crate) status: StatusCode,
    /// End of the flight; `None` where a task that reads the body ends it.
    pub(super) ending: Option<Ending<St>>,
    /// Recorder of a body that has ended early or has failed.
    pub(super) recorder: Option<Recorder<B>>,
}

impl<St: Store, B: Body> Received<St, B> {
    /// Ends the flight, where only the store is waited for. Returns whether the response is stored, as
    /// far as its head tells.
    pub(crate) async fn settle(&mut self) -> Result<(), Refusal> {
        let Some(ending) = &mut self.ending else { return Ok(()) };
        let commit = ending.commit().await;
        let Some(ending) = self.ending.take() else { return Ok(()) };
        let settled = ending.conclude(commit);
        if let Some(recorder) = self.recorder.take() {
            recorder.conclude(settled.as_ref().ok());
        }
        settled.map(drop)
    }
}

impl<St: Store> Cache<St> {
    /// Returns the tags of a response: those that its request tells, and the tags and groups that it
    /// names.
    pub(super) fn tags(
        &self,
        rule: &CacheRule,
        slot: &Slot,
        response: &response::Parts,
    ) -> Result<Tags, Refusal> {
        let named = named_tags(response, rule.tag_field.as_ref())?;
        let groups = groups(&CACHE_GROUPS, &response.headers);
        if named.is_empty() && groups.is_empty() {
            return Ok(slot.tags.clone());
        }
        if !named.is_empty() {
            self.tags_are_named();
        }
        let origin = slot.variant.origin();
        let groups = groups.iter().map(|group| Tag::group(&origin, group));
        Ok(slot.tags.with(named.into_iter().chain(groups)))
    }

    /// Names bucket, key and tags in a response, for a cache in front of the service. `tags` are its tags, if
    /// they are known.
    pub(super) fn name_surrogates(
        &self,
        rule: &CacheRule,
        slot: &Slot,
        response: &mut response::Parts,
        tags: Option<&Tags>,
    ) {
        let Some(field) = &self.surrogate_key_field else { return };
        let tags = tags.cloned().map_or_else(|| self.tags(rule, slot, response), Ok);
        let tags = tags.as_ref().unwrap_or(&slot.tags);
        if let Some(names) = surrogate_keys(&rule.bucket, &slot.key, tags) {
            // A map of fields that is full takes no more.
            let _ = response.headers.try_insert(field, names);
        }
    }
}

impl<St: Store> Filling<St> {
    /// Marks the request that it forwards, so that no layer further in waits for this fill, and its handler knows
    /// of an invalidation a moment ago.
    pub(crate) fn mark(&self, read: &Read, request: &mut Extensions) {
        let (nesting, sequence) = (&self.route.nesting, self.cache.store.sequence());
        nesting.mark(request, &read.base, sequence, self.lead.token());
        self.cache.tell(self.followed, self.route.bucket, request);
    }

    /// Takes the fields of the request, if the fill is sampled for an audit.
    pub(crate) fn sample(&mut self, request: &HeaderMap) {
        if is_sampled(self.rule().audit, &self.lead.slot().variant) {
            self.sampled = Some(Box::new(FieldDigests::of_request(request)));
        }
    }

    /// Judges a response by its head, and records the body or lets it pass.
    pub(crate) fn receive<B>(
        self,
        asked: &ForwardedRequest<'_>,
        mut head: response::Parts,
        body: B,
    ) -> Received<St, B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let status = head.status;
        let tags = self.tags(&head);
        self.name_surrogates(&mut head, tags.as_ref().ok());
        let tape = || {
            let declared = declared_length(&head.headers, body.size_hint().exact())?;
            Tape::new(self.rule().body_limit, declared, Reservation::none(&self.cache.bodies))
        };
        let judged = self.judge(asked, &head, tags).and_then(|judged| match tape() {
            Ok(tape) => Ok((judged, tape)),
            Err(refusal) => Err(Refused { refusal, placement: Some(judged.placement) }),
        });
        let (body, ending, recorder) = match judged {
            Ok((judgement, tape)) => self.record(&mut head, judgement, body, tape),
            Err(refused) => {
                (ResponseBody::passing(body), Some(self.refuse(&refused, status)), None)
            }
        };
        Received { head, body, status, ending, recorder }
    }

    /// Returns the tags of a response.
    pub(super) fn tags(&self, response: &response::Parts) -> Result<Tags, Refusal> {
        self.cache.tags(self.rule(), self.lead.slot(), response)
    }

    /// Names bucket, key and tags in a response.
    pub(super) fn name_surrogates(&self, response: &mut response::Parts, tags: Option<&Tags>) {
        self.cache.name_surrogates(self.rule(), self.lead.slot(), response, tags);
    }

    /// Judges a response by its head. `tags` are its tags, if they can be made.
    pub(super) fn judge(
        &self,
        asked: &ForwardedRequest<'_>,
        head: &response::Parts,
        tags: Result<Tags, Refusal>,
    ) -> Result<Judgement, Refused> {
        let secret = &self.cache.identity.secret;
        let placement = asked.read.place(&asked.fields, &head.headers, secret);
        let (terms, timing, placement) = match (self.terms(asked.read, head), placement) {
            (Ok((terms, timing)), Some(placement)) => (terms, timing, placement),
            (terms, placement) => {
                let refusal = terms.err().unwrap_or(Refusal::Vary);
                return Err(Refused { refusal, placement });
            }
        };
        match tags {
            Ok(tags) if tags.len() <= MAX_TAGS => Ok(Judgement { placement, tags, terms, timing }),
            tags => {
                let refusal = tags.err().unwrap_or(Refusal::Tags);
                Err(Refused { refusal, placement: Some(placement) })
            }
        }
    }

    /// Returns the terms on which a response may be stored, and its times.
    fn terms(&self, read: &Read, head: &response::Parts) -> Result<(Terms, Timing), Refusal> {
        let received = now();
        let dice = seeded_hash((read.slot.variant.seeded_hash(), received));
        if head.headers.keys_len() > MAX_FIELD_NAMES {
            return Err(Refusal::TooLarge);
        }
        let mut timing = Timing { requested: self.requested, received, lifetime: Duration::ZERO };
        let needs_permission = read.asks.needs_permission;
        let left = match self.rule().storage.lifetimes.least_ttl {
            Some(_) => self.cache.origin.share(),
            None => 1.0,
        };
        let reception = Reception { needs_permission, dice, timing, left, time_of_day };
        let mut terms = self.rule().storage.judge(head, &reception)?;
        if let Some(followed) = self.followed {
            followed.limit(head, &mut terms, received);
        }
        timing.lifetime = terms.fresh_for;
        Ok((terms, timing))
    }

    /// Copies a head as it is stored, and the chunks of a body with it.
    pub(super) fn copy(
        &self,
        head: &response::Parts,
        judgement: Judgement,
        body: &[Bytes],
    ) -> (Storable, Bytes) {
        let Judgement { placement, tags, terms, timing } = judgement;
        let stripped = &self.rule().storage.stripped;
        let unstored = match terms.withheld.is_empty() {
            true => Cow::Borrowed(&**stripped),
            false => Cow::Owned([stripped, &terms.withheld[..]].concat()),
        };
        let shapes = &self.route.shapes;
        let (mut head, body) = Head::with_body(head, &unstored, shapes, timing, body);
        head.be_at_least(terms.initial_age);
        head.set_windows(terms.windows);
        head.set_by_route(terms.by_route);
        (Storable { head, placement, tags }, body)
    }

    /// Settles the flight with nothing to share: there is no response.
    pub(crate) fn fail(self) {
        self.cache.metrics().refused(self.route.bucket, Refusal::Failed);
        self.cache.release(self.lease);
        self.lead.decline();
    }

    /// Settles the flight with a response that was stored before.
    pub(crate) fn fill_with(self, shared: SharedResponse) {
        self.cache.release(self.lease);
        self.lead.fill(|| shared);
    }

    /// Prepares the end of the flight with nothing to share: the response may not be stored. That is
    /// remembered at the response's own variant, so that the other variants are not affected.
    pub(super) fn refuse(self, refused: &Refused, status: StatusCode) -> Ending<St> {
        // A form that nothing is stored under is never looked for.
        let placement = refused.placement.as_ref().filter(|place| !place.has_moved);
        let refusal = refused.refusal;
        self.cache.metrics().refused(self.route.bucket, refusal);
        let pass = may_be_remembered(refusal, status).then(|| {
            let variant = placement.map_or(&self.lead.slot().variant, |place| &place.variant);
            let provenance = self.provenance(variant.clone(), Tags::none());
            let pass = Arc::new(Entry::pass(provenance, now() + PASS));
            (pass, placement.and_then(|place| self.note(place, now())))
        });
        let conclusion = match is_overloaded(status) {
            true => Conclusion::Overload(refusal),
            false => Conclusion::Refusal(refusal),
        };
        self.ending(pass, conclusion)
    }

    /// Returns the note that leads to a response, valid until `until` at least. `None` if no fields were
    /// nominated.
    fn note(&self, placement: &Placement, until: Instant) -> Option<Arc<Entry>> {
        let base = self.provenance(placement.noted_at.clone()?, Tags::none());
        // Other responses that are found by the same note may be of use for longer than this one.
        let until = until.max(now() + self.rule().longest());
        Some(Arc::new(Entry::nominated(base, placement.selection.nominated.clone(), until)))
    }

    fn provenance(&self, variant: Variant, tags: Tags) -> Provenance {
        Provenance {
            slot: Slot { key: self.lead.slot().key.clone(), variant, tags },
            fence: self.lead.fence(),
            requested: self.requested,
            gauge: self.cache.metrics().gauge(self.route.bucket),
        }
    }

    pub(super) fn rule(&self) -> &CacheRule {
        &self.route.rule
    }

    /// Reads a body as far as it is there. A body that has ended is committed at once. For another one a
    /// task reads the rest, while the client already has the head.
    fn record<B>(
        self,
        head: &mut response::Parts,
        judgement: Judgement,
        body: B,
        mut tape: Tape,
    ) -> (ResponseBody<B>, Option<Ending<St>>, Option<Recorder<B>>)
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let mut body = Box::pin(body);
        // No wake-up is lost: the task polls again, with a waker of its own.
        let polled = tape.advance(body.as_mut(), &mut Context::from_waker(Waker::noop()));
        if matches!(polled, Poll::Ready(Stop::End)) && tape.is_plain() {
            self.rule().tag(head, &tape.chunks);
            let (storable, body) = self.copy(head, judgement, &tape.chunks);
            let mut ending = self.commit(storable, body.clone());
            ending.reservation = Some(tape.reservation);
            return (ResponseBody::stored(body), Some(ending), None);
        }
        let (storable, _) = self.copy(head, judgement, &[]);
        let declared = tape.declared;
        let without_reader = match self.is_refresh {
            true => &self.cache.refreshes,
            false => &self.cache.detachments,
        };
        let (recording, cursor) = Recording::new(tape, Arc::clone(without_reader));
        let (mut recorder, rest) = Recorder::new(Arc::clone(&recording), body);
        let reader = ResponseBody::first_reader(cursor, rest);
        let runtime = runtime();
        let stop = match polled {
            Poll::Ready(stop) => Some(stop),
            Poll::Pending => runtime.is_none().then_some(Stop::Refused(Refusal::Runtime)),
        };
        if let Some(stop) = stop {
            let recorded = recorder.stop(stop);
            return (reader, Some(self.end(storable, recorded)), Some(recorder));
        }
        let has_tags_beside = self.has_tags_beside(&storable.tags);
        if declared.is_some() && storable.head.may_be_shared() && !has_tags_beside {
            self.lead.share(storable.share(recording));
        }
        if let Some(runtime) = runtime {
            runtime.spawn(telemetry::in_current_span(async move {
                let recorded = recorder.run().await;
                // Stored first: a client that has read the whole body finds it stored.
                let settled = self.end(storable, recorded).settle().await;
                recorder.conclude(settled.as_ref().ok());
            }));
        }
        (reader, None, None)
    }

    /// Prepares the end of the flight with the result of the recorder.
    fn end(self, mut storable: Storable, recorded: Recorded) -> Ending<St> {
        match recorded {
            Recorded::Complete(chunks) => {
                self.rule().tag_stored(&mut storable.head, &chunks, &self.route.shapes);
                self.commit(storable, exact_copy(&chunks))
            }
            Recorded::Refused(refusal) => {
                let placement = Some(storable.placement);
                self.refuse(&Refused { refusal, placement }, storable.head.status)
            }
            Recorded::Deserted => self.ending(None, Conclusion::Abandoned),
        }
    }

    /// Prepares the end of the flight with a whole response, which is stored and shared.
    pub(super) fn commit(self, storable: Storable, body: Bytes) -> Ending<St> {
        let Storable { head, placement, tags } = storable;
        let provenance = self.provenance(placement.variant.clone(), tags);
        let entry = Entry::response(provenance, head, body);
        let note = self.note(&placement, entry.kept_until());
        let entry = Arc::new(entry);
        let conclusion = Conclusion::Response(Arc::clone(&entry), placement.selection);
        self.ending(Some((entry, note)), conclusion)
    }

    /// Returns whether there are tags among these that requests did not know when they joined the
    /// flight. One may have been invalidated between the flight's beginning and theirs.
    pub(crate) fn has_tags_beside(&self, tags: &Tags) -> bool {
        tags.len() > self.lead.slot().tags.len()
    }

    pub(super) fn ending(
        self,
        entries: Option<(Arc<Entry>, Option<Arc<Entry>>)>,
        conclusion: Conclusion,
    ) -> Ending<St> {
        let Self { cache, lead, lease, route, requested, followed, right, is_refresh, sampled } =
            self;
        let entries = match entries {
            Some((entry, note)) => Some((lease, entry, note)),
            None => {
                cache.release(lease);
                None
            }
        };
        Ending {
            cache,
            lead,
            route,
            requested,
            followed,
            entries,
            conclusion,
            _right: right,
            is_refresh,
            reservation: None,
            sampled,
        }
    }
}

impl Storable {
    fn share(&self, recording: Arc<Recording>) -> SharedResponse {
        SharedResponse {
            head: Arc::new(self.head.clone()),
            body: SharedBody::Streaming(recording),
            variant: self.placement.variant.clone(),
            selection: self.placement.selection.clone(),
        }
    }
}
