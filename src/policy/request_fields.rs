//! Request fields that matter to the cache, found in one pass.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, COOKIE,
        EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, PRAGMA,
        RANGE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

use crate::key::seeded_hash;

/// Fields that clients send to authenticate, and fields by which proxies name an authenticated caller.
const DEFAULTS: &[&str] = &[
    // HTTP and its extensions.
    "authorization",
    "client-cert",
    "cookie",
    "proxy-authorization",
    // Keys and tokens of services.
    "api-key",
    "apikey",
    "ocp-apim-subscription-key",
    "private-token",
    "x-access-token",
    "x-api-key",
    "x-auth-token",
    "x-functions-key",
    "x-goog-api-key",
    "x-jwt-assertion",
    "x-serverless-authorization",
    "x-session-token",
    // oauth2-proxy, Traefik, nginx.
    "x-auth-request-access-token",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-preferred-username",
    "x-auth-request-user",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    // Apache, Authelia, Grafana, Kubernetes and others that name a user.
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "x-authenticated-user",
    "x-remote-group",
    "x-remote-user",
    "x-webauth-user",
    // Authentik, Pomerium, Tailscale, Vouch.
    "tailscale-user-login",
    "tailscale-user-name",
    "x-authentik-email",
    "x-authentik-groups",
    "x-authentik-jwt",
    "x-authentik-uid",
    "x-authentik-username",
    "x-pomerium-claim-email",
    "x-pomerium-claim-user",
    "x-pomerium-jwt-assertion",
    "x-vouch-user",
    // Kong.
    "x-authenticated-userid",
    "x-consumer-custom-id",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    "x-userinfo",
    // Cloudflare.
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    // AWS.
    "x-amzn-mtls-clientcert",
    "x-amzn-mtls-clientcert-leaf",
    "x-amzn-mtls-clientcert-subject",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    // Google Cloud.
    "x-apigateway-api-userinfo",
    "x-endpoint-api-userinfo",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-goog-iap-jwt-assertion",
    // Azure.
    "x-arr-clientcert",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-idp",
    "x-ms-client-principal-name",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "x-ms-token-aad-refresh-token",
    // Certificates of clients, from proxies that end TLS.
    "ssl-client-cert",
    "x-client-cert",
    "x-forwarded-client-cert",
    "x-ssl-client-cert",
    "x-ssl-client-dn",
    "x-ssl-client-s-dn",
];

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
        DEFAULTS.iter().copied().map(HeaderName::from_static).collect()
    }

    /// Returns a seeded hash of the credentials among the fields of a request; `None` if it has none.
    pub(crate) fn hash<'f>(
        &self,
        fields: impl Iterator<Item = (&'f HeaderName, &'f HeaderValue)>,
    ) -> Option<u64> {
        let credentials = fields.filter(|(name, _)| self.contains(name));
        let mut lines: Vec<_> =
            credentials.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        lines.sort_unstable();
        (!lines.is_empty()).then(|| seeded_hash(lines))
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
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
        for (name, value) in fields {
            match *name {
                HOST => {
                    found.host = value.as_bytes();
                    found.hosts += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> (bool, bool) {
        let fields = [(HeaderName::try_from(name).unwrap(), "x".parse().unwrap())];
        let watched = CredentialFields::new(&CredentialFields::defaults());
        let fields: HeaderMap = fields.into_iter().collect();
        let found = RequestFields::of(&fields, &watched);
        (found.has_credentials, found.has_authorization)
    }

    #[test]
    fn fields_that_say_who_the_caller_is_are_credentials() {
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "X-Api-Key",
            "X-Forwarded-User",
            "X-Forwarded-Email",
            "X-Forwarded-Preferred-Username",
            "X-Forwarded-Access-Token",
            "X-Auth-Request-User",
            "X-Auth-Request-Email",
            "X-Auth-Token",
            "X-Remote-User",
            "Remote-User",
            "Cf-Access-Jwt-Assertion",
            "Cf-Access-Authenticated-User-Email",
            "X-Amzn-Oidc-Data",
            "X-Amzn-Oidc-Identity",
            "X-Amzn-Oidc-Accesstoken",
            "X-Goog-Iap-Jwt-Assertion",
            "X-Goog-Authenticated-User-Email",
            "X-Goog-Authenticated-User-Id",
            "X-MS-CLIENT-PRINCIPAL",
            "X-MS-CLIENT-PRINCIPAL-ID",
            "X-MS-CLIENT-PRINCIPAL-NAME",
            "X-MS-CLIENT-PRINCIPAL-IDP",
            "X-MS-TOKEN-AAD-ID-TOKEN",
            "X-Pomerium-Jwt-Assertion",
            "X-Authentik-Username",
            "Tailscale-User-Login",
            "X-Consumer-Username",
            "Client-Cert",
            "X-Forwarded-Client-Cert",
        ] {
            assert_eq!(found(name), (true, true), "{name}");
        }
        assert_eq!(found("Cookie"), (true, false));
    }

    #[test]
    fn fields_that_say_something_else_are_none() {
        for name in [
            "Host",
            "Accept",
            "Origin",
            "User-Agent",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Request-Id",
            "X-Csrf-Token",
            "Traceparent",
            "X-Remote-Users",
        ] {
            assert_eq!(found(name), (false, false), "{name}");
        }
    }
}
