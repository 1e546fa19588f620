//! End of a flight: the entry is stored first, and then the followers are released.

use std::sync::Arc;

use super::{
    cache::Cache,
    refill::Followed,
    request::Selection,
    respond::{SharedBody, SharedResponse},
    rules::CachedRoute,
};
use crate::{
    background::Revalidation,
    clock::{Instant, recent},
    entry::Entry,
    flight::Lead,
    insight::{AuditSample, FieldDigests, ResponseDigest},
    key::{Strength, Subject},
    metrics::outcome::Refusal,
    recording::Reservation,
    store::{Commit, Store, timeout::bounded},
};

/// Prepared end of a flight: it is committed, and then concluded.
pub(super) struct Ending<St: Store> {
    pub(super) cache: Arc<Cache<St>>,
    pub(super) lead: Lead<SharedResponse>,
    pub(super) route: Arc<CachedRoute>,
    pub(super) requested: Instant,
    /// Invalidation that the fill has followed, as far as its request tells.
    pub(super) followed: Option<Followed>,
    /// Entry to store under the lease, if there is one, and the note that leads to it.
    pub(super) entries: Option<(Option<St::Lease>, Arc<Entry>, Option<Arc<Entry>>)>,
    pub(super) conclusion: Conclusion,
    /// Right of its read, which ends with the flight.
    pub(super) _right: Option<Arc<Revalidation>>,
    /// Set if it ends a refresh that the origin has answered.
    pub(super) is_refresh: bool,
    /// Bytes that a body without a recording has reserved; held until the flight is over.
    pub(super) reservation: Option<Reservation>,
    /// Fields of its request, if it is sampled for an audit.
    pub(super) sampled: Option<Box<FieldDigests>>,
}

/// Result of a flight.
pub(super) enum Conclusion {
    /// A response, which is shared if its head allows it, whether or not the commit succeeds.
    Response(Arc<Entry>, Selection),
    /// Nothing to share; the refusal may be remembered for a while.
    Refusal(Refusal),
    /// Nothing to share now: the origin takes no more requests. The followers ask it one at a time.
    Overload(Refusal),
    /// Nothing to share, and the stored response is wrong, too.
    Invalidation(Refusal),
    /// The fill was lost.
    Abandoned,
}

impl<St: Store> Ending<St> {
    /// Ends the flight. Returns the entry if it is stored now.
    pub(super) async fn settle(mut self) -> Result<Arc<Entry>, Refusal> {
        let commit = self.commit().await;
        self.conclude(commit)
    }

    /// Commits to the store before any follower is released, so that later requests find the response.
    pub(super) async fn commit(&mut self) -> Commit {
        if self.is_grouped() {
            // A request that joins after the commit has asked the fences could have begun after an
            // invalidation that the commit did not see.
            self.lead.close();
        }
        if matches!(self.conclusion, Conclusion::Invalidation(_)) {
            let key = Subject::Key(self.lead.slot().key.clone());
            bounded(self.cache.invalidate(&key, Strength::Hard)).await;
        }
        let Some((lease, entry, note)) = self.entries.take() else { return Commit::Failed };
        let entry = self.limited(entry).await;
        // Also because of tags that only the response names.
        let is_unsettled = self.cache.store.sequence().unsettled().contains(entry.slot());
        let Some(lease) = lease.filter(|_| !is_unsettled) else { return Commit::Unsettled };
        let pass = entry.is_pass().then(|| Arc::clone(&entry));
        let commit = bounded(self.cache.store.commit(lease, entry, note)).await;
        if let (Some(pass), Some(Commit::Superseded)) = (pass, commit) {
            self.cache.revalidations.refused(&pass.slot().variant, pass.kept_until());
        }
        commit.unwrap_or(Commit::Failed)
    }

    /// Returns an entry as it is to be stored: one of the tags that only the response names may have been
    /// invalidated a moment ago, and its handler was not told.
    async fn limited(&self, entry: Arc<Entry>) -> Arc<Entry> {
        let Some((head, _)) = entry.as_response() else { return entry };
        if self.followed.is_some() || !self.is_grouped() {
            return entry;
        }
        let followed = self.cache.followed(entry.slot(), &self.route.rule).await;
        let shorter = followed.map(|followed| followed.times(head));
        let limited = shorter.and_then(|(lifetime, windows)| entry.with_times(lifetime, windows));
        limited.map_or(entry, Arc::new)
    }

    /// Returns whether its response has tags that requests did not know when they joined the flight.
    fn is_grouped(&self) -> bool {
        match &self.conclusion {
            Conclusion::Response(entry, _) => entry.slot().tags.len() > self.lead.slot().tags.len(),
            Conclusion::Refusal(_)
            | Conclusion::Overload(_)
            | Conclusion::Invalidation(_)
            | Conclusion::Abandoned => false,
        }
    }

    /// Begins or ends the pause after a refresh: a body that breaks off is a failure of the origin.
    fn pause_or_resume(&self) {
        let (cache, variant) = (&self.cache, &self.lead.slot().variant);
        match &self.conclusion {
            Conclusion::Abandoned => cache.refresh_failed(self.route.bucket, variant),
            Conclusion::Refusal(Refusal::Incomplete | Refusal::Panicked) => {
                cache.revalidations.failed(variant);
            }
            Conclusion::Refusal(_)
            | Conclusion::Overload(_)
            | Conclusion::Invalidation(_)
            | Conclusion::Response(..) => {
                cache.revalidations.answered(variant);
            }
        }
    }

    /// Counts the result of the commit, and settles the flight.
    pub(super) fn conclude(self, commit: Commit) -> Result<Arc<Entry>, Refusal> {
        if self.is_refresh {
            self.pause_or_resume();
        }
        let is_grouped = self.is_grouped();
        let (entry, selection) = match self.conclusion {
            Conclusion::Response(entry, selection) => (entry, selection),
            Conclusion::Refusal(refusal) | Conclusion::Invalidation(refusal) => {
                self.lead.decline();
                return Err(refusal);
            }
            Conclusion::Overload(refusal) => {
                self.lead.end();
                return Err(refusal);
            }
            Conclusion::Abandoned => return Err(Refusal::Failed),
        };
        let stored = match commit {
            Commit::Stored => Ok(()),
            Commit::Fenced => Err(Refusal::Fenced),
            Commit::Unsettled => Err(Refusal::Unsettled),
            Commit::Superseded => Err(Refusal::Superseded),
            Commit::TooLarge => Err(Refusal::TooLarge),
            Commit::Failed => Err(Refusal::Store),
        };
        let (bucket, metrics) = (self.route.bucket, self.cache.metrics());
        match stored {
            Ok(()) => {
                self.route.early.note(|| recent() - self.requested);
                metrics.stored(bucket);
                // Before the flight ends: until then, whoever looks by what was known before joins it.
                if let Some(variations) = &self.route.variations {
                    variations.learn(&entry.slot().variant, selection.variation.as_ref());
                }
                if let (Some(fields), Some((head, body))) = (self.sampled, entry.as_response()) {
                    let stripped = &self.route.rule.storage.stripped;
                    let response = ResponseDigest::of_stored(head, body, stripped);
                    self.cache.audits.keep(AuditSample::of(&entry, response, *fields));
                }
            }
            Err(Refusal::Fenced) => metrics.fenced(bucket),
            Err(refusal) => metrics.refused(bucket, refusal),
        }
        // Of tags that requests did not know, only a commit tells; in one process, the fences do.
        let is_known_current =
            || self.lead.token().is_none() && entry.is_current(self.cache.store.sequence());
        let is_in_doubt = is_grouped
            && match stored {
                Err(Refusal::Fenced | Refusal::Store) => true,
                Err(Refusal::Unsettled) => !is_known_current(),
                _ => false,
            };
        match entry.as_response().filter(|(head, _)| head.may_be_shared()) {
            // One of the followers asks the origin again, for all.
            _ if is_in_doubt => drop(self.lead),
            // The followers began before the invalidation that may have fenced the commit.
            Some((head, body)) => self.lead.fill(|| SharedResponse {
                head: Arc::new(head.clone()),
                body: SharedBody::Whole(body.clone()),
                variant: entry.slot().variant.clone(),
                selection,
            }),
            None => self.lead.decline(),
        }
        stored.map(|()| entry)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::{super::assess::tests::response_of, *};
    use crate::{
        CacheRoute, MemoryStore, SupportCacheLayer,
        clock::now,
        entry::Provenance,
        flight::Turn,
        key::{Slot, Tag},
    };

    /// A request that joined during the commit may be younger than an invalidation of the group that the
    /// commit did not see.
    #[tokio::test(start_paused = true)]
    async fn a_flight_whose_response_has_groups_is_closed_before_its_commit() {
        let route = CacheRoute::get("/").key("a").ttl(Duration::from_secs(60));
        let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
        let cache = layer.cache();
        let fence = cache.store.sequence().begin();
        for groups in [&[][..], &[Tag::new("g")]] {
            let slot = Slot::example();
            let enter = || cache.flights.enter(&slot, None, |_| true, || fence);
            let Turn::Lead(lead) = enter() else { panic!("a flight before") };
            let plain = response_of(fence);
            let (head, body) = plain.as_response().expect("a response");
            let slot = Slot { tags: groups.iter().cloned().collect(), ..slot.clone() };
            let provenance = Provenance { slot, fence, requested: now(), gauge: Arc::default() };
            let entry = Arc::new(Entry::response(provenance, head.clone(), body.clone()));
            let (cache, entries) = (Arc::clone(cache), Some((Some(()), Arc::clone(&entry), None)));
            let conclusion = Conclusion::Response(entry, Selection::default());
            let route = Arc::clone(cache.rules().route(0));
            let (requested, followed, _right, is_refresh) = (now(), None, None, false);
            let mut ending = Ending {
                cache,
                lead,
                route,
                requested,
                followed,
                entries,
                conclusion,
                _right,
                is_refresh,
                reservation: None,
                sampled: None,
            };
            ending.commit().await;
            assert_eq!(matches!(enter(), Turn::Lead(_)), !groups.is_empty());
        }
    }
}
