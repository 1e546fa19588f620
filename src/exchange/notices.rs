//! Notices of acknowledged invalidations, for a cache in front of the service.

use std::{
    any::Any, borrow::Cow, collections::VecDeque, future::Future, iter, pin::Pin, sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use crate::{
    key::{PrimaryKey, Strength, Subject, Tag, Tags},
    metrics::{status_field::StatusField, telemetry},
    store::Store,
    sync::{Mutex, lock},
};

/// Largest number of notices that wait. Beyond it, one notice of everything replaces them.
const MAX_NOTICES: usize = 10_000;
/// Time for which the store is waited for, before it is asked again after a pause.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Prefix of the surrogate key of a bucket.
const BUCKET: &str = "bucket:";
/// Bytes that are escaped in a listed name, in addition to those outside ASCII.
const UNFIT: &AsciiSet = &CONTROLS.add(b' ').add(b',');

/// Invalidation that the store has acknowledged, as passed to an [`InvalidationHook`].
///
/// ```
/// use tower_support_cache::{Invalidated, store::{PrimaryKey, Strength}};
///
/// let invalidated = Invalidated::Subject(PrimaryKey::new("case:1").into(), Strength::Hard);
/// assert_eq!(invalidated.surrogate_key().as_deref(), Some("case:1"));
/// assert_eq!(invalidated.strength(), Strength::Hard);
/// assert_eq!(Invalidated::All(Strength::Hard).surrogate_key(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidated {
    /// A key, a tag or a group.
    Subject(Subject, Strength),
    /// A bucket, by name.
    Bucket(String, Strength),
    /// Everything. A hard one also replaces the waiting invalidations once more than 10,000 wait for the hook.
    All(Strength),
}

impl Invalidated {
    /// Returns the name that responses carry for it in the
    /// [`surrogate_key_field`](crate::SupportCacheLayerBuilder::surrogate_key_field). `None` for everything.
    pub fn surrogate_key(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Subject(Subject::Key(key), _) => Some(fit(key.as_str())),
            Self::Subject(Subject::Tag(tag), _) => Some(fit(tag.as_str())),
            Self::Bucket(name, _) => Some(Cow::Owned([BUCKET, name].concat())),
            Self::All(_) => None,
        }
    }

    /// Returns whether responses are removed or made stale.
    pub fn strength(&self) -> Strength {
        let (Self::Subject(_, strength) | Self::Bucket(_, strength) | Self::All(strength)) = self;
        *strength
    }
}

/// Escapes a name for a list of names.
fn fit(name: &str) -> Cow<'_, str> {
    utf8_percent_encode(name, UNFIT).into()
}

/// Hook that receives each invalidation of this process once the store has acknowledged it. They come in the
/// order of the calls, one at a time. A closure is a hook, too.
///
/// Use it to purge a CDN. Each process passes its own invalidations on. No request waits for the hook. A hook
/// that panics misses only that invalidation, and the panic is logged.
///
/// ```
/// use tower_support_cache::{Invalidated, MemoryStore, SupportCacheLayer};
/// # async fn purge(_: &str) {}
/// # async fn purge_everything() {}
///
/// let layer = SupportCacheLayer::builder(MemoryStore::new())
///     .invalidation_hook(|invalidated: Invalidated| async move {
///         match invalidated.surrogate_key() {
///             Some(key) => purge(&key).await,
///             None => purge_everything().await,
///         }
///     })
///     .build()?;
/// # Ok::<(), tower_support_cache::ConfigError>(())
/// ```
pub trait InvalidationHook: Send + Sync + 'static {
    /// Passes an invalidation on.
    ///
    /// The next invalidation waits for the end of the future, so limit its time. Retry in it if the CDN must
    /// not miss one. It runs in a task of its own and blocks no thread.
    fn invalidated(&self, invalidated: Invalidated) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl<F, Passed> InvalidationHook for F
where
    F: Fn(Invalidated) -> Passed + Send + Sync + 'static,
    Passed: Future<Output = ()> + Send + 'static,
{
    fn invalidated(&self, invalidated: Invalidated) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self(invalidated))
    }
}

/// Settings for clients and caches in front of the service.
#[derive(Clone, Default)]
pub(crate) struct FrontSettings {
    pub(crate) status_field: StatusField,
    /// Field that names the bucket, key and tags of a response, if there is one.
    pub(crate) surrogate_key_field: Option<HeaderName>,
    pub(crate) hook: Option<Arc<dyn InvalidationHook>>,
    /// Number of outcomes that are kept of each bucket.
    pub(crate) outcomes: usize,
    /// Maker of request bodies without content, a `fn() -> Q`.
    pub(crate) empty_body: Option<Arc<dyn Any + Send + Sync>>,
}

/// Returns the field value that names the bucket, key and tags of a response.
pub(super) fn surrogate_keys(bucket: &str, key: &PrimaryKey, tags: &Tags) -> Option<HeaderValue> {
    let mut value = [BUCKET, bucket].concat();
    for name in iter::once(key.as_str()).chain(tags.iter().map(Tag::as_str)) {
        value.push(' ');
        value.push_str(&fit(name));
    }
    HeaderValue::try_from(value).ok()
}

/// Notices that wait for their acknowledgement and for the hook.
pub(super) struct Notices {
    hook: Arc<dyn InvalidationHook>,
    queue: Mutex<Queue>,
    /// Held by the task that passes notices on.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Invalidated>,
    /// Set while a notice is taken out but not passed on yet.
    is_one_in_hand: bool,
}

impl Notices {
    pub(super) fn new(hook: Arc<dyn InvalidationHook>) -> Arc<Self> {
        Arc::new(Self { hook, queue: Mutex::default(), turn: Arc::default() })
    }

    /// Adds an invalidation that the store was asked for.
    pub(super) fn add<St: Store>(self: &Arc<Self>, invalidated: Invalidated, store: &Arc<St>) {
        {
            let waiting = &mut lock(&self.queue).waiting;
            if waiting.len() == MAX_NOTICES {
                waiting.clear();
                waiting.push_back(Invalidated::All(Strength::Hard));
            } else {
                waiting.push_back(invalidated);
            }
        }
        self.start(store);
    }

    /// Spawns a task that passes on what waits, unless one already does.
    fn start<St: Store>(self: &Arc<Self>, store: &Arc<St>) {
        // Without a runtime, the next notice or a drain starts the task.
        let Ok(runtime) = Handle::try_current() else { return };
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else { return };
        let (notices, store) = (Arc::clone(self), Arc::clone(store));
        runtime.spawn(async move {
            notices.pass_on(&*store).await;
            drop(turn);
            // A notice that was added after the last look has found the turn taken.
            if notices.len() > 0 {
                notices.start(&store);
            }
        });
    }

    async fn pass_on<St: Store>(&self, store: &St) {
        while let Some(invalidated) = self.next() {
            while store.flush_pending(ACKNOWLEDGED).await.is_err() {
                // A store may say so at once.
                sleep(PAUSE).await;
            }
            let hook = Arc::clone(&self.hook);
            // A task of its own, so that a panic ends nothing else.
            let passed = tokio::spawn(async move { hook.invalidated(invalidated).await }).await;
            if passed.is_err_and(|error| error.is_panic()) {
                telemetry::hook_panicked();
            }
        }
    }

    fn next(&self) -> Option<Invalidated> {
        let mut queue = lock(&self.queue);
        let next = queue.waiting.pop_front();
        queue.is_one_in_hand = next.is_some();
        next
    }

    /// Waits until all notices are passed on, for at most `limit`. Returns the number of those that are not.
    pub(super) async fn flush<St: Store>(
        self: &Arc<Self>,
        store: &Arc<St>,
        limit: Duration,
    ) -> u64 {
        let flushed = timeout(limit, async {
            while self.len() > 0 {
                self.start(store);
                drop(self.turn.lock().await);
            }
        });
        if flushed.await.is_err() {
            // This call may have got the turn just as its time ran out.
            self.start(store);
        }
        self.len()
    }

    /// Returns the number of notices that were not passed on yet.
    pub(super) fn len(&self) -> u64 {
        let queue = lock(&self.queue);
        queue.waiting.len() as u64 + u64::from(queue.is_one_in_hand)
    }
}
