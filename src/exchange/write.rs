//! Writes: unsafe requests, which invalidate keys and tags.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower::ServiceExt;
use tower_service::Service;

use super::cache::Cache;
use crate::{
    body::ResponseBody,
    future::{Watched, watch},
    key::{MAX_TAGS, Tag},
    policy::{CACHE_GROUP_INVALIDATION, WriteEffect, groups},
    route::{Changes, HeadRef, Target, WriteChange},
    store::{Pending, Store, timeout::bounded},
    write_body::{AtEnd, WriteBody},
};

/// Forwards a write, and invalidates before the writer sees its response, and once more before it sees the
/// end of a body that is still on its way then.
pub(super) async fn forward_write<S, St, Q, B>(
    cache: Arc<Cache<St>>,
    inner: S,
    changes: Changes,
    request: Request<Q>,
) -> Result<Response<ResponseBody<B>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    St: Store,
    B: Body,
{
    let mut write = PendingWrite::new(&cache, changes);
    let target = Target::of(HeadRef::of(&request));
    let panicked = || cache.metrics().panicked_write();
    let response = match Watched::new(inner.oneshot(request), panicked).await {
        Ok(response) => response,
        Err(error) => {
            cache.metrics().failed_write();
            write.settle(WriteEffect::Unknown, Progress::Settled).await;
            return Err(error);
        }
    };
    let (head, body) = response.into_parts();
    let effect = WriteEffect::of(head.status, &head.extensions);
    // Before it invalidates: what is done at the first poll of the body is covered, too.
    let body = watch(&panicked, || WriteBody::begin(&head, body));
    if matches!(effect, WriteEffect::Changed | WriteEffect::Accepted) {
        write.add_implied(&target, &head.headers);
    }
    let body = match body.is_over() || effect == WriteEffect::Unchanged {
        true => {
            write.settle(effect, Progress::Settled).await;
            body
        }
        false => {
            write.settle(effect, Progress::Answered(effect)).await;
            body.at_end(Box::new(write))
        }
    };
    let mut response = Response::from_parts(head, ResponseBody::written(body));
    cache.reporter.mark_written(&mut response);
    Ok(response)
}

/// Write that is being forwarded, or whose response is on its way. If it is dropped before it is settled,
/// its outcome is unknown.
struct PendingWrite<St: Store> {
    cache: Arc<Cache<St>>,
    changes: Changes,
    progress: Progress,
}

/// Progress of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has not been answered.
    Forwarded,
    /// It was answered with this effect, and its body has not ended.
    Answered(WriteEffect),
    Settled,
}

impl<St: Store> PendingWrite<St> {
    fn new(cache: &Arc<Cache<St>>, changes: Changes) -> Self {
        Self { cache: Arc::clone(cache), changes, progress: Progress::Forwarded }
    }

    /// Adds what the response to a write names.
    fn add_implied(&mut self, target: &Target, fields: &HeaderMap) {
        for key in self.cache.table.named(target, fields) {
            self.changes.imply(key.into());
        }
        let groups = groups(&CACHE_GROUP_INVALIDATION, fields);
        if groups.len() > MAX_TAGS {
            self.cache.invalidation_failed(CACHE_GROUP_INVALIDATION.as_str());
        }
        let own = target.origin();
        // Responses that answer for every host are of no origin.
        let of_all = self.cache.table.ignores_hosts().then(Vec::new);
        for origin in [Some(own), of_all].into_iter().flatten() {
            for group in &groups {
                self.changes.imply(Tag::group(&origin, group).into());
            }
        }
    }

    /// Invalidates what the write has changed or may have changed. The store keeps its own budget
    /// and retries by itself, so its answer changes nothing for the writer.
    async fn settle(&mut self, effect: WriteEffect, progress: Progress) {
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
        let is_first = self.progress == Progress::Forwarded;
        let begin = |change: &WriteChange| {
            if is_first {
                self.cache.count(&change.subject);
            }
            let window = match effect {
                WriteEffect::Accepted => change.windows.accepted,
                WriteEffect::Unknown => change.windows.unknown,
                WriteEffect::Changed | WriteEffect::Unchanged => Duration::ZERO,
            };
            self.cache.apply(change, window)
        };
        self.changes.iter().map(begin).collect()
    }
}

impl<St: Store> AtEnd for PendingWrite<St> {
    fn act(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if let Progress::Answered(effect) = self.progress {
                self.settle(effect, Progress::Settled).await;
            }
        })
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
        if self.progress != Progress::Settled {
            // The invalidations are in force in this process when they are called.
            drop(self.invalidate(WriteEffect::Unknown));
        }
    }
}
