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
    initials: Initials,
    /// Those of the routes whose entries can be found by their target alone.
    plain_initials: Initials,
    reads: Router<usize>,
    read_rules: Vec<CacheRule>,
    /// Match wherever any of `write_rules` does, so that other requests cost one look. Several only
    /// where rules overlap in a way that one router does not take.
    writes: Vec<Router<()>>,
    write_rules: Vec<(Router<()>, InvalidateRule)>,
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
        let patterns = cached.iter().map(|rule| &rule.pattern);
        let plain = cached.iter().filter(|rule| rule.is_plain()).map(|rule| &rule.pattern);
        let plain_initials = Initials::of(plain);
        let initials = Initials::of(patterns.chain(invalidating.iter().map(|rule| &rule.pattern)));
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
        Ok(Self { initials, plain_initials, reads, read_rules: cached, writes, write_rules })
    }

    pub(crate) fn read_rules(&self) -> &[CacheRule] {
        &self.read_rules
    }

    /// Whether any rule can be for a path. Most requests that none is for cost no more than this.
    pub(crate) fn may_concern(&self, path: &str) -> bool {
        self.initials.0[usize::from(initial(path))]
    }

    /// Whether a look by the target alone can find anything.
    pub(crate) fn may_be_plain(&self, path: &str) -> bool {
        self.plain_initials.0[usize::from(initial(path))]
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

/// The first characters that paths have after the slash, where a rule may be for them.
struct Initials([bool; 256]);

impl Initials {
    fn of<'p>(patterns: impl Iterator<Item = &'p Pattern>) -> Self {
        let mut initials = [false; 256];
        for pattern in patterns {
            match initial(pattern.as_str()) {
                // A parameter, or a brace that is meant: any character may stand there.
                b'{' | b'}' => initials = [true; 256],
                initial => initials[usize::from(initial)] = true,
            }
        }
        Self(initials)
    }
}

impl fmt::Debug for Initials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initials").finish_non_exhaustive()
    }
}

fn initial(path: &str) -> u8 {
    path.as_bytes().get(1).copied().unwrap_or(0)
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
    use crate::{CacheRoute, Credentials, InvalidateRoute};

    #[track_caller]
    fn check(cached: &str, invalidating: &str, paths: &[(&str, bool)]) {
        let cached = CacheRoute::get(cached).key("k").ttl(Duration::from_secs(1));
        let invalidating = InvalidateRoute::post(invalidating).key("k");
        let cached = vec![cached.build(&Credentials::Bypass).unwrap()];
        let table = Table::build(cached, vec![invalidating.build().unwrap()]).unwrap();
        for (path, expected) in paths {
            assert_eq!(table.may_concern(path), *expected, "{path}");
        }
    }

    #[test]
    fn a_path_concerns_no_rule_where_none_begins_like_it() {
        check("/cases/{case}", "/notes", &[("/cases/1", true), ("/notes", true), ("/x", false)]);
        check("/", "/notes", &[("/", true), ("/x", false), ("", true)]);
        check("/{case}", "/notes", &[("/", true), ("/x", true)]);
        check("/{{x", "/notes", &[("/{x", true)]);
    }
}
