//! Key of the digests that stand for what is private to a caller.

use std::sync::OnceLock;

/// Key for digests of what is private to a caller.
///
/// A plain digest of a guessable secret could be found by trying; without the key it cannot.
#[derive(Clone, Copy)]
pub(crate) struct DigestKey([u8; 32]);

impl DigestKey {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Returns this process's key, made from the operating system's randomness. All layers share it,
    /// so that those on one store know the same caller.
    pub(crate) fn of_process() -> Result<Self, getrandom::Error> {
        static OF_PROCESS: OnceLock<DigestKey> = OnceLock::new();
        if let Some(secret) = OF_PROCESS.get() {
            return Ok(*secret);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(*OF_PROCESS.get_or_init(|| Self(key)))
    }

    /// Returns the keyed digest of a private value.
    pub(crate) fn digest(&self, private: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, private).as_bytes()
    }
}
