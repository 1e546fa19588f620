//! Line of fixed width at the front of a record, for the scripts.

/// Version of the record format, and a part of every variant's digest.
pub(super) const VERSION: u8 = 4;

/// First bytes of every record of this version.
pub(super) const MAGIC: &[u8] = &[b'T', b'S', b'C', b'0' + VERSION, b' '];

/// Length of the line. The scripts know where its parts are.
pub(super) const LINE: usize = 64;

/// Flag in the length of a sensitive value.
pub(super) const SENSITIVE: u32 = 1 << 31;

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

    /// Appends the numbers in binary.
    pub(super) fn push(&self, record: &mut Vec<u8>) {
        let Self { incarnation, stored, fresh_until, kept_until, number } = *self;
        for part in [incarnation, stored, fresh_until, kept_until, number] {
            record.extend_from_slice(&part.to_be_bytes());
        }
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
            assert_eq!(line[5..21], format!("{:016x}", stamp.incarnation));
            let time = |place: std::ops::Range<usize>| line[place].parse::<u64>().unwrap();
            assert_eq!(time(22..35), stamp.stored.min(9_999_999_999_999));
            assert_eq!((time(36..49), time(50..63)), (stamp.fresh_until, stamp.kept_until));
        }
    }
}
