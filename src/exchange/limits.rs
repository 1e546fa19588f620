//! Limits of the origin: those that it states, and its budget.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body;

use super::{
    cache::Cache,
    fill::ForwardedRequest,
    respond::{exhausted, unsatisfied},
};
use crate::{
    background::runtime,
    body::ResponseBody,
    clock::{Instant, now, sleep_until, time_of_day},
    key::Variant,
    metrics::{
        cache_outcome::OutcomeReport,
        outcome::{Outcome, SparedCall},
        recent_outcomes::OutcomeDetails,
    },
    origin::{Exhausted, Paused, Quota},
    policy::{stated_left, stated_pause},
    route::CacheRule,
    store::{Store, timeout::bounded},
};

impl<St: Store> Cache<St> {
    /// Counts calls to the origin, and reports them to the other processes that share the store.
    pub(crate) fn spend(self: &Arc<Self>, calls: u32) {
        self.origin.spend(calls);
        let Some(due) = self.origin.begin_exchange() else { return };
        if let Some(runtime) = runtime() {
            runtime.spawn(share_calls(Arc::downgrade(self), due));
        }
    }

    /// Notes the limits that a response states.
    pub(crate) fn hear(
        &self,
        asked: &ForwardedRequest<'_>,
        status: StatusCode,
        response: &HeaderMap,
    ) {
        if self.origin.has_budget() {
            return self.hear_of_all(status, response);
        }
        let Some(pause) = stated_pause(status, response, time_of_day) else { return };
        let (read, fields) = (asked.read, &asked.fields);
        let paused = match read.route.rule.quota {
            Quota::Service => Paused::Service,
            // A 503 says nothing about the caller.
            Quota::Caller if status == StatusCode::SERVICE_UNAVAILABLE => {
                Paused::Part(read.slot.variant.seeded_hash())
            }
            Quota::Caller => {
                let caller = self.identity.credential_fields.hash(fields.iter());
                Paused::Part(caller.unwrap_or_else(|| read.slot.variant.seeded_hash()))
            }
        };
        self.origin.pauses.begin(paused, now() + pause);
    }

    /// Notes the limits that a response to any request states, if the layer has a budget.
    pub(crate) fn hear_of_all(&self, status: StatusCode, response: &HeaderMap) {
        if !self.origin.has_budget() {
            return;
        }
        if let Some(left) = stated_left(response) {
            self.origin.lower(left);
        }
        if let Some(pause) = stated_pause(status, response, time_of_day) {
            self.origin.pauses.begin(Paused::Service, now() + pause);
        }
    }

    /// Returns whether the origin's limits forbid a call that can be spared, for a request with these
    /// fields.
    pub(crate) fn is_limited<'f>(
        &self,
        call: SparedCall,
        fields: impl IntoIterator<Item = (&'f HeaderName, &'f HeaderValue)>,
        variant: &Variant,
    ) -> bool {
        let hashes = || {
            let resource = variant.seeded_hash();
            let caller = self.identity.credential_fields.hash(fields.into_iter());
            [caller.unwrap_or(resource), resource]
        };
        !self.origin.admits(call) || self.origin.pauses.contain(hashes)
    }

    /// Returns the time until the origin may be asked, if the route refuses a request that has nothing to
    /// show.
    pub(crate) fn refusal(&self, rule: &CacheRule) -> Option<Duration> {
        match rule.when_exhausted {
            Exhausted::Forward => None,
            Exhausted::Refuse => Some(self.origin.wait()).filter(|wait| !wait.is_zero()),
        }
    }

    /// Answers a request that must not be forwarded, and for which nothing is stored.
    pub(crate) fn unsatisfied<B: Body>(
        &self,
        bucket: usize,
        report: OutcomeReport,
    ) -> Response<ResponseBody<B>> {
        self.metrics().ended(bucket, &Outcome::Unsatisfied, OutcomeDetails::now);
        let mut response = unsatisfied();
        report.put(&Outcome::Unsatisfied, response.extensions_mut());
        response
    }

    /// Answers a request that is refused.
    pub(crate) fn refuse<B: Body>(
        &self,
        bucket: usize,
        report: OutcomeReport,
        wait: Duration,
    ) -> Response<ResponseBody<B>> {
        self.origin.spared(SparedCall::Refused);
        self.metrics().ended(bucket, &Outcome::Exhausted, OutcomeDetails::now);
        let mut response = exhausted(wait);
        report.put(&Outcome::Exhausted, response.extensions_mut());
        response
    }
}

/// Reports calls once they are due, and again for as long as there are more.
async fn share_calls<St: Store>(cache: Weak<Cache<St>>, mut due: Instant) {
    loop {
        sleep_until(due).await;
        let Some(cache) = cache.upgrade() else { return };
        let Some(report) = cache.origin.report() else { return };
        let shared = bounded(cache.store.share_calls(&report)).await.flatten();
        match cache.origin.exchanged(&report, shared) {
            Some(next) => due = next,
            None => return,
        }
    }
}
