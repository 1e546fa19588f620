//! Fill with a conditional request, which revalidates a stored response (RFC 9111 §4.3).

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};
use http_body::Body;

use super::{
    fill::{Filling, ForwardedRequest, Judgement, Received, Storable},
    request::Read,
    settle::Conclusion,
};
use crate::{
    body::ResponseBody,
    entry::{Head, lies_with_head},
    key::Tags,
    metrics::outcome::Refusal,
    policy::{Validators, confirms, freshened},
    store::Store,
};

/// Stored response that a request asks the origin about.
#[derive(Debug)]
pub(crate) struct Candidate {
    head: Head,
    body: Bytes,
    /// Tags of the entry: its groups need not be among the fields that are stored.
    tags: Tags,
}

impl<St: Store> Filling<St> {
    /// Makes a request conditional on the stored response. `None` if there is none to revalidate.
    pub(crate) fn revalidate(
        &self,
        read: &Read,
        request: &mut HeaderMap,
    ) -> Option<Box<Candidate>> {
        let entry = read.seen.as_ref()?;
        let (head, body) = entry.as_response()?;
        // Asked after the flight took its number. An entry that was invalidated before is not
        // revalidated; one that is invalidated later is fenced at the commit.
        let is_current = entry.is_current(self.cache.store.sequence());
        if !is_current || !self.rule().validates() || head.status != StatusCode::OK {
            return None;
        }
        Validators::of(&head.stored())?.put(request);
        let tags = entry.slot().tags.clone();
        Some(Box::new(Candidate { head: head.clone(), body: body.clone(), tags }))
    }

    /// Ends the flight with the stored response, which the origin confirms with a 304.
    pub(crate) fn freshen<B: Body>(
        self,
        candidate: Candidate,
        asked: &ForwardedRequest<'_>,
        mut head: response::Parts,
    ) -> Received<St, B> {
        let status = head.status;
        let stored = candidate.head.stored();
        let is_about_this = confirms(&head.headers, &stored);
        head.status = candidate.head.status;
        let body = ResponseBody::stored(candidate.body.clone());
        if !is_about_this {
            // The client gets the stored response. It is invalidated, so the next request asks without a
            // condition.
            head.headers = freshened(&stored, &HeaderMap::new());
            let (bucket, refusal) = (self.cache.bucket(self.route), Refusal::Validator);
            self.cache.metrics().refused(bucket, refusal);
            let ending = Some(self.ending(None, Conclusion::Invalidation(refusal)));
            return Received { head, body, status, ending, recorder: None };
        }
        let own = self.tags(&head.headers);
        // A 304 that names no groups leaves those of before.
        let names_groups = own.len() > self.lead.slot().tags.len();
        let tags = match names_groups {
            true => own,
            false => own.with(candidate.tags.iter().cloned()),
        };
        head.headers = freshened(&stored, &head.headers);
        let placement = self.place(asked, &head.headers, tags);
        let judged = self.judge(asked.read, &head, placement.as_ref());
        let ending = match (judged, placement) {
            (Ok(judgement), Some(placement)) => {
                let (head, body) = self.copy_freshened(&head, judgement, candidate.body);
                self.commit(Storable { head, placement }, body)
            }
            (judged, placement) => {
                let refusal = judged.err().unwrap_or(Refusal::Vary);
                self.refuse(refusal, head.status, placement.as_ref())
            }
        };
        Received { head, body, status, ending: Some(ending), recorder: None }
    }

    /// Copies a head as it is stored. A body that lies in one buffer with its former head is copied
    /// too, or it would keep that alive.
    fn copy_freshened(
        &self,
        head: &response::Parts,
        judgement: Judgement,
        body: Bytes,
    ) -> (Head, Bytes) {
        match lies_with_head(body.len()) {
            true => self.copy(head, judgement, &[body]),
            false => (self.copy(head, judgement, &[]).0, body),
        }
    }
}
