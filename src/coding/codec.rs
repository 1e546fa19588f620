//! Making of codings, by the libraries for each.

use std::io;
#[cfg(feature = "encode")]
use std::io::Write;

#[cfg(feature = "encode")]
use flate2::{Compression, write::GzEncoder};

use super::content_coding::ContentCoding;

/// Encodes content.
///
/// # Errors
///
/// Those of the library, which mean that there was no memory.
#[cfg(feature = "encode")]
pub(crate) fn encode(coding: ContentCoding, content: &[u8]) -> io::Result<Vec<u8>> {
    const ZSTD_LEVEL: i32 = 6;
    const BROTLI_QUALITY: u32 = 6;
    /// Binary logarithm of the window, as browsers allow it.
    const BROTLI_WINDOW: u32 = 22;
    const BROTLI_BUFFER: usize = 4096;
    let into = Vec::with_capacity(content.len() / 4);
    match coding {
        ContentCoding::Zstd => zstd::bulk::compress(content, ZSTD_LEVEL),
        ContentCoding::Brotli => {
            let (quality, window) = (BROTLI_QUALITY, BROTLI_WINDOW);
            let mut encoder = brotli::CompressorWriter::new(into, BROTLI_BUFFER, quality, window);
            encoder.write_all(content)?;
            encoder.flush()?;
            Ok(encoder.into_inner())
        }
        ContentCoding::Gzip => {
            let mut encoder = GzEncoder::new(into, Compression::default());
            encoder.write_all(content)?;
            encoder.finish()
        }
    }
}

/// Without the feature no route has codings.
#[cfg(not(feature = "encode"))]
pub(crate) fn encode(_: ContentCoding, _: &[u8]) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, feature = "encode"))]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        for content in
            [&b""[..], b"a", &[b'x'; 100_000], &std::array::from_fn::<u8, 4000, _>(|n| n as u8)]
        {
            let encoded = |coding| encode(coding, content).unwrap();
            assert_eq!(zstd::decode_all(&encoded(ContentCoding::Zstd)[..]).unwrap(), content);
            let mut decoded = Vec::new();
            let gzip = encoded(ContentCoding::Gzip);
            flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut decoded).unwrap();
            assert_eq!(decoded, content);
            decoded.clear();
            let brotli = encoded(ContentCoding::Brotli);
            brotli::Decompressor::new(&brotli[..], 4096).read_to_end(&mut decoded).unwrap();
            assert_eq!(decoded, content);
        }
    }
}
