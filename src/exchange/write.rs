//! Writes: unsafe requests, which invalidate keys and tags.

use std::{
    future::{Future, poll_fn},
    iter,
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use tower::ServiceExt;
use tower_service::Service;

use super::{cache::Cache, rules::Rules};
use crate::{
    body::ResponseBody,
    future::{UnmatchedWrite, Watched},
    key::{MAX_TAGS, Strength, Subject, Tag},
    metrics::cache_outcome::OutcomeReport,
    policy::{CACHE_GROUP_INVALIDATION, groups},
    route::{HeadRef, RequestHead, Target},
    store::{Pending, Store, timeout::bounded},
};

/// Forwards a write, and invalidates before the writer sees its response.
pub(super) async fn forward_write<S, St, Q, B>(
    cache: Arc<Cache<St>>,
    rules: Arc<Rules>,
    inner: S,
    subjects: Vec<Subject>,
    request: Request<Q>,
) -> Result<Response<ResponseBody<B>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    St: Store,
    B: Body,
{
    let report = OutcomeReport::of(request.extensions());
    let write = PendingWrite::new(&cache, &rules, Some(subjects), &request);
    let panicked = || cache.metrics().panicked_write();
    cache.origin.spend(1);
    let answer = Watched::new(inner.oneshot(request), panicked).await;
    let response = answer.as_ref().ok();
    if let Some(response) = response {
        cache.hear_of_all(response.status(), response.headers());
    }
    let effect = response.map_or(Effect::Unknown, |response| Effect::of(response.status()));
    write.settle(effect, response.map(Response::headers)).await;
    match answer {
        Ok(mut response) => {
            cache.reporter.mark_written(report, &mut response);
            Ok(response.map(ResponseBody::passing))
        }
        Err(error) => {
            cache.metrics().failed_write();
            Err(error)
        }
    }
}

/// Effect of a write on the resource, judged by its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It succeeded (RFC 9111 §4.4: a non-error status is 2xx or 3xx).
    Changed,
    /// It was refused.
    Unchanged,
    /// It may have succeeded, or may succeed yet: a timeout, a server error, no answer at all.
    Unknown,
}

impl Effect {
    fn of(status: StatusCode) -> Self {
        /// nginx's "client closed request", used by proxies that gave up waiting.
        const CLIENT_CLOSED_REQUEST: u16 = 499;
        match status.as_u16() {
            408 | CLIENT_CLOSED_REQUEST | 500.. => Self::Unknown,
            400..=499 => Self::Unchanged,
            _ => Self::Changed,
        }
    }
}

/// Write that is being forwarded. If it is dropped before it is settled, its outcome is unknown.
pub(super) struct PendingWrite<St: Store> {
    cache: Arc<Cache<St>>,
    /// Rules that it began with.
    rules: Arc<Rules>,
    /// For the rules in force at its end, and as the base of the references in its response.
    head: RequestHead,
    subjects: Vec<Subject>,
    is_matched: bool,
    is_settled: bool,
}

impl<St: Store> PendingWrite<St> {
    /// Begins a write, to which `subjects` belong by the rules in force; `None` if no rule is for it.
    pub(super) fn new<Q>(
        cache: &Arc<Cache<St>>,
        rules: &Arc<Rules>,
        subjects: Option<Vec<Subject>>,
        request: &Request<Q>,
    ) -> Self {
        Self {
            cache: Arc::clone(cache),
            rules: Arc::clone(rules),
            head: RequestHead::from(HeadRef::of(request)),
            is_matched: subjects.is_some(),
            subjects: subjects.unwrap_or_default(),
            is_settled: false,
        }
    }

    /// Adds subjects that the write has changed, too.
    fn add(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        for subject in subjects {
            if !self.subjects.contains(&subject) {
                self.subjects.push(subject);
            }
        }
    }

    /// Adds the subjects that the write has by the rules in force now, if these are not the ones that it
    /// began with: a response may have been stored by them since.
    fn add_by_rules_in_force(&mut self) {
        let cache = Arc::clone(&self.cache);
        let now = cache.rules();
        if Arc::ptr_eq(&now, &self.rules) {
            return;
        }
        if let Some(matched) = now.table.write(self.head.borrowed()) {
            matched.failed.iter().for_each(|route| cache.invalidation_failed(route));
            self.is_matched = true;
            self.add(matched.subjects);
        }
    }

    /// Adds the subjects that a response to the write names.
    fn add_named(&mut self, response: &HeaderMap) {
        let target = Target::of(self.head.borrowed());
        let groups = groups(&CACHE_GROUP_INVALIDATION, response);
        if groups.len() > MAX_TAGS {
            self.cache.invalidation_failed(CACHE_GROUP_INVALIDATION.as_str());
        }
        let (began, now) = (Arc::clone(&self.rules), Arc::clone(&self.cache.rules()));
        let replaced = (!Arc::ptr_eq(&began, &now)).then_some(now);
        for rules in iter::once(began).chain(replaced) {
            self.add(rules.table.named(&target, response).into_iter().map(Subject::Key));
            let own = target.origin();
            // Responses that answer for every host are of no origin.
            let of_all = rules.table.ignores_hosts().then(Vec::new);
            for origin in [Some(own), of_all].into_iter().flatten() {
                self.add(groups.iter().map(|group| Subject::Tag(Tag::group(&origin, group))));
            }
        }
    }

    /// Invalidates what the write has changed or may have changed. The store keeps its own budget and
    /// retries by itself, so its answer changes nothing for the writer.
    async fn settle(mut self, effect: Effect, response: Option<&HeaderMap>) {
        if effect != Effect::Unchanged {
            self.add_by_rules_in_force();
        }
        if let Some(fields) = response
            && effect == Effect::Changed
            && self.is_matched
        {
            self.add_named(fields);
        }
        self.is_settled = true;
        let subjects = std::mem::take(&mut self.subjects);
        let cache = &self.cache;
        match effect {
            _ if subjects.is_empty() => {}
            Effect::Unchanged => {}
            Effect::Changed => {
                let calls =
                    subjects.iter().map(|subject| cache.invalidate(subject, Strength::Hard));
                bounded(acknowledged(calls)).await;
            }
            Effect::Unknown => {
                let calls = subjects.iter().map(|subject| cache.invalidate_unknown(subject));
                bounded(acknowledged(calls)).await;
            }
        }
    }
}

impl<St: Store> UnmatchedWrite for PendingWrite<St> {
    fn end(
        mut self: Box<Self>,
        status: Option<StatusCode>,
        response: Option<&HeaderMap>,
    ) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if Arc::ptr_eq(&self.cache.rules(), &self.rules) {
            self.is_settled = true;
            return None;
        }
        let effect = status.map_or(Effect::Unknown, Effect::of);
        let response = response.cloned();
        Some(Box::pin(async move { self.settle(effect, response.as_ref()).await }))
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
        if self.is_settled {
            return;
        }
        self.add_by_rules_in_force();
        for subject in &self.subjects {
            // The invalidation is in force in this process when the call returns.
            drop(self.cache.invalidate_unknown(subject));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_unknown_where_the_origin_may_have_committed() {
        for (status, effect) in [
            (200, Effect::Changed),
            (303, Effect::Changed),
            (400, Effect::Unchanged),
            (404, Effect::Unchanged),
            (408, Effect::Unknown),
            (429, Effect::Unchanged),
            (499, Effect::Unknown),
            (500, Effect::Unknown),
            (504, Effect::Unknown),
            (999, Effect::Unknown),
        ] {
            assert_eq!(Effect::of(StatusCode::from_u16(status).unwrap()), effect, "{status}");
        }
    }
}
