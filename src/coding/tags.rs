//! Entity tags of coded forms.
//!
//! A coded form is another representation, so its tag differs (RFC 9110 §8.8.3.3): that of the plain form
//! with a suffix. The origin knows the plain form alone, so the suffix is removed from what clients send.

use http::HeaderValue;

use super::content_coding::ContentCoding;

/// Text before the closing quote of the tag of a coded form.
fn suffix(coding: ContentCoding) -> &'static str {
    match coding {
        ContentCoding::Zstd => ";coded=zstd\"",
        ContentCoding::Brotli => ";coded=br\"",
        ContentCoding::Gzip => ";coded=gzip\"",
    }
}

/// Returns the tag of a coded form, by that of the plain one; `None` if that is malformed.
pub(crate) fn add_suffix(tag: &HeaderValue, coding: ContentCoding) -> Option<HeaderValue> {
    let inside = tag.as_bytes().strip_suffix(b"\"")?;
    HeaderValue::from_bytes(&[inside, suffix(coding).as_bytes()].concat()).ok()
}

/// Returns whether a tag, or one of a list, is of a coded form.
pub(crate) fn is_suffixed(tags: &HeaderValue, coding: ContentCoding) -> bool {
    let suffix = suffix(coding).as_bytes();
    tags.as_bytes().windows(suffix.len()).any(|part| part == suffix)
}

/// Returns a list of tags in which those of coded forms are those of the plain ones; `None` if it has none.
pub(crate) fn remove_suffixes(tags: &HeaderValue) -> Option<HeaderValue> {
    let suffixes = ContentCoding::ALL.map(|coding| suffix(coding).as_bytes());
    let mut found = false;
    let (mut left, mut rest) = (Vec::with_capacity(tags.len()), tags.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        match suffixes.into_iter().find_map(|suffix| rest.strip_prefix(suffix)) {
            Some(after) => {
                found = true;
                left.push(b'"');
                rest = after;
            }
            None => {
                left.push(*first);
                rest = after;
            }
        }
    }
    found.then(|| HeaderValue::from_bytes(&left).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_coded_form_leads_back_to_that_of_the_plain_one() {
        for tag in ["\"1\"", "W/\"1\"", "\"\"", "\";coded=gzip\"", "\"a;coded=br\""] {
            let tag = HeaderValue::from_static(tag);
            for coding in ContentCoding::ALL {
                let coded = add_suffix(&tag, coding).unwrap();
                assert_ne!(coded, tag);
                assert!(is_suffixed(&coded, coding));
                assert_eq!(remove_suffixes(&coded).unwrap(), tag);
            }
        }
    }

    #[test]
    fn a_list_is_led_back_tag_by_tag() {
        let list = "\"a;coded=gzip\", W/\"b\",\"c;coded=br\" , \"d;coded=deflate\", *";
        let expected = "\"a\", W/\"b\",\"c\" , \"d;coded=deflate\", *";
        assert_eq!(remove_suffixes(&HeaderValue::from_static(list)).unwrap(), expected);
        for unchanged in ["\"a\"", "*", "", "coded=gzip", ";coded=gzip"] {
            assert_eq!(remove_suffixes(&HeaderValue::from_static(unchanged)), None);
        }
    }

    #[test]
    fn what_is_no_tag_has_none_of_a_coded_form() {
        assert_eq!(add_suffix(&HeaderValue::from_static("1"), ContentCoding::Gzip), None);
    }
}
