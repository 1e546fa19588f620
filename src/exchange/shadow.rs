//! Bucket in shadow: requests are looked up, and answered with the origin's response all the same.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use http::{Extensions, StatusCode, response};
use http_body::Body;

use super::{
    cache::Cache,
    fill::{Filling, ForwardedRequest},
    lookup::Ended,
    request::Read,
    respond::Reuse,
};
use crate::{
    body::ResponseBody,
    future::watch,
    insight::{BodyComparison, head_difference},
    metrics::outcome::{Bypass, Outcome, Refusal, Shadow, Unshared},
    store::Store,
};

/// Request of a bucket in shadow, while the origin is asked.
pub(crate) struct Shadowing<St: Store> {
    cache: Arc<Cache<St>>,
    /// Response that would have answered.
    reuse: Option<Reuse>,
    /// Fill by the origin's response, where the request would have brought one.
    filling: Option<Filling<St>>,
}

impl<St: Store> Shadowing<St> {
    /// Begins with what a look-up has found.
    pub(crate) async fn begin<B: Body>(
        cache: &Arc<Cache<St>>,
        read: &Read,
        found: ControlFlow<Ended<B>>,
    ) -> Self {
        let reuse = match found {
            ControlFlow::Break(Ended::Stored(reuse)) => Some(reuse),
            _ => None,
        };
        let is_hit = matches!(reuse, Some(Reuse { stale: None, .. }));
        // What it asks for must be the whole response: the request is forwarded as it came.
        let is_whole = read.asks.alone().is_none() && read.asks.conditions.is_none();
        let filling = match is_whole && !is_hit {
            true => cache.begin_alone::<B>(read).await,
            false => None,
        };
        Self { cache: Arc::clone(cache), reuse, filling }
    }

    /// Marks the request that it forwards.
    pub(crate) fn mark(&self, read: &Read, request: &mut Extensions) {
        if let Some(filling) = &self.filling {
            filling.mark(read, request);
        }
    }

    /// Compares or stores the origin's response, which passes, and reports the outcome in its head.
    pub(crate) async fn receive<B>(
        self,
        asked: &ForwardedRequest<'_>,
        mut head: response::Parts,
        body: B,
    ) -> (response::Parts, ResponseBody<B>)
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send + 'static,
    {
        let Self { cache, reuse, filling } = self;
        let (read, bucket) = (asked.read, asked.read.route.bucket);
        let body = match filling {
            Some(filling) => {
                let result = reuse.map_or(Shadow::Miss, |_| Shadow::Stale);
                cache.metrics().shadowed(bucket, result);
                let panicked = || cache.metrics().refused(bucket, Refusal::Panicked);
                let mut received = watch(&panicked, || filling.receive(asked, head, body));
                let _ = received.settle().await;
                head = received.head;
                received.body
            }
            None => match judge(read, reuse.as_ref(), &head) {
                Ok(stored) => {
                    let comparison = BodyComparison::new(&cache.reporter.metrics, bucket, stored);
                    ResponseBody::compared(body, comparison)
                }
                Err(result) => {
                    cache.metrics().shadowed(bucket, result);
                    ResponseBody::passing(body)
                }
            },
        };
        let outcome: Outcome = Unshared::Bypassed(Bypass::Shadow).outcome(head.status);
        read.asks.report.put(&outcome, &mut head.extensions);
        cache.reporter.mark(bucket, outcome, &mut head.headers, read.origin_time);
        (head, body)
    }
}

/// Compares the head of the origin's response with the one that would have answered. Returns the body to
/// compare, or else the result.
fn judge<'r>(
    read: &Read,
    reuse: Option<&'r Reuse>,
    origin: &response::Parts,
) -> Result<&'r Bytes, Shadow> {
    let Some(Reuse { entry, stale, .. }) = reuse else { return Err(Shadow::Miss) };
    if stale.is_some() {
        return Err(Shadow::Stale);
    }
    let (head, body) = entry.as_response().ok_or(Shadow::Uncompared)?;
    if origin.status == StatusCode::NOT_MODIFIED && read.asks.conditions.is_some() {
        let is_same = read.asks.client_has(head.status, &head.stored());
        return Err(if is_same { Shadow::Hit } else { Shadow::Different });
    }
    if origin.status == StatusCode::PARTIAL_CONTENT && read.asks.range.is_some() {
        return Err(Shadow::Uncompared);
    }
    match head_difference(head, origin, &read.route.rule.storage.stripped) {
        Some(_) => Err(Shadow::Different),
        None if read.asks.is_head => Err(Shadow::Hit),
        None => Ok(body),
    }
}
