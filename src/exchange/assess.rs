//! Meaning of a stored entry for one request, at one moment.
//!
//! Every entry that a request finds is assessed here: in memory, in a store over a network, stored by
//! another fill meanwhile, or kept in case the origin fails. An assessment is never kept across an await:
//! code that answers later must assess again.

use crate::{
    background::early_refresh::EarlyRefresh,
    clock::Instant,
    entry::{Entry, Head},
    key::Nominated,
    metrics::outcome::Stale,
    policy::Wishes,
};

/// Question that a request asks about an entry.
#[derive(Clone, Copy)]
pub(crate) struct Question<'q> {
    /// Cache directives of the request, as far as the route honours them. [`Wishes::NONE`] for the result
    /// of a fill: it is as new as the origin's own response.
    pub(crate) wishes: &'q Wishes,
    /// Early refresh of the route; `None` where the answer is not to begin one.
    pub(crate) early: Option<&'q EarlyRefresh>,
    /// Time of the answer, from which `Age` is computed, too.
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

/// Circumstances that decide about a stale response. Computed only if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// Set if no invalidation has reached the entry since its fill began.
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
    /// It has asked for a pause that is not over.
    Limited,
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
    /// A note: look again, with the request's values of these fields.
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
    // A request with directives of its own gets no stale response and begins no early refresh.
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
    let may_revalidate = matches!(origin, Origin::Unasked | Origin::BackedOff | Origin::Limited)
        && is_within(windows.while_revalidate);
    let (window, reason) = match origin {
        _ if may_revalidate => return Some(Stale::Revalidate),
        Origin::Unasked => return None,
        Origin::BackedOff | Origin::Failed => (windows.if_error, Stale::Error),
        Origin::Limited => (windows.if_error, Stale::Quota),
        Origin::Slow => (windows.if_error, Stale::Timeout),
    };
    is_within(window).then_some(reason)
}

#[cfg(all(test, not(shuttle)))]
pub(super) mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, Response, header::CACHE_CONTROL};

    use super::*;
    use crate::{
        clock::now,
        entry::{Provenance, Timing, Windows},
        fence::{Fence, Sequence},
        key::Slot,
        policy::RequestDirectives,
    };

    const SECOND: Duration = Duration::from_secs(1);
    const LIFETIME: Duration = Duration::from_secs(60);
    const CURRENT: Circumstances = Circumstances { is_current: true, origin: Origin::Unasked };

    /// Fresh for 60 s, then 10 s while revalidating and 100 s if the origin fails.
    pub(in crate::exchange) fn response_of(fence: Fence) -> Entry {
        let windows =
            Windows { while_revalidate: 10 * SECOND, if_error: 100 * SECOND, ..Windows::default() };
        response_with(windows, fence)
    }

    fn response_with(windows: Windows, fence: Fence) -> Entry {
        let (parts, ()) = Response::new(()).into_parts();
        let (requested, received) = (now(), now());
        let mut head = Head::new(&parts, Timing { requested, received, lifetime: LIFETIME });
        head.set_windows(windows);
        Entry::response(provenance_of(fence), head, Bytes::from_static(b"body"))
    }

    fn response() -> Entry {
        response_of(Sequence::new().begin())
    }

    fn provenance_of(fence: Fence) -> Provenance {
        let gauge = std::sync::Arc::default();
        Provenance { slot: Slot::example(), fence, requested: now(), gauge }
    }

    fn provenance() -> Provenance {
        provenance_of(Sequence::new().begin())
    }

    fn wishes(line: &str) -> Wishes {
        let mut fields = HeaderMap::new();
        fields.insert(CACHE_CONTROL, line.parse().expect("a field value"));
        Wishes::of(&fields, RequestDirectives::Honour)
    }

    /// Assesses `entry` at an age in seconds, for an answer, unless a row says otherwise.
    struct Row<'e> {
        entry: &'e Entry,
        age: u64,
        wishes: Wishes,
        purpose: Purpose,
        circumstances: Circumstances,
    }

    impl<'e> Row<'e> {
        fn of(entry: &'e Entry, age: u64) -> Self {
            let (wishes, purpose) = (Wishes::NONE, Purpose::Answer);
            Self { entry, age, wishes, purpose, circumstances: CURRENT }
        }

        #[track_caller]
        fn is(self, expected: Assessment<'_>) {
            let Self { entry, age, wishes, purpose, circumstances } = self;
            let early = EarlyRefresh::new(0.0);
            let now = entry.fresh_until() - LIFETIME + age as u32 * SECOND;
            let question = Question { wishes: &wishes, early: Some(&early), now, purpose };
            assert_eq!(assess(entry, &question, || circumstances), expected);
        }
    }

    const FRESH: Assessment<'_> = Assessment::Fresh { is_due: false };

    fn stale(reason: impl Into<Option<Stale>>) -> Assessment<'static> {
        Assessment::Stale { reason: reason.into() }
    }

    #[test]
    fn a_response_is_fresh_until_its_lifetime_is_over() {
        let entry = response();
        Row::of(&entry, 0).is(FRESH);
        Row::of(&entry, 59).is(FRESH);
        Row::of(&entry, 60).is(stale(Stale::Revalidate));
    }

    #[test]
    fn directives_of_the_request_limit_fresh_responses_and_forbid_stale_ones() {
        let entry = response();
        for (line, age, expected) in [
            ("max-age=5", 5, FRESH),
            ("max-age=5", 6, Assessment::Unacceptable),
            ("no-cache", 0, Assessment::Unacceptable),
            ("min-fresh=10", 51, Assessment::Unacceptable),
            ("only-if-cached", 59, FRESH),
            ("only-if-cached", 61, stale(None)),
            ("max-age=100", 61, stale(None)),
            ("no-store", 61, stale(None)),
        ] {
            Row { wishes: wishes(line), ..Row::of(&entry, age) }.is(expected);
        }
    }

    #[test]
    fn a_stale_response_answers_within_the_window_that_the_origin_opens() {
        let entry = response();
        for (origin, age, expected) in [
            (Origin::Unasked, 69, Some(Stale::Revalidate)),
            (Origin::Unasked, 70, None),
            (Origin::BackedOff, 69, Some(Stale::Revalidate)),
            (Origin::BackedOff, 70, Some(Stale::Error)),
            (Origin::BackedOff, 160, None),
            (Origin::Limited, 69, Some(Stale::Revalidate)),
            (Origin::Limited, 70, Some(Stale::Quota)),
            (Origin::Limited, 160, None),
            (Origin::Slow, 61, Some(Stale::Timeout)),
            (Origin::Slow, 160, None),
            (Origin::Failed, 61, Some(Stale::Error)),
            (Origin::Failed, 159, Some(Stale::Error)),
            (Origin::Failed, 160, None),
        ] {
            let circumstances = Circumstances { origin, ..CURRENT };
            Row { circumstances, ..Row::of(&entry, age) }.is(stale(expected));
            let circumstances = Circumstances { is_current: false, origin };
            Row { circumstances, ..Row::of(&entry, age) }.is(stale(None));
        }
    }

    #[test]
    fn circumstances_are_not_computed_for_a_response_that_never_answers_stale() {
        let to_validate = Windows { to_validate: LIFETIME, ..Windows::default() };
        let entry = response_with(to_validate, Sequence::new().begin());
        let now = entry.fresh_until();
        let question =
            Question { wishes: &Wishes::NONE, early: None, now, purpose: Purpose::Answer };
        assert_eq!(assess(&entry, &question, || unreachable!("it has no window")), stale(None));
    }

    #[test]
    fn a_background_read_is_not_ended_by_a_stale_response() {
        let entry = response();
        Row { purpose: Purpose::Refresh, ..Row::of(&entry, 61) }.is(stale(None));
        Row { purpose: Purpose::Refresh, ..Row::of(&entry, 59) }.is(FRESH);
    }

    #[test]
    fn a_note_names_fields_until_it_expires() {
        let nominated = Nominated::new(vec![CACHE_CONTROL]);
        let note = Entry::nominated(provenance(), nominated.clone(), now() + LIFETIME);
        Row::of(&note, 59).is(Assessment::Varies(&nominated));
        Row::of(&note, 60).is(Assessment::Nothing);
    }

    #[test]
    fn a_pass_forwards_unless_the_request_must_not_be_forwarded() {
        let pass = Entry::pass(provenance(), now() + LIFETIME);
        Row::of(&pass, 59).is(Assessment::Pass);
        Row::of(&pass, 60).is(Assessment::Nothing);
        Row { wishes: wishes("only-if-cached"), ..Row::of(&pass, 1) }.is(Assessment::Nothing);
    }

    #[test]
    fn an_early_refresh_is_for_answers_to_plain_requests() {
        let entry = response();
        let early = EarlyRefresh::new(1.0);
        // Each toss reaches that far.
        early.note(|| Duration::from_secs(1 << 40));
        let ask = |wishes: &Wishes, early, purpose| {
            let question = Question { wishes, early, now: now(), purpose };
            assess(&entry, &question, || CURRENT)
        };
        let due = Assessment::Fresh { is_due: true };
        assert_eq!(ask(&Wishes::NONE, Some(&early), Purpose::Answer), due);
        assert_eq!(ask(&Wishes::NONE, None, Purpose::Answer), FRESH);
        assert_eq!(ask(&Wishes::NONE, Some(&early), Purpose::Refresh), FRESH);
        assert_eq!(ask(&wishes("max-age=60"), Some(&early), Purpose::Answer), FRESH);
    }
}
