//! Writes: unsafe requests, which invalidate keys and tags.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
};

use http::{Request, Response, StatusCode};
use http_body::Body;
use tower::ServiceExt;
use tower_service::Service;

use super::cache::Cache;
use crate::{
    body::ResponseBody,
    future::Watched,
    key::{MAX_TAGS, Strength, Subject, Tag},
    metrics::cache_outcome::OutcomeReport,
    policy::{CACHE_GROUP_INVALIDATION, groups},
    route::{HeadRef, Target},
    store::{Pending, Store, timeout::bounded},
};

/// Forwards a write, and invalidates before the writer sees its response.
pub(super) async fn forward_write<S, St, Q, B>(
    cache: Arc<Cache<St>>,
    inner: S,
    subjects: Vec<Subject>,
    request: Request<Q>,
) -> Result<Response<ResponseBody<B>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    St: Store,
    B: Body,
{
    let mut write = PendingWrite { cache: Arc::clone(&cache), subjects };
    let (target, report) =
        (Target::of(HeadRef::of(&request)), OutcomeReport::of(request.extensions()));
    let panicked = || cache.metrics().panicked_write();
    match Watched::new(inner.oneshot(request), panicked).await {
        Ok(mut response) => {
            let effect = Effect::of(response.status());
            if effect == Effect::Changed {
                let fields = response.headers();
                write.add(cache.table.named(&target, fields).into_iter().map(Subject::Key));
                let groups = groups(&CACHE_GROUP_INVALIDATION, fields);
                if groups.len() > MAX_TAGS {
                    cache.invalidation_failed(CACHE_GROUP_INVALIDATION.as_str());
                }
                let own = target.origin();
                // Responses that answer for every host are of no origin.
                let of_all = cache.table.ignores_hosts().then(Vec::new);
                for origin in [Some(own), of_all].into_iter().flatten() {
                    write.add(groups.iter().map(|group| Subject::Tag(Tag::group(&origin, group))));
                }
            }
            write.settle(effect).await;
            cache.reporter.mark_written(report, &mut response);
            Ok(response.map(ResponseBody::passing))
        }
        Err(error) => {
            cache.metrics().failed_write();
            write.settle(Effect::Unknown).await;
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
struct PendingWrite<St: Store> {
    cache: Arc<Cache<St>>,
    subjects: Vec<Subject>,
}

impl<St: Store> PendingWrite<St> {
    /// Adds subjects that the write has changed, too.
    fn add(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        for subject in subjects {
            if !self.subjects.contains(&subject) {
                self.subjects.push(subject);
            }
        }
    }

    /// Invalidates what the write has changed or may have changed. The store keeps its own budget
    /// and retries by itself, so its answer changes nothing for the writer.
    async fn settle(mut self, effect: Effect) {
        let subjects = std::mem::take(&mut self.subjects);
        let cache = &self.cache;
        match effect {
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
