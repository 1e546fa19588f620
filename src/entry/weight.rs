//! Bytes of memory that the parts of an entry take besides what they hold.

use http::HeaderName;

/// Bytes that the allocator and the maps around an entry take besides what it points to: the
/// reference counts, also of the buffer with the body, the slot in the eviction queue, and the slot
/// in the index by primary key. Measured by `tests/memory.rs`.
pub(super) const OVERHEAD: usize = 416;

/// Bytes that one field takes in a `HeaderMap`, its place in the map's table included.
pub(super) const PER_FIELD: usize = 112;

/// Bytes that a response's values take besides their text and their list: one buffer with a count.
/// Charged also where a short body shares the buffer.
pub(super) const PER_TEXT: usize = 48;

/// Bytes that a field's name takes besides its text, if it is none of the standard ones.
const PER_NAME: usize = 24;

/// Returns the bytes that a name takes outside the map. A standard name is a constant of the library,
/// at the same address whenever it is parsed; any other is allocated.
pub(super) fn name_weight(name: &HeaderName) -> usize {
    let text = name.as_str();
    let again = HeaderName::from_bytes(text.as_bytes());
    let is_standard = again.is_ok_and(|again| std::ptr::eq(again.as_str(), text));
    if is_standard { 0 } else { text.len() + PER_NAME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_allocated_have_a_weight() {
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).unwrap();
        assert_eq!(name_weight(&name("ETag")), 0);
        assert_eq!(name_weight(&name("content-security-policy-report-only")), 0);
        assert_eq!(name_weight(&name("x-id")), 4 + PER_NAME);
    }
}
