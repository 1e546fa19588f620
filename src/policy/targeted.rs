//! Targeted fields, which replace `Cache-Control` for this cache (RFC 9213).

use std::convert::Infallible;

use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{DictionaryVisitor, EntryVisitor},
};

use super::directive::DirectiveName;
use crate::structured::OnItem;

/// Directives of a targeted field, each with its last value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targeted {
    members: Vec<(DirectiveName, TargetedValue)>,
    /// Set if the field has members, known to this cache or not.
    has_members: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetedValue {
    False,
    /// Bare, or any value without a number of seconds.
    Present,
    Seconds(u64),
}

impl Targeted {
    /// Returns the first usable field of `names` (RFC 9213 §2.2). One that is empty or malformed is
    /// as good as none.
    pub(crate) fn of(names: &[HeaderName], fields: &HeaderMap) -> Option<Self> {
        names.iter().find_map(|name| {
            let lines: Vec<_> = fields.get_all(name).iter().map(|line| line.as_bytes()).collect();
            let line = lines.join(&b", "[..]);
            let targeted = Parser::new(&line[..]).parse_dictionary_with_visitor(Self::default());
            targeted.ok().filter(|targeted| targeted.has_members)
        })
    }

    /// Returns whether a directive is present, with any value except `?0`.
    pub(crate) fn has(&self, name: DirectiveName) -> bool {
        self.value(name).is_some_and(|value| value != TargetedValue::False)
    }

    /// Returns the seconds that a directive states: zero if its value is no number of seconds.
    pub(crate) fn seconds(&self, name: DirectiveName) -> Option<u64> {
        match self.value(name)? {
            TargetedValue::Seconds(seconds) => Some(seconds),
            TargetedValue::Present | TargetedValue::False => Some(0),
        }
    }

    fn value(&self, name: DirectiveName) -> Option<TargetedValue> {
        self.members.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl TargetedValue {
    fn of(item: &BareItemFromInput<'_>) -> Self {
        match item {
            BareItemFromInput::Boolean(false) => Self::False,
            BareItemFromInput::Integer(number) => {
                Self::Seconds(u64::try_from(i64::from(*number)).unwrap_or(0))
            }
            _ => Self::Present,
        }
    }
}

impl<'de> DictionaryVisitor<'de> for Targeted {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        self.has_members = true;
        // Members of other names are not kept: there may be any number of them.
        let name = DirectiveName::of(key.as_str().as_bytes());
        let value = name.and_then(|name| {
            self.members.retain(|(known, _)| *known != name);
            self.members.push((name, TargetedValue::Present));
            self.members.last_mut().map(|(_, value)| value)
        });
        Ok(OnItem(move |item: BareItemFromInput<'de>| {
            if let Some(value) = value {
                *value = TargetedValue::of(&item);
            }
        }))
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [HeaderName; 2] = [
        HeaderName::from_static("bff-cache-control"),
        HeaderName::from_static("cdn-cache-control"),
    ];

    fn targeted(lines: &[(&'static str, &str)]) -> Option<Targeted> {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        Targeted::of(&NAMES, &lines.iter().map(line).collect())
    }

    #[test]
    fn the_first_field_that_means_something_counts() {
        let seconds =
            |lines: &[_]| targeted(lines).and_then(|found| found.seconds(DirectiveName::MaxAge));
        let cdn = ("cdn-cache-control", "max-age=2");
        for (own, expected) in [
            ("max-age=1", Some(1)),
            ("max-age=1;x=y, other", Some(1)),
            ("", Some(2)),
            ("max-age=", Some(2)),
            ("MAX-AGE=1", Some(2)),
            ("max-age=1,", Some(2)),
            ("max-age=1, x=\"", Some(2)),
        ] {
            assert_eq!(seconds(&[("bff-cache-control", own), cdn]), expected, "{own}");
        }
        assert_eq!(seconds(&[("cache-control", "max-age=1")]), None);
        assert_eq!(seconds(&[("x-cache-control", "max-age=1")]), None);
        let two = [("bff-cache-control", "max-age=1"), ("bff-cache-control", "max-age=3")];
        assert_eq!(seconds(&two), Some(3), "the last of several counts (RFC 9651 §3.2)");
    }

    #[test]
    fn a_restriction_is_there_unless_it_is_false_and_a_lifetime_is_a_number() {
        let own = |line| targeted(&[("bff-cache-control", line)]).unwrap();
        for (line, is_there) in [
            ("no-store", true),
            ("no-store=?1", true),
            ("no-store=?0", false),
            ("no-store=\"x\"", true),
            ("no-store=(a b)", true),
            ("no-store;x=1", true),
            ("no-store-at-all", false),
            ("x=no-store", false),
        ] {
            assert_eq!(own(line).has(DirectiveName::NoStore), is_there, "{line}");
        }
        for (line, seconds) in [
            ("max-age=5", Some(5)),
            ("max-age=-5", Some(0)),
            ("max-age=5.5", Some(0)),
            ("max-age=\"5\"", Some(0)),
            ("max-age", Some(0)),
            ("s-maxage=5", None),
            ("max-age=999999999999999", Some(999_999_999_999_999)),
        ] {
            assert_eq!(own(line).seconds(DirectiveName::MaxAge), seconds, "{line}");
        }
    }

    #[test]
    fn members_that_mean_nothing_here_are_not_kept() {
        let many: Vec<_> = (0..100_000).map(|n| format!("x{n}=1")).collect();
        let line = format!("{}, no-store", many.join(", "));
        let found = targeted(&[("bff-cache-control", &line)]).unwrap();
        assert!(found.has(DirectiveName::NoStore) && found.members.len() == 1);
        assert!(targeted(&[("bff-cache-control", "x=1")]).is_some(), "it replaces `Cache-Control`");
    }
}
