//! Seal of a record: it binds what the record holds to the place where it lies.

use bytes::Bytes;
#[cfg(feature = "redis-encryption")]
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use siphasher::sip::SipHasher13;

use super::stamp::VERSION;
use crate::key::Slot;

/// Seal that protects records from chance, or with a key from other writers, or from readers as well.
#[derive(Clone)]
pub(crate) enum Seal {
    Checksum,
    Keyed([u8; 32]),
    #[cfg(feature = "redis-encryption")]
    Encrypted(EncryptionKeys),
}

/// Keys of a process that encrypts.
#[cfg(feature = "redis-encryption")]
#[derive(Clone, Copy)]
pub(crate) struct EncryptionKeys {
    pub(crate) current: [u8; 32],
    /// Another that records may be encrypted with while keys rotate.
    pub(crate) other: Option<[u8; 32]>,
}

/// RecordPlace of a record: the key as the server knows it, and the variant. It is sealed, and not written.
pub(super) struct RecordPlace<'p> {
    length: [u8; 8],
    namespace: &'p str,
    slot: &'p Slot,
}

/// Length of a nonce: so long that random ones do not repeat.
#[cfg(feature = "redis-encryption")]
const NONCE: usize = 24;
#[cfg(feature = "redis-encryption")]
const TAG: usize = 16;

impl<'p> RecordPlace<'p> {
    pub(super) fn new(namespace: &'p str, slot: &'p Slot) -> Self {
        let length = (namespace.len() + slot.key.as_str().len()) as u64;
        Self { length: length.to_be_bytes(), namespace, slot }
    }

    /// Returns the parts, of which no others have the same bytes.
    fn parts(&self) -> [&[u8]; 4] {
        let key = self.slot.key.as_str().as_bytes();
        [&self.length, self.namespace.as_bytes(), key, self.slot.variant.as_bytes()]
    }

    /// Returns what is to find a record at a wrong place, where nobody means harm.
    fn checksum(&self) -> [u8; 8] {
        let parts = self.parts().concat();
        SipHasher13::new_with_keys(0, VERSION.into()).hash(&parts).to_be_bytes()
    }
}

impl Seal {
    /// Returns the bits of the record's form.
    pub(super) fn form(&self) -> u8 {
        match self {
            Self::Checksum => 0,
            Self::Keyed(_) => 1,
            #[cfg(feature = "redis-encryption")]
            Self::Encrypted(_) => 2,
        }
    }

    /// Seals a record, whose content begins at `start`. `None` where there is no randomness to encrypt with.
    pub(super) fn close(
        &self,
        mut record: Vec<u8>,
        start: usize,
        place: &RecordPlace<'_>,
    ) -> Option<Vec<u8>> {
        debug_assert!(start <= record.len());
        match self {
            Self::Checksum => {
                record.extend_from_slice(&place.checksum());
                record.extend_from_slice(&crc32fast::hash(&record).to_be_bytes());
            }
            Self::Keyed(key) => record.extend_from_slice(digest(key, &record, place).as_bytes()),
            #[cfg(feature = "redis-encryption")]
            Self::Encrypted(keys) => return keys.encrypt(record, start, place),
        }
        Some(record)
    }

    /// Returns the content of a record, if it is whole and at its place.
    pub(super) fn open(
        &self,
        record: &Bytes,
        start: usize,
        place: &RecordPlace<'_>,
    ) -> Option<Bytes> {
        let end = match self {
            Self::Checksum => {
                let (sealed, sum) = record.split_last_chunk::<4>()?;
                let (content, at) = sealed.split_last_chunk::<8>()?;
                let is_whole = crc32fast::hash(sealed).to_be_bytes() == *sum;
                (is_whole && *at == place.checksum()).then_some(content.len())?
            }
            Self::Keyed(key) => {
                let (content, sum) = record.split_last_chunk::<32>()?;
                // Compared in constant time.
                (digest(key, content, place) == *sum).then_some(content.len())?
            }
            #[cfg(feature = "redis-encryption")]
            Self::Encrypted(keys) => return keys.decrypt(record, start, place),
        };
        (start <= end).then(|| record.slice(start..end))
    }
}

#[cfg(feature = "redis-encryption")]
impl EncryptionKeys {
    fn encrypt(
        &self,
        mut record: Vec<u8>,
        start: usize,
        place: &RecordPlace<'_>,
    ) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let (head, content) = record.split_at_mut(start);
        let associated = associated(head, place);
        let cipher = XChaCha20Poly1305::new(&self.current.into());
        let nonce = XNonce::from(nonce);
        let tag = cipher.encrypt_inout_detached(&nonce, &associated, content.into()).ok()?;
        record.extend_from_slice(&nonce);
        record.extend_from_slice(&tag);
        Some(record)
    }

    fn decrypt(&self, record: &Bytes, start: usize, place: &RecordPlace<'_>) -> Option<Bytes> {
        let (head, rest) = record.split_at_checked(start)?;
        let (rest, tag) = rest.split_last_chunk::<TAG>()?;
        let (content, nonce) = rest.split_last_chunk::<NONCE>()?;
        let associated = associated(head, place);
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        let keys = [Some(self.current), self.other];
        keys.into_iter().flatten().find_map(|key| {
            let mut content = content.to_vec();
            let text = content.as_mut_slice().into();
            let cipher = XChaCha20Poly1305::new(&key.into());
            cipher.decrypt_inout_detached(&nonce, &associated, text, &tag).ok()?;
            Some(content.into())
        })
    }
}

/// Joins what is sealed and not encrypted. The head has a fixed length.
#[cfg(feature = "redis-encryption")]
fn associated(head: &[u8], place: &RecordPlace<'_>) -> Vec<u8> {
    [head, &place.parts().concat()].concat()
}

fn digest(key: &[u8; 32], sealed: &[u8], place: &RecordPlace<'_>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    place.parts().into_iter().for_each(|part| {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    });
    hasher.update(sealed).finalize()
}
