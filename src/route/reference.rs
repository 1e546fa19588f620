//! References in the response to a write (RFC 9111 §4.4).

use http::{HeaderMap, HeaderValue, Uri, header::HOST};

use super::request::HeadRef;
use crate::key::origin;

/// Target of a write: the base of the references in its response.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Target as the client sent it.
    original: Uri,
    /// Target as the layer sees it: behind a nested router, its path without the prefix.
    seen: Uri,
    host: Option<HeaderValue>,
}

/// Parts of a reference (RFC 3986 §3), without query and fragment.
struct Reference<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
}

impl Target {
    pub(crate) fn of(head: HeadRef<'_>) -> Self {
        Self {
            original: head.original_uri().clone(),
            seen: head.uri.clone(),
            host: head.headers.get(HOST).cloned(),
        }
    }

    /// Returns the origin of the target, as far as the request names it.
    pub(crate) fn origin(&self) -> Vec<u8> {
        let authority = self.original.authority().map(|authority| authority.as_str().as_bytes());
        let host = || self.host.as_ref().map(HeaderValue::as_bytes);
        origin(authority.or_else(host).unwrap_or_default())
    }

    /// Returns the path of a reference, as the layer sees paths. `None` if the reference leads to
    /// another origin or to a path outside the layer.
    pub(super) fn path_of(&self, reference: &str) -> Option<String> {
        let reference = Reference::parse(reference);
        if !self.is_origin_of(&reference) {
            return None;
        }
        let own = self.original.path();
        let path = match reference.path {
            "" if reference.authority.is_some() => "/".to_owned(),
            "" => own.to_owned(),
            // Always so after an authority.
            absolute if absolute.starts_with('/') => without_dots(absolute),
            relative => {
                let folder = &own[..own.rfind('/').map_or(0, |at| at + 1)];
                without_dots(&format!("{folder}{relative}"))
            }
        };
        let mount = own.strip_suffix(self.seen.path()).unwrap_or_default();
        let path = path.strip_prefix(mount)?;
        path.starts_with('/').then(|| path.to_owned())
    }

    /// Returns whether a reference leads to the target's own origin.
    fn is_origin_of(&self, reference: &Reference<'_>) -> bool {
        let own = self.original.scheme_str();
        let scheme = reference.scheme.or(own);
        let is_same_scheme = match (reference.scheme, own) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (Some(one), None) => ["http", "https"].iter().any(|s| one.eq_ignore_ascii_case(s)),
            (None, _) => true,
        };
        let Some(authority) = reference.authority else {
            return is_same_scheme && reference.scheme.is_none();
        };
        let host = || self.host.as_ref().and_then(|host| host.to_str().ok());
        let own = self.original.authority().map(http::uri::Authority::as_str).or_else(host);
        let is_same = own.is_some_and(|own| {
            without_port(own, scheme).eq_ignore_ascii_case(without_port(authority, scheme))
        });
        is_same_scheme && is_same
    }
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Self {
        let text = &text[..text.find(['?', '#']).unwrap_or(text.len())];
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if !scheme.contains('/') => (Some(scheme), rest),
            _ => (None, text),
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return Self { scheme, authority: None, path: rest };
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self { scheme, authority: Some(authority), path }
    }
}

/// Returns an authority without the default port of its scheme.
fn without_port<'a>(authority: &'a str, scheme: Option<&str>) -> &'a str {
    let implied = match scheme {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => ":443",
        Some(_) => ":80",
        None => return authority,
    };
    authority.strip_suffix(implied).unwrap_or(authority)
}

/// Returns the path by which services that normalize paths know a target. `None` if that is the path as it
/// was sent: most are.
///
/// Letters, digits, `-`, `.`, `_` and `~` mean the same percent-encoded (RFC 3986 §6.2.2.2). Dot segments are
/// resolved. Slashes that are doubled or at the end are taken off, as by `NormalizePath` of tower-http.
pub(super) fn normalized(path: &str) -> Option<String> {
    let is_plain = !path.contains('%')
        && !path.contains("//")
        && !path.contains("/.")
        && (path.len() < 2 || !path.ends_with('/'));
    if is_plain {
        return None;
    }
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => {
                decoded.push(c);
                rest = &after[2..];
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    let resolved = without_dots(&decoded);
    let segments: Vec<_> = resolved.split('/').filter(|segment| !segment.is_empty()).collect();
    let normalized = format!("/{}", segments.join("/"));
    (normalized != path).then_some(normalized)
}

/// Resolves `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Number of references that are followed: each field has one (RFC 9110 §8.7, §10.2.2).
const MAX_REFERENCES: usize = 16;

/// Returns the references in the fields of a response.
pub(super) fn references(fields: &HeaderMap) -> impl Iterator<Item = &str> {
    use http::header::{CONTENT_LOCATION, LOCATION};
    let lines = [LOCATION, CONTENT_LOCATION].into_iter().flat_map(|name| fields.get_all(name));
    lines.filter_map(|line| line.to_str().ok()).map(str::trim).take(MAX_REFERENCES)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(uri: &str, host: Option<&str>, reference: &str, expected: Option<&str>) {
        let mut request = Request::post(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = request.body(()).unwrap();
        let target = Target::of(HeadRef::of(&request));
        assert_eq!(target.path_of(reference).as_deref(), expected, "{uri} {host:?} {reference}");
    }

    #[test]
    fn a_reference_is_relative_to_the_target() {
        for (reference, expected) in [
            ("/b", "/b"),
            ("/b?x#y", "/b"),
            ("c", "/a/c"),
            ("./c", "/a/c"),
            ("../c", "/c"),
            ("../../../c", "/c"),
            ("c/./d/../e", "/a/c/e"),
            ("..", "/"),
            ("c/.", "/a/c/"),
            ("", "/a/b"),
            ("?x", "/a/b"),
            ("#y", "/a/b"),
            ("/%2e%2E/c", "/%2e%2E/c"),
            ("/b:c", "/b:c"),
            ("c/d:e", "/a/c/d:e"),
        ] {
            check("/a/b?q", None, reference, Some(expected));
        }
    }

    #[test]
    fn a_path_is_normalized_as_servers_do_it() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("//a///b//", "/a/b"),
            ("/%61/b%2Ejson", "/a/b.json"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/./b/..", "/a"),
            ("/a%2Fb%3A%25", "/a%2Fb%3A%25"),
            ("/a%", "/a%"),
            ("/a%2", "/a%2"),
            ("/a%+1%é%7E", "/a%+1%é~"),
        ] {
            assert_eq!(normalized(path).as_deref().unwrap_or(path), expected, "{path}");
        }
    }

    #[test]
    fn another_origin_is_none_of_the_targets() {
        let own = Some("example.com");
        for (reference, expected) in [
            ("http://example.com/b", Some("/b")),
            ("https://EXAMPLE.com/b", Some("/b")),
            ("https://example.com:443/b", Some("/b")),
            ("http://example.com", Some("/")),
            ("http://example.com?b", Some("/")),
            ("//example.com", Some("/")),
            ("//example.com/b", Some("/b")),
            ("http://example.com:8080/b", None),
            ("http://example.com:443/b", None),
            ("http://user@example.com/b", None),
            ("http://example.com.evil/b", None),
            ("//evil/b", None),
            ("ftp://example.com/b", None),
            ("mailto:a@example.com", None),
            ("http:/b", None),
        ] {
            check("/a", own, reference, expected);
        }
        check("/a", None, "http://example.com/b", None);
        check("https://example.com/a", None, "https://example.com/b", Some("/b"));
        check("https://example.com/a", None, "http://example.com/b", None);
        check("https://example.com:443/a", None, "https://example.com/b", Some("/b"));
    }

    #[cfg(feature = "axum")]
    #[test]
    fn a_nested_router_sees_the_path_behind_its_own() {
        let uri: Uri = "/api/a".parse().unwrap();
        let mut request = Request::post("/a").body(()).unwrap();
        request.extensions_mut().insert(axum::extract::OriginalUri(uri));
        let target = Target::of(HeadRef::of(&request));
        assert_eq!(target.path_of("/api/b").as_deref(), Some("/b"));
        assert_eq!(target.path_of("b").as_deref(), Some("/b"));
        assert_eq!(target.path_of("/b"), None);
        assert_eq!(target.path_of("/apix/b"), None);
    }
}
