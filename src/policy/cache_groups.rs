//! Cache groups (RFC 9875).

use std::{error::Error, fmt};

use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, Parser,
    visitor::{
        EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor,
    },
};

/// Field with the groups of a response (RFC 9875 §2).
pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// Field with the groups that the response to a write invalidates (RFC 9875 §3).
pub(crate) const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// Returns the strings that a field lists. A field that is malformed, or that has members of another
/// type, is as good as none (RFC 9651 §4.2). Parameters are ignored.
pub(crate) fn groups(name: &HeaderName, fields: &HeaderMap) -> Vec<String> {
    let lines: Vec<_> = fields.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let line = lines.join(&b", "[..]);
    Parser::new(&line[..]).parse_list_with_visitor(Strings(Vec::new())).unwrap_or_default()
}

struct Strings(Vec<String>);

impl<'de> ListVisitor<'de> for Strings {
    type Out = Vec<String>;
    type Error = NoString;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, NoString> {
        Ok(GroupMember(&mut self.0))
    }

    fn finish(self) -> Result<Vec<String>, NoString> {
        Ok(self.0)
    }
}

/// One member while it is parsed.
struct GroupMember<'v>(&'v mut Vec<String>);

impl<'de> EntryVisitor<'de> for GroupMember<'_> {
    type Error = NoString;

    fn item(self) -> Result<impl ItemVisitor<'de>, NoString> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, NoString> {
        Err::<Ignored, _>(NoString)
    }
}

impl<'de> ItemVisitor<'de> for GroupMember<'_> {
    type Out = ();
    type Error = NoString;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, NoString> {
        let BareItemFromInput::String(text) = item else { return Err(NoString) };
        self.0.push(text.as_str().to_owned());
        Ok(Ignored)
    }
}

/// Member that is no string, which makes its field malformed.
#[derive(Debug)]
struct NoString;

impl fmt::Display for NoString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member is no string")
    }
}

impl Error for NoString {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: &[&str]) {
        let line = |line: &&str| (CACHE_GROUPS, line.parse().unwrap());
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

    /// RFC 9875 §2: at least 32 groups of at least 32 characters.
    #[test]
    fn many_and_long_strings_are_read() {
        let many: Vec<String> = (0..1000).map(|n| format!("{n:0100}")).collect();
        let line = many.iter().map(|group| format!("\"{group}\"")).collect::<Vec<_>>().join(", ");
        check(&[&line], &many.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
