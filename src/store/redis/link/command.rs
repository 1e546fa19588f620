//! Commands, their replies, and the meaning of errors.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};

use crate::{
    key::Token,
    store::{Holder, redis::record::VariantDigest},
};

/// Reason why the server did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkFault {
    /// No reply within the budget.
    TimedOut,
    /// The connection is gone, or leads to a server that may not be asked any more.
    Lost,
    /// The primary of the key is gone, in a cluster whose others are there.
    Away,
    /// The key holds a value of another kind than this crate stores.
    Foreign,
    /// The server refused, or its reply has an unexpected form.
    Refused,
}

impl LinkFault {
    pub(super) fn of(error: &RedisError) -> Self {
        // A demoted primary keeps its connections open and answers reads.
        let is_elsewhere = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        if error.kind() == ErrorKind::ClusterConnectionNotFound {
            Self::Away
        } else if is_elsewhere || error.is_unrecoverable_error() || error.is_io_error() {
            Self::Lost
        } else if error.code() == Some("WRONGTYPE") {
            Self::Foreign
        } else {
            Self::Refused
        }
    }
}

/// Field that a lookup asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// Record in force.
    Record,
    /// Number of that record.
    Number,
}

/// Asks for the one field that a hit needs.
pub(super) fn lookup(key: &str, sought: Sought, digest: &VariantDigest) -> Cmd {
    let record = field(*b"v:", digest);
    let mut number = [b'n'; 35];
    let field = match sought {
        Sought::Record => &record[..],
        Sought::Number => {
            // Its name begins as the record's does: scripts that remove records remove it too.
            number[..record.len()].copy_from_slice(&record);
            &number
        }
    };
    // Every hit sends it, so its buffers do not grow step by step.
    let mut lookup = Cmd::with_capacity(3, 4 + key.len() + field.len());
    lookup.arg("HGET").arg(key).arg(field);
    lookup
}

/// Asks for the rest of a variant's fields, where no record is in force.
pub(crate) fn lookup_rest(key: &str, digest: &VariantDigest) -> Cmd {
    let mut lookup = cmd("HMGET");
    lookup.arg(key).arg(&field(*b"s:", digest)).arg(&field(*b"l:", digest));
    lookup
}

/// Asks for all of a variant's fields at once, where a hit is not to be expected.
pub(crate) fn lookup_all(key: &str, digest: &VariantDigest) -> Cmd {
    let mut lookup = lookup_rest(key, digest);
    lookup.arg(&field(*b"v:", digest));
    lookup
}

fn field(kind: [u8; 2], digest: &VariantDigest) -> [u8; 34] {
    let mut field = [0; 34];
    field[..2].copy_from_slice(&kind);
    field[2..].copy_from_slice(digest);
    field
}

/// Fields of a variant besides the record in force.
pub(crate) struct RestOfVariant {
    pub(crate) outdated: Option<OutdatedRecord>,
    pub(crate) lease: Option<HeldLease>,
}

/// Record that was softly invalidated.
pub(crate) struct OutdatedRecord {
    /// Milliseconds of the server's clock.
    pub(crate) since: u64,
    pub(crate) record: Bytes,
}

/// Lease as the hash holds it.
pub(crate) struct HeldLease {
    pub(crate) holder: Holder,
    /// Milliseconds of the server's clock.
    pub(crate) expiry: u64,
    /// Digest of the versions that its tags had; empty without tags.
    pub(crate) tag_versions: String,
}

impl RestOfVariant {
    /// Parses the reply to [`lookup_rest`].
    pub(crate) fn parse(reply: Value) -> Option<Self> {
        let Value::Array(fields) = reply else { return None };
        let [outdated, lease] = <[Value; 2]>::try_from(fields).ok()?;
        Some(Self {
            outdated: bulk(outdated).and_then(|field| OutdatedRecord::parse(&field)),
            lease: bulk(lease).and_then(|lease| HeldLease::parse(&lease)),
        })
    }

    /// Parses the reply to [`lookup_all`], with the record in force.
    pub(crate) fn parse_with_record(reply: Value) -> Option<(Option<Bytes>, Self)> {
        let Value::Array(mut fields) = reply else { return None };
        let record = fields.pop().and_then(bulk);
        Some((record, Self::parse(Value::Array(fields))?))
    }
}

impl OutdatedRecord {
    fn parse(field: &Bytes) -> Option<Self> {
        let (since, record) = field.split_at_checked(13)?;
        let since = std::str::from_utf8(since).ok()?.parse().ok()?;
        Some(Self { since, record: field.slice_ref(record.strip_prefix(b" ")?) })
    }
}

impl HeldLease {
    fn parse(text: &[u8]) -> Option<Self> {
        let (token, rest) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let token = parse_token(token)?;
        let (rest, holder) = match rest.strip_suffix('!') {
            Some(rest) => (rest, Holder::Unsettled(token)),
            None => (rest, Holder::Fill(token)),
        };
        let (expiry, tag_versions) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { holder, expiry: expiry.parse().ok()?, tag_versions: tag_versions.to_owned() })
    }
}

/// Reply to a request for a lease.
pub(crate) enum LeaseReply {
    /// Granted, at a time in microseconds of the server's clock.
    Granted(u64),
    Held(Holder),
    Found(Bytes),
    Unsettled,
}

impl LeaseReply {
    pub(crate) fn parse(reply: Value) -> Option<Self> {
        let Value::Array(parts) = reply else { return None };
        let mut parts = parts.into_iter();
        match parts.next()? {
            Value::Int(0) => {
                let time = bulk(parts.next()?)?;
                Some(Self::Granted(std::str::from_utf8(&time).ok()?.parse().ok()?))
            }
            Value::Int(kind @ (1 | 4)) => {
                let token = bulk(parts.next()?)?;
                let token = parse_token(std::str::from_utf8(&token).ok()?)?;
                let holder = if kind == 1 { Holder::Fill } else { Holder::Unsettled };
                Some(Self::Held(holder(token)))
            }
            Value::Int(2) => Some(Self::Found(bulk(parts.next()?)?)),
            Value::Int(3) => Some(Self::Unsettled),
            _ => None,
        }
    }
}

/// Reply to a process that has entered its heartbeat.
pub(super) struct EnteredHeartbeat {
    /// Zero while it is unknown.
    pub(super) epoch: u64,
    /// Time for which it stays entered.
    pub(super) left: Duration,
    /// Longest heartbeat of all processes, in milliseconds.
    pub(super) longest: u64,
}

/// Register of all heartbeats, at the moment at which an epoch began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register {
    /// Milliseconds of the longest; zero where the register is missing.
    pub(super) longest: u64,
    /// Milliseconds since a process may have been lost from it.
    pub(super) age: u64,
}

impl EnteredHeartbeat {
    pub(super) fn parse(reply: Value) -> Option<Self> {
        let (epoch, left, longest) = redis::from_redis_value::<(String, i64, u64)>(reply).ok()?;
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Some(Self { epoch: parse_epoch(&epoch)?, left, longest })
    }
}

/// Parses the reply to [`BEGIN_EPOCH`](super::scripts::BEGIN_EPOCH): the epoch, zero if there is none, and
/// the register.
pub(super) fn parse_begun_epoch(reply: Value) -> Option<(u64, Register)> {
    let (epoch, longest, age) = redis::from_redis_value::<(String, u64, u64)>(reply).ok()?;
    Some((parse_epoch(&epoch)?, Register { longest, age }))
}

fn parse_epoch(text: &str) -> Option<u64> {
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 16).ok() }
}

/// Returns the bytes of a string without a copy.
pub(crate) fn bulk(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into()),
        _ => None,
    }
}

/// Returns the text by which the server knows a token.
pub(crate) fn token_text(token: Token) -> String {
    format!("{:032x}", token.number())
}

fn parse_token(text: &str) -> Option<Token> {
    let is_token = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_token.then(|| u128::from_str_radix(text, 16).ok().map(Token::new))?
}

/// Returns whole milliseconds, and at least one.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_from_no_other() {
        for number in [0, 1, u128::MAX / 3, u128::MAX] {
            let token = Token::new(number);
            assert_eq!(token.number(), number);
            assert_eq!(parse_token(&token_text(token)), Some(token));
        }
        for text in ["", "1", &"g".repeat(32), &format!("+{}", "1".repeat(31)), &"1".repeat(33)] {
            assert_eq!(parse_token(text), None, "{text}");
        }
    }
}
