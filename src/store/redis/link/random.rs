//! Random values that are kept at the server.

use crate::{clock::now, key::seeded_hash};

/// Returns 128 random bits.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_ne_bytes(bytes),
        // The layer's keys come from the same source, so it worked when the process began.
        Err(_) => u128::from(seeded_hash(now())) << 64 | 1,
    }
}

/// Returns the random part of a tag's version.
pub(crate) fn random_text() -> String {
    format!("{:016x}", random() as u64)
}
