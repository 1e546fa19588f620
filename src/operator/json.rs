//! JSON, as far as replies need it.

use std::fmt::{Display, Write};

/// Writes a JSON object of names and JSON values. Names need no escapes.
pub(super) fn object<N: Display, V: Display>(members: impl IntoIterator<Item = (N, V)>) -> String {
    let members = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// Writes a JSON array of JSON values.
pub(super) fn array(values: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", values.into_iter().collect::<Vec<_>>().join(","))
}

/// Writes a JSON string.
pub(super) fn string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// Writes a JSON value, or `null`.
pub(super) fn optional<V: Display>(value: Option<V>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_back_as_it_was() {
        for text in ["", "a", "\"\\/", "\n\r\t\0\u{1f}\u{7f}\u{85}", "äжΩ漢🎈"] {
            let read: String = serde_json::from_str(&string(text)).unwrap();
            assert_eq!(read, text);
        }
    }
}
