//! Responses made of a stored entry, or of one that is on its way from the origin.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use http_body::Body;

use super::{
    coded::{describe, tag},
    ranges::shorten_to_parts,
    request::{Asks, Selection},
};
use crate::{
    body::ResponseBody,
    clock::Instant,
    coding::ContentCoding,
    entry::{Entry, Head, seconds},
    key::{Nominated, Variant},
    metrics::{
        outcome::{Outcome, Stale},
        recent_outcomes::OutcomeDetails,
        reporter::Reporter,
    },
    policy::{CONTENT_DIGEST, retain_not_modified},
    recording::Recording,
};

/// Context needed to report an outcome: reporter, bucket, time.
#[derive(Clone, Copy)]
pub(crate) struct ResponseContext<'a> {
    pub(crate) reporter: &'a Reporter,
    pub(crate) bucket: usize,
    pub(crate) now: Instant,
}

/// Stored response that was assessed to answer now. It becomes a `Response` at the last moment.
pub(crate) struct Reuse {
    pub(crate) entry: Arc<Entry>,
    /// Reason for which it answers although it is stale; `None` if it is fresh.
    pub(crate) stale: Option<Stale>,
    /// Set if the origin is asked about it afterwards.
    pub(crate) is_due: bool,
    pub(crate) now: Instant,
}

impl Reuse {
    /// Answers a request of the bucket.
    pub(crate) fn respond<B: Body>(
        &self,
        reporter: &Reporter,
        bucket: usize,
        asks: &Asks,
    ) -> Response<ResponseBody<B>> {
        let outcome = |head: &Head, ttl| match self.stale {
            None => Outcome::Hit { ttl },
            Some(why) => Outcome::Stale { over: head.staleness(self.now), why },
        };
        let context = ResponseContext { reporter, bucket, now: self.now };
        respond(&self.entry, outcome, context, asks)
    }
}

/// Answers from a stored response; `outcome` is given its head and the seconds for which it stays
/// fresh.
pub(crate) fn respond<B: Body>(
    entry: &Entry,
    outcome: impl FnOnce(&Head, u64) -> Outcome,
    context: ResponseContext<'_>,
    asks: &Asks,
) -> Response<ResponseBody<B>> {
    let (head, plain) = entry.as_response().expect("only a response is assessed to answer");
    let coded = asks.coding.and_then(|coding| Some((coding, entry.coded(coding)?)));
    // One that saves nothing is empty.
    let coded = coded.filter(|(_, body)| !body.is_empty());
    let (coding, body) = coded.map_or((None, plain), |(coding, body)| (Some(coding), body));
    // Made in place, here and below: a response is long, and moving it costs.
    let mut response = Response::new(ResponseBody::stored(body.clone()));
    put_head(&mut response, head, coding, outcome, context, asks);
    if let Some(asked) = &asks.range {
        shorten_to_parts(&mut response, body, asked);
    }
    response
}

/// Response for several requests: the result of a flight.
#[derive(Clone, Debug)]
pub(crate) struct SharedResponse {
    pub(crate) head: Arc<Head>,
    pub(crate) body: SharedBody,
    /// Variant that the response was made for, and the terms that led to it.
    pub(crate) variant: Variant,
    pub(crate) selection: Selection,
}

/// Body of a response for several requests.
#[derive(Clone, Debug)]
pub(crate) enum SharedBody {
    Whole(Bytes),
    Streaming(Arc<Recording>),
}

impl SharedResponse {
    /// Shares the response of an entry; `None` if the entry holds no response.
    pub(crate) fn of(entry: &Entry, nominated: &Nominated) -> Option<Self> {
        let (head, body) = entry.as_response()?;
        Some(Self {
            head: Arc::new(head.clone()),
            body: SharedBody::Whole(body.clone()),
            variant: entry.slot().variant.clone(),
            selection: Selection { nominated: nominated.clone(), variation: None },
        })
    }

    /// Opens the body for a follower, and waits until there is something of it: until then the follower
    /// has sent nothing, and can forward for itself. `None` if the recording comes to nothing.
    pub(crate) async fn open<B: Body>(&self, asks: &Asks) -> Option<ResponseBody<B>> {
        match &self.body {
            SharedBody::Whole(body) => Some(ResponseBody::stored(body.clone())),
            // Boxed: most bodies are whole by then.
            SharedBody::Streaming(recording) => Box::pin(self.begun(recording, asks)).await,
        }
    }

    async fn begun<B: Body>(
        &self,
        recording: &Arc<Recording>,
        asks: &Asks,
    ) -> Option<ResponseBody<B>> {
        let cursor = recording.cursor()?;
        let is_had =
            asks.conditions.is_some() && asks.client_has(self.head.status, &self.head.stored());
        (is_had || cursor.begun().await).then(|| ResponseBody::reader(cursor))
    }

    /// Answers a follower with the opened body.
    pub(crate) fn respond<B: Body>(
        &self,
        body: ResponseBody<B>,
        context: ResponseContext<'_>,
        asks: &Asks,
    ) -> Response<ResponseBody<B>> {
        let mut response = Response::new(body);
        put_head(
            &mut response,
            &self.head,
            None,
            |_, ttl| Outcome::Collapsed { ttl },
            context,
            asks,
        );
        response
    }
}

/// Reports how a request ended, and gives its response a stored head.
#[inline]
fn put_head<B: Body>(
    response: &mut Response<ResponseBody<B>>,
    head: &Head,
    coding: Option<ContentCoding>,
    outcome: impl FnOnce(&Head, u64) -> Outcome,
    context: ResponseContext<'_>,
    asks: &Asks,
) {
    let (age, ttl) = head.age_and_ttl(context.now);
    let outcome = outcome(head, ttl.as_secs());
    asks.report.put(&outcome, response.extensions_mut());
    let cache_status = context.reporter.ended(context.bucket, outcome, || OutcomeDetails {
        at: context.now,
        age: Some(age),
        origin_time: None,
        size: response.body().exact_length(),
    });
    *response.status_mut() = head.status;
    head.put_fields(response.headers_mut(), seconds(age.as_secs()), cache_status);
    if let Some((coding, length)) = coding.zip(response.body().exact_length()) {
        describe(response.headers_mut(), coding, length);
    }
    if asks.is_head || asks.conditions.is_some() {
        shorten(response, asks);
    }
    // Last: conditions are on the tag of the plain form. A 304 has the tag that the client has.
    if let Some(coding) = coding.filter(|_| response.status() != StatusCode::NOT_MODIFIED) {
        tag(response.headers_mut(), coding);
    }
}

/// Leaves out what a request does not ask for.
#[cold]
fn shorten<B: Body>(response: &mut Response<ResponseBody<B>>, asks: &Asks) {
    if asks.client_has(response.status(), response.headers()) {
        turn_not_modified(response);
    } else if asks.is_head {
        // RFC 9110 §9.3.2: the fields that GET would have sent, and no content.
        if response.status() == StatusCode::NO_CONTENT {
            response.headers_mut().remove(CONTENT_LENGTH);
        } else if let Some(length) = response.body().exact_length() {
            response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        response.headers_mut().remove(CONTENT_DIGEST);
        *response.body_mut() = ResponseBody::empty();
    }
}

/// Turns a response that the client already has into a 304.
pub(crate) fn turn_not_modified<B: Body>(response: &mut Response<ResponseBody<B>>) {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    retain_not_modified(response.headers_mut());
    *response.body_mut() = ResponseBody::empty();
}

/// Answers `only-if-cached` where nothing is stored (RFC 9111 §5.2.1.7). `Cache-Status` is left out: it
/// is for responses that come from the origin or the store (RFC 9211 §2).
pub(crate) fn unsatisfied<B: Body>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response
}

/// Returns a 503 that asks its client to come back after a time.
pub(crate) fn exhausted<B: Body>(wait: Duration) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}
