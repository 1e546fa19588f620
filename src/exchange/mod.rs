//! One request, first to last.
//!
//! [`begin`] classifies a request. It ends there if no rule is for it, if it bypasses the cache, or if a
//! fresh response in memory answers it: no box, no task, no lock that is held across an await. What is
//! left is a read ([`Exchange::run`]) or a write ([`forward_write`]).
//!
//! A read is one loop: look up, then follow a flight or lead one, and look again. The loop ends with an
//! answer or with a lease. A fill asks the origin, judges the response by its head, records the body, and
//! settles the flight.

mod assess;
mod audit;
mod cache;
mod classify;
mod coded;
mod content;
mod encode;
mod explain;
mod fill;
mod join;
mod limits;
mod lookup;
mod nesting;
mod notices;
mod ranges;
mod receive;
mod refill;
mod request;
mod respond;
mod revalidate;
mod rules;
mod settle;
mod shadow;
mod stale;
mod write;

use std::{future::poll_fn, ops::ControlFlow, sync::Arc, time::Duration};

use http::{
    Request, Response,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use http_body::Body;
use tower_service::Service;

pub use self::notices::{Invalidated, InvalidationHook};
use self::{
    assess::Origin,
    audit::Audit,
    classify::{Decision, classify},
    coded::CodingAsked,
    fill::{Filling, ForwardedRequest, Received},
    join::Step,
    lookup::{Ended, Search},
    receive::receive,
    request::Read,
    respond::{Reuse, turn_not_modified},
    shadow::Shadowing,
    stale::Refreshing,
    write::{PendingWrite, forward_write},
};
pub(crate) use self::{cache::Cache, notices::FrontSettings, write::acknowledged};
use crate::{
    background::{Detachable, runtime},
    body::ResponseBody,
    clock::{recent, timeout_at},
    future::{Mark, ResponseFuture, Watched, watch},
    key::{FieldList, Strength, Subject},
    metrics::{
        cache_outcome::OutcomeReport,
        outcome::{Alone, Outcome, Refusal, SparedCall, Unshared},
        status_field::StatusField,
        telemetry,
    },
    peek::{Readable, SentContent, peek},
    route::{HeadRef, RequestContent},
    store::{Store, timeout::bounded},
};

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

/// Begins the exchange of a request. `readable` tells whether its content can be read first.
pub(crate) fn begin<S, St, Q, B>(
    cache: &Arc<Cache<St>>,
    inner: &S,
    mut request: Request<Q>,
    readable: Readable<Q>,
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
    let asked = CodingAsked::take(&cache.rules(), &mut request);
    let future = begin_exchange(cache, inner, request, readable, None);
    if asked.is_none() && cache.reporter.status_field == StatusField::Standard {
        return future;
    }
    let reporter = Arc::clone(&cache.reporter);
    future.changed(move |response| {
        asked.iter().for_each(|asked| asked.finish(response));
        reporter.status_field.apply(response.headers_mut());
    })
}

fn begin_exchange<S, St, Q, B>(
    cache: &Arc<Cache<St>>,
    inner: &S,
    mut request: Request<Q>,
    readable: Readable<Q>,
    read: Option<&SentContent>,
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
    // Boxed: it is moved from one future into the next.
    let exchange = |read, request| {
        let (cache, inner) = (Arc::clone(cache), inner.clone());
        Box::new(Exchange { cache, inner, read, request: Some(request) })
    };
    let rules = &*cache.rules();
    let content = match read {
        Some(content) => RequestContent::Read(content),
        None => RequestContent::of(request.body()),
    };
    let mut decision = classify(cache, rules, HeadRef::of(&request), content);
    if let Decision::Peek = decision {
        let content = match peek(&mut request) {
            true => RequestContent::Present,
            false => RequestContent::Absent,
        };
        decision = classify(cache, rules, HeadRef::of(&request), content);
    }
    match decision {
        // After a peek there is no other.
        Decision::Pass | Decision::Peek => ResponseFuture::forward(inner.clone(), request, None),
        Decision::ReadContent(limit) => {
            let (cache, inner) = (Arc::clone(cache), inner.clone());
            ResponseFuture::waiting(async move {
                let content = content::read(&mut request, readable, limit).await;
                begin_exchange(&cache, &inner, request, readable, Some(&content)).await
            })
        }
        Decision::Answer(bucket, asks, reuse) => {
            ResponseFuture::ready(cache.reuse(bucket, &asks, &reuse))
        }
        Decision::Refuse(bucket, report, wait) => {
            ResponseFuture::ready(cache.refuse(bucket, report, wait))
        }
        Decision::Forward(bucket, why) => {
            cache.spend(1);
            let (reporter, report) =
                (Arc::clone(&cache.reporter), OutcomeReport::of(request.extensions()));
            let mark = Mark { reporter, bucket, why, began: recent(), report };
            ResponseFuture::forward(inner.clone(), request, Some(mark))
        }
        Decision::Read(read) => ResponseFuture::waiting(exchange(read, request).run()),
        Decision::Shadow(read) => ResponseFuture::waiting(exchange(read, request).shadow()),
        Decision::Refresh(read, reuse) => {
            ResponseFuture::ready(exchange(read, request).reuse(&reuse))
        }
        Decision::Write(changes) => {
            let (cache, rules, inner) = (Arc::clone(cache), Arc::clone(rules), inner.clone());
            let detachments = Arc::clone(&cache.detachments);
            let write = forward_write(cache, rules, inner, changes, request);
            let write = telemetry::in_current_span(write);
            ResponseFuture::waiting(Detachable::new(write, &detachments))
        }
        Decision::Unmatched => {
            let write = PendingWrite::new(cache, rules, None, &request);
            ResponseFuture::forward_unmatched(inner.clone(), request, Box::new(write))
        }
    }
}

/// Read that needs the store or the origin: it has no answer yet, or it refreshes one.
struct Exchange<S, St, Q> {
    cache: Arc<Cache<St>>,
    inner: S,
    read: Read,
    /// `None` once it is forwarded.
    request: Option<Request<Q>>,
}

/// Invariant of [`Exchange::request`].
const UNTIL_FORWARDED: &str = "the request has not been forwarded yet";

impl<S, St: Store, Q, B> Exchange<S, St, Q>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Body + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send + 'static,
{
    /// Searches for a response, and fills if the search ends with a lease.
    async fn run(mut self: Box<Self>) -> Answer<B, S::Error> {
        let mut search = Search::new();
        let filling = match self.search(&mut search).await {
            Ok(filling) => filling,
            Err(Ended::Stored(reuse)) => return Ok(self.reuse(&reuse)),
            Err(Ended::Collapsed(response)) => return Ok(response),
            // Boxed: an ordinary miss does not come here.
            Err(ended) => return Box::pin(self.end(ended)).await,
        };
        let cache = Arc::clone(&self.cache);
        let patience = cache.patience(&self.read).map(|limit| (limit, Box::new(self.read.clone())));
        // Followers rely on the fill from here on. If the caller goes away, it is completed without it.
        let fill = telemetry::in_current_span(self.fill(filling));
        let fill = Detachable::new(fill, &cache.detachments);
        let patience = patience.filter(|_| runtime().is_some());
        let Some((limit, read)) = patience else { return fill.await };
        Box::pin(cache.unless_slow(fill, search.began + limit, &read)).await
    }

    /// Looks up, and then follows a flight or leads one, until the read ends (`Err`) or holds a lease
    /// (`Ok`).
    async fn search(&mut self, search: &mut Search) -> Result<Filling<St>, Ended<B>> {
        loop {
            // A fill elsewhere that holds the lease is waited for before the next look.
            if search.held.is_none()
                && let ControlFlow::Break(ended) = self.look(search).await
            {
                return Err(ended);
            }
            let fields = self.request.as_ref().expect(UNTIL_FORWARDED).headers();
            match self.cache.join(search, &mut self.read, fields).await {
                Step::Again => {}
                Step::Fill(filling) => return Ok(filling),
                Step::Ended(ended) => return Err(ended),
            }
        }
    }

    async fn look(&mut self, search: &mut Search) -> ControlFlow<Ended<B>> {
        let fields = self.request.as_ref().expect(UNTIL_FORWARDED).headers();
        self.cache.look(search, &mut self.read, fields).await
    }

    /// Answers with the end of a search that has no right to fill.
    async fn end(mut self: Box<Self>, ended: Ended<B>) -> Answer<B, S::Error> {
        match ended {
            Ended::Stored(reuse) => Ok(self.reuse(&reuse)),
            Ended::Collapsed(response) => Ok(response),
            Ended::Unsatisfied => {
                Ok(self.cache.unsatisfied(self.read.route.bucket, self.read.asks.report))
            }
            Ended::Unshared(why) => {
                let has_waited = matches!(why, Unshared::Alone(Alone::Deadline));
                let stale =
                    has_waited.then(|| self.read.stand_in(&self.cache, Origin::Slow)).flatten();
                if let Some(reuse) = stale {
                    return Ok(self.reuse(&reuse));
                }
                match self.cache.refusal(&self.read.route.rule) {
                    Some(wait) => Ok(self.refuse(wait)),
                    None => self.forward(why).await,
                }
            }
            Ended::Exhausted(wait) => Ok(self.refuse(wait)),
        }
    }

    fn refuse(&self, wait: Duration) -> Response<ResponseBody<B>> {
        self.cache.refuse(self.read.route.bucket, self.read.asks.report, wait)
    }

    /// Answers with a stored response, and asks the origin about it afterwards if that is due.
    fn reuse(self: Box<Self>, reuse: &Reuse) -> Response<ResponseBody<B>> {
        let response = self.cache.reuse(self.read.route.bucket, &self.read.asks, reuse);
        if reuse.is_due {
            self.refresh();
        } else if self.cache.is_audit_due(&self.read.route, reuse) {
            (*self).audit(reuse);
        }
        response
    }

    /// Audits a hit in the background.
    fn audit(self, reuse: &Reuse) {
        let Self { cache, inner, mut read, request } = self;
        let mut request = request.expect(UNTIL_FORWARDED);
        read.ask_for_all(&mut request);
        Audit::begin(&cache, &read.route, reuse, &inner, request);
    }

    /// Revalidates or refreshes in the background; the caller already has its response. One request at a
    /// time does so for each variant. Without a permit nothing happens, and a later request tries again.
    fn refresh(mut self: Box<Self>) {
        let Some(right) = self.cache.revalidations.begin(&self.read.slot.variant) else { return };
        let Some(runtime) = runtime() else { return };
        let Some(permit) = self.cache.refreshes.begin() else { return };
        self.read.ask_for_all(self.request.as_mut().expect(UNTIL_FORWARDED));
        let fields = self.request.as_ref().expect(UNTIL_FORWARDED).headers();
        let call = match self.read.is_early() {
            true => SparedCall::EarlyRefresh,
            false => SparedCall::Revalidation,
        };
        if self.cache.is_limited(call, fields, &self.read.slot.variant) {
            return self.cache.origin.spared(call);
        }
        self.read.right = Some(Arc::new(right));
        let refreshing = Refreshing::new(&self.cache, &self.read);
        runtime.spawn(telemetry::in_current_span(async move {
            let ended = timeout_at(permit.deadline(), self.run_in_background()).await;
            if ended.is_ok() {
                refreshing.end();
            }
            // A response whose body is still being recorded takes a permit of its own.
            drop(permit);
            drop(ended);
        }));
    }

    /// Fills unless another request does. It waits for nothing, since the other fill does the same work.
    /// An early refresh does not look first: it would find the entry that it refreshes. Returns the
    /// response of a fill.
    async fn run_in_background(mut self: Box<Self>) -> Option<Answer<B, S::Error>> {
        let mut search = Search::without_waiting();
        if !self.read.is_early() && self.look(&mut search).await.is_break() {
            return None;
        }
        let fields = self.request.as_ref().expect(UNTIL_FORWARDED).headers();
        let step: Step<St, B> = self.cache.join(&mut search, &mut self.read, fields).await;
        let Step::Fill(filling) = step else { return None };
        Some(self.fill(filling).await)
    }

    /// Forwards for this request alone.
    async fn forward(&mut self, why: Unshared) -> Answer<B, S::Error> {
        let updating = self.cache.begin_update::<B>(&self.read, &why).await;
        let request = self.request.as_mut().expect(UNTIL_FORWARDED);
        updating.iter().for_each(|filling| filling.mark(&self.read, request.extensions_mut()));
        let fields = FieldList::of(request.headers());
        let forwarded = self.ask(|| ()).await;
        let asked = ForwardedRequest { read: &self.read, fields };
        let status = forwarded.as_ref().ok().map(|response| {
            self.cache.hear(&asked, response.status(), response.headers());
            response.status()
        });
        if let Some(response) = self.read.rescue(&self.cache, status) {
            return Ok(response);
        }
        let (mut head, body) = forwarded?.into_parts();
        self.cache.name_surrogates(&self.read.route.rule, &self.read.slot, &mut head, None);
        if self.read.is_contradicted_by(&head) {
            let key = Subject::Key(self.read.slot.key.clone());
            bounded(self.cache.invalidate(&key, Strength::Hard)).await;
        } else if let Some(filling) = updating {
            filling.update(&asked, head.clone()).await;
        }
        let outcome = why.outcome(head.status);
        self.read.asks.report.put(&outcome, &mut head.extensions);
        let bucket = self.read.route.bucket;
        self.cache.reporter.mark(bucket, outcome, &mut head.headers, self.read.origin_time);
        Ok(Response::from_parts(head, ResponseBody::passing(body)))
    }

    /// Forwards the request as it came, and compares the response with the one that would have answered. If
    /// there is none, the response is stored.
    async fn shadow(mut self: Box<Self>) -> Answer<B, S::Error> {
        let cache = Arc::clone(&self.cache);
        let found: ControlFlow<Ended<B>> = self.look(&mut Search::without_waiting()).await;
        let shadowing = Shadowing::begin(&cache, &self.read, found).await;
        let request = self.request.as_mut().expect(UNTIL_FORWARDED);
        let fields = FieldList::of(request.headers());
        shadowing.mark(&self.read, request.extensions_mut());
        let (head, body) = self.ask(|| ()).await?.into_parts();
        let asked = ForwardedRequest { read: &self.read, fields };
        cache.hear(&asked, head.status, &head.headers);
        let (head, body) = shadowing.receive(&asked, head, body).await;
        Ok(Response::from_parts(head, body))
    }

    /// Asks the inner service. `on_panic` is called if it panics.
    async fn ask(&mut self, on_panic: impl Fn()) -> Result<Response<B>, S::Error> {
        let (metrics, bucket) = (self.cache.metrics(), self.read.route.bucket);
        self.cache.spend(1);
        let answer = async {
            poll_fn(|cx| self.inner.poll_ready(cx)).await?;
            self.inner.call(self.request.take().expect(UNTIL_FORWARDED)).await
        };
        let began = recent();
        let panicked = || {
            metrics.panicked(bucket);
            on_panic();
        };
        let answer = Watched::new(answer, panicked).await;
        let took = recent() - began;
        metrics.origin_answered(bucket, took);
        self.read.origin_time = Some(took);
        answer.inspect_err(|_| metrics.failed(bucket))
    }

    /// Leads a flight that has the right to fill: forwards, judges the head, lets the body be recorded,
    /// and answers once the flight is over or the body on its way.
    async fn fill(mut self: Box<Self>, mut filling: Filling<St>) -> Answer<B, S::Error> {
        let request = self.request.as_mut().expect(UNTIL_FORWARDED);
        // Taken off, so that what comes back is the whole representation and not a 304 to this
        // client's copy.
        if self.read.asks.conditions.is_some() {
            request.headers_mut().remove(IF_NONE_MATCH);
            request.headers_mut().remove(IF_MODIFIED_SINCE);
        }
        filling.sample(request.headers());
        // Kept, because the response may nominate any of them.
        let fields = FieldList::of(request.headers());
        let candidate = filling.revalidate(&self.read, request.headers_mut());
        filling.mark(&self.read, request.extensions_mut());
        let (cache, bucket) = (Arc::clone(&self.cache), self.read.route.bucket);
        let panicked = || cache.metrics().refused(bucket, Refusal::Panicked);
        let forwarded = self.ask(&panicked).await;
        let asked = ForwardedRequest { read: &self.read, fields };
        if let Ok(response) = &forwarded {
            cache.hear(&asked, response.status(), response.headers());
        }
        // It polls the body once.
        let received = watch(&panicked, || receive(filling, forwarded, &asked, candidate));
        let mut received = match received {
            ControlFlow::Break(answer) => return answer,
            ControlFlow::Continue(received) => received,
        };
        let stored = received.settle().await;
        Ok(self.answer(received, stored))
    }

    /// Answers with what was received.
    fn answer(
        &self,
        received: Received<St, B>,
        stored: Result<(), Refusal>,
    ) -> Response<ResponseBody<B>> {
        let Received { mut head, body, status, .. } = received;
        let read = &self.read;
        let outcome = match read.is_background {
            true => Outcome::Refreshed { stored, status },
            false => Outcome::Led { reason: read.reason, stored, status },
        };
        read.asks.report.put(&outcome, &mut head.extensions);
        let bucket = self.read.route.bucket;
        self.cache.reporter.mark(bucket, outcome, &mut head.headers, self.read.origin_time);
        // Whether it is stored or not: its condition was taken off (RFC 9110 §13.2.1).
        let is_had = read.asks.have_current(head.status, &head.headers);
        let mut response = Response::from_parts(head, body);
        if is_had {
            turn_not_modified(&mut response);
        }
        response
    }
}
