//! Field values that end in a number of seconds, made once and kept as long as the process: a hit
//! allocates none, and counts no references, on which threads would slow each other down.

use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::HeaderValue;

/// Seconds that a table covers: over an hour. A full table takes 0.4 MB.
const SECONDS: usize = PART * PARTS;
const PART: usize = 64;
const PARTS: usize = 64;

/// Prefixes that have a table in one process; the values of further ones are made for each hit.
const MAX_TABLES: usize = 8;

static AGES: SecondsTable = SecondsTable::new("");
static TABLES: Mutex<Vec<&'static SecondsTable>> = Mutex::new(Vec::new());

/// Field values that consist of a prefix and a number of seconds.
pub(crate) struct BySeconds {
    prefix: String,
    table: Option<&'static SecondsTable>,
}

/// Interned values of one prefix, by their number of seconds.
struct SecondsTable {
    prefix: &'static str,
    parts: [OnceLock<Box<[OnceLock<HeaderValue>; PART]>>; PARTS],
}

/// Returns a number of seconds as a field value.
#[inline]
pub(crate) fn seconds(number: u64) -> HeaderValue {
    AGES.get(number).cloned().unwrap_or_else(|| number.into())
}

impl BySeconds {
    /// Creates the values that begin with `prefix`, which must be fit for a field value.
    pub(crate) fn new(prefix: String) -> Self {
        Self { table: SecondsTable::of(&prefix), prefix }
    }

    /// Returns the value for a number of seconds.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> HeaderValue {
        self.table.and_then(|table| table.get(number)).cloned().unwrap_or_else(|| self.make(number))
    }

    fn make(&self, number: u64) -> HeaderValue {
        let text = format!("{}{number}", self.prefix);
        // Digits after a value that is one: the fallback is never taken.
        HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| number.into())
    }
}

impl SecondsTable {
    const fn new(prefix: &'static str) -> Self {
        Self { prefix, parts: [const { OnceLock::new() }; PARTS] }
    }

    /// Returns the table for a prefix; `None` if there are too many tables already.
    fn of(prefix: &str) -> Option<&'static Self> {
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.iter().find(|table| table.prefix == prefix).copied();
        if known.is_some() || tables.len() == MAX_TABLES {
            return known;
        }
        let table = &*Box::leak(Box::new(Self::new(prefix.to_owned().leak())));
        tables.push(table);
        Some(table)
    }

    #[inline]
    fn get(&self, number: u64) -> Option<&HeaderValue> {
        let number = usize::try_from(number).ok().filter(|number| *number < SECONDS)?;
        let part =
            self.parts[number / PART].get_or_init(|| Box::new([const { OnceLock::new() }; PART]));
        Some(
            part[number % PART].get_or_init(|| {
                HeaderValue::from_static(format!("{}{number}", self.prefix).leak())
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_without_leading_zeros() {
        for number in [0, 7, 10, 99, 100, 999, 1000, 4095, 4096, 86_400, u64::MAX] {
            assert_eq!(seconds(number), number.to_string().as_str());
        }
    }

    #[test]
    fn values_are_those_of_their_number_and_prefix() {
        for prefix in ["bff;hit;ttl=", "other;hit;ttl=", "bff;hit;ttl="] {
            let values = BySeconds::new(prefix.to_owned());
            let last = SECONDS as u64 - 1;
            for number in [0, 5, 5 + PART as u64, 5, last, last + 1, 1_000_000, 0] {
                assert_eq!(values.get(number), format!("{prefix}{number}").as_str());
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for name in 0..2 * MAX_TABLES {
            let prefix = format!("name-{name};hit;ttl=");
            assert_eq!(BySeconds::new(prefix.clone()).get(7), format!("{prefix}7").as_str());
        }
        assert_eq!(TABLES.lock().unwrap().len(), MAX_TABLES);
        assert!(AGES.get(SECONDS as u64).is_none());
    }
}
