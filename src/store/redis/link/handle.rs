//! Handle of the link: the published connection, and requests over it within their budgets.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{Cmd, ErrorKind, Pipeline, PushInfo, RedisError, Value};
use tokio::{sync::Notify, task::yield_now};

use super::{
    batch::{LookupReply, PendingReply, UnsentBatch},
    command::{self, LinkFault, Sought, bulk},
    connection::Connection,
    counts::{Counts, count},
    heartbeats::Heartbeats,
    transport::Endpoint,
};
use crate::{
    clock::{Instant, now},
    deadline::Deadline,
    key::PrimaryKey,
    metrics::{
        capability::Capabilities,
        operations::{Operation, OperationEnd},
        telemetry,
    },
    store::{
        redis::{record::VariantDigest, settings::RedisSettings},
        timeout::within,
    },
    sync::{Mutex, lock},
};

/// Link to the server, which all clones of a store share.
pub(crate) struct Link {
    pub(crate) settings: RedisSettings,
    pub(super) endpoint: Endpoint,
    pub(super) dependents: Box<dyn Dependents>,
    pub(crate) counts: Counts,
    pub(super) current: ArcSwapOption<Connection>,
    /// Wakes the supervisor: there is something to send, or a doubt.
    pub(super) wake: Arc<Notify>,
    /// Request to check at once that the server is still the same.
    pub(super) is_doubted: AtomicBool,
    /// Number of the supervisor. One that has another number ends.
    pub(super) supervisor: Mutex<u64>,
    /// Time until which the supervisor is taken to be driven.
    pub(super) supervised: Deadline,
    /// Reason why there is no link, until there is one.
    pub(super) problem: Mutex<Option<LinkProblem>>,
    /// Capabilities that the last connection has found.
    pub(super) capabilities: Mutex<Option<Capabilities>>,
    /// Set once another program without a namespace is logged.
    pub(super) has_neighbour: AtomicBool,
    /// Notified of each attempt to connect that has ended.
    pub(super) attempted: Notify,
    pub(super) heartbeats: Heartbeats,
    /// Begin of this process's time.
    anchor: Instant,
}

/// Reason why there is no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkProblem {
    pub(crate) text: String,
    /// Set where no further attempt will do better, unless the server changes.
    pub(crate) is_final: bool,
}

impl LinkProblem {
    pub(super) fn of(error: &RedisError) -> Self {
        let is_final = error.kind() == ErrorKind::InvalidClientConfig;
        let text = error.detail().filter(|_| is_final);
        Self { text: text.map_or_else(|| error.to_string(), str::to_owned), is_final }
    }

    pub(super) fn passing(text: &str) -> Self {
        Self { text: text.to_owned(), is_final: false }
    }
}

/// Parts of a store that depend on the link.
pub(crate) trait Dependents: Send + Sync {
    /// Handles a link to a server of this incarnation, before requests use it.
    fn on_link(&self, incarnation: u64);

    /// Handles a message of the server, before any later reply is seen. Returns whether the epoch may be
    /// over.
    fn on_push(&self, push: PushInfo) -> bool;

    /// Handles a proof of a link that is tracked, which took a time.
    fn on_proof(&self, took: Duration);

    /// Handles another epoch.
    fn on_new_epoch(&self);

    /// Handles the loss of a proof: messages may be missing.
    fn on_loss(&self);

    /// Sends what is due. What fails stays due.
    fn deliver<'a>(
        &'a self,
        link: &'a Link,
        connection: &'a Arc<Connection>,
    ) -> Pin<Box<dyn Future<Output = Result<(), LinkFault>> + Send + 'a>>;
}

impl Link {
    /// Creates a link that is not supervised yet. `wake` wakes its supervisor.
    pub(crate) fn new(
        endpoint: Endpoint,
        settings: RedisSettings,
        wake: Arc<Notify>,
        dependents: impl Dependents + 'static,
    ) -> Self {
        Self {
            heartbeats: Heartbeats::new(settings.until_seen()),
            settings,
            endpoint,
            dependents: Box::new(dependents),
            counts: Counts::default(),
            current: ArcSwapOption::empty(),
            wake,
            is_doubted: AtomicBool::new(false),
            supervisor: Mutex::default(),
            supervised: Deadline::none(),
            problem: Mutex::default(),
            capabilities: Mutex::default(),
            has_neighbour: AtomicBool::new(false),
            attempted: Notify::new(),
            anchor: now(),
        }
    }

    pub(crate) fn is_published(&self) -> bool {
        self.current.load().is_some()
    }

    /// Returns whether a near cache hears of every change now.
    pub(crate) fn is_near_proven(&self) -> bool {
        self.current.load().as_ref().is_some_and(|connection| connection.is_near_proven())
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        lock(&self.capabilities).clone().unwrap_or_default()
    }

    pub(crate) fn is_breaker_open(&self) -> bool {
        self.current
            .load()
            .as_ref()
            .is_some_and(|connection| connection.is_slow(self.settings.slow_lookups))
    }

    /// Looks a field up, together with the lookups of the same moment. The reply arrives within the budget
    /// of a lookup.
    pub(crate) fn lookup(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        key: &PrimaryKey,
        sought: Sought,
        digest: &VariantDigest,
    ) -> PendingReply {
        let (reply, batch) = connection.lookups.add(key, sought, digest);
        if let Some(batch) = batch {
            let (link, connection) = (Arc::clone(self), Arc::clone(connection));
            tokio::spawn(async move { link.send(&connection, batch).await });
        }
        reply
    }

    async fn send(&self, connection: &Arc<Connection>, batch: UnsentBatch) {
        let batches = &connection.lookups;
        if batches.is_busy() {
            yield_now().await;
        }
        let commands = batch.close(|lookup| {
            let key = self.settings.key(&lookup.key);
            command::lookup(&key, lookup.sought, &lookup.digest)
        });
        batches.sent();
        let replies = self.ask_all(connection, commands).await;
        batches.answered();
        batch.answer(replies);
    }

    /// Sends a command that reads, within the budget of a lookup.
    pub(crate) async fn look(
        &self,
        connection: &Arc<Connection>,
        command: &Cmd,
    ) -> Result<Value, LinkFault> {
        let mut transport = connection.transport();
        self.ask(connection, Operation::Lookup, command.query_async(&mut transport)).await
    }

    /// Begins another epoch. Returns the time after which every process has seen it, or knows that its link
    /// is not proven.
    pub(crate) async fn begin_epoch(
        &self,
        connection: &Arc<Connection>,
    ) -> Result<Duration, LinkFault> {
        let begun = connection.begin_epoch(&self.settings);
        let register = self.ask(connection, Operation::InvalidateAll, begun).await?;
        Ok(self.heartbeats.until_seen(register, now()))
    }

    /// Waits for a reply within the operation's budget, and counts how that ends.
    pub(crate) async fn ask<T>(
        &self,
        connection: &Arc<Connection>,
        operation: Operation,
        asked: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, LinkFault> {
        let begun = now();
        let reply = match self.within(self.settings.budget(operation), asked).await {
            Some(reply) => reply.map_err(|error| LinkFault::of(&error)),
            None => Err(LinkFault::TimedOut),
        };
        let took = now().saturating_duration_since(begun);
        self.ended(connection, operation, 1, reply.as_ref().err().copied(), took);
        reply
    }

    /// Sends several lookups at once. Each has its reply, at its place.
    async fn ask_all(&self, connection: &Arc<Connection>, commands: Pipeline) -> Vec<LookupReply> {
        let (begun, number) = (now(), commands.len());
        let asked = connection.transport().ask_all(commands);
        let replies = match self.within(self.settings.lookup_budget, asked).await {
            Some(replies) => replies.map_err(|error| LinkFault::of(&error)),
            None => Err(LinkFault::TimedOut),
        };
        let took = now().saturating_duration_since(begun);
        let ended = |number, fault| {
            self.ended(connection, Operation::Lookup, number, fault, took);
        };
        let values = match replies {
            Ok(values) => values,
            // All of them fail for one reason.
            Err(fault) => {
                ended(number, Some(fault));
                return vec![Err(fault); number];
            }
        };
        let read = |value: Value| {
            value.extract_error().map(bulk).map_err(|error| {
                let fault = LinkFault::of(&error);
                ended(1, Some(fault));
                fault
            })
        };
        let replies: Vec<_> = values.into_iter().map(read).collect();
        let answered = replies.iter().filter(|reply| reply.is_ok()).count();
        if answered > 0 {
            ended(answered, None);
        }
        replies
    }

    /// Waits for a heartbeat that is sent from now on: this process was too late for the last one. Returns an
    /// instant until when it has proven the link at least; `None` if the link is lost, or if none returns.
    pub(crate) async fn next_proof(&self, connection: &Arc<Connection>) -> Option<Instant> {
        let until_seen = self.settings.until_seen();
        let until = now() + until_seen;
        self.doubt();
        let proven = async {
            loop {
                let mut beaten = pin!(connection.beaten.notified());
                // Before it looks, so that no heartbeat is missed.
                beaten.as_mut().enable();
                if !self.is_current(connection) {
                    return None;
                }
                if connection.proven.is_ahead_at(until) {
                    return Some(until);
                }
                beaten.await;
            }
        };
        let proven = self.within(until_seen, proven).await;
        if proven.is_none() {
            self.desert(connection);
        }
        proven?
    }

    /// Waits within a limit, and counts late timers.
    async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        within(limit, future, || count(&self.counts.late_timers)).await
    }

    /// Counts operations that ended together, and draws the conclusions.
    fn ended(
        &self,
        connection: &Arc<Connection>,
        operation: Operation,
        number: usize,
        fault: Option<LinkFault>,
        took: Duration,
    ) {
        let end = match fault {
            None => OperationEnd::Answered,
            Some(LinkFault::TimedOut) => OperationEnd::TimedOut,
            Some(_) => OperationEnd::Failed,
        };
        self.counts.ended(operation, number as u64, end, took);
        match fault {
            None if operation == Operation::Lookup => connection.slow.store(0, Ordering::Relaxed),
            Some(LinkFault::TimedOut) => {
                if operation == Operation::Lookup {
                    connection.slow.fetch_add(1, Ordering::Relaxed);
                }
                match connection.proven.is_ahead() {
                    true => self.doubt(),
                    false => self.desert(connection),
                }
            }
            Some(LinkFault::Lost) => drop(self.lose(connection)),
            Some(LinkFault::Away) => self.doubt(),
            Some(LinkFault::Foreign) => count(&self.counts.foreign),
            None | Some(LinkFault::Refused) => {}
        }
    }

    /// Unpublishes a connection. Returns whether it was the published one.
    pub(super) fn lose(&self, connection: &Arc<Connection>) -> bool {
        let lost = self.current.compare_and_swap(Arc::as_ptr(connection), None);
        let is_lost = lost.as_ref().is_some_and(|lost| Arc::ptr_eq(lost, connection));
        if is_lost {
            self.silence(connection);
            connection.beaten.notify_waiters();
            count(&self.counts.links_lost);
            telemetry::store_lost();
        }
        self.doubt();
        is_lost
    }

    /// Takes the proof of a connection back.
    pub(super) fn silence(&self, connection: &Connection) {
        if connection.proven.clear() && connection.is_tracked() {
            self.dependents.on_loss();
        }
    }

    /// Gives up a connection and its supervisor: this runtime keeps its timers, and no heartbeat has proven
    /// the connection in time. The runtime of the supervisor is not driven any more, and the next request
    /// starts another one.
    fn desert(&self, connection: &Arc<Connection>) {
        if self.lose(connection) {
            self.supervised.clear();
        }
    }

    pub(super) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    pub(super) fn is_current(&self, connection: &Arc<Connection>) -> bool {
        self.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    /// Returns the lead of a clock, which shows `millis` at an instant, over this process's time.
    pub(super) fn lead_of_clock(&self, millis: u64, instant: Instant) -> i64 {
        let since = instant.saturating_duration_since(self.anchor).as_millis();
        i64::try_from(millis).unwrap_or(0) - i64::try_from(since).unwrap_or(0)
    }

    /// Returns the time of the server's clock at an instant, in milliseconds.
    pub(crate) fn server_time(&self, connection: &Connection, instant: Instant) -> u64 {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let ahead = connection.clock.load(Ordering::Relaxed);
        let time = match instant.checked_duration_since(self.anchor) {
            Some(since) => ahead.saturating_add(millis(since)),
            None => ahead.saturating_sub(millis(self.anchor.duration_since(instant))),
        };
        u64::try_from(time).unwrap_or(0)
    }

    /// Returns the instant of a time of the server's clock; `None` if there is none.
    pub(crate) fn local_time(&self, connection: &Connection, millis: u64) -> Option<Instant> {
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
