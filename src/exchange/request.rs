//! Request side of an exchange: a read that was admitted, and what it asks for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, UPGRADE},
    response,
};

use super::{coded::CodingAsked, nesting::OuterFills, rules::CachedRoute};
use crate::{
    background::Revalidation,
    coding::ContentCoding,
    entry::{Entry, Head},
    key::{DigestKey, FieldList, Nominated, Slot, Variant},
    metrics::{
        cache_outcome::OutcomeReport,
        outcome::{Alone, ForwardReason},
    },
    policy::{
        Conditions, ForceRefresh, RangeAsked, RequestFields, UrlVariation, Wishes, contradicts,
    },
    route::{CacheRule, HeadRef},
};

/// Parts of a request that shape its response: method, directives, conditions, ranges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    pub(crate) is_head: bool,
    pub(crate) wishes: Wishes,
    pub(crate) conditions: Option<Conditions>,
    /// Requested parts; `None` for the whole.
    pub(crate) range: Option<Box<RangeAsked>>,
    /// Set if the request has credentials that only the response can declare irrelevant (RFC 9111 §3.5).
    pub(crate) needs_permission: bool,
    pub(crate) report: OutcomeReport,
    /// Coding that it prefers; `None` for the plain form.
    pub(crate) coding: Option<ContentCoding>,
}

impl Asks {
    /// Reads what a request asks for; `found` tells which of its fields are there.
    pub(crate) fn of(head: HeadRef<'_>, found: &RequestFields<'_>, rule: &CacheRule) -> Self {
        let fields = head.headers;
        // Only GET and QUERY have parts (RFC 9110 §14.2, RFC 10008 §2.8).
        let has_range = found.has_range && *head.method != Method::HEAD;
        Self {
            is_head: *head.method == Method::HEAD,
            wishes: match head.extensions.get::<ForceRefresh>() {
                Some(ForceRefresh) => Wishes::REFRESH,
                None if found.has_directives => Wishes::of(fields, rule.request_directives),
                None => Wishes::NONE,
            },
            conditions: found.has_conditions.then(|| Conditions::of(fields)),
            range: has_range.then(|| Box::new(RangeAsked::of(fields))),
            needs_permission: found.has_authorization && rule.credentials.is_by_response(),
            report: OutcomeReport::of(head.extensions),
            coding: match rule.codings.offered.is_empty() {
                true => None,
                false => coding(head, found, rule),
            },
        }
    }

    /// Returns the reason for which the request is forwarded by itself if nothing stored answers it, and
    /// its response is not stored.
    pub(crate) fn alone(&self) -> Option<Alone> {
        let reasons = [
            (self.is_head, Alone::Head),
            (self.range.is_some(), Alone::Range),
            (self.wishes.no_store, Alone::NoStore),
        ];
        reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
    }

    /// Returns whether the client already has a stored response of this status and these fields.
    pub(crate) fn client_has(&self, status: StatusCode, fields: &HeaderMap) -> bool {
        let conditions = self.conditions.as_ref().filter(|_| status.is_success());
        conditions.is_some_and(|conditions| conditions.are_met_by(fields))
    }

    /// Returns whether the client already has a response that has just come from the origin.
    pub(crate) fn have_current(&self, status: StatusCode, fields: &HeaderMap) -> bool {
        let conditions = self.conditions.as_ref().filter(|conditions| conditions.apply_to(fields));
        conditions.is_some() && self.client_has(status, fields)
    }
}

/// Returns the coding that a request prefers, if the route has coded forms for it.
fn coding(head: HeadRef<'_>, found: &RequestFields<'_>, rule: &CacheRule) -> Option<ContentCoding> {
    let coding = head.extensions.get::<CodingAsked>()?.coding?;
    let is_plain = rule.is_for_caller(found.has_credentials) && !rule.codings.is_for_callers;
    (!is_plain).then_some(coding)
}

/// Terms of a response that decide which requests it answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) nominated: Nominated,
    /// Variation that it declares, where the route honours it; `None` for the query as it was sent.
    pub(crate) variation: Option<Arc<UrlVariation>>,
}

/// Position of a response in the store: variant and note.
pub(crate) struct Placement {
    /// Variant that the response was made for, and the terms that led to it.
    pub(super) variant: Variant,
    pub(super) selection: Selection,
    /// Set if its target has another form than the one that was looked for.
    pub(super) has_moved: bool,
    /// Variant of the note that names the nominated fields, if a response has nominated any.
    pub(super) noted_at: Option<Variant>,
}

/// Read that needs the store or the origin.
#[derive(Clone)]
pub(crate) struct Read {
    pub(crate) route: Arc<CachedRoute>,
    /// Place of its response; the variant holds the values of `nominated`.
    pub(crate) slot: Slot,
    /// Variant without the values of fields that responses have nominated.
    pub(crate) base: Variant,
    pub(crate) nominated: Nominated,
    /// Target as it was sent, where the response may say what of it counts.
    pub(crate) sent: Option<Box<str>>,
    pub(crate) asks: Asks,
    /// Reason for which it is forwarded, if it is.
    pub(crate) reason: ForwardReason,
    /// Response that was found and is stale, not new enough for the request, or due for an early refresh.
    pub(crate) seen: Option<Arc<Entry>>,
    /// Right that one request at a time has: to refresh, or to fill although a refusal is remembered.
    pub(crate) right: Option<Arc<Revalidation>>,
    /// Set if its caller has an answer already.
    pub(crate) is_background: bool,
    /// Fills of outer layers that wait for it.
    pub(crate) outer: Option<OuterFills>,
    /// Time until the service began its response, once it has.
    pub(crate) origin_time: Option<Duration>,
}

impl Read {
    /// Creates a read of which nothing is known yet.
    pub(crate) fn new(
        route: &Arc<CachedRoute>,
        slot: Slot,
        sent: Option<Box<str>>,
        asks: Asks,
    ) -> Self {
        Self {
            route: Arc::clone(route),
            base: slot.variant.clone(),
            slot,
            nominated: route.rule.vary.clone(),
            sent,
            asks,
            reason: ForwardReason::UriMiss,
            seen: None,
            right: None,
            is_background: false,
            outer: None,
            origin_time: None,
        }
    }

    /// Returns the variant without the values of nominated fields, for a response with this variation.
    pub(crate) fn base_by(&self, variation: Option<&UrlVariation>) -> Variant {
        match (&self.sent, variation) {
            (None, _) => self.base.clone(),
            (Some(sent), None) => self.base.targeting(sent),
            (Some(sent), Some(variation)) => self.base.targeting(&variation.form(sent)),
        }
    }

    /// Returns the placement of the response to it, forwarded with these fields. `None` for `Vary: *` and for
    /// too many names.
    pub(super) fn place(
        &self,
        fields: &FieldList,
        response: &HeaderMap,
        secret: &DigestKey,
    ) -> Option<Placement> {
        let nominated = self.nominated.with(response).ok()?;
        let variation = self.sent.as_ref().and_then(|_| UrlVariation::of(response)).map(Arc::new);
        let base = self.base_by(variation.as_deref());
        let has_moved = base != self.base;
        let variant = match nominated == self.nominated && !has_moved {
            true => self.slot.variant.clone(),
            false => base.nominating(&nominated.values(fields, secret)),
        };
        let noted_at = (variant != base).then_some(base);
        let selection = Selection { nominated, variation };
        Some(Placement { variant, selection, has_moved, noted_at })
    }

    /// Looks by these nominated fields from now on.
    pub(crate) fn vary_by(&mut self, nominated: &Nominated, values: &[u8]) {
        self.slot.variant = self.base.nominating(values);
        self.nominated = nominated.clone();
        self.reason = ForwardReason::VaryMiss;
        self.seen = None;
        if !self.is_background {
            self.right = None;
        }
    }

    /// Turns the request into an unconditional one for the whole: its caller already has an answer.
    pub(crate) fn ask_for_all<Q>(&mut self, request: &mut Request<Q>) {
        self.is_background = true;
        if self.asks.is_head {
            *request.method_mut() = Method::GET;
        }
        self.asks = Asks { needs_permission: self.asks.needs_permission, ..Asks::default() };
        for name in [IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, UPGRADE] {
            request.headers_mut().remove(name);
        }
    }

    /// Returns the response that was found.
    pub(crate) fn found(&self) -> Option<(&Head, &Bytes)> {
        self.seen.as_ref()?.as_response()
    }

    /// Returns whether it refreshes an entry that is still fresh.
    pub(crate) fn is_early(&self) -> bool {
        self.is_background && self.seen.as_ref().is_some_and(|entry| entry.is_fresh())
    }

    /// Returns whether no request joins its flight: it wants a newer response than others do, its response
    /// is stored only to be revalidated, or a refusal is remembered.
    pub(crate) fn leads_privately(&self) -> bool {
        let is_refused = self.right.is_some() && !self.is_background;
        self.asks.wishes.refreshes
            || is_refused
            || self.reason == ForwardReason::Request
            || self.found().is_some_and(|(head, _)| !head.may_be_shared())
    }

    /// Returns whether the response that was found has a window in which it may answer while stale.
    pub(crate) fn may_be_stale(&self) -> bool {
        self.found().is_some_and(|(head, _)| head.windows().allow_stale())
    }

    /// Returns whether the response to a HEAD shows that the stored one differs from what GET would
    /// bring (RFC 9111 §4.3.5).
    pub(crate) fn is_contradicted_by(&self, answer: &response::Parts) -> bool {
        self.asks.is_head
            && answer.status == StatusCode::OK
            && self.found().is_some_and(|(head, body)| {
                contradicts(&answer.headers, &head.stored(), body.len())
            })
    }
}
