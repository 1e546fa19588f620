//! What a field of a key's hash holds: an entry, with everything it answers for.
//!
//! A record begins with a line of text of fixed width, which the scripts read. Everything after it is
//! binary, big-endian. Whatever is unexpected makes a record unreadable, which is a miss.
//!
//! ```text
//! TSC1 <incarnation> <generation> <stored> <fresh until> <kept until>\n
//! seal: kind, then a CRC-32 or a keyed digest of everything else
//! identity: the key, namespace included, and the variant
//! kind: a response (status, ages, fields, body), a `Pass`, or the names of nominated fields
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{
    entry::{Content, Entry, StoredHead},
    key::Slot,
    nominated::Nominated,
};

/// The first bytes of every record of this version.
const MAGIC: &[u8] = b"TSC1 ";

/// The length of the line of text. `command.rs` knows where its parts stand.
pub(super) const STAMP: usize = 77;

/// No fewer bytes encode a field of a head, so a count of fields that cannot fit is known at once.
const MIN_FIELD: usize = 7;

const SENSITIVE: u32 = 1 << 31;

/// The line of text: which server an entry was stored on, and when. Times are milliseconds of the
/// server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) incarnation: u64,
    pub(super) generation: u64,
    /// When the response was received.
    pub(super) stored: u64,
    pub(super) fresh_until: u64,
    /// Until when it may be kept for anything at all.
    pub(super) kept_until: u64,
}

/// Protects records from chance, or with a key from other writers.
#[derive(Clone, Copy)]
pub(super) enum Seal {
    Checksum,
    Keyed([u8; 32]),
}

/// Why a record is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Not ours, of another version, cut off, or changed.
    Corrupt,
    /// Of another slot: two variants have one digest, or somebody has moved it.
    Misplaced,
}

/// What a record holds.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) stamp: Stamp,
    pub(super) content: StoredContent,
}

/// An entry's content, before it is known when that was in this process's time.
#[derive(Debug)]
pub(super) enum StoredContent {
    Response(StoredHead, Bytes),
    Pass,
    Nominated(Nominated),
}

// ===== encoding =====

/// The key is kept as the server knows it, so that a record is not another namespace's either.
pub(super) fn encode(entry: &Entry, namespace: &str, stamp: Stamp, seal: &Seal) -> Vec<u8> {
    let mut rest = Vec::with_capacity(entry.weight() as usize);
    let slot = entry.slot();
    push_u16(&mut rest, namespace.len() + slot.key.as_str().len());
    rest.extend_from_slice(namespace.as_bytes());
    rest.extend_from_slice(slot.key.as_str().as_bytes());
    push_u32(&mut rest, slot.variant.as_bytes().len());
    rest.extend_from_slice(slot.variant.as_bytes());
    match entry.content() {
        Content::Response { head, body } => {
            rest.push(0);
            push_head(&mut rest, &head.to_stored());
            push_u32(&mut rest, body.len());
            rest.extend_from_slice(body);
        }
        Content::Pass => rest.push(1),
        Content::Nominated(nominated) => {
            rest.push(2);
            push_u16(&mut rest, nominated.names().len());
            for name in nominated.names() {
                push_u16(&mut rest, name.as_str().len());
                rest.extend_from_slice(name.as_str().as_bytes());
            }
        }
    }
    let stamp = stamp.encode();
    let mut record = Vec::with_capacity(stamp.len() + 1 + 32 + rest.len());
    record.extend_from_slice(stamp.as_bytes());
    seal.push(&mut record, &rest);
    record.extend_from_slice(&rest);
    record
}

impl Stamp {
    fn encode(&self) -> String {
        /// The most that thirteen digits hold, some three centuries from now.
        const LATEST: u64 = 9_999_999_999_999;
        format!(
            "TSC1 {:016x} {:012} {:013} {:013} {:013}\n",
            self.incarnation,
            self.generation.min(999_999_999_999),
            self.stored.min(LATEST),
            self.fresh_until.min(LATEST),
            self.kept_until.min(LATEST),
        )
    }

    fn decode(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.strip_prefix(MAGIC)?.strip_suffix(b"\n")?).ok()?;
        let mut parts = text.split(' ');
        let stamp = Self {
            incarnation: u64::from_str_radix(parts.next()?, 16).ok()?,
            generation: parts.next()?.parse().ok()?,
            stored: parts.next()?.parse().ok()?,
            fresh_until: parts.next()?.parse().ok()?,
            kept_until: parts.next()?.parse().ok()?,
        };
        (stamp.encode().as_bytes() == line).then_some(stamp)
    }
}

impl Seal {
    fn push(&self, record: &mut Vec<u8>, rest: &[u8]) {
        match self {
            Self::Checksum => {
                let sum = checksum(record, rest);
                record.push(0);
                record.extend_from_slice(&sum);
            }
            Self::Keyed(key) => {
                let digest = digest(key, record, rest);
                record.push(1);
                record.extend_from_slice(digest.as_bytes());
            }
        }
    }

    /// Takes the seal off what follows the stamp, and returns the rest if the seal is whole.
    fn open<'r>(&self, stamp: &[u8], sealed: &'r [u8]) -> Option<&'r [u8]> {
        match (self, sealed.split_first()?) {
            (Self::Checksum, (0, sealed)) => {
                let (sum, rest) = sealed.split_first_chunk::<4>()?;
                (checksum(stamp, rest) == *sum).then_some(rest)
            }
            (Self::Keyed(key), (1, sealed)) => {
                let (sum, rest) = sealed.split_first_chunk::<32>()?;
                // Compared in constant time.
                (digest(key, stamp, rest) == *sum).then_some(rest)
            }
            _ => None,
        }
    }
}

fn checksum(stamp: &[u8], rest: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(stamp);
    hasher.update(rest);
    hasher.finalize().to_be_bytes()
}

fn digest(key: &[u8; 32], stamp: &[u8], rest: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_keyed(key).update(stamp).update(rest).finalize()
}

fn push_head(rest: &mut Vec<u8>, head: &StoredHead) {
    rest.extend_from_slice(&head.status.as_u16().to_be_bytes());
    rest.push(u8::from(head.has_inner_status));
    let initial_age = u64::try_from(head.initial_age.as_millis()).unwrap_or(u64::MAX);
    rest.extend_from_slice(&initial_age.to_be_bytes());
    push_u16(rest, head.fields.len());
    for (name, value) in &head.fields {
        push_u16(rest, name.as_str().len());
        let sensitive = if value.is_sensitive() { SENSITIVE } else { 0 };
        push_u32(rest, value.len() | sensitive as usize);
        rest.extend_from_slice(name.as_str().as_bytes());
        rest.extend_from_slice(value.as_bytes());
    }
}

/// A name, a key or a count is never as long as this.
fn push_u16(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
}

fn push_u32(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

// ===== decoding =====

/// Reads what was found for a slot. The body and the values are slices of `record`.
pub(super) fn decode(
    record: &Bytes,
    namespace: &str,
    slot: &Slot,
    seal: &Seal,
) -> Result<Record, Unreadable> {
    let (line, sealed) = record.split_at_checked(STAMP).ok_or(Unreadable::Corrupt)?;
    let stamp = Stamp::decode(line).ok_or(Unreadable::Corrupt)?;
    let rest = seal.open(line, sealed).ok_or(Unreadable::Corrupt)?;
    let mut reader = Reader { record, rest };
    if !reader.is_for(namespace, slot).ok_or(Unreadable::Corrupt)? {
        return Err(Unreadable::Misplaced);
    }
    let content = reader.content().ok_or(Unreadable::Corrupt)?;
    let is_at_end = reader.rest.is_empty();
    if is_at_end { Ok(Record { stamp, content }) } else { Err(Unreadable::Corrupt) }
}

/// Reads a record from front to end. A length is compared with what is there before anything is made
/// of it.
struct Reader<'r> {
    record: &'r Bytes,
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    fn is_for(&mut self, namespace: &str, slot: &Slot) -> Option<bool> {
        let length = self.u16()?;
        let key = self.take(length)?;
        let length = self.u32()?;
        let variant = self.take(length)?;
        let key = key.strip_prefix(namespace.as_bytes());
        let is_key = key.is_some_and(|key| key == slot.key.as_str().as_bytes());
        Some(is_key && variant == slot.variant.as_bytes())
    }

    fn content(&mut self) -> Option<StoredContent> {
        match self.array::<1>()?[0] {
            0 => {
                let head = self.head()?;
                let length = self.u32()?;
                let body = self.take(length)?;
                Some(StoredContent::Response(head, self.record.slice_ref(body)))
            }
            1 => Some(StoredContent::Pass),
            2 => {
                let count = self.u16()?;
                let names = (0..count).map(|_| {
                    let length = self.u16()?;
                    HeaderName::from_bytes(self.take(length)?).ok()
                });
                Some(StoredContent::Nominated(Nominated::new(names.collect::<Option<_>>()?)))
            }
            _ => None,
        }
    }

    fn head(&mut self) -> Option<StoredHead> {
        let status = StatusCode::from_u16(u16::from_be_bytes(self.array()?)).ok()?;
        let [has_inner_status] = self.array()?;
        let initial_age = Duration::from_millis(u64::from_be_bytes(self.array()?));
        let count = self.u16()?;
        if count > self.rest.len() / MIN_FIELD {
            return None;
        }
        let mut fields = HeaderMap::try_with_capacity(count).ok()?;
        for _ in 0..count {
            let name = self.u16()?;
            let value = self.u32()?;
            let (length, sensitive) = (value & !(SENSITIVE as usize), value & SENSITIVE as usize);
            let name = HeaderName::from_bytes(self.take(name)?).ok()?;
            let value = self.record.slice_ref(self.take(length)?);
            let mut value = HeaderValue::from_maybe_shared(value).ok()?;
            value.set_sensitive(sensitive != 0);
            fields.try_append(name, value).ok()?;
        }
        let has_inner_status = has_inner_status == 1;
        Some(StoredHead { status, fields, has_inner_status, initial_age })
    }

    fn u16(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn u32(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.array()?)).ok()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    fn take(&mut self, length: usize) -> Option<&'r [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}
