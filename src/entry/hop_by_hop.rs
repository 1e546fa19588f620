//! Fields that are for one connection or one moment, and fields that are for every recipient.

use http::{HeaderMap, HeaderName, header::CONNECTION};

/// Fields that are for every recipient, besides those that describe the content: naming them in
/// `Connection` is forbidden (RFC 9110 §7.6.1), and doing so does not remove them.
const END_TO_END: [&str; 7] =
    ["cache-control", "date", "etag", "expires", "last-modified", "location", "vary"];

/// The fields of a message that are for the next hop alone (RFC 9110 §7.6.1).
#[derive(Debug)]
pub(crate) struct HopByHop {
    /// Names from `Connection`, in lower case.
    named: Vec<String>,
}

impl HopByHop {
    /// Reads the names in `Connection`, except those that are for every recipient.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let named = fields
            .get_all(CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !is_end_to_end(name))
            .collect();
        Self { named }
    }

    /// Returns whether a field is for the next hop alone.
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        is_hop_by_hop(name) || self.named.iter().any(|named| named == name.as_str())
    }
}

/// Returns whether a field is for every recipient, whatever `Connection` names.
pub(crate) fn is_for_every_recipient(name: &HeaderName) -> bool {
    is_end_to_end(name.as_str())
}

/// Returns whether a field says how many requests its sender takes at the moment: `Retry-After` (RFC 9110
/// §10.2.3), and the fields of rate limits, of a draft and of those before it. A hit is no such request.
pub(crate) fn is_momentary(name: &HeaderName) -> bool {
    let name = name.as_str();
    let limits = name.strip_prefix("x-").unwrap_or(name).strip_prefix("ratelimit");
    name == "retry-after"
        || limits
            .is_some_and(|rest| matches!(rest, "" | "-policy" | "-limit" | "-remaining" | "-reset"))
}

/// Returns whether a field belongs to one connection or one proxy (RFC 9111 §3.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn is_end_to_end(name: &str) -> bool {
    END_TO_END.contains(&name) || name.starts_with("content-")
}
