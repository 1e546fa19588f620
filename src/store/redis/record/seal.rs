//! Seal at the end of a record.

/// Seal that protects records from chance, or with a key from other writers.
#[derive(Clone, Copy)]
pub(crate) enum Seal {
    Checksum,
    Keyed([u8; 32]),
}

impl Seal {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Checksum => 0,
            Self::Keyed(_) => 1,
        }
    }

    /// Appends the seal of everything before.
    pub(super) fn close(&self, record: &mut Vec<u8>) {
        match self {
            Self::Checksum => record.extend_from_slice(&checksum(record)),
            Self::Keyed(key) => record.extend_from_slice(digest(key, record).as_bytes()),
        }
    }

    /// Takes the seal off, and returns the bytes before it if they are whole.
    pub(super) fn open<'r>(&self, record: &'r [u8]) -> Option<&'r [u8]> {
        match self {
            Self::Checksum => {
                let (sealed, sum) = record.split_last_chunk::<4>()?;
                (checksum(sealed) == *sum).then_some(sealed)
            }
            Self::Keyed(key) => {
                let (sealed, sum) = record.split_last_chunk::<32>()?;
                // Compared in constant time.
                (digest(key, sealed) == *sum).then_some(sealed)
            }
        }
    }
}

fn checksum(sealed: &[u8]) -> [u8; 4] {
    crc32fast::hash(sealed).to_be_bytes()
}

fn digest(key: &[u8; 32], sealed: &[u8]) -> blake3::Hash {
    blake3::keyed_hash(key, sealed)
}
