//! Supervisor of a link: connects, proves the connection, and has due messages sent.

use std::{
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
    RedisError,
};
use tokio::time::{sleep, timeout};

use super::{
    command::LinkFault,
    connection::{Asked, Connection, ServerReport},
    counts::count,
    handle::{Link, LinkProblem},
    node::{CONNECT, Tracking},
    transport::Transport,
};
use crate::{
    background::runtime,
    clock::{Instant, now, timeout_at},
    key::seeded_hash,
    metrics::{
        capability::{Capabilities, missing},
        operations::Operation,
        telemetry,
    },
    sync::lock,
};

const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_millis(200);

/// Time beyond its next step after which a supervisor is taken to be in a runtime that is not driven: longer
/// than an attempt to connect takes.
const SILENCE: Duration = Duration::from_secs(2);

/// Supervisor of a link. There is one at a time.
struct Supervisor {
    link: Weak<Link>,
    number: u64,
}

impl Supervisor {
    /// Returns the link, unless another supervisor has taken over.
    fn link(&self) -> Option<Arc<Link>> {
        self.link.upgrade().filter(|link| link.is_supervised_by(self.number))
    }

    async fn run(&self) {
        let mut backoff = MIN_BACKOFF;
        let mut attempt = 0;
        while let Some(link) = self.link() {
            link.supervised.set(now() + SILENCE);
            attempt += 1;
            let connected = match timeout(4 * CONNECT, link.connect(attempt)).await {
                Ok(Ok(connection)) => Some(Arc::new(connection)),
                Ok(Err(error)) => {
                    link.note_problem(LinkProblem::of(&error));
                    None
                }
                Err(_) => {
                    link.note_problem(LinkProblem::passing("no answer in time"));
                    None
                }
            };
            if let Some(connection) = connected.filter(|_| link.is_supervised_by(self.number)) {
                backoff = MIN_BACKOFF;
                link.dependents.on_link(connection.incarnation);
                link.current.store(Some(Arc::clone(&connection)));
                lock(&link.problem).take();
                telemetry::store_linked();
                link.attempted.notify_waiters();
                drop(link);
                self.keep(&connection).await;
            } else {
                drop(link);
            }
            sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Keeps a connection published as long as it is proven.
    async fn keep(&self, connection: &Arc<Connection>) {
        let mut next = now();
        while let Some(link) = self.link() {
            if !link.is_current(connection) {
                return;
            }
            link.supervised.set(next.max(now()) + link.settings.until_seen() + SILENCE);
            let delivered = link.dependents.deliver(&link, connection).await;
            let is_due = delivered.is_err() || now() >= next;
            if is_due {
                if !connection.proven.is_ahead() {
                    count(&link.counts.late_timers);
                }
                next = now() + link.settings.heartbeat;
                if link.beat(connection).await.is_err() {
                    link.lose(connection);
                    return;
                }
                // It returned too late to prove anything.
                if !connection.proven.is_ahead() {
                    next = now();
                }
            }
            let _ = timeout_at(next, link.wake.notified()).await;
            if link.is_doubted.swap(false, Ordering::SeqCst) {
                next = now();
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(link) = self.link() {
            if let Some(connection) = link.current.swap(None) {
                link.silence(&connection);
            }
            link.supervised.clear();
        }
    }
}

impl Link {
    /// Returns the published connection. Without one the link is supervised, so that there will be one.
    pub(crate) fn connection(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let connection = self.current.load_full();
        if connection.is_none() {
            self.supervise();
        }
        connection
    }

    /// Starts the supervisor, unless there is one whose runtime is driven.
    pub(crate) fn supervise(self: &Arc<Self>) {
        if self.supervised.is_ahead() {
            return;
        }
        let Some(runtime) = runtime() else { return };
        let mut last = lock(&self.supervisor);
        if self.supervised.is_ahead() {
            return;
        }
        *last += 1;
        self.supervised.set(now() + SILENCE);
        let supervisor = Supervisor { link: Arc::downgrade(self), number: *last };
        runtime.spawn(async move { supervisor.run().await });
    }

    fn is_supervised_by(&self, number: u64) -> bool {
        *lock(&self.supervisor) == number
    }

    /// Wakes the supervisor, so that due messages are sent now.
    pub(crate) fn hurry(self: &Arc<Self>) {
        self.supervise();
        self.wake.notify_one();
    }

    async fn connect(self: &Arc<Self>, attempt: usize) -> Result<Connection, RedisError> {
        let login = self.endpoint.login().await?;
        let open = |protocol| self.open(login.clone(), protocol, attempt);
        let (protocol, transport) = match open(ProtocolVersion::RESP3).await {
            // Servers and proxies refuse it in many words.
            Err(error) if !error.is_io_error() => {
                (ProtocolVersion::RESP2, open(ProtocolVersion::RESP2).await?)
            }
            opened => (ProtocolVersion::RESP3, opened?),
        };
        let mut connection = Connection::new(transport);
        let sent = now();
        let report = connection.report(&self.settings).await?;
        if !report.is_primary {
            return Err((ErrorKind::Client, "the server is no primary").into());
        }
        if !report.is_entered {
            let problem = "a heartbeat of over a second cannot be entered in the register";
            return Err((ErrorKind::Client, problem).into());
        }
        connection.introduce(&report);
        self.prove(&connection, &report, sent);
        let is_near = !self.settings.near_limit().is_zero();
        let tracking = if is_near { Tracking::On } else { Tracking::Off };
        let has_pushes = protocol == ProtocolVersion::RESP3;
        connection.find_capabilities(&report, &Asked { has_pushes, tracking }).await;
        self.accept(&connection.capabilities)?;
        if let Some(neighbour) = connection.neighbour(&self.settings).await
            && !self.has_neighbour.swap(true, Ordering::Relaxed)
        {
            telemetry::namespace_shared(&neighbour);
        }
        Ok(connection)
    }

    async fn open(
        self: &Arc<Self>,
        login: RedisConnectionInfo,
        protocol: ProtocolVersion,
        attempt: usize,
    ) -> Result<Transport, RedisError> {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            // Every command has a budget of its own.
            .set_response_timeout(None);
        if protocol == ProtocolVersion::RESP3 {
            let link = Arc::downgrade(self);
            config = config.set_push_sender(move |push: PushInfo| -> Result<(), RedisError> {
                match link.upgrade() {
                    Some(link) if push.kind == PushKind::Disconnection => link.doubt(),
                    // A message over a connection that was given up does no harm.
                    Some(link) if link.dependents.on_push(push) => link.doubt(),
                    _ => {}
                }
                Ok(())
            });
        }
        self.endpoint.connect(login, protocol, &config, attempt).await
    }

    /// Says once which capabilities are missing. A required one is an error.
    fn accept(&self, capabilities: &Capabilities) -> Result<(), RedisError> {
        if let Some(lacking) = self.settings.required.difference(capabilities).next() {
            let problem = format!("the server lacks `{lacking}`, which is required");
            return Err((ErrorKind::InvalidClientConfig, "a capability", problem).into());
        }
        let said = lock(&self.capabilities).replace(capabilities.clone());
        let missing = missing(capabilities);
        if said.as_ref() != Some(capabilities) && !missing.is_empty() {
            telemetry::capabilities_missing(&missing);
        }
        Ok(())
    }

    /// Notes why there is no link, and says it once, or again where it does not pass.
    fn note_problem(&self, problem: LinkProblem) {
        let mut last = lock(&self.problem);
        if last.is_none() || problem.is_final && last.as_ref() != Some(&problem) {
            telemetry::store_unreachable(&problem.text);
        }
        *last = Some(problem);
        drop(last);
        self.attempted.notify_waiters();
    }

    /// Waits for a link, or for the reason why there will be none.
    pub(crate) async fn linked(self: &Arc<Self>, limit: Duration) -> Result<(), LinkProblem> {
        self.supervise();
        let linked = async {
            loop {
                let mut attempted = pin!(self.attempted.notified());
                // Before it looks, so that no attempt is missed.
                attempted.as_mut().enable();
                if self.is_published() {
                    return Ok(());
                }
                if let Some(problem) = lock(&self.problem).clone().filter(|it| it.is_final) {
                    return Err(problem);
                }
                attempted.await;
            }
        };
        match timeout(limit, linked).await {
            Ok(linked) => linked,
            Err(_) => Err(lock(&self.problem)
                .clone()
                .unwrap_or_else(|| LinkProblem::passing("no answer in time"))),
        }
    }

    /// Asks the server whether it is still the same.
    async fn beat(&self, connection: &Arc<Connection>) -> Result<(), LinkFault> {
        let (sent, before) = (now(), connection.epochs_begun());
        let was_proven = connection.is_near_proven();
        let asked = connection.report(&self.settings);
        let report = self.ask(connection, Operation::Heartbeat, asked).await?;
        let is_same = report.is_primary && report.incarnation == connection.incarnation;
        if !is_same || !report.is_entered {
            return Err(LinkFault::Lost);
        }
        if connection.set_epoch(report.epoch, before) {
            self.dependents.on_new_epoch();
        }
        self.prove(connection, &report, sent);
        // A connection is given up first, and its proof taken back then: it may have been in between.
        if !self.is_current(connection) {
            self.silence(connection);
        }
        if was_proven && !connection.is_near_proven() {
            // By one of several primaries.
            self.dependents.on_loss();
        }
        if connection.is_tracked() {
            self.dependents.on_proof(now().saturating_duration_since(sent));
        }
        connection.beaten.notify_waiters();
        Ok(())
    }

    /// Sets the clock of a connection by a report that was asked for at `sent`, and the time until which
    /// its replies may be used.
    fn prove(&self, connection: &Connection, report: &ServerReport, sent: Instant) {
        let took = now().saturating_duration_since(sent);
        // A report that was read late says less about the clock than the one before.
        if took <= self.settings.heartbeat_timeout || !connection.proven.is_set() {
            let lead = self.lead_of_clock(report.time, sent + took / 2);
            connection.clock.store(lead, Ordering::Relaxed);
        }
        self.heartbeats.note(report.longest, report.uptime, now());
        connection.proven.set(sent + self.settings.until_seen());
        connection.slow.store(0, Ordering::Relaxed);
    }
}

fn jittered(pause: Duration) -> Duration {
    let share = seeded_hash(now()) % 512;
    pause.mul_f64(0.75 + share as f64 / 1024.0)
}
