//! The life of a request, top to bottom.
//!
//! `begin` decides synchronously as far as it can: a request that no rule is for, one that bypasses
//! the cache, and one that a fresh entry answers never get a box or a task. What is left is a read
//! that missed ([`Exchange::read`]) or a write ([`Exchange::write`]).

use std::{ops::ControlFlow, sync::Arc};

use http::{
    Request, Response, StatusCode,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use http_body::Body;
use tokio::{
    runtime::Handle,
    time::{timeout, timeout_at},
};
use tower::ServiceExt;
use tower_service::Service;

use crate::{
    answer::{Asks, hit, turn_not_modified},
    body::ResponseBody,
    bounded::bounded,
    clock::now,
    detach::Detachable,
    fill::Filling,
    future::{Mark, ResponseFuture},
    glance::Glance,
    key::{Slot, Subject, Tag},
    outcome::{Alone, Bypass, Forward, Outcome, Unshared},
    policy::{CACHE_GROUP_INVALIDATION, Denied, admit, groups},
    read::Read,
    route::{CacheRule, HeadRef, Matched, RequestView, Target},
    seek::{Ended, Search, Step},
    shared::Shared,
    store::Store,
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
    /// Answer with what is stale or soon will be, and ask about it afterwards.
    Refresh(Box<Read>, Response<ResponseBody<B>>),
    Write(Vec<Subject>),
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
    let head = HeadRef::of(&request);
    if !shared.table.may_concern(head.uri.path()) {
        return ResponseFuture::forward(inner.clone(), request, None);
    }
    let glance = Glance::at(shared, head, !request.body().is_end_stream());
    if let Some(response) = glance.answer(shared, head.method) {
        return ResponseFuture::ready(response);
    }
    match decide(shared, head, glance) {
        Decision::Pass => ResponseFuture::forward(inner.clone(), request, None),
        Decision::Answer(response) => ResponseFuture::ready(response),
        Decision::Forward(bucket, why) => {
            let mark = Mark { reporter: Arc::clone(&shared.reporter), bucket, why };
            ResponseFuture::forward(inner.clone(), request, Some(mark))
        }
        Decision::Read(read) => {
            let exchange = Exchange { shared: Arc::clone(shared), inner: inner.clone() };
            let search = shared.search(&read);
            match St::KEEPS_BUDGETS {
                true => ResponseFuture::exchange(exchange.look(read, request, search)),
                false => ResponseFuture::exchange(exchange.read(read, request, (search, None))),
            }
        }
        Decision::Refresh(read, response) => {
            let exchange = Exchange { shared: Arc::clone(shared), inner: inner.clone() };
            exchange.refresh(read, request);
            ResponseFuture::ready(response)
        }
        Decision::Write(subjects) => {
            let exchange = Exchange { shared: Arc::clone(shared), inner: inner.clone() };
            let detachments = &shared.detachments;
            let write = Detachable::new(exchange.write(subjects, request), detachments);
            ResponseFuture::exchange(write)
        }
    }
}

/// Decides about what the first look has no answer to.
#[inline(never)]
fn decide<St: Store, B: Body>(
    shared: &Shared<St>,
    head: HeadRef<'_>,
    glance: Glance<'_>,
) -> Decision<B> {
    match shared.table.classify(head.method, head.uri.path()) {
        Matched::Pass => Decision::Pass,
        Matched::Read(route, rule, parameters) => {
            let view = RequestView { head, parameters: &parameters };
            let reason = match decide_read(shared, (route, rule), view, glance) {
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
            if matched.is_matched { Decision::Write(matched.subjects) } else { Decision::Pass }
        }
    }
}

fn decide_read<St: Store, B: Body>(
    shared: &Shared<St>,
    (route, rule): (usize, &CacheRule),
    view: RequestView<'_, '_>,
    glance: Glance<'_>,
) -> Result<Decision<B>, Denied> {
    if shared.is_switched_off(route) {
        return Err(Bypass::Switch.into());
    }
    let (fields, secret) = (view.head.headers, &shared.identity.secret);
    let mut admitted = admit(&shared.identity, rule, view, (glance.facts, glance.has_content))?;
    let declared = rule.vary.values(fields, secret);
    let mut learned = None;
    let mut forward = Forward::UriMiss;
    let mut found = glance.peek(shared, &admitted.variant(&declared));
    if let Some(nominated) = found.as_ref().and_then(|note| note.as_nominated()).cloned() {
        let values = nominated.values(fields, secret);
        found = shared.store.peek(&admitted.variant(&values));
        forward = Forward::VaryMiss;
        learned = Some((nominated, values));
    }
    let asks = Asks::of(view.head.method, &mut admitted);
    let telling = shared.telling(route);
    let (mut seen, mut due) = (None, None);
    if let Some(entry) = found {
        let is_fresh = entry.is_fresh_at(telling.now);
        match entry.as_response() {
            None if is_fresh && !asks.wishes.only_if_cached => {
                return Ok(Decision::Forward(telling.bucket, Unshared::Alone(Alone::Pass)));
            }
            None => {}
            Some(_) if !is_fresh => {
                forward = Forward::Stale;
                seen = Some(entry).filter(|_| rule.keeps_stale());
            }
            Some(response) if asks.accept(response.0, telling.now) => {
                // What came from elsewhere does not know it yet.
                entry.note_route(route);
                let answer = hit(response, telling, &asks);
                if !shared.is_due((route, &asks), &entry, telling.now) {
                    return Ok(Decision::Answer(answer));
                }
                due = Some(answer);
                forward = Forward::Stale;
                seen = Some(entry);
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
    let slot = Slot { key: admitted.key()?, variant, tags: admitted.tags()? };
    let (is_background, begun) = (false, telling.now);
    let read = Read { route, slot, base, nominated, asks, forward, seen, is_background, begun };
    Ok(match due.or_else(|| shared.stale_at_once(&read)) {
        Some(response) => Decision::Refresh(Box::new(read), response),
        None => Decision::Read(Box::new(read)),
    })
}

/// One request that is not answered at once, with what it needs.
struct Exchange<S, St> {
    shared: Arc<Shared<St>>,
    inner: S,
}

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

impl<S, St: Store> Exchange<S, St> {
    /// Looks in a store over a network, which answers most requests: this future has room for that
    /// alone, and whatever comes after is boxed.
    #[allow(clippy::manual_async_fn)] // An `async fn` holds its arguments twice.
    fn look<Q, B>(
        self,
        mut read: Box<Read>,
        request: Request<Q>,
        mut search: Search,
    ) -> impl Future<Output = Answer<B, S::Error>> + Send
    where
        S: Service<Request<Q>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        async move {
            let found = self.shared.store.lookup(&read.slot).await;
            let mut seen = None;
            if !read.is_told_to_vary(&self.shared, &found, request.headers()) {
                match self.shared.see(found, &mut search, &mut read) {
                    ControlFlow::Break(Ended::Answer(response)) => return Ok(response),
                    ControlFlow::Break(ended) => seen = Some(ended),
                    ControlFlow::Continue(()) => search.has_looked(),
                }
            }
            Box::pin(self.read(read, request, (search, seen))).await
        }
    }

    /// Looks further, joins a flight or leads one, unless its end has been `seen`.
    async fn read<Q, B>(
        self,
        mut read: Box<Read>,
        request: Request<Q>,
        (mut search, mut seen): (Search, Option<Ended<B>>),
    ) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let patience = self.shared.patience(&read);
        let ended = loop {
            if let Some(ended) = seen.take() {
                break ended;
            }
            match self.shared.step(&mut search, &mut read, request.headers()).await {
                Step::Again => {}
                Step::Ended(ended) => break ended,
                Step::Fill(filling) => {
                    let shared = Arc::clone(&self.shared);
                    let kept = patience.map(|limit| (limit, read.clone()));
                    let fill = self.fill(filling, read, request);
                    let mut fill = Detachable::new(fill, &shared.detachments);
                    let Some((limit, kept)) = kept else { return fill.await };
                    if let Ok(answer) = timeout(limit, &mut fill).await {
                        return answer;
                    }
                    return match shared.stale_for_now(&kept) {
                        // The fill goes on without its caller.
                        Some(response) => Ok(response),
                        None => fill.await,
                    };
                }
            }
        };
        if matches!(ended, Ended::Unshared(Unshared::Alone(Alone::Deadline)))
            && let Some(response) = self.shared.stale_for_now(&read)
        {
            return Ok(response);
        }
        match ended {
            Ended::Answer(response) => Ok(response),
            Ended::Refresh(response) => {
                self.refresh(read, request);
                Ok(response)
            }
            Ended::Unshared(why) => self.forward(&read, request, why).await,
        }
    }

    /// Asks about what is stale, for nobody: the request has been answered. One request at a time
    /// does so for each variant.
    fn refresh<Q, B>(self, mut read: Box<Read>, mut request: Request<Q>)
    where
        S: Service<Request<Q>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let Some(right) = self.shared.refreshes.begin(&read.slot.variant) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(detached) = self.shared.detachments.begin() else { return };
        read.ask_for_all(&mut request);
        runtime.spawn(async move {
            // It waits for nobody: who else fills does the same work.
            let mut search = Search::until(now());
            let asked = async {
                match self.shared.step::<B>(&mut search, &mut read, request.headers()).await {
                    Step::Fill(filling) => drop(self.fill(filling, read, request).await),
                    Step::Again | Step::Ended(_) => {}
                }
            };
            let _ = timeout_at(detached.deadline(), asked).await;
            drop(right);
        });
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
            bounded(self.shared.invalidate(&read.slot.key)).await;
        }
        let outcome = why.outcome(response.status());
        let bucket = self.shared.bucket(read.route);
        self.shared.reporter.mark(bucket, outcome, response.headers_mut());
        Ok(response.map(ResponseBody::passing))
    }

    /// Leads a flight that has the right to fill: forwards, judges the head, and lets the body be
    /// recorded.
    #[allow(clippy::manual_async_fn)] // An `async fn` holds its arguments twice.
    fn fill<Q, B>(
        self,
        mut filling: Box<Filling<St>>,
        read: Box<Read>,
        mut request: Request<Q>,
    ) -> impl Future<Output = Answer<B, S::Error>>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        async move {
            let bucket = self.shared.bucket(read.route);
            // Taken off, so that what comes back is the whole representation and not a 304 to this
            // client's copy.
            if read.asks.conditions.is_some() {
                request.headers_mut().remove(IF_NONE_MATCH);
                request.headers_mut().remove(IF_MODIFIED_SINCE);
            }
            // Kept, because the response may nominate any of them.
            let fields = request.headers().clone();
            let held = filling.validate(&read, request.headers_mut());
            filling.requested = now();
            let forwarded = self.inner.oneshot(request).await;
            let status = forwarded.as_ref().ok().map(Response::status);
            let filling = match filling.rescue(&read, status) {
                ControlFlow::Break(response) => return Ok(response),
                ControlFlow::Continue(filling) => filling,
            };
            let response = match forwarded {
                Ok(response) => response,
                Err(error) => {
                    filling.fail();
                    return Err(error);
                }
            };
            let (mut head, body) = response.into_parts();
            filling.date(&mut head.headers);
            let status = head.status;
            let asked = (&*read, &fields);
            let (stored, body) = match held.filter(|_| status == StatusCode::NOT_MODIFIED) {
                Some(held) => filling.freshen(held, asked, &mut head).await,
                None => filling.receive(asked, &head, body).await,
            };
            let outcome = match read.is_background {
                true => Outcome::Refreshed { stored, status },
                false => Outcome::Led { forward: read.forward, stored, status },
            };
            self.shared.reporter.mark(bucket, outcome, &mut head.headers);
            let is_had = stored.is_ok() && read.asks.have(head.status, &head.headers);
            let mut response = Response::from_parts(head, body);
            if is_had {
                turn_not_modified(&mut response);
            }
            Ok(response)
        }
    }

    /// Forwards a write, and invalidates before the writer sees its response.
    async fn write<Q, B>(self, subjects: Vec<Subject>, request: Request<Q>) -> Answer<B, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Body,
    {
        let mut write = PendingWrite::new(Arc::clone(&self.shared), subjects);
        let target = Target::of(HeadRef::of(&request));
        match self.inner.oneshot(request).await {
            Ok(mut response) => {
                let effect = Effect::of(response.status());
                if effect == Effect::Changed {
                    let fields = response.headers();
                    write.also(
                        self.shared.table.named(&target, fields).into_iter().map(Subject::Key),
                    );
                    let groups = groups(&CACHE_GROUP_INVALIDATION, fields).into_iter();
                    let origin = target.origin();
                    write.also(groups.map(|group| Subject::Tag(Tag::group(&origin, &group))));
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
