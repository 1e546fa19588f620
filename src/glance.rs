//! What a read is told before any pattern is matched: an entry knows its route.

use std::sync::Arc;

use http::{Method, Response};
use http_body::Body;

use crate::{
    answer::{Asks, hit},
    body::ResponseBody,
    entry::Entry,
    policy::Facts,
    route::HeadRef,
    shared::Shared,
    store::{Store, VariantRef},
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
        head: HeadRef<'a>,
        has_content: bool,
    ) -> Self {
        let facts = Facts::of(head.headers, &shared.identity.watched);
        let may_be_plain = (*head.method == Method::GET || *head.method == Method::HEAD)
            && shared.table.may_be_plain(head.uri.path());
        let variant = match may_be_plain && !has_content {
            true => shared.identity.plain_variant(head, &facts),
            false => None,
        };
        let looked = variant.map(|variant| (variant, shared.store.peek(&variant)));
        Self { facts, has_content, looked }
    }

    /// Answers an ordinary read.
    ///
    /// Its variant holds the digest of all routes and the target that the inner service sees, so an
    /// entry with an equal one was matched to the route that this request would be. Where that
    /// route puts more into its variants, such as a caller, none of its entries is found.
    #[inline]
    pub(crate) fn answer<St: Store, B: Body>(
        &self,
        shared: &Shared<St>,
        method: &Method,
    ) -> Option<Response<ResponseBody<B>>> {
        let entry = self.looked.as_ref()?.1.as_ref()?;
        let route = entry.route()?;
        let rule = shared.table.read_rules().get(route)?;
        let telling = shared.telling(route);
        let is_answer = rule.credentials.overlook(&self.facts)
            && !shared.is_switched_off(route)
            && entry.is_fresh_at(telling.now)
            && !shared.may_be_due(route, entry, telling.now);
        let found = entry.as_response().filter(|_| is_answer)?;
        Some(hit(found, telling, if *method == Method::HEAD { Asks::HEAD } else { Asks::GET }))
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
