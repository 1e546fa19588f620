//! Line of fixed width at the front of a record, for the scripts.

use std::ops::Range;

/// Version of the record format, and a part of every variant's digest.
pub(super) const VERSION: u8 = 5;

/// First bytes of every record of this version.
pub(super) const MAGIC: &[u8] = &[b'T', b'S', b'C', b'0' + VERSION, b' '];

/// Length of the line. The scripts know where its parts are.
pub(super) const LINE: usize = 64;

/// Bit of the form of a record whose content is compressed.
pub(super) const COMPRESSED: u8 = 1 << 7;

/// Bit of the form of a record that has coded forms of the body before its content.
pub(super) const CODED: u8 = 1 << 6;

/// Time in milliseconds for which a record is kept beyond its use: clocks are read at different moments.
pub(crate) const SLACK: u64 = 1000;

/// Time in milliseconds that something may be ahead of the server's clock. With more, that was set back since,
/// and nobody knows by how much: it belongs to nobody. The scripts know it, too.
pub(crate) const AHEAD: u64 = 1000;

/// Server that a record was stored on, its times and its number. Times are milliseconds of the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) incarnation: u64,
    /// Time at which the response was received.
    pub(crate) stored: u64,
    pub(crate) fresh_until: u64,
    /// Time until which the record is of any use.
    pub(crate) kept_until: u64,
    /// Random: no two responses have the same.
    pub(crate) number: u64,
}

impl Stamp {
    /// Returns the line.
    pub(super) fn line(&self) -> String {
        /// Largest number of thirteen digits, some three centuries from now.
        const LATEST: u64 = 9_999_999_999_999;
        format!(
            "TSC{VERSION} {:016x} {:013} {:013} {:013}\n",
            self.incarnation,
            self.stored.min(LATEST),
            self.fresh_until.min(LATEST),
            self.kept_until.min(LATEST),
        )
    }

    /// Parses a line, for the record of a number.
    pub(super) fn parse(line: &[u8], number: u64) -> Option<Self> {
        let time = |place: Range<usize>| {
            line.get(place)?.iter().try_fold(0, |time, digit| {
                digit.is_ascii_digit().then(|| time * 10 + u64::from(digit - b'0'))
            })
        };
        let incarnation = std::str::from_utf8(line.get(5..21)?).ok()?;
        Some(Self {
            incarnation: u64::from_str_radix(incarnation, 16).ok()?,
            stored: time(22..35)?,
            fresh_until: time(36..49)?,
            kept_until: time(50..63)?,
            number,
        })
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// The scripts know where its parts are.
    #[test]
    fn a_line_has_its_parts_at_their_places() {
        let stamp = Stamp {
            incarnation: 0x0123_4567_89ab_cdef,
            stored: 1_700_000_000_000,
            fresh_until: 1_700_000_060_000,
            kept_until: 1_700_000_061_000,
            number: 0xfedc_ba98_7654_3210,
        };
        for stamp in [stamp, Stamp { stored: u64::MAX, fresh_until: 0, ..stamp }] {
            let line = stamp.line();
            assert_eq!(line.len(), LINE);
            let stored = stamp.stored.min(9_999_999_999_999);
            assert_eq!(
                Stamp::parse(line.as_bytes(), stamp.number),
                Some(Stamp { stored, ..stamp })
            );
            for at in [5, 22, 36, 50] {
                let mut line = line.clone().into_bytes();
                line[at] = b'x';
                assert_eq!(Stamp::parse(&line, 1), None, "{at}");
                assert_eq!(Stamp::parse(&line[..at], 1), None, "{at}");
            }
            assert_eq!(line[5..21], format!("{:016x}", stamp.incarnation));
            let time = |place: std::ops::Range<usize>| line[place].parse::<u64>().unwrap();
            assert_eq!(time(22..35), stamp.stored.min(9_999_999_999_999));
            assert_eq!((time(36..49), time(50..63)), (stamp.fresh_until, stamp.kept_until));
        }
    }
}
