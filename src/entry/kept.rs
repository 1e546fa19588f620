//! Field values that many responses share, each kept for as long as the process: clones of them
//! count no references, on which threads would slow each other down.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

use bytes::Bytes;
use http::HeaderValue;

/// What is kept takes so many bytes at most.
const MOST_BYTES: usize = 128 * 1024;

/// A longer value is not kept.
pub(super) const LONGEST: usize = 1024;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Kept {
    values: HashSet<&'static [u8]>,
    bytes: usize,
}

impl Kept {
    fn get(&mut self, text: &[u8]) -> Option<&'static [u8]> {
        if let Some(known) = self.values.get(text) {
            return Some(known);
        }
        // Its place in the set is counted as well.
        let bytes = text.len() + 2 * size_of::<&[u8]>();
        if text.len() > LONGEST || self.bytes + bytes > MOST_BYTES {
            return None;
        }
        self.bytes += bytes;
        let text = &*Box::leak(Box::<[u8]>::from(text));
        self.values.insert(text);
        Some(text)
    }
}

/// Returns a value that is kept for good. `None` where it is too long, or too much is kept already.
pub(super) fn kept(value: &[u8]) -> Option<HeaderValue> {
    let text = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(value)?;
    HeaderValue::from_maybe_shared(Bytes::from_static(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_kept_once() {
        let (one, other) = (kept(b"application/json").unwrap(), kept(b"application/json").unwrap());
        assert_eq!(one, "application/json");
        assert!(std::ptr::eq(one.as_bytes(), other.as_bytes()));
        assert_eq!(kept(b"\xff\tx").unwrap().as_bytes(), b"\xff\tx");
        assert_eq!(kept(b"").unwrap(), "");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut all = Kept::default();
        assert!(all.get(&[b'x'; LONGEST + 1]).is_none());
        let value = |n: u32| format!("{n:01000}").into_bytes();
        let taken = (0..300).filter(|n| all.get(&value(*n)).is_some());
        let taken = taken.count();
        assert!((100..300).contains(&taken) && all.bytes <= MOST_BYTES, "{taken}");
        assert!(all.get(&value(0)).is_some(), "what is known stays");
    }
}
