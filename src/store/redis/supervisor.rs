//! The supervisor of a link: connects, proves the connection, and sends what is still to be sent.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError};
use tokio::time::{sleep, timeout, timeout_at};

use super::{
    CONNECT,
    command::Fault,
    connection::{Connection, Report},
    link::Link,
    pending::Release,
    wire::Wire,
};
use crate::{
    clock::{Instant, now},
    key::seeded_hash,
    metrics::operations::Operation,
    metrics::telemetry,
};

const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_millis(200);
/// How many invalidations are sent again between two heartbeats at most, so that these are in time.
const BATCH: usize = 512;

/// The supervisor of a link. There is one at a time.
pub(super) struct Supervisor(Weak<Link>);

impl Supervisor {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self(Arc::downgrade(link))
    }

    pub(super) async fn run(&self) {
        let mut backoff = MIN_BACKOFF;
        let mut attempt = 0;
        while let Some(link) = self.0.upgrade() {
            attempt += 1;
            let connected = match timeout(4 * CONNECT, link.connect(attempt)).await {
                Ok(Ok(connection)) => Some(Arc::new(connection)),
                Ok(Err(error)) => {
                    link.tell_unreachable(&error.to_string());
                    None
                }
                Err(_) => {
                    link.tell_unreachable("no answer in time");
                    None
                }
            };
            if let Some(connection) = connected {
                backoff = MIN_BACKOFF;
                link.current.store(Some(Arc::clone(&connection)));
                link.has_told.store(false, Ordering::Relaxed);
                telemetry::store_linked();
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
        while let Some(link) = self.0.upgrade() {
            if !link.is_current(connection) {
                return;
            }
            let errands = link.run_errands(connection).await;
            let is_due = errands.is_err() || now() >= next;
            if is_due {
                next = now() + link.settings.heartbeat;
                if link.beat(connection).await.is_err() {
                    link.lose(connection);
                    return;
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
        if let Some(link) = self.0.upgrade() {
            link.current.store(None);
            link.near.silence();
            link.is_supervised.store(false, Ordering::SeqCst);
        }
    }
}

impl Link {
    async fn connect(self: &Arc<Self>, attempt: usize) -> Result<Connection, RedisError> {
        let (protocol, wire) = match self.open(ProtocolVersion::RESP3, attempt).await {
            // Servers and what stands before them refuse it in many words.
            Err(error)
                if matches!(error.kind(), ErrorKind::RESP3NotSupported | ErrorKind::Server(_)) =>
            {
                (ProtocolVersion::RESP2, self.open(ProtocolVersion::RESP2, attempt).await?)
            }
            opened => (ProtocolVersion::RESP3, opened?),
        };
        let mut connection = Connection::new(wire);
        let sent = now();
        let report = connection.report(&self.settings.epoch_key()).await?;
        if !report.is_primary {
            return Err((ErrorKind::Client, "the server is no primary").into());
        }
        connection.introduce(&report);
        self.take_note(&connection, &report, sent);
        connection.load_scripts().await;
        if self.near.is_wanted() && self.settings.place.can_track() {
            let is_told = protocol == ProtocolVersion::RESP3;
            connection.is_tracking = is_told && connection.wire().track().await.is_ok();
            if !connection.is_tracking {
                self.tell_untracked();
            }
        }
        Ok(connection)
    }

    async fn open(
        self: &Arc<Self>,
        protocol: ProtocolVersion,
        attempt: usize,
    ) -> Result<Wire, RedisError> {
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
                    Some(link) if link.near.heed(push) => link.doubt(),
                    _ => {}
                }
                Ok(())
            });
        }
        self.settings.place.connect(protocol, &config, attempt).await
    }

    fn tell_unreachable(&self, problem: &str) {
        if !self.has_told.swap(true, Ordering::Relaxed) {
            telemetry::store_unreachable(problem);
        }
    }

    /// Asks the server whether it is still the one it was.
    async fn beat(&self, connection: &Arc<Connection>) -> Result<(), Fault> {
        let (sent, limit) = (now(), self.settings.heartbeat_timeout);
        let epoch_key = self.settings.epoch_key();
        let before = connection.epochs_begun();
        let asked = connection.report(&epoch_key);
        let report = self.ask(connection, (Operation::Heartbeat, limit), asked).await?;
        if !report.is_primary || report.incarnation != connection.incarnation {
            return Err(Fault::Link);
        }
        if connection.set_epoch(report.epoch, before) {
            self.near.invalidate_all();
        }
        self.take_note(connection, &report, sent);
        self.prove_near(connection, (sent, now()));
        Ok(())
    }

    fn take_note(&self, connection: &Connection, report: &Report, sent: Instant) {
        let received = now();
        let middle = sent + received.saturating_duration_since(sent) / 2;
        let since = middle.saturating_duration_since(self.anchor).as_millis();
        let ahead = i64::try_from(report.time).unwrap_or(0) - i64::try_from(since).unwrap_or(0);
        connection.clock.store(ahead, Ordering::Relaxed);
        let until = sent + self.settings.heartbeat + self.settings.heartbeat_timeout;
        connection.proven.set(until);
        connection.slow.store(0, Ordering::Relaxed);
    }

    /// Lets the near cache answer as long as the connection is proven, if the server tracks what is
    /// read over it.
    fn prove_near(&self, connection: &Arc<Connection>, (sent, received): (Instant, Instant)) {
        if !connection.is_tracking {
            return;
        }
        let until = sent + self.settings.heartbeat + self.settings.heartbeat_timeout;
        self.near.prove(until, received.saturating_duration_since(sent));
        // Whoever gives a connection up does that first, and then silences the near cache.
        if !self.is_current(connection) {
            self.near.silence();
        }
    }

    fn tell_untracked(&self) {
        if !self.has_told_untracked.swap(true, Ordering::Relaxed) {
            telemetry::near_cache_off();
        }
    }

    /// Sends what waits to be sent. What fails stays due.
    async fn run_errands(self: &Arc<Self>, connection: &Arc<Connection>) -> Result<(), Fault> {
        let mut releases = self.pending.take_releases().into_iter();
        while let Some(release) = releases.next() {
            let sent = self.release(connection, &release).await;
            if let Err(fault @ (Fault::Link | Fault::TimedOut)) = sent {
                self.pending.give_back(release);
                releases.for_each(|release| self.pending.give_back(release));
                return Err(fault);
            }
        }
        for (target, number) in self.pending.due(BATCH) {
            match self.invalidate(connection, &target).await {
                Ok(()) => self.pending.acknowledge(&target, number),
                Err(fault @ (Fault::Link | Fault::TimedOut)) => return Err(fault),
                // Tried again with the next heartbeat, and the others are none the worse for it.
                Err(Fault::Foreign | Fault::Refused) => {}
            }
        }
        Ok(())
    }

    async fn release(&self, connection: &Arc<Connection>, release: &Release) -> Result<(), Fault> {
        if !connection.is_of_its_time(release.token) {
            // Of another incarnation: nobody waits for it.
            return Ok(());
        }
        let budget = (Operation::Release, self.settings.invalidate_budget);
        let key = self.settings.key(&release.key);
        self.ask(connection, budget, connection.release(&key, release)).await.map(drop)
    }
}

fn jittered(pause: Duration) -> Duration {
    let share = seeded_hash(now()) % 512;
    pause.mul_f64(0.75 + share as f64 / 1024.0)
}
