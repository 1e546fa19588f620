//! A fill that asks the origin whether what is stored is still good (RFC 9111 §4.3).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};
use http_body::Body;

use super::{Filling, Received};
use crate::{
    body::ResponseBody,
    bounded::bounded,
    entry::Head,
    key::Tags,
    outcome::Refusal,
    policy::{Validators, confirms, freshened},
    read::Read,
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
    pub(crate) fn validate(&self, read: &Read, request: &mut HeaderMap) -> Option<Held> {
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
        Some(Held { head: head.clone(), body: body.clone(), tags })
    }

    /// Settles the flight with what was asked about, which the origin says to be good. `asked` is
    /// the request, and its fields before the question; `head` becomes that of the whole response.
    pub(crate) async fn freshen<B: Body>(
        self: Box<Self>,
        held: Held,
        asked: (&Read, &HeaderMap),
        head: &mut response::Parts,
    ) -> Received<B> {
        let stored = held.head.stored();
        let is_about_this = confirms(&head.headers, &stored);
        head.status = held.head.status;
        let body = ResponseBody::stored(held.body.clone());
        if !is_about_this {
            // The client gets what there is. Who asks next is told all anew.
            head.headers = freshened(&stored, &HeaderMap::new());
            let (shared, key) = (Arc::clone(&self.shared), self.lead.slot().key.clone());
            self.give_up(Refusal::Validator);
            bounded(shared.invalidate(&key)).await;
            return (Err(Refusal::Validator), body);
        }
        let own = self.tags(&head.headers);
        // One that names no groups leaves those of before.
        let names_groups = own.len() > self.lead.slot().tags.len();
        let tags = if names_groups { own } else { own.with(held.tags.iter().cloned()) };
        head.headers = freshened(&stored, &head.headers);
        let place = self.place(asked, &head.headers);
        let outcome = match self.judge(asked.0, head, (place.as_ref(), tags)) {
            Ok(storable) => self.commit_freshened(storable, held.body).await,
            Err(refusal) => {
                self.refuse(refusal, head.status, place.as_ref()).await;
                Err(refusal)
            }
        };
        (outcome, body)
    }
}
