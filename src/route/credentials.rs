//! Credentials of requests, and the callers that they identify.

use std::{fmt, sync::Arc};

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
};

use super::request::{Extract, KeyRequest};
use crate::{
    key::{DigestKey, EncodedParts, push_part},
    policy::CredentialFields,
};

/// Treatment of requests that carry credentials: `Authorization`, `Cookie`, an API key, or a field by
/// which a proxy names the caller, such as `X-Forwarded-User`.
///
/// Choose by what the responses are:
///
/// | Responses of the route | Setting |
/// |---|---|
/// | are the same for everybody, whatever cookies a browser sends | [`SameForEverybody`](Self::SameForEverybody) |
/// | differ by person | [`PerCaller`](Self::PerCaller) |
/// | differ by tenant, and all its people see the same | [`PerTenant`](Self::PerTenant) |
/// | say themselves who may share them | [`ByResponse`](Self::ByResponse) |
/// | are for those whom an outer layer has let through to this very URL | [`CoveredByKey`](Self::CoveredByKey) |
/// | are not known well enough | [`Bypass`](Self::Bypass), the default |
///
/// [`default_fields`](Self::default_fields) lists these fields, and
/// [`SupportCacheLayerBuilder::credential_fields`](crate::SupportCacheLayerBuilder::credential_fields) names others.
///
/// The layer belongs inside authentication, since a hit does not run the layers within it. It cannot
/// see its own place, so the default is safe in a wrong one.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, Caller, Credentials};
///
/// // Each caller has a profile of its own, and the session cookie identifies the caller.
/// CacheRoute::get("/profile")
///     .key("profiles")
///     .ttl(Duration::from_secs(60))
///     .credentials(Credentials::PerCaller(Caller::cookies(["session"])));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Requests with credentials bypass the cache. They are counted, and a warning names the route
    /// once.
    #[default]
    Bypass,
    /// The handler reads no credentials: its response is the same for everybody, signed in or not.
    ///
    /// For public pages and data that browsers ask for with whatever cookies they have. If a handler
    /// does read credentials, one client's response answers another. A response with
    /// `Cache-Control: private` is not stored.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{CacheRoute, Credentials};
    ///
    /// CacheRoute::get("/help/{article}")
    ///     .key("help:{article}")
    ///     .credentials(Credentials::SameForEverybody)
    ///     .ttl(Duration::from_secs(300));
    /// ```
    SameForEverybody,
    /// The caller is part of what identifies a response, so a response stored for one caller never
    /// answers another. A request without a caller bypasses the cache.
    ///
    /// A key holds at most 256 responses in memory, and about 500 in Redis; with one more, the oldest is
    /// evicted. A target such as `/me` has one response for each caller. If it has more callers than
    /// that, make the caller a part of the key. An invalidation then removes the responses of one
    /// caller, too:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{CacheRoute, Caller, Credentials};
    ///
    /// #[derive(Clone)]
    /// struct UserId(u64); // Added to the extensions by the authentication layer.
    ///
    /// CacheRoute::get("/me")
    ///     .key_with(|request| Some(format!("me:{}", request.extensions().get::<UserId>()?.0)))
    ///     .credentials(Credentials::PerCaller(Caller::authorization()))
    ///     .ttl(Duration::from_secs(60));
    /// ```
    #[doc(alias = "per person")]
    #[doc(alias = "per user")]
    PerCaller(Caller),
    /// The tenant is part of what identifies a response: all people of one tenant share, and no other
    /// tenant does. A request without a tenant bypasses the cache.
    ///
    /// An outer layer has authenticated the request and knows its tenant. Everyone in a tenant may see
    /// what the route answers to one of them, or an outer layer refuses those who may not. A response
    /// with `Cache-Control: private` is for one person, and is not stored.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_support_cache::{CacheRoute, Caller, Credentials};
    ///
    /// #[derive(Clone)]
    /// struct Tenant(String); // Added to the extensions by the authentication layer.
    ///
    /// let tenant = Caller::with(|request| Some(request.extensions().get::<Tenant>()?.0.clone()));
    /// CacheRoute::get("/prices")
    ///     .key("prices")
    ///     .credentials(Credentials::PerTenant(tenant))
    ///     .ttl(Duration::from_secs(60));
    /// ```
    #[doc(alias = "tenant")]
    PerTenant(Caller),
    /// An outer layer has authenticated *and authorised* the request, and the key or the target
    /// identifies everyone who may see the response.
    ///
    /// Otherwise one caller's response answers another: any request with the same key and the same
    /// target receives the stored response. A response with `Cache-Control: private` is not stored;
    /// only [`PerCaller`](Self::PerCaller) can store it.
    CoveredByKey,
    /// The response decides, as in RFC 9111 §3.5 for shared caches: a response to a request with
    /// credentials is stored and shared only if it has `public`, `s-maxage` or `must-revalidate`. For
    /// proxies.
    ///
    /// Cookies alone do not matter: an origin that uses them says so by `Vary: Cookie` or `private`.
    /// If it forgets, one client's response answers another. Requests with credentials and requests
    /// without them share no responses.
    ByResponse,
}

impl Credentials {
    /// Returns the request fields that carry credentials unless
    /// [`SupportCacheLayerBuilder::credential_fields`](crate::SupportCacheLayerBuilder::credential_fields) names others.
    ///
    /// These are the fields of HTTP, usual names of keys and tokens, and the fields by which
    /// authenticating proxies, gateways and clouds name a caller.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_support_cache::{Credentials, MemoryStore, SupportCacheLayer};
    ///
    /// // A gateway of our own names the caller in a further field.
    /// let mut fields = Credentials::default_fields();
    /// fields.push(HeaderName::from_static("x-portal-user"));
    /// SupportCacheLayer::builder(MemoryStore::new()).credential_fields(fields).build()?;
    /// # Ok::<(), tower_support_cache::ConfigError>(())
    /// ```
    pub fn default_fields() -> Vec<HeaderName> {
        CredentialFields::defaults()
    }

    pub(crate) fn is_by_response(&self) -> bool {
        matches!(self, Self::ByResponse)
    }

    pub(super) fn is_per_caller(&self) -> bool {
        matches!(self, Self::PerCaller(_))
    }

    /// Returns whether a digest of the caller is part of every variant.
    pub(super) fn digests_callers(&self) -> bool {
        matches!(self, Self::PerCaller(_) | Self::PerTenant(_))
    }
}

/// Identity of a caller, for [`Credentials::PerCaller`], or of a tenant, for [`Credentials::PerTenant`].
///
/// Two callers are the same only if their identities are byte-equal. The cache keeps a keyed digest.
/// Its key is random in each process unless [`SupportCacheLayerBuilder::caller_key`](crate::SupportCacheLayerBuilder::caller_key) sets
/// one.
///
/// ```
/// use tower_support_cache::{Caller, Credentials};
///
/// #[derive(Clone)]
/// struct UserId(u64); // Added to the extensions by the authentication layer.
///
/// let user = Caller::with(|request| Some(request.extensions().get::<UserId>()?.0.to_string()));
/// let credentials = Credentials::PerCaller(user);
/// ```
#[derive(Clone)]
pub struct Caller {
    source: CallerSource,
}

#[derive(Clone)]
enum CallerSource {
    Authorization,
    Cookies(Vec<String>),
    Closure(Extract),
}

impl Caller {
    /// Identifies callers by their `Authorization` field.
    pub fn authorization() -> Self {
        Self { source: CallerSource::Authorization }
    }

    /// Identifies callers by the cookies with these names. A request that lacks one has no caller.
    pub fn cookies(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { source: CallerSource::Cookies(names.into_iter().map(Into::into).collect()) }
    }

    /// Identifies callers by a text that a closure reads from the request, such as a user id that an
    /// authentication layer added to the extensions. `None` or a blank text is no caller.
    ///
    /// Layers on one store whose routes differ only in this closure share responses: tell them apart
    /// by [`SupportCacheLayerBuilder::mount`](crate::SupportCacheLayerBuilder::mount).
    pub fn with(
        extract: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { source: CallerSource::Closure(Arc::new(extract)) }
    }

    /// Returns the digest of the caller, or `None` if the request has none.
    pub(super) fn digest(&self, request: &KeyRequest<'_>, secret: &DigestKey) -> Option<[u8; 32]> {
        let mut identity = EncodedParts::new();
        match &self.source {
            CallerSource::Authorization => {
                for line in request.headers().get_all(AUTHORIZATION) {
                    push_part(&mut identity, present(line.as_bytes())?);
                }
            }
            CallerSource::Cookies(names) => {
                for name in names {
                    let mut values = EncodedParts::new();
                    for value in cookies(request.headers(), name) {
                        push_part(&mut values, present(value)?);
                    }
                    if values.is_empty() {
                        return None;
                    }
                    // One part for all values of a name, so that no value passes for another name's.
                    push_part(&mut identity, &values);
                }
            }
            CallerSource::Closure(extract) => {
                push_part(&mut identity, present(extract(request)?.as_bytes())?);
            }
        }
        (!identity.is_empty()).then(|| secret.digest(&identity))
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            CallerSource::Authorization => "authorization",
            CallerSource::Cookies(names) => return f.debug_tuple("Caller").field(names).finish(),
            CallerSource::Closure(_) => "closure",
        };
        f.debug_tuple("Caller").field(&source).finish()
    }
}

/// Returns a value that is not blank.
fn present(value: &[u8]) -> Option<&[u8]> {
    let is_blank = std::str::from_utf8(value).is_ok_and(|text| text.trim().is_empty());
    (!is_blank).then_some(value)
}

/// Returns the values of all cookies with this name. A handler may read any of two, so both are part
/// of the identity.
fn cookies<'a>(fields: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |pair| {
            let pair = pair.trim_ascii();
            let rest = pair.strip_prefix(name.as_bytes())?.trim_ascii_start();
            rest.strip_prefix(b"=")
        })
}
