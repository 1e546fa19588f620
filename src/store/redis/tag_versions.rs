//! Versions of tags at the server.
//!
//! A tag is a key of its own, whose value is its version: when it was last invalidated, and a random
//! number. A record names the versions that its tags had, and is dead once one of them has another: it was
//! invalidated, expired, was evicted or deleted. A soft invalidation keeps the versions before beside the new
//! one, whose records are stale since then. So the server needs no list of the records that have a
//! tag, and `redis-cli DEL tower-support-cache:tag:account:A1` is a full invalidation too.
//!
//! The versions of tags that follow from the request are read before the lease is asked for, and are part
//! of it: a fill that reads the lease beside other versions than its own does not join it. The
//! groups that only the response names are read before the commit, and have to be older than the lease.

use std::{borrow::Cow, sync::Arc, time::Duration};

use redis::{Cmd, RedisError, Value, cmd};

use super::{
    link::{Connection, Link, LinkFault, TAG_VERSIONS, bulk, millis, random_text},
    record::{Standing, TagStamp, TagVersion, VersionedTag},
};
use crate::{
    clock::{Instant, now},
    entry::Proofs,
    key::{Tag, Tags},
    metrics::operations::Operation,
};

/// Microseconds by which a server's clock may fall behind this process's within a fill: it may be slewed,
/// but not set back.
const TOLERANCE: u64 = 20_000;

/// Difference in microseconds that the clocks of a cluster's nodes may have.
const SKEW: u64 = 1_000_000;

/// Time at which a lease was granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct GrantTime {
    /// Microseconds of the server's clock.
    pub(super) server: u64,
    pub(super) local: Instant,
}

/// Versions that tags have now, and had; a tag without one is missing.
#[derive(Debug, Default)]
pub(super) struct TagVersions {
    stamped: Vec<StampedTag>,
    /// Proofs of the connections that they were read over.
    pub(super) proofs: Proofs,
}

/// Tag with its stamp.
#[derive(Debug)]
struct StampedTag {
    tag: Tag,
    stamp: TagStamp,
}

/// Reply to [`TAG_VERSIONS`].
#[derive(Debug, Default)]
struct VersionsReply {
    /// Microseconds of the server's clock.
    time: u64,
    versions: Vec<TagVersion>,
    /// Time for which nothing may be stored for one of the tags.
    unsettled: Duration,
}

impl GrantTime {
    /// Returns the time of the server's clock some time later, in microseconds.
    fn server_time_after(self, elapsed: Duration) -> u64 {
        self.server.saturating_add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// Returns whether a tag was last invalidated before, on clocks that differ by `slack`.
    fn is_after(self, version: TagVersion, slack: u64) -> bool {
        version.time.saturating_add(slack) < self.server
    }
}

impl TagVersions {
    /// Returns the standing of what had these versions of its tags.
    pub(super) fn standing(&self, tags: &[VersionedTag]) -> Standing {
        let each = tags.iter().map(|VersionedTag { tag, version }| {
            self.stamp(tag).map_or(Standing::Dead, |stamp| stamp.standing(*version))
        });
        each.fold(Standing::InForce, Standing::and)
    }

    /// Returns whether there is a version of every tag.
    pub(super) fn cover(&self, tags: &[VersionedTag]) -> bool {
        tags.iter().all(|tag| self.stamp(&tag.tag).is_some())
    }

    /// Returns the digest that a lease has with these versions; `None` if a tag has none.
    pub(super) fn digest(&self, tags: &Tags) -> Option<String> {
        let find = |tag: &Tag| {
            let version = self.stamp(tag)?.version();
            Some(VersionedTag { tag: tag.clone(), version })
        };
        tags.iter().map(find).collect::<Option<Vec<_>>>().map(|tags| digest(&tags))
    }

    fn stamp(&self, tag: &Tag) -> Option<&TagStamp> {
        self.stamped.iter().find(|known| known.tag == *tag).map(|known| &known.stamp)
    }
}

/// Digests versions, in the order of their tags. Empty without any.
pub(super) fn digest(tags: &[VersionedTag]) -> String {
    if tags.is_empty() {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new();
    for VersionedTag { version: TagVersion { time, random }, .. } in tags {
        hasher.update(&time.to_be_bytes()).update(&random.to_be_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Reads the versions of tags.
pub(super) async fn read(
    link: &Link,
    connection: &Arc<Connection>,
    tags: &[Tag],
) -> Result<TagVersions, LinkFault> {
    if tags.is_empty() {
        return Ok(TagVersions::default());
    }
    let keys: Vec<_> = tags.iter().map(|tag| link.settings.tag_key(tag)).collect();
    let mut proofs = Proofs::new();
    for key in &keys {
        // Before they are read.
        proofs.extend(connection.proof(|| Cow::from(key))?);
    }
    let mut read = cmd("MGET");
    read.arg(keys);
    let reply = link.look(connection, &read).await?;
    let Value::Array(values) = reply else { return Err(LinkFault::Refused) };
    let stamps = values.into_iter().map(|value| TagStamp::parse(&bulk(value)?));
    let stamped = tags.iter().zip(stamps);
    let stamped =
        stamped.filter_map(|(tag, stamp)| Some(StampedTag { tag: tag.clone(), stamp: stamp? }));
    Ok(TagVersions { stamped: stamped.collect(), proofs })
}

/// Tags of a fill that is about to begin.
pub(super) struct ForFill {
    pub(super) known: Vec<VersionedTag>,
    /// Time for which nothing may be stored for one of them.
    pub(super) unsettled: Duration,
}

/// Returns the versions of tags for a fill that is about to begin. Missing ones are set.
pub(super) async fn for_fill(
    link: &Link,
    connection: &Arc<Connection>,
    tags: &Tags,
) -> Result<ForFill, LinkFault> {
    let retention = link.settings.lease;
    let reply = find(link, connection, Operation::Lease, tags, retention).await?;
    Ok(ForFill { unsettled: reply.unsettled, known: reply.of(tags).collect() })
}

/// Returns the versions with which a record may be stored for some time: `known` are those that the
/// fill began with. `Ok(None)` if a tag was invalidated since, or may have been.
pub(super) async fn for_commit(
    link: &Link,
    connection: &Arc<Connection>,
    tags: &Tags,
    retention: Duration,
    known: &[VersionedTag],
    granted: GrantTime,
) -> Result<Option<Vec<VersionedTag>>, LinkFault> {
    // Before it is asked: the time that the reply takes does not count.
    let earliest = granted.server_time_after(now().saturating_duration_since(granted.local));
    let reply = find(link, connection, Operation::Commit, tags, retention).await?;
    let slack = if connection.transport().is_one() { 0 } else { SKEW };
    if !reply.unsettled.is_zero() {
        return Ok(None);
    }
    let is_set_back = reply.is_set_back(earliest, slack);
    let is_good = |tag: &VersionedTag| match known.iter().find(|known| known.tag == tag.tag) {
        Some(known) => known == tag,
        // A missing one may have been removed to invalidate, and is of now.
        None => !is_set_back && granted.is_after(tag.version, slack),
    };
    Ok(reply.of(tags).map(|tag| is_good(&tag).then_some(tag)).collect())
}

async fn find(
    link: &Link,
    connection: &Arc<Connection>,
    operation: Operation,
    tags: &Tags,
    retention: Duration,
) -> Result<VersionsReply, LinkFault> {
    let mut reply = VersionsReply::default();
    if tags.is_empty() {
        return Ok(reply);
    }
    let keys: Vec<_> = tags.iter().map(|tag| link.settings.tag_key(tag)).collect();
    let calls = async {
        // A script may touch keys of one node only.
        let at_once = if connection.transport().is_one() { keys.len() } else { 1 };
        for keys in keys.chunks(at_once) {
            let arguments = |call: &mut Cmd| {
                call.arg(millis(retention));
                call.arg(keys.iter().map(|_| random_text()).collect::<Vec<_>>());
            };
            reply.add(TAG_VERSIONS.call_on(&mut connection.transport(), keys, arguments).await?);
        }
        Ok::<_, RedisError>(())
    };
    link.ask(connection, operation, calls).await?;
    if reply.versions.len() == tags.len() { Ok(reply) } else { Err(LinkFault::Refused) }
}

impl VersionsReply {
    /// Returns the tags with the versions.
    fn of(self, tags: &Tags) -> impl Iterator<Item = VersionedTag> {
        let tags = tags.iter().cloned().zip(self.versions);
        tags.map(|(tag, version)| VersionedTag { tag, version })
    }

    /// Returns whether the server's clock shows less than it must by now. A tag that was invalidated since
    /// the grant would then look older than it.
    fn is_set_back(&self, earliest: u64, slack: u64) -> bool {
        self.time.saturating_add(TOLERANCE + slack) < earliest
    }

    /// Adds the reply of one call. Values that are no versions are left out.
    fn add(&mut self, reply: Value) {
        let Value::Array(parts) = reply else { return };
        let mut parts = parts.into_iter();
        let time = parts
            .next()
            .and_then(bulk)
            .and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
        self.time = time.unwrap_or(0);
        for stamp in parts.filter_map(|stamp| TagStamp::parse(&bulk(stamp)?)) {
            let until = stamp.unsettled_until.saturating_mul(1000);
            let left = Duration::from_micros(until.saturating_sub(self.time));
            self.unsettled = self.unsettled.max(left);
            self.versions.push(stamp.version());
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_older_than_a_fill_only_if_no_clock_can_hide_that_it_is_not() {
        let granted = GrantTime { server: 5_000_000, local: now() };
        let is_older = |time, slack| granted.is_after(TagVersion { time, random: 0 }, slack);
        assert!(is_older(4_999_999, 0) && !is_older(5_000_000, 0));
        assert!(is_older(3_999_999, SKEW) && !is_older(4_000_000, SKEW));
        let earliest = granted.server_time_after(Duration::from_secs(3));
        let is_set_back =
            |time| VersionsReply { time, ..VersionsReply::default() }.is_set_back(earliest, 0);
        assert!(!is_set_back(8_000_000) && !is_set_back(8_000_000 - TOLERANCE));
        assert!(is_set_back(7_900_000));
    }

    #[test]
    fn versions_are_confirmed_only_if_all_of_them_are_the_same() {
        let versioned = |tag: &Tag, random| VersionedTag {
            tag: tag.clone(),
            version: TagVersion { time: 1, random },
        };
        let stamped = |tag: &Tag, texts: &str| StampedTag {
            tag: tag.clone(),
            stamp: TagStamp::parse(texts.as_bytes()).expect("versions"),
        };
        let (a, b, c) = (Tag::new("a"), Tag::new("b"), Tag::new("c"));
        let [one, two, new] =
            [(1, 1), (1, 2), (7000, 7)].map(|(time, random)| format!("{time:016} {random:016x}"));
        let of = |stamped| TagVersions { stamped, proofs: Proofs::new() };
        let versions = of(vec![stamped(&a, &one), stamped(&b, &two)]);
        let standing = |tags: &[VersionedTag]| versions.standing(tags);
        assert_eq!(standing(&[]), Standing::InForce);
        assert_eq!(standing(&[versioned(&b, 2)]), Standing::InForce);
        assert_eq!(standing(&[versioned(&a, 1), versioned(&b, 1)]), Standing::Dead);
        assert_eq!(standing(&[versioned(&c, 1)]), Standing::Dead);
        let softened = of(vec![stamped(&a, &one), stamped(&b, &format!("{new} {two}"))]);
        let both = [versioned(&a, 1), versioned(&b, 2)];
        assert_eq!(softened.standing(&both), Standing::Outdated { since: 7 });
        let tags = |tags: &[&Tag]| tags.iter().copied().cloned().collect::<Tags>();
        assert_eq!(versions.digest(&tags(&[])).as_deref(), Some(""));
        let of_both = versions.digest(&tags(&[&a, &b]));
        assert_eq!(of_both, Some(digest(&[versioned(&a, 1), versioned(&b, 2)])));
        assert_ne!(of_both, Some(digest(&[versioned(&a, 1), versioned(&b, 3)])));
        assert_eq!(versions.digest(&tags(&[&a, &c])), None);
    }
}
