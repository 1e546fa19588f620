//! Look-ups, and what a request does about an entry that was found.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use http::{HeaderMap, Response};
use http_body::Body;

use super::{
    assess::{Assessment, Circumstances, Origin, Purpose, Question, assess},
    cache::Cache,
    request::{Asks, Read},
    respond::Reuse,
    rules::CachedRoute,
};
use crate::{
    background::Revalidation,
    body::ResponseBody,
    clock::{Instant, now},
    entry::Entry,
    key::{Nominated, Variant},
    metrics::outcome::{Alone, Bypass, ForwardReason, SparedCall, Stale, Unshared},
    policy::Wishes,
    store::{Holder, Lookup, Store},
};

/// Course that a request takes because of an entry.
pub(crate) enum Verdict {
    /// It answers.
    Answer(Reuse),
    /// A recent response could not be stored. One request at a time fills all the same.
    Pass(Arc<Entry>),
    /// The origin is asked for this reason; the entry is kept if it can be revalidated or may stand in.
    Keep(ForwardReason, Option<Arc<Entry>>),
    /// The request looks again by these fields.
    Vary(Nominated),
    Nothing,
}

/// End of a search for a response.
pub(crate) enum Ended<B: Body> {
    /// A stored response answers.
    Stored(Reuse),
    /// The response of another request's flight answers.
    Collapsed(Response<ResponseBody<B>>),
    /// Nothing is stored, and the request must not be forwarded (`only-if-cached`).
    Unsatisfied,
    /// Nothing is stored, and the budget of the origin is spent until this time has passed.
    Exhausted(Duration),
    /// The request is forwarded by itself.
    Unshared(Unshared),
}

impl<B: Body> From<Alone> for Ended<B> {
    fn from(reason: Alone) -> Self {
        Self::Unshared(Unshared::Alone(reason))
    }
}

impl<B: Body> From<Bypass> for Ended<B> {
    fn from(reason: Bypass) -> Self {
        Self::Unshared(Unshared::Bypassed(reason))
    }
}

/// Progress of a search for a response.
#[derive(Debug)]
pub(crate) struct Search {
    pub(super) began: Instant,
    /// End of all waiting; `None` before the first turn.
    pub(super) deadline: Option<Instant>,
    /// Holder of the slot in the store, if the last look found one.
    pub(crate) held: Option<Holder>,
    pub(super) was_abandoned: bool,
    pub(super) has_varied: bool,
}

impl Search {
    /// Creates a search that waits for as long as its read may.
    pub(crate) fn new() -> Self {
        let (began, deadline, held) = (now(), None, None);
        Self { began, deadline, held, was_abandoned: false, has_varied: false }
    }

    /// Creates a search that waits for nothing.
    pub(crate) fn without_waiting() -> Self {
        Self { deadline: Some(now()), ..Self::new() }
    }
}

impl<St: Store> Cache<St> {
    /// Decides about an entry that was just found by a peek or a look-up. An entry that was kept across an
    /// await is [`stand_in`](Read::stand_in)'s: its fence must be asked first.
    pub(crate) fn consider(
        &self,
        route: &CachedRoute,
        wishes: &Wishes,
        purpose: Purpose,
        fields: &HeaderMap,
        entry: Arc<Entry>,
    ) -> Verdict {
        let verdict = self.weigh(route, wishes, purpose, fields, entry);
        if let Verdict::Answer(Reuse { stale: Some(Stale::Quota), .. }) = &verdict {
            self.origin.spared(SparedCall::Stale);
        }
        verdict
    }

    /// Decides about an entry, and counts nothing.
    #[inline]
    pub(super) fn weigh(
        &self,
        route: &CachedRoute,
        wishes: &Wishes,
        purpose: Purpose,
        fields: &HeaderMap,
        entry: Arc<Entry>,
    ) -> Verdict {
        let Some(entry) = route.adopt(entry) else { return Verdict::Nothing };
        let now = now();
        let question = Question { wishes, early: Some(&route.early), now, purpose };
        let keeps_stale = || route.rule.keeps_stale();
        match assess(&entry, &question, || self.circumstances(fields, &entry)) {
            Assessment::Fresh { is_due } => {
                Verdict::Answer(Reuse { entry, stale: None, is_due, now })
            }
            Assessment::Unacceptable => Verdict::Keep(ForwardReason::Request, Some(entry)),
            Assessment::Stale { reason: stale @ Some(why) } if keeps_stale() => {
                Verdict::Answer(Reuse { entry, stale, is_due: why != Stale::Quota, now })
            }
            Assessment::Stale { .. } => {
                Verdict::Keep(ForwardReason::Stale, Some(entry).filter(|_| keeps_stale()))
            }
            Assessment::Pass => Verdict::Pass(entry),
            Assessment::Varies(nominated) => Verdict::Vary(nominated.clone()),
            Assessment::Nothing => Verdict::Nothing,
        }
    }

    /// Reads the circumstances of a stale entry that was just found.
    fn circumstances(&self, fields: &HeaderMap, entry: &Entry) -> Circumstances {
        let variant = &entry.slot().variant;
        let origin = match () {
            () if self.revalidations.is_paused(variant) => Origin::BackedOff,
            () if self.is_limited(SparedCall::Stale, fields, variant) => Origin::Limited,
            () => Origin::Unasked,
        };
        Circumstances { is_current: entry.is_current(self.store.sequence()), origin }
    }

    /// Returns the right to fill although a refusal is remembered. One request at a time has it, so that a
    /// refusal ends with the first response that may be stored.
    pub(crate) fn retry(&self, variant: &Variant, asks: &Asks) -> Option<Arc<Revalidation>> {
        let right = || self.revalidations.begin(variant);
        asks.alone().is_none().then(right).flatten().map(Arc::new)
    }

    /// Returns whether [`retry`](Self::retry) would give the right.
    pub(super) fn may_retry(&self, variant: &Variant, asks: &Asks) -> bool {
        asks.alone().is_none() && self.revalidations.may_begin(variant)
    }

    /// Looks for the response of a read; looks once more if a note names other fields.
    pub(crate) async fn look<B: Body>(
        &self,
        search: &mut Search,
        read: &mut Read,
        fields: &HeaderMap,
    ) -> ControlFlow<Ended<B>> {
        let mut found = self.store.lookup(&read.slot).await;
        if let Lookup::Found(note) = &found
            && let Some(nominated) = note.as_nominated()
        {
            read.vary_by(nominated, &nominated.values(fields, &self.identity.secret));
            found = self.store.lookup(&read.slot).await;
        }
        match found {
            Lookup::Found(entry) => self.found(read, fields, entry)?,
            Lookup::Held(holder) => search.held = Some(holder),
            Lookup::Unavailable if !read.asks.wishes.only_if_cached => {
                return ControlFlow::Break(Bypass::Store.into());
            }
            Lookup::Unavailable | Lookup::Absent => {}
        }
        Self::miss(read)
    }

    /// Answers with the entry that a look-up found, or keeps it.
    fn found<B: Body>(
        &self,
        read: &mut Read,
        fields: &HeaderMap,
        entry: Arc<Entry>,
    ) -> ControlFlow<Ended<B>> {
        let purpose = if read.is_background { Purpose::Refresh } else { Purpose::Answer };
        match self.consider(&read.route, &read.asks.wishes, purpose, fields, entry) {
            Verdict::Answer(reuse) => {
                if reuse.is_due {
                    read.reason = ForwardReason::Stale;
                    read.seen = Some(Arc::clone(&reuse.entry));
                }
                return ControlFlow::Break(Ended::Stored(reuse));
            }
            Verdict::Pass(pass) => {
                if read.right.is_none() {
                    read.right = self.retry(&read.slot.variant, &read.asks);
                }
                if read.right.is_none() {
                    return ControlFlow::Break(Alone::Pass.into());
                }
                read.seen = Some(pass);
            }
            Verdict::Keep(reason, seen) => {
                read.reason = reason;
                read.seen = seen;
            }
            Verdict::Vary(_) | Verdict::Nothing => {}
        }
        ControlFlow::Continue(())
    }

    /// Ends a read that has found no answer and must not fill.
    fn miss<B: Body>(read: &Read) -> ControlFlow<Ended<B>> {
        if read.asks.wishes.only_if_cached {
            return ControlFlow::Break(Ended::Unsatisfied);
        }
        match read.asks.alone() {
            Some(alone) => ControlFlow::Break(alone.into()),
            None => ControlFlow::Continue(()),
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use bytes::Bytes;
    use http::{
        header::{AGE, CACHE_CONTROL, ETAG},
        response,
    };
    use tokio::time::advance;

    use super::{super::assess::tests::response_of, *};
    use crate::{
        CacheRoute, Credentials, MemoryStore, ResponsePolicy, SupportCacheLayer,
        entry::{Head, Provenance, Timing},
        fence::Sequence,
        key::{Slot, Strength},
        policy::{Freshness, Reception},
        route::CacheRule,
        verify::random::{Random, for_all},
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// A store over a network may still return an entry that this process has invalidated.
    #[tokio::test(start_paused = true)]
    async fn a_stale_entry_that_was_invalidated_does_not_answer() {
        let route = CacheRoute::get("/").key("a").ttl(Duration::from_secs(60));
        let route = route.stale_while_revalidate(Duration::from_secs(10));
        let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
        let cache = layer.cache();
        let entry = Arc::new(response_of(cache.store.sequence().begin()));
        let rules = cache.rules();
        let (route, fields) = (rules.route(0), HeaderMap::new());
        let consider =
            || cache.consider(route, &Wishes::NONE, Purpose::Answer, &fields, Arc::clone(&entry));
        advance(Duration::from_secs(61)).await;
        assert!(matches!(consider(), Verdict::Answer(Reuse { is_due: true, .. })));
        cache.store.invalidate(&entry.slot().key.clone().into(), Strength::Hard).await.unwrap();
        assert!(matches!(consider(), Verdict::Keep(ForwardReason::Stale, Some(_))));
    }

    /// Route with random lifetimes and windows.
    fn any_rule(random: &mut Random, freshness: Freshness) -> CacheRule {
        let seconds = |random: &mut Random| Duration::from_secs(random.pick(&[1, 5, 20, 60]));
        let mut route = CacheRoute::get("/").key("a").freshness(freshness);
        route = route.jitter(random.pick(&[0, 50]));
        if freshness == Freshness::Fixed || random.below(2) == 0 {
            route = route.ttl(seconds(random));
        }
        if random.below(2) == 0 {
            route = route.negative_ttl(seconds(random));
        }
        if random.below(2) == 0 {
            route = route.stale_while_revalidate(seconds(random));
        }
        if random.below(2) == 0 {
            route = route.stale_if_error(seconds(random));
        }
        route.build(&Credentials::Bypass).expect("a route")
    }

    fn any_response(random: &mut Random) -> response::Parts {
        let lines = [
            "",
            "max-age=20",
            "max-age=0",
            "max-age=20, stale-while-revalidate=7",
            "stale-while-revalidate=90",
            "stale-if-error=9",
            "must-revalidate",
            "no-cache",
            "s-maxage=30",
        ];
        let mut response = Response::builder()
            .status(random.pick(&[200, 200, 203, 301, 404, 410, 503]))
            .header(CACHE_CONTROL, random.pick(&lines));
        if random.below(2) == 0 {
            response = response.header(ETAG, "\"1\"");
        }
        if random.below(4) == 0 {
            response = response.header(AGE, random.pick(&["1", "7", "40"]));
        }
        let mut head = response.body(()).expect("a response").into_parts().0;
        if random.below(4) == 0 {
            let ttl = Duration::from_secs(random.pick(&[0, 3, 90]));
            head.extensions.insert(ResponsePolicy::ttl(ttl));
        }
        head
    }

    /// Stores a response as a route does, with this part of its jitter.
    fn stored(rule: &CacheRule, response: &response::Parts, dice: u64) -> Option<Arc<Entry>> {
        let mut timing = Timing { requested: now(), received: now(), lifetime: Duration::ZERO };
        let time_of_day = || std::time::UNIX_EPOCH + 60 * SECOND;
        let reception = Reception { needs_permission: false, dice, timing, left: 1.0, time_of_day };
        let terms = rule.storage.judge(response, &reception).ok()?;
        timing.lifetime = terms.fresh_for;
        let mut head = Head::new(response, timing);
        head.be_at_least(terms.initial_age);
        head.set_windows(terms.windows);
        head.set_by_route(terms.by_route);
        let fence = Sequence::new().begin();
        let provenance =
            Provenance { slot: Slot::example(), fence, requested: now(), gauge: Arc::default() };
        Some(Arc::new(Entry::response(provenance, head, Bytes::new())))
    }

    /// Routes differ in lifetimes and windows alone, so they have one scope and share their entries.
    #[test]
    fn a_route_answers_with_nothing_of_anothers_that_it_could_not_have_stored_and_used_itself() {
        let mut answers = 0;
        for_all(|random| {
            let freshness = random.pick(&[Freshness::Fixed, Freshness::Origin]);
            let [writer, reader] = [(); 2].map(|()| any_rule(random, freshness));
            let response = any_response(random);
            let dice = random.pick(&[0, u64::MAX / 2, u64::MAX]);
            let found = stored(&writer, &response, dice).and_then(|entry| reader.adopt(entry));
            let Some(found) = found else { return };
            let own = stored(&reader, &response, 0).expect("the reader stores it too");
            for age in 0..150 {
                let now = now() + age * SECOND;
                for origin in [Origin::Unasked, Origin::BackedOff, Origin::Slow, Origin::Failed] {
                    let (wishes, early, purpose) = (&Wishes::NONE, None, Purpose::Answer);
                    let question = Question { wishes, early, now, purpose };
                    let circumstances = || Circumstances { is_current: true, origin };
                    let ask = |entry| assess(entry, &question, circumstances);
                    let is_answer = |assessment| {
                        matches!(
                            assessment,
                            Assessment::Fresh { .. } | Assessment::Stale { reason: Some(_) }
                        )
                    };
                    if is_answer(ask(&found)) {
                        answers += 1;
                        assert!(is_answer(ask(&own)), "{age} s, {origin:?}");
                        let is_fresh = |entry| matches!(ask(entry), Assessment::Fresh { .. });
                        assert!(!is_fresh(&found) || is_fresh(&own), "{age} s, {origin:?}");
                    }
                }
            }
        });
        assert!(answers > 10_000, "{answers}");
    }
}
