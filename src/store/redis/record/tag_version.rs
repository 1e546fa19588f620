//! Version of a tag, as a record names it.

use crate::key::Tag;

/// Version of a tag: when it was last invalidated, in microseconds of the server's clock, and a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagVersion {
    pub(crate) time: u64,
    pub(crate) random: u64,
}

/// Tag with the version that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionedTag {
    pub(crate) tag: Tag,
    pub(crate) version: TagVersion,
}

impl TagVersion {
    /// Parses the text that the scripts write, and nothing else. Returns the version, and the milliseconds of
    /// the server's clock until which nothing may be stored for the tag.
    pub(crate) fn parse(text: &[u8]) -> Option<(Self, u64)> {
        let (time, rest) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let (random, until) = rest.split_once(' ').unwrap_or((rest, "0"));
        let is_version = time.len() == 16
            && random.len() == 16
            && time.bytes().all(|byte| byte.is_ascii_digit())
            && random.bytes().all(|byte| byte.is_ascii_hexdigit())
            && until.bytes().all(|byte| byte.is_ascii_digit());
        is_version.then(|| {
            let (time, random) = (time.parse().ok()?, u64::from_str_radix(random, 16).ok()?);
            Some((Self { time, random }, until.parse().ok()?))
        })?
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_only_as_it_is_written() {
        let version = TagVersion { time: 1_795_000_000_000_000, random: 0xab };
        let text = "1795000000000000 00000000000000ab";
        assert_eq!(TagVersion::parse(text.as_bytes()), Some((version, 0)));
        let unsettled = format!("{text} 1795000010000");
        assert_eq!(TagVersion::parse(unsettled.as_bytes()), Some((version, 1_795_000_010_000)));
        let spaced = format!("{text} ");
        for other in
            ["", "x", &text[1..], &text[..32], "1795000000000000  0000000000000ab", &spaced]
        {
            assert_eq!(TagVersion::parse(other.as_bytes()), None, "{other}");
        }
        let signed = text.replacen('1', "+", 1);
        assert_eq!(TagVersion::parse(signed.as_bytes()), None);
    }
}
