//! Dates in fields (RFC 9110 §5.6.7).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::field_line::single;

/// Parses a date in any of the three formats, whatever its case (RFC 9111 §4.2).
pub(super) fn date(line: &HeaderValue) -> Option<SystemTime> {
    let text = line.to_str().ok()?;
    let date = httpdate::parse_http_date(text);
    date.or_else(|_| httpdate::parse_http_date(&in_usual_case(text))).ok()
}

/// Writes the words of a date as the grammar does.
fn in_usual_case(text: &str) -> String {
    let mut usual = String::with_capacity(text.len());
    let mut is_initial = true;
    for character in text.chars() {
        usual.push(match is_initial {
            true => character.to_ascii_uppercase(),
            false => character.to_ascii_lowercase(),
        });
        is_initial = !character.is_ascii_alphabetic();
    }
    usual.replace("Gmt", "GMT")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_in_any_case() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            for text in [text.to_owned(), text.to_uppercase(), text.to_lowercase()] {
                assert_eq!(date(&text.parse().unwrap()), Some(expected), "{text}");
            }
        }
        for text in
            ["", "0", "sun", "SUN, 06 NOVEMBER 1994 08:49:37 GMT", "sun, 06 nov 1994 08:49:37 cet"]
        {
            assert_eq!(date(&text.parse().unwrap()), None, "{text}");
        }
        assert_eq!(
            date(&HeaderValue::from_bytes(b"Sun, 06 Nov 1994 08:49:37 GM\xd4").unwrap()),
            None
        );
    }
}
