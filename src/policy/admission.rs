//! Whether a read may consult the cache, and what its response would be made for.

use std::borrow::Cow;

use http::{
    HeaderName, Method, Uri,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
    uri::Authority,
};
use percent_encoding::percent_decode;

use super::{
    credentials::Credentials,
    facts::{Fact, Facts, Watched},
    range::RangeAsked,
    request_directives::Wishes,
    validation::Conditions,
};
use crate::{
    key::{DigestKey, EncodedParts, PrimaryKey, Tags, VariantParts, push_part},
    metrics::outcome::Bypass,
    route::{CacheRule, HeadRef, KeyRequest, QueryPolicy, RequestView},
};

/// The fields that carry credentials, unless the layer names others.
pub(crate) const CREDENTIAL_FIELDS: [HeaderName; 4] =
    [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, HeaderName::from_static("x-api-key")];

/// The digest of a layer's policy and mount, part of every variant.
pub(crate) type Scope = [u8; 16];

/// What a layer knows of who may be told apart from whom.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) scope: Scope,
    pub(crate) secret: DigestKey,
    pub(crate) watched: Watched,
}

/// A read that may consult the cache.
pub(crate) struct Admitted<'a> {
    rule: &'a CacheRule,
    view: RequestView<'a, 'a>,
    scope: &'a Scope,
    original: &'a Uri,
    target: Cow<'a, str>,
    host: &'a [u8],
    extras: EncodedParts,
    /// Known already where the target does not imply it.
    key: Option<PrimaryKey>,
    /// What the request asks of the cache itself.
    pub(crate) wishes: Wishes,
    /// The conditions that concern what the client already has, if it sets any.
    pub(crate) conditions: Option<Conditions>,
    /// The parts that are asked for, if not the whole.
    pub(crate) range: Option<Box<RangeAsked>>,
    /// Whether the request carries credentials and only the response can say that they do not
    /// matter (RFC 9111 §3.5).
    pub(crate) needs_permission: bool,
}

/// Why a read may not consult the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It asks for another protocol: what comes is no response, and not the cache's business.
    Upgrade,
    Bypass(Bypass),
}

impl From<Bypass> for Denied {
    fn from(reason: Bypass) -> Self {
        Self::Bypass(reason)
    }
}

impl Identity {
    /// Returns what a response to this request would be made for on a route that asks for no more
    /// than the target, which is known before any route is.
    ///
    /// `None` where the request is out of the ordinary: that takes [`admit`].
    #[inline]
    pub(crate) fn plain_variant<'a>(
        &'a self,
        head: HeadRef<'a>,
        facts: &Facts<'a>,
    ) -> Option<VariantParts<'a>> {
        let original = head.original_uri();
        let is_plain = facts.are_plain() && is_same(original, head.uri);
        is_plain.then(|| target_parts(&self.scope, original, facts.host, target_as_sent(original)))
    }
}

/// Decides whether a read may consult the cache. `has_content` is whether it carries a body.
pub(crate) fn admit<'a>(
    identity: &'a Identity,
    rule: &'a CacheRule,
    view: RequestView<'a, 'a>,
    (facts, has_content): (Facts<'a>, bool),
) -> Result<Admitted<'a>, Denied> {
    if facts.have(Fact::Upgrade) {
        return Err(Denied::Upgrade);
    }
    if has_content {
        return Err(Bypass::Content.into());
    }
    if facts.have(Fact::Precondition) {
        return Err(Bypass::Precondition.into());
    }
    // Two `Host` fields make a request malformed (RFC 9112 §3.2): which one counts is anyone's guess.
    if facts.hosts > 1 {
        return Err(Bypass::Key.into());
    }
    let mut extras = EncodedParts::new();
    // Unlike an empty scheme or authority, an empty `Host` is not the same as none.
    if facts.hosts == 1 && facts.host.is_empty() {
        push_part(&mut extras, b"empty host");
    }
    push_caller(&mut extras, (identity, rule), view, facts)?;
    let mut key = None;
    if !rule.target_implies_key() {
        let made = rule.key(view).ok_or(Bypass::Key)?;
        push_part(&mut extras, b"key");
        push_part(&mut extras, made.as_str().as_bytes());
        key = Some(made);
    }
    if !rule.target_implies_tags() {
        for tag in rule.tags(view).ok_or(Bypass::Key)?.iter() {
            push_part(&mut extras, b"tag");
            push_part(&mut extras, tag.as_str().as_bytes());
        }
    }
    let original = view.head.original_uri();
    if !is_same(original, view.head.uri) {
        push_seen(&mut extras, view.head.uri, &rule.query);
    }
    let wishes = match facts.have(Fact::Directives) {
        true => Wishes::of(view.head.headers, rule.request_directives),
        false => Wishes::default(),
    };
    Ok(Admitted {
        rule,
        view,
        scope: &identity.scope,
        original,
        target: target(original, &rule.query),
        host: facts.host,
        extras,
        key,
        wishes,
        conditions: facts.have(Fact::Conditions).then(|| Conditions::of(view.head.headers)),
        // RFC 9110 §14.2: for GET alone.
        range: (facts.have(Fact::Range) && *view.head.method == Method::GET)
            .then(|| Box::new(RangeAsked::of(view.head.headers))),
        needs_permission: facts.have(Fact::Authorization) && rule.credentials.is_by_response(),
    })
}

/// Adds what the inner service is asked for: a nested router's own path, or what a layer in between
/// made of it. The original alone does not tell the latter.
fn push_seen(extras: &mut EncodedParts, seen: &Uri, policy: &QueryPolicy) {
    push_part(extras, b"seen");
    push_part(extras, seen.scheme_str().unwrap_or("").as_bytes());
    push_part(extras, seen.authority().map_or("", Authority::as_str).as_bytes());
    push_part(extras, target(seen, policy).as_bytes());
}

/// Adds who the response would be for, where the route makes that part of what identifies it.
fn push_caller(
    extras: &mut EncodedParts,
    (identity, rule): (&Identity, &CacheRule),
    view: RequestView<'_, '_>,
    facts: Facts<'_>,
) -> Result<(), Bypass> {
    match &rule.credentials {
        Credentials::Bypass if facts.have(Fact::Credentials) => return Err(Bypass::Credentials),
        Credentials::Bypass | Credentials::CoveredByKey => {}
        Credentials::ByResponse if facts.have(Fact::Authorization) => {
            push_part(extras, b"authorized")
        }
        Credentials::ByResponse => {}
        Credentials::PerCaller(caller) => {
            let request = KeyRequest { view, pattern: &rule.pattern };
            let digest = caller.digest(&request, &identity.secret).ok_or(Bypass::Caller)?;
            push_part(extras, b"caller");
            push_part(extras, &digest);
        }
    }
    Ok(())
}

impl Admitted<'_> {
    /// Returns what a response to this request would be made for, with the values of nominated
    /// fields.
    pub(crate) fn variant<'v>(&'v self, nominated: &'v [u8]) -> VariantParts<'v> {
        VariantParts {
            extras: &self.extras,
            nominated,
            ..target_parts(self.scope, self.original, self.host, &self.target)
        }
    }

    /// Returns the primary key.
    pub(crate) fn key(&self) -> Result<PrimaryKey, Bypass> {
        match &self.key {
            Some(key) => Ok(key.clone()),
            None => self.rule.key(self.view).ok_or(Bypass::Key),
        }
    }

    /// Returns the tags that every response to the request has.
    pub(crate) fn tags(&self) -> Result<Tags, Bypass> {
        self.rule.tags(self.view).ok_or(Bypass::Key)
    }
}

/// Whether the inner service is asked for what the client has asked for: unless a layer in between
/// has changed that or noted another.
#[inline]
fn is_same(original: &Uri, seen: &Uri) -> bool {
    std::ptr::eq(original, seen) || original == seen
}

#[inline]
fn target_as_sent(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |target| target.as_str())
}

/// Returns what is asked for, and of whom.
#[inline]
fn target_parts<'a>(
    scope: &'a Scope,
    original: &'a Uri,
    host: &'a [u8],
    target: &'a str,
) -> VariantParts<'a> {
    VariantParts {
        scope,
        scheme: original.scheme_str().unwrap_or("").as_bytes(),
        authority: original.authority().map_or("", Authority::as_str).as_bytes(),
        host,
        target: target.as_bytes(),
        extras: &[],
        nominated: &[],
    }
}

fn target<'a>(uri: &'a Uri, policy: &QueryPolicy) -> Cow<'a, str> {
    match policy {
        QueryPolicy::AsSent => Cow::Borrowed(target_as_sent(uri)),
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

/// Compares as a handler would read the name: `+` is a space, and percent-encoding is undone. Some
/// handlers take `;` for a separator too, so a name behind one counts.
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
        check("/a?utm=x;page=1&b=2;c=3", &only, "/a?utm=x;page=1");
    }
}
