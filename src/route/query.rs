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
    /// the handler reads. Names are compared percent-decoded; parameters are separated by `&`.
    Only(Vec<String>),
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
            Self::Only(names) => {
                let mut target = uri.path().to_owned();
                let mut separator = '?';
                let pairs = uri.query().unwrap_or("").split('&');
                for pair in pairs.filter(|pair| is_named(pair, names)) {
                    target.push(separator);
                    target.push_str(pair);
                    separator = '&';
                }
                Cow::Owned(target)
            }
        }
    }
}

/// Returns whether a parameter has one of `names`, as a handler would read it: `+` is a space, and
/// percent-encoding is undone. Some handlers also separate by `;`, so a name behind one counts.
fn is_named(pair: &str, names: &[String]) -> bool {
    pair.split(';').any(|pair| {
        let name = pair.split('=').next().unwrap_or(pair).replace('+', " ");
        let decoded = percent_decode(name.as_bytes()).collect::<Vec<u8>>();
        names.iter().any(|known| known.as_bytes() == decoded)
    })
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
    }
}
