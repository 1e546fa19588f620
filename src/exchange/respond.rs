//! Answering a request with a response that is stored, or on its way to be.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Body;

use super::ranges::shorten_to_parts;
use crate::{
    body::ResponseBody,
    clock::Instant,
    entry::interned::seconds,
    entry::{Entry, Head},
    key::Variant,
    key::vary::Nominated,
    metrics::outcome::Outcome,
    metrics::reporter::Reporter,
    policy::{Conditions, RangeAsked, Wishes, retain_not_modified},
    recording::Recording,
    route::Admitted,
};

/// What a request asks for besides its resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    pub(crate) is_head: bool,
    pub(crate) wishes: Wishes,
    pub(crate) conditions: Option<Conditions>,
    /// The parts that it wants, if not the whole.
    pub(crate) range: Option<Box<RangeAsked>>,
    /// Whether it carries credentials that only the response can say do not matter.
    pub(crate) needs_permission: bool,
}

impl Asks {
    pub(crate) fn of(method: &Method, admitted: &Admitted<'_>) -> Self {
        Self {
            is_head: *method == Method::HEAD,
            wishes: admitted.wishes(),
            conditions: admitted.conditions(),
            range: admitted.range(),
            needs_permission: admitted.needs_permission(),
        }
    }

    /// Whether a fresh response is good enough for the request.
    pub(crate) fn accept(&self, head: &Head, now: Instant) -> bool {
        self.wishes == Wishes::NONE || {
            let (age, ttl) = head.age_and_ttl(now);
            self.wishes.accept(age, ttl.as_secs())
        }
    }

    /// Whether the client already has a response of this status and these fields.
    pub(crate) fn have(&self, status: StatusCode, fields: &http::HeaderMap) -> bool {
        let conditions = self.conditions.as_ref().filter(|_| status.is_success());
        conditions.is_some_and(|conditions| conditions.are_met_by(fields))
    }
}

/// A response for several requests: what followers of a flight are given.
#[derive(Clone, Debug)]
pub(crate) struct Fill {
    pub(crate) head: Arc<Head>,
    pub(crate) body: FillBody,
    /// What the response was made for, and the nominated fields that this holds.
    pub(crate) variant: Variant,
    pub(crate) nominated: Nominated,
}

#[derive(Clone, Debug)]
pub(crate) enum FillBody {
    Whole(Bytes),
    /// Still on the way.
    Streaming(Arc<Recording>),
}

impl Fill {
    /// Returns what an entry holds; `None` if it is no response.
    pub(crate) fn of(entry: &Entry, nominated: &Nominated) -> Option<Self> {
        let (head, body) = entry.as_response()?;
        Some(Self {
            head: Arc::new(head.clone()),
            body: FillBody::Whole(body.clone()),
            variant: entry.slot().variant.clone(),
            nominated: nominated.clone(),
        })
    }

    /// Answers a follower; `None` if the recording came to nothing meanwhile.
    pub(crate) fn answer<B: Body>(
        &self,
        telling: Telling<'_>,
        asks: &Asks,
    ) -> Option<Response<ResponseBody<B>>> {
        let body = match &self.body {
            FillBody::Whole(body) => ResponseBody::stored(body.clone()),
            FillBody::Streaming(recording) => ResponseBody::reader(recording.cursor()?),
        };
        let mut response = Response::new(body);
        reuse((&mut response, &self.head), |ttl| Outcome::Collapsed { ttl }, telling, asks);
        Some(response)
    }
}

/// Where the end of a request is told, and when that is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telling<'a> {
    pub(crate) reporter: &'a Reporter,
    pub(crate) bucket: usize,
    pub(crate) now: Instant,
}

/// Answers from a stored response.
pub(crate) fn hit<B: Body>(
    (head, body): (&Head, &Bytes),
    telling: Telling<'_>,
    asks: &Asks,
) -> Response<ResponseBody<B>> {
    let hit = |ttl| Outcome::Hit { ttl };
    respond((head, body), hit, telling, asks)
}

/// Answers from a stored response that need not be fresh.
pub(crate) fn stale<B: Body>(
    stored: (&Head, &Bytes),
    outcome: Outcome,
    telling: Telling<'_>,
    asks: &Asks,
) -> Response<ResponseBody<B>> {
    respond(stored, |_| outcome, telling, asks)
}

fn respond<B: Body>(
    (head, body): (&Head, &Bytes),
    outcome: impl FnOnce(u64) -> Outcome,
    telling: Telling<'_>,
    asks: &Asks,
) -> Response<ResponseBody<B>> {
    // Made in place, here and below: a response is long, and moving it costs.
    let mut response = Response::new(ResponseBody::stored(body.clone()));
    reuse((&mut response, head), outcome, telling, asks);
    if let Some(asked) = &asks.range {
        shorten_to_parts(&mut response, body, asked);
    }
    response
}

/// Tells how a request ended, and gives its response a stored head.
#[inline]
fn reuse<B: Body>(
    (response, head): (&mut Response<ResponseBody<B>>, &Head),
    outcome: impl FnOnce(u64) -> Outcome,
    telling: Telling<'_>,
    asks: &Asks,
) {
    let (age, ttl) = head.age_and_ttl(telling.now);
    let cache_status = telling.reporter.ended(telling.bucket, outcome(ttl.as_secs()));
    *response.status_mut() = head.status;
    head.put_fields(response.headers_mut(), seconds(age.as_secs()), cache_status);
    if asks.is_head || asks.conditions.is_some() {
        shorten(response, asks);
    }
}

/// Leaves out what a request does not ask for.
#[cold]
fn shorten<B: Body>(response: &mut Response<ResponseBody<B>>, asks: &Asks) {
    if asks.have(response.status(), response.headers()) {
        turn_not_modified(response);
    } else if asks.is_head {
        // RFC 9110 §9.3.2: the fields that GET would have sent, and no content.
        if let Some(length) = response.body().size_hint().exact() {
            response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        *response.body_mut() = ResponseBody::empty();
    }
}

/// Turns a response that the client already has into a 304.
pub(crate) fn turn_not_modified<B: Body>(response: &mut Response<ResponseBody<B>>) {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    retain_not_modified(response.headers_mut());
    *response.body_mut() = ResponseBody::empty();
}

/// Answers `only-if-cached` where nothing is (RFC 9111 §5.2.1.7). `Cache-Status` is left out: it
/// is for responses that come from the origin or the store (RFC 9211 §2).
pub(crate) fn unsatisfied<B: Body>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response
}
