//! Whether a response may be stored, and so shared: the two are one question.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, PROXY_AUTHENTICATE, SET_COOKIE, WWW_AUTHENTICATE},
    response,
};

use super::cache_control::Directives;
use crate::{outcome::Refusal, route::CacheRule};

/// Fields that are meant for one client. RFC 9111 §7.3 lets `Set-Cookie` be stored; we do not.
const PER_CLIENT: [HeaderName; 6] = [
    SET_COOKIE,
    WWW_AUTHENTICATE,
    PROXY_AUTHENTICATE,
    HeaderName::from_static("set-cookie2"),
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("authentication-info"),
];

/// Judges a response by its head, and returns how long it is fresh; `dice` is for the jitter.
/// `Err` names the first rule that forbids storing it. `needs_permission` is whether the request
/// carried credentials that only the response can say do not matter.
pub(crate) fn judge(
    rule: &CacheRule,
    head: &response::Parts,
    needs_permission: bool,
    dice: u64,
) -> Result<Duration, Refusal> {
    let fields = &head.headers;
    let lifetime = rule.lifetimes.of(head.status, dice).ok_or(Refusal::Status)?;
    if is_event_stream(fields) {
        return Err(Refusal::Stream);
    }
    let directives = Directives::of(fields);
    if directives.no_store {
        return Err(Refusal::NoStore);
    }
    if directives.no_cache {
        return Err(Refusal::NoCache);
    }
    if directives.private && !rule.credentials.is_per_caller() {
        return Err(Refusal::Private);
    }
    if needs_permission && !directives.permits_sharing {
        return Err(Refusal::Credentials);
    }
    if PER_CLIENT.iter().any(|name| fields.contains_key(name) && !rule.strips(name)) {
        return Err(Refusal::SetCookie);
    }
    Ok(lifetime)
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
        let text = line.to_str().ok().filter(|text| !text.starts_with('+'));
        let length = text.and_then(|text| text.parse::<u64>().ok());
        let Some(length) = length else { return Err(Refusal::Incomplete) };
        if *declared.get_or_insert(length) != length {
            return Err(Refusal::Incomplete);
        }
    }
    Ok(declared)
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
        let judged = judge(&rule(&Credentials::Bypass), &head, false, 0);
        assert_eq!(judged.map(drop), expected, "{fields:?}");
    }

    #[test]
    fn what_a_response_forbids_wins() {
        check(&[("cache-control", "max-age=0")], Ok(()));
        check(&[("cache-control", "no-store")], Err(Refusal::NoStore));
        check(&[("cache-control", "no-cache")], Err(Refusal::NoCache));
        check(&[("cache-control", "private")], Err(Refusal::Private));
        check(&[("content-type", "Text/Event-Stream; x=y")], Err(Refusal::Stream));
        for name in PER_CLIENT {
            check(&[(name.as_str(), "x")], Err(Refusal::SetCookie));
        }
    }

    #[test]
    fn private_may_be_stored_for_the_caller_alone() {
        let head = Response::builder().header("cache-control", "private").body(()).unwrap();
        let rule = rule(&Credentials::PerCaller(Caller::authorization()));
        assert!(judge(&rule, &head.into_parts().0, false, 0).is_ok());
    }

    #[test]
    fn only_200_is_stored() {
        for status in [100, 101, 201, 203, 204, 206, 301, 304, 400, 404, 410, 500, 503] {
            let response = Response::builder().status(status).body(()).unwrap();
            let judged = judge(&rule(&Credentials::Bypass), &response.into_parts().0, false, 0);
            assert_eq!(judged.map(drop), Err(Refusal::Status), "{status}");
        }
    }

    #[test]
    fn credentials_need_the_responses_permission() {
        let judged = |line: &str| {
            let head = Response::builder().header("cache-control", line).body(()).unwrap();
            judge(&rule(&Credentials::ByResponse), &head.into_parts().0, true, 0).map(drop)
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
        let route = CacheRoute::get("/").key("k").ttl(Duration::from_secs(1)).strip([SET_COOKIE]);
        let rule = route.build(&Credentials::Bypass).unwrap();
        let head = Response::builder().header("set-cookie", "a=b").body(()).unwrap();
        assert!(judge(&rule, &head.into_parts().0, false, 0).is_ok());
    }

    #[test]
    fn jitter_only_shortens_a_lifetime() {
        let route = CacheRoute::get("/").key("k").ttl(Duration::from_secs(100)).jitter(10);
        let lifetimes = route.build(&Credentials::Bypass).unwrap().lifetimes;
        let lifetime = |dice| lifetimes.of(StatusCode::OK, dice).unwrap().as_secs_f64().round();
        assert_eq!((lifetime(0), lifetime(u64::MAX / 2), lifetime(u64::MAX)), (100.0, 95.0, 90.0));
    }

    #[test]
    fn a_negative_lifetime_is_for_404_and_410_alone() {
        let route = CacheRoute::get("/").key("k").ttl(Duration::from_secs(100)).jitter(0);
        let route = route.negative_ttl(Duration::from_secs(5));
        let lifetimes = route.build(&Credentials::Bypass).unwrap().lifetimes;
        for (status, seconds) in [(200, Some(100)), (404, Some(5)), (410, Some(5)), (403, None)] {
            let lifetime = lifetimes.of(StatusCode::from_u16(status).unwrap(), 0);
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
