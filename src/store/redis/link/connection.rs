//! Connection to one incarnation of the server.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join;
use redis::{Cmd, ErrorKind, RedisError, Value, cmd};
use tokio::sync::Notify;

use super::{
    batch::LookupBatches,
    command::{EnteredHeartbeat, LinkFault, Register, millis, parse_begun_epoch, token_text},
    identity::{Fingerprint, line},
    node::Tracking,
    random::{random, random_text},
    scripts::{
        self, BEGIN_EPOCH, ENTER, MARK, PLANT, RELEASE, RENEW_TAG_VERSION, SOFT_INVALIDATE, Script,
        UNSETTLE,
    },
    transport::Transport,
};
use crate::{
    clock::now,
    deadline::Deadline,
    key::{Strength, Token},
    metrics::capability::{Capabilities, Capability},
    store::redis::{
        record::{EARLIER_VERSIONS, SLACK, VariantDigest},
        settings::{LEAST_UNTIL_SEEN, RedisSettings, ServerIdentity},
    },
    sync::{Mutex, lock},
};

/// Time for which a heartbeat stays in the register unless it is entered again.
const ENTERED: Duration = Duration::from_secs(60);

/// Connection to one incarnation of the server.
pub(crate) struct Connection {
    transport: Transport,
    pub(super) lookups: LookupBatches,
    /// Digest of the runs of the server or of all primaries of a cluster, or the number of a token that is
    /// planted there (`identity.rs`).
    pub(crate) incarnation: u64,
    /// Random value at the server that every variant's digest contains. Zero while unknown.
    epoch: AtomicU64,
    pub(crate) capabilities: Capabilities,
    /// Number of epochs that were begun over this connection; held while the epoch is written.
    epochs_begun: Mutex<u64>,
    /// Lookups in a row that took longer than their budget.
    pub(super) slow: AtomicU32,
    /// Time until which replies may be used.
    pub(crate) proven: Arc<Deadline>,
    /// Notified of each heartbeat that has returned, and of the loss.
    pub(super) beaten: Notify,
    /// Lead of the server's clock over the time since the link's anchor, in milliseconds.
    pub(crate) clock: AtomicI64,
}

/// Identity and state of the server.
pub(super) struct ServerReport {
    pub(super) incarnation: u64,
    pub(super) is_primary: bool,
    pub(super) epoch: u64,
    /// Milliseconds of its clock.
    pub(super) time: u64,
    pub(super) uptime: Duration,
    /// Set if an invalidation of everything waits for this process's heartbeat.
    pub(super) is_entered: bool,
    pub(super) has_run: bool,
    pub(super) has_register: bool,
    /// Longest heartbeat of all processes, in milliseconds.
    pub(super) longest: u64,
}

/// Conditions of a connection on which the server's capabilities depend.
pub(super) struct Asked {
    pub(super) has_pushes: bool,
    pub(super) tracking: Tracking,
}

impl Connection {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            lookups: LookupBatches::new(transport.is_one()),
            transport,
            incarnation: 0,
            epoch: AtomicU64::new(0),
            epochs_begun: Mutex::new(0),
            slow: AtomicU32::new(0),
            proven: Arc::new(Deadline::none()),
            beaten: Notify::new(),
            capabilities: Capabilities::new(),
            clock: AtomicI64::new(0),
        }
    }

    /// Takes over the identity that the server has reported first.
    pub(super) fn introduce(&mut self, report: &ServerReport) {
        self.incarnation = report.incarnation;
        self.epoch = AtomicU64::new(report.epoch);
    }

    pub(super) fn epochs_begun(&self) -> u64 {
        *lock(&self.epochs_begun)
    }

    /// Sets the epoch that was read when `before` epochs had begun here: one that began meanwhile may be
    /// newer. Returns whether the epoch has changed.
    pub(super) fn set_epoch(&self, epoch: u64, before: u64) -> bool {
        let begun = lock(&self.epochs_begun);
        *begun == before && self.epoch.swap(epoch, Ordering::SeqCst) != epoch
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// Returns the proof of the connection to the primary of a key, where that is another than the whole link's.
    pub(crate) fn proof<'k>(
        &self,
        key: impl FnOnce() -> Cow<'k, str>,
    ) -> Result<Option<Arc<Deadline>>, LinkFault> {
        self.transport.proof(key).map_err(|error| LinkFault::of(&error))
    }

    /// Returns the number of replies that have led elsewhere.
    pub(crate) fn redirects(&self) -> u64 {
        self.transport.redirects()
    }

    /// Returns whether the server tracks what is read.
    pub(crate) fn is_tracked(&self) -> bool {
        self.capabilities.contains(&Capability::Tracking)
    }

    /// Returns whether every change of what is read is heard of now.
    pub(super) fn is_near_proven(&self) -> bool {
        self.is_tracked() && self.proven.is_ahead() && self.transport.is_proven()
    }

    /// Returns whether the fill with this token began under this incarnation: tokens begin with it.
    pub(crate) fn is_of_its_time(&self, token: Token) -> bool {
        (token.number() >> 64) as u64 == self.incarnation
    }

    /// Returns the epoch, if it is known.
    pub(crate) fn epoch(&self) -> Option<u64> {
        Some(self.epoch.load(Ordering::SeqCst)).filter(|epoch| *epoch != 0)
    }

    /// Returns whether the breaker is open: `limit` lookups in a row took longer than their budget, and no
    /// heartbeat has come back since. It closes without a proof, so that a lookup finds out whether anything
    /// still drives the connection.
    pub(crate) fn is_slow(&self, limit: u32) -> bool {
        self.slow.load(Ordering::Relaxed) >= limit && self.proven.is_ahead()
    }

    /// Asks the server about itself, after this process's heartbeat was entered there.
    pub(super) async fn report(
        &self,
        settings: &RedisSettings,
    ) -> Result<ServerReport, RedisError> {
        // Both are sent at once.
        let mut transport = self.transport();
        // A primary of a cluster that is late must not make the others late.
        let (until, limit) = (now() + settings.until_seen(), settings.heartbeat_timeout * 3 / 4);
        let (info, entered) = join(transport.info(until, limit), self.enter(settings)).await;
        let (info, EnteredHeartbeat { epoch, left, longest }) = (info?, entered?);
        let (mut is_primary, mut uptime) = (true, Duration::ZERO);
        for primary in &info.primaries {
            is_primary &= match line(&primary.replication, "role:") {
                Some(role) => role == "master",
                None => settings.identity == ServerIdentity::TokenAlone,
            };
            let seconds =
                line(&primary.server, "uptime_in_seconds:").and_then(|up| up.parse().ok());
            uptime = uptime.max(seconds.map_or(Duration::MAX, Duration::from_secs));
        }
        let fingerprint = Fingerprint::of(&info);
        let run = fingerprint.incarnation();
        let incarnation = match run {
            Some(incarnation) => incarnation,
            None => self.planted(settings, &fingerprint).await?,
        };
        let is_entered = settings.until_seen() <= left.max(LEAST_UNTIL_SEEN);
        Ok(ServerReport {
            incarnation,
            is_primary,
            epoch,
            time: info.time,
            uptime,
            is_entered,
            has_run: run.is_some(),
            has_register: !left.is_zero(),
            longest,
        })
    }

    /// Returns the number of the token at servers that do not say which run they are. One that is not for
    /// them is replaced.
    async fn planted(
        &self,
        settings: &RedisSettings,
        fingerprint: &Fingerprint,
    ) -> Result<u64, RedisError> {
        if let Some(problem) = fingerprint.problem(settings.identity) {
            return Err(problem);
        }
        let key = settings.identity_key();
        let mut transport = self.transport();
        let seen: Result<Option<String>, _> =
            cmd("GET").arg(&key).query_async(&mut transport).await;
        let seen = match seen {
            Err(error) if LinkFault::of(&error) == LinkFault::Foreign => String::new(),
            seen => seen?.unwrap_or_default(),
        };
        if let Some(number) = fingerprint.number_of(&seen) {
            return Ok(number);
        }
        let token = fingerprint.new_token();
        let arguments = |call: &mut Cmd| {
            call.arg(&seen).arg(&token);
        };
        let planted = PLANT.send_on(&mut transport, &[&key], arguments).await?;
        let planted = redis::from_redis_value::<String>(planted)?;
        let is_new = || (ErrorKind::Client, "another process takes the server for another").into();
        fingerprint.number_of(&planted).ok_or_else(is_new)
    }

    /// Enters this process's heartbeat, and reads the epoch. A missing one begins.
    async fn enter(&self, settings: &RedisSettings) -> Result<EnteredHeartbeat, RedisError> {
        let arguments = |call: &mut Cmd| {
            call.arg(format!("{:016x}", random_epoch()));
            call.arg(millis(settings.until_seen())).arg(millis(ENTERED));
        };
        let reply = self.call_on_epoch(&ENTER, settings, arguments).await?;
        EnteredHeartbeat::parse(reply).ok_or_else(unexpected)
    }

    /// Begins another epoch: records of earlier ones are not read any more.
    pub(crate) async fn begin_epoch(
        &self,
        settings: &RedisSettings,
    ) -> Result<Register, RedisError> {
        let epoch = format!("{:016x}", random_epoch());
        let arguments = |call: &mut Cmd| {
            call.arg(&epoch).arg(millis(ENTERED));
        };
        let reply = self.call_on_epoch(&BEGIN_EPOCH, settings, arguments).await?;
        let (epoch, register) = parse_begun_epoch(reply).ok_or_else(unexpected)?;
        let mut begun = lock(&self.epochs_begun);
        *begun += 1;
        self.epoch.store(epoch, Ordering::SeqCst);
        Ok(register)
    }

    /// Calls a script on the epoch and the register of heartbeats, or on the epoch alone where the user may
    /// not use the register.
    async fn call_on_epoch(
        &self,
        script: &Script,
        settings: &RedisSettings,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        let keys = [settings.epoch_key(), settings.heartbeats_key()];
        let mut transport = self.transport();
        match script.send_on(&mut transport, &keys, &arguments).await {
            Err(error) if LinkFault::of(&error) == LinkFault::Refused => {
                script.send_on(&mut transport, &keys[..1], arguments).await
            }
            reply => reply,
        }
    }

    /// Marks that something is invalidated, for a time.
    pub(crate) async fn mark(&self, mark: &str, window: Duration) -> Result<Value, RedisError> {
        let arguments = |call: &mut Cmd| {
            call.arg(millis(window));
        };
        MARK.call(&mut self.transport(), mark, arguments).await
    }

    /// Invalidates a key. Nothing may be stored for it for `window`, of which `mark` tells.
    pub(crate) async fn invalidate(
        &self,
        key: &str,
        mark: &str,
        strength: Strength,
        window: Duration,
    ) -> Result<Value, RedisError> {
        if strength == Strength::Soft {
            let arguments = |call: &mut Cmd| {
                call.arg(SLACK).arg(window.as_millis() as u64);
            };
            match SOFT_INVALIDATE.call_on(&mut self.transport(), &[key, mark], arguments).await {
                // It needs room. Without any the key is removed.
                Err(error) if error.code() == Some("OOM") => {}
                reply => return reply,
            }
        }
        if window.is_zero() {
            return cmd("UNLINK").arg(key).query_async(&mut self.transport()).await;
        }
        let arguments = |call: &mut Cmd| {
            call.arg(millis(window));
        };
        let unsettle = UNSETTLE.fit_for(&self.capabilities);
        unsettle.call_on(&mut self.transport(), &[key, mark], arguments).await
    }

    /// Gives a tag another version. Nothing may be stored for it for `window`.
    pub(crate) async fn renew_tag_version(
        &self,
        key: &str,
        strength: Strength,
        window: Duration,
    ) -> Result<Value, RedisError> {
        let kept = match strength {
            Strength::Hard => 0,
            Strength::Soft => EARLIER_VERSIONS,
        };
        let arguments = |call: &mut Cmd| {
            call.arg(random_text()).arg(kept).arg(window.as_millis() as u64);
        };
        let renew = RENEW_TAG_VERSION.fit_for(&self.capabilities);
        renew.call(&mut self.transport(), key, arguments).await
    }

    /// Returns the name of another program that has connected within a day, and has no namespace either. A
    /// server that cannot tell is left alone.
    pub(super) async fn neighbour(&self, settings: &RedisSettings) -> Option<String> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let key = settings.program_key()?;
        let own = std::env::current_exe().ok()?.file_stem()?.to_str()?.to_owned();
        let mut set = cmd("SET");
        set.arg(key).arg(&own).arg("PX").arg(millis(DAY)).arg("GET");
        let before: Option<String> = set.query_async(&mut self.transport()).await.ok()?;
        before.filter(|before| *before != own)
    }

    /// Releases a lease.
    pub(crate) async fn release(
        &self,
        key: &str,
        digest: &VariantDigest,
        token: Token,
    ) -> Result<Value, RedisError> {
        let arguments = |call: &mut Cmd| {
            call.arg(digest).arg(token_text(token));
        };
        RELEASE.call(&mut self.transport(), key, arguments).await
    }

    /// Finds out, before the connection is published, which capabilities the server has; it loads the scripts,
    /// and turns tracking on where it is wanted.
    pub(super) async fn find_capabilities(&mut self, report: &ServerReport, asked: &Asked) {
        let mut transport = self.transport();
        let tracked = async { asked.has_pushes && transport.track(asked.tracking).await.is_ok() };
        let (has_flags, tracks) = join(scripts::takes_flags(&self.transport), tracked).await;
        let found = [
            (Capability::RunId, report.has_run),
            (Capability::Resp3, asked.has_pushes),
            (Capability::Tracking, tracks),
            (Capability::ScriptFlags, has_flags),
            (Capability::HeartbeatRegister, report.has_register),
        ];
        self.capabilities = found.into_iter().filter(|(_, has)| *has).map(|(it, _)| it).collect();
        if scripts::load(&self.transport(), &self.capabilities).await.is_ok() {
            self.capabilities.insert(Capability::ScriptCache);
        }
    }
}

fn unexpected() -> RedisError {
    (ErrorKind::Client, "the reply has an unexpected form").into()
}

/// Returns an epoch. Zero is for an unknown one.
fn random_epoch() -> u64 {
    random() as u64 | 1
}
