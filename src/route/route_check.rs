//! Checks of a route's settings, and the rule that they make.

use std::time::Duration;

use super::{
    cache_route::CacheRoute,
    cache_rule::{CacheRule, Scope, is_metric_name},
    content::ReadMethod,
    credentials::Credentials,
    key_builder::KeyBuilder,
    pattern::Pattern,
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    key::Nominated,
    policy::{Freshness, Lifetimes, StoragePolicy, unfit_status},
};

const MAX_JITTER: u8 = 50;
const MAX_BETA: f32 = 10.0;
const MAX_SETTLE: Duration = Duration::from_secs(3600);
/// RFC 9111 §4.2.2 suggests no more.
const MAX_HEURISTIC: u8 = 10;

/// Longest lifetime of a response: a century. It is long enough for any response, and short enough
/// to be added to any clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl CacheRoute {
    /// Checks the route. `credentials` applies if the route sets none.
    pub(crate) fn build(self, credentials: &Credentials) -> Result<CacheRule, ConfigError> {
        let route = format!("{} {}", self.method.as_str(), self.pattern);
        self.rule(&route, credentials).map_err(|error| error.at(&route))
    }

    fn rule(self, route: &str, credentials: &Credentials) -> Result<CacheRule, ConfigError> {
        let pattern = Pattern::parse(&self.pattern)?;
        if !is_metric_name(&self.bucket) {
            let problem = "is no name for metrics: write lower-case letters, digits and `_`, \
                           at most 64, a letter first";
            return Err(refusal(ConfigErrorKind::Bucket, "bucket", problem));
        }
        if let Some(problem) = self.host.fault() {
            return Err(refusal(ConfigErrorKind::Host, "host", problem));
        }
        self.check_lifetimes()?;
        self.check_limits()?;
        let key = KeyBuilder::of_route(self.template, self.key_with, &pattern)?;
        let tags = self.tags.into_iter().map(|source| KeyBuilder::new(source, &pattern, "tag"));
        let tags = tags.collect::<Result<_, _>>()?;
        let credentials = self.credentials.unwrap_or_else(|| credentials.clone());
        Ok(CacheRule {
            route: route.to_owned(),
            method: self.method,
            pattern,
            key,
            tags,
            tag_field: None,
            scope: Scope::default(),
            bucket: self.bucket,
            storage: StoragePolicy { is_per_caller: credentials.is_per_caller(), ..self.storage },
            soft_timeout: self.soft_timeout,
            early_refresh: self.early_refresh,
            audit: self.audit,
            credentials,
            query: self.query,
            no_vary_search: self.no_vary_search,
            content: self.content,
            ignored_writes: self.ignored_writes,
            host: self.host,
            request_directives: self.request_directives,
            vary: Nominated::new(self.vary),
            body_limit: self.body_limit,
            makes_etag: self.makes_etag,
            codings: self.codings,
            coalescing: self.coalescing,
            quota: self.quota,
            when_exhausted: self.when_exhausted,
            settle: self.settle.unwrap_or_default(),
        })
    }

    fn check_lifetimes(&self) -> Result<(), ConfigError> {
        let StoragePolicy { lifetimes, windows, rules, .. } = &self.storage;
        let times = [
            ("ttl_between", lifetimes.least_ttl),
            ("ttl", lifetimes.ttl),
            ("negative_ttl", lifetimes.negative_ttl),
            ("stale_while_revalidate", Some(windows.while_revalidate)),
            ("stale_if_error", Some(windows.if_error)),
        ];
        for (field, time) in times {
            let is_lifetime = field.contains("ttl");
            match time {
                Some(Duration::ZERO) if is_lifetime => {
                    let problem = "is zero: give a longer time, or remove it";
                    return Err(refusal(ConfigErrorKind::Ttl, field, problem));
                }
                Some(time) if time > LONGEST => {
                    let problem = "is over a century: give a shorter time";
                    return Err(refusal(ConfigErrorKind::Ttl, field, problem));
                }
                _ => {}
            }
        }
        let gives_ttl = lifetimes.ttl.is_some() || rules.ttl_with.is_some();
        if !gives_ttl && lifetimes.freshness == Freshness::Fixed {
            let problem = "is missing: give `.ttl(..)` or `.freshness(Freshness::Origin)`";
            return Err(refusal(ConfigErrorKind::Ttl, "ttl", problem));
        }
        let mut statuses = lifetimes.statuses.iter().flatten();
        if let Some(problem) = statuses.find_map(|status| unfit_status(*status)) {
            return Err(refusal(ConfigErrorKind::Status, "statuses", problem));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let Lifetimes { freshness, heuristic_percent, jitter_percent, ttl, least_ttl, .. } =
            self.storage.lifetimes;
        let is_beta = (0.0..=MAX_BETA).contains(&self.early_refresh);
        let is_get = self.method == ReadMethod::Get;
        let is_unfit = !(0.0..=1.0).contains(&self.audit) || self.audit > 0.0 && !is_get;
        let faults = [
            (heuristic_percent > MAX_HEURISTIC, "heuristic", "is over 10 percent: give 10 or less"),
            (
                heuristic_percent > 0 && freshness == Freshness::Fixed,
                "heuristic",
                "is for `Freshness::Origin`: add `.freshness(Freshness::Origin)`, or remove it",
            ),
            (!is_beta, "early_refresh", "is not between 0 and 10: 1 suits most routes"),
            (is_unfit, "audit", "is a share from 0 to 1, for GET alone: give 0.001, or remove it"),
            (least_ttl > ttl, "ttl_between", "begins with the longer time: give the shorter first"),
            (jitter_percent > MAX_JITTER, "jitter", "is over 50 percent: give 50 or less"),
            (self.settle == Some(Duration::ZERO), "settle", "is zero: give more, or remove it"),
            (self.settle > Some(MAX_SETTLE), "settle", "is over an hour: give a shorter time"),
            (
                self.content.is_some() && is_get,
                "content_limit",
                "and normalizing are for routes whose requests have content: use `CacheRoute::query`",
            ),
            (
                self.codings.is_for_callers && self.codings.offered.is_empty(),
                "encode_per_caller",
                "needs codings: add `.encode([ContentCoding::Gzip])`, or remove it",
            ),
            (self.body_limit == 0, "body_limit", "is zero: give at least 1, or remove the route"),
        ];
        match faults.into_iter().find(|(is_fault, ..)| *is_fault) {
            Some((_, field, problem)) => Err(refusal(ConfigErrorKind::Limit, field, problem)),
            None => Ok(()),
        }
    }
}

fn refusal(kind: ConfigErrorKind, field: &'static str, problem: &str) -> ConfigError {
    ConfigError::new(kind, field, problem)
}
