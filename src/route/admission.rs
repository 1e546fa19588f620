//! Admission of reads: the one place that decides whether a read may consult the cache, and that
//! puts its variant together.

use std::borrow::Cow;

use http::{HeaderName, Uri};

use super::{
    cache_rule::{CacheRule, Scope},
    content::{Denied, ReadMethod, RequestContent},
    credentials::Credentials,
    host::{HostPolicy, Site},
    request::{KeyRequest, RequestView},
    variations::Variations,
};
use crate::{
    key::{DigestKey, EncodedParts, PrimaryKey, VariantParts, parts_of, push_part},
    metrics::outcome::Bypass,
    policy::{CredentialFields, RequestFields, asks_for_upgrade},
};

/// Settings of a layer that tell responses and callers apart, whatever its routes are.
pub(crate) struct Identity {
    /// Setting for routes without one of their own.
    pub(crate) credentials: Credentials,
    /// Response field that names tags, if the layer has one.
    pub(crate) tag_field: Option<HeaderName>,
    /// Set if the store is shared with processes that would digest callers by other keys.
    pub(crate) lacks_caller_key: bool,
    /// Set if the calls to the origin have a budget.
    pub(crate) has_budget: bool,
    /// Digest of what decides the meaning of the entries of all routes.
    pub(crate) scope: blake3::Hasher,
    /// Scheme of requests that name none; empty if it is unknown.
    pub(crate) scheme: String,
    pub(crate) secret: DigestKey,
    pub(crate) credential_fields: CredentialFields,
}

/// Read that may consult the cache.
pub(crate) struct Admitted<'a> {
    pub(crate) fields: RequestFields<'a>,
    /// Key that a closure has made, where the target does not imply it.
    pub(crate) key: Option<PrimaryKey>,
    /// Target as it was sent, where the response may say what of it counts.
    pub(crate) sent: Option<Box<str>>,
    scope: &'a Scope,
    site: Site<'a>,
    target: Cow<'a, str>,
    extras: EncodedParts,
}

/// Decides whether a read may consult the cache.
///
/// # Errors
///
/// The first reason against it.
pub(crate) fn admit<'a>(
    identity: &'a Identity,
    rule: &'a CacheRule,
    variations: Option<&Variations>,
    view: RequestView<'a, 'a>,
    content: RequestContent<'_>,
) -> Result<Admitted<'a>, Denied> {
    let fields = RequestFields::of(view.head.headers, &identity.credential_fields);
    if fields.has_upgrade && asks_for_upgrade(view.head.version, view.head.headers) {
        return Err(Bypass::Upgrade.into());
    }
    if rule.content.is_none() {
        content.check(view.head, &fields)?;
    }
    // What GET makes of the others, a POST does not (RFC 9110 §13.1, §14.2).
    let has_other_condition = fields.has_conditions || fields.has_range;
    if fields.has_precondition || rule.method == ReadMethod::Post && has_other_condition {
        return Err(Bypass::Precondition.into());
    }
    // Two `Host` fields make a request malformed (RFC 9112 §3.2): readers disagree about which counts.
    if fields.hosts > 1 {
        return Err(Bypass::Key.into());
    }
    let original = view.head.original_uri();
    let host = (fields.hosts == 1).then_some(fields.host);
    let site = rule.host.site(original, host, &identity.scheme);
    if !rule.host.admits(&site) {
        return Err(Bypass::Host.into());
    }
    let mut extras = EncodedParts::new();
    // Unlike an empty scheme or authority, an empty `Host` is not the same as none.
    if host == Some(b"") && rule.host != HostPolicy::Ignore {
        push_part(&mut extras, b"empty host");
    }
    push_caller(&mut extras, &identity.secret, rule, view, &fields)?;
    let key = push_closures(&mut extras, rule, view)?;
    // Mostly the very same URI; a nested router or a layer in between may have made another.
    if !std::ptr::eq(original, view.head.uri) && original != view.head.uri {
        push_seen(&mut extras, view.head.uri, original, rule, &identity.scheme);
    }
    // Last: nothing is read of a request that bypasses the cache anyway.
    if let Some(of_content) = &rule.content {
        let request = KeyRequest { view, pattern: &rule.pattern };
        push_part(&mut extras, b"content");
        push_part(&mut extras, &of_content.digest(&request, content)?);
    }
    let (scope, target) = (&rule.scope, rule.query.target(original));
    let mut admitted = Admitted { fields, key, sent: None, scope, site, target, extras };
    if let Some(variations) = variations {
        admitted.vary_target(variations);
    }
    Ok(admitted)
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
        Credentials::Bypass | Credentials::SameForEverybody | Credentials::CoveredByKey => {}
        Credentials::ByResponse if fields.has_authorization => push_part(extras, b"authorized"),
        Credentials::ByResponse => {}
        // Each has a scope of its own, so the label need not tell them apart.
        Credentials::PerCaller(caller) | Credentials::PerTenant(caller) => {
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
fn push_seen(
    extras: &mut EncodedParts,
    seen: &Uri,
    original: &Uri,
    rule: &CacheRule,
    scheme: &str,
) {
    let site = rule.host.site(seen, None, scheme);
    push_part(extras, b"seen");
    push_part(extras, &site.scheme);
    push_part(extras, &site.authority);
    // The target holds the query already, in the form that responses declare.
    let target = match rule.no_vary_search && seen.query() == original.query() {
        true => Cow::Borrowed(seen.path()),
        false => rule.query.target(seen),
    };
    push_part(extras, target.as_bytes());
}

/// Labels of the further parts of a variant, and the number of values after each.
const EXTRAS: [(&str, usize); 7] = [
    ("empty host", 0),
    ("authorized", 0),
    ("caller", 1),
    ("key", 1),
    ("tag", 1),
    ("seen", 3),
    ("content", 1),
];

impl Admitted<'_> {
    /// Looks for the response by the form of its target that the last response for the path declared.
    fn vary_target(&mut self, variations: &Variations) {
        let known = variations.known(self.variant(b"").path_hash());
        self.sent = Some(Box::from(&*self.target));
        if let Some(variation) = known {
            self.target = Cow::Owned(variation.form(&self.target));
        }
    }

    /// Returns the names of the parts of its variant, but for those of nominated fields.
    pub(crate) fn part_names(&self) -> Vec<String> {
        let Site { scheme, authority, host } = &self.site;
        let parts = [("scheme", scheme), ("authority", authority), ("host", host)];
        let named = parts.into_iter().filter(|(_, part)| !part.is_empty()).map(|(name, _)| name);
        let mut names: Vec<_> = ["rule"].into_iter().chain(named).chain(["target"]).collect();
        let mut extras = parts_of(&self.extras);
        while let Some(label) = extras.next() {
            let known = EXTRAS.iter().find(|(name, _)| name.as_bytes() == label);
            let (name, values) = known.expect("each label of a part is listed");
            names.push(name);
            extras.by_ref().take(*values).for_each(drop);
        }
        names.into_iter().map(str::to_owned).collect()
    }

    /// Returns the variant of the request with these values of nominated fields.
    #[inline]
    pub(crate) fn variant<'v>(&'v self, nominated: &'v [u8]) -> VariantParts<'v> {
        VariantParts {
            scope: self.scope,
            scheme: &self.site.scheme,
            authority: &self.site.authority,
            host: &self.site.host,
            target: self.target.as_bytes(),
            extras: &self.extras,
            nominated,
        }
    }
}
