//! A read that was admitted.

use std::sync::Arc;

use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE},
};

use crate::{
    entry::Entry,
    exchange::cache::Shared,
    exchange::respond::Asks,
    key::vary::Nominated,
    key::{Slot, Variant},
    metrics::outcome::Forward,
    policy::contradicts,
    route::CacheRule,
    store::Lookup,
};

/// A read that found nothing in this process that could answer it.
#[derive(Clone)]
pub(crate) struct Read {
    pub(crate) route: usize,
    /// Where it looks: the variant holds the values of `nominated`.
    pub(crate) slot: Slot,
    /// The variant without what responses have nominated.
    pub(crate) base: Variant,
    pub(crate) nominated: Nominated,
    pub(crate) asks: Asks,
    /// Why it is forwarded, if it is.
    pub(crate) forward: Forward,
    /// What it has found and cannot use as it is: stale, or not good enough for the request.
    pub(crate) seen: Option<Arc<Entry>>,
    /// Whether its caller has an answer already.
    pub(crate) is_background: bool,
}

impl Read {
    /// Whether what was found is the note of other nominated fields: the read looks by these from now
    /// on.
    pub(crate) fn is_told_to_vary<St>(
        &mut self,
        shared: &Shared<St>,
        found: &Lookup,
        fields: &HeaderMap,
    ) -> bool {
        let Lookup::Found(note) = found else { return false };
        let Some(learned) = note.as_nominated() else { return false };
        self.vary_by(shared, learned, fields);
        true
    }

    /// Looks by other nominated fields from now on.
    pub(crate) fn vary_by<St>(
        &mut self,
        shared: &Shared<St>,
        nominated: &Nominated,
        fields: &HeaderMap,
    ) {
        let values = nominated.values(fields, &shared.identity.secret);
        self.slot.variant = self.base.nominating(&values);
        self.nominated = nominated.clone();
        self.seen = None;
    }

    /// Makes a request whose caller is answered one for the whole representation.
    pub(crate) fn ask_for_all<Q>(&mut self, request: &mut Request<Q>) {
        self.is_background = true;
        self.asks = Asks { needs_permission: self.asks.needs_permission, ..Asks::default() };
        *request.method_mut() = Method::GET;
        for name in [IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE] {
            request.headers_mut().remove(name);
        }
    }

    /// Whether it refreshes what is fresh: to look would find that again.
    pub(crate) fn is_early(&self) -> bool {
        self.is_background && self.seen.as_ref().is_some_and(|entry| entry.is_fresh())
    }

    /// Notes an entry that is stale.
    pub(crate) fn found_stale(&mut self, rule: &CacheRule, entry: Arc<Entry>) {
        if entry.as_response().is_some() {
            self.forward = Forward::Stale;
            self.seen = Some(entry).filter(|_| rule.keeps_stale());
        }
    }

    /// Whether what answers others does not answer this request: it wants something newer than what
    /// is fresh, or what is stored is never used without asking the origin.
    pub(crate) fn asks_for_itself(&self) -> bool {
        let stored = self.seen.as_ref().and_then(|entry| entry.as_response());
        self.forward == Forward::Request || stored.is_some_and(|(head, _)| !head.may_be_shared())
    }

    /// Whether the origin's answer to a HEAD shows that what is stored is no longer what GET would
    /// bring (RFC 9111 §4.3.5).
    pub(crate) fn is_contradicted_by<B>(&self, response: &Response<B>) -> bool {
        let stored = self.seen.as_ref().and_then(|entry| entry.as_response());
        self.asks.is_head
            && response.status() == StatusCode::OK
            && stored.is_some_and(|(head, body)| {
                contradicts(response.headers(), &head.stored(), body.len())
            })
    }
}
