//! Writes records.

use std::time::Duration;

use super::{
    compression::compress,
    fields::push_name,
    seal::{RecordPlace, Seal},
    stamp::{CODED, COMPRESSED, LINE, Stamp},
    tag_version::VersionedTag,
};
use crate::entry::{ByRoute, CodedBody, Content, Entry, Head, Windows};

/// Form in which records are written.
#[derive(Clone)]
pub(crate) struct RecordForm {
    pub(crate) seal: Seal,
    /// Bytes of content from which on it is compressed.
    pub(crate) compress_from: usize,
}

/// Encodes an entry and the versions of its tags. The key is sealed as the server knows it, so that a
/// record of another namespace is not taken for one of this. `None` if it cannot be encrypted.
pub(crate) fn encode(
    entry: &Entry,
    namespace: &str,
    stamp: Stamp,
    tags: &[VersionedTag],
    form: &RecordForm,
) -> Option<Vec<u8>> {
    let mut record = Vec::with_capacity(LINE + 64 + entry.weight() as usize);
    record.extend_from_slice(stamp.line().as_bytes());
    record.push(form.seal.form());
    if let Content::Response { coded, .. } = entry.content()
        && !coded.is_empty()
    {
        record[LINE] |= CODED;
        push_coded(&mut record, coded);
    }
    let start = record.len();
    record.extend_from_slice(&stamp.number.to_be_bytes());
    match entry.content() {
        Content::Response { head, body, .. } => {
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
            push_length(&mut record, nominated.names().len());
            nominated.names().iter().for_each(|name| push_name(&mut record, name));
        }
    }
    let content = &record[start..];
    if content.len() >= form.compress_from
        && let Some(compressed) = compress(content)
    {
        record.truncate(start);
        record[LINE] |= COMPRESSED;
        record.extend_from_slice(&compressed);
    }
    form.seal.close(record, LINE + 1, &RecordPlace::new(namespace, entry.slot()))
}

/// Appends the coded forms. They stand before the rest, which may be compressed: they are not once more.
fn push_coded(record: &mut Vec<u8>, coded: &[CodedBody]) {
    push_length(record, coded.len());
    for CodedBody { coding, body } in coded {
        let name = coding.as_str().as_bytes();
        push_length(record, name.len());
        record.extend_from_slice(name);
        push_length(record, body.len());
        record.extend_from_slice(body);
    }
}

fn push_tags(record: &mut Vec<u8>, tags: &[VersionedTag]) {
    record.push(3);
    push_length(record, tags.len());
    for VersionedTag { tag, version } in tags {
        push_length(record, tag.as_str().len());
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
    push_number(record, u64::try_from(head.initial_age.as_millis()).unwrap_or(u64::MAX));
    let Windows { while_revalidate, if_error, to_validate } = head.windows();
    for window in [while_revalidate, if_error, to_validate] {
        // More seconds than these mean the same everywhere.
        push_number(record, whole_seconds(window).min(u32::MAX.into()));
    }
    let mut names = Vec::new();
    head.fields.lines().for_each(|(name, _)| push_name(&mut names, name));
    push_length(record, names.len());
    record.extend_from_slice(&names);
    for (_, value) in head.fields.lines() {
        push_length(record, value.len() << 1 | usize::from(value.is_sensitive()));
        record.extend_from_slice(value.as_bytes());
    }
}

/// Appends a length or a count.
pub(super) fn push_length(bytes: &mut Vec<u8>, length: usize) {
    push_number(bytes, length as u64);
}

/// Appends a number, seven bits in each byte, the lowest first (LEB128).
pub(super) fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Rounds up, so that a window under a second is one.
fn whole_seconds(window: Duration) -> u64 {
    window.as_secs().saturating_add(u64::from(window.subsec_nanos() > 0))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_window_under_a_second_is_not_zero() {
        let seconds = [0, 1, 999, 1000, 1001].map(Duration::from_millis).map(whole_seconds);
        assert_eq!(seconds, [0, 1, 1, 1, 2]);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
