//! Whether a read may consult the cache, and what its response would be made for.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName, Uri,
    header::{
        AUTHORIZATION, COOKIE, HOST, IF_MATCH, IF_UNMODIFIED_SINCE, PROXY_AUTHORIZATION, RANGE,
    },
};
use percent_encoding::percent_decode;

use super::credentials::Credentials;
use crate::{
    key::{PrimaryKey, VariantRef, push_part},
    outcome::Bypass,
    route::{CacheRule, HeadRef, KeyRequest, QueryPolicy, RequestView},
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What the layer adds to every variant: the digest of its policy and mount.
pub(crate) type Scope = [u8; 16];

/// What one pass over a request's fields finds.
#[derive(Clone, Copy, Default)]
struct Facts<'a> {
    host: &'a [u8],
    has_several_hosts: bool,
    has_credentials: bool,
    has_range: bool,
    has_precondition: bool,
}

impl<'a> Facts<'a> {
    fn of(fields: &'a HeaderMap) -> Self {
        let mut facts = Self::default();
        let mut hosts = 0;
        for (name, value) in fields {
            if *name == HOST {
                facts.host = value.as_bytes();
                hosts += 1;
            } else if *name == AUTHORIZATION
                || *name == COOKIE
                || *name == PROXY_AUTHORIZATION
                || *name == X_API_KEY
            {
                facts.has_credentials = true;
            } else if *name == RANGE {
                facts.has_range = true;
            } else if *name == IF_MATCH || *name == IF_UNMODIFIED_SINCE {
                facts.has_precondition = true;
            }
        }
        facts.has_several_hosts = hosts > 1;
        facts
    }
}

/// A read that may consult the cache.
pub(crate) struct Admitted<'a> {
    rule: &'a CacheRule,
    view: RequestView<'a, 'a>,
    scope: &'a Scope,
    original: &'a Uri,
    target: Cow<'a, str>,
    host: &'a [u8],
    extras: Vec<u8>,
    /// Known already where the target does not imply it.
    key: Option<PrimaryKey>,
}

/// Decides whether a read may consult the cache. `has_content` is whether it carries a body.
pub(crate) fn admit<'a>(
    scope: &'a Scope,
    rule: &'a CacheRule,
    view: RequestView<'a, 'a>,
    has_content: bool,
) -> Result<Admitted<'a>, Bypass> {
    let facts = Facts::of(view.head.headers);
    if has_content {
        return Err(Bypass::Content);
    }
    if facts.has_range {
        return Err(Bypass::Range);
    }
    if facts.has_precondition {
        return Err(Bypass::Precondition);
    }
    // Two `Host` fields make a request malformed (RFC 9112 §3.2): which one counts is anyone's guess.
    if facts.has_several_hosts {
        return Err(Bypass::Key);
    }
    let mut extras = Vec::new();
    match &rule.credentials {
        Credentials::Bypass if facts.has_credentials => return Err(Bypass::Credentials),
        Credentials::Bypass | Credentials::CoveredByKey => {}
        Credentials::PerCaller(caller) => {
            let request = KeyRequest { view, pattern: &rule.pattern };
            let digest = caller.digest(&request).ok_or(Bypass::Caller)?;
            push_part(&mut extras, b"caller");
            push_part(&mut extras, &digest);
        }
    }
    let mut key = None;
    if !rule.target_implies_key() {
        let made = rule.key(view).ok_or(Bypass::Key)?;
        push_part(&mut extras, b"key");
        push_part(&mut extras, made.as_str().as_bytes());
        key = Some(made);
    }
    let original = original_uri(view.head);
    let target = target(original, &rule.query);
    Ok(Admitted { rule, view, scope, original, target, host: facts.host, extras, key })
}

impl Admitted<'_> {
    /// Returns what a response to this request would be made for.
    pub(crate) fn variant(&self) -> VariantRef<'_> {
        VariantRef {
            scope: self.scope,
            scheme: self.original.scheme_str().unwrap_or(""),
            authority: self.original.authority().map_or("", |authority| authority.as_str()),
            host: self.host,
            target: &self.target,
            extras: &self.extras,
        }
    }

    /// Returns the primary key.
    pub(crate) fn key(&self) -> Result<PrimaryKey, Bypass> {
        match &self.key {
            Some(key) => Ok(key.clone()),
            None => self.rule.key(self.view).ok_or(Bypass::Key),
        }
    }
}

/// Returns the URI as the client sent it: nested axum routers see it without their prefix.
#[cfg(feature = "axum")]
fn original_uri(head: HeadRef<'_>) -> &Uri {
    let original = head.extensions.get::<axum::extract::OriginalUri>();
    original.map_or(head.uri, |original| &original.0)
}

#[cfg(not(feature = "axum"))]
fn original_uri(head: HeadRef<'_>) -> &Uri {
    head.uri
}

fn target<'a>(uri: &'a Uri, policy: &QueryPolicy) -> Cow<'a, str> {
    match policy {
        QueryPolicy::AsSent => {
            Cow::Borrowed(uri.path_and_query().map_or("", |target| target.as_str()))
        }
        QueryPolicy::Ignore => Cow::Borrowed(uri.path()),
        QueryPolicy::Only(names) => {
            let mut target = uri.path().to_owned();
            let mut separator = '?';
            for pair in uri.query().unwrap_or("").split('&').filter(|pair| is_named(pair, names)) {
                target.push(separator);
                target.push_str(pair);
                separator = '&';
            }
            Cow::Owned(target)
        }
    }
}

/// Compares as a handler would read the name: `+` is a space, and percent-encoding is undone.
fn is_named(pair: &str, names: &[String]) -> bool {
    let name = pair.split('=').next().unwrap_or(pair).replace('+', " ");
    let decoded = percent_decode(name.as_bytes()).collect::<Vec<u8>>();
    names.iter().any(|known| known.as_bytes() == decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, policy: &QueryPolicy, expected: &str) {
        assert_eq!(target(&uri.parse().unwrap(), policy), expected);
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
    }
}
