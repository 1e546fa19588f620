//! The key of the digests that stand for what is private to a caller.

use std::{fmt, sync::OnceLock};

/// A key for digests.
///
/// A plain digest of a guessable secret could be found by trying; without the key it cannot.
#[derive(Clone, Copy)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Returns this process's secret, made from the operating system's randomness. It is one for
    /// all layers, so that those on one store know the same caller.
    pub(crate) fn of_process() -> Result<Self, getrandom::Error> {
        static SECRET: OnceLock<Secret> = OnceLock::new();
        if let Some(secret) = SECRET.get() {
            return Ok(*secret);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(*SECRET.get_or_init(|| Self(key)))
    }

    pub(crate) fn digest(&self, private: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, private).as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
