//! Whether a response may be stored, and so shared: the two are one question.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    response,
};

use super::{
    cache_control::Directives,
    freshness::{Arrival, Freshness, is_heuristically_cacheable, is_understood},
    stated::{Extent, Stated},
    targeted::Targeted,
    validation::Validators,
};
use crate::{
    entry::{Timing, Windows},
    metrics::outcome::Refusal,
    route::CacheRule,
};

/// How long a store need keep what is stale for the origin to be asked about it.
const KEPT_TO_VALIDATE: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a field is meant for one client. RFC 9111 §7.3 lets `Set-Cookie` be stored; we do not.
fn is_per_client(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "set-cookie"
            | "set-cookie2"
            | "www-authenticate"
            | "proxy-authenticate"
            | "clear-site-data"
            | "authentication-info"
    )
}

/// What the request and its forward tell of a response, besides its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Whether the request carried credentials that only the response can say do not matter.
    pub(crate) needs_permission: bool,
    /// Decides how much of a lifetime jitter takes off.
    pub(crate) dice: u64,
    /// When it was asked for and received.
    pub(crate) timing: Timing,
    /// The time of receipt, read where the origin's clock counts.
    pub(crate) time_of_day: fn() -> SystemTime,
}

/// How a response may be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// From when it was received.
    pub(crate) fresh_for: Duration,
    /// How old it was then, where the origin's clock counts.
    pub(crate) initial_age: Duration,
    /// For how long after that it is of use.
    pub(crate) windows: Windows,
    /// Fields that are for the client whose request was forwarded alone.
    pub(crate) withheld: Vec<HeaderName>,
}

/// What a response says to caches: in a field for this one, or else in `Cache-Control`.
struct Said<'a> {
    fields: &'a HeaderMap,
    targeted: Option<Targeted>,
    directives: Directives,
}

impl<'a> Said<'a> {
    fn of(rule: &CacheRule, fields: &'a HeaderMap) -> Self {
        let targeted = Targeted::of(&rule.targeted, fields);
        let directives = match &targeted {
            Some(targeted) => Directives::targeted(targeted),
            None => Directives::of(fields),
        };
        Self { fields, targeted, directives }
    }

    fn stated(&self) -> Stated {
        match &self.targeted {
            Some(targeted) => Stated::targeted(targeted),
            None => Stated::of(self.fields),
        }
    }
}

/// Judges a response by its head. `Err` names the first rule that forbids storing it.
pub(crate) fn judge(
    rule: &CacheRule,
    head: &response::Parts,
    asked: &Asked,
) -> Result<Terms, Refusal> {
    let fields = &head.headers;
    let said = Said::of(rule, fields);
    let terms = match rule.lifetimes.freshness {
        Freshness::Fixed => by_route(rule, head, &said, asked.dice)?,
        Freshness::Origin => by_origin(rule, head, &said, asked)?,
    };
    if is_event_stream(fields) {
        return Err(Refusal::Stream);
    }
    if asked.needs_permission && !said.directives.permits_sharing {
        return Err(Refusal::Credentials);
    }
    let is_kept = |name: &HeaderName| !rule.strips(name) && !terms.withheld.contains(name);
    if fields.keys().any(|name| is_per_client(name) && is_kept(name)) {
        return Err(Refusal::SetCookie);
    }
    Ok(terms)
}

/// The terms of a route with a lifetime of its own.
fn by_route(
    rule: &CacheRule,
    head: &response::Parts,
    said: &Said<'_>,
    dice: u64,
) -> Result<Terms, Refusal> {
    let lifetime = rule.lifetimes.of(head.status).ok_or(Refusal::Status)?;
    let directives = said.directives;
    if directives.no_store {
        return Err(Refusal::NoStore);
    }
    if directives.no_cache {
        return Err(Refusal::NoCache);
    }
    if directives.private && !rule.credentials.is_per_caller() {
        return Err(Refusal::Private);
    }
    let windows = match rule.windows.allow_stale() {
        true => said.stated().windows(rule.windows),
        false => Windows::default(),
    };
    let fresh_for = rule.lifetimes.jittered(lifetime, dice);
    Ok(Terms { fresh_for, windows, ..Terms::default() })
}

/// The terms that the response itself states, for a shared cache (RFC 9111 §3).
fn by_origin(
    rule: &CacheRule,
    head: &response::Parts,
    said: &Said<'_>,
    asked: &Asked,
) -> Result<Terms, Refusal> {
    let (status, fields) = (head.status, &head.headers);
    let mut stated = said.stated();
    let is_understood = !stated.must_understand || is_understood(status);
    if !is_understood || status.is_informational() || is_partial(status) {
        return Err(Refusal::Status);
    }
    // RFC 9111 §5.2.2.3: `no-store` beside it is for caches that do not know the status.
    if said.directives.no_store && !stated.must_understand {
        return Err(Refusal::NoStore);
    }
    // What has validators can be asked about, each time if need be.
    let has_validators = status == StatusCode::OK && Validators::of(fields).is_some();
    let is_never_fresh = stated.no_cache == Extent::Everything;
    if is_never_fresh && !has_validators {
        return Err(Refusal::NoCache);
    }
    if rule.credentials.is_per_caller() {
        stated.private = Extent::Nothing;
    }
    if stated.private == Extent::Everything {
        return Err(Refusal::Private);
    }
    let corrected_age = asked.timing.corrected_age(fields);
    let arrival = Arrival { at: (asked.time_of_day)(), corrected_age };
    let may_guess = stated.is_public || is_heuristically_cacheable(status);
    let guess = || match rule.lifetimes.heuristic_percent {
        0 => None,
        percent if may_guess => arrival.heuristic_lifetime(fields, percent),
        _ => None,
    };
    let lifetime = arrival
        .stated_lifetime(fields, &stated)
        .or_else(guess)
        .or_else(|| rule.lifetimes.of(status))
        .unwrap_or_default();
    let initial_age = arrival.initial_age(fields);
    let fresh_for = match is_never_fresh {
        true => Duration::ZERO,
        false => rule.lifetimes.jittered(lifetime.saturating_sub(initial_age), asked.dice),
    };
    if fresh_for.is_zero() && !has_validators {
        return Err(Refusal::NotFresh);
    }
    let withheld = [stated.no_cache.fields(), stated.private.fields()].concat();
    let to_validate = if has_validators { KEPT_TO_VALIDATE } else { Duration::ZERO };
    let windows = Windows { to_validate, ..stated.windows(rule.windows) };
    Ok(Terms { fresh_for, initial_age, windows, withheld })
}

/// Whether a status is that of a part of a response, which is nothing without the rest.
fn is_partial(status: StatusCode) -> bool {
    status == StatusCode::PARTIAL_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Whether a refusal says something about the next response too: a `Pass` entry remembers it. A
/// failure of the origin is not remembered, nor what was wrong at this moment only, nor what was
/// wrong with one request: whoever can provoke a 431 could keep a resource from being cached.
pub(crate) fn may_be_remembered(refusal: Refusal, status: StatusCode) -> bool {
    let is_momentary = matches!(
        refusal,
        Refusal::Budget | Refusal::Incomplete | Refusal::Failed | Refusal::Runtime
    );
    let is_of_the_request =
        status.is_client_error() && status != StatusCode::NOT_FOUND && status != StatusCode::GONE;
    !is_momentary && !is_of_the_request && !status.is_server_error()
}

/// Returns the length that the head and the body's hint declare, `None` where neither does.
///
/// Refuses a response whose `Content-Length` is no number, comes twice with different values
/// (RFC 9110 §8.6), or contradicts the body's own hint.
pub(crate) fn declared_length(
    fields: &HeaderMap,
    hint: Option<u64>,
) -> Result<Option<u64>, Refusal> {
    let mut declared = hint;
    for line in fields.get_all(CONTENT_LENGTH) {
        let length = decimal(line.as_bytes()).ok_or(Refusal::Incomplete)?;
        if *declared.get_or_insert(length) != length {
            return Err(Refusal::Incomplete);
        }
    }
    Ok(declared)
}

/// Reads digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let add = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    text.iter().try_fold(0, add).filter(|_| !text.is_empty())
}

fn is_event_stream(fields: &HeaderMap) -> bool {
    fields.get(CONTENT_TYPE).is_some_and(|value| {
        let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;
    use crate::{CacheRoute, Caller, Credentials};

    fn asked(needs_permission: bool) -> Asked {
        let (now, time_of_day) = (crate::clock::now(), || SystemTime::UNIX_EPOCH);
        let timing = Timing { requested: now, received: now, lifetime: Duration::ZERO };
        Asked { needs_permission, dice: 0, timing, time_of_day }
    }

    fn rule(credentials: &Credentials) -> CacheRule {
        let route = CacheRoute::get("/").key("k").ttl(Duration::from_secs(1));
        route.build(credentials).unwrap()
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], expected: Result<(), Refusal>) {
        let mut response = Response::builder();
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let head = response.body(()).unwrap().into_parts().0;
        let judged = judge(&rule(&Credentials::Bypass), &head, &asked(false));
        assert_eq!(judged.map(drop), expected, "{fields:?}");
    }

    #[test]
    fn what_a_response_forbids_wins() {
        check(&[("cache-control", "max-age=0")], Ok(()));
        check(&[("cache-control", "no-store")], Err(Refusal::NoStore));
        check(&[("cache-control", "no-cache")], Err(Refusal::NoCache));
        check(&[("cache-control", "private")], Err(Refusal::Private));
        check(&[("content-type", "Text/Event-Stream; x=y")], Err(Refusal::Stream));
        for name in [
            "set-cookie",
            "set-cookie2",
            "www-authenticate",
            "proxy-authenticate",
            "clear-site-data",
            "authentication-info",
        ] {
            check(&[(name, "x")], Err(Refusal::SetCookie));
        }
    }

    #[test]
    fn private_may_be_stored_for_the_caller_alone() {
        let head = Response::builder().header("cache-control", "private").body(()).unwrap();
        let rule = rule(&Credentials::PerCaller(Caller::authorization()));
        assert!(judge(&rule, &head.into_parts().0, &asked(false)).is_ok());
    }

    #[test]
    fn only_200_is_stored() {
        for status in [100, 101, 201, 203, 204, 206, 301, 304, 400, 404, 410, 500, 503] {
            let response = Response::builder().status(status).body(()).unwrap();
            let judged =
                judge(&rule(&Credentials::Bypass), &response.into_parts().0, &asked(false));
            assert_eq!(judged.map(drop), Err(Refusal::Status), "{status}");
        }
    }

    #[test]
    fn credentials_need_the_responses_permission() {
        let judged = |line: &str| {
            let head = Response::builder().header("cache-control", line).body(()).unwrap();
            judge(&rule(&Credentials::ByResponse), &head.into_parts().0, &asked(true)).map(drop)
        };
        for line in ["public", "s-maxage=5", "must-revalidate", "max-age=5, public"] {
            assert_eq!(judged(line), Ok(()), "{line}");
        }
        for line in ["max-age=5", "s-maxage", "publicly", ""] {
            assert_eq!(judged(line), Err(Refusal::Credentials), "{line}");
        }
    }

    #[test]
    fn a_stripped_field_does_not_keep_a_response_from_being_stored() {
        let route = CacheRoute::get("/")
            .key("k")
            .ttl(Duration::from_secs(1))
            .strip([http::header::SET_COOKIE]);
        let rule = route.build(&Credentials::Bypass).unwrap();
        let head = Response::builder().header("set-cookie", "a=b").body(()).unwrap();
        assert!(judge(&rule, &head.into_parts().0, &asked(false)).is_ok());
    }

    #[test]
    fn jitter_only_shortens_a_lifetime() {
        let route = CacheRoute::get("/").key("k").ttl(Duration::from_secs(100)).jitter(10);
        let lifetimes = route.build(&Credentials::Bypass).unwrap().lifetimes;
        let lifetime = lifetimes.of(StatusCode::OK).unwrap();
        let lifetime = |dice| lifetimes.jittered(lifetime, dice).as_secs_f64().round();
        assert_eq!((lifetime(0), lifetime(u64::MAX / 2), lifetime(u64::MAX)), (100.0, 95.0, 90.0));
    }

    #[test]
    fn a_negative_lifetime_is_for_404_and_410_alone() {
        let route = CacheRoute::get("/").key("k").ttl(Duration::from_secs(100)).jitter(0);
        let route = route.negative_ttl(Duration::from_secs(5));
        let lifetimes = route.build(&Credentials::Bypass).unwrap().lifetimes;
        for (status, seconds) in [(200, Some(100)), (404, Some(5)), (410, Some(5)), (403, None)] {
            let lifetime = lifetimes.of(StatusCode::from_u16(status).unwrap());
            assert_eq!(lifetime.map(|lifetime| lifetime.as_secs()), seconds, "{status}");
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let fields = |lines: &[&str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(CONTENT_LENGTH, line.parse().unwrap());
            }
            fields
        };
        assert_eq!(declared_length(&fields(&[]), None), Ok(None));
        assert_eq!(declared_length(&fields(&["5", "5"]), None), Ok(Some(5)));
        assert_eq!(declared_length(&fields(&["5"]), Some(5)), Ok(Some(5)));
        assert_eq!(declared_length(&fields(&["5"]), Some(4)), Err(Refusal::Incomplete));
        assert_eq!(declared_length(&fields(&["5", "6"]), None), Err(Refusal::Incomplete));
        assert_eq!(declared_length(&fields(&["x"]), None), Err(Refusal::Incomplete));
        assert_eq!(declared_length(&fields(&["+5"]), None), Err(Refusal::Incomplete));
    }
}
