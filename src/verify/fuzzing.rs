//! Properties that hold for any input, for the fuzz targets in `fuzz/` and for property tests.
//!
//! No part of the public API: built for `--cfg fuzzing` and for tests only.
#![allow(missing_docs, reason = "no part of the public API")]

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request,
    header::{
        AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE,
        DATE, ETAG, EXPIRES, IF_NONE_MATCH, IF_RANGE, RANGE, TRAILER, VARY,
    },
};
use percent_encoding::percent_decode_str;

use crate::{
    key::{MAX_TAGS, Nominated, PrimaryKey},
    policy::{
        Arrival, CACHE_GROUPS, Conditions, DirectiveName, Directives, Extent, RangeAsked, Selected,
        Targeted, groups,
    },
    route::{CacheRoute, ContentRule, Credentials, HeadRef, Matched, RequestView, RouteTable},
};

const MAX_NAMES: usize = 16;
const MAX_KEY: usize = 512;

/// Checks lines of `Cache-Control`, separated by line feeds.
///
/// A restriction is found wherever a plain reader finds its name, and no addition lifts it.
pub fn cache_control(input: &[u8]) {
    let lines = lines(input);
    let found = Directives::of(&fields(&CACHE_CONTROL, &lines));
    let restrictions = |of: Directives| {
        let (no_cache, private) = (of.no_cache != Extent::Nothing, of.private != Extent::Nothing);
        [("no-store", of.no_store), ("no-cache", no_cache), ("private", private)]
    };
    let found = restrictions(found);
    for (name, is_found) in found {
        let is_plain = lines.iter().any(|line| has_token(line, name));
        assert!(is_found || !is_plain, "{name} is overlooked");
        let is_there = lines.iter().any(|line| lower(line).contains(name));
        assert!(!is_found || is_there, "{name} is made up");
    }
    for added in ["public", "max-age=60", "x=\"y\"", "private=\"", ""] {
        let mut more = lines.clone();
        more.push(HeaderValue::from_static(added));
        never_lifted(found, restrictions(Directives::of(&fields(&CACHE_CONTROL, &more))));
        // A quote in the same line could close one that is open, and hide what is between them.
        let last = lines.last().filter(|_| !added.contains('"'));
        if let Some(last) = last {
            let joined = [last.as_bytes(), b", ", added.as_bytes()].concat();
            let at = more.len() - 2;
            more.truncate(at);
            more.push(HeaderValue::from_bytes(&joined).expect("both were values"));
            let of_joined = Directives::of(&fields(&CACHE_CONTROL, &more));
            never_lifted(found, restrictions(of_joined));
        }
    }
}

fn never_lifted(before: [(&str, bool); 3], after: [(&str, bool); 3]) {
    for ((name, was_found), (_, is_found)) in before.into_iter().zip(after) {
        assert!(is_found || !was_found, "{name} is lifted by what follows");
    }
}

/// Returns whether `name` is a token of `line` outside closed quotes, by removing those first.
fn has_token(line: &HeaderValue, name: &str) -> bool {
    let mut outside = String::new();
    let mut inside: Option<String> = None;
    let mut characters = line.as_bytes().iter().map(|byte| char::from(byte.to_ascii_lowercase()));
    while let Some(character) = characters.next() {
        match (&mut inside, character) {
            (None, '"') => inside = Some(String::new()),
            (None, other) => outside.push(other),
            (Some(_), '"') => {
                inside = None;
                outside.push('"');
            }
            (Some(text), '\\') => {
                text.push('\\');
                text.extend(characters.next());
            }
            (Some(text), other) => text.push(other),
        }
    }
    // The last quote was never closed, so it is none.
    if let Some(text) = inside {
        outside.push('"');
        outside.push_str(&text);
    }
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    outside.split(|c| !is_token(c)).any(|token| token == name)
}

fn lower(line: &HeaderValue) -> String {
    String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase()
}

/// Checks two sets of `Vary` lines, separated by an empty line.
///
/// Names only accumulate. They are sorted, unique and never more than 16.
pub fn vary(input: &[u8]) {
    let at = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (first, second) = input.split_at(at);
    let (first, second) = (lines(first), lines(second));
    let Ok(earlier) = Nominated::default().with(&fields(&VARY, &first)) else {
        return;
    };
    is_in_order(&earlier);
    assert!(!first.iter().any(|line| line.as_bytes().trim_ascii() == b"*"), "`*` is no name");
    let Ok(later) = earlier.with(&fields(&VARY, &second)) else { return };
    is_in_order(&later);
    assert!(earlier.names().iter().all(|name| later.names().contains(name)), "a name is lost");
    let again = later.with(&fields(&VARY, &first));
    assert_eq!(again.as_ref(), Ok(&later), "what is known already changes nothing");
    for line in &second {
        let members = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for name in members.filter_map(|member| HeaderName::from_bytes(member).ok()) {
            assert!(later.names().contains(&name), "{name} is overlooked");
        }
    }
}

fn is_in_order(nominated: &Nominated) {
    let names: Vec<_> = nominated.names().iter().map(HeaderName::as_str).collect();
    assert!(names.len() <= MAX_NAMES && names.is_sorted_by(|a, b| a < b), "{names:?}");
}

/// Checks two contents, each a type, two languages, data and a trailer, separated by line feeds.
///
/// They have one encoding only if all five are the same. Each can be read back from its own, so no others
/// have it either.
pub fn content(input: &[u8]) {
    let mut parts = input.splitn(10, |byte| *byte == b'\n');
    let mut content = || {
        let mut part = || parts.next().unwrap_or_default();
        let mut map = |names: &[HeaderName]| {
            let lines = names.iter().map(|name| (name.clone(), HeaderValue::from_bytes(part())));
            let lines = lines.filter_map(|(name, line)| Some((name, line.ok()?)));
            lines.collect::<HeaderMap>()
        };
        let fields = map(&[CONTENT_TYPE, CONTENT_LANGUAGE, CONTENT_LANGUAGE]);
        (fields, map(&[TRAILER]), part())
    };
    let (one, other) = (content(), content());
    let encoded = |(fields, trailers, data): &(HeaderMap, HeaderMap, &[u8])| {
        ContentRule::encoded(fields, data, trailers)
    };
    let both = [encoded(&one), encoded(&other)];
    assert_eq!(both[0] == both[1], one == other, "{one:?} {other:?}");
    for (content, encoded) in [one, other].iter().zip(&both) {
        assert_eq!(EncodedContent(encoded).read().as_ref(), Some(content), "{encoded:?}");
    }
}

/// Rest of encoded content that has not been read. Each part says how long it is before it begins.
struct EncodedContent<'e>(&'e [u8]);

impl<'e> EncodedContent<'e> {
    /// Reads fields, trailers and data, after which nothing is left.
    fn read(mut self) -> Option<(HeaderMap, HeaderMap, &'e [u8])> {
        let (mut fields, mut trailers) = (HeaderMap::new(), HeaderMap::new());
        for name in [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE] {
            for _ in 0..self.number()? {
                fields.append(&name, HeaderValue::from_bytes(self.part()?).ok()?);
            }
        }
        let data = self.part()?;
        for _ in 0..self.number()? {
            let name = HeaderName::from_bytes(self.part()?).ok()?;
            trailers.append(name, HeaderValue::from_bytes(self.part()?).ok()?);
        }
        self.0.is_empty().then_some((fields, trailers, data))
    }

    fn number(&mut self) -> Option<usize> {
        let (number, left) = self.0.split_first_chunk()?;
        self.0 = left;
        usize::try_from(u64::from_le_bytes(*number)).ok()
    }

    fn part(&mut self) -> Option<&'e [u8]> {
        let length = self.number()?;
        let (part, left) = self.0.split_at_checked(length)?;
        self.0 = left;
        Some(part)
    }
}

/// Checks a key template and two pairs of path segments, separated by line feeds.
///
/// Any template is parsed or refused. Keys of a template with separators are equal only if all decoded
/// values are equal.
pub fn template(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut parts = text.split('\n');
    let template = parts.next().unwrap_or_default();
    let any = CacheRoute::get("/{a}/{b}").ttl(std::time::Duration::from_secs(1));
    drop(any.clone().key(template).build(&Credentials::Bypass));
    let rule = any.key("k:{a}:{b}").build(&Credentials::Bypass).expect("a valid route");
    let table = RouteTable::build(vec![rule], Vec::new()).expect("one route");
    let values: Vec<_> = parts.filter(|part| !part.contains(['/', '?', '#'])).take(4).collect();
    let [a, b, c, d] = values[..] else { return };
    let (left, right) = (key(&table, &format!("/{a}/{b}")), key(&table, &format!("/{c}/{d}")));
    let (Some(left), Some(right)) = (left, right) else { return };
    let is_same = decoded(a) == decoded(c) && decoded(b) == decoded(d);
    assert_eq!(left == right, is_same, "{left:?} {right:?}");
    for key in [left, right] {
        let text = key.as_str();
        let is_fit = text.len() <= MAX_KEY && text.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(is_fit && text.matches(':').count() == 2, "{text}");
        assert!(!text.contains(['*', '?', '[', ']', '{', '}', '"', '\'', '\\']), "{text}");
    }
}

fn key(table: &RouteTable, path: &str) -> Option<PrimaryKey> {
    let request = Request::get(path).body(()).ok()?;
    let head = HeadRef::of(&request);
    match table.classify(head) {
        Matched::Read { route, parameters } => {
            let rule = &table.read_rules()[route];
            rule.key(RequestView { head, parameters: &parameters })
        }
        Matched::Pass | Matched::Write(_) | Matched::Unmatched => None,
    }
}

fn decoded(segment: &str) -> Vec<u8> {
    percent_decode_str(segment).collect()
}

/// Checks lines of `If-None-Match`, the last of them an entity tag without its quotes.
///
/// A list with the stored tag in front, or on a line of its own, matches whatever else it holds. A list
/// matches only if it has the tag or `*`. Weakness changes nothing.
pub fn conditionals(input: &[u8]) {
    let mut lines = lines(input);
    let Some(opaque) = lines.pop() else { return };
    // A tag has no quotes and no space: such a one would match nothing (RFC 9110 §8.8.3).
    if opaque.as_bytes().iter().any(|byte| matches!(byte, b'"' | b' ' | b'\t')) {
        return;
    }
    let tag = [b"\"", opaque.as_bytes(), b"\""].concat();
    let weak = [b"W/", &tag[..]].concat();
    let is_met = |list: &[HeaderValue], stored: &[u8]| {
        let stored = HeaderValue::from_bytes(stored).expect("quotes around a value");
        Conditions::of(&fields(&IF_NONE_MATCH, list)).are_met_by(&fields(&ETAG, &[stored]))
    };
    let by_lines = is_met(&lines, &tag);
    assert_eq!(by_lines, is_met(&lines, &weak), "the comparison is weak");
    let is_there = |line: &HeaderValue| {
        let line = line.as_bytes();
        line.contains(&b'*') || line.windows(tag.len()).any(|part| part == tag)
    };
    assert!(!by_lines || lines.iter().any(is_there), "a tag is made up");
    for own in [&tag[..], &weak, b"*"] {
        let mut more = lines.clone();
        more.push(HeaderValue::from_bytes(own).expect("quotes around a value"));
        assert!(is_met(&more, &tag), "a tag on a line of its own is overlooked");
    }
    for line in &lines {
        let joined = [&tag[..], b" , ", line.as_bytes()].concat();
        let joined = HeaderValue::from_bytes(&joined).expect("both were values");
        assert!(is_met(&[joined], &weak), "the first tag is overlooked");
    }
}

/// Checks the content of a record of the Redis store after its stamp.
#[cfg(feature = "redis")]
pub fn record(input: &[u8]) {
    crate::store::read_anything(input);
}

/// Checks `Age`, `Date` and `Expires`, and then lines of `Cache-Control`, separated by line feeds.
///
/// A response is at least as old as its path to the cache took. Its lifetime is bounded, and a further
/// directive only shortens it.
pub fn freshness(input: &[u8]) {
    let mut response = HeaderMap::new();
    let lines = input.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    let names = [AGE, DATE, EXPIRES].into_iter().chain(std::iter::repeat(CACHE_CONTROL));
    for (name, line) in names.zip(lines).take(11) {
        if let Ok(line) = line {
            response.append(name, line);
        }
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let corrected_age = Duration::from_secs(input.len() as u64);
    let arrival = Arrival { at: now, corrected_age };
    assert!(arrival.initial_age(&response) >= corrected_age, "younger than its path took");
    let lifetime = |fields: &HeaderMap| arrival.stated_lifetime(fields, &Directives::of(fields));
    let before = lifetime(&response);
    assert!(before.is_none_or(|lifetime| lifetime <= Duration::from_secs(1 << 31)), "endless");
    for added in ["s-maxage=1", "s-maxage=x", "max-age=0, s-maxage=0"] {
        let mut more = response.clone();
        more.append(CACHE_CONTROL, HeaderValue::from_static(added));
        let after = lifetime(&more);
        assert!(after.is_some_and(|after| after <= Duration::from_secs(1)), "{added}: {after:?}");
    }
    let mut shorter = response.clone();
    shorter.append(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
    let is_stated = Directives::of(&response).give_lifetime();
    assert!(!is_stated || lifetime(&shorter) <= before, "lengthened by a shorter one");
}

/// Checks `Range`, `If-Range` and `ETag`, separated by line feeds, for a body as long as the input.
///
/// Parts lie within the whole and do not overlap. A part is sent only of the representation that
/// `If-Range` names.
pub fn range(input: &[u8]) {
    let mut lines =
        input.split(|byte| *byte == b'\n').map(|line| HeaderValue::from_bytes(line).ok());
    let mut next = || lines.next().flatten();
    let (wanted, only_of, tag) = (next(), next(), next());
    let mut request = HeaderMap::new();
    request.extend(wanted.map(|line| (RANGE, line)));
    let unconditional = RangeAsked::of(&request);
    request.extend(only_of.clone().map(|line| (IF_RANGE, line)));
    let stored: HeaderMap = tag.clone().map(|line| (ETAG, line)).into_iter().collect();
    let length = input.len();
    let selected = RangeAsked::of(&request).select(&stored, length);
    if let Selected::Parts(parts) = &selected {
        let mut sorted = parts.clone();
        sorted.sort_unstable_by_key(|part| part.start);
        assert!(sorted.iter().all(|part| !part.is_empty() && part.end <= length), "{parts:?}");
        assert!(sorted.windows(2).all(|pair| pair[0].end <= pair[1].start), "{parts:?} overlap");
    }
    let is_named = only_of.is_none() || only_of == tag;
    assert!(is_named || selected == Selected::Whole, "a part of what was not asked for");
    let is_same = selected == unconditional.select(&stored, length);
    assert!(is_same || selected == Selected::Whole, "If-Range selects other parts");
}

/// Checks lines of `Cache-Groups` and of a targeted field, separated by line feeds.
///
/// A list that is written again is read the same. A further line adds to a well-formed field or spoils
/// it, and no line repairs a malformed one.
pub fn structured(input: &[u8]) {
    let lines = lines(input);
    let with = |name: &HeaderName, line: &'static str| {
        let mut more = fields(name, &lines);
        more.append(name, HeaderValue::from_static(line));
        more
    };
    let listed = groups(&CACHE_GROUPS, &fields(&CACHE_GROUPS, &lines));
    let written = listed.iter().map(|group| {
        let text = format!("\"{}\"", group.replace('\\', "\\\\").replace('"', "\\\""));
        HeaderValue::from_str(&text).expect("a string is fit for a field")
    });
    let again: Vec<_> = written.collect();
    assert_eq!(
        groups(&CACHE_GROUPS, &fields(&CACHE_GROUPS, &again)),
        listed,
        "not as it was written"
    );
    let more = groups(&CACHE_GROUPS, &with(&CACHE_GROUPS, "\"z\""));
    let mut added = listed.clone();
    added.insert("z".to_owned());
    let is_malformed = listed.is_empty() && more.is_empty();
    assert!(more == added || is_malformed || listed.len() > MAX_TAGS, "{listed:?} and z: {more:?}");
    assert!(groups(&CACHE_GROUPS, &with(&CACHE_GROUPS, "z")).is_empty(), "a token is no group");

    let name = HeaderName::from_static("cdn-cache-control");
    let of = |fields: &HeaderMap| Targeted::of(std::slice::from_ref(&name), fields);
    let before = of(&fields(&name, &lines));
    let more = of(&with(&name, "no-store, max-age=7"));
    assert!(more.is_some() || before.is_none(), "spoilt by what is well-formed");
    if let Some(more) = more {
        assert!(
            more.has(DirectiveName::NoStore) && more.seconds(DirectiveName::MaxAge) == Some(7),
            "{more:?}"
        );
        let before = before.and_then(|before| before.seconds(DirectiveName::SMaxage));
        assert_eq!(more.seconds(DirectiveName::SMaxage), before, "changed by another member");
    }
    assert_eq!(of(&with(&name, "max-age=")), None, "malformed, and used");
}

/// Returns the lines that can be sent, at most eight.
fn lines(input: &[u8]) -> Vec<HeaderValue> {
    let lines = input.split(|byte| *byte == b'\n');
    lines.filter_map(|line| HeaderValue::from_bytes(line).ok()).take(8).collect()
}

fn fields(name: &HeaderName, lines: &[HeaderValue]) -> HeaderMap {
    lines.iter().map(|line| (name.clone(), line.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::random::{Random, for_all};

    /// Joins pieces that are likely to matter, in any order, and now and then any bytes.
    fn join(random: &mut Random, pieces: &[&str]) -> Vec<u8> {
        let any = |random: &mut Random| random.vec(0..4, |random| random.below(256) as u8);
        let pieces = random.vec(0..16, |random| match random.below(9) {
            0 => any(random),
            _ => random.pick(pieces).as_bytes().to_vec(),
        });
        pieces.concat()
    }

    fn check(property: fn(&[u8]), pieces: &[&str]) {
        for_all(|random| property(&join(random, pieces)));
    }

    #[test]
    fn restrictions_are_never_overlooked_nor_lifted() {
        check(
            cache_control,
            &[
                "no-store",
                "No-Cache",
                "private",
                "max-age=60",
                ",",
                ", ",
                "=",
                ";",
                "\"",
                "\\",
                "\\\"",
                "\n",
                " ",
                "-",
                "x",
                "public",
            ],
        );
    }

    #[test]
    fn contents_have_one_encoding_only_if_they_are_the_same() {
        check(content, &["a", "b", "\n", "\n", "\u{1}", "\0"]);
        check(|input| content(&[input, b"\n", input].concat()), &["a", "b", "\n", "\n", "\n"]);
    }

    #[test]
    fn nominated_names_add_up() {
        check(
            vary,
            &[
                "accept",
                "Accept",
                "cookie",
                "x-a",
                "x-b",
                "*",
                ",",
                ", ",
                " ",
                "\n",
                "\n\n",
                "a b",
                "a,b,c,d,e,f,g,h",
                "i,j,k,l,m,n,o,p,q",
            ],
        );
    }

    #[test]
    fn a_lifetime_is_never_lengthened_nor_an_age_shortened() {
        check(
            freshness,
            &[
                "5",
                "99999999999999999999",
                "-1",
                ",",
                "\n",
                "\n",
                "\n",
                "0",
                "Fri, 15 Jan 2027 08:00:00 GMT",
                "Fri, 15 Jan 2027 09:00:00 GMT",
                "max-age=",
                "s-maxage=",
                "60",
                "\"",
                "; ",
                "x",
            ],
        );
    }

    #[test]
    fn a_part_is_within_the_whole_and_of_what_was_named() {
        check(
            range,
            &[
                "bytes=",
                "0-0",
                "5-",
                "-3",
                "1-9",
                "99999999999999999999",
                "-",
                ",",
                " ",
                "\n",
                "\n",
                "\"a\"",
                "\"b\"",
                "W/",
                "x",
            ],
        );
    }

    #[test]
    fn structured_fields_are_had_whole_or_not_at_all() {
        check(
            structured,
            &[
                "\"a\"",
                "\"b c\"",
                "\"\\\"\"",
                "\"",
                "\\",
                ",",
                ", ",
                ";",
                ";p=1",
                "(",
                ")",
                "\n",
                "max-age=60",
                "s-maxage=5",
                "no-store",
                "=?0",
                "=",
                "1",
                "a",
                " ",
            ],
        );
    }

    #[test]
    fn a_stored_tag_is_never_overlooked_nor_made_up() {
        check(conditionals, &["\"a\"", "W/", "\"b\"", "*", ",", ", ", " ", "\"", "a", "\\", "\n"]);
    }

    #[test]
    fn templates_make_injective_keys() {
        const VALUES: [&str; 11] =
            ["a", "A", "%61", "%3A", ":", "%253A", "%25", "%", "*", "%00", "é"];
        for_all(|random| {
            let mut input =
                vec![join(random, &["{a}", "{b}", "{{", "}}", "{", "}", ":", "k", " "])];
            input.extend(random.vec(4..5, |random| join(random, &VALUES)));
            template(&input.join(&b'\n'));
        });
    }
}
