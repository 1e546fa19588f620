//! All routes of a layer, and the route of a request.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, Method, Uri, Version};
use matchit::Router;

use super::{
    cache_rule::CacheRule,
    change::Changes,
    content::ReadMethod,
    host::HostPolicy,
    invalidate_route::{InvalidateRule, is_unsafe},
    reference::{Target, normalized, references},
    request::{HeadRef, RequestView},
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    insight::{InvalidatedSubject, InvalidatingRule},
    key::{PrimaryKey, Slot, Strength},
};

/// Checked routes of a layer.
pub(crate) struct RouteTable {
    /// For each method, the positions of its rules.
    reads: [Router<usize>; ReadMethod::COUNT],
    read_rules: Vec<Arc<CacheRule>>,
    write_rules: Vec<InvalidateRule>,
    /// Set if a route has coded forms.
    encodes: bool,
}

/// Relation of a request to a route with coded forms.
pub(crate) enum EncodingRoute<'t> {
    /// It reads what the route is for.
    Read(&'t CacheRule),
    /// It has the path of the route, and another method.
    Other,
}

/// Relation of a request to the cache.
pub(crate) enum Matched<'t, 'a> {
    /// No rule is for it.
    Pass,
    /// A request that a cached route is for.
    Read {
        /// Position of the rule among all.
        route: usize,
        parameters: matchit::Params<'t, 'a>,
    },
    /// An unsafe request to which a rule or a cached route applies.
    Write(WriteMatch<'t>),
    /// An unsafe request to which neither applies.
    Unmatched,
}

/// Changes by a write.
#[derive(Debug, Default)]
pub(crate) struct WriteMatch<'t> {
    pub(crate) changes: Changes,
    /// Routes for which no usable key or tag could be made.
    pub(crate) failed: Vec<&'t str>,
}

impl RouteTable {
    pub(crate) fn build(
        read_rules: Vec<CacheRule>,
        write_rules: Vec<InvalidateRule>,
    ) -> Result<Self, ConfigError> {
        let mut reads: [_; ReadMethod::COUNT] = Default::default();
        for (index, rule) in read_rules.iter().enumerate() {
            let earlier = read_rules[..index].iter().filter(|other| other.method == rule.method);
            let earlier: Vec<_> = earlier.map(|rule| &rule.pattern).collect();
            let inserted = rule.pattern.insert(&mut reads[rule.method as usize], index, &earlier);
            inserted.map_err(|error| error.at(&rule.route))?;
            let of_bucket = read_rules[..index].iter().find(|other| other.bucket == rule.bucket);
            let Some(other) = of_bucket else { continue };
            if let Some(setting) = rule.differing_setting(other) {
                let problem = format!(
                    "`{}` has another `{setting}` at `{}`: give one of the two routes a bucket of \
                     its own by `.bucket(\"name\")`",
                    rule.bucket, other.route,
                );
                let error = ConfigError::new(ConfigErrorKind::Bucket, "bucket", problem);
                return Err(error.at(&rule.route));
            }
        }
        let encodes = read_rules.iter().any(|rule| !rule.codings.offered.is_empty());
        let read_rules = read_rules.into_iter().map(Arc::new).collect();
        Ok(Self { reads, read_rules, write_rules, encodes })
    }

    /// Returns whether some request makes this key.
    pub(crate) fn can_make_key(&self, key: &str) -> bool {
        self.read_rules.iter().any(|rule| rule.can_make_key(key))
    }

    /// Returns whether some request makes this tag.
    pub(crate) fn can_make_tag(&self, tag: &str) -> bool {
        self.read_rules.iter().any(|rule| rule.can_make_tag(tag))
    }

    /// Returns the rules by which writes invalidate what a route stores in a slot, and the write to its own
    /// path (RFC 9111 §4.4).
    pub(crate) fn invalidating(&self, rule: &CacheRule, slot: &Slot) -> Vec<InvalidatingRule> {
        let mut rules: Vec<_> =
            self.write_rules.iter().flat_map(|rule| rule.invalidating(slot)).collect();
        rules.push(InvalidatingRule {
            rule: format!("any unsafe method on {}", rule.pattern.as_str()),
            subject: InvalidatedSubject::key(&slot.key, Strength::Hard),
            is_certain: rule.target_implies_key(),
        });
        rules
    }

    /// Returns whether a route shares responses among hosts.
    pub(crate) fn ignores_hosts(&self) -> bool {
        self.read_rules.iter().any(|rule| rule.host == HostPolicy::Ignore)
    }

    /// Returns the longest time for which fills are told of an invalidation; zero for none.
    pub(crate) fn longest_settle(&self) -> Duration {
        self.read_rules.iter().map(|rule| rule.settle).max().unwrap_or_default()
    }

    /// Returns whether a route has coded forms.
    pub(crate) fn encodes(&self) -> bool {
        self.encodes
    }

    /// Returns the route with coded forms that a request reads, or whose path it has.
    pub(crate) fn encoding(&self, method: &Method, path: &str) -> Option<EncodingRoute<'_>> {
        let at = |reads: &Router<usize>| reads.at(path).ok().map(|found| *found.value);
        let rule = |place: usize| &*self.read_rules[place];
        let encodes = |rule: &&CacheRule| !rule.codings.offered.is_empty();
        match ReadMethod::of(method).and_then(|method| at(&self.reads[method as usize])) {
            Some(place) => Some(rule(place)).filter(encodes).map(EncodingRoute::Read),
            None => self
                .reads
                .iter()
                .filter_map(at)
                .map(rule)
                .find(encodes)
                .map(|_| EncodingRoute::Other),
        }
    }

    pub(crate) fn read_rules(&self) -> &[Arc<CacheRule>] {
        &self.read_rules
    }

    /// Returns the relation of a request to the cache.
    #[inline]
    pub(crate) fn classify<'t, 'a>(&'t self, head: HeadRef<'a>) -> Matched<'t, 'a> {
        let reads = ReadMethod::of(head.method).map(|method| &self.reads[method as usize]);
        if let Some(Ok(found)) = reads.map(|reads| reads.at(head.uri.path())) {
            return Matched::Read { route: *found.value, parameters: found.params };
        }
        if !is_unsafe(head.method) {
            return Matched::Pass;
        }
        self.write(head).map_or(Matched::Unmatched, Matched::Write)
    }

    /// Returns the changes by a write: those of every rule that matches, and the key of the target itself
    /// if it is cached (RFC 9111 §4.4). `None` if neither applies.
    ///
    /// The path is matched as it was sent, and also as the service may know it, which may normalize it.
    pub(crate) fn write(&self, head: HeadRef<'_>) -> Option<WriteMatch<'_>> {
        let normalized = normalized(head.uri.path()).and_then(|path| path.parse::<Uri>().ok());
        let normalized = normalized.as_ref().map(|uri| HeadRef { uri, ..head });
        let mut matched = None;
        for head in [Some(head), normalized].into_iter().flatten() {
            self.add_by_rules(&mut matched, head);
        }
        // Last, since it is for as long as the rules say.
        for head in [Some(head), normalized].into_iter().flatten() {
            self.add_target(&mut matched, head);
        }
        matched
    }

    /// Adds the changes by the rules that match the path of a write.
    fn add_by_rules<'t>(&'t self, matched: &mut Option<WriteMatch<'t>>, head: HeadRef<'_>) {
        for rule in &self.write_rules {
            let Some(changes) = rule.changes(head) else { continue };
            let matched = matched.get_or_insert_default();
            matched.changes.match_rule(rule.windows);
            for change in changes {
                match change {
                    Some(change) => matched.changes.add(change),
                    None => matched.failed.push(&rule.route),
                }
            }
        }
    }

    /// Adds the keys of the cached routes that the path of a write matches.
    fn add_target<'t>(&'t self, matched: &mut Option<WriteMatch<'t>>, head: HeadRef<'_>) {
        for found in self.reads.iter().filter_map(|reads| reads.at(head.uri.path()).ok()) {
            let rule = &self.read_rules[*found.value];
            let matched = matched.get_or_insert_default();
            if rule.ignored_writes.contains(head.method) {
                continue;
            }
            let key = rule.key(RequestView { head, parameters: &found.params });
            match key {
                Some(key) => matched.changes.imply(key.into()),
                None => matched.failed.push(&rule.route),
            }
        }
    }

    /// Returns the keys of cached routes to which the response to a write refers (RFC 9111 §4.4), as
    /// far as paths alone imply keys.
    pub(crate) fn named(&self, target: &Target, response: &HeaderMap) -> Vec<PrimaryKey> {
        let (headers, extensions) = (HeaderMap::new(), Extensions::new());
        let mut keys = Vec::new();
        let paths = references(response).filter_map(|reference| target.path_of(reference));
        let paths: Vec<_> = paths.collect();
        let found =
            paths.iter().flat_map(|path| self.reads.iter().map(move |reads| reads.at(path)));
        for found in found.flatten() {
            let rule = &self.read_rules[*found.value];
            if rule.target_implies_key() {
                let (method, uri) = (&Method::GET, &Uri::default());
                let (headers, extensions) = (&headers, &extensions);
                let version = Version::HTTP_11;
                let head = HeadRef { method, uri, version, headers, extensions };
                keys.extend(rule.key(RequestView { head, parameters: &found.params }));
            }
        }
        keys
    }
}
