//! What is said to the server, and what its errors mean.

use std::{io::Write, sync::LazyLock, time::Duration};

use bytes::Bytes;
use redis::{
    Cmd, ErrorKind, RedisError, RedisWrite, Script as Source, ServerErrorKind, ToRedisArgs, Value,
    cmd,
};

use super::{Digest, wire::Wire};
use crate::key::Token;

/// What a request may be told that the server was asked for something in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No answer within the budget.
    TimedOut,
    /// The connection is gone, or leads to a server that may not be asked any more.
    Link,
    /// The key holds something that is not ours.
    Foreign,
    /// The server refused, or answered with what nobody asked for.
    Refused,
}

impl Fault {
    pub(super) fn of(error: &RedisError) -> Self {
        // A demoted primary keeps its connections open and answers reads.
        let is_elsewhere = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        if is_elsewhere || error.is_unrecoverable_error() || error.is_io_error() {
            Self::Link
        } else if error.code() == Some("WRONGTYPE") {
            Self::Foreign
        } else {
            Self::Refused
        }
    }
}

/// A script, which the server knows by its digest.
pub(super) struct Script {
    code: &'static str,
    digest: String,
}

pub(super) static LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lease.lua")));
pub(super) static COMMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("commit.lua")));
pub(super) static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("release.lua")));

pub(super) static STAMP: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("stamp.lua")));
pub(super) static RESTAMP: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("restamp.lua")));
pub(super) static SOFT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("soft.lua")));

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, digest: Source::new(code).get_hash().to_owned() }
    }

    /// Calls it on a key by its digest, and where the server does not know that by its text.
    pub(super) async fn call(
        &self,
        wire: &mut Wire,
        key: &str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        self.call_on(wire, &[key], arguments).await
    }

    /// Calls it on several keys.
    pub(super) async fn call_on(
        &self,
        wire: &mut Wire,
        keys: &[impl ToRedisArgs],
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        let call = |how: &str, what: &str| {
            let mut call = cmd(how);
            call.arg(what).arg(keys.len()).arg(keys);
            arguments(&mut call);
            call
        };
        match call("EVALSHA", &self.digest).query_async(wire).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                call("EVAL", self.code).query_async(wire).await
            }
            answer => answer,
        }
    }

    /// Returns the command that makes it known to the server.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }
}

/// What a hit asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// The record that is in force.
    Record,
    /// Its number alone.
    Number,
}

/// Asks for what a hit needs. The key is given in two pieces.
pub(super) fn look([namespace, key]: [&str; 2], sought: Sought, vk: &Digest) -> Cmd {
    let record = field(*b"v:", vk);
    let mut number = [b'n'; 35];
    let field = match sought {
        Sought::Record => &record[..],
        Sought::Number => {
            // Its name begins as the record's does: whoever removes records removes it too.
            number[..record.len()].copy_from_slice(&record);
            &number
        }
    };
    // Every hit sends it, so its buffers do not grow bit by bit.
    let mut look = Cmd::with_capacity(3, 4 + namespace.len() + key.len() + field.len());
    look.write_arg(b"HGET");
    if namespace.is_empty() {
        look.write_arg(key.as_bytes());
    } else {
        let mut argument = look.writer_for_next_arg();
        for piece in [namespace, key] {
            // Into memory.
            let _ = argument.write_all(piece.as_bytes());
        }
    }
    look.write_arg(field);
    look
}

/// Asks for what matters where nothing is in force: what is outdated, and who fills.
pub(super) fn look_further(key: &str, vk: &Digest) -> Cmd {
    let mut look = cmd("HMGET");
    look.arg(key).arg(&field(*b"s:", vk)).arg(&field(*b"l:", vk));
    look
}

/// Asks for all of it at once, where a hit is not to be expected.
pub(super) fn look_for_all(key: &str, vk: &Digest) -> Cmd {
    let mut look = look_further(key, vk);
    look.arg(&field(*b"v:", vk));
    look
}

fn field(kind: [u8; 2], vk: &Digest) -> [u8; 34] {
    let mut field = [0; 34];
    let (place, rest) = field.split_at_mut(kind.len());
    place.copy_from_slice(&kind);
    rest.copy_from_slice(vk);
    field
}

/// What the server answered to [`look_further`].
pub(super) struct Further {
    pub(super) outdated: Option<Outdated>,
    pub(super) lease: Option<HeldLease>,
}

/// A record that was softly invalidated.
pub(super) struct Outdated {
    /// In milliseconds of the server's clock.
    pub(super) since: u64,
    pub(super) record: Bytes,
}

/// A lease as it stands in the hash.
pub(super) struct HeldLease {
    pub(super) token: Token,
    /// In milliseconds of the server's clock.
    pub(super) expiry: u64,
    /// The digest of the stamps that its tags had; empty where it has none.
    pub(super) stamps: String,
}

impl Further {
    pub(super) fn of(answer: Value) -> Option<Self> {
        let Value::Array(fields) = answer else { return None };
        let [outdated, lease] = <[Value; 2]>::try_from(fields).ok()?;
        Some(Self {
            outdated: bulk(outdated).and_then(|field| Outdated::of(&field)),
            lease: bulk(lease).and_then(|lease| HeldLease::parse(&lease)),
        })
    }

    /// Reads the answer to [`look_for_all`], with the record.
    pub(super) fn with_record(answer: Value) -> Option<(Option<Bytes>, Self)> {
        let Value::Array(mut fields) = answer else { return None };
        let record = fields.pop().and_then(bulk);
        Some((record, Self::of(Value::Array(fields))?))
    }
}

impl Outdated {
    fn of(field: &Bytes) -> Option<Self> {
        let (since, record) = field.split_at_checked(13)?;
        let since = std::str::from_utf8(since).ok()?.parse().ok()?;
        Some(Self { since, record: field.slice_ref(record.strip_prefix(b" ")?) })
    }
}

impl HeldLease {
    fn parse(text: &[u8]) -> Option<Self> {
        let (token, rest) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let (expiry, stamps) = rest.split_once(' ').unwrap_or((rest, ""));
        let (token, expiry) = (parse_token(token)?, expiry.parse().ok()?);
        Some(Self { token, expiry, stamps: stamps.to_owned() })
    }
}

/// What the server answered to a request for a lease.
pub(super) enum Leased {
    /// When: in microseconds of the server's clock.
    Granted(u64),
    Held(Token),
    Found(Bytes),
}

impl Leased {
    pub(super) fn of(answer: Value) -> Option<Self> {
        let Value::Array(parts) = answer else { return None };
        let mut parts = parts.into_iter();
        match parts.next()? {
            Value::Int(0) => {
                let time = bulk(parts.next()?)?;
                Some(Self::Granted(std::str::from_utf8(&time).ok()?.parse().ok()?))
            }
            Value::Int(1) => {
                let token = bulk(parts.next()?)?;
                Some(Self::Held(parse_token(std::str::from_utf8(&token).ok()?)?))
            }
            Value::Int(2) => Some(Self::Found(bulk(parts.next()?)?)),
            _ => None,
        }
    }
}

/// Returns the bytes of a string; it is not copied.
pub(super) fn bulk(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into()),
        _ => None,
    }
}

/// Returns a token as the server knows it.
pub(super) fn token_text(token: Token) -> String {
    format!("{:032x}", token.number())
}

fn parse_token(text: &str) -> Option<Token> {
    let is_token = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_token.then(|| u128::from_str_radix(text, 16).ok().map(Token::new))?
}

/// Whole milliseconds, and at least one.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
