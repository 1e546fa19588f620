//! Receipt of what the inner service returned to a fill.

use std::ops::ControlFlow;

use http::{Response, StatusCode};
use http_body::Body;

use super::{
    fill::{Filling, ForwardedRequest, Received},
    revalidate::Candidate,
};
use crate::{body::ResponseBody, store::Store};

/// Judges what the inner service returned, and lets the body be recorded. Ends with a stale response
/// where that may stand in for an error, or with the error.
pub(super) fn receive<St: Store, B, E>(
    filling: Filling<St>,
    forwarded: Result<Response<B>, E>,
    asked: &ForwardedRequest<'_>,
    candidate: Option<Box<Candidate>>,
) -> ControlFlow<Result<Response<ResponseBody<B>>, E>, Received<St, B>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send + 'static,
{
    let status = forwarded.as_ref().ok().map(Response::status);
    let filling = match filling.rescue(asked.read, status) {
        ControlFlow::Break(response) => return ControlFlow::Break(Ok(response)),
        ControlFlow::Continue(filling) => filling,
    };
    let (mut head, body) = match forwarded {
        Ok(response) => response.into_parts(),
        Err(error) => {
            filling.fail();
            return ControlFlow::Break(Err(error));
        }
    };
    filling.date(&mut head.headers);
    let candidate = candidate.filter(|_| head.status == StatusCode::NOT_MODIFIED);
    ControlFlow::Continue(match candidate {
        Some(candidate) => filling.freshen(*candidate, asked, head),
        None => filling.receive(asked, head, body),
    })
}
