//! Field values that say whole seconds, made ahead of time: a hit allocates none.

use std::{
    cell::Cell,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::HeaderValue;

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

/// Returns a number of seconds as a field value.
pub(crate) fn seconds(number: u64) -> HeaderValue {
    let prepared = usize::try_from(number).ok().and_then(|number| DIGITS.get(number));
    let leading_zeros = match number {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    match prepared.map(|digits| std::str::from_utf8(&digits[leading_zeros..])) {
        Some(Ok(text)) => HeaderValue::from_static(text),
        _ => number.into(),
    }
}

/// Values are shared by reference count. Threads that count on one value at once slow each other
/// down, so there are several of each.
const LANES: usize = 4;

/// The table of a layer has so many seconds: lifetimes of minutes, in 48 KiB.
const KEPT: usize = 256;

/// The values of one field by number of seconds, each made when it is first needed.
pub(crate) struct BySeconds {
    values: Box<[OnceLock<HeaderValue>]>,
}

impl BySeconds {
    pub(crate) fn new() -> Self {
        Self { values: (0..KEPT * LANES).map(|_| OnceLock::new()).collect() }
    }

    /// Returns the value for a number of seconds; `make` makes it.
    pub(crate) fn get(&self, number: i64, make: impl FnOnce() -> HeaderValue) -> HeaderValue {
        match usize::try_from(number) {
            Ok(number) if number < KEPT => {
                self.values[number * LANES + lane()].get_or_init(make).clone()
            }
            _ => make(),
        }
    }
}

impl fmt::Debug for BySeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BySeconds")
    }
}

/// Returns this thread's lane; threads take them in turn.
fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % LANES);
    }
    LANE.get()
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
    fn a_value_is_made_once_for_its_number() {
        let values = BySeconds::new();
        let value =
            |number: i64, text: &'static str| values.get(number, || HeaderValue::from_static(text));
        assert_eq!(value(5, "first"), "first");
        assert_eq!(value(5, "second"), "first");
        assert_eq!(value(6, "other"), "other");
        assert_eq!(value(-1, "stale"), "stale");
        assert_eq!(value(100_000, "far"), "far");
    }
}
