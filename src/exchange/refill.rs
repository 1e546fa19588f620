//! Refills: fills that follow an invalidation so closely that a replica of the origin may not have seen the
//! change.

use std::time::Duration;

use http::{Extensions, response};

use super::cache::Cache;
use crate::{
    clock::{Instant, now, time_of_day},
    entry::{Head, Windows},
    key::Slot,
    origin::Refill,
    policy::Terms,
    route::CacheRule,
    store::{Store, timeout::bounded},
};

/// Shortest lifetime of a response that comes once its settling time is over: requests that wait for it share
/// none without.
const LEAST: Duration = Duration::from_millis(1);

/// Invalidation that a fill follows within the settling time of its route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Followed {
    at: Instant,
    settle: Duration,
}

impl Followed {
    /// Limits the terms of a response, unless its handler says that it has read the primary.
    pub(crate) fn limit(self, response: &response::Parts, terms: &mut Terms, received: Instant) {
        if response.extensions.get::<Refill>().is_none() {
            self.shorten(received, &mut terms.fresh_for, &mut terms.windows);
        }
    }

    /// Limits the lifetime and the windows of a stored response.
    pub(crate) fn times(self, head: &Head) -> (Duration, Windows) {
        let (mut lifetime, mut windows) = (head.lifetime(), head.windows());
        self.shorten(head.received, &mut lifetime, &mut windows);
        (lifetime, windows)
    }

    /// Ends a lifetime with the settling time. For as long again the response may answer while the origin is
    /// asked once more.
    fn shorten(self, received: Instant, lifetime: &mut Duration, windows: &mut Windows) {
        let left = (self.at + self.settle).saturating_duration_since(received).max(LEAST);
        *lifetime = left.min(*lifetime);
        windows.while_revalidate = windows.while_revalidate.min(self.settle);
    }
}

impl<St: Store> Cache<St> {
    /// Returns the invalidation that a fill of a slot follows, if its route is to settle yet.
    pub(crate) async fn followed(&self, slot: &Slot, rule: &CacheRule) -> Option<Followed> {
        if rule.settle.is_zero() {
            return None;
        }
        let since = bounded(self.store.since_invalidation(slot)).await;
        // A store that does not say in time may have had one at any time.
        let since = since.unwrap_or(Some(Duration::ZERO))?;
        let (now, settle) = (now(), rule.settle);
        // This machine may have begun later.
        let at = now.checked_sub(since).unwrap_or(now);
        (since < settle).then_some(Followed { at, settle })
    }

    /// Tells the handler of a request that it follows an invalidation, if it does.
    pub(crate) fn tell(&self, followed: Option<Followed>, bucket: usize, request: &mut Extensions) {
        let Some(followed) = followed else { return };
        let (ago, time) = (now().saturating_duration_since(followed.at), time_of_day());
        request.insert(Refill::new(time.checked_sub(ago).unwrap_or(time)));
        self.metrics().refilled(bucket);
    }
}
