//! Version of a tag, as a record names it, and its stamp at the server.

use smallvec::SmallVec;

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

/// Value of a tag's key: its version, and earlier ones that soft invalidations have replaced since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagStamp {
    /// Newest first, and never empty.
    versions: SmallVec<[TagVersion; 1]>,
    /// Time until which nothing may be stored for the tag, in milliseconds of the server's clock.
    pub(crate) unsettled_until: u64,
}

/// Length of a version's text.
const TEXT: usize = 33;

/// Number of earlier versions that a soft invalidation keeps. The text is taken for no version with more.
pub(crate) const EARLIER_VERSIONS: usize = 4;

impl TagVersion {
    /// Parses the text that the scripts write, and nothing else.
    fn parse(text: &str) -> Option<Self> {
        let (time, random) = text.split_once(' ')?;
        let is_version = time.len() == 16
            && random.len() == 16
            && time.bytes().all(|byte| byte.is_ascii_digit())
            && random.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_version.then(|| {
            Some(Self { time: time.parse().ok()?, random: u64::from_str_radix(random, 16).ok()? })
        })?
    }
}

impl TagStamp {
    /// Parses versions as the scripts write them, with a space between each and the next, and after a `!` the
    /// time until which nothing may be stored.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
        let (text, until) = text.split_once('!').unwrap_or((text, "0"));
        let is_number = until.bytes().all(|byte| byte.is_ascii_digit());
        let unsettled_until = until.parse().ok().filter(|_| is_number)?;
        let count = (text.len() + 1) / (TEXT + 1);
        if count * (TEXT + 1) != text.len() + 1 || !(1..=1 + EARLIER_VERSIONS).contains(&count) {
            return None;
        }
        let each = (0..count).map(|at| {
            let from = at * (TEXT + 1);
            let is_separate = at == 0 || text.as_bytes()[from - 1] == b' ';
            TagVersion::parse(&text[from..from + TEXT]).filter(|_| is_separate)
        });
        Some(Self { versions: each.collect::<Option<_>>()?, unsettled_until })
    }

    /// Returns the version of what is stored now.
    pub(crate) fn version(&self) -> TagVersion {
        self.versions[0]
    }

    /// Returns the standing of something with an earlier or the same version.
    pub(crate) fn standing(&self, version: TagVersion) -> Standing {
        match self.versions.iter().position(|known| *known == version) {
            Some(0) => Standing::InForce,
            Some(at) => Standing::Outdated { since: self.versions[at - 1].time / 1000 },
            None => Standing::Dead,
        }
    }
}

/// Standing of a record by its tags. The more it has, the greater it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    InForce,
    /// A tag was softly invalidated, at a time in milliseconds of the server's clock.
    Outdated {
        since: u64,
    },
    /// A tag was invalidated.
    Dead,
}

impl Standing {
    /// Returns the standing of what has both tags.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Dead, _) | (_, Self::Dead) => Self::Dead,
            (Self::InForce, standing) | (standing, Self::InForce) => standing,
            (Self::Outdated { since }, Self::Outdated { since: other }) => {
                Self::Outdated { since: since.min(other) }
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = [
        "1795000000000300 0000000000000003",
        "1795000000000200 0000000000000002",
        "1795000000000100 00000000000000ab",
    ];

    fn version(time: u64, random: u64) -> TagVersion {
        TagVersion { time: 1_795_000_000_000_000 + time, random }
    }

    #[test]
    fn a_version_is_read_only_as_it_is_written() {
        let text = "1795000000000000 00000000000000ab";
        let stamp = TagStamp::parse(text.as_bytes()).expect("a version");
        assert_eq!((stamp.version(), stamp.unsettled_until), (version(0, 0xab), 0));
        let unsettled = TagStamp::parse(format!("{text} {text}!1795000010000").as_bytes());
        assert_eq!(unsettled.expect("versions").unsettled_until, 1_795_000_010_000);
        assert_eq!(TagStamp::parse(format!("{text}!").as_bytes()), None);
        let many = [text; 2 + EARLIER_VERSIONS].join(" ");
        let joined = [text; 2].join("  ");
        let others = ["", "x", &text[1..], &text[..32], &joined, &many];
        for other in others.into_iter().chain(["1795000000000000  0000000000000ab"]) {
            assert_eq!(TagStamp::parse(other.as_bytes()), None, "{other}");
        }
        let commas = [text; 2].join(",");
        assert_eq!(TagStamp::parse(commas.as_bytes()), None);
        let signed = text.replacen('1', "+", 1);
        assert_eq!(TagStamp::parse(signed.as_bytes()), None);
        assert_eq!(TagStamp::parse("ä".repeat(16).as_bytes()), None);
        assert!(TagStamp::parse([text; 1 + EARLIER_VERSIONS].join(" ").as_bytes()).is_some());
    }

    #[test]
    fn an_earlier_version_is_outdated_since_the_next_one_and_an_unknown_one_dead() {
        let stamp = TagStamp::parse(TEXTS.join(" ").as_bytes()).expect("versions");
        let at =
            |micros: u64| Standing::Outdated { since: (1_795_000_000_000_000 + micros) / 1000 };
        for (version, standing) in [
            (version(300, 3), Standing::InForce),
            (version(200, 2), at(300)),
            (version(100, 0xab), at(200)),
            (version(100, 1), Standing::Dead),
            (version(0, 0), Standing::Dead),
        ] {
            assert_eq!(stamp.standing(version), standing, "{version:?}");
        }
        let outdated = |since| Standing::Outdated { since };
        assert_eq!(outdated(1).and(outdated(2)), outdated(1));
        assert_eq!(Standing::InForce.and(outdated(2)), outdated(2));
        assert_eq!(outdated(1).and(Standing::Dead), Standing::Dead);
    }
}
