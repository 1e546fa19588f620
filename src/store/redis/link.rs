//! The link to the server: one connection, proven again and again, and replaced when it fails.
//!
//! A connection is *published* once the server has told who it is; from then on requests use it.
//! One supervisor asks again in every heartbeat, whether it is still the same server, still a primary,
//! and what the epoch is. On any doubt it asks at once, and where the answer is wrong or late the
//! connection is unpublished: requests bypass the store without waiting, until there is another.
//!
//! The crate's own `ConnectionManager` is not used: with the server gone it made requests wait for
//! seconds, and with the server hung it never connected again.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use redis::{Pipeline, RedisError, Value};
use tokio::{runtime::Handle, sync::Notify, time::timeout};

use super::{
    command::{Fault, bulk},
    connection::Connection,
    counts::{Counts, Ended, count},
    near::Near,
    pending::{Pending, Target},
    settings::Settings,
    supervisor::Supervisor,
};
use crate::{
    clock::{Instant, now},
    key::PrimaryKey,
    metrics::operations::Operation,
    metrics::telemetry,
};

/// What all clones of a store share of the server.
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) pending: Arc<Pending>,
    pub(super) counts: Counts,
    pub(super) near: Near,
    pub(super) current: ArcSwapOption<Connection>,
    /// Wakes the supervisor: there is something to send, or a doubt.
    pub(super) wake: Arc<Notify>,
    /// Whether the server is to be asked at once if it is still the one it was.
    pub(super) is_doubted: AtomicBool,
    pub(super) is_supervised: AtomicBool,
    /// Whether it was told that there is no link, since there was one.
    pub(super) has_told: AtomicBool,
    pub(super) has_told_untracked: AtomicBool,
    /// Where this process's time is counted from.
    pub(super) anchor: Instant,
}

impl Link {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            near: Near::new(&settings),
            settings,
            pending: Arc::default(),
            counts: Counts::default(),
            current: ArcSwapOption::empty(),
            wake: Arc::default(),
            is_doubted: AtomicBool::new(false),
            is_supervised: AtomicBool::new(false),
            has_told: AtomicBool::new(false),
            has_told_untracked: AtomicBool::new(false),
            anchor: now(),
        }
    }

    /// Returns the published connection. Where there is none, sees to it that somebody connects.
    pub(super) fn connection(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let connection = self.current.load_full();
        if connection.is_none() {
            self.supervise();
        }
        connection
    }

    pub(super) fn is_published(&self) -> bool {
        self.current.load().is_some()
    }

    pub(super) fn is_breaker_open(&self) -> bool {
        self.current
            .load()
            .as_ref()
            .is_some_and(|connection| connection.is_slow(self.settings.slow_lookups))
    }

    /// Starts the supervisor, if nobody has or its runtime is gone.
    pub(super) fn supervise(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.is_supervised.swap(true, Ordering::SeqCst) {
            let supervisor = Supervisor::new(self);
            runtime.spawn(async move { supervisor.run().await });
        }
    }

    /// Sends something within a budget, and counts how that ends.
    pub(super) async fn ask<T>(
        &self,
        connection: &Arc<Connection>,
        (operation, budget): (Operation, Duration),
        asked: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Fault> {
        let begun = now();
        let answer = match timeout(budget, asked).await {
            Ok(answer) => answer.map_err(|error| Fault::of(&error)),
            Err(_) => Err(Fault::TimedOut),
        };
        let fault = answer.as_ref().err().copied();
        self.counts.ended(operation, Ended::by(fault), now().saturating_duration_since(begun));
        self.heed(connection, operation, fault);
        answer
    }

    /// Does the same with several looks at once. Each has its answer, at its place: what is there.
    pub(super) async fn ask_all(
        &self,
        connection: &Arc<Connection>,
        looks: Pipeline,
    ) -> Vec<Result<Option<Bytes>, Fault>> {
        let (begun, count) = (now(), looks.len());
        let asked = connection.wire().ask_all(looks);
        let answers = match timeout(self.settings.lookup_budget, asked).await {
            Ok(answers) => answers.map_err(|error| Fault::of(&error)),
            Err(_) => Err(Fault::TimedOut),
        };
        let took = now().saturating_duration_since(begun);
        let ended = |number: usize, fault| {
            let lookups = (Operation::Lookup, number as u64);
            self.counts.all_ended(lookups, Ended::by(fault), took);
            self.heed(connection, Operation::Lookup, fault);
        };
        let values = match answers {
            Ok(values) => values,
            // What happens to all of them at once has one reason.
            Err(fault) => {
                ended(count, Some(fault));
                return vec![Err(fault); count];
            }
        };
        let mut answered = values.len();
        let answer = |value| {
            let answer = match value {
                Value::BulkString(bytes) => return Ok(Some(bytes.into())),
                Value::Nil => return Ok(None),
                other => other.extract_error().map(bulk).map_err(|error| Fault::of(&error)),
            };
            if let Err(fault) = answer {
                answered -= 1;
                ended(1, Some(fault));
            }
            answer
        };
        let answers = values.into_iter().map(answer).collect();
        if answered > 0 {
            ended(answered, None);
        }
        answers
    }

    /// Draws the conclusions from how something ended.
    fn heed(&self, connection: &Arc<Connection>, operation: Operation, fault: Option<Fault>) {
        match fault {
            None if operation == Operation::Lookup => connection.slow.store(0, Ordering::Relaxed),
            Some(Fault::TimedOut) => {
                if operation == Operation::Lookup {
                    connection.slow.fetch_add(1, Ordering::Relaxed);
                }
                self.doubt();
            }
            Some(Fault::Link) => self.lose(connection),
            Some(Fault::Foreign) => count(&self.counts.foreign),
            None | Some(Fault::Refused) => {}
        }
    }

    /// Unpublishes a connection, if it is still the published one.
    pub(super) fn lose(&self, connection: &Arc<Connection>) {
        let lost = self.current.compare_and_swap(Arc::as_ptr(connection), None);
        if lost.as_ref().is_some_and(|lost| Arc::ptr_eq(lost, connection)) {
            self.near.silence();
            count(&self.counts.links_lost);
            telemetry::store_lost();
        }
        self.doubt();
    }

    /// Lets this process forget what it has read of what is invalidated.
    pub(super) fn forget(&self, target: &Target) {
        match target {
            Target::Key(key) | Target::Softly(key) => self.near.invalidate(key),
            Target::Tag(tag) => self.near.invalidate_tag(tag),
            Target::All => self.near.invalidate_all(),
        }
    }

    pub(super) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Invalidates a key softly at the server.
    pub(super) async fn outdate(
        &self,
        connection: &Arc<Connection>,
        key: &PrimaryKey,
    ) -> Result<(), Fault> {
        let key = self.settings.key(key);
        let asked = (Operation::Invalidate, self.settings.invalidate_budget);
        self.ask(connection, asked, connection.outdate(&key)).await.map(drop)
    }

    /// Invalidates at the server.
    pub(super) async fn invalidate(
        &self,
        connection: &Arc<Connection>,
        target: &Target,
    ) -> Result<(), Fault> {
        let budget = self.settings.invalidate_budget;
        match target {
            Target::Key(key) | Target::Softly(key) => {
                let key = self.settings.key(key);
                let asked = connection.unlink(&key);
                self.ask(connection, (Operation::Invalidate, budget), asked).await.map(drop)
            }
            Target::Tag(tag) => {
                let key = self.settings.tag_key(tag);
                let asked = connection.restamp(&key);
                self.ask(connection, (Operation::Invalidate, budget), asked).await.map(drop)
            }
            Target::All => {
                let key = self.settings.epoch_key();
                let asked = connection.begin_epoch(&key);
                self.ask(connection, (Operation::InvalidateAll, budget), asked).await
            }
        }
    }

    pub(super) fn is_current(&self, connection: &Arc<Connection>) -> bool {
        self.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    /// Returns what the server's clock shows at an instant, in milliseconds.
    pub(super) fn server_time(&self, connection: &Connection, instant: Instant) -> u64 {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let ahead = connection.clock.load(Ordering::Relaxed);
        let time = match instant.checked_duration_since(self.anchor) {
            Some(since) => ahead.saturating_add(millis(since)),
            None => ahead.saturating_sub(millis(self.anchor.duration_since(instant))),
        };
        u64::try_from(time).unwrap_or(0)
    }

    /// Returns the instant at which the server's clock shows `millis`; `None` where there is none.
    pub(super) fn local_time(&self, connection: &Connection, millis: u64) -> Option<Instant> {
        let since = i64::try_from(millis).ok()? - connection.clock.load(Ordering::Relaxed);
        let duration = Duration::from_millis(since.unsigned_abs());
        if since < 0 {
            self.anchor.checked_sub(duration)
        } else {
            self.anchor.checked_add(duration)
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_published", &self.is_published()).finish_non_exhaustive()
    }
}
