//! Admission of reads: the one place that decides whether a read may consult the cache, and that
//! puts its variant together.

use std::borrow::Cow;

use http::{Method, Uri, uri::Authority};
use http_body::Body;

use super::{
    cache_rule::CacheRule,
    credentials::Credentials,
    query::QueryPolicy,
    request::{KeyRequest, RequestView},
};
use crate::{
    key::DigestKey,
    key::{EncodedParts, PrimaryKey, Tags, VariantParts, push_part},
    metrics::outcome::Bypass,
    policy::{Conditions, CredentialFields, RangeAsked, RequestFields, Wishes, asks_for_upgrade},
};

/// Digest of a layer's rules and mount, part of every variant.
pub(crate) type Scope = [u8; 16];

/// Settings of a layer that tell responses and callers apart.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) scope: Scope,
    pub(crate) secret: DigestKey,
    pub(crate) credential_fields: CredentialFields,
}

/// Content of a request, as its body announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestContent {
    Absent,
    Possible,
}

/// Read that may consult the cache.
pub(crate) struct Admitted<'a> {
    rule: &'a CacheRule,
    view: RequestView<'a, 'a>,
    scope: &'a Scope,
    target: Cow<'a, str>,
    extras: EncodedParts,
    /// Made already where the target does not imply it.
    key: Option<PrimaryKey>,
    fields: RequestFields<'a>,
}

impl RequestContent {
    pub(crate) fn of(body: &impl Body) -> Self {
        if body.is_end_stream() { Self::Absent } else { Self::Possible }
    }
}

/// Decides whether a read may consult the cache.
///
/// # Errors
///
/// The first reason against it.
pub(crate) fn admit<'a>(
    identity: &'a Identity,
    rule: &'a CacheRule,
    view: RequestView<'a, 'a>,
    content: RequestContent,
) -> Result<Admitted<'a>, Bypass> {
    let fields = RequestFields::of(view.head.headers, &identity.credential_fields);
    if fields.has_upgrade && asks_for_upgrade(view.head.version, view.head.headers) {
        return Err(Bypass::Upgrade);
    }
    if content == RequestContent::Possible {
        return Err(Bypass::Content);
    }
    if fields.has_precondition {
        return Err(Bypass::Precondition);
    }
    // Two `Host` fields make a request malformed (RFC 9112 §3.2): readers disagree about which counts.
    if fields.hosts > 1 {
        return Err(Bypass::Key);
    }
    let mut extras = EncodedParts::new();
    // Unlike an empty scheme or authority, an empty `Host` is not the same as none.
    if fields.hosts == 1 && fields.host.is_empty() {
        push_part(&mut extras, b"empty host");
    }
    push_caller(&mut extras, &identity.secret, rule, view, &fields)?;
    let key = push_closures(&mut extras, rule, view)?;
    let original = view.head.original_uri();
    // Mostly the very same URI; a nested router or a layer in between may have made another.
    if !std::ptr::eq(original, view.head.uri) && original != view.head.uri {
        push_seen(&mut extras, view.head.uri, &rule.query);
    }
    Ok(Admitted {
        rule,
        view,
        scope: &identity.scope,
        target: rule.query.target(original),
        extras,
        key,
        fields,
    })
}

/// Adds the caller, where the route makes that part of what identifies a response.
fn push_caller(
    extras: &mut EncodedParts,
    secret: &DigestKey,
    rule: &CacheRule,
    view: RequestView<'_, '_>,
    fields: &RequestFields<'_>,
) -> Result<(), Bypass> {
    match &rule.credentials {
        Credentials::Bypass if fields.has_credentials => return Err(Bypass::Credentials),
        Credentials::Bypass | Credentials::CoveredByKey => {}
        Credentials::ByResponse if fields.has_authorization => push_part(extras, b"authorized"),
        Credentials::ByResponse => {}
        Credentials::PerCaller(caller) => {
            let request = KeyRequest { view, pattern: &rule.pattern };
            let digest = caller.digest(&request, secret).ok_or(Bypass::Caller)?;
            push_part(extras, b"caller");
            push_part(extras, &digest);
        }
    }
    Ok(())
}

/// Adds the key and the tags that closures make, since the target does not imply them. Returns the
/// key, so that its closure is called once.
fn push_closures(
    extras: &mut EncodedParts,
    rule: &CacheRule,
    view: RequestView<'_, '_>,
) -> Result<Option<PrimaryKey>, Bypass> {
    let mut key = None;
    if !rule.target_implies_key() {
        let made = rule.key(view).ok_or(Bypass::Key)?;
        push_part(extras, b"key");
        push_part(extras, made.as_str().as_bytes());
        key = Some(made);
    }
    if !rule.target_implies_tags() {
        for tag in rule.tags(view).ok_or(Bypass::Key)?.iter() {
            push_part(extras, b"tag");
            push_part(extras, tag.as_str().as_bytes());
        }
    }
    Ok(key)
}

/// Adds the URI that the inner service sees, where that is not the original one.
fn push_seen(extras: &mut EncodedParts, seen: &Uri, policy: &QueryPolicy) {
    push_part(extras, b"seen");
    push_part(extras, scheme(seen));
    push_part(extras, authority(seen));
    push_part(extras, policy.target(seen).as_bytes());
}

impl Admitted<'_> {
    /// Returns the variant of the request with these values of nominated fields.
    pub(crate) fn variant<'v>(&'v self, nominated: &'v [u8]) -> VariantParts<'v> {
        let original = self.view.head.original_uri();
        VariantParts {
            scope: self.scope,
            scheme: scheme(original),
            authority: authority(original),
            host: self.fields.host,
            target: self.target.as_bytes(),
            extras: &self.extras,
            nominated,
        }
    }

    /// Returns the primary key.
    pub(crate) fn key(&self) -> Result<PrimaryKey, Bypass> {
        match &self.key {
            Some(key) => Ok(key.clone()),
            None => self.rule.key(self.view).ok_or(Bypass::Key),
        }
    }

    /// Returns the tags that the route gives to every response to the request.
    pub(crate) fn tags(&self) -> Result<Tags, Bypass> {
        self.rule.tags(self.view).ok_or(Bypass::Key)
    }

    /// Returns the directives of the request that its route honours.
    pub(crate) fn wishes(&self) -> Wishes {
        match self.fields.has_directives {
            true => Wishes::of(self.view.head.headers, self.rule.request_directives),
            false => Wishes::NONE,
        }
    }

    /// Returns the conditions on the copy that the client already has.
    pub(crate) fn conditions(&self) -> Option<Conditions> {
        self.fields.has_conditions.then(|| Conditions::of(self.view.head.headers))
    }

    /// Returns the parts that are requested, unless the request is for the whole. Only GET has parts
    /// (RFC 9110 §14.2).
    pub(crate) fn range(&self) -> Option<Box<RangeAsked>> {
        let has_range = self.fields.has_range && *self.view.head.method == Method::GET;
        has_range.then(|| Box::new(RangeAsked::of(self.view.head.headers)))
    }

    /// Returns whether the request has credentials that the response must permit to share (RFC 9111
    /// §3.5).
    pub(crate) fn needs_permission(&self) -> bool {
        self.fields.has_authorization && self.rule.credentials.is_by_response()
    }
}

fn scheme(uri: &Uri) -> &[u8] {
    uri.scheme_str().unwrap_or("").as_bytes()
}

fn authority(uri: &Uri) -> &[u8] {
    uri.authority().map_or("", Authority::as_str).as_bytes()
}
