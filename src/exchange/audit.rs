//! Audit of a hit: the origin is asked in the background, for its own caller alone.

use std::{
    any::Any,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Buf;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Body;
use tower::ServiceExt;
use tower_service::Service;

use super::{cache::Cache, respond::Reuse, rules::CachedRoute};
use crate::{
    background::{DetachedPermit, runtime},
    clock::{now, sleep_until, timeout_at},
    entry::Entry,
    insight::{
        AuditSample, Examination, Examined, FieldDigests, ReadTarget, ResponseDigest, examine,
    },
    key::seeded_hash,
    metrics::{
        outcome::{AuditResult, SparedCall},
        telemetry,
    },
    route::{HeadRef, Matched},
    store::{Lookup, Store},
};

/// Time in which a write that has changed the origin may yet invalidate: a finding before that is none.
const SETTLING: Duration = Duration::from_secs(10);

/// Value of a field that a request does not have, for the requests in which it is changed.
const PROBE: HeaderValue = HeaderValue::from_static("tower-support-cache-audit");

/// Maker of a request body without content.
pub(crate) type EmptyBody<Q> = fn() -> Q;

/// Audit of one hit.
pub(super) struct Audit<S, St: Store, Q> {
    cache: Arc<Cache<St>>,
    route: Arc<CachedRoute>,
    entry: Arc<Entry>,
    sample: Box<AuditSample>,
    target: ReadTarget,
    replay: RepeatedRequest<S, St, Q>,
}

/// Request of the hit's own caller, which is sent again and again.
struct RepeatedRequest<S, St: Store, Q> {
    cache: Arc<Cache<St>>,
    route: Arc<CachedRoute>,
    entry: Arc<Entry>,
    inner: S,
    head: request::Parts,
    empty: EmptyBody<Q>,
    tosses: u64,
}

impl<St: Store> Cache<St> {
    /// Returns whether a hit is to be audited.
    #[inline]
    pub(super) fn is_audit_due(&self, route: &CachedRoute, reuse: &Reuse) -> bool {
        route.rule.audit > 0.0
            && reuse.stale.is_none()
            && self.audits.is_due(&reuse.entry.slot().variant, reuse.now)
    }

    /// Returns the maker of request bodies of this type.
    pub(super) fn empty_body<Q: 'static>(&self) -> Option<EmptyBody<Q>> {
        let of = |maker: &dyn Any| maker.downcast_ref::<EmptyBody<Q>>().copied();
        #[cfg(feature = "axum")]
        if let Some(empty) = of(&(axum::body::Body::empty as EmptyBody<axum::body::Body>)) {
            return Some(empty);
        }
        let made = self.empty_body.as_ref().and_then(|maker| of(&**maker));
        if made.is_none() {
            self.warn_of_audits();
        }
        made
    }

    /// Returns the path parameters of a read, and the templates of its route.
    fn read_target(&self, route: &CachedRoute, head: HeadRef<'_>) -> ReadTarget {
        let rules = self.rules();
        let Matched::Read { parameters, .. } = rules.table.classify(head) else {
            return ReadTarget::default();
        };
        let values = parameters.iter().map(|(_, value)| value.to_owned());
        let names = route.rule.pattern.names().iter().cloned();
        let (key, tags) = (route.rule.key_template(), route.rule.tag_templates());
        ReadTarget { parameters: names.zip(values).collect(), key, tags }
    }
}

impl<S, St, Q, B> Audit<S, St, Q>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    St: Store,
    Q: Body + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send + 'static,
{
    /// Begins the audit of a hit in the background, if it is sampled, and if nothing is against it.
    pub(super) fn begin(
        cache: &Arc<Cache<St>>,
        route: &Arc<CachedRoute>,
        reuse: &Reuse,
        inner: &S,
        request: Request<Q>,
    ) {
        let variant = &reuse.entry.slot().variant;
        let head = request.into_parts().0;
        let Some(runtime) = runtime() else { return };
        let Some(empty) = cache.empty_body::<Q>() else {
            // No hit is to look for it again.
            cache.audits.take(variant, reuse.now);
            return;
        };
        // A later hit is audited instead.
        if cache.is_limited(SparedCall::EarlyRefresh, &head.headers, variant) {
            return;
        }
        let Some(permit) = cache.refreshes.begin() else { return };
        let Some(sample) = cache.audits.take(variant, reuse.now) else { return };
        let (cache, route, entry) =
            (Arc::clone(cache), Arc::clone(route), Arc::clone(&reuse.entry));
        let target = cache.read_target(&route, HeadRef::from(&head));
        let replay = RepeatedRequest {
            cache: Arc::clone(&cache),
            route: Arc::clone(&route),
            entry: Arc::clone(&entry),
            inner: inner.clone(),
            head,
            empty,
            tosses: 0,
        };
        let audit = Self { cache, route, entry, sample, target, replay };
        runtime.spawn(telemetry::in_current_span(audit.run(permit)));
    }

    async fn run(self, permit: DetachedPermit) {
        let Self { cache, route, entry, sample, target, mut replay } = self;
        let bucket = &route.rule.bucket;
        let Some((head, body)) = entry.as_response() else { return };
        let stored = ResponseDigest::of_stored(head, body, &route.rule.storage.stripped);
        if stored != sample.response {
            // Another process has filled it since, for a request that is not known here.
            return cache.audits.ended(bucket, AuditResult::Discarded);
        }
        let suspects = sample.fields.differing(&FieldDigests::of_request(&replay.head.headers));
        let to = now();
        let examined =
            timeout_at(permit.deadline(), examine(&stored, &suspects, &mut replay)).await;
        drop(permit);
        let Ok(Some(finding)) = examined else {
            return cache.audits.ended(bucket, AuditResult::Inconclusive);
        };
        sleep_until(now() + SETTLING).await;
        if !cache.is_undisturbed(&entry, &stored, &route).await {
            return cache.audits.ended(bucket, AuditResult::Discarded);
        }
        let (finding, suspects, target) = (&finding, &*suspects, &target);
        let from = sample.requested;
        cache.audits.found(bucket, &Examination { finding, suspects, from, to, target });
    }
}

impl<St: Store> Cache<St> {
    /// Returns whether no write and no invalidation has reached a response. Where processes share the store,
    /// only the store tells.
    async fn is_undisturbed(
        &self,
        entry: &Entry,
        stored: &ResponseDigest,
        route: &CachedRoute,
    ) -> bool {
        let sequence = self.store.sequence();
        if !entry.is_current(sequence) || sequence.unsettled().contains(entry.slot()) {
            return false;
        }
        if self.store.token().is_none() {
            return true;
        }
        let Lookup::Found(found) = self.store.inspect(entry.slot()).await else { return false };
        found.as_response().is_some_and(|(head, body)| {
            ResponseDigest::of_stored(head, body, &route.rule.storage.stripped) == *stored
        })
    }
}

impl<S, St: Store, Q> RepeatedRequest<S, St, Q> {
    /// Returns the request, with one field changed: taken off, or set to a value of nobody's if it is not
    /// there. Credentials are never made up.
    fn request(&self, changed: Option<&HeaderName>) -> Request<Q> {
        let mut head = self.head.clone();
        head.method = Method::GET;
        if let Some(name) = changed
            && head.headers.remove(name).is_none()
            && !self.cache.identity.credential_fields.contains(name)
        {
            head.headers.insert(name, PROBE);
        }
        Request::from_parts(head, (self.empty)())
    }
}

impl<S, St, Q, B> Examined for RepeatedRequest<S, St, Q>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    St: Store,
    Q: Body + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send + 'static,
{
    async fn ask(&mut self, changed: Option<&HeaderName>) -> Option<ResponseDigest> {
        let (cache, variant) = (&self.cache, &self.entry.slot().variant);
        if cache.is_limited(SparedCall::EarlyRefresh, &self.head.headers, variant) {
            return None;
        }
        cache.spend(1);
        let response = self.inner.clone().oneshot(self.request(changed)).await.ok()?;
        let (head, body) = response.into_parts();
        cache.hear_of_all(head.status, &head.headers);
        if head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let rule = &self.route.rule;
        let body = digest(pin!(body), rule.body_limit).await?;
        Some(ResponseDigest::new(head.status, &head.headers, &rule.storage.stripped, body))
    }

    fn toss(&mut self) -> bool {
        self.tosses += 1;
        seeded_hash((now(), self.tosses, std::ptr::from_ref(self).addr())) & 1 == 1
    }
}

/// Digests a body up to a length. `None` if it fails or is longer.
async fn digest<B: Body>(mut body: Pin<&mut B>, limit: u64) -> Option<blake3::Hash> {
    let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(mut data) = frame.ok()?.into_data() else { continue };
        while data.has_remaining() {
            let chunk = data.chunk();
            length += chunk.len() as u64;
            if length > limit {
                return None;
            }
            hasher.update(chunk);
            let read = chunk.len();
            data.advance(read);
        }
    }
    Some(hasher.finalize())
}
