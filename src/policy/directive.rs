//! Syntax of cache directives (RFC 9111 §5.2).

use http::HeaderName;

/// Number of seconds that stands for any larger one (RFC 9111 §1.2.2).
pub(super) const MOST_SECONDS: u64 = 1 << 31;

/// Directive that matters to this cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectiveName {
    MaxAge,
    MinFresh,
    MustRevalidate,
    MustUnderstand,
    NoCache,
    NoStore,
    NoTransform,
    OnlyIfCached,
    Private,
    ProxyRevalidate,
    Public,
    SMaxage,
    StaleIfError,
    StaleWhileRevalidate,
}

const NAMES: [(&str, DirectiveName); 14] = [
    ("max-age", DirectiveName::MaxAge),
    ("min-fresh", DirectiveName::MinFresh),
    ("must-revalidate", DirectiveName::MustRevalidate),
    ("must-understand", DirectiveName::MustUnderstand),
    ("no-cache", DirectiveName::NoCache),
    ("no-store", DirectiveName::NoStore),
    ("no-transform", DirectiveName::NoTransform),
    ("only-if-cached", DirectiveName::OnlyIfCached),
    ("private", DirectiveName::Private),
    ("proxy-revalidate", DirectiveName::ProxyRevalidate),
    ("public", DirectiveName::Public),
    ("s-maxage", DirectiveName::SMaxage),
    ("stale-if-error", DirectiveName::StaleIfError),
    ("stale-while-revalidate", DirectiveName::StaleWhileRevalidate),
];

impl DirectiveName {
    pub(super) fn of(token: &[u8]) -> Option<Self> {
        let mut names = NAMES.iter();
        let found = names.find(|(name, _)| token.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, name)| *name)
    }
}

/// Member of a `Cache-Control` line, between commas.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    text: &'a [u8],
}

impl<'a> Member<'a> {
    /// Returns the members of a line.
    pub(super) fn all(line: &'a [u8]) -> impl Iterator<Item = Self> {
        let mut rest = Some(line);
        let mut may_quote = true;
        std::iter::from_fn(move || {
            let text = rest?;
            let end = member_end(text, &mut may_quote);
            rest = text.get(end + 1..);
            Some(Self { text: &text[..end] })
        })
    }

    /// Calls `note` with every directive that this could be meant as: those that its first token or any
    /// token outside closed quotes names. A comma may be missing, or another character may stand for
    /// it.
    pub(super) fn mentioned(self, mut note: impl FnMut(DirectiveName)) {
        let start = self.text.iter().position(|byte| is_token(*byte)).unwrap_or(self.text.len());
        if self.text[..start].contains(&b'"') {
            DirectiveName::of(token(&self.text[start..])).into_iter().for_each(&mut note);
        }
        let (mut at, mut may_quote) = (0, true);
        while at < self.text.len() {
            if self.text[at] == b'"' && may_quote {
                match closing_quote(self.text, at) {
                    Some(closing) => at = closing,
                    None => may_quote = false,
                }
            }
            let found = token(&self.text[at..]);
            DirectiveName::of(found).into_iter().for_each(&mut note);
            at += found.len().max(1);
        }
    }

    /// Returns the directive that stands before a `=` or alone, and the argument behind the `=`.
    pub(super) fn parts(self) -> Option<(DirectiveName, Option<&'a [u8]>)> {
        let equals = self.text.iter().position(|byte| *byte == b'=');
        let (name, argument) = match equals {
            Some(at) => (&self.text[..at], Some(self.text[at + 1..].trim_ascii())),
            None => (self.text, None),
        };
        Some((DirectiveName::of(name.trim_ascii())?, argument))
    }
}

/// Parses an argument as a number of seconds. Quotes are allowed (RFC 9111 §5.2), and a number that is
/// too large is [`MOST_SECONDS`].
pub(super) fn seconds(argument: Option<&[u8]>) -> Option<u64> {
    let argument = argument?;
    let digits = quoted(argument).unwrap_or(argument);
    let add = |seconds: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some((seconds * 10 + digit).min(MOST_SECONDS))
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

/// Returns whether an argument is a token, if there is one: then its member has no second directive.
pub(super) fn is_plain(argument: Option<&[u8]>) -> bool {
    argument.is_none_or(|argument| argument.iter().all(|byte| is_token(*byte)))
}

/// Parses an argument as a quoted list of field names.
pub(super) fn field_names(argument: Option<&[u8]>) -> Option<Vec<HeaderName>> {
    // A name of a field has neither quotes nor backslashes.
    quoted(argument?)?
        .split(|byte| *byte == b',')
        .map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

fn quoted(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Returns whether a byte is a token character (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Returns the token that `text` begins with, which may be empty.
fn token(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len())]
}

/// Returns the end of the first member: a comma outside quotes. A quote that is never closed is no
/// quote, so that it cannot hide the directives behind it.
///
/// `may_quote` is kept for the whole line: if one quote does not close, no later one does, and
/// looking again for each would take quadratic time.
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
    use super::*;

    #[test]
    fn an_escaped_quote_hides_nothing_behind_the_string_it_is_in() {
        let members = |line: &'static str| {
            Member::all(line.as_bytes()).map(|member| member.text).collect::<Vec<_>>()
        };
        let line = r#"a="\\", no-store, b="x""#;
        assert_eq!(members(line), [&br#"a="\\""#[..], b" no-store", br#" b="x""#]);
        let line = r#"a="\"", no-store, b="x""#;
        assert_eq!(members(line), [&br#"a="\"""#[..], b" no-store", br#" b="x""#]);
        assert_eq!(members(r#"a="b\",c", d"#), [&br#"a="b\",c""#[..], b" d"]);
    }

    #[test]
    fn seconds_saturate() {
        let seconds = |text: &'static str| seconds(Member { text: text.as_bytes() }.parts()?.1);
        assert_eq!(seconds("max-age=99999999999999999999"), Some(MOST_SECONDS));
        assert_eq!(seconds("Max-Age = 5"), Some(5));
        assert_eq!(seconds("max-age=5 5"), None);
        assert_eq!(seconds("max-age"), None);
    }
}
