//! Names of fields that a record writes as one byte.

use http::{HeaderName, header};

use crate::entry::CACHE_STATUS;

/// Those that responses have most often first. A record of this version knows a name by its place
/// here, counted from one: what is added goes to the end, and nothing else ever changes.
static NAMES: [HeaderName; 48] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::DATE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::VARY,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
    header::SERVER,
    header::LINK,
    header::LOCATION,
    header::CONTENT_LOCATION,
    header::CONTENT_DISPOSITION,
    header::ACCEPT_RANGES,
    header::CONTENT_RANGE,
    header::PRAGMA,
    header::VIA,
    header::WARNING,
    header::ALLOW,
    header::ALT_SVC,
    header::RETRY_AFTER,
    header::REFRESH,
    CACHE_STATUS,
    HeaderName::from_static("cdn-cache-control"),
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::STRICT_TRANSPORT_SECURITY,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
    header::REFERRER_POLICY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
    header::X_DNS_PREFETCH_CONTROL,
    // What responses nominate.
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_CHARSET,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::USER_AGENT,
];

/// Returns the number of a name; zero if it has none.
pub(super) fn number_of(name: &HeaderName) -> u8 {
    let place = NAMES.iter().position(|known| known == name);
    place.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(0)
}

/// Returns the name of a number.
pub(super) fn name_of(number: u8) -> Option<HeaderName> {
    NAMES.get(usize::from(number).checked_sub(1)?).cloned()
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_of_one_name_and_back() {
        for number in 1..=NAMES.len() as u8 {
            assert_eq!(number_of(&name_of(number).expect("it has a name")), number);
        }
        assert_eq!((name_of(0), name_of(NAMES.len() as u8 + 1)), (None, None));
        assert_eq!(number_of(&HeaderName::from_static("x-own")), 0);
    }
}
