//! Server as a node: its answer about itself, and what it is asked at a connection.

use std::time::Duration;

use redis::{Cmd, ErrorKind, Pipeline, RedisError, Value, cmd};

/// Time that connecting to a server may take.
pub(super) const CONNECT: Duration = Duration::from_millis(300);

/// Tracking by the server of the keys that are read over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    On,
    Off,
}

/// Answers of the servers about themselves.
pub(super) struct ServerInfo {
    pub(super) primaries: Vec<PrimaryInfo>,
    /// Time of one that has just answered, in milliseconds.
    pub(super) time: u64,
}

/// Sections of `INFO` of one primary.
#[derive(Clone)]
pub(super) struct PrimaryInfo {
    pub(super) server: String,
    pub(super) replication: String,
    /// Time of its clock, in milliseconds.
    pub(super) time: u64,
}

impl Tracking {
    pub(super) fn command(self) -> Cmd {
        let mut track = cmd("CLIENT");
        track.arg("TRACKING").arg(if self == Self::On { "ON" } else { "OFF" });
        track
    }
}

impl PrimaryInfo {
    /// Number of commands that ask for it.
    pub(super) const COMMANDS: usize = 3;

    pub(super) fn ask(pipeline: &mut Pipeline) {
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication").cmd("TIME");
    }

    /// Parses the replies; a section that the server refuses is empty.
    pub(super) fn parse(replies: &mut impl Iterator<Item = Value>) -> Result<Self, RedisError> {
        let mut next = || replies.next().ok_or((ErrorKind::Client, "a reply is missing").into());
        let [server, replication] = [section(next()?)?, section(next()?)?];
        let next: Result<Value, RedisError> = next();
        let [seconds, micros]: [u64; 2] = redis::from_redis_value(next?.extract_error()?)?;
        let time = seconds.saturating_mul(1000) + micros / 1000;
        Ok(Self { server, replication, time })
    }
}

/// Returns the text of a section.
fn section(reply: Value) -> Result<String, RedisError> {
    match reply.extract_error() {
        Err(error) if error.is_io_error() || error.is_unrecoverable_error() => Err(error),
        Err(_) => Ok(String::new()),
        Ok(text) => Ok(redis::from_redis_value(text)?),
    }
}
