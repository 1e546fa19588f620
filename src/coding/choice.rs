//! Choice of a coding by `Accept-Encoding` (RFC 9110 §12.5.3).

use http::{HeaderMap, header::ACCEPT_ENCODING};

use super::content_coding::ContentCoding;

/// Quality of the codings that a request does not name: they are not acceptable.
const UNNAMED: u16 = 0;

/// Returns the coding that a request prefers among those that are offered; of equal ones the first. `None` if
/// it prefers the plain form, or names no coding.
pub(crate) fn preferred(request: &HeaderMap, offered: &[ContentCoding]) -> Option<ContentCoding> {
    let named: Vec<_> = request
        .get_all(ACCEPT_ENCODING)
        .iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()))
        .flat_map(|line| line.split(',').filter_map(quality).collect::<Vec<_>>())
        .collect();
    let of =
        |name: &str| named.iter().find(|(known, _)| *known == name).map(|(_, quality)| *quality);
    let others = of("*").unwrap_or(UNNAMED);
    let mut best = None;
    for coding in offered {
        let quality = match coding {
            ContentCoding::Gzip => of("gzip").or_else(|| of("x-gzip")),
            coding => of(coding.as_str()),
        };
        let quality = quality.unwrap_or(others);
        if quality > best.map_or(0, |(_, best)| best) {
            best = Some((*coding, quality));
        }
    }
    let (coding, quality) = best?;
    // The plain form is the last choice, unless the request says more of it.
    (of("identity").unwrap_or(0) <= quality).then_some(coding)
}

/// Parses one member: the name of a coding, and its quality in thousandths. `None` for what is malformed.
fn quality(member: &str) -> Option<(String, u16)> {
    let mut parts = member.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
    let quality = match parts.next() {
        None => 1000,
        Some(weight) => {
            let value = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="))?;
            thousandths(value)?
        }
    };
    parts.next().is_none().then_some((name, quality))
}

/// Parses a `qvalue` (RFC 9110 §12.4.2).
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = format!("{fraction:0<3}").parse().ok().filter(|_| is_number)?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_coding_of_most_quality_is_chosen_and_of_equal_ones_the_first() {
        use ContentCoding::{Brotli, Gzip, Zstd};
        for (lines, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some(Gzip)),
            (&["GZip"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["gzip, br"], Some(Brotli)),
            (&["gzip", "br"], Some(Brotli)),
            (&["gzip, deflate, br, zstd"], Some(Zstd)),
            (&["gzip;q=1.0, br;q=0.8"], Some(Gzip)),
            (&["gzip; q=0.5 , br ;q=0.25"], Some(Gzip)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&["gzip;q=0.001"], Some(Gzip)),
            (&["*"], Some(Zstd)),
            (&["*;q=0"], None),
            (&["*;q=0, gzip"], Some(Gzip)),
            (&["zstd;q=0, *"], Some(Brotli)),
            (&["identity"], None),
            (&["identity, gzip"], Some(Gzip)),
            (&["identity;q=1, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=1"], Some(Gzip)),
            (&["identity;q=0, gzip"], Some(Gzip)),
            (&["deflate, compress"], None),
            // What is malformed names nothing.
            (&["gzip;q=2"], None),
            (&["gzip;q=0.1234"], None),
            (&["gzip;q="], None),
            (&["gzip;level=9"], None),
            (&["gzip;q=1;q=1"], None),
            (&["gzip;q=-1, br"], Some(Brotli)),
            (&["\u{e9}, gzip"], Some(Gzip)),
        ] {
            let mut request = HeaderMap::new();
            for line in lines {
                let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
                request.append(ACCEPT_ENCODING, line);
            }
            assert_eq!(preferred(&request, &[Zstd, Brotli, Gzip]), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_not_offered_is_not_chosen() {
        let mut request = HeaderMap::new();
        request.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd, *;q=0.5"));
        assert_eq!(preferred(&request, &[ContentCoding::Gzip]), Some(ContentCoding::Gzip));
        assert_eq!(preferred(&request, &[]), None);
    }
}
