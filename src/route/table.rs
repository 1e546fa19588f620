//! All routes of a layer, and which of them a request is for.

use std::fmt;

use http::{Extensions, HeaderMap, Method, Uri};
use matchit::Router;

use super::{
    invalidate::{InvalidateRule, is_unsafe},
    pattern::{self, Pattern},
    reference::{Target, references},
    request::{HeadRef, RequestView},
    rule::CacheRule,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::{PrimaryKey, Subject},
};

/// The checked routes of a layer.
#[derive(Debug)]
pub(crate) struct Table {
    beginnings: Beginnings,
    reads: Router<usize>,
    read_rules: Vec<CacheRule>,
    /// Match wherever any of `write_rules` does, so that other requests cost one look. Several only
    /// where rules overlap in a way that one router does not take.
    writes: Vec<Router<()>>,
    write_rules: Vec<(Router<()>, InvalidateRule)>,
}

/// What a path tells at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// No rule can be for it. Most requests that none is for cost no more than this.
    Nothing,
    /// A rule may be for it.
    Rules,
    /// The same, and it may be one whose entries are found by their target alone.
    PlainRules,
}

/// What a request is to the cache.
pub(crate) enum Matched<'t, 'a> {
    /// No rule is for it.
    Pass,
    /// GET or HEAD on a cached route, the rule's index, and the path parameters.
    Read(usize, &'t CacheRule, matchit::Params<'t, 'a>),
    /// An unsafe request that may change what is cached.
    Write,
}

/// What a write invalidates, and the routes for which no usable key or tag could be made.
#[derive(Debug, Default)]
pub(crate) struct WriteMatch<'t> {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) failed: Vec<&'t str>,
    /// Whether any rule or route is for it.
    pub(crate) is_matched: bool,
}

impl Table {
    pub(crate) fn build(
        cached: Vec<CacheRule>,
        invalidating: Vec<InvalidateRule>,
    ) -> Result<Self, ConfigError> {
        let reads = cached.iter().map(|rule| (&rule.pattern, rule.is_plain()));
        let writes = invalidating.iter().map(|rule| (&rule.pattern, false));
        let beginnings = Beginnings::of(reads.chain(writes));
        let mut reads = Router::new();
        for (index, rule) in cached.iter().enumerate() {
            pattern::insert(&mut reads, &rule.pattern, index, || rule.route.clone())?;
            let earlier = cached[..index].iter().find(|other| other.bucket == rule.bucket);
            if let Some(other) = earlier.filter(|other| !other.has_settings_of(rule)) {
                return Err(ConfigError::new(
                    ConfigErrorKind::Bucket,
                    Some(rule.route.clone()),
                    "bucket",
                    format!("`{}` has other settings at `{}`", rule.bucket, other.route),
                ));
            }
        }
        let mut writes: Vec<Router<()>> = Vec::new();
        let mut write_rules: Vec<(Router<()>, InvalidateRule)> = Vec::new();
        for rule in invalidating {
            let mut own = Router::new();
            pattern::insert(&mut own, &rule.pattern, (), || rule.route.clone())?;
            let is_known = write_rules
                .iter()
                .any(|(_, other)| other.pattern.positional() == rule.pattern.positional());
            let positional = rule.pattern.positional();
            if !is_known && !writes.iter_mut().any(|w| w.insert(positional, ()).is_ok()) {
                writes.push(own.clone());
            }
            write_rules.push((own, rule));
        }
        Ok(Self { beginnings, reads, read_rules: cached, writes, write_rules })
    }

    pub(crate) fn read_rules(&self) -> &[CacheRule] {
        &self.read_rules
    }

    #[inline]
    pub(crate) fn concern(&self, path: &str) -> Concern {
        self.beginnings.concern(path)
    }

    pub(crate) fn classify<'t, 'a>(&'t self, method: &Method, path: &'a str) -> Matched<'t, 'a> {
        if *method == Method::GET || *method == Method::HEAD {
            return match self.reads.at(path) {
                Ok(found) => {
                    Matched::Read(*found.value, &self.read_rules[*found.value], found.params)
                }
                Err(_) => Matched::Pass,
            };
        }
        let is_write = is_unsafe(method)
            && (self.writes.iter().any(|w| w.at(path).is_ok()) || self.reads.at(path).is_ok());
        if is_write { Matched::Write } else { Matched::Pass }
    }

    /// Returns what a write invalidates: what every rule says that matches, and the key of the target
    /// itself where it is cached (RFC 9111 §4.4).
    pub(crate) fn write(&self, head: HeadRef<'_>) -> WriteMatch<'_> {
        let path = head.uri.path();
        let mut matched = WriteMatch::default();
        for (own, rule) in self.write_rules.iter().filter(|(_, rule)| rule.is_for(head.method)) {
            if let Ok(found) = own.at(path) {
                let view = RequestView { head, parameters: &found.params };
                matched.is_matched = true;
                rule.subjects(view).for_each(|subject| matched.add(subject, &rule.route));
            }
        }
        if let Ok(found) = self.reads.at(path) {
            let rule = &self.read_rules[*found.value];
            let key = rule.key(RequestView { head, parameters: &found.params });
            matched.is_matched = true;
            matched.add(key.map(Subject::Key), &rule.route);
        }
        matched
    }

    /// Returns the keys of cached routes that the response to a write names as changed too (RFC
    /// 9111 §4.4), where their paths alone tell them.
    pub(crate) fn named(&self, target: &Target, response: &HeaderMap) -> Vec<PrimaryKey> {
        let (headers, extensions) = (HeaderMap::new(), Extensions::new());
        let mut keys = Vec::new();
        for path in references(response).filter_map(|reference| target.path_of(reference)) {
            let Ok(found) = self.reads.at(&path) else { continue };
            let rule = &self.read_rules[*found.value];
            if rule.target_implies_key() {
                let (method, uri) = (&Method::GET, &Uri::default());
                let head = HeadRef { method, uri, headers: &headers, extensions: &extensions };
                keys.extend(rule.key(RequestView { head, parameters: &found.params }));
            }
        }
        keys
    }
}

/// What the first segment begins with that patterns differ in: paths that no rule is for are mostly
/// told by these two characters.
struct Beginnings {
    /// Where that segment begins: behind `/`, or behind what all patterns have, like `/api/`.
    start: usize,
    /// By the first of the characters.
    seconds: [Seconds; 256],
}

/// A bit for each second character.
#[derive(Clone, Copy, Default)]
struct Seconds {
    all: u32,
    /// Of plain rules alone.
    plain: u32,
}

impl Seconds {
    fn add(&mut self, bits: u32, is_plain: bool) {
        self.all |= bits;
        self.plain |= if is_plain { bits } else { 0 };
    }
}

impl Beginnings {
    /// Takes patterns, and whether the rule of each is plain.
    fn of<'p>(patterns: impl Iterator<Item = (&'p Pattern, bool)> + Clone) -> Self {
        let heads = patterns.clone().map(|(pattern, _)| pattern.literal_head().as_bytes());
        // All but two characters of any: a segment that all have tells most others apart as well.
        let shortest = heads.clone().map(<[u8]>::len).min().unwrap_or(0).saturating_sub(2);
        let common = heads.reduce(in_common).unwrap_or_default();
        let common = &common[..common.len().min(shortest)];
        let start = common.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let mut seconds = [Seconds::default(); 256];
        for (pattern, is_plain) in patterns {
            match characters(pattern.as_str(), start) {
                // A parameter, or a brace that is meant: any character may stand there.
                [b'{' | b'}', _] => seconds.iter_mut().for_each(|all| all.add(u32::MAX, is_plain)),
                [first, b'{' | b'}'] => seconds[usize::from(first)].add(u32::MAX, is_plain),
                [first, second] => seconds[usize::from(first)].add(bit(second), is_plain),
            }
        }
        Self { start, seconds }
    }

    #[inline]
    fn concern(&self, path: &str) -> Concern {
        let [first, second] = characters(path, self.start);
        let Seconds { all, plain } = self.seconds[usize::from(first)];
        match bit(second) {
            bit if plain & bit != 0 => Concern::PlainRules,
            bit if all & bit != 0 => Concern::Rules,
            _ => Concern::Nothing,
        }
    }
}

impl fmt::Debug for Beginnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beginnings").finish_non_exhaustive()
    }
}

/// Returns the two characters of a path that stand at a place. No path has a zero in it.
#[inline]
fn characters(path: &str, at: usize) -> [u8; 2] {
    let rest = path.as_bytes().get(at..).unwrap_or_default();
    [0, 1].map(|place| rest.get(place).copied().unwrap_or(0))
}

fn bit(character: u8) -> u32 {
    1 << (character % 32)
}

/// Returns what two texts begin with alike.
fn in_common<'t>(one: &'t [u8], other: &[u8]) -> &'t [u8] {
    let length = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    &one[..length]
}

impl<'t> WriteMatch<'t> {
    fn add(&mut self, subject: Option<Subject>, route: &'t str) {
        match subject {
            Some(subject) if !self.subjects.contains(&subject) => self.subjects.push(subject),
            Some(_) => {}
            None => self.failed.push(route),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{CacheRoute, Credentials, InvalidateRoute, verify::random::for_all};

    #[track_caller]
    fn check(cached: &str, invalidating: &str, paths: &[(&str, bool)]) {
        let cached = CacheRoute::get(cached).key("k").ttl(Duration::from_secs(1));
        let invalidating = InvalidateRoute::post(invalidating).key("k");
        let cached = vec![cached.build(&Credentials::Bypass).unwrap()];
        let table = Table::build(cached, vec![invalidating.build().unwrap()]).unwrap();
        for (path, expected) in paths {
            assert_eq!(table.concern(path) != Concern::Nothing, *expected, "{path}");
        }
    }

    #[test]
    fn a_path_concerns_no_rule_where_none_begins_like_it() {
        let paths = [("/cases/1", true), ("/notes", true), ("/x", false), ("/contacts", false)];
        check("/cases/{case}", "/notes", &paths);
        check("/cases/{case}", "/notes", &[("/c", false), ("/", false), ("", false), ("*", false)]);
        check("/", "/notes", &[("/", true), ("/x", false), ("/no", true)]);
        check("/{case}", "/notes", &[("/1", true), ("/x", true)]);
        check("/{{x", "/notes", &[("/{x", true)]);
        check("/c{case}", "/notes", &[("/cases", true), ("/c-", true), ("/x", false)]);
        check("/c{{x", "/notes", &[("/c{x", true)]);
    }

    #[test]
    fn what_all_patterns_begin_with_tells_nothing() {
        let paths = [("/api/cases/1", true), ("/api/notes", true), ("/api/contacts", false)];
        check("/api/cases/{case}", "/api/notes", &paths);
        check("/api", "/api/notes", &[("/api", true), ("/api/notes", true), ("/x", false)]);
        check("/é/a", "/è/a", &[("/é/a", true), ("/è/a", true), ("/a", false)]);
        // But where they have all in common that has no parameters, its last segment tells.
        let paths = [("/api/cases", true), ("/api/cases/1", true), ("/api/notes", false)];
        check("/api/cases", "/api/cases/{case}", &paths);
        check("/api/cases/{a}", "/api/cases/{b}/c", &[("/api/cases/1/c", true), ("/api/x", false)]);
        check("/{a}", "/{b}/c", &[("/1", true), ("/1/c", true)]);
    }

    #[test]
    fn whatever_a_rule_is_for_may_concern_one() {
        const FIRST: [&str; 8] = ["", "a", "ab", "b", "{x}", "a{x}", "{{", "é"];
        const SECOND: [&str; 4] = ["", "/a", "/b", "/{y}"];
        for_all(|random| {
            let [cached, invalidating] =
                [(); 2].map(|()| format!("/{}{}", random.pick(&FIRST), random.pick(&SECOND)));
            let first = random.pick(&["", "a", "ab", "b", "{", "é"]);
            let path = format!("/{first}{}", random.pick(&SECOND[..3]));
            let cached = CacheRoute::get(&*cached).key("k").ttl(Duration::from_secs(1));
            let cached = cached.build(&Credentials::Bypass);
            let invalidating = InvalidateRoute::post(&*invalidating).key("k").build();
            if let (Ok(cached), Ok(invalidating)) = (cached, invalidating)
                && let Ok(table) = Table::build(vec![cached], vec![invalidating])
            {
                let is_read = matches!(table.classify(&Method::GET, &path), Matched::Read(..));
                let is_write = matches!(table.classify(&Method::POST, &path), Matched::Write);
                let concern = table.concern(&path);
                assert!(concern != Concern::Nothing || !is_write, "{path}");
                assert!(concern == Concern::PlainRules || !is_read, "{path}");
            }
        });
    }
}
