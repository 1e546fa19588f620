//! The life of a request, top to bottom.
//!
//! `begin` decides synchronously as far as it can: a request that no rule is for, one that bypasses
//! the cache, and one that a fresh entry answers never get a box or a task. What is left is a read
//! that missed ([`Exchange::read`]) or a write ([`Exchange::write`]).

use std::sync::Arc;

use http::{
    HeaderMap, Method, Request, Response,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use http_body::Body;
use tokio::time::timeout_at;
use tower::ServiceExt;
use tower_service::Service;

use crate::{
    answer::{Asks, Fill, hit, not_modified, unsatisfied},
    body::ResponseBody,
    clock::now,
    coalesce::{Lead, Settled, Turn},
    detach::Detachable,
    entry::Entry,
    fill::Filling,
    future::ResponseFuture,
    key::{PrimaryKey, Slot},
    outcome::{Alone, Bypass, Forward, Outcome, Unshared},
    policy::{Denied, admit},
    read::Read,
    route::{CacheRule, Coalescing, HeadRef, Matched, RequestView, Target},
    shared::Shared,
    store::{Begin, Lookup, Store},
    write::{Effect, PendingWrite},
};

/// What `begin` decides.
enum Decision<B: Body> {
    /// Not the cache's business.
    Pass,
    Answer(Response<ResponseBody<B>>),
    /// Forward on the caller's own time, and say why.
    Forward(usize, Unshared),
    /// Boxed, so that the answer to a hit is moved in small steps.
    Read(Box<Read>),
    Write(Vec<PrimaryKey>),
}

/// Begins a request's life.
pub(crate) fn begin<S, St, Q, B>(
    shared: &Arc<Shared<St>>,
    inner: &S,
    request: Request<Q>,
) -> ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    St: Store,
    Q: Body + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send + 'static,
{
    match decide(shared, &request) {
        Decision::Pass => ResponseFuture::passing(inner.clone().oneshot(request)),
        Decision::Answer(response) => ResponseFuture::ready(response),
        Decision::Forward(bucket, why) => {
            let reporter = Arc::clone(&shared.reporter);
            ResponseFuture::marking(inner.clone().oneshot(request), reporter, bucket, why)
        }
        Decision::Read(read) => {
            let exchange = Exchange { shared: Arc::clone(shared), inner: inner.clone() };
            ResponseFuture::exchange(exchange.read(read, request))
        }
        Decision::Write(keys) => {
            let exchange = Exchange { shared: Arc::clone(shared), inner: inner.clone() };
            let detachments = &shared.detachments;
            ResponseFuture::exchange(Detachable::new(exchange.write(keys, request), detachments))
        }
    }
}

fn decide<St: Store, Q: Body, B: Body>(shared: &Shared<St>, request: &Request<Q>) -> Decision<B> {
    let head = HeadRef::of(request);
    match shared.table.classify(head.method, head.uri.path()) {
        Matched::Pass => Decision::Pass,
        Matched::Read(route, rule, parameters) => {
            let view = RequestView { head, parameters: &parameters };
            let has_content = !request.body().is_end_stream();
            let reason = match decide_read(shared, (route, rule), view, has_content) {
                Ok(decision) => return decision,
                Err(Denied::Upgrade) => return Decision::Pass,
                Err(Denied::Bypass(reason)) => reason,
            };
            if reason == Bypass::Credentials {
                shared.warn_of_credentials(route);
            }
            Decision::Forward(shared.bucket(route), Unshared::Bypassed(reason))
        }
        Matched::Write => {
            let matched = shared.table.write(head);
            matched.failed.iter().for_each(|route| shared.invalidation_failed(route));
            let is_none = matched.keys.is_empty() && matched.failed.is_empty();
            if is_none { Decision::Pass } else { Decision::Write(matched.keys) }
        }
    }
}

fn decide_read<St: Store, B: Body>(
    shared: &Shared<St>,
    (route, rule): (usize, &CacheRule),
    view: RequestView<'_, '_>,
    has_content: bool,
) -> Result<Decision<B>, Denied> {
    if shared.is_switched_off(route) {
        return Err(Bypass::Switch.into());
    }
    let (fields, secret) = (view.head.headers, &shared.identity.secret);
    let admitted = admit(&shared.identity, rule, view, has_content)?;
    let declared = rule.vary.values(fields, secret);
    let mut learned = None;
    let mut forward = Forward::UriMiss;
    let mut found = shared.store.peek(&admitted.variant(&declared));
    if let Some(nominated) = found.as_ref().and_then(|note| note.as_nominated()).cloned() {
        let values = nominated.values(fields, secret);
        found = shared.store.peek(&admitted.variant(&values));
        forward = Forward::VaryMiss;
        learned = Some((nominated, values));
    }
    let asks = Asks {
        is_head: *view.head.method == Method::HEAD,
        wishes: admitted.wishes,
        conditions: admitted.conditions.clone(),
        needs_permission: admitted.needs_permission,
    };
    let telling = shared.telling(route);
    let mut seen = None;
    if let Some(entry) = found {
        let is_fresh = entry.is_fresh_at(telling.now);
        match entry.as_response() {
            None if is_fresh && !asks.wishes.only_if_cached => {
                return Ok(Decision::Forward(telling.bucket, Unshared::Alone(Alone::Pass)));
            }
            None => {}
            Some(_) if !is_fresh => forward = Forward::Stale,
            Some(response) if asks.accept(response.0, telling.now) => {
                return Ok(Decision::Answer(hit(response, telling, &asks)));
            }
            Some(_) => {
                forward = Forward::Request;
                seen = Some(entry);
            }
        }
    }
    let base = admitted.variant(&declared).to_variant();
    let (nominated, variant) = match learned {
        Some((nominated, values)) => (nominated, base.nominating(&values)),
        None => (rule.vary.clone(), base.clone()),
    };
    let slot = Slot { key: admitted.key()?, variant };
    let read = Read { route, slot, base, nominated, asks, forward, seen };
    Ok(Decision::Read(Box::new(read)))
}

/// One request that is not answered at once, with what it needs.
struct Exchange<S, St> {
    shared: Arc<Shared<St>>,
    inner: S,
}

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

impl<S, St: Store> Exchange<S, St> {
    /// Looks further, joins a flight or leads one.
    async fn read<Q, B>(self, mut read: Box<Read>, request: Request<Q>) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let deadline = now() + self.shared.follower_wait;
        let (mut was_abandoned, mut has_varied) = (false, false);
        let alone = loop {
            match look(&self.shared, &mut read, request.headers()).await {
                Look::Answer(response) => return Ok(response),
                Look::Unshared(why) => return self.forward(&read, request, why).await,
                Look::Nothing => {}
            }
            let flight = match self.turn(&read) {
                Turn::Lead(lead) => {
                    let detachments = Arc::clone(&self.shared.detachments);
                    return Detachable::new(self.fill(lead, read, request), &detachments).await;
                }
                Turn::Crowd => break Alone::Crowd,
                Turn::Follow(flight) => flight,
            };
            match timeout_at(deadline, flight.settled()).await {
                Err(_) => break Alone::Deadline,
                Ok(Settled::Declined) => break Alone::Declined,
                Ok(Settled::Filled(fill)) => {
                    // Made for other values of fields that nobody knew to matter: look again, by
                    // these, once.
                    if read.slot.variant != fill.variant {
                        read.vary_by(&self.shared, &fill.nominated, request.headers());
                    }
                    if read.slot.variant != fill.variant {
                        if std::mem::replace(&mut has_varied, true) {
                            break Alone::Declined;
                        }
                        read.forward = Forward::VaryMiss;
                        continue;
                    }
                    let telling = self.shared.telling(read.route);
                    if let Some(response) = fill.answer(telling, &read.asks) {
                        return Ok(response);
                    }
                }
                Ok(Settled::Abandoned) => {}
            }
            // The fill died. One follower leads; a second dead fill in a row is enough.
            if std::mem::replace(&mut was_abandoned, true) {
                break Alone::Declined;
            }
        };
        self.forward(&read, request, Unshared::Alone(alone)).await
    }

    fn turn(&self, read: &Read) -> Turn<Fill> {
        let Shared { flights, store, table, .. } = &*self.shared;
        let sequence = store.sequence();
        // A request that wants something newer than what is fresh waits for nobody: what is good
        // enough for others is not for it.
        let is_alone =
            read.seen.is_some() || table.read_rules()[read.route].coalescing == Coalescing::Off;
        if is_alone {
            return Turn::Lead(flights.take_off(&read.slot, sequence.begin()));
        }
        // A request that began after an invalidation never joins an older flight.
        flights.enter(
            &read.slot,
            |fence| sequence.is_current(&read.slot.key, fence),
            || sequence.begin(),
        )
    }

    /// Forwards for this request alone.
    async fn forward<Q, B>(
        self,
        read: &Read,
        request: Request<Q>,
        why: Unshared,
    ) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Body,
    {
        let mut response = self.inner.oneshot(request).await?;
        if read.is_contradicted_by(&response) {
            let _ = self.shared.invalidate(&read.slot.key).await;
        }
        let outcome = why.outcome(response.status());
        let bucket = self.shared.bucket(read.route);
        self.shared.reporter.mark(bucket, outcome, response.headers_mut());
        Ok(response.map(ResponseBody::passing))
    }

    /// Leads a flight: looks once more, forwards, judges the head, and lets the body be recorded.
    async fn fill<Q, B>(
        self,
        lead: Lead<Fill>,
        read: Box<Read>,
        mut request: Request<Q>,
    ) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let bucket = self.shared.bucket(read.route);
        let mut filling = match begin_fill(&self.shared, lead, &read).await {
            Ok(filling) => filling,
            Err(Refused::Found(entry)) => {
                return match entry.as_response() {
                    Some(found) => Ok(hit(found, self.shared.telling(read.route), &read.asks)),
                    None => self.forward(&read, request, Unshared::Alone(Alone::Pass)).await,
                };
            }
            Err(Refused::Bypass(reason)) => {
                return self.forward(&read, request, Unshared::Bypassed(reason)).await;
            }
        };
        // Taken off, so that what comes back is the whole representation and not a 304 to this
        // client's copy.
        request.headers_mut().remove(IF_NONE_MATCH);
        request.headers_mut().remove(IF_MODIFIED_SINCE);
        // Kept, because the response may nominate any of them.
        let fields = request.headers().clone();
        filling.requested = now();
        let response = match self.inner.oneshot(request).await {
            Ok(response) => response,
            Err(error) => {
                filling.fail();
                return Err(error);
            }
        };
        let (mut head, body) = response.into_parts();
        let status = head.status;
        let (stored, body) = filling.receive((&read, &fields), &head, body).await;
        let outcome = Outcome::Led { forward: read.forward, stored, status };
        self.shared.reporter.mark(bucket, outcome, &mut head.headers);
        let is_had = stored.is_ok() && read.asks.have(status, &head.headers);
        let response = Response::from_parts(head, body);
        Ok(if is_had { not_modified(response) } else { response })
    }

    /// Forwards a write, and invalidates before the writer sees its response.
    async fn write<Q, B>(self, keys: Vec<PrimaryKey>, request: Request<Q>) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Body,
    {
        let mut write = PendingWrite::new(Arc::clone(&self.shared), keys);
        let target = Target::of(HeadRef::of(&request));
        match self.inner.oneshot(request).await {
            Ok(mut response) => {
                let effect = Effect::of(response.status());
                if effect == Effect::Changed {
                    write.also(self.shared.table.named(&target, response.headers()));
                }
                write.settle(effect).await;
                self.shared.reporter.mark_written(&mut response);
                Ok(response.map(ResponseBody::passing))
            }
            Err(error) => {
                write.settle(Effect::Unknown).await;
                Err(error)
            }
        }
    }
}

/// Asks the store, where it holds more than this process does.
async fn look<St: Store, B: Body>(
    shared: &Shared<St>,
    read: &mut Read,
    fields: &HeaderMap,
) -> Look<B> {
    let mut found = shared.store.lookup(&read.slot).await;
    if let Lookup::Found(note) = &found
        && let Some(learned) = note.as_nominated()
    {
        read.vary_by(shared, learned, fields);
        found = shared.store.lookup(&read.slot).await;
    }
    let telling = shared.telling(read.route);
    match found {
        Lookup::Unavailable => return Look::Unshared(Unshared::Bypassed(Bypass::Store)),
        Lookup::Found(entry) if entry.is_fresh() => match entry.as_response() {
            None if read.asks.wishes.only_if_cached => {}
            None => return Look::Unshared(Unshared::Alone(Alone::Pass)),
            Some(response) if read.asks.accept(response.0, telling.now) => {
                return Look::Answer(hit(response, telling, &read.asks));
            }
            Some(_) => {
                read.forward = Forward::Request;
                read.seen = Some(entry);
            }
        },
        Lookup::Found(_) | Lookup::Absent => {}
    }
    if read.asks.wishes.only_if_cached {
        shared.metrics().unsatisfied(telling.bucket);
        return Look::Answer(unsatisfied());
    }
    if read.asks.is_head {
        return Look::Unshared(Unshared::Alone(Alone::Head));
    }
    if read.asks.wishes.no_store {
        return Look::Unshared(Unshared::Alone(Alone::NoStore));
    }
    Look::Nothing
}

/// Takes the right to fill; where there is none, the flight is settled.
async fn begin_fill<St: Store>(
    shared: &Arc<Shared<St>>,
    lead: Lead<Fill>,
    read: &Read,
) -> Result<Filling<St>, Refused> {
    // Asked after the flight took its number: see `Unsettled::enter`.
    if shared.store.sequence().unsettled().contains(&read.slot.key) {
        lead.decline();
        return Err(Refused::Bypass(Bypass::Unsettled));
    }
    match shared.store.begin(lead.slot(), read.seen.as_deref()).await {
        Begin::Granted(lease) => {
            let shared = Arc::clone(shared);
            Ok(Filling { shared, lead, lease, route: read.route, requested: now() })
        }
        Begin::Found(entry) => {
            match Fill::of(&entry, &read.nominated) {
                Some(fill) => lead.fill(fill),
                None => lead.decline(),
            }
            Err(Refused::Found(entry))
        }
        Begin::Unavailable => {
            lead.decline();
            Err(Refused::Bypass(Bypass::Store))
        }
    }
}

/// What a read finds when it looks beyond this process.
enum Look<B: Body> {
    Answer(Response<ResponseBody<B>>),
    Unshared(Unshared),
    Nothing,
}

/// Why a flight's leader does not fill.
enum Refused {
    /// Somebody else has, meanwhile.
    Found(Arc<Entry>),
    Bypass(Bypass),
}
