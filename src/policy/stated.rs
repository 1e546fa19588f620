//! What a response says of its own freshness (RFC 9111 §5.2.2).
//!
//! For routes that leave it to the response. Where a route has a lifetime of its own, what is
//! [forbidden](super::cache_control::Directives) is all that counts.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::{
    cache_control::{Member, members},
    freshness::MOST_SECONDS,
    targeted::Targeted,
};
use crate::entry::{Windows, is_for_every_recipient};

/// The directives that say how long, and with which fields, a response may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    /// The least of several; zero where one is malformed (RFC 9111 §4.2.1).
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// Whether it is never used stale: `must-revalidate`, `proxy-revalidate`, or `s-maxage`, which
    /// means the same (RFC 9111 §5.2.2.10).
    pub(super) must_revalidate: bool,
    /// Whether `Expires` is of no account: a targeted field takes its place too (RFC 9213 §2.2).
    pub(super) is_targeted: bool,
    pub(super) is_public: bool,
    pub(super) must_understand: bool,
    pub(super) no_cache: Extent,
    pub(super) private: Extent,
}

/// How much of a response a restriction is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Extent {
    #[default]
    Nothing,
    Fields(Vec<HeaderName>),
    Everything,
}

impl Stated {
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut stated = Self::default();
        for member in members(fields) {
            least(&mut stated.max_age, member.seconds("max-age"));
            least(&mut stated.s_maxage, member.seconds("s-maxage"));
            least(&mut stated.stale_while_revalidate, member.seconds("stale-while-revalidate"));
            least(&mut stated.stale_if_error, member.seconds("stale-if-error"));
            stated.must_revalidate |= ["must-revalidate", "proxy-revalidate", "s-maxage"]
                .iter()
                .any(|name| member.mentions(name));
            stated.is_public |= member.is_exactly("public");
            stated.must_understand |= member.mentions("must-understand");
            stated.no_cache.widen(member, "no-cache");
            stated.private.widen(member, "private");
        }
        stated
    }

    /// The same of a targeted field. A restriction is of the whole response there.
    pub(super) fn targeted(told: &Targeted) -> Self {
        let extent = |name| if told.has(name) { Extent::Everything } else { Extent::Nothing };
        Self {
            max_age: told.seconds("max-age"),
            s_maxage: told.seconds("s-maxage"),
            stale_while_revalidate: told.seconds("stale-while-revalidate"),
            stale_if_error: told.seconds("stale-if-error"),
            must_revalidate: ["must-revalidate", "proxy-revalidate", "s-maxage"]
                .iter()
                .any(|name| told.has(name)),
            is_targeted: true,
            is_public: told.has("public"),
            must_understand: told.has("must-understand"),
            no_cache: extent("no-cache"),
            private: extent("private"),
        }
    }

    /// Whether a directive says how long the response is fresh.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn gives_lifetime(&self) -> bool {
        self.max_age.is_some() || self.s_maxage.is_some()
    }

    /// Returns for how long the response may be used stale: as it says, or else as its route does.
    pub(super) fn windows(&self, of_route: Windows) -> Windows {
        if self.must_revalidate || self.no_cache != Extent::Nothing {
            return Windows::default();
        }
        let window = |stated: Option<u64>, of_route| {
            stated.map_or(of_route, |seconds| Duration::from_secs(seconds.min(MOST_SECONDS)))
        };
        Windows {
            while_revalidate: window(self.stale_while_revalidate, of_route.while_revalidate),
            if_error: window(self.stale_if_error, of_route.if_error),
            to_validate: Duration::ZERO,
        }
    }
}

impl Extent {
    /// Adds what a member says. Only a well-formed list of fields that a response can do without
    /// narrows a restriction.
    fn widen(&mut self, member: Member<'_>, name: &str) {
        if !member.mentions(name) {
            return;
        }
        let listed = member.listed(name).filter(|names| !names.iter().any(is_for_every_recipient));
        match (&mut *self, listed) {
            (Self::Everything, _) => {}
            (_, None) => *self = Self::Everything,
            (Self::Nothing, Some(names)) => *self = Self::Fields(names),
            (Self::Fields(known), Some(names)) => known.extend(names),
        }
    }

    pub(super) fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Nothing | Self::Everything => &[],
        }
    }
}

fn least(known: &mut Option<u64>, seconds: Option<Result<u64, ()>>) {
    if let Some(seconds) = seconds {
        let seconds = seconds.unwrap_or(0);
        *known = Some(known.map_or(seconds, |known| known.min(seconds)));
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::CACHE_CONTROL};

    use super::*;

    fn stated(lines: &[&'static str]) -> Stated {
        let lines = lines.iter().map(|line| (CACHE_CONTROL, HeaderValue::from_static(line)));
        Stated::of(&lines.collect())
    }

    #[test]
    fn the_least_of_several_lifetimes_counts_and_a_malformed_one_is_none() {
        for (lines, max_age) in [
            (&["max-age=5"][..], Some(5)),
            (&["max-age=5, Max-Age=3"], Some(3)),
            (&["max-age=5", "max-age=7"], Some(5)),
            (&["max-age=5, max-age=x"], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age=1.5"], Some(0)),
            (&["max-age=-1"], Some(0)),
            (&["max-age='5'"], Some(0)),
            (&["max-age=\"5\""], Some(5)),
            (&["x-max-age=5, max-age-x=5"], None),
            (&["max-age=99999999999999999999"], Some(1 << 31)),
        ] {
            assert_eq!(stated(lines).max_age, max_age, "{lines:?}");
        }
    }

    #[test]
    fn a_list_of_fields_narrows_a_restriction_only_if_nothing_else_is_said() {
        let names = |names: &[&'static str]| {
            Extent::Fields(names.iter().map(|name| HeaderName::from_static(name)).collect())
        };
        for (line, private) in [
            ("max-age=5", Extent::Nothing),
            ("private=\"x-user\"", names(&["x-user"])),
            ("Private = \"X-User , set-cookie\"", names(&["x-user", "set-cookie"])),
            ("private=\"a\", private=\"b\"", names(&["a", "b"])),
            ("private=\"a\", private", Extent::Everything),
            ("private, private=\"a\"", Extent::Everything),
            ("private=\"\"", Extent::Everything),
            ("private=a", Extent::Everything),
            ("private=\"a b\"", Extent::Everything),
            ("private=\"a\\,b\"", Extent::Everything),
            ("private=\"a\"x", Extent::Everything),
            ("private=\"a", Extent::Everything),
            ("x private=\"a\"", Extent::Everything),
            ("private=\"content-type\"", Extent::Everything),
            ("private=\"a, vary\"", Extent::Everything),
        ] {
            assert_eq!(stated(&[line]).private, private, "{line}");
        }
    }
}
