//! From the report to what people see: tables in Markdown, pictures in SVG.

pub mod pictures;
pub mod svg;
pub mod table;

use svg::Hue;

/// How a column is called where people read.
pub struct Name {
    pub column: &'static str,
    pub title: &'static str,
    pub hue: Hue,
}

const fn name(column: &'static str, title: &'static str, hue: Hue) -> Name {
    Name { column, title, hue }
}

/// The caches in memory.
pub const MEMORY: [Name; 7] = [
    name("minimum-quick_cache", "minimum", Hue::Minimum),
    name("minimum-moka", "minimum on moka", Hue::MinimumToo),
    name("ours", "ours", Hue::Ours),
    name("axum-response-cache", "axum-response-cache", Hue::Peer(0)),
    name("tower-http-cache", "tower-http-cache", Hue::Peer(1)),
    name("hitbox-moka", "hitbox", Hue::Peer(2)),
    name("http-cache-tower", "http-cache-tower", Hue::Peer(3)),
];

/// What asks a Redis server.
pub const REDIS: [Name; 7] = [
    name("raw-GET", "bare GET", Hue::Minimum),
    name("raw-HGET", "bare HGET", Hue::MinimumToo),
    name("raw-HMGET", "bare HMGET", Hue::MinimumToo),
    name("ours-redis-near", "ours, near cache", Hue::OursToo),
    name("ours-redis", "ours", Hue::Ours),
    name("tower-http-cache-redis", "tower-http-cache", Hue::Peer(1)),
    name("hitbox-redis", "hitbox", Hue::Peer(2)),
];

/// Thousands apart, no digits after the point.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number);
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out.replace("-,", "-")
}

/// A factor, with as many digits as are of use.
pub fn factor(number: f64) -> String {
    match number {
        number if number >= 100.0 => format!("{number:.0}×"),
        number if number >= 10.0 => format!("{number:.1}×"),
        number => format!("{number:.2}×"),
    }
}
