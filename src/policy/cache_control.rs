//! `Cache-Control` (RFC 9111 §5.2), read in one pass.
//!
//! A restriction counts wherever it could be meant. Anything else counts only if it is well formed.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};

use super::{
    directive::{DirectiveName, MOST_SECONDS, Member, field_names, is_plain, seconds},
    targeted::Targeted,
};
use crate::entry::{Windows, is_for_every_recipient};

/// Number of listed fields above which a restriction applies to the whole response.
const MAX_FIELD_NAMES: usize = 64;

/// Directives of a request or of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: Extent,
    pub(crate) private: Extent,
    pub(crate) no_transform: bool,
    pub(super) is_public: bool,
    /// `public`, `s-maxage` or `must-revalidate`, which let a shared cache reuse the response to a
    /// request with credentials (RFC 9111 §3.5).
    pub(crate) permits_sharing: bool,
    /// `must-revalidate`, `proxy-revalidate`, or `s-maxage`, which means the same (RFC 9111
    /// §5.2.2.10).
    pub(super) must_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) only_if_cached: bool,
    /// Least of several; zero if one is malformed (RFC 9111 §4.2.1).
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// Greatest of several; without a limit if one is malformed.
    pub(super) min_fresh: Option<u64>,
    /// Set if a targeted field states them, which replaces `Expires` as well (RFC 9213 §2.2).
    pub(super) is_targeted: bool,
}

/// Part of a response to which a restriction applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    #[default]
    Nothing,
    Fields(Vec<HeaderName>),
    Everything,
}

impl Directives {
    /// Reads all lines of `Cache-Control`.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        Self::of_lines(fields.get_all(CACHE_CONTROL))
    }

    /// Reads lines of `Cache-Control`.
    pub(crate) fn of_lines<'l>(lines: impl IntoIterator<Item = &'l HeaderValue>) -> Self {
        let mut directives = Self::default();
        for line in lines {
            Member::all(line.as_bytes()).for_each(|member| directives.add(member));
        }
        directives
    }

    /// Reads the first usable targeted field of a response, or else `Cache-Control`.
    pub(super) fn of_response(targeted: &[HeaderName], fields: &HeaderMap) -> Self {
        match Targeted::of(targeted, fields) {
            Some(targeted) => Self::targeted(&targeted),
            None => Self::of(fields),
        }
    }

    fn targeted(stated: &Targeted) -> Self {
        use DirectiveName as Name;
        // RFC 9213 has no restriction of single fields.
        let extent = |name| match stated.has(name) {
            true => Extent::Everything,
            false => Extent::Nothing,
        };
        let has_any = |names: &[Name]| names.iter().any(|name| stated.has(*name));
        Self {
            no_store: stated.has(Name::NoStore),
            no_cache: extent(Name::NoCache),
            private: extent(Name::Private),
            no_transform: stated.has(Name::NoTransform),
            is_public: stated.has(Name::Public),
            permits_sharing: has_any(&[Name::Public, Name::MustRevalidate, Name::SMaxage]),
            must_revalidate: has_any(&[Name::MustRevalidate, Name::ProxyRevalidate, Name::SMaxage]),
            must_understand: stated.has(Name::MustUnderstand),
            only_if_cached: false,
            max_age: stated.seconds(Name::MaxAge),
            s_maxage: stated.seconds(Name::SMaxage),
            stale_while_revalidate: stated.seconds(Name::StaleWhileRevalidate),
            stale_if_error: stated.seconds(Name::StaleIfError),
            min_fresh: None,
            is_targeted: true,
        }
    }

    fn add(&mut self, member: Member<'_>) {
        use DirectiveName as Name;
        let parts = member.parts();
        match parts {
            Some((name, argument)) if is_plain(argument) => self.restrict(name, None),
            _ => member.mentioned(|name| {
                // A list of fields narrows a restriction only if it is well formed.
                let own = parts.filter(|(own, _)| *own == name);
                self.restrict(name, own.and_then(|(_, argument)| field_names(argument)));
            }),
        }
        let Some((name, argument)) = parts else { return };
        match (name, argument) {
            (Name::Public, None) => {
                self.is_public = true;
                self.permits_sharing = true;
            }
            (Name::MustRevalidate, None) => self.permits_sharing = true,
            (Name::OnlyIfCached, None) => self.only_if_cached = true,
            (Name::MaxAge, _) => least(&mut self.max_age, argument),
            (Name::SMaxage, _) => {
                self.permits_sharing |= seconds(argument).is_some();
                least(&mut self.s_maxage, argument);
            }
            (Name::StaleWhileRevalidate, _) => least(&mut self.stale_while_revalidate, argument),
            (Name::StaleIfError, _) => least(&mut self.stale_if_error, argument),
            (Name::MinFresh, _) => {
                self.min_fresh = self.min_fresh.max(Some(seconds(argument).unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }

    fn restrict(&mut self, name: DirectiveName, listed: Option<Vec<HeaderName>>) {
        match name {
            DirectiveName::NoStore => self.no_store = true,
            DirectiveName::NoTransform => self.no_transform = true,
            DirectiveName::NoCache => self.no_cache.widen(listed),
            DirectiveName::Private => self.private.widen(listed),
            DirectiveName::MustRevalidate
            | DirectiveName::ProxyRevalidate
            | DirectiveName::SMaxage => self.must_revalidate = true,
            DirectiveName::MustUnderstand => self.must_understand = true,
            _ => {}
        }
    }

    /// Returns whether a directive states a lifetime.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn give_lifetime(&self) -> bool {
        self.max_age.is_some() || self.s_maxage.is_some()
    }

    /// Returns the stale windows that a response states, each with the route's own as the default.
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
    /// Adds a restriction of the listed fields, or of everything without a list. Fields that a response
    /// cannot do without are no list.
    fn widen(&mut self, listed: Option<Vec<HeaderName>>) {
        let listed = listed.filter(|names| !names.iter().any(is_for_every_recipient));
        match (&mut *self, listed) {
            (Self::Everything, _) => {}
            (Self::Nothing, Some(names)) => *self = Self::Fields(names),
            (Self::Fields(known), Some(names)) => known.extend(names),
            (_, None) => *self = Self::Everything,
        }
        if self.fields().len() > MAX_FIELD_NAMES {
            *self = Self::Everything;
        }
    }

    pub(super) fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Nothing | Self::Everything => &[],
        }
    }
}

/// Keeps the least lifetime. A malformed one is zero.
fn least(known: &mut Option<u64>, argument: Option<&[u8]>) {
    let seconds = seconds(argument).unwrap_or(0);
    *known = Some(known.map_or(seconds, |known| known.min(seconds)));
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOTHING: Restrictions =
        Restrictions { no_store: false, no_cache: false, private: false, permits_sharing: false };
    const NO_STORE: Restrictions = Restrictions { no_store: true, ..NOTHING };
    const NO_CACHE: Restrictions = Restrictions { no_cache: true, ..NOTHING };
    const PRIVATE: Restrictions = Restrictions { private: true, ..NOTHING };
    const PERMITS: Restrictions = Restrictions { permits_sharing: true, ..NOTHING };

    /// Directives that matter to a route with a lifetime of its own.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Restrictions {
        no_store: bool,
        no_cache: bool,
        private: bool,
        permits_sharing: bool,
    }

    fn directives(lines: &[impl AsRef<[u8]>]) -> Directives {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, HeaderValue::from_bytes(line.as_ref()).unwrap());
        }
        Directives::of(&fields)
    }

    #[track_caller]
    fn check(lines: &[&[u8]], expected: Restrictions) {
        let Directives { no_store, no_cache, private, permits_sharing, .. } = directives(lines);
        let (no_cache, private) = (no_cache != Extent::Nothing, private != Extent::Nothing);
        let found = Restrictions { no_store, no_cache, private, permits_sharing };
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn directives_are_found_in_any_case_on_any_line() {
        check(&[], NOTHING);
        check(&[b"max-age=60"], NOTHING);
        check(&[b"max-age=60", b"\tNo-Store ,"], NO_STORE);
        check(&[b",, NO-CACHE"], NO_CACHE);
        check(&[b"Private,no-store"], Restrictions { private: true, ..NO_STORE });
    }

    #[test]
    fn an_argument_does_not_lift_a_restriction() {
        for line in [
            "private=\"\"",
            "private=\" authorization\"",
            "private = \"set-cookie\"",
            "private, private=\"x\"",
            "private=",
            "private;x",
        ] {
            check(&[line.as_bytes()], PRIVATE);
        }
        check(&[b"no-cache=\"set-cookie"], NO_CACHE);
        check(&[b"no-cache=\"a, no-store"], Restrictions { no_cache: true, ..NO_STORE });
        check(&[b"\"no-store\""], NO_STORE);
        check(&[b"max-age=60; no-store"], NO_STORE);
        check(&[b"max-age=60 private"], PRIVATE);
        check(&[b"x=\"y\"no-cache"], NO_CACHE);
        check(&[b"\xff\xfe no-store"], NO_STORE);
    }

    #[test]
    fn text_in_a_closed_quote_is_no_directive() {
        check(&[b"x=\"a, no-store, b\""], NOTHING);
        check(&[b"x=\"\\\", no-store\", no-cache"], NO_CACHE);
        check(&[b"not-no-store, no-store-at-all"], NOTHING);
    }

    #[test]
    fn a_permission_must_be_well_formed() {
        for line in [
            "public",
            " PUBLIC ",
            "must-revalidate",
            "s-maxage=60",
            "s-maxage=\"60\"",
            "s-maxage=0",
        ] {
            check(&[line.as_bytes()], PERMITS);
        }
        for line in [
            "public=1",
            "\"public\"",
            "publi",
            "s-maxage",
            "s-maxage=-1",
            "s-maxage=1.5",
            "s-maxage=x",
        ] {
            check(&[line.as_bytes()], NOTHING);
        }
    }

    #[test]
    fn a_list_of_too_many_fields_restricts_everything() {
        let list = |count: usize| (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>();
        let one = |count| directives(&[format!("private=\"{}\"", list(count).join(","))]).private;
        assert_eq!(one(64).fields().len(), 64);
        assert_eq!(one(65), Extent::Everything);
        assert_eq!(one(100_000), Extent::Everything);
        let each: Vec<_> = list(65).iter().map(|name| format!("private=\"{name}\"")).collect();
        assert_eq!(directives(&each).private, Extent::Everything);
        assert_eq!(directives(&each[..64]).private.fields().len(), 64);
    }

    #[test]
    fn a_long_field_of_quotes_is_read_in_linear_time() {
        check(&["\"\\".repeat(32 * 1024).as_bytes()], NOTHING);
        check(&["\",".repeat(32 * 1024).as_bytes()], NOTHING);
        // Each member opens a quote that the rest of the line does not close.
        check(&[",\\\"".repeat(300 * 1024).as_bytes()], NOTHING);
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
            assert_eq!(directives(lines).max_age, max_age, "{lines:?}");
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
            assert_eq!(directives(&[line]).private, private, "{line}");
        }
    }
}
