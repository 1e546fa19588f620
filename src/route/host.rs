//! Scheme and host of a request, as far as they identify a response.

use std::borrow::Cow;

use http::{Uri, uri::Authority};

/// Part of a request's host that tells stored responses apart.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, HostPolicy};
///
/// // Requests that name another host, such as an address, bypass the cache.
/// CacheRoute::get("/articles/{article}")
///     .key("article:{article}")
///     .ttl(Duration::from_secs(60))
///     .host(HostPolicy::Only(vec!["shop.example".to_owned(), "shop.example:8080".to_owned()]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "config-schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum HostPolicy {
    /// Host and port as sent, normalized (RFC 3986 §6.2): the host in lower case, and no port where it
    /// is empty or the default port of a known scheme.
    ///
    /// The scheme is known from a request in HTTP/2 or with an absolute target; for others the layer is
    /// given it by [`SupportCacheLayerBuilder::scheme`](crate::SupportCacheLayerBuilder::scheme).
    #[default]
    AsSent,
    /// These hosts, told apart as by [`AsSent`](Self::AsSent). A request that names another host, or
    /// none, bypasses the cache.
    Only(Vec<String>),
    /// No part of it.
    ///
    /// Requests that differ in their host share one response. A handler that reads the host, to choose
    /// a tenant or to write a link, then answers requests for another.
    Ignore,
}

/// Scheme and host of a request, normalized.
#[derive(Debug)]
pub(super) struct Site<'a> {
    /// Empty if it is unknown.
    pub(super) scheme: Cow<'a, [u8]>,
    /// Authority of the URI, or else the value of `Host`.
    pub(super) authority: Cow<'a, [u8]>,
    /// Value of a `Host` that differs from the authority of the URI.
    pub(super) host: Cow<'a, [u8]>,
}

impl HostPolicy {
    /// Returns the part of a URI and a `Host` that identifies a response. `scheme` stands for an
    /// unknown one.
    #[inline]
    pub(super) fn site<'a>(
        &self,
        uri: &'a Uri,
        host: Option<&'a [u8]>,
        scheme: &'a str,
    ) -> Site<'a> {
        let scheme = match uri.scheme_str() {
            Some(scheme) => lowercase(scheme.as_bytes()),
            None => scheme.as_bytes().into(),
        };
        if *self == Self::Ignore {
            return Site { scheme, authority: Cow::default(), host: Cow::default() };
        }
        let normalized = |name| normalized(name, &scheme);
        let host = host.map(normalized).unwrap_or_default();
        let Some(authority) = uri.authority() else {
            return Site { scheme, authority: host, host: Cow::default() };
        };
        let authority = normalized(authority.as_str().as_bytes());
        let host = if host == authority { Cow::default() } else { host };
        Site { scheme, authority, host }
    }

    /// Returns whether the route is for requests of a site.
    #[inline]
    pub(super) fn admits(&self, site: &Site<'_>) -> bool {
        let Self::Only(hosts) = self else { return true };
        let is_listed = |name: &[u8]| {
            hosts.iter().any(|host| *normalized(host.as_bytes(), &site.scheme) == *name)
        };
        is_listed(&site.authority) && (site.host.is_empty() || is_listed(&site.host))
    }

    /// Returns what is wrong with a list of hosts.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let Self::Only(hosts) = self else { return None };
        let is_host = |host: &String| host.parse::<Authority>().is_ok_and(|name| name == **host);
        match hosts.iter().all(|host| is_host(host) && !host.contains('@')) {
            _ if hosts.is_empty() => Some("names no host: name one, or use `HostPolicy::Ignore`"),
            false => Some("names what is no host: give `a.example` or `a.example:8080`"),
            true => None,
        }
    }
}

/// Normalizes an authority (RFC 3986 §6.2.2.1 and §6.2.3).
fn normalized<'a>(authority: &'a [u8], scheme: &[u8]) -> Cow<'a, [u8]> {
    // Most hosts have no port, no user and no capital. Told in one pass, without a branch for each byte.
    let is_plain = |byte: &u8| !matches!(byte, b':' | b'@' | b'A'..=b'Z');
    if authority.iter().fold(true, |are_plain, byte| are_plain & is_plain(byte)) {
        return authority.into();
    }
    let default_port: &[u8] = match scheme {
        b"http" => b":80",
        b"https" => b":443",
        _ => b":",
    };
    let without = |port: &[u8]| authority.strip_suffix(port).filter(|host| is_host(host));
    let authority = without(default_port).or_else(|| without(b":")).unwrap_or(authority);
    // The user before the `@` is case-sensitive.
    match authority.iter().rposition(|byte| *byte == b'@') {
        None => lowercase(authority),
        Some(at) => [&authority[..at], &authority[at..].to_ascii_lowercase()].concat().into(),
    }
}

/// Returns whether a port may have followed `text`, which is then no part of an IPv6 address.
fn is_host(text: &[u8]) -> bool {
    text.ends_with(b"]") || !text.is_empty() && !text.contains(&b':')
}

fn lowercase(text: &[u8]) -> Cow<'_, [u8]> {
    match text.iter().any(u8::is_ascii_uppercase) {
        true => text.to_ascii_lowercase().into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scheme: &str, authority: &str, expected: &str) {
        let found = normalized(authority.as_bytes(), scheme.as_bytes());
        assert_eq!(std::str::from_utf8(&found).unwrap(), expected, "{scheme} {authority}");
    }

    #[test]
    fn a_host_is_in_lower_case_and_without_the_default_port_of_a_known_scheme() {
        for (scheme, authority, expected) in [
            ("", "SHOP.Example", "shop.example"),
            ("", "shop.example:443", "shop.example:443"),
            ("", "shop.example:80", "shop.example:80"),
            ("", "shop.example:", "shop.example"),
            ("https", "Shop.example:443", "shop.example"),
            ("https", "shop.example:80", "shop.example:80"),
            ("https", "shop.example:0443", "shop.example:0443"),
            ("https", "shop.example:", "shop.example"),
            ("https", "shop.example:4431", "shop.example:4431"),
            ("http", "shop.example:80", "shop.example"),
            ("http", "shop.example:443", "shop.example:443"),
            ("ws", "shop.example:80", "shop.example:80"),
            ("https", "shop.example.", "shop.example."),
            ("https", "[2001:DB8::1]:443", "[2001:db8::1]"),
            ("https", "[2001:DB8::443]", "[2001:db8::443]"),
            ("https", "::443", "::443"),
            ("https", ":443", ":443"),
            ("https", "", ""),
            ("https", "User@Shop.example:443", "User@shop.example"),
            ("https", "A@B@C", "A@B@c"),
            ("", "\u{c9}.example", "\u{c9}.example"),
            ("", "%C3%89.example", "%c3%89.example"),
        ] {
            check(scheme, authority, expected);
        }
    }

    /// Returns the parts of a site as text.
    fn site(policy: &HostPolicy, uri: &str, host: Option<&str>) -> Option<[String; 3]> {
        let uri = uri.parse().unwrap();
        let site = policy.site(&uri, host.map(str::as_bytes), "");
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        policy.admits(&site).then(|| [text(&site.scheme), text(&site.authority), text(&site.host)])
    }

    #[test]
    fn a_host_counts_beside_an_authority_only_where_it_differs() {
        for (uri, host, expected) in [
            ("/a", None, ["", "", ""]),
            ("/a", Some("A"), ["", "a", ""]),
            ("http://a/a", None, ["http", "a", ""]),
            ("http://a/a", Some("A:80"), ["http", "a", ""]),
            ("HTTPS://A:443/a", Some("a"), ["https", "a", ""]),
            ("http://a/a", Some("b"), ["http", "a", "b"]),
            ("http://b/a", Some("a"), ["http", "b", "a"]),
        ] {
            let found = site(&HostPolicy::AsSent, uri, host).unwrap();
            assert_eq!(found, expected, "{uri} {host:?}");
        }
    }

    #[test]
    fn a_list_admits_only_requests_that_name_its_hosts_alone() {
        let only = HostPolicy::Only(vec!["A.example".to_owned(), "b.example:443".to_owned()]);
        for (uri, host, is_admitted) in [
            ("/a", Some("a.example"), true),
            ("/a", Some("A.EXAMPLE"), true),
            ("/a", Some("a.example:80"), false),
            ("http://a.example:80/a", None, true),
            ("https://b.example/a", None, true),
            ("/a", Some("b.example"), false),
            ("/a", Some("b.example:443"), true),
            ("http://a.example/a", Some("evil.example"), false),
            ("http://evil.example/a", Some("a.example"), false),
            ("/a", Some(""), false),
            ("/a", None, false),
        ] {
            assert_eq!(site(&only, uri, host).is_some(), is_admitted, "{uri} {host:?}");
        }
    }

    #[test]
    fn a_list_names_hosts() {
        for (hosts, is_right) in [
            (&["a.example", "[::1]:80", "10.0.0.1:8080", "localhost"][..], true),
            (&[], false),
            (&[""], false),
            (&["https://a.example"], false),
            (&["a.example/"], false),
            (&["u@a.example"], false),
            (&["a.example", "a b"], false),
        ] {
            let only = HostPolicy::Only(hosts.iter().map(|host| (*host).to_owned()).collect());
            assert_eq!(only.fault().is_none(), is_right, "{hosts:?}");
        }
    }

    #[test]
    fn an_ignored_host_leaves_the_scheme() {
        let ignored = site(&HostPolicy::Ignore, "https://a/a", Some("b")).unwrap();
        assert_eq!(ignored, ["https", "", ""]);
    }
}
