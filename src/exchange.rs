//! The life of a request, top to bottom.
//!
//! `begin` decides synchronously as far as it can: a request that no rule is for, one that bypasses
//! the cache, and one that a fresh entry answers never get a box or a task. What is left is a read
//! that missed ([`Exchange::read`]) or a write ([`Exchange::write`]).

use std::sync::Arc;

use http::{
    HeaderValue, Method, Request, Response,
    header::{CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, UPGRADE},
};
use http_body::Body;
use tokio::time::timeout_at;
use tower::ServiceExt;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    clock::now,
    coalesce::{Lead, Settled, Turn},
    detach::Detachable,
    entry::{Entry, Head},
    fill::{Fill, Filling},
    future::ResponseFuture,
    key::{PrimaryKey, Slot},
    outcome::{Alone, Bypass, Forward, Outcome, Refusal, Unshared},
    policy::admit,
    route::{CacheRule, Coalescing, HeadRef, Matched, RequestView},
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
    Read(Read),
    Write(Vec<PrimaryKey>),
}

/// A read that found nothing fresh in this process.
struct Read {
    route: usize,
    slot: Slot,
    forward: Forward,
    is_head: bool,
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
        _ if head.headers.contains_key(UPGRADE) => Decision::Pass,
        Matched::Read(route, rule, parameters) => {
            let view = RequestView { head, parameters: &parameters };
            let has_content = !request.body().is_end_stream();
            decide_read(shared, (route, rule), view, has_content).unwrap_or_else(|bypass| {
                if bypass == Bypass::Credentials {
                    shared.warn_of_credentials(route);
                }
                Decision::Forward(shared.bucket(route), Unshared::Bypassed(bypass))
            })
        }
        Matched::Write => {
            let matched = shared.table.write(head);
            matched.failed.iter().for_each(|route| shared.metrics().invalidation_failed(route));
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
) -> Result<Decision<B>, Bypass> {
    if shared.is_switched_off(route) {
        return Err(Bypass::Switch);
    }
    let is_head = *view.head.method == Method::HEAD;
    let admitted = admit(&shared.scope, rule, view, has_content)?;
    let variant = admitted.variant();
    let found = shared.store.peek(&variant);
    if let Some(entry) = found.as_ref().filter(|entry| entry.is_fresh()) {
        return Ok(match answer(shared, route, entry, is_head) {
            Some(response) => Decision::Answer(response),
            None => Decision::Forward(shared.bucket(route), Unshared::Alone(Alone::Pass)),
        });
    }
    let forward = match found {
        Some(entry) if entry.as_response().is_some() => Forward::Stale,
        _ => Forward::UriMiss,
    };
    let slot = Slot { key: admitted.key()?, variant: variant.to_variant() };
    Ok(Decision::Read(Read { route, slot, forward, is_head }))
}

/// Answers from an entry; `None` if it is no response but a `Pass`.
fn answer<St: Store, B: Body>(
    shared: &Shared<St>,
    route: usize,
    entry: &Entry,
    is_head: bool,
) -> Option<Response<ResponseBody<B>>> {
    let (head, body) = entry.as_response()?;
    let outcome = Outcome::Hit { ttl: head.ttl(now()) };
    let mut response = reuse(shared, route, (head, outcome), ResponseBody::stored(body.clone()));
    if is_head {
        // RFC 9110 §9.3.2: the fields that GET would have sent, and no content.
        let length = HeaderValue::from(body.len());
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length);
        *response.body_mut() = ResponseBody::empty();
    }
    Some(response)
}

fn reuse<St: Store, B: Body>(
    shared: &Shared<St>,
    route: usize,
    (head, outcome): (&Head, Outcome),
    body: ResponseBody<B>,
) -> Response<ResponseBody<B>> {
    let status = shared.reporter.ended(shared.bucket(route), outcome);
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields(head.age(now()).as_secs().into(), status);
    response
}

/// One request that is not answered at once, with what it needs.
struct Exchange<S, St> {
    shared: Arc<Shared<St>>,
    inner: S,
}

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

impl<S, St: Store> Exchange<S, St> {
    /// Looks further, joins a flight or leads one.
    async fn read<Q, B>(self, read: Read, request: Request<Q>) -> Answer<B, S::Error>
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
        let mut was_abandoned = false;
        loop {
            match self.shared.store.lookup(&read.slot).await {
                Lookup::Found(entry) if entry.is_fresh() => {
                    return match answer(&self.shared, read.route, &entry, read.is_head) {
                        Some(response) => Ok(response),
                        None => self.forward(&read, request, Unshared::Alone(Alone::Pass)).await,
                    };
                }
                Lookup::Unavailable => {
                    return self.forward(&read, request, Unshared::Bypassed(Bypass::Store)).await;
                }
                Lookup::Found(_) | Lookup::Absent => {}
            }
            let alone = if read.is_head {
                Alone::Head
            } else {
                match self.turn(&read) {
                    Turn::Lead(lead) => {
                        let detachments = Arc::clone(&self.shared.detachments);
                        return Detachable::new(self.fill(lead, read, request), &detachments).await;
                    }
                    Turn::Crowd => Alone::Crowd,
                    Turn::Follow(flight) => match timeout_at(deadline, flight.settled()).await {
                        Err(_) => Alone::Deadline,
                        Ok(Settled::Declined) => Alone::Declined,
                        Ok(settled) => {
                            if let Some(response) = self.share(&read, &settled) {
                                return Ok(response);
                            }
                            // One follower leads; a second dead fill in a row is enough.
                            if !std::mem::replace(&mut was_abandoned, true) {
                                continue;
                            }
                            Alone::Declined
                        }
                    },
                }
            };
            return self.forward(&read, request, Unshared::Alone(alone)).await;
        }
    }

    fn turn(&self, read: &Read) -> Turn<Fill> {
        let Shared { flights, store, table, .. } = &*self.shared;
        let sequence = store.sequence();
        match table.read_rules()[read.route].coalescing {
            Coalescing::Off => Turn::Lead(flights.take_off(&read.slot, sequence.begin())),
            // A request that began after an invalidation never joins an older flight.
            Coalescing::On => flights.enter(
                &read.slot,
                |fence| sequence.is_current(&read.slot.key, fence),
                || sequence.begin(),
            ),
        }
    }

    /// Answers a follower; `None` if the fill died, even if it had begun to stream.
    fn share<B: Body>(
        &self,
        read: &Read,
        settled: &Settled<Fill>,
    ) -> Option<Response<ResponseBody<B>>> {
        let (head, body) = match settled {
            Settled::Filled(Fill::Stored(entry)) => {
                let (head, body) = entry.as_response()?;
                (head, ResponseBody::stored(body.clone()))
            }
            Settled::Filled(Fill::Streaming(head, recording)) => {
                (head, ResponseBody::reader(recording.cursor()?))
            }
            Settled::Declined | Settled::Abandoned => return None,
        };
        let outcome = Outcome::Collapsed { ttl: head.ttl(now()) };
        Some(reuse(&self.shared, read.route, (head, outcome), body))
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
        let outcome = why.outcome(response.status());
        let bucket = self.shared.bucket(read.route);
        self.shared.reporter.mark(bucket, outcome, response.headers_mut());
        Ok(response.map(ResponseBody::passing))
    }

    /// Leads a flight: looks once more, forwards, judges the head, and lets the body be recorded.
    async fn fill<Q, B>(
        self,
        lead: Lead<Fill>,
        read: Read,
        mut request: Request<Q>,
    ) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let mut filling = match begin_fill(&self.shared, lead, &read).await {
            Ok(filling) => filling,
            Err(Refused::Found(entry)) => {
                return match answer(&self.shared, read.route, &entry, read.is_head) {
                    Some(response) => Ok(response),
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
        filling.requested = now();
        let response = match self.inner.oneshot(request).await {
            Ok(response) => response,
            Err(error) => {
                filling.decline(Refusal::Failed, None).await;
                return Err(error);
            }
        };
        let (mut head, body) = response.into_parts();
        let (status, bucket) = (head.status, self.shared.bucket(read.route));
        let (stored, body) = filling.receive(&head, body).await;
        let outcome = Outcome::Led { forward: read.forward, stored, status };
        self.shared.reporter.mark(bucket, outcome, &mut head.headers);
        Ok(Response::from_parts(head, body))
    }

    /// Forwards a write, and invalidates before the writer sees its response.
    async fn write<Q, B>(self, keys: Vec<PrimaryKey>, request: Request<Q>) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Body,
    {
        let write = PendingWrite::new(Arc::clone(&self.shared), keys);
        match self.inner.oneshot(request).await {
            Ok(mut response) => {
                write.settle(Effect::of(response.status())).await;
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

/// Takes the right to fill; where there is none, the flight is settled.
async fn begin_fill<St: Store>(
    shared: &Arc<Shared<St>>,
    lead: Lead<Fill>,
    read: &Read,
) -> Result<Filling<St>, Refused> {
    // Asked after the flight took its number: see `Unsettled::enter`.
    if shared.unsettled.contains(&read.slot.key) {
        lead.decline();
        return Err(Refused::Bypass(Bypass::Unsettled));
    }
    match shared.store.begin(lead.slot()).await {
        Begin::Granted(lease) => {
            let shared = Arc::clone(shared);
            Ok(Filling { shared, lead, lease, route: read.route, requested: now() })
        }
        Begin::Found(entry) if entry.as_response().is_some() => {
            lead.fill(Fill::Stored(Arc::clone(&entry)));
            Err(Refused::Found(entry))
        }
        Begin::Found(pass) => {
            lead.decline();
            Err(Refused::Found(pass))
        }
        Begin::Unavailable => {
            lead.decline();
            Err(Refused::Bypass(Bypass::Store))
        }
    }
}

/// Why a flight's leader does not fill.
enum Refused {
    /// Somebody else has, meanwhile.
    Found(Arc<Entry>),
    Bypass(Bypass),
}
