//! `Cache-Control` (RFC 9111 §5.2), read strictly: whatever could be meant as a restriction is one,
//! and only what is well formed is a permission.

use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};

use super::targeted::Targeted;

/// The directives of a response that matter where its route's own lifetime is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    /// `public`, `s-maxage` or `must-revalidate`, which let a shared cache reuse the response to a
    /// request with credentials (RFC 9111 §3.5).
    pub(crate) permits_sharing: bool,
}

impl Directives {
    /// Reads all lines of the field. A restriction with an argument, well formed or not, counts as
    /// the restriction without one.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        // Most lines say no more than a lifetime, which need not be taken apart to see that.
        let lines = fields.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
        for member in lines.filter(|line| Letters::of(line).may_direct()).flat_map(split) {
            directives.no_store |= member.mentions("no-store");
            directives.no_cache |= member.mentions("no-cache");
            directives.private |= member.mentions("private");
            directives.permits_sharing |= member.is_exactly("public")
                || member.is_exactly("must-revalidate")
                || member.seconds("s-maxage").is_some_and(|seconds| seconds.is_ok());
        }
        directives
    }

    /// The same of a targeted field, which takes the place of this one.
    pub(super) fn targeted(told: &Targeted) -> Self {
        Self {
            no_store: told.has("no-store"),
            no_cache: told.has("no-cache"),
            private: told.has("private"),
            permits_sharing: ["public", "must-revalidate", "s-maxage"]
                .iter()
                .any(|name| told.has(name)),
        }
    }
}

/// Which letters stand in a text, whatever their case. A sign outside ASCII may count as one.
#[derive(Clone, Copy)]
struct Letters(u32);

impl Letters {
    const fn of(text: &[u8]) -> Self {
        let (mut letters, mut at) = (0, 0);
        while at < text.len() {
            letters |= ((text[at] >> 6 & 1) as u32) << (text[at] & 31);
            at += 1;
        }
        Self(letters)
    }

    /// Whether a text of these can hold a directive that matters to [`Directives`].
    fn may_direct(self) -> bool {
        const NAMES: [Letters; 6] = [
            Letters::of(b"no-store"),
            Letters::of(b"no-cache"),
            Letters::of(b"private"),
            Letters::of(b"public"),
            Letters::of(b"must-revalidate"),
            Letters::of(b"s-maxage"),
        ];
        NAMES.iter().any(|name| name.0 & !self.0 == 0)
    }
}

/// One member of the field, between commas.
#[derive(Clone, Copy)]
pub(super) struct Member<'a>(&'a [u8]);

impl<'a> Member<'a> {
    /// Whether this could be meant as the directive `name`, whatever stands around the name.
    pub(super) fn is_named(self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether `name` stands anywhere in this, but for closed quotes behind the first name: a comma
    /// may have been left out, or another sign taken for it.
    pub(super) fn mentions(self, name: &str) -> bool {
        // Most members have no such letter, and need not be taken apart to see that.
        let initial = name.as_bytes().first();
        let may_mention =
            initial.is_none_or(|initial| self.0.iter().any(|b| b.eq_ignore_ascii_case(initial)));
        may_mention && (self.is_named(name) || mentions(self.0, name.as_bytes()))
    }

    /// Whether this is the directive `name` without an argument.
    pub(super) fn is_exactly(self, name: &str) -> bool {
        self.0.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
    }

    /// Returns the seconds that the directive `name` gives, `Err` where they are no number, and
    /// `None` where this is another directive. Too many are as many as there can be (RFC 9111
    /// §1.2.2); quotes are allowed (§5.2).
    pub(super) fn seconds(self, name: &str) -> Option<Result<u64, ()>> {
        let at = self.0.iter().position(|byte| *byte == b'=').unwrap_or(self.0.len());
        let (found, argument) = self.0.split_at(at);
        if !found.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        let argument = argument.strip_prefix(b"=").unwrap_or_default().trim_ascii();
        let quoted = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let digits = quoted.unwrap_or(argument);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Some(Err(()));
        }
        let value = std::str::from_utf8(digits).map_err(|_| ());
        Some(value.map(|digits| digits.parse().unwrap_or(1 << 31)))
    }

    /// Returns the fields that this lists, if it is the directive `name` with a well-formed list of
    /// them in quotes.
    pub(super) fn listed(self, name: &str) -> Option<Vec<HeaderName>> {
        let at = self.0.iter().position(|byte| *byte == b'=')?;
        let (found, argument) = (self.0[..at].trim_ascii(), self.0[at + 1..].trim_ascii());
        let list = argument.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if !found.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        // A name of a field has neither quotes nor backslashes.
        list.split(|byte| *byte == b',')
            .map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect()
    }

    /// Returns the first run of token characters (RFC 9110 §5.6.2).
    fn name(self) -> &'a [u8] {
        let start = self.0.iter().position(is_token).unwrap_or(self.0.len());
        token(&self.0[start..])
    }
}

/// Which bytes are token characters.
static TOKEN: [bool; 256] = {
    let mut is_token = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        is_token[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    is_token
};

fn is_token(byte: &u8) -> bool {
    TOKEN[usize::from(*byte)]
}

/// Returns the token characters that `text` begins with.
fn token(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|byte| !is_token(byte)).unwrap_or(text.len())]
}

/// Whether `name` is one of the tokens of `text` outside closed quotes.
fn mentions(text: &[u8], name: &[u8]) -> bool {
    let (mut at, mut may_quote) = (0, true);
    while at < text.len() {
        if text[at] == b'"' && may_quote {
            match closing_quote(text, at) {
                Some(closing) => at = closing,
                None => may_quote = false,
            }
        }
        let found = token(&text[at..]);
        if found.eq_ignore_ascii_case(name) {
            return true;
        }
        at += found.len().max(1);
    }
    false
}

/// Returns the members of all lines.
pub(super) fn members(fields: &HeaderMap) -> impl Iterator<Item = Member<'_>> {
    fields.get_all(CACHE_CONTROL).iter().flat_map(|line| split(line.as_bytes()))
}

fn split(line: &[u8]) -> impl Iterator<Item = Member<'_>> {
    let mut rest = Some(line);
    let mut may_quote = true;
    std::iter::from_fn(move || {
        let text = rest?;
        let end = member_end(text, &mut may_quote);
        rest = text.get(end + 1..);
        Some(Member(&text[..end]))
    })
}

/// Returns where the first member ends: at a comma outside quotes. A quote that is never closed
/// is no quote, so that it cannot hide the directives behind it.
///
/// `may_quote` is kept for the whole line: where one quote does not close, none further on does,
/// and looking again for each would take quadratic time.
fn member_end(text: &[u8], may_quote: &mut bool) -> usize {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b',' => return at,
            b'"' if *may_quote => match closing_quote(text, at) {
                Some(closing) => at = closing,
                None => *may_quote = false,
            },
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOTHING: Directives =
        Directives { no_store: false, no_cache: false, private: false, permits_sharing: false };
    const NO_STORE: Directives = Directives { no_store: true, ..NOTHING };
    const NO_CACHE: Directives = Directives { no_cache: true, ..NOTHING };
    const PRIVATE: Directives = Directives { private: true, ..NOTHING };
    const PERMITS: Directives = Directives { permits_sharing: true, ..NOTHING };

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
        check(&[b"max-age=60"], NOTHING);
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
        check(&[b"max-age=60; no-store"], NO_STORE);
        check(&[b"max-age=60 private"], PRIVATE);
        check(&[b"x=\"y\"no-cache"], NO_CACHE);
        check(&[b"\xff\xfe no-store"], NO_STORE);
    }

    #[test]
    fn text_in_a_closed_quote_is_no_directive() {
        check(&[b"x=\"a, no-store, b\""], NOTHING);
        check(&[b"x=\"\\\", no-store\", no-cache"], NO_CACHE);
        check(&[b"not-no-store, no-store-at-all"], NOTHING);
    }

    #[test]
    fn a_permission_must_be_well_formed() {
        for line in [
            "public",
            " PUBLIC ",
            "must-revalidate",
            "s-maxage=60",
            "s-maxage=\"60\"",
            "s-maxage=0",
        ] {
            check(&[line.as_bytes()], PERMITS);
        }
        for line in [
            "public=1",
            "\"public\"",
            "publi",
            "s-maxage",
            "s-maxage=-1",
            "s-maxage=1.5",
            "s-maxage=x",
        ] {
            check(&[line.as_bytes()], NOTHING);
        }
    }

    #[test]
    fn seconds_saturate() {
        let seconds = |text: &'static str| Member(text.as_bytes()).seconds("max-age");
        assert_eq!(seconds("max-age=99999999999999999999"), Some(Ok(1 << 31)));
        assert_eq!(seconds("Max-Age = 5"), Some(Ok(5)));
        assert_eq!(seconds("max-age=5 5"), Some(Err(())));
        assert_eq!(seconds("x-max-age=5"), None);
    }

    #[test]
    fn a_long_field_of_quotes_is_read_in_linear_time() {
        check(&["\"\\".repeat(32 * 1024).as_bytes()], NOTHING);
        check(&["\",".repeat(32 * 1024).as_bytes()], NOTHING);
        // Each member opens a quote that the rest of the line does not close.
        check(&[",\\\"".repeat(300 * 1024).as_bytes()], NOTHING);
    }
}
