//! Comparison of a stored response with the origin's.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderName,
    header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, DATE, EXPIRES, SET_COOKIE},
    response,
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    entry::{CACHE_STATUS, Head, HopByHop, is_momentary},
    metrics::{Metrics, outcome::Shadow},
};

/// Fields that differ from response to response, or that the body implies.
const OF_ONE_RESPONSE: [HeaderName; 5] = [AGE, CONTENT_LENGTH, DATE, EXPIRES, SET_COOKIE];
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Part in which two responses differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    Status,
    Field(HeaderName),
    Body,
}

impl Difference {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Status => "status",
            Self::Field(name) => name.as_str(),
            Self::Body => "body",
        }
    }
}

/// Returns the part in which the head of a response differs from a stored one. Fields in `stripped` do not
/// count, nor do those of one connection or one moment.
pub(crate) fn head_difference(
    stored: &Head,
    origin: &response::Parts,
    stripped: &[HeaderName],
) -> Option<Difference> {
    if stored.status != origin.status {
        return Some(Difference::Status);
    }
    field_difference(&stored.stored(), &origin.headers, stripped).map(Difference::Field)
}

fn field_difference(
    left: &HeaderMap,
    right: &HeaderMap,
    stripped: &[HeaderName],
) -> Option<HeaderName> {
    let mut names = compared_names(left, stripped).chain(compared_names(right, stripped));
    let differs = |name: &&HeaderName| !left.get_all(*name).iter().eq(right.get_all(*name));
    names.find(differs).cloned()
}

/// Returns the names of the fields of a response that count.
pub(super) fn compared_names<'f>(
    fields: &'f HeaderMap,
    stripped: &'f [HeaderName],
) -> impl Iterator<Item = &'f HeaderName> {
    let (hop_by_hop, withheld) = (HopByHop::of(fields), withheld(fields));
    fields.keys().filter(move |name| {
        !OF_ONE_RESPONSE.contains(name)
            && ![&CACHE_STATUS, &SERVER_TIMING].contains(name)
            && !stripped.contains(name)
            && !hop_by_hop.contains(name)
            && !is_momentary(name)
            && !withheld.iter().any(|withheld| withheld.eq_ignore_ascii_case(name.as_str()))
    })
}

/// Returns the fields that only the client of one request may receive (RFC 9111 §5.2.2.4 and §5.2.2.7).
fn withheld(fields: &HeaderMap) -> Vec<&str> {
    let lines = fields.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.flat_map(|names| names.split(',')).map(str::trim).collect()
}

/// Comparison of a body with a stored one, frame by frame as it passes.
pub(crate) struct BodyComparison {
    metrics: Arc<Metrics>,
    bucket: usize,
    /// Rest of the stored body; `None` once the result is counted.
    rest: Option<Bytes>,
}

impl BodyComparison {
    pub(crate) fn new(metrics: &Arc<Metrics>, bucket: usize, stored: &Bytes) -> Self {
        Self { metrics: Arc::clone(metrics), bucket, rest: Some(stored.clone()) }
    }

    /// Compares the next bytes.
    fn advance(&mut self, data: &[u8]) {
        let Some(rest) = &mut self.rest else { return };
        match rest.starts_with(data) {
            true => rest.advance(data.len()),
            false => self.count(Shadow::Different),
        }
    }

    /// Ends with the body.
    fn end(&mut self) {
        match &self.rest {
            None => {}
            Some(rest) if rest.is_empty() => self.count(Shadow::Hit),
            Some(_) => self.count(Shadow::Different),
        }
    }

    fn count(&mut self, result: Shadow) {
        if self.rest.take().is_some() {
            self.metrics.shadowed(self.bucket, result);
        }
    }
}

impl Drop for BodyComparison {
    fn drop(&mut self) {
        self.count(Shadow::Uncompared);
    }
}

pin_project! {
    /// Body of the origin that passes, and is compared.
    pub(crate) struct ComparedBody<B> {
        #[pin]
        body: B,
        comparison: BodyComparison,
    }
}

impl<B: Body> ComparedBody<B> {
    pub(crate) fn new(body: B, mut comparison: BodyComparison) -> Self {
        if is_over(&body) {
            comparison.end();
        }
        Self { body, comparison }
    }
}

/// Returns whether a body has no more frames. Servers do not poll one for its end.
fn is_over<B: Body>(body: &B) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

impl<B: Body> Body for ComparedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = match ready!(this.body.as_mut().poll_frame(cx)) {
            None => {
                this.comparison.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                this.comparison.count(Shadow::Uncompared);
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame.map_data(|mut data| data.copy_to_bytes(data.remaining())),
        };
        if let Some(data) = frame.data_ref() {
            this.comparison.advance(data);
        }
        if is_over(&*this.body) {
            this.comparison.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
