//! Writes: unsafe requests, which invalidate keys and tags.

use std::{
    future::{Future, poll_fn},
    iter, mem,
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower::ServiceExt;
use tower_service::Service;

use super::{cache::Cache, rules::Rules};
use crate::{
    body::ResponseBody,
    future::{EndOfUnmatched, UnmatchedWrite, Watched, watch},
    key::{MAX_TAGS, Tag},
    metrics::cache_outcome::OutcomeReport,
    policy::{CACHE_GROUP_INVALIDATION, WriteEffect, groups},
    route::{Changes, HeadRef, RequestHead, Target, WriteChange},
    store::{Pending, Store, timeout::bounded},
    write_body::{AtEnd, WriteBody},
};

/// Forwards a write, and invalidates before the writer sees its response, and once more before it sees the
/// end of a body that is still on its way then.
pub(super) async fn forward_write<S, St, Q, B>(
    cache: Arc<Cache<St>>,
    rules: Arc<Rules>,
    inner: S,
    changes: Changes,
    request: Request<Q>,
) -> Result<Response<ResponseBody<B>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    St: Store,
    B: Body,
{
    let report = OutcomeReport::of(request.extensions());
    let write = PendingWrite::new(&cache, &rules, Some(changes), &request);
    let panicked = || cache.metrics().panicked_write();
    cache.spend(1);
    let answer = Watched::new(inner.oneshot(request), panicked).await;
    if let Ok(response) = &answer {
        cache.hear_of_all(response.status(), response.headers());
    }
    match write.answer(answer).await {
        Ok(mut response) => {
            cache.reporter.mark_written(report, &mut response);
            Ok(response)
        }
        Err(error) => {
            cache.metrics().failed_write();
            Err(error)
        }
    }
}

/// Write that is being forwarded, or whose response is on its way. If it is dropped before it is settled,
/// its outcome is unknown.
pub(super) struct PendingWrite<St: Store> {
    cache: Arc<Cache<St>>,
    /// Rules that it began with.
    rules: Arc<Rules>,
    /// For the rules in force at its end, and as the base of the references in its response.
    head: RequestHead,
    /// `None` if no rule is for it.
    changes: Option<Changes>,
    progress: Progress,
}

/// Progress of a write.
enum Progress {
    /// It has not been answered.
    Forwarded,
    /// It was answered with this effect and these fields, and its body has not ended.
    Answered(WriteEffect, HeaderMap),
    Settled,
}

impl<St: Store> PendingWrite<St> {
    /// Begins a write, which changes this by the rules in force; `None` if no rule is for it.
    pub(super) fn new<Q>(
        cache: &Arc<Cache<St>>,
        rules: &Arc<Rules>,
        changes: Option<Changes>,
        request: &Request<Q>,
    ) -> Self {
        Self {
            cache: Arc::clone(cache),
            rules: Arc::clone(rules),
            head: RequestHead::from(HeadRef::of(request)),
            changes,
            progress: Progress::Forwarded,
        }
    }

    /// Invalidates by the answer to the write, and returns the response for the writer.
    async fn answer<B: Body, E>(
        mut self,
        answer: Result<Response<B>, E>,
    ) -> Result<Response<ResponseBody<B>>, E> {
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                self.settle(WriteEffect::Unknown, &HeaderMap::new(), Progress::Settled).await;
                return Err(error);
            }
        };
        let (head, body) = response.into_parts();
        let effect = WriteEffect::of(head.status, &head.extensions);
        let panicked = || self.cache.metrics().panicked_write();
        // Before it invalidates: what is done at the first poll of the body is covered, too.
        let body = watch(&panicked, || WriteBody::begin(&head, body));
        let is_over = body.is_over() || effect == WriteEffect::Unchanged;
        let progress = match is_over {
            true => Progress::Settled,
            false => Progress::Answered(effect, head.headers.clone()),
        };
        self.settle(effect, &head.headers, progress).await;
        let body = if is_over { body } else { body.at_end(Box::new(self)) };
        Ok(Response::from_parts(head, ResponseBody::written(body)))
    }

    /// Notes for routes that a reload brings that the origin may commit the write yet. That comes before the
    /// rules in force are read: either a reload sees it, or the write sees the new rules.
    fn note(&self, effect: WriteEffect) {
        if effect != WriteEffect::Unchanged {
            let head = self.head.borrowed();
            self.cache.audits.note_write(head.method, head.uri.path());
        }
        let windows = self.changes.as_ref().map(Changes::windows).unwrap_or_default();
        let window = windows.after(effect);
        if !window.is_zero() {
            self.cache.store.sequence().unsettled().note(window);
        }
    }

    /// Adds the changes that the write has by the rules in force now, if these are not the ones that it
    /// began with: a response may have been stored by them since.
    fn add_by_rules_in_force(&mut self) {
        let now = self.cache.rules();
        if Arc::ptr_eq(&now, &self.rules) {
            return;
        }
        if let Some(matched) = now.table.write(self.head.borrowed()) {
            matched.failed.iter().for_each(|route| self.cache.invalidation_failed(route));
            self.changes.get_or_insert_default().merge(matched.changes);
        }
    }

    /// Adds the keys and groups that a response to the write names.
    fn add_named(&mut self, response: &HeaderMap) {
        let Some(changes) = &mut self.changes else { return };
        let target = Target::of(self.head.borrowed());
        let groups = groups(&CACHE_GROUP_INVALIDATION, response);
        if groups.len() > MAX_TAGS {
            self.cache.invalidation_failed(CACHE_GROUP_INVALIDATION.as_str());
        }
        let (began, now) = (&self.rules, &*self.cache.rules());
        let replaced = (!Arc::ptr_eq(began, now)).then_some(now);
        for rules in iter::once(began).chain(replaced) {
            for key in rules.table.named(&target, response) {
                changes.imply(key.into());
            }
            let own = target.origin();
            // Responses that answer for every host are of no origin.
            let of_all = rules.table.ignores_hosts().then(Vec::new);
            for origin in [Some(own), of_all].into_iter().flatten() {
                for group in &groups {
                    changes.imply(Tag::group(&origin, group).into());
                }
            }
        }
    }

    /// Invalidates what the write has changed or may have changed, by the rules that it began with and by
    /// those in force. The store keeps its own budget and retries by itself, so its answer changes nothing
    /// for the writer.
    async fn settle(&mut self, effect: WriteEffect, response: &HeaderMap, progress: Progress) {
        self.note(effect);
        if effect != WriteEffect::Unchanged {
            self.add_by_rules_in_force();
        }
        if matches!(effect, WriteEffect::Changed | WriteEffect::Accepted) {
            self.add_named(response);
        }
        let calls = self.invalidate(effect);
        self.progress = progress;
        bounded(acknowledged(calls)).await;
    }

    /// Begins the invalidations of an effect. In this process they are in force when this returns.
    fn invalidate(
        &self,
        effect: WriteEffect,
    ) -> Vec<impl Future<Output = Result<(), Pending>> + Send + use<St>> {
        if effect == WriteEffect::Unchanged {
            return Vec::new();
        }
        let is_first = matches!(self.progress, Progress::Forwarded);
        let begin = |change: &WriteChange| {
            if is_first {
                self.cache.announce(&change.subject, change.strength);
            }
            self.cache.apply(change, change.windows.after(effect))
        };
        self.changes.iter().flat_map(Changes::iter).map(begin).collect()
    }
}

impl<St: Store> AtEnd for PendingWrite<St> {
    fn act(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if let Progress::Answered(effect, response) =
                mem::replace(&mut self.progress, Progress::Settled)
            {
                self.settle(effect, &response, Progress::Settled).await;
            }
        })
    }
}

impl<St, B, E> UnmatchedWrite<B, E> for PendingWrite<St>
where
    St: Store,
    B: Body + Send + 'static,
    B::Error: Send,
    E: Send + 'static,
{
    fn end(mut self: Box<Self>, answer: Result<Response<B>, E>) -> EndOfUnmatched<B, E> {
        let effect = answer
            .as_ref()
            .map(|response| WriteEffect::of(response.status(), response.extensions()));
        self.note(effect.unwrap_or(WriteEffect::Unknown));
        if Arc::ptr_eq(&self.cache.rules(), &self.rules) {
            self.progress = Progress::Settled;
            return EndOfUnmatched::Passed(answer);
        }
        EndOfUnmatched::Invalidating(Box::pin(self.answer(answer)))
    }
}

/// Waits for several acknowledgements together. Fails with [`Pending`] if one of them does.
pub(crate) async fn acknowledged(
    calls: impl IntoIterator<Item = impl Future<Output = Result<(), Pending>>>,
) -> Result<(), Pending> {
    let mut calls: Vec<_> = calls.into_iter().map(Box::pin).collect();
    let mut result = Ok(());
    poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            Poll::Ready(acknowledgement) => {
                result = std::mem::replace(&mut result, Ok(())).and(acknowledgement);
                false
            }
            Poll::Pending => true,
        });
        if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    result
}

impl<St: Store> Drop for PendingWrite<St> {
    fn drop(&mut self) {
        if matches!(self.progress, Progress::Settled) {
            return;
        }
        self.note(WriteEffect::Unknown);
        self.add_by_rules_in_force();
        // The invalidations are in force in this process when they are called.
        drop(self.invalidate(WriteEffect::Unknown));
    }
}
