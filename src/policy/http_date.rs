//! Dates in fields (RFC 9110 §5.6.7).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::field_line::single;

/// Parses a date in any of the three formats.
pub(super) fn date(line: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(line.to_str().ok()?).ok()
}

/// Returns the date of a field that has exactly one line.
pub(super) fn single_date(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    single(fields, name).and_then(date)
}

/// Formats a time as `Date`, in whole seconds.
pub(crate) fn date_value(time: SystemTime) -> HeaderValue {
    // The format ends with the year 9999.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let text = httpdate::fmt_http_date(time.clamp(SystemTime::UNIX_EPOCH, last));
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}
