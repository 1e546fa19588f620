//! Checked form of a cached route.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::ETAG, response};

use super::{
    content::{ContentRule, Denied, ReadMethod, RequestContent},
    credentials::Credentials,
    host::HostPolicy,
    key_builder::KeyBuilder,
    pattern::Pattern,
    query::QueryPolicy,
    request::{KeyRequest, RequestView},
};
use crate::{
    coding::CodingPolicy,
    entry::{Entry, Head, ShapeCache},
    key::{Nominated, PrimaryKey, Subject, Tags},
    origin::{Exhausted, Quota},
    policy::{Freshness, HeadRule, RequestDirectives, StoragePolicy, made_entity_tag},
};

/// Coalescing of concurrent misses into one origin request.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, Coalescing};
///
/// // Reports take minutes, and the origin prefers to queue requests itself.
/// CacheRoute::get("/reports/{report}")
///     .key("report:{report}")
///     .ttl(Duration::from_secs(600))
///     .coalescing(Coalescing::Off);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coalescing {
    /// One request is forwarded; the others wait for its response.
    #[default]
    On,
    /// Each request is forwarded, and each response that may be stored is stored.
    Off,
}

const MAX_BUCKET_NAME: usize = 64;

/// Digest of what a rule means, part of every variant.
pub(crate) type Scope = [u8; 16];

/// Cached route, checked.
pub(crate) struct CacheRule {
    /// Method and pattern, for messages.
    pub(crate) route: String,
    pub(crate) method: ReadMethod,
    pub(crate) pattern: Pattern,
    pub(super) key: KeyBuilder,
    pub(super) tags: Vec<KeyBuilder>,
    /// Field with further tags of a response.
    pub(crate) tag_field: Option<HeaderName>,
    /// Digest of the rule's meaning, part of every variant.
    pub(crate) scope: Scope,
    pub(crate) bucket: String,
    pub(crate) storage: StoragePolicy,
    /// Time after which a stale response answers instead of the origin.
    pub(crate) soft_timeout: Option<Duration>,
    /// Weight of early refreshes; 0 is never.
    pub(crate) early_refresh: f32,
    /// Share of its fills whose later hits are audited.
    pub(crate) audit: f64,
    pub(crate) credentials: Credentials,
    pub(crate) query: QueryPolicy,
    /// Set if responses may say what of the query counts.
    pub(crate) no_vary_search: bool,
    /// Settings of requests whose content is part of what they ask; `None` for GET.
    pub(crate) content: Option<ContentRule>,
    /// Methods of writes to its path that do not imply an invalidation.
    pub(super) ignored_writes: Vec<Method>,
    pub(crate) host: HostPolicy,
    pub(crate) request_directives: RequestDirectives,
    /// Fields that every variant holds, even if no response nominates them.
    pub(crate) vary: Nominated,
    pub(crate) body_limit: u64,
    /// Set if responses without a validator are given one.
    pub(crate) makes_etag: bool,
    pub(crate) codings: CodingPolicy,
    pub(crate) coalescing: Coalescing,
    pub(crate) quota: Quota,
    pub(crate) when_exhausted: Exhausted,
    /// Time after an invalidation in which a fill is told of it; zero for none.
    pub(crate) settle: Duration,
}

impl CacheRule {
    /// Returns the time for which responses are of use, fresh or stale. A response that states its
    /// own lifetime may be of use for longer.
    pub(crate) fn longest(&self) -> Duration {
        self.storage.lifetimes.longest() + self.storage.windows.longest()
    }

    /// Returns a stored entry as the route may use it: a lifetime or a window that another route has set
    /// ends where it would end here, if that is earlier. `None` for a response that this route would not
    /// have stored.
    pub(crate) fn adopt(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let Some((head, _)) = entry.as_response() else { return Some(entry) };
        let lifetime = head.lifetime().min(self.storage.longest_lifetime(head)?);
        let is_as_stored = lifetime == head.lifetime();
        // Most responses have no windows.
        if is_as_stored && !head.has_windows() {
            return Some(entry);
        }
        let windows = self.storage.windows_of(head);
        if is_as_stored && windows == head.windows() {
            return Some(entry);
        }
        entry.with_times(lifetime, windows).map(Arc::new)
    }

    /// Returns whether a digest by the caller key is part of every variant.
    pub(crate) fn digests_by_the_caller_key(&self) -> bool {
        self.credentials.digests_callers() || !self.vary.names().is_empty()
    }

    /// Gives a response without a validator an entity tag, where the route says so.
    pub(crate) fn tag(&self, response: &mut response::Parts, content: &[Bytes]) {
        if let Some(tag) = self.entity_tag(response.status, &response.headers, content) {
            // A map of fields that is full takes no more.
            let _ = response.headers.try_insert(ETAG, tag);
        }
    }

    /// Does the same for the head of a response whose content has come after it.
    pub(crate) fn tag_stored(&self, head: &mut Head, content: &[Bytes], shapes: &ShapeCache) {
        if let Some(tag) = self.entity_tag(head.status, &head.stored(), content) {
            head.add(&ETAG, tag, shapes);
        }
    }

    fn entity_tag(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        content: &[Bytes],
    ) -> Option<HeaderValue> {
        let is_asked_for = self.makes_etag && status == StatusCode::OK;
        is_asked_for.then(|| made_entity_tag(fields, content)).flatten()
    }

    /// Returns whether a response to a request is for its caller, as far as is known.
    pub(crate) fn is_for_caller(&self, has_credentials: bool) -> bool {
        let is_same = matches!(self.credentials, Credentials::SameForEverybody);
        self.credentials.is_per_caller() || has_credentials && !is_same
    }

    /// Returns the setting that has no meaning without a budget of the origin, if there is one.
    pub(super) fn needs_budget(&self) -> Option<&'static str> {
        if self.when_exhausted == Exhausted::Refuse {
            return Some("when_exhausted");
        }
        self.storage.lifetimes.least_ttl.map(|_| "ttl_between")
    }

    /// Returns whether a stale response is of any use.
    pub(crate) fn keeps_stale(&self) -> bool {
        self.validates() || self.storage.windows.allow_stale()
    }

    /// Returns whether stale responses are validated with the origin.
    pub(crate) fn validates(&self) -> bool {
        self.storage.lifetimes.freshness == Freshness::Origin
    }

    /// Decides whether a request reads.
    ///
    /// # Errors
    ///
    /// It is a write, or its content is to be read first.
    pub(crate) fn judge(
        &self,
        view: RequestView<'_, '_>,
        content: RequestContent<'_>,
    ) -> Result<(), Denied> {
        let Some(rule) = &self.content else { return Ok(()) };
        rule.judge(&KeyRequest { view, pattern: &self.pattern }, content)
    }

    /// Returns the primary key of a request, or `None` if it has no usable one.
    pub(crate) fn key(&self, view: RequestView<'_, '_>) -> Option<PrimaryKey> {
        self.key.key(&self.pattern, view)
    }

    /// Returns whether some request makes this key.
    pub(crate) fn can_make_key(&self, key: &str) -> bool {
        self.key.can_make(key)
    }

    /// Returns whether some request makes this tag, or may name it in its response.
    pub(crate) fn can_make_tag(&self, tag: &str) -> bool {
        self.tag_field.is_some() || self.tags.iter().any(|builder| builder.can_make(tag))
    }

    /// Returns the template by which the route makes a key or a tag. `None` if it makes another.
    pub(crate) fn template_of(&self, subject: &Subject) -> Option<&str> {
        match subject {
            Subject::Key(key) => self.key.template_of(key.as_str()),
            Subject::Tag(tag) => {
                let text = tag.text()?;
                self.tags.iter().find_map(|builder| builder.template_of(text))
            }
        }
    }

    /// Returns the template of its key, if it is not a closure.
    pub(crate) fn key_template(&self) -> Option<String> {
        self.key.template().map(str::to_owned)
    }

    /// Returns the templates of its tags.
    pub(crate) fn tag_templates(&self) -> Vec<String> {
        self.tags.iter().filter_map(KeyBuilder::template).map(str::to_owned).collect()
    }

    /// Returns the tags of all responses to a request, or `None` if one of them is unusable.
    pub(crate) fn tags(&self, view: RequestView<'_, '_>) -> Option<Tags> {
        self.tags.iter().map(|builder| builder.tag(&self.pattern, view)).collect()
    }

    /// Returns whether the target decides the key, so that the variant need not hold it.
    pub(crate) fn target_implies_key(&self) -> bool {
        self.key.is_template()
    }

    /// Returns whether the target decides the tags, so that the variant need not hold them.
    pub(crate) fn target_implies_tags(&self) -> bool {
        self.tags.iter().all(KeyBuilder::is_template)
    }

    /// Returns the first setting that routes of one bucket share and in which these two differ.
    pub(super) fn differing_setting(&self, other: &Self) -> Option<&'static str> {
        let (own, others) = (&self.storage.lifetimes, &other.storage.lifetimes);
        let (windows, other_windows) = (&self.storage.windows, &other.storage.windows);
        let settings = [
            ("freshness", own.freshness == others.freshness),
            ("heuristic", own.heuristic_percent == others.heuristic_percent),
            ("ttl", own.ttl == others.ttl),
            ("ttl_between", own.least_ttl == others.least_ttl),
            (
                "ttl_with",
                version(&self.storage.rules.ttl_with) == version(&other.storage.rules.ttl_with),
            ),
            (
                "store_if",
                version(&self.storage.rules.store_if) == version(&other.storage.rules.store_if),
            ),
            ("negative_ttl", own.negative_ttl == others.negative_ttl),
            ("statuses", own.statuses == others.statuses),
            ("jitter", own.jitter_percent == others.jitter_percent),
            ("body_limit", self.body_limit == other.body_limit),
            ("coalescing", self.coalescing == other.coalescing),
            ("quota", self.quota == other.quota),
            ("when_exhausted", self.when_exhausted == other.when_exhausted),
            ("settle", self.settle == other.settle),
            ("stale_while_revalidate", windows.while_revalidate == other_windows.while_revalidate),
            ("stale_if_error", windows.if_error == other_windows.if_error),
            ("soft_timeout", self.soft_timeout == other.soft_timeout),
            ("early_refresh", self.early_refresh == other.early_refresh),
            ("audit", self.audit == other.audit),
        ];
        settings.into_iter().find(|(_, is_same)| !is_same).map(|(name, _)| name)
    }

    /// Sets the scope of the rule: a digest of what decides which requests its entries may answer, what
    /// may be stored, how, and what invalidates it. `layer` has digested what the rules of a layer share.
    ///
    /// Rules that mean the same share entries, whatever other rules their layers have, and whatever their
    /// lifetimes and windows are: those are applied at each read ([`adopt`](Self::adopt)). Closures cannot
    /// be told apart.
    pub(crate) fn set_scope(&mut self, mut layer: blake3::Hasher) {
        let text = format!(
            "{}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n",
            self.pattern.positional(),
            self.key,
            self.tags,
            self.storage.scope(),
            self.query,
            self.host,
            self.credentials,
            self.vary,
        );
        layer.update(text.as_bytes());
        if let Some(content) = &self.content {
            layer.update(format!("{} {}\n", self.method.as_str(), content.scope()).as_bytes());
        }
        if self.no_vary_search {
            layer.update(b"no-vary-search\n");
        }
        self.scope.copy_from_slice(&layer.finalize().as_bytes()[..16]);
    }
}

/// Returns whether a bucket may have this name.
pub(super) fn is_metric_name(name: &str) -> bool {
    name.len() <= MAX_BUCKET_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn version<T>(rule: &Option<HeadRule<T>>) -> Option<u32> {
    rule.as_ref().map(|rule| rule.version)
}

#[cfg(test)]
mod tests {
    use http::{StatusCode, header::ACCEPT};

    use super::*;
    use crate::{CacheRoute, Caller};

    fn scope(route: CacheRoute) -> Scope {
        let mut rule = route.build(&Credentials::Bypass).unwrap();
        rule.set_scope(blake3::Hasher::new());
        rule.scope
    }

    #[test]
    fn rules_that_mean_something_else_have_another_scope() {
        let route = || CacheRoute::get("/a/{x}").key("k:{x}").ttl(Duration::from_secs(1));
        let query = || CacheRoute::query("/a/{x}").key("k:{x}").ttl(Duration::from_secs(1));
        let origin = || route().freshness(Freshness::Origin);
        let all = [
            route(),
            CacheRoute::get("/b/{x}").key("k:{x}").ttl(Duration::from_secs(1)),
            query(),
            CacheRoute::post_read("/a/{x}", |_, _| true).key("k:{x}").ttl(Duration::from_secs(1)),
            query().normalize_with(1, |_, _| None),
            query().normalize_with(2, |_, _| None),
            #[cfg(feature = "json")]
            query().normalize_json(),
            route().key("l:{x}"),
            route().tag("t:{x}"),
            route().statuses([StatusCode::OK, StatusCode::NOT_FOUND]),
            route().query_policy(QueryPolicy::Ignore),
            route().query_policy(QueryPolicy::Only(vec!["a".to_owned()])),
            route().query_policy(QueryPolicy::AllBut(vec!["a".to_owned()])),
            route().query_policy(QueryPolicy::Sorted(Box::new(QueryPolicy::AsSent))),
            route().no_vary_search(),
            route().host(HostPolicy::Ignore),
            route().host(HostPolicy::Only(vec!["a".to_owned()])),
            route().credentials(Credentials::CoveredByKey),
            route().credentials(Credentials::SameForEverybody),
            route().credentials(Credentials::PerCaller(Caller::authorization())),
            route().credentials(Credentials::PerTenant(Caller::authorization())),
            route().vary([ACCEPT]),
            route().strip([ACCEPT]),
            route().targeted([ACCEPT]),
            route().ttl_with(1, |_| None),
            route().ttl_with(2, |_| None),
            route().store_if(1, |_| true),
            origin(),
            origin().heuristic(1),
            origin().statuses([StatusCode::OK]),
            origin().statuses([StatusCode::OK, StatusCode::MOVED_PERMANENTLY]),
        ];
        let scopes: Vec<_> = all.into_iter().map(scope).collect();
        for (index, one) in scopes.iter().enumerate() {
            assert!(!scopes[index + 1..].contains(one), "rule {index}");
        }
    }

    #[test]
    fn rules_that_differ_in_names_times_and_limits_alone_have_one_scope() {
        let second = Duration::from_secs(1);
        let route = || CacheRoute::get("/a/{x}").key("k:{x}").ttl(second);
        let statuses = [StatusCode::NOT_FOUND, StatusCode::OK];
        let listed = |statuses| scope(route().statuses(statuses));
        assert_eq!(listed(statuses), listed([statuses[1], statuses[0]]));
        for same in [
            CacheRoute::get("/a/{y}").key("k:{y}").ttl(second),
            route().bucket("another"),
            route().ttl(2 * second),
            route().negative_ttl(second),
            route().jitter(50),
            route().stale_while_revalidate(second),
            route().stale_if_error(second),
            route().soft_timeout(second),
            route().early_refresh(1.0),
            route().audit(1.0),
            route().body_limit(1),
            route().coalescing(Coalescing::Off),
            route().settle(second),
            route().ignore_writes([Method::POST]),
            route().request_directives(RequestDirectives::Honour),
        ] {
            assert_eq!(scope(same.clone()), scope(route()), "{same:?}");
        }
    }
}
