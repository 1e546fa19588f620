//! Slots of a cluster: the primary of each.

use redis::{RedisError, Value};

/// Number of slots in every cluster.
const SLOTS: usize = 16_384;

/// Index of no primary.
const NOBODY: u16 = u16::MAX;

/// Address of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeAddress {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Owners of the slots, as one node reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// In order.
    pub(super) primaries: Vec<NodeAddress>,
    /// Indices of primaries, by slot.
    owners: Box<[u16]>,
}

impl NodeAddress {
    /// Parses the address in a redirection. An empty host is that of the node that has sent it
    /// (<https://redis.io/docs/latest/commands/cluster-slots/>).
    pub(super) fn parse(text: &str, sender: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::at(host, port.parse().ok()?, sender))
    }

    fn at(host: &str, port: u16, sender: &Self) -> Self {
        let host = if host.is_empty() { &sender.host } else { host };
        Self { host: host.to_owned(), port }
    }
}

impl SlotMap {
    /// Parses the reply of a node to `CLUSTER SLOTS`.
    pub(super) fn parse(reply: Value, sender: &NodeAddress) -> Result<Self, RedisError> {
        let ranges: Vec<Vec<Value>> = redis::from_redis_value(reply.extract_error()?)?;
        let mut owned = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut parts = range.into_iter();
            let mut part = || parts.next().unwrap_or(Value::Nil);
            let [first, last]: [usize; 2] =
                [redis::from_redis_value(part())?, redis::from_redis_value(part())?];
            // The primary; replicas follow. After host and port there are its name and more.
            let node: Vec<Value> = redis::from_redis_value(part())?;
            let mut node = node.into_iter();
            let host: Option<String> = redis::from_redis_value(node.next().unwrap_or(Value::Nil))?;
            let port = redis::from_redis_value(node.next().unwrap_or(Value::Nil))?;
            let address = NodeAddress::at(&host.unwrap_or_default(), port, sender);
            owned.push((first..=last.min(SLOTS - 1), address));
        }
        let mut primaries: Vec<_> = owned.iter().map(|(_, address)| address.clone()).collect();
        primaries.sort();
        primaries.dedup();
        let mut owners = vec![NOBODY; SLOTS].into_boxed_slice();
        for (range, address) in owned {
            let index = primaries.binary_search(&address).unwrap_or(usize::MAX);
            range.for_each(|slot| owners[slot] = u16::try_from(index).unwrap_or(NOBODY));
        }
        Ok(Self { primaries, owners })
    }

    /// Returns the index of the primary of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        self.owners
            .get(usize::from(slot))
            .filter(|index| **index != NOBODY)
            .map(|it| usize::from(*it))
    }

    /// Returns the map after a slot has moved.
    pub(super) fn with_owner(&self, slot: u16, index: usize) -> Self {
        let mut moved = self.clone();
        moved.owners[usize::from(slot)] = u16::try_from(index).unwrap_or(NOBODY);
        moved
    }

    /// Returns the primaries that have lost a slot since another map with the same primaries.
    pub(super) fn losers_since(&self, before: &Self) -> Vec<usize> {
        let each = before.owners.iter().zip(&self.owners);
        let mut losers: Vec<_> = each
            .filter(|(before, now)| before != now && **before != NOBODY)
            .map(|(before, _)| usize::from(*before))
            .collect();
        losers.sort_unstable();
        losers.dedup();
        losers
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> NodeAddress {
        NodeAddress { host: host.to_owned(), port }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node =
            vec![host, Value::Int(port), Value::SimpleString("id".into()), Value::Array(vec![])];
        let replica = vec![Value::SimpleString("replica".into()), Value::Int(1)];
        let parts =
            [Value::Int(first), Value::Int(last), Value::Array(node), Value::Array(replica)];
        Value::Array(parts.to_vec())
    }

    /// Replies of `CLUSTER SLOTS` as its page describes them.
    #[test]
    fn slots_are_those_of_their_primaries_and_an_unknown_host_is_that_of_the_sender() {
        let host = |host: &str| Value::BulkString(host.into());
        let reply = Value::Array(vec![
            range(0, 5, host("b"), 1),
            range(8, 16_383, host("a"), 2),
            range(6, 6, Value::Nil, 3),
        ]);
        let map = SlotMap::parse(reply, &address("sender", 9)).expect("a map");
        assert_eq!(map.primaries, [address("a", 2), address("b", 1), address("sender", 3)]);
        for (slot, owner) in
            [(0, Some(1)), (5, Some(1)), (6, Some(2)), (7, None), (16_383, Some(0))]
        {
            assert_eq!(map.owner(slot), owner, "{slot}");
        }
        assert!(SlotMap::parse(Value::Okay, &address("sender", 9)).is_err());
    }

    #[test]
    fn who_has_lost_a_slot_is_known_and_who_has_only_got_one_is_not_named() {
        let host = |host: &str| Value::BulkString(host.into());
        let reply = Value::Array(vec![range(0, 5, host("a"), 1), range(6, 9, host("b"), 2)]);
        let map = SlotMap::parse(reply, &address("", 0)).expect("a map");
        let moved = map.with_owner(7, 0);
        assert_eq!((moved.owner(7), moved.owner(6)), (Some(0), Some(1)));
        assert_eq!(moved.losers_since(&map), [1]);
        assert_eq!(map.with_owner(100, 0).losers_since(&map), [0_usize; 0]);
    }

    #[test]
    fn a_redirection_names_an_address() {
        let sender = address("::1", 7000);
        assert_eq!(NodeAddress::parse("10.0.0.1:7001", &sender), Some(address("10.0.0.1", 7001)));
        assert_eq!(NodeAddress::parse("fe80::1:7001", &sender), Some(address("fe80::1", 7001)));
        assert_eq!(NodeAddress::parse(":7001", &sender), Some(address("::1", 7001)));
        assert_eq!(NodeAddress::parse("nowhere", &sender), None);
    }
}
