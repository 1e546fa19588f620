//! Storability of responses (RFC 9111 §3). A response is shared with other requests under the same
//! conditions.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    response,
};

use super::{
    cache_control::{Directives, Extent},
    freshness::{Arrival, Freshness, Lifetimes, is_heuristically_cacheable, is_understood},
    response_policy::HeadRules,
    validation::Validators,
};
use crate::{
    entry::{ByRoute, Head, Timing, Windows},
    metrics::outcome::Refusal,
};

/// Time for which a stale response is kept to be validated.
const KEPT_TO_VALIDATE: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of a route that decide about storage.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoragePolicy {
    pub(crate) lifetimes: Lifetimes,
    /// Stale windows for responses that state none.
    pub(crate) windows: Windows,
    /// Fields that replace `Cache-Control`, in order of precedence (RFC 9213).
    pub(crate) targeted: Arc<[HeaderName]>,
    /// Fields that are not stored.
    pub(crate) stripped: Arc<[HeaderName]>,
    /// Set if a stored response answers its own caller only.
    pub(crate) is_per_caller: bool,
    /// Closures over the heads of responses.
    pub(crate) rules: HeadRules,
}

/// Circumstances of a response that its head does not show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reception {
    /// Set if the request had credentials that the response must permit to share.
    pub(crate) needs_permission: bool,
    /// Random number that chooses the jitter.
    pub(crate) dice: u64,
    pub(crate) timing: Timing,
    /// Share of the origin's budget that is left, where a lifetime depends on it.
    pub(crate) left: f64,
    /// Reads the time of arrival, where the origin's clock counts.
    pub(crate) time_of_day: fn() -> SystemTime,
}

/// Terms under which a response may be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Lifetime from the arrival on.
    pub(crate) fresh_for: Duration,
    /// Age at the arrival, where the origin's clock counts.
    pub(crate) initial_age: Duration,
    /// Stale windows that follow the lifetime.
    pub(crate) windows: Windows,
    /// Times that the route has set.
    pub(crate) by_route: ByRoute,
    /// Fields that only the client of this request may receive.
    pub(crate) withheld: Vec<HeaderName>,
}

impl StoragePolicy {
    /// Returns a text that is equal for policies that store the same responses in the same form. Lifetimes
    /// and windows are left out: they are applied at each read.
    pub(crate) fn scope(&self) -> String {
        let Lifetimes { freshness, heuristic_percent, statuses, .. } = &self.lifetimes;
        let statuses = statuses.as_ref().map(|statuses| statuses.iter().collect::<BTreeSet<_>>());
        let stripped: BTreeSet<_> = self.stripped.iter().map(HeaderName::as_str).collect();
        let (targeted, rules, is_per_caller) = (&self.targeted, &self.rules, self.is_per_caller);
        format!(
            "{freshness:?} {heuristic_percent} {statuses:?} {targeted:?} {stripped:?} \
             {is_per_caller} {rules:?}"
        )
    }

    /// Judges a response by its head.
    ///
    /// # Errors
    ///
    /// The first rule that forbids storing it.
    pub(crate) fn judge(
        &self,
        head: &response::Parts,
        reception: &Reception,
    ) -> Result<Terms, Refusal> {
        let fields = &head.headers;
        let stated = Directives::of_response(&self.targeted, fields);
        let permits_sharing = stated.permits_sharing;
        let terms = match self.lifetimes.freshness {
            Freshness::Fixed => self.fixed_terms(head, &stated, reception)?,
            Freshness::Origin => self.stated_terms(head, stated, reception)?,
        };
        if is_event_stream(fields) {
            return Err(Refusal::Stream);
        }
        if reception.needs_permission && !permits_sharing {
            return Err(Refusal::Credentials);
        }
        let is_kept =
            |name: &HeaderName| !self.stripped.contains(name) && !terms.withheld.contains(name);
        match fields.keys().filter(|name| is_kept(name)).find_map(for_one_client) {
            Some(refusal) => Err(refusal),
            None => self.rules.check(head).map(|()| terms),
        }
    }

    /// Returns the terms of a route with a lifetime of its own.
    fn fixed_terms(
        &self,
        head: &response::Parts,
        stated: &Directives,
        reception: &Reception,
    ) -> Result<Terms, Refusal> {
        let given = self.rules.ttl(head).filter(|_| self.lifetimes.admit(head.status));
        let lifetime = given
            .or_else(|| self.lifetimes.given(head.status, reception.left))
            .ok_or(Refusal::Status)?;
        if stated.no_store {
            return Err(Refusal::NoStore);
        }
        if stated.no_cache != Extent::Nothing {
            return Err(Refusal::NoCache);
        }
        if stated.private != Extent::Nothing && !self.is_per_caller {
            return Err(Refusal::Private);
        }
        let windows = match self.windows.allow_stale() {
            true => stated.windows(self.windows),
            false => Windows::default(),
        };
        let fresh_for = self.lifetimes.jittered(lifetime, reception.dice);
        if fresh_for.is_zero() {
            return Err(Refusal::NotFresh);
        }
        let by_route = by_route(stated, given.is_none());
        Ok(Terms { fresh_for, windows, by_route, ..Terms::default() })
    }

    /// Returns the terms that the response itself states, for a shared cache (RFC 9111 §3).
    fn stated_terms(
        &self,
        head: &response::Parts,
        mut stated: Directives,
        reception: &Reception,
    ) -> Result<Terms, Refusal> {
        let (status, fields) = (head.status, &head.headers);
        let is_understood = !stated.must_understand || is_understood(status);
        let is_whole = !status.is_informational() && !is_partial(status);
        if !is_understood || !is_whole || !self.lifetimes.allow(status) {
            return Err(Refusal::Status);
        }
        // RFC 9111 §5.2.2.3: `no-store` beside it is for caches that do not know the status.
        if stated.no_store && !stated.must_understand {
            return Err(Refusal::NoStore);
        }
        // A response with validators is of use even if each request has to validate it.
        let has_validators = status == StatusCode::OK && Validators::of(fields).is_some();
        let is_never_fresh = stated.no_cache == Extent::Everything;
        if is_never_fresh && !has_validators {
            return Err(Refusal::NoCache);
        }
        if self.is_per_caller {
            stated.private = Extent::Nothing;
        }
        if stated.private == Extent::Everything {
            return Err(Refusal::Private);
        }
        let corrected_age = reception.timing.corrected_age(fields);
        let arrival = Arrival { at: (reception.time_of_day)(), corrected_age };
        let may_guess = stated.is_public || is_heuristically_cacheable(status);
        let guess = || match self.lifetimes.heuristic_percent {
            0 => None,
            percent if may_guess => arrival.heuristic_lifetime(fields, percent),
            _ => None,
        };
        let own = arrival.stated_lifetime(fields, &stated).or_else(guess);
        let lifetime =
            own.or_else(|| self.lifetimes.given(status, reception.left)).unwrap_or_default();
        let initial_age = arrival.initial_age(fields);
        // A lifetime that the handler or the route gives begins with the arrival.
        let given = self.rules.ttl(head);
        let rest = given.unwrap_or(lifetime.saturating_sub(initial_age));
        let fresh_for = match is_never_fresh {
            true => Duration::ZERO,
            false => self.lifetimes.jittered(rest, reception.dice),
        };
        if fresh_for.is_zero() && !has_validators {
            return Err(Refusal::NotFresh);
        }
        let withheld = [stated.no_cache.fields(), stated.private.fields()].concat();
        let to_validate = if has_validators { KEPT_TO_VALIDATE } else { Duration::ZERO };
        let windows = Windows { to_validate, ..stated.windows(self.windows) };
        let by_route = by_route(&stated, own.or(given).is_none());
        Ok(Terms { fresh_for, initial_age, windows, by_route, withheld })
    }

    /// Returns the longest lifetime for which this route may use a response that a route of the same scope
    /// has stored. `None` if this one would not have stored it.
    pub(crate) fn longest_lifetime(&self, head: &Head) -> Option<Duration> {
        let lifetimes = &self.lifetimes;
        match (lifetimes.freshness, head.by_route().lifetime) {
            (Freshness::Fixed, true) => lifetimes.of(head.status),
            (Freshness::Fixed, false) => lifetimes.admit(head.status).then_some(Duration::MAX),
            (Freshness::Origin, _) if !lifetimes.allow(head.status) => None,
            (Freshness::Origin, false) => Some(Duration::MAX),
            (Freshness::Origin, true) => {
                let own = lifetimes.of(head.status).unwrap_or_default();
                let rest = own.saturating_sub(head.initial_age());
                let is_of_use = !rest.is_zero() || !head.windows().to_validate.is_zero();
                is_of_use.then_some(rest)
            }
        }
    }

    /// Returns the windows in which this route may use a response that a route of the same scope has stored.
    pub(crate) fn windows_of(&self, head: &Head) -> Windows {
        let (by_route, stored, own) = (head.by_route(), head.windows(), self.windows);
        if self.lifetimes.freshness == Freshness::Fixed && !own.allow_stale() {
            return Windows { to_validate: stored.to_validate, ..Windows::default() };
        }
        let limit = |stored: Duration, is_by_route, own| match is_by_route {
            true => stored.min(own),
            false => stored,
        };
        let (revalidate, error) = (by_route.while_revalidate, by_route.if_error);
        Windows {
            while_revalidate: limit(stored.while_revalidate, revalidate, own.while_revalidate),
            if_error: limit(stored.if_error, error, own.if_error),
            to_validate: stored.to_validate,
        }
    }
}

/// Names the times of a response that come from its route.
fn by_route(stated: &Directives, lifetime: bool) -> ByRoute {
    ByRoute {
        lifetime,
        while_revalidate: stated.stale_while_revalidate.is_none(),
        if_error: stated.stale_if_error.is_none(),
    }
}

/// Returns the refusal of a field that is meant for one client. RFC 9111 §7.3 would allow `Set-Cookie`.
fn for_one_client(name: &HeaderName) -> Option<Refusal> {
    Some(match name.as_str() {
        "set-cookie" | "set-cookie2" => Refusal::SetCookie,
        "clear-site-data" => Refusal::ClearSiteData,
        "www-authenticate" => Refusal::WwwAuthenticate,
        "proxy-authenticate" => Refusal::ProxyAuthenticate,
        "authentication-info" => Refusal::AuthenticationInfo,
        _ => return None,
    })
}

/// Returns the reason for which a status cannot be stored, whatever a route says.
pub(crate) fn unfit_status(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        100..=199 => Some("1xx is no final response: remove it"),
        206 | 304 => Some("206 and 304 are parts of a response: remove them"),
        401 | 407 => Some("401 and 407 are for one client: remove them"),
        500.. => Some("a server error is not stored: remove it, or use `stale_if_error`"),
        _ => None,
    }
}

/// Returns whether a status is that of a part of a response.
fn is_partial(status: StatusCode) -> bool {
    status == StatusCode::PARTIAL_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Returns whether a refusal predicts the next response too, so that a `Pass` entry remembers it.
///
/// Failures of the origin, momentary obstacles and errors of one request do not. A client that can
/// provoke a 431 could otherwise keep a resource from being cached.
pub(crate) fn may_be_remembered(refusal: Refusal, status: StatusCode) -> bool {
    let is_momentary = matches!(
        refusal,
        Refusal::Budget
            | Refusal::Incomplete
            | Refusal::Failed
            | Refusal::Panicked
            | Refusal::Runtime
    );
    let is_of_the_request = status.is_informational()
        || status.is_client_error()
            && status != StatusCode::NOT_FOUND
            && status != StatusCode::GONE;
    !is_momentary && !is_of_the_request && !status.is_server_error()
}

/// Returns the length that the head and the body's hint declare, `None` if neither does.
///
/// Refuses a `Content-Length` that is no number, that comes twice with different values (RFC 9110
/// §8.6), or that contradicts the body's own hint.
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

/// Parses digits and nothing else, unlike `str::parse`, which accepts a sign.
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

    fn reception(needs_permission: bool) -> Reception {
        let (now, time_of_day) = (crate::clock::now(), || SystemTime::UNIX_EPOCH);
        let timing = Timing { requested: now, received: now, lifetime: Duration::ZERO };
        Reception { needs_permission, dice: 0, timing, left: 1.0, time_of_day }
    }

    fn policy() -> StoragePolicy {
        StoragePolicy {
            lifetimes: Lifetimes {
                freshness: Freshness::Fixed,
                heuristic_percent: 0,
                ttl: Some(Duration::from_secs(1)),
                least_ttl: None,
                negative_ttl: None,
                statuses: None,
                jitter_percent: 10,
            },
            windows: Windows::default(),
            targeted: Arc::default(),
            stripped: Arc::default(),
            is_per_caller: false,
            rules: HeadRules::default(),
        }
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], expected: Result<(), Refusal>) {
        let mut response = Response::builder();
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let head = response.body(()).unwrap().into_parts().0;
        let judged = policy().judge(&head, &reception(false));
        assert_eq!(judged.map(drop), expected, "{fields:?}");
    }

    #[test]
    fn what_a_response_forbids_wins() {
        check(&[("cache-control", "max-age=0")], Ok(()));
        check(&[("cache-control", "no-store")], Err(Refusal::NoStore));
        check(&[("cache-control", "no-cache")], Err(Refusal::NoCache));
        check(&[("cache-control", "private")], Err(Refusal::Private));
        check(&[("content-type", "Text/Event-Stream; x=y")], Err(Refusal::Stream));
        for (name, refusal) in [
            ("set-cookie", Refusal::SetCookie),
            ("set-cookie2", Refusal::SetCookie),
            ("www-authenticate", Refusal::WwwAuthenticate),
            ("proxy-authenticate", Refusal::ProxyAuthenticate),
            ("clear-site-data", Refusal::ClearSiteData),
            ("authentication-info", Refusal::AuthenticationInfo),
        ] {
            check(&[(name, "x")], Err(refusal));
        }
    }

    #[test]
    fn private_may_be_stored_for_the_caller_alone() {
        let head = Response::builder().header("cache-control", "private").body(()).unwrap();
        let policy = StoragePolicy { is_per_caller: true, ..policy() };
        assert!(policy.judge(&head.into_parts().0, &reception(false)).is_ok());
    }

    #[test]
    fn only_200_is_stored() {
        for status in [100, 101, 201, 203, 204, 206, 301, 304, 400, 404, 410, 500, 503] {
            let response = Response::builder().status(status).body(()).unwrap();
            let judged = policy().judge(&response.into_parts().0, &reception(false));
            assert_eq!(judged.map(drop), Err(Refusal::Status), "{status}");
        }
    }

    #[test]
    fn credentials_need_the_responses_permission() {
        let judged = |line: &str| {
            let head = Response::builder().header("cache-control", line).body(()).unwrap();
            policy().judge(&head.into_parts().0, &reception(true)).map(drop)
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
        let stripped = [http::header::SET_COOKIE].into();
        let policy = StoragePolicy { stripped, ..policy() };
        let head = Response::builder().header("set-cookie", "a=b").body(()).unwrap();
        assert!(policy.judge(&head.into_parts().0, &reception(false)).is_ok());
    }

    #[test]
    fn a_route_that_does_not_guess_gives_its_own_lifetime() {
        let lifetimes = Lifetimes {
            freshness: Freshness::Origin,
            ttl: Some(Duration::from_secs(7)),
            jitter_percent: 0,
            ..policy().lifetimes
        };
        let head = Response::builder()
            .header("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")
            .header("date", "Fri, 02 Jan 1970 00:00:00 GMT");
        let head = head.body(()).unwrap().into_parts().0;
        let lifetime = |heuristic_percent| {
            let lifetimes = Lifetimes { heuristic_percent, ..lifetimes.clone() };
            let policy = StoragePolicy { lifetimes, ..policy() };
            policy.judge(&head, &reception(false)).map(|terms| terms.fresh_for)
        };
        assert_eq!(lifetime(0), Ok(Duration::from_secs(7)));
        assert_eq!(lifetime(1), Ok(Duration::from_secs(864)));
    }

    #[test]
    fn a_refusal_is_remembered_unless_it_is_of_the_moment_or_of_one_request() {
        let remembered = |status| {
            may_be_remembered(Refusal::Status, StatusCode::from_u16(status).expect("a status"))
        };
        for status in [200, 206, 301, 404, 410] {
            assert!(remembered(status), "{status}");
        }
        for status in [103, 400, 401, 403, 409, 411, 431, 500, 503] {
            assert!(!remembered(status), "{status}");
        }
        assert!(!may_be_remembered(Refusal::Incomplete, StatusCode::OK));
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
