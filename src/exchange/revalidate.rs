//! Fill with a conditional request, which revalidates a stored response (RFC 9111 §4.3).

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::DATE, response};
use http_body::Body;

use super::{
    fill::{Filling, ForwardedRequest, Judgement, Received, Refused, Storable},
    request::Read,
    settle::Conclusion,
};
use crate::{
    body::ResponseBody,
    clock::time_of_day,
    entry::{Head, lies_with_head},
    key::{Tag, Tags},
    metrics::outcome::Refusal,
    policy::{Validators, confirms, date_value, describes, freshened},
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
        let candidate = self.candidate(read).filter(|_| self.rule().validates())?;
        Validators::of(&candidate.head.stored())?.put(request);
        Some(Box::new(candidate))
    }

    /// Dates a response without a date, where its age depends on it (RFC 9110 §6.6.1).
    pub(crate) fn date(&self, response: &mut HeaderMap) {
        if self.rule().validates() && !response.contains_key(DATE) {
            response.insert(DATE, date_value(time_of_day()));
        }
    }

    /// Returns the stored response that the origin's answer may confirm.
    fn candidate(&self, read: &Read) -> Option<Candidate> {
        let entry = read.seen.as_ref()?;
        let (head, body) = entry.as_response()?;
        // Asked after the flight took its number. An entry that was invalidated before is not
        // revalidated; one that is invalidated later is fenced at the commit.
        let is_current = entry.is_current(self.cache.store.sequence());
        let tags = entry.slot().tags.clone();
        (is_current && head.status == StatusCode::OK).then(|| Candidate {
            head: head.clone(),
            body: body.clone(),
            tags,
        })
    }

    /// Updates the stored response with the answer to a HEAD, if that describes it (RFC 9111 §4.3.5).
    pub(crate) async fn update(self, asked: &ForwardedRequest<'_>, mut head: response::Parts) {
        let Some(candidate) = self.candidate(asked.read) else { return };
        let stored = candidate.head.stored();
        if head.status != StatusCode::OK || !describes(&head.headers, &stored, candidate.body.len())
        {
            return;
        }
        self.date(&mut head.headers);
        if let Ok(judgement) = self.renew(&candidate, asked, &mut head) {
            let (storable, body) = self.copy_freshened(&head, judgement, candidate.body);
            // How it ends is counted, and matters to no request.
            let _ = self.commit(storable, body).settle().await;
        }
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
            let (bucket, refusal) = (self.route.bucket, Refusal::Validator);
            self.cache.metrics().refused(bucket, refusal);
            let ending = Some(self.ending(None, Conclusion::Invalidation(refusal)));
            return Received { head, body, status, ending, recorder: None };
        }
        let ending = match self.renew(&candidate, asked, &mut head) {
            Ok(judgement) => {
                let (storable, body) = self.copy_freshened(&head, judgement, candidate.body);
                self.commit(storable, body)
            }
            Err(refused) => self.refuse(&refused, head.status),
        };
        Received { head, body, status, ending: Some(ending), recorder: None }
    }

    /// Updates the fields of a stored response with those of the answer that confirms it, and judges it
    /// anew.
    fn renew(
        &self,
        candidate: &Candidate,
        asked: &ForwardedRequest<'_>,
        answer: &mut response::Parts,
    ) -> Result<Judgement, Refused> {
        let tags = self.tags(answer).map(|own| {
            // An answer that names no groups leaves those of before, and it takes no tag away.
            let names_groups = own.iter().any(Tag::is_group);
            let kept = candidate.tags.iter().filter(|tag| !(names_groups && tag.is_group()));
            own.with(kept.cloned())
        });
        answer.headers = freshened(&candidate.head.stored(), &answer.headers);
        self.name_surrogates(answer, tags.as_ref().ok());
        self.judge(asked, answer, tags)
    }

    /// Copies a head as it is stored. A body that lies in one buffer with its former head is copied
    /// too, or it would keep that alive.
    fn copy_freshened(
        &self,
        head: &response::Parts,
        judgement: Judgement,
        body: Bytes,
    ) -> (Storable, Bytes) {
        match lies_with_head(body.len()) {
            true => self.copy(head, judgement, &[body]),
            false => (self.copy(head, judgement, &[]).0, body),
        }
    }
}
