//! Part of the query that identifies a response.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode;

/// Part of the query that tells stored responses apart.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, QueryPolicy};
///
/// // `/articles?page=2&utm_source=mail` and `/articles?page=2` share one response.
/// CacheRoute::get("/articles")
///     .key("articles")
///     .ttl(Duration::from_secs(60))
///     .query_policy(QueryPolicy::Only(vec!["page".to_owned()]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum QueryPolicy {
    /// The whole query as sent, byte for byte.
    #[default]
    AsSent,
    /// The parameters with these names, in the order in which they were sent.
    ///
    /// Requests that differ in other parameters share one response, so name every parameter that
    /// the handler reads. Names are compared percent-decoded; parameters are separated by `&`. A name that
    /// ends with `*` stands for all that begin with it.
    Only(Vec<String>),
    /// The parameters without these names, in the order in which they were sent.
    ///
    /// For parameters that no handler reads, such as `utm_*`. Names are as for [`Only`](Self::Only).
    AllBut(Vec<String>),
    /// The part that another policy names, sorted by the names of parameters.
    ///
    /// Parameters of one name keep their order. A query with a `;`, by which some handlers separate
    /// parameters, stays as it was sent.
    Sorted(Box<Self>),
    /// No part of it.
    ///
    /// Requests that differ in their query share one response.
    Ignore,
}

impl QueryPolicy {
    /// Returns the path of `uri` with the part of its query that counts.
    #[inline]
    pub(super) fn target<'u>(&self, uri: &'u Uri) -> Cow<'u, str> {
        match self {
            Self::AsSent => {
                Cow::Borrowed(uri.path_and_query().map_or("", |target| target.as_str()))
            }
            Self::Ignore => Cow::Borrowed(uri.path()),
            Self::Only(names) => Cow::Owned(join(
                uri.path(),
                pairs(uri.query()).filter(|pair| pair.split(';').any(|part| is_named(part, names))),
            )),
            // What some handlers read behind a `;` is left out only if it is named, too.
            Self::AllBut(names) => Cow::Owned(join(
                uri.path(),
                pairs(uri.query())
                    .filter(|pair| !pair.split(';').all(|part| is_named(part, names))),
            )),
            Self::Sorted(policy) => {
                let target = policy.target(uri);
                match target.split_once('?') {
                    Some((path, query)) if !query.contains(';') => {
                        let mut sorted: Vec<_> = pairs(Some(query)).collect();
                        sorted.sort_by_cached_key(|pair| decoded_name(pair));
                        Cow::Owned(join(path, sorted))
                    }
                    _ => target,
                }
            }
        }
    }
}

/// Returns the parameters of a query.
fn pairs(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.into_iter().flat_map(|query| query.split('&'))
}

/// Joins a path and parameters.
fn join<'p>(path: &str, pairs: impl IntoIterator<Item = &'p str>) -> String {
    let mut target = path.to_owned();
    let mut separator = '?';
    for pair in pairs {
        target.push(separator);
        target.push_str(pair);
        separator = '&';
    }
    target
}

/// Returns whether a parameter has one of `names`.
fn is_named(pair: &str, names: &[String]) -> bool {
    let name = decoded_name(pair);
    names.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == known.as_bytes(),
    })
}

/// Returns the name of a parameter as a handler would read it: `+` is a space, and percent-encoding is undone.
fn decoded_name(pair: &str) -> Vec<u8> {
    let name = pair.split('=').next().unwrap_or(pair).replace('+', " ");
    percent_decode(name.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, policy: &QueryPolicy, expected: &str) {
        assert_eq!(policy.target(&uri.parse().unwrap()), expected);
    }

    #[test]
    fn a_target_is_as_sent_unless_the_route_names_parts() {
        check("/a?b=1&c=%2B", &QueryPolicy::AsSent, "/a?b=1&c=%2B");
        check("/a?", &QueryPolicy::AsSent, "/a?");
        check("/a?b", &QueryPolicy::Ignore, "/a");
    }

    #[test]
    fn named_parameters_are_found_however_they_are_written() {
        let only = QueryPolicy::Only(vec!["page".to_owned(), "a b".to_owned()]);
        check("/a?utm=x&page=1&%70age=2&page", &only, "/a?page=1&%70age=2&page");
        check("/a?a+b=1&a%20b=2&pages=3", &only, "/a?a+b=1&a%20b=2");
        check("/a?utm=x", &only, "/a");
        check("/a?utm=x;page=1&b=2;c=3", &only, "/a?utm=x;page=1");
        let begun = QueryPolicy::Only(vec!["p*".to_owned()]);
        check("/a?page=1&q=2&%70&*p", &begun, "/a?page=1&%70");
    }

    #[test]
    fn all_parameters_count_but_those_that_are_named() {
        let all_but = QueryPolicy::AllBut(vec!["utm_*".to_owned(), "a b".to_owned()]);
        check("/a?utm_x=1&b=2&u%74m_y&a+b=3&utm=4", &all_but, "/a?b=2&utm=4");
        check("/a?utm_x=1", &all_but, "/a");
        check("/a", &all_but, "/a");
        // Some handlers read `c`.
        check("/a?utm_x=1;c=2&utm_y;utm_z", &all_but, "/a?utm_x=1;c=2");
    }

    #[test]
    fn sorted_parameters_of_one_name_keep_their_order() {
        let sorted = |policy| QueryPolicy::Sorted(Box::new(policy));
        check("/a?c=1&%62=2&b=1&a", &sorted(QueryPolicy::AsSent), "/a?a&%62=2&b=1&c=1");
        check("/a", &sorted(QueryPolicy::AsSent), "/a");
        check("/a?b;c&a", &sorted(QueryPolicy::AsSent), "/a?b;c&a");
        let all_but = QueryPolicy::AllBut(vec!["utm_*".to_owned()]);
        check("/a?c&utm_x&b", &sorted(all_but), "/a?b&c");
    }
}
