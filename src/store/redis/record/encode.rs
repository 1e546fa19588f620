//! Writes records.

use std::time::Duration;

use super::{
    fields::push_name,
    seal::Seal,
    stamp::{LINE, SENSITIVE, Stamp},
    tag_version::VersionedTag,
};
use crate::entry::{ByRoute, Content, Entry, Head, Windows};

/// Encodes an entry and the versions of its tags. The key is written as the server knows it, so that a
/// record of another namespace is not taken for one of this.
pub(crate) fn encode(
    entry: &Entry,
    namespace: &str,
    stamp: Stamp,
    tags: &[VersionedTag],
    seal: &Seal,
) -> Vec<u8> {
    let mut record = Vec::with_capacity(LINE + 64 + entry.weight() as usize);
    record.extend_from_slice(stamp.line().as_bytes());
    record.push(seal.kind());
    stamp.push(&mut record);
    let slot = entry.slot();
    push_u16(&mut record, namespace.len() + slot.key.as_str().len());
    record.extend_from_slice(namespace.as_bytes());
    record.extend_from_slice(slot.key.as_str().as_bytes());
    push_u32(&mut record, slot.variant.as_bytes().len());
    record.extend_from_slice(slot.variant.as_bytes());
    match entry.content() {
        Content::Response { head, body } => {
            match tags {
                [] => record.push(0),
                tags => push_tags(&mut record, tags),
            }
            push_head(&mut record, head);
            record.extend_from_slice(body);
        }
        Content::Pass => record.push(1),
        Content::Nominated(nominated) => {
            record.push(2);
            push_u16(&mut record, nominated.names().len());
            nominated.names().iter().for_each(|name| push_name(&mut record, name));
        }
    }
    seal.close(&mut record);
    record
}

fn push_tags(record: &mut Vec<u8>, tags: &[VersionedTag]) {
    record.push(3);
    push_u16(record, tags.len());
    for VersionedTag { tag, version } in tags {
        push_u16(record, tag.as_str().len());
        record.extend_from_slice(tag.as_str().as_bytes());
        record.extend_from_slice(&version.time.to_be_bytes());
        record.extend_from_slice(&version.random.to_be_bytes());
    }
}

fn push_head(record: &mut Vec<u8>, head: &Head) {
    record.extend_from_slice(&head.status.as_u16().to_be_bytes());
    let ByRoute { lifetime, while_revalidate, if_error } = head.by_route();
    let flags = [head.fields.has_inner_status(), lifetime, while_revalidate, if_error];
    record.push(flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
    let initial_age = u64::try_from(head.initial_age.as_millis()).unwrap_or(u64::MAX);
    record.extend_from_slice(&initial_age.to_be_bytes());
    let Windows { while_revalidate, if_error, to_validate } = head.windows();
    for window in [while_revalidate, if_error, to_validate] {
        // More seconds than these mean the same everywhere.
        push_u32(record, whole_seconds(window));
    }
    let mut names = Vec::new();
    head.fields.lines().for_each(|(name, _)| push_name(&mut names, name));
    push_u32(record, names.len());
    record.extend_from_slice(&names);
    for (_, value) in head.fields.lines() {
        let sensitive = if value.is_sensitive() { SENSITIVE } else { 0 };
        push_u32(record, value.len() | sensitive as usize);
        record.extend_from_slice(value.as_bytes());
    }
}

/// Appends a length or a count, which is never too large for it.
pub(super) fn push_u16(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
}

pub(super) fn push_u32(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

/// Rounds up, so that a window under a second is one.
fn whole_seconds(window: Duration) -> usize {
    let seconds = window.as_secs().saturating_add(u64::from(window.subsec_nanos() > 0));
    usize::try_from(seconds).unwrap_or(usize::MAX)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_window_under_a_second_is_not_zero() {
        let seconds = [0, 1, 999, 1000, 1001].map(Duration::from_millis).map(whole_seconds);
        assert_eq!(seconds, [0, 1, 1, 1, 2]);
        assert_eq!(whole_seconds(Duration::MAX) as u64, u64::MAX);
    }
}
