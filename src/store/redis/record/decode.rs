//! Reads records.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::{
    compression::expand,
    fields::{fields_of, take_name},
    seal::{RecordPlace, Seal},
    stamp::{CODED, COMPRESSED, LINE, MAGIC, Stamp},
    tag_version::{TagVersion, VersionedTag},
};
use crate::{
    coding::ContentCoding,
    entry::{ByRoute, CodedBodies, CodedBody, StoredHead, Windows},
    key::{MAX_TAGS, Nominated, Slot, Tag},
};

/// Content of a record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) stamp: Stamp,
    /// Tags of a response, with the versions that they had.
    pub(crate) tags: Vec<VersionedTag>,
    pub(crate) content: StoredContent,
    /// Sealed bytes, which content and tags are slices of.
    pub(crate) opened: Bytes,
}

/// Content of an entry, before its times are instants of this process.
#[derive(Debug)]
pub(crate) enum StoredContent {
    Response(StoredHead, Bytes, CodedBodies),
    Pass,
    Nominated(Nominated),
}

/// Decodes a record that was found for a slot; `None` if it is foreign, of another version, cut off, changed, or
/// of another slot. The body and the values are slices of what was opened.
pub(crate) fn decode(record: &Bytes, namespace: &str, slot: &Slot, seal: &Seal) -> Option<Record> {
    let form = *record.get(LINE).filter(|_| record.starts_with(MAGIC))?;
    if form & !(COMPRESSED | CODED) != seal.form() {
        return None;
    }
    let content = seal.open(record, LINE + 1, &RecordPlace::new(namespace, slot))?;
    let mut reader = Reader { opened: &content, rest: &content };
    let coded = if form & CODED == 0 { CodedBodies::default() } else { reader.coded()? };
    let content = content.slice_ref(reader.rest);
    let opened = if form & COMPRESSED == 0 { content } else { expand(&content)?.into() };
    let mut reader = Reader { opened: &opened, rest: &opened };
    let stamp = Stamp::parse(record, u64::from_be_bytes(reader.array()?))?;
    let (tags, content) = reader.content(coded)?;
    let is_at_end = reader.rest.is_empty();
    is_at_end.then(|| Record { stamp, tags, content, opened: opened.clone() })
}

/// Reads the tags of a record that was opened before.
pub(crate) fn tags_of(opened: &Bytes) -> Option<Vec<VersionedTag>> {
    let mut reader = Reader { opened, rest: opened };
    reader.array::<8>()?;
    if reader.array()? == [3] { reader.tags() } else { Some(Vec::new()) }
}

/// Reader of a record, from front to end. A length is compared with the bytes that are left before it is used.
struct Reader<'r> {
    opened: &'r Bytes,
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    fn content(&mut self, coded: CodedBodies) -> Option<(Vec<VersionedTag>, StoredContent)> {
        match self.array::<1>()?[0] {
            0 => Some((Vec::new(), self.response(coded)?)),
            1 => Some((Vec::new(), StoredContent::Pass)),
            2 => {
                let count = self.length()?;
                let names = (0..count).map(|_| take_name(&mut self.rest)).collect::<Option<_>>()?;
                Some((Vec::new(), StoredContent::Nominated(Nominated::new(names))))
            }
            3 => Some((self.tags()?, self.response(coded)?)),
            _ => None,
        }
    }

    fn response(&mut self, coded: CodedBodies) -> Option<StoredContent> {
        let head = self.head()?;
        let body = self.take(self.rest.len())?;
        Some(StoredContent::Response(head, self.opened.slice_ref(body), coded))
    }

    fn coded(&mut self) -> Option<CodedBodies> {
        let count = self.length().filter(|count| *count <= ContentCoding::ALL.len())?;
        let forms = (0..count).map(|_| {
            let length = self.length()?;
            let name = self.take(length)?;
            let mut known = ContentCoding::ALL.into_iter();
            let coding = known.find(|coding| coding.as_str().as_bytes() == name)?;
            let length = self.length()?;
            let body = self.take(length)?;
            Some(CodedBody { coding, body: self.opened.slice_ref(body) })
        });
        forms.collect()
    }

    fn tags(&mut self) -> Option<Vec<VersionedTag>> {
        let count = self.length().filter(|count| *count <= MAX_TAGS)?;
        let tags = (0..count).map(|_| {
            let length = self.length()?;
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
        let initial_age = Duration::from_millis(self.number()?);
        let mut window = || Some(Duration::from_secs(self.number()?.min(u32::MAX.into())));
        let (while_revalidate, if_error, to_validate) = (window()?, window()?, window()?);
        let windows = Windows { while_revalidate, if_error, to_validate };
        let names = self.length()?;
        let names = self.take(names)?;
        let fields = fields_of(names, flag(0), || self.value())?;
        Some(StoredHead { status, fields, initial_age, windows, by_route })
    }

    fn value(&mut self) -> Option<HeaderValue> {
        let length = self.length()?;
        let bytes = self.take(length >> 1)?;
        let mut value = HeaderValue::from_maybe_shared(self.opened.slice_ref(bytes)).ok()?;
        value.set_sensitive(length & 1 == 1);
        Some(value)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    /// Returns a number of seven bits in each byte.
    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let [byte] = self.array()?;
            // The tenth byte has room for one bit.
            number |=
                u64::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 63 || byte < 2)?;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
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
    let slot = crate::key::Slot::example();
    let stamp = Stamp { incarnation: 1, stored: 1, fresh_until: 2, kept_until: 3, number: 4 };
    let seal = Seal::Checksum;
    let mut records = vec![Bytes::copy_from_slice(rest)];
    for flags in [0, COMPRESSED, CODED, COMPRESSED | CODED] {
        let mut record = stamp.line().into_bytes();
        record.push(seal.form() | flags);
        record.extend_from_slice(&stamp.number.to_be_bytes());
        record.extend_from_slice(rest);
        let sealed = seal.close(record, LINE + 1, &RecordPlace::new("", &slot));
        records.extend(sealed.map(Bytes::from));
    }
    for record in records {
        let _ = decode(&record, "", &slot, &seal);
        let _ = tags_of(&record);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Response};

    use super::{
        super::encode::{self, RecordForm},
        *,
    };
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

    fn encode(
        entry: &Entry,
        namespace: &str,
        stamp: Stamp,
        tags: &[VersionedTag],
        seal: &Seal,
    ) -> Vec<u8> {
        let form = RecordForm { seal: seal.clone(), compress_from: usize::MAX };
        encode::encode(entry, namespace, stamp, tags, &form).expect("there is randomness")
    }

    #[track_caller]
    fn unreadable(record: &[u8], seal: &Seal) {
        let decoded = decode(&Bytes::copy_from_slice(record), "ns:", &Slot::example(), seal);
        assert!(decoded.is_none());
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
                assert!(decode(&record.into(), "ns:", &slot, &seal).is_some());
            }
        }
        assert_eq!(written, include_str!("golden_5.txt"));
    }

    #[test]
    fn what_an_earlier_version_has_written_is_not_read() {
        let byte = |digits: &[u8; 2]| {
            u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).expect("two digits")
        };
        let written = [
            (b"TSC2 ", include_str!("golden_2.txt")),
            (b"TSC3 ", include_str!("golden_3.txt")),
            (b"TSC4 ", include_str!("golden_4.txt")),
        ];
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
            let Record { tags, opened, .. } = decode(&record, "ns:", &slot, &seal)?;
            assert_eq!(tags_of(&opened).as_ref(), Some(&tags), "the same by themselves");
            Some(tags)
        };
        assert_eq!(read(&tags()).as_deref(), Some(&tags()[..]));
        assert_eq!(read(&[]).as_deref(), Some(&[][..]));
        let many = |count: usize| {
            let tag = |n: usize| VersionedTag { tag: Tag::new(n.to_string()), ..tags()[0].clone() };
            (0..count).map(tag).collect::<Vec<_>>()
        };
        assert_eq!(read(&many(MAX_TAGS)).map(|tags| tags.len()), Some(MAX_TAGS));
        assert_eq!(read(&many(MAX_TAGS + 1)), None);
    }

    #[test]
    fn no_byte_can_be_changed_cut_off_or_added() {
        for seal in every_seal() {
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
        let (slot, seal) = (Slot::example(), Seal::Checksum);
        let pass = Entry::pass(provenance(slot.clone()), now());
        let sealed = Bytes::from(encode(&pass, "ns:", STAMP, &[], &seal));
        let place = RecordPlace::new("ns:", &slot);
        let content = seal.open(&sealed, LINE + 1, &place).expect("it is whole");
        let record = [&sealed[..=LINE], &content, &[0]].concat();
        unreadable(&seal.close(record, LINE + 1, &place).expect("a seal"), &seal);
    }

    #[test]
    fn a_record_is_read_for_its_own_slot_alone() {
        let slot = Slot::example();
        let other_key = Slot { key: PrimaryKey::new("other"), ..slot.clone() };
        let other_variant = Slot { variant: slot.variant.nominating(b"other"), ..slot.clone() };
        for seal in every_seal() {
            let record = Bytes::from(encode(&example(), "ns:", STAMP, &[], &seal));
            assert!(decode(&record, "ns:", &slot, &seal).is_some());
            for (namespace, slot) in [("ns:", &other_key), ("ns:", &other_variant), ("n:s", &slot)]
            {
                assert!(decode(&record, namespace, slot, &seal).is_none());
            }
        }
    }

    /// Returns those that write nothing twice alike as well.
    fn every_seal() -> Vec<Seal> {
        let seals = seals().to_vec();
        #[cfg(feature = "redis-encryption")]
        let seals = [seals, vec![encrypted(5, None)]].concat();
        seals
    }

    #[cfg(feature = "redis-encryption")]
    fn encrypted(current: u8, other: Option<u8>) -> Seal {
        let key = |byte| [byte; 32];
        Seal::Encrypted(super::super::EncryptionKeys {
            current: key(current),
            other: other.map(key),
        })
    }

    #[cfg(feature = "redis-encryption")]
    #[test]
    fn what_is_encrypted_shows_nothing_and_is_read_with_its_key_alone() {
        let (slot, own) = (Slot::example(), encrypted(5, None));
        let record = Bytes::from(encode(&example(), "ns:", STAMP, &tags(), &own));
        for shown in [&b"cases"[..], b"json", b"account", b"group:"] {
            assert!(!record.windows(shown.len()).any(|part| part == shown), "{shown:?}");
        }
        assert_ne!(record, encode(&example(), "ns:", STAMP, &tags(), &own), "another nonce");
        let is_read = |seal: &Seal| decode(&record, "ns:", &slot, seal).is_some();
        assert!(
            is_read(&own) && is_read(&encrypted(6, Some(5))) && is_read(&encrypted(5, Some(6)))
        );
        assert!(!is_read(&encrypted(6, None)) && !is_read(&encrypted(6, Some(7))));
        seals().iter().for_each(|other| {
            assert!(!is_read(other));
            unreadable(&encode(&example(), "ns:", STAMP, &[], other), &own);
        });
    }

    #[cfg(feature = "redis-zstd")]
    #[test]
    fn what_is_compressed_comes_back_as_it_was_under_every_seal() {
        let slot = Slot::example();
        let entry = response(200, &[], &br#"{"cases":[]},"#.repeat(100));
        for seal in every_seal() {
            let [long, short] = [usize::MAX, 512].map(|compress_from| {
                let form = RecordForm { seal: seal.clone(), compress_from };
                Bytes::from(encode::encode(&entry, "ns:", STAMP, &tags(), &form).expect("a record"))
            });
            assert!(short.len() < long.len() / 2);
            let [long, short] =
                [long, short].map(|it| decode(&it, "ns:", &slot, &seal).expect("a record"));
            assert_eq!((long.opened, long.tags), (short.opened, short.tags));
        }
    }

    #[test]
    fn a_number_has_one_meaning_and_ends() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            encode::push_number(&mut bytes, number);
            let bytes = Bytes::from(bytes);
            let mut reader = Reader { opened: &bytes, rest: &bytes };
            assert_eq!((reader.number(), reader.rest.len()), (Some(number), 0));
        }
        for endless in [&[][..], &[0x80], &[0xff; 9], &[0xff; 10], &[0xff; 11]] {
            let bytes = Bytes::copy_from_slice(endless);
            assert_eq!(Reader { opened: &bytes, rest: &bytes }.number(), None, "{endless:?}");
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
            let StoredContent::Response(head, found, _) = read.content else {
                panic!("a response")
            };
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
        let Some(StoredContent::Response(head, ..)) = read.map(|record| record.content) else {
            panic!("a response")
        };
        assert_eq!(head.fields.to_map()["cache-status"], "inner; hit");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for_all(|random| read_anything(&bytes(random, 200)));
    }
}
