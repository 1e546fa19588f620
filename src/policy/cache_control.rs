//! `Cache-Control` of a response (RFC 9111 §5.2.2), read strictly: whatever could be meant as a
//! restriction is one.

use http::{HeaderMap, header::CACHE_CONTROL};

/// The directives that restrict storing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
}

impl Directives {
    /// Reads all lines of the field. A directive with an argument, well formed or not, counts as
    /// the directive without one, which is the more restrictive reading.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in fields.get_all(CACHE_CONTROL) {
            directives.read(line.as_bytes());
        }
        directives
    }

    fn read(&mut self, line: &[u8]) {
        let mut rest = line;
        while !rest.is_empty() {
            let end = member_end(rest);
            self.note(directive_name(&rest[..end]));
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }

    fn note(&mut self, name: &[u8]) {
        self.no_store |= name.eq_ignore_ascii_case(b"no-store");
        self.no_cache |= name.eq_ignore_ascii_case(b"no-cache");
        self.private |= name.eq_ignore_ascii_case(b"private");
    }
}

/// Returns where the first member ends: at a comma outside quotes. A quote that is never closed
/// is no quote, so that it cannot hide the directives behind it.
fn member_end(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b',' => return at,
            b'"' => at = closing_quote(text, at).unwrap_or(at),
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn closing_quote(text: &[u8], opening: usize) -> Option<usize> {
    let mut at = opening + 1;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Returns the first run of token characters (RFC 9110 §5.6.2), whatever stands around it.
fn directive_name(member: &[u8]) -> &[u8] {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let start = member.iter().position(is_token).unwrap_or(member.len());
    let rest = &member[start..];
    &rest[..rest.iter().position(|byte| !is_token(byte)).unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOTHING: Directives = Directives { no_store: false, no_cache: false, private: false };
    const NO_STORE: Directives = Directives { no_store: true, ..NOTHING };
    const NO_CACHE: Directives = Directives { no_cache: true, ..NOTHING };
    const PRIVATE: Directives = Directives { private: true, ..NOTHING };

    #[track_caller]
    fn check(lines: &[&[u8]], expected: Directives) {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, HeaderValue::from_bytes(line).unwrap());
        }
        assert_eq!(Directives::of(&fields), expected, "{lines:?}");
    }

    #[test]
    fn directives_are_found_in_any_case_on_any_line() {
        check(&[], NOTHING);
        check(&[b"public, max-age=60"], NOTHING);
        check(&[b"max-age=60", b"\tNo-Store ,"], NO_STORE);
        check(&[b",, NO-CACHE"], NO_CACHE);
        check(&[b"Private,no-store"], Directives { private: true, ..NO_STORE });
    }

    #[test]
    fn an_argument_does_not_lift_a_restriction() {
        for line in [
            "private=\"\"",
            "private=\" authorization\"",
            "private = \"set-cookie\"",
            "private, private=\"x\"",
            "private=",
            "private;x",
        ] {
            check(&[line.as_bytes()], PRIVATE);
        }
        check(&[b"no-cache=\"set-cookie"], NO_CACHE);
        check(&[b"no-cache=\"a, no-store"], Directives { no_cache: true, ..NO_STORE });
        check(&[b"\"no-store\""], NO_STORE);
        check(&[b"\xff\xfe no-store"], NO_STORE);
    }

    #[test]
    fn text_in_a_closed_quote_is_no_directive() {
        check(&[b"x=\"a, no-store, b\""], NOTHING);
        check(&[b"x=\"\\\", no-store\", no-cache"], NO_CACHE);
        check(&[b"not-no-store, no-store-at-all"], NOTHING);
    }
}
