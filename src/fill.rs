//! The second half of a leader's life: from the head of the response to the end of its flight.

use std::{future::poll_fn, sync::Arc, task::Poll};

use http::{StatusCode, response};
use http_body::Body;
use tokio::runtime::Handle;

use crate::{
    body::ResponseBody,
    budget::Reservation,
    clock::{Instant, now},
    coalesce::Lead,
    entry::{Entry, Head, Provenance, Timing},
    outcome::Refusal,
    policy::{declared_length, judge, may_be_remembered},
    recording::{Recorded, Recorder, Recording, Stop, Tape},
    route::CacheRule,
    shared::Shared,
    store::{Commit, Store},
};

/// How long a slot whose response may not be stored is remembered.
const PASS: std::time::Duration = std::time::Duration::from_secs(10);

/// What followers of a flight are given.
#[derive(Clone, Debug)]
pub(crate) enum Fill {
    Stored(Arc<Entry>),
    /// The head, and a body that is still on the way.
    Streaming(Arc<Head>, Arc<Recording>),
}

/// A fill that has begun. Dropped, it abandons its flight and gives its lease back.
pub(crate) struct Filling<St: Store> {
    pub(crate) shared: Arc<Shared<St>>,
    pub(crate) lead: Lead<Fill>,
    pub(crate) lease: St::Lease,
    pub(crate) route: usize,
    /// When the request was forwarded.
    pub(crate) requested: Instant,
}

/// Whether a response is stored, as its head tells it, and the body to send.
type Received<B> = (Result<(), Refusal>, ResponseBody<B>);

impl<St: Store> Filling<St> {
    /// Judges a response by its head, and records the body or lets it pass.
    pub(crate) async fn receive<B>(self, head: &response::Parts, body: B) -> Received<B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let timing =
            Timing { requested: self.requested, received: now(), lifetime: self.rule().ttl };
        match self.tape(head, &body) {
            Ok((tape, declared)) => {
                self.record(Arc::new(Head::new(head, timing)), body, (tape, declared)).await
            }
            Err(refusal) => {
                self.decline(refusal, Some(head.status)).await;
                (Err(refusal), ResponseBody::passing(body))
            }
        }
    }

    /// Settles the flight with nothing to share. `status` is the response's, if there is one.
    pub(crate) async fn decline(self, refusal: Refusal, status: Option<StatusCode>) {
        let bucket = self.shared.bucket(self.route);
        self.shared.metrics().refused(bucket, refusal);
        if status.is_some_and(|status| may_be_remembered(refusal, status)) {
            let pass = Entry::pass(self.provenance(), now() + PASS);
            // Before the followers are let go, so that those behind them need not wait at all.
            self.shared.store.commit(self.lease, Arc::new(pass)).await;
        } else {
            self.shared.store.release(self.lease);
        }
        self.lead.decline();
    }

    fn provenance(&self) -> Provenance {
        Provenance {
            slot: self.lead.slot().clone(),
            fence: self.lead.fence(),
            requested: self.requested,
            gauge: self.shared.metrics().gauge(self.shared.bucket(self.route)),
        }
    }

    fn rule(&self) -> &CacheRule {
        &self.shared.table.read_rules()[self.route]
    }

    /// Returns an empty tape and the declared length, if the response may be stored.
    fn tape<B: Body>(
        &self,
        head: &response::Parts,
        body: &B,
    ) -> Result<(Tape, Option<u64>), Refusal> {
        judge(self.rule(), head)?;
        let declared = declared_length(&head.headers, body.size_hint().exact())?;
        let reservation = Reservation::none(&self.shared.bodies);
        Ok((Tape::new(self.rule().body_limit, declared, reservation)?, declared))
    }

    async fn record<B>(
        self,
        head: Arc<Head>,
        body: B,
        (mut tape, declared): (Tape, Option<u64>),
    ) -> Received<B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let mut body = Box::pin(body);
        let polled = poll_fn(|cx| Poll::Ready(tape.advance(body.as_mut(), cx))).await;
        if matches!(polled, Poll::Ready(Stop::End)) && tape.is_plain(declared) {
            let (stored, entry) = self.commit(head, &tape.chunks).await;
            let body = entry.as_response().map(|(_, body)| body.clone()).unwrap_or_default();
            return (stored, ResponseBody::stored(body));
        }
        let detachments = Arc::clone(&self.shared.detachments);
        let (recording, cursor) = Recording::new(tape, declared, detachments);
        let (mut recorder, rest) = Recorder::new(Arc::clone(&recording), body);
        let reader = ResponseBody::first_reader(cursor, rest);
        let runtime = Handle::try_current();
        let stop = match (polled, &runtime) {
            (Poll::Ready(stop), _) => Some(stop),
            (Poll::Pending, Err(_)) => Some(Stop::Refused(Refusal::Runtime)),
            (Poll::Pending, Ok(_)) => None,
        };
        if let Some(stop) = stop {
            let recorded = recorder.stop(stop);
            let stored = self.settle(head, recorded).await;
            recorder.conclude();
            return (stored, reader);
        }
        if declared.is_some() {
            self.lead.share(Fill::Streaming(Arc::clone(&head), recording));
        }
        if let Ok(runtime) = runtime {
            runtime.spawn(async move {
                let recorded = recorder.run().await;
                // Stored first: who has read the whole body finds it stored.
                let _ = self.settle(head, recorded).await;
                recorder.conclude();
            });
        }
        (Ok(()), reader)
    }

    /// Settles the flight by what the recorder brought.
    async fn settle(self, head: Arc<Head>, recorded: Recorded) -> Result<(), Refusal> {
        match recorded {
            Recorded::Complete(chunks) => self.commit(head, &chunks).await.0,
            Recorded::Refused(refusal) => {
                self.decline(refusal, Some(head.status)).await;
                Err(refusal)
            }
            Recorded::Deserted => Err(Refusal::Failed),
        }
    }

    /// Stores a whole response and shares it.
    async fn commit(
        self,
        head: Arc<Head>,
        chunks: &[bytes::Bytes],
    ) -> (Result<(), Refusal>, Arc<Entry>) {
        let bucket = self.shared.bucket(self.route);
        let metrics = self.shared.metrics();
        let entry = Arc::new(Entry::response(self.provenance(), head, chunks));
        let commit = self.shared.store.commit(self.lease, Arc::clone(&entry)).await;
        let stored = match commit {
            Commit::Stored | Commit::Superseded => {
                metrics.stored(bucket);
                Ok(())
            }
            Commit::Fenced => {
                metrics.fenced(bucket);
                Err(Refusal::Fenced)
            }
            Commit::TooLarge => Err(Refusal::TooLarge),
            Commit::Failed => Err(Refusal::Store),
        };
        if let Err(refusal @ (Refusal::TooLarge | Refusal::Store)) = stored {
            metrics.refused(bucket, refusal);
        }
        // Those who follow began before whatever may have fenced the commit.
        self.lead.fill(Fill::Stored(Arc::clone(&entry)));
        (stored, entry)
    }
}
