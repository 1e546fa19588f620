//! Protocol upgrades that requests ask for (RFC 9110 §7.8).

use http::{
    HeaderMap, HeaderName, Version,
    header::{CONNECTION, UPGRADE},
};

/// Protocols that clients offer by default and servers rarely switch to. The answer to such a request
/// is an ordinary response (RFC 9110 §7.8: a server may ignore the field).
const OFFERED_BY_DEFAULT: [&str; 4] = ["h2c", "h2", "http", "tls"];

/// Returns whether a request asks to leave HTTP, as for a WebSocket, so that no stored response answers
/// it.
///
/// `Upgrade` means nothing in HTTP/1.0, in HTTP/2 and later, and unless `Connection` names it.
pub(crate) fn asks_for_upgrade(version: Version, fields: &HeaderMap) -> bool {
    let is_offered = |protocol: &[u8]| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default().trim_ascii();
        let is_ordinary =
            OFFERED_BY_DEFAULT.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        !name.is_empty() && !is_ordinary
    };
    version == Version::HTTP_11
        && members(fields, &UPGRADE).any(is_offered)
        && members(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Returns the members of a list on all lines of a field.
fn members<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'f [u8]> {
    let lines = fields.get_all(name).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, lines: &[(&'static str, &str)], expected: bool) {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        let mut fields = HeaderMap::new();
        lines.iter().map(line).for_each(|(name, value)| drop(fields.append(name, value)));
        assert_eq!(asks_for_upgrade(version, &fields), expected, "{version:?} {lines:?}");
    }

    #[test]
    fn an_upgrade_needs_a_protocol_besides_http_and_the_word_of_connection() {
        let upgrade = ("connection", "Upgrade");
        let of = |protocol| [upgrade, ("upgrade", protocol)];
        for protocol in ["websocket", "WebSocket", "h2c, websocket", "h2c,,IRC/6.9", "connect-ip"] {
            check(Version::HTTP_11, &of(protocol), true);
            check(Version::HTTP_10, &of(protocol), false);
            check(Version::HTTP_2, &of(protocol), false);
            check(Version::HTTP_11, &[("upgrade", protocol)], false);
            check(Version::HTTP_11, &[("connection", "close"), ("upgrade", protocol)], false);
        }
        for protocol in ["TLS/1.2", "tls / 1.0", "h2c", "H2C", "h2,h2c", "HTTP/2.0", "", ",", "/1"]
        {
            check(Version::HTTP_11, &of(protocol), false);
        }
        check(Version::HTTP_11, &[upgrade], false);
        let websocket = ("upgrade", "websocket");
        check(Version::HTTP_11, &[("connection", "keep-alive, upgrade"), websocket], true);
        check(Version::HTTP_11, &[("connection", "close"), upgrade, websocket], true);
        check(Version::HTTP_11, &[("connection", "x-upgrade"), websocket], false);
        check(Version::HTTP_11, &[upgrade, ("upgrade", "h2c"), websocket], true);
    }
}
