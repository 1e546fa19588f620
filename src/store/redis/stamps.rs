//! Stamps: what the server says of tags.
//!
//! A tag is a key of its own, whose value is when it was last invalidated, and a random number. A
//! record names the stamps that its tags had, and is dead once one of them has another: it was
//! invalidated, expired, was evicted or deleted. So nothing has to know what has a tag, and
//! `redis-cli DEL tower-support-cache:tag:account:A1` is a full invalidation too.
//!
//! The tags that a request tells are read before the right to fill is asked for, and are part of that
//! right: who reads the right beside other stamps than its own does not join the fill. The groups that
//! only the response tells are read before the commit, and have to be older than the right.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, RedisError, Value, cmd};

use super::{
    command::{Fault, STAMP, bulk},
    connection::Connection,
    link::Link,
    random,
};
use crate::{
    clock::{Instant, now},
    key::{Tag, Tags},
    metrics::operations::Operation,
};

/// By how much the clock of a server may lag behind this process's within a fill, in microseconds: it
/// may be slewed, but not set back.
const TOLERANCE: u64 = 20_000;

/// By how much the clocks of a cluster's nodes may differ, in microseconds.
const SKEW: u64 = 1_000_000;

/// When a tag was last invalidated, in microseconds of the server's clock, and a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TagStamp {
    pub(super) time: u64,
    pub(super) random: u64,
}

/// A tag and its stamp, as a record names it.
pub(super) type Stamped = (Tag, TagStamp);

/// When a right to fill was granted: by the server's clock in microseconds, and by this process's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) time: u64,
    pub(super) at: Instant,
}

/// The stamps that some tags have now; a tag without one is not among them.
#[derive(Debug, Default)]
pub(super) struct Stamps(Vec<Stamped>);

/// What the server answered to [`STAMP`].
struct Found {
    time: u64,
    stamps: Vec<TagStamp>,
}

impl TagStamp {
    /// Whether the tag was last invalidated before a right was granted, on clocks that differ by `slack`.
    fn is_older_than(self, granted: Granted, slack: u64) -> bool {
        self.time.saturating_add(slack) < granted.time
    }

    /// Reads what the scripts write, and nothing else.
    fn parse(text: &[u8]) -> Option<Self> {
        let (time, random) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let is_stamp = time.len() == 16
            && random.len() == 16
            && time.bytes().all(|byte| byte.is_ascii_digit())
            && random.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_stamp.then(|| {
            Some(Self { time: time.parse().ok()?, random: u64::from_str_radix(random, 16).ok()? })
        })?
    }
}

impl Granted {
    /// Returns what the server's clock shows some time after, in microseconds.
    fn time_after(self, elapsed: Duration) -> u64 {
        self.time.saturating_add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }
}

impl Stamps {
    /// Whether every stamp is still that of its tag.
    pub(super) fn confirm(&self, stamped: &[Stamped]) -> bool {
        stamped.iter().all(|stamped| self.0.contains(stamped))
    }

    /// Whether there is one for every tag.
    pub(super) fn are_of_all(&self, stamped: &[Stamped]) -> bool {
        stamped.iter().all(|(tag, _)| self.0.iter().any(|(known, _)| known == tag))
    }

    /// Returns the digest that a right to fill has in these stamps; `None` where a tag has none.
    pub(super) fn digest(&self, tags: &Tags) -> Option<String> {
        let find = |tag: &Tag| self.0.iter().find(|(known, _)| known == tag).cloned();
        tags.iter().map(find).collect::<Option<Vec<_>>>().map(|stamped| digest(&stamped))
    }
}

/// Digests stamps, in the order of their tags. Empty where there are none.
pub(super) fn digest(stamped: &[Stamped]) -> String {
    if stamped.is_empty() {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new();
    for (_, TagStamp { time, random }) in stamped {
        hasher.update(&time.to_be_bytes()).update(&random.to_be_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

impl Link {
    /// Reads the stamps of tags.
    pub(super) async fn read_stamps(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        tags: &[Tag],
    ) -> Result<Stamps, Fault> {
        if tags.is_empty() {
            return Ok(Stamps::default());
        }
        let mut read = cmd("MGET");
        read.arg(tags.iter().map(|tag| self.settings.tag_key(tag)).collect::<Vec<_>>());
        let answer = self.look_with(connection, &read).await?;
        let Value::Array(values) = answer else { return Err(Fault::Refused) };
        let stamps = values.into_iter().map(|value| TagStamp::parse(&bulk(value)?));
        let stamps = tags.iter().cloned().zip(stamps);
        Ok(Stamps(stamps.filter_map(|(tag, stamp)| Some((tag, stamp?))).collect()))
    }

    /// Returns the stamps of tags for a fill that is about to begin, and sees to it that there are
    /// any.
    pub(super) async fn stamps_for_a_fill(
        &self,
        connection: &Arc<Connection>,
        tags: &Tags,
    ) -> Result<Vec<Stamped>, Fault> {
        let asked = (Operation::Lease, self.settings.lookup_budget);
        let found = self.find_stamps(connection, tags, (asked, self.settings.lease)).await?;
        Ok(tags.iter().cloned().zip(found.stamps).collect())
    }

    /// Returns the stamps with which a record may be stored for some time: `known` are those that the
    /// fill began with. `Ok(None)` where a tag was invalidated since, or may have been.
    pub(super) async fn stamps_for_a_commit(
        &self,
        connection: &Arc<Connection>,
        (tags, retention): (&Tags, Duration),
        (known, granted): (&[Stamped], Granted),
    ) -> Result<Option<Vec<Stamped>>, Fault> {
        let asked = (Operation::Commit, self.settings.invalidate_budget);
        // Before it is asked: what passes until the answer was made counts for nothing.
        let earliest = granted.time_after(now().saturating_duration_since(granted.at));
        let found = self.find_stamps(connection, tags, (asked, retention)).await?;
        let slack = if connection.wire().is_one() { 0 } else { SKEW };
        let is_set_back = found.is_set_back(earliest, slack);
        let stamped = tags.iter().zip(found.stamps).map(|(tag, stamp)| {
            let is_good = match known.iter().find(|(known, _)| known == tag) {
                Some((_, known)) => *known == stamp,
                // One that was missing may have been removed to invalidate: it is of now.
                None => !is_set_back && stamp.is_older_than(granted, slack),
            };
            is_good.then(|| (tag.clone(), stamp))
        });
        Ok(stamped.collect())
    }

    async fn find_stamps(
        &self,
        connection: &Arc<Connection>,
        tags: &Tags,
        (asked, retention): ((Operation, Duration), Duration),
    ) -> Result<Found, Fault> {
        if tags.is_empty() {
            return Ok(Found { time: 0, stamps: Vec::new() });
        }
        let keys: Vec<_> = tags.iter().map(|tag| self.settings.tag_key(tag)).collect();
        let retention = super::command::millis(retention);
        let find = async {
            // A script may touch keys of one node only.
            let at_once = if connection.wire().is_one() { keys.len() } else { 1 };
            let mut found = Found { time: 0, stamps: Vec::with_capacity(keys.len()) };
            for keys in keys.chunks(at_once) {
                let arguments = |call: &mut Cmd| {
                    call.arg(retention);
                    call.arg(keys.iter().map(|_| random_text()).collect::<Vec<_>>());
                };
                let answer = STAMP.call_on(&mut connection.wire(), keys, arguments).await?;
                found.add(answer);
            }
            Ok::<_, RedisError>(found)
        };
        let found = self.ask(connection, asked, find).await?;
        if found.stamps.len() == tags.len() { Ok(found) } else { Err(Fault::Refused) }
    }
}

impl Found {
    /// Whether the server's clock shows less than it must by now. What was invalidated since the right
    /// was granted would then look older than that.
    fn is_set_back(&self, earliest: u64, slack: u64) -> bool {
        self.time.saturating_add(TOLERANCE + slack) < earliest
    }

    /// What is no stamp is left out.
    fn add(&mut self, answer: Value) {
        let Value::Array(parts) = answer else { return };
        let mut parts = parts.into_iter();
        let time = parts
            .next()
            .and_then(bulk)
            .and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
        self.time = time.unwrap_or(0);
        let stamps = parts.filter_map(|stamp| TagStamp::parse(&bulk(stamp)?));
        self.stamps.extend(stamps);
    }
}

/// Returns the random part of a stamp.
pub(super) fn random_text() -> String {
    format!("{:016x}", random() as u64)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_only_as_it_is_written() {
        let stamp = TagStamp { time: 1_795_000_000_000_000, random: 0xab };
        let text = "1795000000000000 00000000000000ab";
        assert_eq!(TagStamp::parse(text.as_bytes()), Some(stamp));
        for other in ["", "x", &text[1..], &text[..32], "1795000000000000  0000000000000ab"] {
            assert_eq!(TagStamp::parse(other.as_bytes()), None, "{other}");
        }
        let signed = text.replacen('1', "+", 1);
        assert_eq!(TagStamp::parse(signed.as_bytes()), None);
    }

    #[test]
    fn a_group_is_older_than_a_fill_only_if_no_clock_can_hide_that_it_is_not() {
        let granted = Granted { time: 5_000_000, at: now() };
        let is_older = |time, slack| TagStamp { time, random: 0 }.is_older_than(granted, slack);
        assert!(is_older(4_999_999, 0) && !is_older(5_000_000, 0));
        assert!(is_older(3_999_999, SKEW) && !is_older(4_000_000, SKEW));
        let earliest = granted.time_after(Duration::from_secs(3));
        let is_set_back = |time| Found { time, stamps: Vec::new() }.is_set_back(earliest, 0);
        assert!(!is_set_back(8_000_000) && !is_set_back(8_000_000 - TOLERANCE));
        assert!(is_set_back(7_900_000));
    }

    #[test]
    fn stamps_are_confirmed_only_if_all_of_them_are_the_same() {
        let stamp = |random| TagStamp { time: 1, random };
        let (a, b, c) = (Tag::new("a"), Tag::new("b"), Tag::new("c"));
        let stamps = Stamps(vec![(a.clone(), stamp(1)), (b.clone(), stamp(2))]);
        assert!(stamps.confirm(&[]) && stamps.confirm(&[(b.clone(), stamp(2))]));
        assert!(!stamps.confirm(&[(a.clone(), stamp(1)), (b.clone(), stamp(1))]));
        assert!(!stamps.confirm(&[(c.clone(), stamp(1))]));
        let tags = |tags: &[&Tag]| tags.iter().copied().cloned().collect::<Tags>();
        assert_eq!(stamps.digest(&tags(&[])).as_deref(), Some(""));
        let of_both = stamps.digest(&tags(&[&a, &b]));
        assert_eq!(of_both, Some(digest(&[(a.clone(), stamp(1)), (b.clone(), stamp(2))])));
        assert_ne!(of_both, Some(digest(&[(a.clone(), stamp(1)), (b, stamp(3))])));
        assert_eq!(stamps.digest(&tags(&[&a, &c])), None);
    }
}
