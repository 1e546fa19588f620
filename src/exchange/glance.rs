//! What a read is told before any pattern is matched: an entry knows its route.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
use http_body::Body;

use crate::{
    body::ResponseBody,
    entry::{Entry, Head},
    exchange::cache::Shared,
    exchange::request::Read,
    exchange::respond::{Asks, Telling, hit},
    key::Room,
    metrics::outcome::Forward,
    policy::Facts,
    route::{Concern, HeadRef},
    store::timeout::bounded,
    store::{Lookup, Store, VariantRef},
};

/// A first look at a request, by its fields and its target.
pub(crate) struct Glance<'a> {
    pub(crate) facts: Facts<'a>,
    pub(crate) has_content: bool,
    /// The variant that an ordinary read has on most routes, and what is held for it.
    looked: Option<(VariantRef<'a>, Option<Arc<Entry>>)>,
}

impl<'a> Glance<'a> {
    #[inline]
    pub(crate) fn at<St: Store>(
        shared: &'a Shared<St>,
        (head, concern): (HeadRef<'a>, Concern),
        has_content: bool,
        room: &'a mut Room,
    ) -> Self {
        let facts = Facts::of(head.headers, &shared.identity.watched);
        let may_be_plain = (*head.method == Method::GET || *head.method == Method::HEAD)
            && concern == Concern::PlainRules;
        let variant = match may_be_plain && !has_content {
            true => shared.identity.plain_variant(head, &facts),
            false => None,
        };
        let looked = variant.map(|variant| {
            let variant = variant.encode(room);
            (variant, shared.store.peek(&variant))
        });
        Self { facts, has_content, looked }
    }

    /// Returns what answers an ordinary read.
    ///
    /// Its variant holds the digest of all routes and the target that the inner service sees, so an
    /// entry with an equal one was matched to the route that this request would be. Where that
    /// route puts more into its variants, such as a caller, none of its entries is found.
    #[inline]
    pub(crate) fn found<'g, St: Store>(
        &'g self,
        shared: &'g Shared<St>,
        method: &Method,
    ) -> Option<Found<'g>> {
        let entry = self.looked.as_ref()?.1.as_ref()?;
        let route = self.route(shared, entry)?;
        Found::of(shared, (route, asks(method)), entry)
    }

    /// Returns what answers an ordinary read if it is still in the store.
    pub(crate) fn recall<St: Store>(
        &self,
        shared: &Shared<St>,
        method: &Method,
    ) -> Option<Recalled> {
        let (variant, None) = self.looked.as_ref()? else { return None };
        let entry = shared.store.recall(variant)?;
        let route = self.route(shared, &entry)?;
        Some(Recalled { entry, route, asks: asks(method) })
    }

    /// Returns the route of an entry, if it may answer this request.
    fn route<St: Store>(&self, shared: &Shared<St>, entry: &Entry) -> Option<usize> {
        let route = entry.route()?;
        let rule = shared.table.read_rules().get(route)?;
        let is_for_it = rule.credentials.overlook(&self.facts) && !shared.is_switched_off(route);
        is_for_it.then_some(route)
    }

    /// Returns what is held for a variant. What was looked up before is not looked up again.
    pub(crate) fn peek<St: Store>(
        self,
        shared: &Shared<St>,
        variant: &VariantRef<'_>,
    ) -> Option<Arc<Entry>> {
        match self.looked {
            Some((looked, found)) if looked == *variant => found,
            _ => shared.store.peek(variant),
        }
    }
}

fn asks(method: &Method) -> &'static Asks {
    if *method == Method::HEAD { Asks::HEAD } else { Asks::GET }
}

/// A fresh response, and what is made of it.
pub(crate) struct Found<'g> {
    response: (&'g Head, &'g Bytes),
    telling: Telling<'g>,
    asks: &'g Asks,
}

impl<'g> Found<'g> {
    #[inline]
    fn of<St: Store>(
        shared: &'g Shared<St>,
        (route, asks): (usize, &'g Asks),
        entry: &'g Entry,
    ) -> Option<Self> {
        let telling = shared.telling(route);
        let is_fresh = entry.is_fresh_at(telling.now);
        let is_answer = is_fresh && !shared.may_be_due(route, entry, telling.now);
        let response = entry.as_response().filter(|_| is_answer)?;
        Some(Self { response, telling, asks })
    }

    #[inline]
    pub(crate) fn answer<B: Body>(self) -> Response<ResponseBody<B>> {
        hit(self.response, self.telling, self.asks)
    }
}

/// What answers an ordinary read if it is still in the store.
pub(crate) struct Recalled {
    entry: Arc<Entry>,
    route: usize,
    asks: &'static Asks,
}

impl Recalled {
    /// Asks the store.
    pub(crate) async fn confirm<St: Store>(&self, shared: &Shared<St>) -> Lookup {
        match St::KEEPS_BUDGETS {
            true => shared.store.confirm(&self.entry).await,
            // Boxed: a future has room for both.
            false => {
                let found = Box::pin(bounded(shared.store.confirm(&self.entry)));
                found.await.unwrap_or(Lookup::Unavailable)
            }
        }
    }

    /// Answers with what the store has, where that is as simple as a hit in memory.
    pub(crate) fn answer<St: Store, B: Body>(
        &self,
        shared: &Shared<St>,
        found: &Lookup,
    ) -> Option<Response<ResponseBody<B>>> {
        let Lookup::Found(entry) = found else { return None };
        Some(Found::of(shared, (self.route, self.asks), entry)?.answer())
    }

    /// Returns the read that the request is.
    pub(crate) fn into_read<St>(self, shared: &Shared<St>) -> Read {
        let slot = self.entry.slot().clone();
        Read {
            route: self.route,
            base: slot.variant.clone(),
            slot,
            nominated: shared.table.read_rules()[self.route].vary.clone(),
            asks: self.asks.clone(),
            forward: Forward::UriMiss,
            seen: None,
            is_background: false,
        }
    }
}
