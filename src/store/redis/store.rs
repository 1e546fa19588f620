//! Redis store.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    fill::RedisLease,
    invalidation::InvalidationCall,
    link::{Endpoint, Link, count, random},
    outbox::{Doubt, InvalidationScope},
    settings::RedisSettings,
    state::StoreState,
};
use crate::{
    entry::Entry,
    error::Pending,
    fence::Sequence,
    key::{Slot, Strength, Subject, Token, VariantRef},
    metrics::operations::StoreSnapshot,
    origin::{CallReport, SharedBudget},
    store::{Begin, Commit, Lookup, Store, sealed::Sealed},
};

/// A store in Redis 7 or Valkey, for services of more than one process.
///
/// While the server is away, slow or full, requests are forwarded as if there were no cache. An
/// invalidation that cannot be delivered is retried, and its key is bypassed in this process until
/// the server has acknowledged it.
///
/// Clones share one connection. Give layers whose routes use
/// [`Credentials::PerCaller`](crate::Credentials::PerCaller) or [`CacheRoute::vary`](crate::CacheRoute::vary)
/// a [`caller_key`](crate::SupportCacheLayerBuilder::caller_key), the same in all processes.
///
/// ```
/// use tower_support_cache::{RedisStore, SupportCacheLayer};
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379/")?;
/// let layer = SupportCacheLayer::new(store);
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    state: Arc<StoreState>,
}

impl RedisStore {
    pub(super) fn new(endpoint: Endpoint, settings: RedisSettings) -> Self {
        Self { state: StoreState::new(endpoint, settings) }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.state.link
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("link", &self.state.link).finish_non_exhaustive()
    }
}

impl Sealed for RedisStore {}

impl Store for RedisStore {
    type Lease = RedisLease;

    fn sequence(&self) -> &Sequence {
        &self.state.sequence
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        self.state.near.peek(variant)
    }

    fn lookup(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        self.state.lookup(slot)
    }

    fn inspect(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        self.state.inspect(slot)
    }

    fn token(&self) -> Option<Token> {
        // Without a connection the fill will not begin, but it needs a name of its own all the same.
        let incarnation = self.state.link.connection().map_or(0, |link| link.incarnation);
        Some(Token::new(u128::from(incarnation) << 64 | random() >> 64))
    }

    async fn begin(
        &self,
        slot: &Slot,
        token: Option<Token>,
        seen: Option<&Entry>,
    ) -> Begin<RedisLease> {
        let begun = match token {
            // Boxed: the future of a request is as large as its largest part, and most need no fill.
            Some(token) => Box::pin(self.state.begin(slot, token, seen)).await,
            None => None,
        };
        begun.unwrap_or(Begin::Unavailable)
    }

    fn wait(&self, slot: &Slot, token: Token) -> impl Future<Output = Lookup> + Send {
        self.state.wait(slot, token)
    }

    async fn commit(
        &self,
        lease: RedisLease,
        entry: Arc<Entry>,
        note: Option<Arc<Entry>>,
    ) -> Commit {
        if !entry.is_current(&self.state.sequence) {
            count(&self.state.link.counts.fenced);
            return Commit::Fenced;
        }
        // The lease keeps other fills from changing what is found.
        if entry.is_pass() {
            for place in note.iter().chain([&entry]) {
                let found = Box::pin(self.state.lookup(place.slot())).await;
                if matches!(found, Lookup::Found(earlier) if entry.gives_way_to(&earlier)) {
                    return Commit::Superseded;
                }
            }
        }
        let commit = Box::pin(lease.commit(&entry, note.as_deref())).await;
        if commit == Commit::Stored
            && let Some(note) = note
        {
            // A hint how the entry that has just been stored is found.
            self.state.near.keep_note(&note);
        }
        commit
    }

    fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.call(subject, strength, Duration::ZERO).run()
    }

    fn unsettle(
        &self,
        subject: &Subject,
        strength: Strength,
        window: Duration,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.call(subject, strength, window).run()
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        self.state.sequence.invalidate_all(|_| ());
        InvalidationCall::new(&self.state, InvalidationScope::All, Duration::ZERO).run()
    }

    fn since_invalidation(&self, slot: &Slot) -> impl Future<Output = Option<Duration>> + Send {
        self.state.since_invalidation(slot)
    }

    fn share_calls(
        &self,
        report: &CallReport,
    ) -> impl Future<Output = Option<SharedBudget>> + Send {
        self.state.share_calls(report)
    }

    async fn flush_pending(&self, limit: Duration) -> Result<(), Pending> {
        let link = &self.state.link;
        link.hurry();
        let flushed = self.state.outbox.flushed();
        timeout(limit, flushed).await.map_err(|_| Pending)
    }

    fn snapshot(&self) -> Option<StoreSnapshot> {
        let link = &self.state.link;
        Some(StoreSnapshot {
            is_linked: link.is_published(),
            capabilities: link.capabilities(),
            is_breaker_open: link.is_breaker_open(),
            pending: self.state.outbox.len() as u64,
            near: self.state.near.snapshot(link.is_near_proven()),
            ..link.counts.snapshot()
        })
    }
}

impl RedisStore {
    fn call(&self, subject: &Subject, strength: Strength, window: Duration) -> InvalidationCall {
        match subject {
            Subject::Key(key) => self.state.sequence.invalidate(key, || ()),
            Subject::Tag(tag) => self.state.sequence.invalidate_tag(tag),
        }
        let doubt = if window.is_zero() { Doubt::Settled } else { Doubt::Unsettled };
        let scope = InvalidationScope::Of { subject: subject.clone(), strength, doubt };
        InvalidationCall::new(&self.state, scope, window)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::pin::Pin;

    use super::*;
    use crate::{
        clock::now,
        deadline::Deadline,
        entry::{Content, Proofs, Provenance, SourceRecord},
        key::Tag,
        store::redis::near::Basis,
    };

    #[test]
    fn what_this_process_invalidates_is_gone_when_it_is_called() {
        let store = RedisStore::connect("redis://127.0.0.1/").expect("an address");
        let near = &store.state.near;
        let minute = Duration::from_secs(60);
        let proof = Deadline::none();
        proof.set(now() + minute);
        let proof = Arc::new(proof);
        for invalidated in ["key", "tag", "all"] {
            let tags = [Tag::new("t")].into_iter().collect();
            let slot = Slot { tags, ..Slot::example() };
            let fence = store.sequence().begin();
            let provenance = Provenance { slot, fence, requested: now(), gauge: Arc::default() };
            let entry = Entry::new(provenance, Content::Pass, now() + minute);
            let (record, digest) = (b"record"[..].into(), [b'0'; 32]);
            let source =
                SourceRecord { record, number: 1, digest, epoch: 1, incarnation: 1, clock: 0 };
            let mut basis = Basis { fence: near.fence(), proofs: Proofs::new() };
            basis.depend_on(&proof);
            near.keep(entry, source, basis);
            let is_found = || store.peek(&Slot::example().variant.borrowed()).is_some();
            assert!(is_found());
            let call: Pin<Box<dyn Future<Output = _>>> = match invalidated {
                "key" => Box::pin(store.invalidate(&Slot::example().key.into(), Strength::Hard)),
                "tag" => Box::pin(store.invalidate(&Tag::new("t").into(), Strength::Hard)),
                _ => Box::pin(store.invalidate_all()),
            };
            assert!(!is_found(), "{invalidated}");
            drop(call);
        }
    }
}
