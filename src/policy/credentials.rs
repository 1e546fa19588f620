//! Whom a response is for.

use std::{fmt, sync::Arc};

use http::{
    HeaderMap,
    header::{AUTHORIZATION, COOKIE},
};

use super::facts::{Fact, Facts};
use crate::{
    key::{DigestKey, EncodedParts, push_part},
    route::{Extract, KeyRequest},
};

/// What a route says about requests that carry credentials: `Authorization`, `Cookie`,
/// `Proxy-Authorization` or `X-Api-Key`, or what
/// [`SupportCacheLayerBuilder::credential_fields`](crate::SupportCacheLayerBuilder::credential_fields) names.
///
/// The layer belongs inside authentication, since a hit does not run what lies within it. It
/// cannot see its own place, so the default is what protects a wrong one.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Such requests bypass the cache. They are counted, and a warning names the route once.
    #[default]
    Bypass,
    /// The caller is part of what identifies a response, so a response stored for one caller never
    /// answers another. A request without a caller bypasses the cache.
    PerCaller(Caller),
    /// An outer layer has authenticated *and authorised* the request, and the key or the target
    /// identifies everyone who may see the response.
    ///
    /// If that is not so, one caller's response answers another: anybody whose request makes the
    /// same key and has the same target gets the stored response. A response that says
    /// `Cache-Control: private` is not stored: only [`PerCaller`](Self::PerCaller) can be private.
    CoveredByKey,
    /// The response decides, as RFC 9111 §3.5 has it for shared caches: a response to a request
    /// with credentials is stored and shared only if it says `public`, `s-maxage` or
    /// `must-revalidate`. For proxies.
    ///
    /// Cookies do not matter by themselves: an origin that makes a response from them says so by
    /// `Vary: Cookie` or `private`, and where it forgets to, one client's response answers another.
    /// Requests with credentials and requests without share no responses.
    ByResponse,
}

impl Credentials {
    pub(crate) fn is_by_response(&self) -> bool {
        matches!(self, Self::ByResponse)
    }

    /// Whether a request is admitted with its credentials as if it had none. Who it is from may
    /// still be a part of its variant.
    pub(crate) fn overlook(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Bypass => !facts.have(Fact::Credentials),
            Self::ByResponse => !facts.have(Fact::Authorization),
            Self::CoveredByKey | Self::PerCaller(_) => true,
        }
    }

    pub(crate) fn is_per_caller(&self) -> bool {
        matches!(self, Self::PerCaller(_))
    }
}

/// What identifies a caller, for [`Credentials::PerCaller`].
///
/// Two callers are the same only if this is byte-equal. It is kept as a keyed digest; the key is
/// random in each process unless [`SupportCacheLayerBuilder::caller_key`](crate::SupportCacheLayerBuilder::caller_key) gives one.
#[derive(Clone)]
pub struct Caller {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Authorization,
    Cookies(Vec<String>),
    Closure(Extract),
}

impl Caller {
    /// Identifies callers by their `Authorization` field.
    pub fn authorization() -> Self {
        Self { source: Source::Authorization }
    }

    /// Identifies callers by the cookies of these names, all of which must be there.
    pub fn cookies(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { source: Source::Cookies(names.into_iter().map(Into::into).collect()) }
    }

    /// Identifies callers by what a closure reads from the request, such as a user id that an outer
    /// authentication layer put into the extensions. `None` or a blank text is no caller.
    ///
    /// Layers on one store whose routes are the same but for this closure share responses: tell
    /// them apart by [`SupportCacheLayerBuilder::mount`](crate::SupportCacheLayerBuilder::mount).
    pub fn with(
        extract: impl Fn(&KeyRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { source: Source::Closure(Arc::new(extract)) }
    }

    /// Returns the digest of the caller, or `None` where the request has none.
    pub(crate) fn digest(&self, request: &KeyRequest<'_>, secret: &DigestKey) -> Option<[u8; 32]> {
        let mut identity = EncodedParts::new();
        match &self.source {
            Source::Authorization => {
                for line in request.headers().get_all(AUTHORIZATION) {
                    push_part(&mut identity, present(line.as_bytes())?);
                }
            }
            Source::Cookies(names) => {
                for name in names {
                    let mut values = EncodedParts::new();
                    for value in cookies(request.headers(), name) {
                        push_part(&mut values, present(value)?);
                    }
                    if values.is_empty() {
                        return None;
                    }
                    // One part for all values of a name: one more of these is no other's first.
                    push_part(&mut identity, &values);
                }
            }
            Source::Closure(extract) => {
                push_part(&mut identity, present(extract(request)?.as_bytes())?);
            }
        }
        (!identity.is_empty()).then(|| secret.digest(&identity))
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Authorization => "authorization",
            Source::Cookies(names) => return f.debug_tuple("Caller").field(names).finish(),
            Source::Closure(_) => "closure",
        };
        f.debug_tuple("Caller").field(&source).finish()
    }
}

fn present(value: &[u8]) -> Option<&[u8]> {
    let is_blank = || std::str::from_utf8(value).is_ok_and(|text| text.trim().is_empty());
    // As most begin: there is nothing to decode.
    let is_present = value.first().is_some_and(u8::is_ascii_graphic) || !is_blank();
    is_present.then_some(value)
}

/// Returns the values of all cookies of this name: where a client sends two, which one counts is
/// the handler's choice, so both are part of who it is.
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
