//! Cache groups (RFC 9875).

use std::{collections::BTreeSet, error::Error, fmt};

use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, Parser,
    visitor::{
        EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor,
    },
};

use crate::key::MAX_TAGS;

/// Field with the groups of a response (RFC 9875 §2).
pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// Field with the groups that the response to a write invalidates (RFC 9875 §3).
pub(crate) const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// Returns the groups that a field lists, but no more than [`MAX_TAGS`] and one, which shows that
/// there are too many.
///
/// A field that is malformed, or that has members other than strings, is as good as none (RFC 9651
/// §4.2). Parameters are ignored.
pub(crate) fn groups(name: &HeaderName, fields: &HeaderMap) -> BTreeSet<String> {
    if !fields.contains_key(name) {
        return BTreeSet::new();
    }
    let lines: Vec<_> = fields.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let line = lines.join(&b", "[..]);
    let mut groups = BTreeSet::new();
    let parsed = Parser::new(&line[..]).parse_list_with_visitor(Groups(&mut groups));
    if parsed.is_err() && groups.len() <= MAX_TAGS {
        groups.clear();
    }
    groups
}

struct Groups<'g>(&'g mut BTreeSet<String>);

impl<'de> ListVisitor<'de> for Groups<'_> {
    type Out = ();
    type Error = Unusable;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Unusable> {
        Ok(GroupMember(self.0))
    }

    fn finish(self) -> Result<(), Unusable> {
        Ok(())
    }
}

/// One member while it is parsed.
struct GroupMember<'g>(&'g mut BTreeSet<String>);

impl<'de> EntryVisitor<'de> for GroupMember<'_> {
    type Error = Unusable;

    fn item(self) -> Result<impl ItemVisitor<'de>, Unusable> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Unusable> {
        Err::<Ignored, _>(Unusable)
    }
}

impl<'de> ItemVisitor<'de> for GroupMember<'_> {
    type Out = ();
    type Error = Unusable;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Unusable> {
        let BareItemFromInput::String(text) = item else { return Err(Unusable) };
        self.0.insert(text.as_str().to_owned());
        if self.0.len() > MAX_TAGS { Err(Unusable) } else { Ok(Ignored) }
    }
}

/// Member at which parsing ends: it is no string, or one too many.
#[derive(Debug)]
struct Unusable;

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member is no string, or one too many")
    }
}

impl Error for Unusable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: &[&str]) {
        let line = |line: &&str| (CACHE_GROUPS, line.parse().unwrap());
        let expected: BTreeSet<_> = expected.iter().map(|group| (*group).to_owned()).collect();
        assert_eq!(groups(&CACHE_GROUPS, &lines.iter().map(line).collect()), expected, "{lines:?}");
    }

    #[test]
    fn a_field_lists_strings_in_any_number_of_lines() {
        check(&[], &[]);
        check(&[""], &[]);
        check(&[r#""a""#], &["a"]);
        check(&[r#" "a";x=1 ,  "B:/ \"\\" "#, r#""""#], &["a", "B:/ \"\\", ""]);
    }

    #[test]
    fn a_member_that_is_no_string_spoils_the_field() {
        for other in ["a", "1", "?1", "(\"b\")", ":YQ==:", "\"b", "\"b\",", "\"é\"", "%\"b\""] {
            check(&[r#""a""#, other], &[]);
        }
    }

    fn lines(count: usize) -> HeaderMap {
        let many: Vec<String> = (0..count).map(|n| format!("\"{n:0100}\"")).collect();
        [(CACHE_GROUPS, many.join(", ").parse().unwrap())].into_iter().collect()
    }

    /// RFC 9875 §2: at least 32 groups of at least 32 characters.
    #[test]
    fn many_and_long_strings_are_read_up_to_one_more_than_a_response_may_have() {
        for (count, read) in [(32, 32), (128, 128), (129, 129), (130, 129), (200_000, 129)] {
            assert_eq!(groups(&CACHE_GROUPS, &lines(count)).len(), read, "{count}");
        }
    }

    #[test]
    fn a_group_that_comes_again_is_one_group() {
        check(&[r#""b", "a", "b""#, r#""a""#], &["a", "b"]);
        let often = [r#""a", "#; 100_000].concat() + r#""b""#;
        check(&[&often], &["a", "b"]);
    }
}
