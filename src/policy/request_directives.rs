//! What a request asks of a cache (RFC 9111 §5.2.1).

use std::time::Duration;

use http::{
    HeaderMap,
    header::{CACHE_CONTROL, PRAGMA},
};

use super::cache_control::members;

/// Whether clients may tell the cache what to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestDirectives {
    /// `Cache-Control` and `Pragma` of a request change nothing, but for `no-store`: such a request
    /// may be answered from the cache and stores nothing. So no client can force a miss.
    #[default]
    Ignore,
    /// `no-cache`, `max-age`, `min-fresh`, `only-if-cached` and `Pragma: no-cache` count too.
    ///
    /// Any client can then make the origin work for each of its requests.
    Honour,
}

/// What one request asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Store nothing of this exchange.
    pub(crate) no_store: bool,
    /// Answer from the store or not at all.
    pub(crate) only_if_cached: bool,
    max_age: Option<u64>,
    min_fresh: Option<u64>,
}

impl Wishes {
    /// What most requests ask.
    pub(crate) const NONE: Self =
        Self { no_store: false, only_if_cached: false, max_age: None, min_fresh: None };

    pub(crate) fn of(fields: &HeaderMap, heeded: RequestDirectives) -> Self {
        let mut all = Self::default();
        for member in members(fields) {
            all.no_store |= member.mentions("no-store");
            all.only_if_cached |= member.is_named("only-if-cached");
            if member.is_named("no-cache") {
                all.max_age = Some(0);
            }
            if let Some(seconds) = member.seconds("max-age") {
                // What is no number asks for the most that it could.
                let seconds = seconds.unwrap_or(0);
                all.max_age = Some(all.max_age.map_or(seconds, |other| other.min(seconds)));
            }
            if let Some(seconds) = member.seconds("min-fresh") {
                all.min_fresh = Some(seconds.unwrap_or(u64::MAX).max(all.min_fresh.unwrap_or(0)));
            }
        }
        // RFC 9111 §5.4: `Pragma` counts where there is no `Cache-Control`.
        let is_pragma =
            |line: &http::HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"no-cache");
        if !fields.contains_key(CACHE_CONTROL) && fields.get_all(PRAGMA).iter().any(is_pragma) {
            all.max_age = Some(0);
        }
        match heeded {
            RequestDirectives::Honour => all,
            RequestDirectives::Ignore => Self { no_store: all.no_store, ..Self::default() },
        }
    }

    /// Whether a fresh response of this age, fresh for `ttl` seconds more, is good enough.
    pub(crate) fn accept(&self, age: Duration, ttl: u64) -> bool {
        // `no-cache` and `max-age=0` accept nothing, not even what is new this very second.
        let is_young = self.max_age.is_none_or(|limit| limit > 0 && age.as_secs() <= limit);
        let stays_fresh = self.min_fresh.is_none_or(|wanted| ttl >= wanted);
        is_young && stays_fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, age: u64, ttl: u64, expected: bool) {
        let mut fields = HeaderMap::new();
        fields.insert(CACHE_CONTROL, line.parse().unwrap());
        let wishes = Wishes::of(&fields, RequestDirectives::Honour);
        assert_eq!(wishes.accept(Duration::from_secs(age), ttl), expected, "{line}");
        let ignored = Wishes::of(&fields, RequestDirectives::Ignore);
        assert!(ignored.accept(Duration::from_secs(age), ttl) && !ignored.only_if_cached);
    }

    #[test]
    fn directives_limit_what_is_good_enough() {
        check("no-cache", 0, 60, false);
        check("no-cache=x, max-age=60", 0, 60, false);
        check("max-age=0", 0, 60, false);
        check("max-age=5", 5, 60, true);
        check("max-age=5", 6, 60, false);
        check("max-age=60, max-age=5", 6, 60, false);
        check("max-age=x", 1, 60, false);
        check("min-fresh=10", 0, 10, true);
        check("min-fresh=10", 0, 9, false);
        check("max-stale=100, unknown", 1, 1, true);
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut fields = HeaderMap::new();
        fields.insert(PRAGMA, "No-Cache".parse().unwrap());
        assert!(!Wishes::of(&fields, RequestDirectives::Honour).accept(Duration::ZERO, 60));
        fields.insert(CACHE_CONTROL, "max-stale".parse().unwrap());
        assert!(Wishes::of(&fields, RequestDirectives::Honour).accept(Duration::ZERO, 60));
    }
}
