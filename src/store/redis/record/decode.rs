//! Reads records.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::{
    fields::{fields_of, take_name},
    seal::Seal,
    stamp::{LINE, MAGIC, SENSITIVE, Stamp},
    tag_version::{TagVersion, VersionedTag},
};
use crate::{
    entry::{ByRoute, StoredHead, Windows},
    key::{MAX_TAGS, Nominated, Slot, Tag},
};

/// Content of a record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) stamp: Stamp,
    /// Tags of a response, with the versions that they had.
    pub(crate) tags: Vec<VersionedTag>,
    pub(crate) content: StoredContent,
}

/// Content of an entry, before its times are instants of this process.
#[derive(Debug)]
pub(crate) enum StoredContent {
    Response(StoredHead, Bytes),
    Pass,
    Nominated(Nominated),
}

/// Reason why a record is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Foreign, of another version, cut off, or changed.
    Corrupt,
    /// Of another slot: two variants have one digest, or the record was moved.
    Misplaced,
}

/// Decodes a record that was found for a slot. The body and the values are slices of `record`.
pub(crate) fn decode(
    record: &Bytes,
    namespace: &str,
    slot: &Slot,
    seal: &Seal,
) -> Result<Record, Unreadable> {
    if !record.starts_with(MAGIC) || record.get(LINE) != Some(&seal.kind()) {
        return Err(Unreadable::Corrupt);
    }
    let sealed = seal.open(record).ok_or(Unreadable::Corrupt)?;
    let rest = sealed.get(LINE + 1..).ok_or(Unreadable::Corrupt)?;
    let mut reader = Reader { record, rest };
    let stamp = reader.stamp().ok_or(Unreadable::Corrupt)?;
    if !reader.is_for(namespace, slot).ok_or(Unreadable::Corrupt)? {
        return Err(Unreadable::Misplaced);
    }
    let (tags, content) = reader.content().ok_or(Unreadable::Corrupt)?;
    let is_at_end = reader.rest.is_empty();
    if is_at_end { Ok(Record { stamp, tags, content }) } else { Err(Unreadable::Corrupt) }
}

/// Reads the tags of a record that was decoded before.
pub(crate) fn tags_of(record: &Bytes) -> Option<Vec<VersionedTag>> {
    let mut reader = Reader { record, rest: record.get(LINE + 1..)? };
    reader.stamp()?;
    reader.identity()?;
    if reader.array()? == [3] { reader.tags() } else { Some(Vec::new()) }
}

/// Reader of a record, from front to end. A length is compared with the bytes that are left before it is used.
struct Reader<'r> {
    record: &'r Bytes,
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    fn stamp(&mut self) -> Option<Stamp> {
        let mut number = || Some(u64::from_be_bytes(self.array()?));
        let (incarnation, stored) = (number()?, number()?);
        let (fresh_until, kept_until, number) = (number()?, number()?, number()?);
        Some(Stamp { incarnation, stored, fresh_until, kept_until, number })
    }

    /// Returns the key and the variant.
    fn identity(&mut self) -> Option<(&'r [u8], &'r [u8])> {
        let length = self.u16()?;
        let key = self.take(length)?;
        let length = self.u32()?;
        Some((key, self.take(length)?))
    }

    fn is_for(&mut self, namespace: &str, slot: &Slot) -> Option<bool> {
        let (key, variant) = self.identity()?;
        let key = key.strip_prefix(namespace.as_bytes());
        let is_key = key.is_some_and(|key| key == slot.key.as_str().as_bytes());
        Some(is_key && variant == slot.variant.as_bytes())
    }

    fn content(&mut self) -> Option<(Vec<VersionedTag>, StoredContent)> {
        match self.array::<1>()?[0] {
            0 => Some((Vec::new(), self.response()?)),
            1 => Some((Vec::new(), StoredContent::Pass)),
            2 => {
                let count = self.u16()?;
                let names = (0..count).map(|_| take_name(&mut self.rest)).collect::<Option<_>>()?;
                Some((Vec::new(), StoredContent::Nominated(Nominated::new(names))))
            }
            3 => Some((self.tags()?, self.response()?)),
            _ => None,
        }
    }

    fn response(&mut self) -> Option<StoredContent> {
        let head = self.head()?;
        let body = self.take(self.rest.len())?;
        Some(StoredContent::Response(head, self.record.slice_ref(body)))
    }

    fn tags(&mut self) -> Option<Vec<VersionedTag>> {
        let count = self.u16().filter(|count| *count <= MAX_TAGS)?;
        let tags = (0..count).map(|_| {
            let length = self.u16()?;
            let tag = Tag::named(std::str::from_utf8(self.take(length)?).ok()?);
            let time = u64::from_be_bytes(self.array()?);
            let version = TagVersion { time, random: u64::from_be_bytes(self.array()?) };
            Some(VersionedTag { tag, version })
        });
        tags.collect()
    }

    fn head(&mut self) -> Option<StoredHead> {
        let status = StatusCode::from_u16(u16::from_be_bytes(self.array()?)).ok()?;
        let [flags] = self.array().filter(|[flags]| *flags < 1 << 4)?;
        let flag = |place: u8| flags >> place & 1 == 1;
        let by_route = ByRoute { lifetime: flag(1), while_revalidate: flag(2), if_error: flag(3) };
        let initial_age = Duration::from_millis(u64::from_be_bytes(self.array()?));
        let mut window = || Some(Duration::from_secs(u32::from_be_bytes(self.array()?).into()));
        let (while_revalidate, if_error, to_validate) = (window()?, window()?, window()?);
        let windows = Windows { while_revalidate, if_error, to_validate };
        let names = self.u32()?;
        let names = self.take(names)?;
        let fields = fields_of(names, flag(0), || self.value())?;
        Some(StoredHead { status, fields, initial_age, windows, by_route })
    }

    fn value(&mut self) -> Option<HeaderValue> {
        let length = u32::from_be_bytes(self.array()?);
        let bytes = self.take((length & !SENSITIVE) as usize)?;
        let mut value = HeaderValue::from_maybe_shared(self.record.slice_ref(bytes)).ok()?;
        value.set_sensitive(length & SENSITIVE != 0);
        Some(value)
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

/// Decodes any bytes, sealed as if this crate had written them. None may make it panic, or take more
/// memory than they do.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_anything(rest: &[u8]) {
    use super::encode::{push_u16, push_u32};

    let slot = crate::key::Slot::example();
    let stamp = Stamp { incarnation: 1, stored: 1, fresh_until: 2, kept_until: 3, number: 4 };
    let mut record = stamp.line().into_bytes();
    record.push(Seal::Checksum.kind());
    stamp.push(&mut record);
    push_u16(&mut record, slot.key.as_str().len());
    record.extend_from_slice(slot.key.as_str().as_bytes());
    push_u32(&mut record, slot.variant.as_bytes().len());
    record.extend_from_slice(slot.variant.as_bytes());
    record.extend_from_slice(rest);
    Seal::Checksum.close(&mut record);
    for record in [Bytes::from(record), Bytes::copy_from_slice(rest)] {
        let _ = decode(&record, "", &slot, &Seal::Checksum);
        let _ = tags_of(&record);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Response};

    use super::{super::encode::encode, *};
    use crate::{
        clock::now,
        entry::{Entry, Head, Provenance, Timing},
        fence::Sequence,
        key::PrimaryKey,
        verify::random::{Random, for_all},
    };

    const STAMP: Stamp = Stamp {
        incarnation: 0x0123_4567_89ab_cdef,
        stored: 1_700_000_000_000,
        fresh_until: 1_700_000_060_000,
        kept_until: 1_700_000_061_000,
        number: 0xfedc_ba98_7654_3210,
    };

    fn provenance(slot: Slot) -> Provenance {
        let fence = Sequence::new().begin();
        Provenance { slot, fence, requested: now(), gauge: Arc::default() }
    }

    fn response(status: u16, fields: &[(String, Vec<u8>)], body: &[u8]) -> Entry {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let (origin, ()) = response.body(()).expect("a response").into_parts();
        let lifetime = Duration::from_secs(60);
        let timing = Timing { requested: now(), received: now(), lifetime };
        let mut head = Head::new(&origin, timing);
        head.set_by_route(ByRoute { lifetime: true, while_revalidate: false, if_error: true });
        Entry::response(provenance(Slot::example()), head, Bytes::copy_from_slice(body))
    }

    fn example() -> Entry {
        let fields = [("content-type", "application/json"), ("etag", "\"1\""), ("x-own", "1")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        response(200, &fields, br#"{"cases":[]}"#)
    }

    fn tags() -> [VersionedTag; 2] {
        let versioned = |tag, random| VersionedTag {
            tag,
            version: TagVersion { time: 1_795_000_000_000_000, random },
        };
        [versioned(Tag::new("account:A1"), 7), versioned(Tag::named("group:0123"), u64::MAX)]
    }

    fn seals() -> [Seal; 2] {
        [Seal::Checksum, Seal::Keyed([3; 32])]
    }

    #[track_caller]
    fn unreadable(record: &[u8], seal: &Seal) {
        let decoded = decode(&Bytes::copy_from_slice(record), "ns:", &Slot::example(), seal);
        assert_eq!(decoded.map(drop), Err(Unreadable::Corrupt));
    }

    #[test]
    fn a_pass_and_a_note_come_back_as_they_were() {
        let slot = Slot::example();
        let pass = Entry::pass(provenance(slot.clone()), now());
        let nominated = Nominated::new(vec![http::header::ACCEPT, http::header::COOKIE]);
        let note = Entry::nominated(provenance(slot.clone()), nominated.clone(), now());
        for seal in seals() {
            let read = |entry: &Entry| {
                let record = encode(entry, "ns:", STAMP, &[], &seal);
                decode(&record.into(), "ns:", &slot, &seal).unwrap().content
            };
            assert!(matches!(read(&pass), StoredContent::Pass));
            let StoredContent::Nominated(found) = read(&note) else { panic!("a note") };
            assert_eq!(found, nominated);
        }
    }

    /// Records of this version, one a line. These lines never change: another format is another version
    /// and has lines of its own.
    #[test]
    fn records_are_written_and_read_as_ever() {
        let slot = Slot::example();
        let pass = Entry::pass(provenance(slot.clone()), now());
        let nominated = Nominated::new(vec![http::header::ACCEPT]);
        let note = Entry::nominated(provenance(slot.clone()), nominated, now());
        let (example, tags) = (example(), tags());
        let mut written = String::new();
        for seal in seals() {
            for (entry, tags) in
                [(&example, &[][..]), (&pass, &[]), (&note, &[]), (&example, &tags)]
            {
                let record = encode(entry, "ns:", STAMP, tags, &seal);
                written.extend(record.iter().map(|byte| format!("{byte:02x}")));
                written.push('\n');
                assert!(decode(&record.into(), "ns:", &slot, &seal).is_ok());
            }
        }
        assert_eq!(written, include_str!("golden_4.txt"));
    }

    #[test]
    fn what_an_earlier_version_has_written_is_not_read() {
        let byte = |digits: &[u8; 2]| {
            u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).expect("two digits")
        };
        let written =
            [(b"TSC2 ", include_str!("golden_2.txt")), (b"TSC3 ", include_str!("golden_3.txt"))];
        for (magic, records) in written {
            assert_eq!(records.lines().count(), 8);
            for record in records.lines() {
                let record: Vec<u8> = record.as_bytes().as_chunks().0.iter().map(byte).collect();
                assert!(record.starts_with(magic));
                seals().iter().for_each(|seal| unreadable(&record, seal));
            }
        }
    }

    #[test]
    fn tags_come_back_as_they_were_and_no_more_of_them_than_there_may_be() {
        let slot = Slot::example();
        let read = |tags: &[VersionedTag]| {
            let seal = Seal::Checksum;
            let record = encode(&example(), "ns:", STAMP, tags, &seal).into();
            let tags = decode(&record, "ns:", &slot, &seal)?.tags;
            assert_eq!(tags_of(&record).as_ref(), Some(&tags), "the same by themselves");
            Ok(tags)
        };
        assert_eq!(read(&tags()).as_deref(), Ok(&tags()[..]));
        assert_eq!(read(&[]).as_deref(), Ok(&[][..]));
        let many = |count: usize| {
            let tag = |n: usize| VersionedTag { tag: Tag::new(n.to_string()), ..tags()[0].clone() };
            (0..count).map(tag).collect::<Vec<_>>()
        };
        assert_eq!(read(&many(MAX_TAGS)).map(|tags| tags.len()), Ok(MAX_TAGS));
        assert_eq!(read(&many(MAX_TAGS + 1)), Err(Unreadable::Corrupt));
    }

    #[test]
    fn no_byte_can_be_changed_cut_off_or_added() {
        for seal in seals() {
            for tags in [&[][..], &tags()] {
                let record = encode(&example(), "ns:", STAMP, tags, &seal);
                for at in 0..record.len() {
                    for flipped in [1, 0x20, 0xff] {
                        let mut changed = record.clone();
                        changed[at] ^= flipped;
                        unreadable(&changed, &seal);
                    }
                    unreadable(&record[..at], &seal);
                }
                unreadable(&[&record[..], b"x"].concat(), &seal);
            }
        }
    }

    #[test]
    fn nothing_stands_behind_what_a_record_holds() {
        let pass = Entry::pass(provenance(Slot::example()), now());
        let mut record = encode(&pass, "ns:", STAMP, &[], &Seal::Checksum);
        record.truncate(record.len() - 4);
        record.push(0);
        Seal::Checksum.close(&mut record);
        unreadable(&record, &Seal::Checksum);
    }

    #[test]
    fn a_record_is_read_for_its_own_slot_alone() {
        let seal = Seal::Checksum;
        let record = Bytes::from(encode(&example(), "ns:", STAMP, &[], &seal));
        let slot = Slot::example();
        let other_key = Slot { key: PrimaryKey::new("other"), ..slot.clone() };
        let other_variant = Slot { variant: slot.variant.nominating(b"other"), ..slot.clone() };
        for (namespace, slot) in [("ns:", &other_key), ("ns:", &other_variant), ("n:s", &slot)] {
            let decoded = decode(&record, namespace, slot, &seal);
            assert_eq!(decoded.map(drop), Err(Unreadable::Misplaced));
        }
    }

    #[test]
    fn a_seal_is_no_other_seal() {
        let [plain, keyed] = seals();
        unreadable(&encode(&example(), "ns:", STAMP, &[], &plain), &keyed);
        unreadable(&encode(&example(), "ns:", STAMP, &[], &keyed), &plain);
        unreadable(&encode(&example(), "ns:", STAMP, &[], &keyed), &Seal::Keyed([4; 32]));
    }

    fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
        random.vec(0..most, |random| random.below(256) as u8)
    }

    #[test]
    fn a_response_comes_back_as_it_was() {
        let letters = || 'a'..='z';
        let more = || letters().chain('0'..='9').chain(['-']);
        for_all(|random| {
            let status = 200 + random.below(400) as u16;
            let fields: Vec<_> = random.vec(0..20, |random| {
                let name = random.text(letters(), 1..2) + &random.text(more(), 0..21);
                (name, random.text(' '..='~', 0..41).trim().into())
            });
            let body = bytes(random, 300);
            let stored = random.below(9_999_999_999_999) as u64;
            let entry = response(status, &fields, &body);
            let stamp = Stamp { stored, ..STAMP };
            let record = encode(&entry, "", stamp, &[], &Seal::Checksum);
            let read = decode(&record.into(), "", &Slot::example(), &Seal::Checksum).unwrap();
            assert_eq!(read.stamp, stamp);
            let StoredContent::Response(head, found) = read.content else { panic!("a response") };
            let (known, _) = entry.as_response().unwrap();
            assert_eq!((head.status, head.by_route), (known.status, known.by_route()));
            assert_eq!(head.initial_age, known.initial_age.min(head.initial_age));
            let lines = |fields: &HeaderMap| {
                fields.iter().map(|(n, v)| (n.clone(), v.clone())).collect::<Vec<_>>()
            };
            assert_eq!(lines(&head.fields.to_map()), lines(&known.fields.to_map()));
            assert_eq!(&found[..], &body[..]);
        });
    }

    #[test]
    fn the_status_of_an_inner_cache_comes_back() {
        let lines = [("cache-status".to_owned(), b"inner; hit".to_vec())];
        let record = encode(&response(200, &lines, b""), "", STAMP, &[], &Seal::Checksum);
        let read = decode(&record.into(), "", &Slot::example(), &Seal::Checksum);
        let Ok(StoredContent::Response(head, _)) = read.map(|record| record.content) else {
            panic!("a response")
        };
        assert_eq!(head.fields.to_map()["cache-status"], "inner; hit");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for_all(|random| read_anything(&bytes(random, 200)));
    }
}
