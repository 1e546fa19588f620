//! Field values that say whole seconds, made ahead of time: a hit allocates none.

use std::{
    fmt,
    sync::{LazyLock, Mutex},
};

use bytes::Bytes;
use http::HeaderValue;

use crate::sync::lane;

const PREPARED: usize = 1000;

/// The decimal digits of each number under a thousand, right-aligned.
static DIGITS: [[u8; 3]; PREPARED] = {
    let mut digits = [[0; 3]; PREPARED];
    let mut number = 0;
    while number < PREPARED {
        digits[number] = [
            b'0' + (number / 100) as u8,
            b'0' + (number / 10 % 10) as u8,
            b'0' + (number % 10) as u8,
        ];
        number += 1;
    }
    digits
};

/// The numbers under a thousand as field values. They point to constants, so that a clone counts no
/// references.
static VALUES: LazyLock<Box<[HeaderValue]>> = LazyLock::new(|| {
    let value = |(number, digits): (usize, &'static [u8; 3])| {
        let text = str::from_utf8(&digits[2 - (number.max(1).ilog10() as usize)..]);
        HeaderValue::from_static(text.unwrap_or("0"))
    };
    DIGITS.iter().enumerate().map(value).collect()
});

/// Returns a number of seconds as a field value.
pub(crate) fn seconds(number: u64) -> HeaderValue {
    let prepared = usize::try_from(number).ok().and_then(|number| VALUES.get(number));
    prepared.cloned().unwrap_or_else(|| number.into())
}

/// Values are shared by reference count. Threads that count on one value at once slow each other
/// down, so each of a few has a table of its own.
const LANES: usize = 8;

/// How many values a table keeps: one a second, for lifetimes of minutes. What falls on the same
/// place replaces what was there.
const KEPT: usize = 128;

/// The values of one field that ends in a number of seconds.
pub(crate) struct BySeconds {
    prefix: String,
    values: Box<[Mutex<Option<(u64, HeaderValue)>>]>,
}

impl BySeconds {
    /// Values that begin with `prefix`, which must be fit for a field value.
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix, values: (0..KEPT * LANES).map(|_| Mutex::default()).collect() }
    }

    /// Returns the value for a number of seconds.
    pub(crate) fn get(&self, number: u64) -> HeaderValue {
        let place = number as usize % KEPT * LANES + lane(LANES);
        // Never waited for: making a value anew costs less.
        let Ok(mut kept) = self.values[place].try_lock() else { return self.make(number) };
        match &*kept {
            Some((known, value)) if *known == number => value.clone(),
            _ => kept.insert((number, self.make(number))).1.clone(),
        }
    }

    fn make(&self, number: u64) -> HeaderValue {
        let text = format!("{}{number}", self.prefix);
        // Digits after a value that is one: the fallback is never taken.
        HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| number.into())
    }
}

impl fmt::Debug for BySeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BySeconds").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_without_leading_zeros() {
        for number in [0, 7, 10, 99, 100, 999, 1000, 86_400, u64::MAX] {
            assert_eq!(seconds(number), number.to_string().as_str());
        }
    }

    #[test]
    fn values_are_those_of_their_number_whatever_stood_at_their_place() {
        let values = BySeconds::new("bff;hit;ttl=".to_owned());
        for number in [0, 5, 5 + KEPT as u64, 5, 1_000_000, 0] {
            assert_eq!(values.get(number), format!("bff;hit;ttl={number}").as_str());
        }
    }
}
