//! Access to the operator's service.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use sfv::{BareItemFromInput, Parser};

use crate::structured::OnItem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Callers that are admitted.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// Callers that send the token of this digest.
    Token(blake3::Hash),
    Everybody,
}

impl Access {
    pub(super) fn of_token(token: &[u8]) -> Self {
        Self::Token(blake3::hash(token))
    }

    /// Returns whether a request carries the token: as `Bearer`, or as the password of `Basic`, which
    /// browsers ask for.
    pub(super) fn admits(self, request: &HeaderMap) -> bool {
        let Self::Token(expected) = self else { return true };
        let field = request.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
        let Some((scheme, credentials)) = field.and_then(|field| field.split_once(' ')) else {
            return false;
        };
        let credentials = credentials.trim();
        // Digests are compared in constant time.
        let is_token = |token: &[u8]| blake3::hash(token) == expected;
        match () {
            () if scheme.eq_ignore_ascii_case("bearer") => is_token(credentials.as_bytes()),
            () if scheme.eq_ignore_ascii_case("basic") => {
                password(credentials).is_some_and(|password| is_token(&password))
            }
            () => false,
        }
    }
}

/// Returns the password of `Basic` credentials (RFC 7617 §2).
fn password(credentials: &str) -> Option<Vec<u8>> {
    let mut pair = Vec::new();
    // A byte sequence of structured fields is base64 between colons (RFC 9651 §3.3.5).
    let item = format!(":{credentials}:");
    let decoded = OnItem(|item: BareItemFromInput<'_>| {
        if let BareItemFromInput::ByteSequence(bytes) = item {
            pair = bytes;
        }
    });
    Parser::new(&item).parse_item_with_visitor(decoded).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair.split_off(colon + 1))
}

/// Returns whether a browser sends a command because a page from elsewhere says so. The credentials that it
/// has would be those of the operator.
pub(super) fn is_forged<B>(request: &Request<B>) -> bool {
    if *request.method() == Method::GET {
        return false;
    }
    let fields = request.headers();
    if let Some(site) = fields.get(SEC_FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    // Browsers before that field name the origin of the page.
    let host = fields.get(HOST).map(HeaderValue::as_bytes);
    let own = request.uri().authority().map(|own| own.as_str().as_bytes()).or(host);
    fields.get(ORIGIN).is_some_and(|origin| {
        let origin = origin.as_bytes();
        let authority =
            origin.windows(3).position(|part| part == b"://").map(|at| &origin[at + 3..]);
        authority.is_none() || authority != own
    })
}
