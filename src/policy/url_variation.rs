//! Equivalence of queries that a response declares (`No-Vary-Search`, draft-ietf-httpbis-no-vary-search-10).

use std::{borrow::Cow, convert::Infallible};

use http::{HeaderMap, HeaderName};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{
        DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
    },
};

use crate::structured::OnItem;

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// Longest field in bytes, its lines together. A longer one is as good as none.
const MAX_FIELD: usize = 1024;

/// Variation of a URL that tells responses apart, other than by the query as it was sent (section 4).
///
/// The draft calls it the URL variation config. Its form of a target begins with the variation itself, so a
/// target of one variation never equals that of another, or one as it was sent.
#[derive(Debug)]
pub(crate) struct UrlVariation {
    /// Names of parameters, decoded.
    names: Vec<String>,
    /// Set if the parameters with these names are the only ones that count, and not the only ones that do not.
    is_except: bool,
    ignores_order: bool,
    /// Its one spelling: two variations mean the same if it is the same.
    spelling: String,
}

impl UrlVariation {
    /// Returns the variation that a response declares (section 5). `None` for the default: no field, a bad
    /// one, or one that changes nothing.
    pub(crate) fn of(fields: &HeaderMap) -> Option<Self> {
        if !fields.contains_key(NO_VARY_SEARCH) {
            return None;
        }
        let lines: Vec<_> =
            fields.get_all(NO_VARY_SEARCH).iter().map(|line| line.as_bytes()).collect();
        let line = lines.join(&b", "[..]);
        if line.len() > MAX_FIELD {
            return None;
        }
        let members =
            Parser::new(&line[..]).parse_dictionary_with_visitor(VariationField::default());
        let VariationField { key_order, params, except } = members.ok()?;
        let ignores_order = match key_order {
            // The draft's algorithm begins with an order that counts, and so do browsers.
            VariationMember::Absent => false,
            VariationMember::Flag(ignores) => ignores,
            VariationMember::Names(_) | VariationMember::Bad => return None,
        };
        let (names, is_except) = match (params, except) {
            (VariationMember::Absent, VariationMember::Absent) => (Vec::new(), false),
            (VariationMember::Names(names), VariationMember::Absent) => (names, false),
            (VariationMember::Absent, VariationMember::Names(names)) => (names, true),
            _ => return None,
        };
        if names.is_empty() && !is_except && !ignores_order {
            return None;
        }
        Some(Self::new(names, is_except, ignores_order))
    }

    fn new(mut names: Vec<String>, is_except: bool, ignores_order: bool) -> Self {
        names.sort_unstable();
        names.dedup();
        let mut spelling = format!("{is_except} {ignores_order}");
        for name in &names {
            spelling.push(' ');
            spelling.extend(utf8_percent_encode(name, NON_ALPHANUMERIC));
        }
        Self { names, is_except, ignores_order, spelling }
    }

    /// Returns the one form of the targets that this variation does not tell apart (section 6). No target
    /// that was sent is such a form, since it holds a line break.
    pub(crate) fn form(&self, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let counts = |name: &str| self.names.iter().any(|known| known == name) == self.is_except;
        let mut pairs: Vec<_> = parameters(query).filter(|(name, _)| counts(name)).collect();
        if self.ignores_order {
            // Any order of the names will do. Parameters of one name keep theirs.
            pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
        }
        let mut form = format!("{path}?\n{}\n", self.spelling);
        for (name, value) in &pairs {
            form.extend(utf8_percent_encode(name, NON_ALPHANUMERIC));
            form.push('=');
            form.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
            form.push('&');
        }
        form
    }
}

/// Returns the parameters of a query, as the parser of `application/x-www-form-urlencoded` reads them.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Decodes a name or a value (section 5.3). What is no UTF-8 becomes U+FFFD.
fn decoded(text: &str) -> String {
    let text = match text.contains('+') {
        true => Cow::Owned(text.replace('+', " ")),
        false => Cow::Borrowed(text),
    };
    percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned()
}

/// Members of the field that mean something, each with its last value.
#[derive(Default)]
struct VariationField {
    key_order: VariationMember,
    params: VariationMember,
    except: VariationMember,
}

#[derive(Default)]
enum VariationMember {
    #[default]
    Absent,
    Flag(bool),
    Names(Vec<String>),
    Bad,
}

impl<'de> DictionaryVisitor<'de> for VariationField {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        let member = match key.as_str() {
            "key-order" => &mut self.key_order,
            "params" => &mut self.params,
            "except" => &mut self.except,
            _ => return Ok(MemberValue(None)),
        };
        *member = VariationMember::Bad;
        Ok(MemberValue(Some(member)))
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

/// Value of one member while it is parsed; `None` for a member without a meaning.
struct MemberValue<'m>(Option<&'m mut VariationMember>);

impl<'de> EntryVisitor<'de> for MemberValue<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(OnItem(move |item: BareItemFromInput<'de>| {
            if let (Some(member), BareItemFromInput::Boolean(flag)) = (self.0, item) {
                *member = VariationMember::Flag(flag);
            }
        }))
    }

    fn inner_list(mut self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        if let Some(member) = &mut self.0 {
            **member = VariationMember::Names(Vec::new());
        }
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for MemberValue<'_> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Infallible> {
        let member = self.0.as_deref_mut();
        Ok(OnItem(move |item: BareItemFromInput<'de>| match (member, item) {
            (Some(VariationMember::Names(names)), BareItemFromInput::String(name)) => {
                names.push(decoded(name.as_str()));
            }
            (Some(member), _) => *member = VariationMember::Bad,
            (None, _) => {}
        }))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::random::{Random, for_all};

    fn variation(lines: &[&str]) -> Option<UrlVariation> {
        let lines = lines.iter().map(|line| (NO_VARY_SEARCH, line.parse().unwrap()));
        UrlVariation::of(&lines.collect())
    }

    #[track_caller]
    fn declares(line: &str, names: &[&str], is_except: bool, ignores_order: bool) {
        let found = variation(&[line]).unwrap_or_else(|| panic!("{line} is the default"));
        assert_eq!(found.names, names, "{line}");
        assert_eq!((found.is_except, found.ignores_order), (is_except, ignores_order), "{line}");
    }

    /// Section 5.2.1, and section 5.3.1 for the last.
    #[test]
    fn a_field_declares_what_the_draft_says() {
        declares("key-order", &[], false, true);
        declares("key-order=?1", &[], false, true);
        declares(r#"params=("a")"#, &["a"], false, false);
        declares(r#"except=("x")"#, &["x"], true, false);
        declares("except=()", &[], true, false);
        declares(r#"except=("x"), key-order"#, &["x"], true, true);
        declares(r#"key-order;p=1, params=("b";q "a" "b");r"#, &["a", "b"], false, true);
        declares(r#"unknown=1, params=(1), other=(1), params=("a")"#, &["a"], false, false);
        declares(r#"params=("%C3%A9+%E6%B0%97")"#, &["é 気"], false, false);
        let both = variation(&["key-order", r#"params=("a")"#]).expect("lines are one list");
        assert!(both.ignores_order && both.names == ["a"]);
    }

    /// Section 5.2.1, and what a browser has beside it.
    #[test]
    fn a_field_that_is_bad_or_changes_nothing_is_the_default() {
        for line in [
            "",
            "unknown-key",
            r#"key-order="not a boolean""#,
            r#"params="not an inner list""#,
            "params=(not-a-string)",
            "params=?0",
            "params=?1",
            r#"params=?1, except=("x")"#,
            r#"params, except=("x")"#,
            r#"params=("a"), except=("x")"#,
            "params=(), except=()",
            r#"except="not an inner list""#,
            "except=(not-a-string)",
            r#"except=("x" 1)"#,
            r#"except=(1 "x")"#,
            "except=?1",
            "params=()",
            "key-order=?0",
            "key-order=(1)",
            r#"params=("a"), params=1"#,
            r#"params=("a"),"#,
            r#"params=("a"#,
        ] {
            assert!(variation(&[line]).is_none(), "{line}");
        }
        assert!(variation(&[]).is_none());
        let long = |length: usize| format!(r#"params=("{}")"#, "a".repeat(length - 11));
        assert!(variation(&[&long(MAX_FIELD)]).is_some());
        assert!(variation(&[&long(MAX_FIELD + 1)]).is_none());
    }

    #[track_caller]
    fn compares(line: &str, one: &str, other: &str, is_same: bool) {
        let variation = variation(&[line]).expect("a variation");
        let form = |query: &str| variation.form(&format!("/a{query}"));
        assert_eq!(form(one) == form(other), is_same, "{line}: {one} and {other}");
    }

    /// Section 6.1.
    #[test]
    fn queries_are_compared_as_forms_are_read() {
        for line in ["key-order", r#"params=("z")"#, r#"except=("a" "b")"#] {
            for (one, other) in [
                ("", "?"),
                ("?a=x", "?%61=%78"),
                ("?a=é", "?a=%C3%A9"),
                ("?a=%f6", "?a=%ef%bf%bd"),
                ("?a=x&&&&", "?a=x"),
                ("?a=", "?a"),
                ("?a=%20", "?a= &"),
                ("?a=+", "?a= &"),
            ] {
                compares(line, one, other, true);
            }
            for (one, other) in [
                ("?a=%C3%A9", "?a=e%CC%81"),
                ("?a=1", "?a=2"),
                ("?a=1", "?a=1&a=1"),
                ("?a=1&a=2", "?a=2&a=1"),
                ("?a", ""),
                ("?a=1%26a=2", "?a=1&a=2"),
                ("?a=%3D", "?a%3D="),
                ("?a=1=2", "?a=1"),
            ] {
                compares(line, one, other, false);
            }
        }
        for other in ["?é+気=2", "?%C3%A9%20気=3", "?%C3%A9+%E6%B0%97=4", ""] {
            compares(r#"params=("%C3%A9+%E6%B0%97")"#, "?é 気=1", other, true);
        }
        compares(r#"params=("a")"#, "?a=1&b=2", "?b=2&a", true);
        compares(r#"params=("a")"#, "?b=1&c=2", "?c=2&b=1", false);
        compares(r#"params=("a"), key-order"#, "?b=1&a&c=2", "?c=2&b=1", true);
        compares(r#"except=("a")"#, "?a=1&b=2", "?c&a=1", true);
        compares("except=()", "?a=1&b=2", "", true);
    }

    /// Section 6, step by step, for two queries.
    fn are_equivalent(variation: &UrlVariation, one: &str, other: &str) -> bool {
        let mut lists = [one, other].map(|query| {
            let mut list: Vec<_> = parameters(query).collect();
            list.retain(|(name, _)| variation.names.contains(name) == variation.is_except);
            list
        });
        if variation.ignores_order {
            // Insertion by names alone, which is stable.
            for list in &mut lists {
                for end in 1..list.len() {
                    for place in (1..=end).rev() {
                        if list[place].0 < list[place - 1].0 {
                            list.swap(place, place - 1);
                        }
                    }
                }
            }
        }
        lists[0] == lists[1]
    }

    #[test]
    fn targets_have_one_form_just_if_they_are_equivalent() {
        let mut same = 0;
        for_all(|random| {
            let name = |random: &mut Random| random.pick(&["a", "b", "c", "=", "&"]).to_owned();
            let names = random.vec(0..3, name);
            let (is_except, ignores_order) = (random.below(2) == 0, random.below(2) == 0);
            let variation = UrlVariation::new(names, is_except, ignores_order);
            let parts = ["a", "b", "%61", "c", "=", "&", "+", "%20", "%26", "%3D", "1"];
            let query =
                |random: &mut Random| random.vec(0..8, |random| random.pick(&parts)).concat();
            let pairs = random.vec(0..4, |random| random.pick(&["a=1", "a=2", "%61=2", "b=1"]));
            let mut turned = pairs.clone();
            turned.rotate_left(random.below(2).min(pairs.len()));
            let (one, other) = match random.below(2) {
                0 => (query(random), query(random)),
                _ => (pairs.join("&"), turned.join("&")),
            };
            let form = |query: &str| variation.form(&format!("/x?{query}"));
            let is_same = are_equivalent(&variation, &one, &other);
            same += usize::from(is_same && one != other);
            assert_eq!(form(&one) == form(&other), is_same, "{variation:?}: {one} and {other}");
            // The form of another variation, another path, or as it was sent, is never the same.
            let another = UrlVariation::new(vec!["d".to_owned()], is_except, ignores_order);
            assert_ne!(form(&one), another.form(&format!("/x?{one}")));
            assert_ne!(form(&one), variation.form(&format!("/y?{one}")));
            assert!(form(&one).contains('\n') && form(&one).parse::<http::Uri>().is_err());
        });
        assert!(same > 0);
    }

    #[test]
    fn variations_that_mean_the_same_are_spelled_the_same() {
        let form = |line: &str| variation(&[line]).expect("a variation").form("/a?b=1");
        assert_eq!(form(r#"params=("a" "b")"#), form(r#"params=("b" "%61" "a"), new"#));
        assert_ne!(form(r#"params=("a b")"#), form(r#"params=("a" "b")"#));
        assert_ne!(form(r#"params=("a")"#), form(r#"params=("a"), key-order"#));
        assert_ne!(form(r#"params=("a")"#), form(r#"except=("b")"#));
    }
}
