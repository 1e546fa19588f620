//! The life of a request, top to bottom.
//!
//! `begin` [decides](mod@crate::exchange::decide) synchronously as far as it can: a request that no rule is for, one
//! that bypasses the cache, and one that a fresh entry answers never get a box or a task. What is left
//! is a read that missed ([`Exchange::read`]) or a write ([`write()`]).

pub(crate) mod cache;
mod decide;
mod fill;
mod lookup;
mod ranges;
pub(crate) mod request;
pub(crate) mod respond;
mod revalidate;
mod stale;
mod write;

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    sync::Arc,
};

use http::{
    Request, Response, StatusCode,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use http_body::Body;
use tokio::{runtime::Handle, time::timeout_at};
use tower::ServiceExt;
use tower_service::Service;

use crate::{
    background::detach,
    body::ResponseBody,
    exchange::cache::Shared,
    exchange::decide::{Decision, decide},
    exchange::fill::{Filling, Received},
    exchange::lookup::{Ended, Search, Step},
    exchange::request::Read,
    exchange::respond::turn_not_modified,
    exchange::revalidate::Held,
    exchange::write::{Effect, PendingWrite},
    future::{Mark, ResponseFuture},
    key::vary::Kept,
    key::{MAX_TAGS, Subject, Tag},
    metrics::outcome::{Alone, Outcome, Refusal, Unshared},
    policy::{CACHE_GROUP_INVALIDATION, groups},
    route::{Content, HeadRef, Target},
    store::timeout::bounded,
    store::{Lookup, Store},
};

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
    let head = HeadRef::of(&request);
    match decide(shared, head, Content::of(request.body())) {
        Decision::Pass => ResponseFuture::forward(inner.clone(), request, None),
        Decision::Answer(response) => ResponseFuture::ready(response),
        Decision::Forward(bucket, why) => {
            let mark = Mark { reporter: Arc::clone(&shared.reporter), bucket, why };
            ResponseFuture::forward(inner.clone(), request, Some(mark))
        }
        Decision::Read(read) => {
            let exchange = Exchange::new((shared, inner), read, request);
            let detachments = &shared.detachments;
            match St::PEEK_TELLS_ALL {
                true => {
                    ResponseFuture::exchange(Box::pin(exchange.read(Search::new())), detachments)
                }
                false => ResponseFuture::exchange(Box::pin(exchange.look()), detachments),
            }
        }
        Decision::Refresh(read, response) => {
            Exchange::new((shared, inner), read, request).refresh();
            ResponseFuture::ready(response)
        }
        Decision::Write(subjects) => {
            let write = write((Arc::clone(shared), inner.clone()), subjects, request);
            ResponseFuture::exchange(Box::pin(write), &shared.detachments)
        }
    }
}

/// One read that is not answered at once, with what it needs.
struct Exchange<S, St, Q> {
    shared: Arc<Shared<St>>,
    inner: S,
    read: Box<Read>,
    /// Until it is forwarded.
    request: Option<Request<Q>>,
}

/// What is held of a request for as long as it may be forwarded.
const UNTIL_FORWARDED: &str = "a request is forwarded once, at its end here";

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

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
    fn new((shared, inner): (&Arc<Shared<St>>, &S), read: Box<Read>, request: Request<Q>) -> Self {
        Self { shared: Arc::clone(shared), inner: inner.clone(), read, request: Some(request) }
    }

    /// Looks in a store over a network, which answers most requests: this future has room for that
    /// alone, and whatever comes after is boxed.
    #[allow(clippy::manual_async_fn)] // An `async fn` holds its arguments twice.
    fn look(self) -> impl Future<Output = Answer<B, S::Error>> + Send {
        async move {
            let found = self.shared.lookup(&self.read).await;
            self.go_on(found).await
        }
    }

    /// Goes on after the first look at a store over a network.
    #[allow(clippy::manual_async_fn)] // An `async fn` holds its arguments twice.
    fn go_on(mut self, found: Lookup) -> impl Future<Output = Answer<B, S::Error>> + Send {
        async move {
            let mut search = Search::new();
            let fields = self.request.as_ref().expect(UNTIL_FORWARDED).headers();
            if !self.read.is_told_to_vary(&self.shared, &found, fields) {
                match self.shared.see(found, &mut search, &mut self.read) {
                    ControlFlow::Break(Ended::Answer(response)) => return Ok(response),
                    ControlFlow::Break(ended) => return Box::pin(self.end(ended)).await,
                    ControlFlow::Continue(()) => search.has_looked(),
                }
            }
            Box::pin(self.read(search)).await
        }
    }

    /// Looks further, joins a flight or leads one.
    #[allow(clippy::manual_async_fn)] // An `async fn` holds its arguments twice.
    fn read(mut self, mut search: Search) -> impl Future<Output = Answer<B, S::Error>> + Send {
        async move {
            let filling = match self.search(&mut search).await {
                Ok(filling) => filling,
                Err(Ended::Answer(response)) => return Ok(response),
                // Boxed, as what follows is: neither is on the way of an ordinary miss.
                Err(ended) => return Box::pin(self.end(ended)).await,
            };
            match self.shared.patience(&self.read) {
                None => self.fill(filling).await,
                Some(limit) => {
                    let (shared, kept) = (Arc::clone(&self.shared), self.read.clone());
                    let fill = Box::pin(async move { self.fill(filling).await });
                    shared.filled_within(limit, &kept, fill).await
                }
            }
        }
    }

    /// Searches until there is an answer, or none but the inner service's.
    async fn search(&mut self, search: &mut Search) -> Result<Filling<St>, Ended<B>> {
        loop {
            match self.step(search).await {
                Step::Again => {}
                Step::Fill(filling) => return Ok(filling),
                Step::Ended(ended) => return Err(ended),
            }
        }
    }

    async fn end(mut self, ended: Ended<B>) -> Answer<B, S::Error> {
        if matches!(ended, Ended::Unshared(Unshared::Alone(Alone::Deadline)))
            && let Some(response) = self.shared.stale_for_now(&self.read)
        {
            return Ok(response);
        }
        match ended {
            Ended::Answer(response) => Ok(response),
            Ended::Refresh(response) => {
                self.refresh();
                Ok(response)
            }
            Ended::Unshared(why) => self.forward(why).await,
        }
    }

    fn step(&mut self, search: &mut Search) -> impl Future<Output = Step<St, B>> + Send {
        let request = self.request.as_ref().expect(UNTIL_FORWARDED);
        self.shared.step(search, &mut self.read, request.headers())
    }

    /// Asks about what is stale, for nobody: the request has been answered. One request at a time
    /// does so for each variant.
    fn refresh(mut self) {
        let Some(right) = self.shared.refreshes.begin(&self.read.slot.variant) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(detached) = self.shared.detachments.begin() else { return };
        self.read.ask_for_all(self.request.as_mut().expect(UNTIL_FORWARDED));
        runtime.spawn(async move {
            // It waits for nobody: who else fills does the same work.
            let mut search = Search::without_waiting();
            let asked = async {
                match self.step(&mut search).await {
                    Step::Fill(filling) => drop(self.fill(filling).await),
                    Step::Again | Step::Ended(_) => {}
                }
            };
            let _ = timeout_at(detached.deadline(), asked).await;
            drop(right);
        });
    }

    /// Forwards for this request alone.
    async fn forward(&mut self, why: Unshared) -> Answer<B, S::Error> {
        let mut response = self.ask().await?;
        if self.read.is_contradicted_by(&response) {
            bounded(self.shared.invalidate(&self.read.slot.key)).await;
        }
        let outcome = why.outcome(response.status());
        let bucket = self.shared.bucket(self.read.route);
        self.shared.reporter.mark(bucket, outcome, response.headers_mut());
        Ok(response.map(ResponseBody::passing))
    }

    /// Asks the inner service.
    async fn ask(&mut self) -> Result<Response<B>, S::Error> {
        poll_fn(|cx| self.inner.poll_ready(cx)).await?;
        self.inner.call(self.request.take().expect(UNTIL_FORWARDED)).await
    }

    /// Leads a flight that has the right to fill: forwards, judges the head, lets the body be
    /// recorded, and answers once the flight is over or the body on its way.
    #[allow(clippy::manual_async_fn)] // An `async fn` holds its arguments twice.
    fn fill(&mut self, filling: Filling<St>) -> impl Future<Output = Answer<B, S::Error>> + Send {
        async move {
            // Whoever waits for it may go away.
            detach::begin();
            let request = self.request.as_mut().expect(UNTIL_FORWARDED);
            // Taken off, so that what comes back is the whole representation and not a 304 to this
            // client's copy.
            if self.read.asks.conditions.is_some() {
                request.headers_mut().remove(IF_NONE_MATCH);
                request.headers_mut().remove(IF_MODIFIED_SINCE);
            }
            // Kept, because the response may nominate any of them.
            let fields = Kept::of(request.headers());
            let held = filling.validate(&self.read, request.headers_mut());
            let forwarded = self.ask().await;
            let mut received = match self.receive(filling, forwarded, (fields, held)) {
                ControlFlow::Break(answer) => return answer,
                ControlFlow::Continue(received) => received,
            };
            let stored = received.settle().await;
            Ok(self.answer(received, stored))
        }
    }

    /// Judges what the inner service has said, and lets the body be recorded. Ends with what is stale
    /// where that may stand in for an error, or with the error.
    fn receive(
        &self,
        filling: Filling<St>,
        forwarded: Result<Response<B>, S::Error>,
        (fields, held): (Kept, Option<Box<Held>>),
    ) -> ControlFlow<Answer<B, S::Error>, Received<St, B>> {
        let status = forwarded.as_ref().ok().map(Response::status);
        let filling = match filling.rescue(&self.read, status) {
            ControlFlow::Break(response) => return ControlFlow::Break(Ok(response)),
            ControlFlow::Continue(filling) => filling,
        };
        let (mut head, body) = match forwarded {
            Ok(response) => response.into_parts(),
            Err(error) => {
                filling.fail();
                return ControlFlow::Break(Err(error));
            }
        };
        filling.date(&mut head.headers);
        let asked = (&*self.read, &fields);
        let held = held.filter(|_| head.status == StatusCode::NOT_MODIFIED);
        ControlFlow::Continue(match held {
            Some(held) => filling.freshen(*held, asked, head),
            None => filling.receive(asked, head, body),
        })
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
            false => Outcome::Led { forward: read.forward, stored, status },
        };
        let bucket = self.shared.bucket(read.route);
        self.shared.reporter.mark(bucket, outcome, &mut head.headers);
        let is_had = stored.is_ok() && read.asks.have(head.status, &head.headers);
        let mut response = Response::from_parts(head, body);
        if is_had {
            turn_not_modified(&mut response);
        }
        response
    }
}

/// Forwards a write, and invalidates before the writer sees its response.
async fn write<S, St, Q, B>(
    (shared, inner): (Arc<Shared<St>>, S),
    subjects: Vec<Subject>,
    request: Request<Q>,
) -> Answer<B, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    St: Store,
    B: Body,
{
    // Whoever waits for it may go away.
    detach::begin();
    let mut write = PendingWrite::new(Arc::clone(&shared), subjects);
    let target = Target::of(HeadRef::of(&request));
    match inner.oneshot(request).await {
        Ok(mut response) => {
            let effect = Effect::of(response.status());
            if effect == Effect::Changed {
                let fields = response.headers();
                write.also(shared.table.named(&target, fields).into_iter().map(Subject::Key));
                let groups = groups(&CACHE_GROUP_INVALIDATION, fields);
                if groups.len() > MAX_TAGS {
                    shared.invalidation_failed(CACHE_GROUP_INVALIDATION.as_str());
                }
                let origin = target.origin();
                write.also(groups.iter().map(|group| Subject::Tag(Tag::group(&origin, group))));
            }
            write.settle(effect).await;
            shared.reporter.mark_written(&mut response);
            Ok(response.map(ResponseBody::passing))
        }
        Err(error) => {
            write.settle(Effect::Unknown).await;
            Err(error)
        }
    }
}
