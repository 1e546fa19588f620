//! Stale responses in place of a fill (RFC 9111 §4.2.4, RFC 5861).
//!
//! Each use asks again whether it is allowed: whether the response is within its window, and whether an
//! invalidation has reached it since.

use std::{ops::ControlFlow, pin::pin, sync::Arc, time::Duration};

use http::{Response, StatusCode};
use http_body::Body;

use super::{
    assess::{Assessment, Circumstances, Origin, Purpose, Question, assess},
    cache::Cache,
    fill::Filling,
    request::Read,
    respond::{Reuse, SharedResponse, respond},
};
use crate::{
    body::ResponseBody,
    clock::{Instant, now, timeout_at},
    key::Variant,
    metrics::outcome::{ForwardReason, Outcome, Refusal},
    store::Store,
};

impl Read {
    /// Returns the response that the read has kept, if it may answer in place of the origin.
    ///
    /// The fence is asked first: even a fresh entry may have been invalidated since it was found.
    pub(crate) fn stand_in<St: Store>(&self, cache: &Cache<St>, origin: Origin) -> Option<Reuse> {
        let entry = self.seen.as_ref().filter(|_| self.reason == ForwardReason::Stale)?;
        if !entry.is_current(cache.store.sequence()) {
            return None;
        }
        let now = now();
        let wishes = &self.asks.wishes;
        let question = Question { wishes, early: None, now, purpose: Purpose::Answer };
        let circumstances = || Circumstances { is_current: true, origin };
        let stale = match assess(entry, &question, circumstances) {
            Assessment::Fresh { .. } => None,
            Assessment::Stale { reason } => Some(reason?),
            _ => return None,
        };
        Some(Reuse { entry: Arc::clone(entry), stale, is_due: false, now })
    }

    /// Answers with the response that the read has kept, if the origin has failed and it may. `status` is
    /// that of the origin's answer, `None` for an error.
    pub(crate) fn rescue<St: Store, B: Body>(
        &self,
        cache: &Cache<St>,
        status: Option<StatusCode>,
    ) -> Option<Response<ResponseBody<B>>> {
        if status.is_some_and(|status| !is_failure(status)) {
            return None;
        }
        let reuse = self.stand_in(cache, Origin::Failed)?;
        let outcome = Outcome::Rescued { status };
        Some(respond(&reuse.entry, |_, _| outcome, cache.context(self.route.bucket), &self.asks))
    }
}

impl<St: Store> Cache<St> {
    /// Returns the soft timeout of a read: the time after which a stale response answers. `None` if the
    /// route has none, or if no stale response could answer.
    pub(crate) fn patience(&self, read: &Read) -> Option<Duration> {
        let limit = read.route.rule.soft_timeout?;
        read.stand_in(self, Origin::Slow).map(|_| limit)
    }

    /// Waits for a fill. At the soft timeout of its read a stale response answers, if one may still: dropping the
    /// fill hands it to the runtime, which completes it.
    pub(super) async fn unless_slow<B: Body, E>(
        &self,
        fill: impl Future<Output = Result<Response<ResponseBody<B>>, E>>,
        limit: Instant,
        read: &Read,
    ) -> Result<Response<ResponseBody<B>>, E> {
        let mut fill = pin!(fill);
        if let Ok(answer) = timeout_at(limit, &mut fill).await {
            return answer;
        }
        match read.stand_in(self, Origin::Slow) {
            Some(reuse) => Ok(reuse.respond(&self.reporter, read.route.bucket, &read.asks)),
            None => fill.await,
        }
    }

    /// Counts a refresh that has failed, and begins a pause.
    pub(super) fn refresh_failed(&self, bucket: usize, variant: &Variant) {
        self.metrics().refused(bucket, Refusal::Failed);
        self.revalidations.failed(variant);
    }
}

/// Refresh that has no answer yet. Dropped before it has one, the origin has failed: its deadline has
/// passed, or the handler has panicked.
pub(super) struct Refreshing<St: Store> {
    cache: Arc<Cache<St>>,
    bucket: usize,
    variant: Variant,
    has_ended: bool,
}

impl<St: Store> Refreshing<St> {
    pub(super) fn new(cache: &Arc<Cache<St>>, read: &Read) -> Self {
        let (cache, variant) = (Arc::clone(cache), read.slot.variant.clone());
        Self { cache, bucket: read.route.bucket, variant, has_ended: false }
    }

    pub(super) fn end(mut self) {
        self.has_ended = true;
    }
}

impl<St: Store> Drop for Refreshing<St> {
    fn drop(&mut self) {
        match self.has_ended {
            true => {}
            // The panic is counted where it came from.
            false if std::thread::panicking() => self.cache.revalidations.failed(&self.variant),
            false => self.cache.refresh_failed(self.bucket, &self.variant),
        }
    }
}

impl<St: Store> Filling<St> {
    /// Records the origin's answer, `None` for an error, and answers with a stale response if the origin
    /// has failed and that is allowed. Followers share it, unless only other processes could tell that
    /// it is invalid.
    pub(crate) fn rescue<B: Body>(
        mut self,
        read: &Read,
        status: Option<StatusCode>,
    ) -> ControlFlow<Response<ResponseBody<B>>, Self> {
        if !read.may_be_stale() && !read.is_background {
            return ControlFlow::Continue(self);
        }
        let variant = &read.slot.variant;
        if status.is_some_and(|status| !is_failure(status)) {
            match read.is_background {
                true => self.is_refresh = true,
                false => self.cache.revalidations.answered(variant),
            }
            return ControlFlow::Continue(self);
        }
        // After a 429 those pause that it is meant for.
        if status != Some(StatusCode::TOO_MANY_REQUESTS) {
            self.cache.revalidations.failed(variant);
        }
        // From now on nobody joins, so the fence that is asked here decides for every follower.
        self.lead.close();
        let (Some(response), Some(entry)) = (read.rescue(&self.cache, status), &read.seen) else {
            return ControlFlow::Continue(self);
        };
        // Over a store that processes share, another may have invalidated a group before some of the
        // followers came, and this process cannot tell: they look for themselves.
        let may_share = self.lead.token().is_none() || !self.has_tags_beside(&entry.slot().tags);
        match SharedResponse::of(entry, &read.nominated).filter(|_| may_share) {
            Some(shared) => self.fill_with(shared),
            None => drop(self),
        }
        ControlFlow::Break(response)
    }
}

/// Returns whether a status is an error that a stale response may stand in for (RFC 5861 §4), or says that
/// the origin takes no more requests for now.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::{super::assess::tests::response_of, *};
    use crate::{
        CacheRoute, MemoryStore, SupportCacheLayer, exchange::request::Asks, key::Strength,
    };

    /// An entry that is refreshed early is still fresh, and stands in for no error once it was
    /// invalidated.
    #[tokio::test(start_paused = true)]
    async fn a_kept_response_that_was_invalidated_does_not_answer_even_if_it_is_fresh() {
        let route = CacheRoute::get("/").key("a").ttl(Duration::from_secs(60));
        let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
        let cache = layer.cache();
        let entry = Arc::new(response_of(cache.store.sequence().begin()));
        let new = Read::new(cache.rules().route(0), entry.slot().clone(), None, Asks::default());
        let (reason, seen) = (ForwardReason::Stale, Some(entry));
        let read = Read { reason, seen, is_background: true, ..new };
        assert!(read.stand_in(cache, Origin::Failed).is_some());
        cache.store.invalidate(&read.slot.key.clone().into(), Strength::Hard).await.unwrap();
        assert!(read.stand_in(cache, Origin::Failed).is_none());
    }
}
