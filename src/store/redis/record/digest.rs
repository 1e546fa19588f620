//! Digest of a variant: the name of its fields at the server.

use siphasher::sip128::SipHasher13;

use super::stamp::VERSION;
use crate::key::Slot;

/// Digest of a variant in an epoch, in hexadecimal.
pub(crate) type VariantDigest = [u8; 32];

/// Returns the digest by which the server knows a variant in an epoch.
///
/// The epoch is a secret of the server, so clients cannot choose targets whose digests collide. A record
/// names its variant, so a collision by chance is a miss. Versions with another record format use other digests.
pub(crate) fn digest(slot: &Slot, epoch: u64) -> VariantDigest {
    let version = !epoch ^ u64::from(VERSION);
    let hash = SipHasher13::new_with_keys(epoch, version).hash(slot.variant.as_bytes());
    let mut digest = [0; 32];
    for (digits, byte) in digest.as_chunks_mut::<2>().0.iter_mut().zip(hash.as_bytes()) {
        *digits = [byte >> 4, byte & 0xf].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    }
    digest
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// Other processes may run an older version, which looks there if its records have the same format.
    #[test]
    fn a_variant_is_where_it_was() {
        const EXPECTED: [&str; 2] =
            ["bfd0392a7ee02385d39b8135e5217cc6", "d8d9a72645bc4865f332b7827ca25323"];
        let slot = Slot::example();
        let found = [1, 0xfedc_ba98_7654_3210].map(|epoch| digest(&slot, epoch));
        assert_eq!(found.map(|text| String::from_utf8(text.into()).unwrap()), EXPECTED);
    }
}
