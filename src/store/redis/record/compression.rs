//! Compression of a record's content by zstd.

/// Limit of what is compressed, and of what a record may expand to: it is expanded at once.
#[cfg(feature = "redis-zstd")]
const LIMIT: usize = 4 * 1024 * 1024;

/// Compresses content: its length, and then a frame. `None` if that saves less than an eighth.
#[cfg(feature = "redis-zstd")]
pub(super) fn compress(content: &[u8]) -> Option<Vec<u8>> {
    /// The library's default.
    const LEVEL: i32 = 3;
    let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= LIMIT)?;
    let frame = zstd::bulk::compress(content, LEVEL).ok()?;
    let compressed = [&length.to_be_bytes(), &frame[..]].concat();
    (compressed.len() <= content.len() - content.len() / 8).then_some(compressed)
}

/// Expands content, if it is as long as it claims and within the limit.
#[cfg(feature = "redis-zstd")]
pub(super) fn expand(compressed: &[u8]) -> Option<Vec<u8>> {
    let (length, frame) = compressed.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    // Before any memory is taken for it.
    let content = zstd::bulk::decompress(frame, (length <= LIMIT).then_some(length)?).ok()?;
    (content.len() == length).then_some(content)
}

#[cfg(not(feature = "redis-zstd"))]
pub(super) fn compress(_: &[u8]) -> Option<Vec<u8>> {
    None
}

/// Expands nothing: records of processes with the feature are misses.
#[cfg(not(feature = "redis-zstd"))]
pub(super) fn expand(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(all(test, feature = "redis-zstd", not(shuttle)))]
mod tests {
    use super::*;
    use crate::verify::random::for_all;

    #[test]
    fn what_is_compressed_expands_to_what_it_was() {
        let json = br#"{"id":"C42","status":"open"},"#.repeat(100);
        let compressed = compress(&json).expect("it pays");
        assert!(compressed.len() < json.len() / 8);
        assert_eq!(expand(&compressed), Some(json));
        assert_eq!(compress(b"short"), None);
        assert_eq!(compress(&vec![0; LIMIT + 1]), None);
    }

    #[test]
    fn what_claims_more_than_it_has_or_than_may_be_is_refused() {
        let compressed = compress(&[b'x'; 4096]).expect("it pays");
        for claim in [0, 1, 4095, 4097, LIMIT as u32, LIMIT as u32 + 1, u32::MAX] {
            let claimed = [&claim.to_be_bytes(), &compressed[4..]].concat();
            assert_eq!(expand(&claimed), None, "{claim}");
        }
        // It holds more than the limit, and says so.
        let huge = zstd::bulk::compress(&vec![0; 64 << 20], 3).expect("zeros");
        for claim in [u32::MAX, 64 << 20, LIMIT as u32] {
            assert_eq!(expand(&[&claim.to_be_bytes(), &huge[..]].concat()), None);
        }
        for_all(|random| {
            let noise = random.vec(0..100, |random| random.below(256) as u8);
            let _ = expand(&noise);
        });
    }
}
