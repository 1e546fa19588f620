//! Lines of fields (RFC 9110 §5.2).

use http::{HeaderMap, HeaderName, HeaderValue};

/// Returns the value of a field that has exactly one line.
pub(super) fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    let line = lines.next();
    line.filter(|_| lines.next().is_none())
}
