//! A connection to one incarnation of the server, and what is asked over it.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use redis::{Cmd, ErrorKind, Pipeline, RedisError, Value, cmd};

use super::{
    command::{COMMIT, Fault, LEASE, RELEASE, RESTAMP, SOFT, STAMP, Sought, token_text},
    deadline::Deadline,
    lease::SLACK,
    looks::Looks,
    pending::Release,
    random,
    stamps::random_text,
    wire::Wire,
};
use crate::{
    key::Token,
    sync::{Mutex, lock},
};

/// A connection to one incarnation of the server.
pub(super) struct Connection {
    wire: Wire,
    records: Looks,
    /// By themselves: their answers are much shorter.
    numbers: Looks,
    /// Digests `run_id` and `master_replid`, which is new at every promotion, of the server or of all
    /// primaries of a cluster.
    pub(super) incarnation: u64,
    /// A random value at the server that every variant's digest contains. Zero while unknown.
    epoch: AtomicU64,
    /// Whether the server tells what has changed of what was read over this connection.
    pub(super) is_tracking: bool,
    /// How many epochs were begun over this connection; held while the epoch is written.
    epochs_begun: Mutex<u64>,
    /// Lookups in a row that took longer than their budget.
    pub(super) slow: AtomicU32,
    /// Until when answers may be used.
    pub(super) proven: Deadline,
    /// What the server's clock is ahead of the time since the anchor, in milliseconds.
    pub(super) clock: AtomicI64,
}

/// What the server says of itself.
pub(super) struct Report {
    pub(super) incarnation: u64,
    pub(super) is_primary: bool,
    pub(super) epoch: u64,
    /// In milliseconds.
    pub(super) time: u64,
}

impl Connection {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            records: Looks::new(),
            numbers: Looks::new(),
            incarnation: 0,
            epoch: AtomicU64::new(0),
            epochs_begun: Mutex::new(0),
            slow: AtomicU32::new(0),
            proven: Deadline::none(),
            is_tracking: false,
            clock: AtomicI64::new(0),
        }
    }

    /// Takes note of what the server says of itself at first.
    pub(super) fn introduce(&mut self, report: &Report) {
        self.incarnation = report.incarnation;
        self.epoch = AtomicU64::new(report.epoch);
    }

    /// Returns the looks that are not sent yet.
    pub(super) fn looks(&self, sought: Sought) -> &Looks {
        match sought {
            Sought::Record => &self.records,
            Sought::Number => &self.numbers,
        }
    }

    /// Whether looks for different keys can be sent in one piece.
    pub(super) fn is_one(&self) -> bool {
        self.wire.is_one()
    }

    pub(super) fn epochs_begun(&self) -> u64 {
        *lock(&self.epochs_begun)
    }

    /// Takes note of an epoch that was asked for when so many had begun here. One that began
    /// meanwhile may be newer. Returns whether it is another one than before.
    pub(super) fn set_epoch(&self, epoch: u64, before: u64) -> bool {
        let begun = lock(&self.epochs_begun);
        *begun == before && self.epoch.swap(epoch, Ordering::SeqCst) != epoch
    }

    pub(super) fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// Whether a fill began under this incarnation: its token begins with it.
    pub(super) fn is_of_its_time(&self, token: Token) -> bool {
        (token.number() >> 64) as u64 == self.incarnation
    }

    /// Returns the epoch, if it is known.
    pub(super) fn epoch(&self) -> Option<u64> {
        Some(self.epoch.load(Ordering::SeqCst)).filter(|epoch| *epoch != 0)
    }

    /// Whether lookups are not worth trying before the next heartbeat: `limit` of them in a row took
    /// longer than their budget.
    pub(super) fn is_slow(&self, limit: u32) -> bool {
        self.slow.load(Ordering::Relaxed) >= limit
    }

    pub(super) async fn report(&self, epoch_key: &str) -> Result<Report, RedisError> {
        let told = self.wire().tell(epoch_key).await?;
        let epoch = match told.value.as_deref().and_then(parse_epoch) {
            Some(epoch) => epoch,
            None => self.found_epoch(epoch_key, told.value.is_some()).await?,
        };
        let mut hasher = blake3::Hasher::new();
        let mut is_primary = true;
        for (server, replication) in &told.primaries {
            let run = line(server, "run_id:");
            let (Some(run), Some(replica)) = (run, line(replication, "master_replid:")) else {
                return Err((ErrorKind::Client, "the server does not say who it is").into());
            };
            hasher.update(run.as_bytes()).update(b" ").update(replica.as_bytes()).update(b" ");
            is_primary &= line(replication, "role:") == Some("master");
        }
        let mut incarnation = [0; 8];
        incarnation.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        let incarnation = u64::from_be_bytes(incarnation);
        Ok(Report { incarnation, is_primary, epoch, time: told.time })
    }

    /// Sees to it that there is an epoch; returns zero where the server has no room for one.
    async fn found_epoch(&self, key: &str, is_foreign: bool) -> Result<u64, RedisError> {
        let mut pipeline = Pipeline::new();
        let set = pipeline.cmd("SET").arg(key).arg(format!("{:016x}", random_epoch()));
        // Never absent while this crate's values are: an epoch that comes back would bring back what
        // was invalidated under it.
        let set = if is_foreign { set } else { set.arg("NX") };
        set.cmd("GET").arg(key);
        match pipeline.query_async::<(Value, Option<String>)>(&mut self.wire()).await {
            Ok((_, epoch)) => Ok(epoch.as_deref().and_then(parse_epoch).unwrap_or(0)),
            Err(error) if Fault::of(&error) == Fault::Refused => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Begins another epoch: nothing of those before is read any more.
    pub(super) async fn begin_epoch(&self, key: &str) -> Result<(), RedisError> {
        let epoch = random_epoch();
        let mut connection = self.wire();
        let set = cmd("SET")
            .arg(key)
            .arg(format!("{epoch:016x}"))
            .query_async::<Value>(&mut connection)
            .await;
        let epoch = match set {
            Ok(_) => epoch,
            Err(error) if error.code() == Some("OOM") => {
                // No room for another one: without any, nothing is read at all.
                cmd("UNLINK").arg(key).query_async::<Value>(&mut connection).await?;
                0
            }
            Err(error) => return Err(error),
        };
        let mut begun = lock(&self.epochs_begun);
        *begun += 1;
        self.epoch.store(epoch, Ordering::SeqCst);
        Ok(())
    }

    pub(super) async fn unlink(&self, key: &str) -> Result<Value, RedisError> {
        cmd("UNLINK").arg(key).query_async(&mut self.wire()).await
    }

    /// Gives a tag another stamp. Without room for one it has none: what has it is dead all the same.
    pub(super) async fn restamp(&self, key: &str) -> Result<Value, RedisError> {
        let arguments = |call: &mut Cmd| {
            call.arg(random_text());
        };
        match RESTAMP.call(&mut self.wire(), key, arguments).await {
            Err(error) if error.code() == Some("OOM") => self.unlink(key).await,
            answer => answer,
        }
    }

    /// Makes what is stored at a key outdated. That needs room: without any the key goes.
    pub(super) async fn outdate(&self, key: &str) -> Result<Value, RedisError> {
        let slack = |call: &mut Cmd| {
            call.arg(SLACK);
        };
        match SOFT.call(&mut self.wire(), key, slack).await {
            Err(error) if error.code() == Some("OOM") => self.unlink(key).await,
            answer => answer,
        }
    }

    pub(super) async fn release(&self, key: &str, release: &Release) -> Result<Value, RedisError> {
        let arguments = |call: &mut Cmd| {
            call.arg(&release.vk).arg(token_text(release.token));
        };
        RELEASE.call(&mut self.wire(), key, arguments).await
    }

    /// A server that forbids it is told the scripts with their first calls.
    pub(super) async fn load_scripts(&self) {
        for script in [&LEASE, &COMMIT, &RELEASE, &SOFT, &STAMP, &RESTAMP] {
            let _ = script.load().query_async::<Value>(&mut self.wire()).await;
        }
    }
}

fn parse_epoch(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?
}

/// Never zero, which is for an unknown one.
fn random_epoch() -> u64 {
    random() as u64 | 1
}

fn line<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name))
}
