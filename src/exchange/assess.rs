//! Meaning of a stored entry for one request, at one moment.
//!
//! Every entry that a request comes upon is judged here: one in memory, one that a store over a network
//! returned, one that another fill stored meanwhile, and one that was kept in case the origin fails. An
//! assessment is never kept across an await: whoever answers later asks again.

use crate::{
    background::early_refresh::EarlyRefresh,
    clock::Instant,
    entry::{Entry, Head},
    key::vary::Nominated,
    metrics::outcome::Stale,
    policy::Wishes,
};

/// Question that a request asks about an entry.
#[derive(Clone, Copy)]
pub(crate) struct Question<'q> {
    /// Directives of the request; [`Wishes::NONE`] for the result of a fill that the request waited for,
    /// which is as new as a response of the origin's own.
    pub(crate) wishes: &'q Wishes,
    /// Early refresh of the route; `None` where the answer is not to begin one.
    pub(crate) early: Option<&'q EarlyRefresh>,
    /// Time of the answer, which its response is dated with, too.
    pub(crate) now: Instant,
    pub(crate) purpose: Purpose,
}

/// Use that a request has for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It answers the caller.
    Answer,
    /// It is to be replaced in the background; the caller has its answer.
    Refresh,
}

/// State of the world that decides about a stale response. Read only where there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// Whether no invalidation has reached the entry since its fill began.
    pub(crate) is_current: bool,
    pub(crate) origin: Origin,
}

/// State of the origin for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It has not been asked yet.
    Unasked,
    /// It failed a moment ago and is not asked again until a pause is over.
    BackedOff,
    /// It was asked and has not answered in time.
    Slow,
    /// It was asked and has failed.
    Failed,
}

/// Meaning of an entry for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assessment<'e> {
    /// A fresh response that the request accepts; `is_due` asks for an early refresh.
    Fresh { is_due: bool },
    /// A fresh response, but the request wants a newer one.
    Unacceptable,
    /// A stale response, and the reason for which it may answer all the same, if there is one.
    Stale { reason: Option<Stale> },
    /// A recent response of this slot could not be stored: forward without a flight.
    Pass,
    /// Responses of this slot are found by these fields.
    Varies(&'e Nominated),
    /// No use: an expired note, or a pass for a request that must not be forwarded.
    Nothing,
}

/// Returns the meaning of `entry` for the request that asks `question`.
///
/// `circumstances` is called only for a stale response that has windows in which it may answer.
pub(crate) fn assess<'e>(
    entry: &'e Entry,
    question: &Question<'_>,
    circumstances: impl FnOnce() -> Circumstances,
) -> Assessment<'e> {
    let Question { wishes, early, now, purpose } = *question;
    let is_fresh = entry.is_fresh_at(now);
    let Some((head, _)) = entry.as_response() else {
        return match entry.as_nominated() {
            _ if !is_fresh => Assessment::Nothing,
            Some(nominated) => Assessment::Varies(nominated),
            None if wishes.only_if_cached => Assessment::Nothing,
            None => Assessment::Pass,
        };
    };
    // A request with wishes of its own is answered to the letter: no stale response, no early refresh.
    let has_wishes = *wishes != Wishes::NONE;
    if is_fresh {
        if has_wishes && !accept(wishes, head, now) {
            return Assessment::Unacceptable;
        }
        let early = early.filter(|_| !has_wishes && purpose == Purpose::Answer);
        let is_due = early.is_some_and(|early| early.is_due(entry, now));
        return Assessment::Fresh { is_due };
    }
    let is_eligible = !has_wishes && purpose == Purpose::Answer && head.windows().allow_stale();
    let reason = is_eligible.then(circumstances).and_then(|found| reason(head, found, now));
    Assessment::Stale { reason }
}

fn accept(wishes: &Wishes, head: &Head, now: Instant) -> bool {
    let (age, ttl) = head.age_and_ttl(now);
    wishes.accept(age, ttl.as_secs())
}

/// Returns the reason for which a stale response may answer (RFC 9111 §4.2.4, RFC 5861).
fn reason(head: &Head, circumstances: Circumstances, now: Instant) -> Option<Stale> {
    let Circumstances { is_current, origin } = circumstances;
    let windows = head.windows();
    let is_within = |window| is_current && now < head.fresh_until() + window;
    let may_revalidate = matches!(origin, Origin::Unasked | Origin::BackedOff)
        && is_within(windows.while_revalidate);
    let (window, reason) = match origin {
        _ if may_revalidate => return Some(Stale::Revalidate),
        Origin::Unasked => return None,
        Origin::BackedOff | Origin::Failed => (windows.if_error, Stale::Error),
        Origin::Slow => (windows.if_error, Stale::Timeout),
    };
    is_within(window).then_some(reason)
}
