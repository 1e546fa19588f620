//! Request fields that matter to the cache, found in one pass.

use http::{
    HeaderMap, HeaderName,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
        CONTENT_TYPE, COOKIE, EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_UNMODIFIED_SINCE, PRAGMA, PROXY_AUTHORIZATION, RANGE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};

/// Names of the fields that carry credentials, grouped by length.
///
/// Most fields of a request have a length that few of these names have, so few are compared.
#[derive(Debug)]
pub(crate) struct CredentialFields(Vec<Vec<HeaderName>>);

impl CredentialFields {
    pub(crate) fn new(names: &[HeaderName]) -> Self {
        let mut by_length = Vec::new();
        for name in names {
            let length = name.as_str().len();
            if by_length.len() <= length {
                by_length.resize_with(length + 1, Vec::new);
            }
            by_length[length].push(name.clone());
        }
        Self(by_length)
    }

    /// Returns the names that carry credentials unless a layer names others.
    pub(crate) fn defaults() -> Vec<HeaderName> {
        vec![AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, HeaderName::from_static("x-api-key")]
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.0.get(name.as_str().len()).is_some_and(|names| names.contains(name))
    }
}

/// Fields of a request, as far as they decide how the cache treats it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestFields<'a> {
    /// Value of the last `Host`.
    pub(crate) host: &'a [u8],
    /// Number of `Host` fields.
    pub(crate) hosts: usize,
    pub(crate) has_credentials: bool,
    /// Credentials other than cookies.
    pub(crate) has_authorization: bool,
    pub(crate) has_range: bool,
    /// A condition that only the origin may evaluate.
    pub(crate) has_precondition: bool,
    /// A condition on the copy that the client already has.
    pub(crate) has_conditions: bool,
    pub(crate) has_directives: bool,
    /// Set if the head says that content follows (RFC 9112 §6.3), or may follow (`Expect`).
    pub(crate) announces_content: bool,
    /// Set if the head has a field about content.
    pub(crate) describes_content: bool,
    pub(crate) has_upgrade: bool,
}

impl<'a> RequestFields<'a> {
    pub(crate) fn of(fields: &'a HeaderMap, credential_fields: &CredentialFields) -> Self {
        let mut found = Self::default();
        // Each name once: lines are many more steps to go through.
        for name in fields.keys() {
            match *name {
                HOST => {
                    for host in fields.get_all(HOST) {
                        found.host = host.as_bytes();
                        found.hosts += 1;
                    }
                }
                RANGE => found.has_range = true,
                IF_MATCH | IF_UNMODIFIED_SINCE => found.has_precondition = true,
                IF_NONE_MATCH | IF_MODIFIED_SINCE => found.has_conditions = true,
                UPGRADE => found.has_upgrade = true,
                CACHE_CONTROL | PRAGMA => found.has_directives = true,
                CONTENT_LENGTH => found.announces_content |= !is_zero(fields),
                TRANSFER_ENCODING | EXPECT => found.announces_content = true,
                CONTENT_ENCODING | CONTENT_LANGUAGE | CONTENT_TYPE | TRAILER => {
                    found.describes_content = true;
                }
                _ => {}
            }
            if credential_fields.contains(name) {
                found.has_credentials = true;
                found.has_authorization |= *name != COOKIE;
            }
        }
        found
    }
}

/// Returns whether every `Content-Length` is zero.
fn is_zero(fields: &HeaderMap) -> bool {
    let is_zero = |digits: &[u8]| !digits.is_empty() && digits.iter().all(|digit| *digit == b'0');
    fields.get_all(CONTENT_LENGTH).iter().all(|length| is_zero(length.as_bytes()))
}
