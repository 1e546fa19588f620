//! A fill that asks the origin whether what is stored is still good (RFC 9111 §4.3).

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};
use http_body::Body;

use super::fill::{Filling, Judged, Last, Received, Storable};
use crate::{
    body::ResponseBody,
    entry::{Head, lies_with_head},
    exchange::request::Read,
    key::Tags,
    key::vary::Kept,
    metrics::outcome::Refusal,
    policy::{Validators, confirms, freshened},
    store::Store,
};

/// The stored response that a request asks about.
#[derive(Debug)]
pub(crate) struct Held {
    head: Head,
    body: Bytes,
    /// Its groups need not be among the fields that are stored.
    tags: Tags,
}

impl<St: Store> Filling<St> {
    /// Makes a request ask whether what is stored is still good. `None` if there is nothing to ask
    /// about.
    pub(crate) fn validate(&self, read: &Read, request: &mut HeaderMap) -> Option<Box<Held>> {
        let entry = read.seen.as_ref()?;
        let (head, body) = entry.as_response()?;
        // Asked after the flight took its number: what was invalidated before is not asked about,
        // and what is invalidated from then on is not stored again.
        let is_current = entry.is_current(self.shared.store.sequence());
        if !is_current || !self.rule().validates() || head.status != StatusCode::OK {
            return None;
        }
        Validators::of(&head.stored())?.put(request);
        let tags = entry.slot().tags.clone();
        Some(Box::new(Held { head: head.clone(), body: body.clone(), tags }))
    }

    /// Ends the flight with what was asked about, which the origin says to be good. `asked` is the
    /// request, and its fields before the question.
    pub(crate) fn freshen<B: Body>(
        self,
        held: Held,
        asked: (&Read, &Kept),
        mut head: response::Parts,
    ) -> Received<St, B> {
        let status = head.status;
        let stored = held.head.stored();
        let is_about_this = confirms(&head.headers, &stored);
        head.status = held.head.status;
        let body = ResponseBody::stored(held.body.clone());
        if !is_about_this {
            // The client gets what there is. Who asks next is told all anew.
            head.headers = freshened(&stored, &HeaderMap::new());
            let (bucket, refusal) = (self.shared.bucket(self.route), Refusal::Validator);
            self.shared.metrics().refused(bucket, refusal);
            let ending = Some(self.ending(None, Last::Invalidation(refusal)));
            return Received { head, body, status, ending, recorder: None };
        }
        let own = self.tags(&head.headers);
        // One that names no groups leaves those of before.
        let names_groups = own.len() > self.lead.slot().tags.len();
        let tags = if names_groups { own } else { own.with(held.tags.iter().cloned()) };
        head.headers = freshened(&stored, &head.headers);
        let place = self.place(asked, &head.headers, tags);
        let judged = self.judge(asked.0, &head, place.as_ref());
        let ending = match (judged, place) {
            (Ok(judged), Some(place)) => {
                let (head, body) = self.copy_freshened(&head, judged, held.body);
                self.commit(Storable { head, place }, body)
            }
            (judged, place) => {
                let refusal = judged.err().unwrap_or(Refusal::Vary);
                self.refuse(refusal, head.status, place.as_ref())
            }
        };
        Received { head, body, status, ending: Some(ending), recorder: None }
    }

    /// Copies a head as it is stored. The body is stored already, but where it lies with its head of
    /// before it is copied with the new one: or it would keep that.
    fn copy_freshened(&self, head: &response::Parts, judged: Judged, body: Bytes) -> (Head, Bytes) {
        match lies_with_head(body.len()) {
            true => self.copy(head, judged, &[body]),
            false => (self.copy(head, judged, &[]).0, body),
        }
    }
}
