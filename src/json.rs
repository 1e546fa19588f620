//! Canonical form of JSON (RFC 8785), for input that has one.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Integers beyond it have neighbours that are the same number of RFC 8785.
const MOST_EXACT: u64 = 1 << 53;

/// Value that every reader of JSON understands in one way (RFC 7493): no name stands twice in an object, and
/// no integer is rounded.
pub(crate) struct StrictValue(pub(crate) Value);

/// Returns the canonical form of JSON. `None` if it is none, or if readers may disagree about it.
pub(crate) fn canonical(json: &[u8]) -> Option<Vec<u8>> {
    let StrictValue(value) = serde_json::from_slice(json).ok()?;
    serde_json_canonicalizer::to_vec(&value).ok()
}

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict).map(Self)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON that has one meaning")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        match value.unsigned_abs() < MOST_EXACT {
            true => Ok(Value::Number(value.into())),
            false => Err(E::custom("a number that is rounded")),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        match value < MOST_EXACT {
            true => Ok(Value::Number(value.into())),
            false => Err(E::custom("a number that is rounded")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).filter(|_| value.abs() < MOST_EXACT as f64);
        number.map(Value::Number).ok_or_else(|| E::custom("a number that is rounded"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(StrictValue(element)) = elements.next_element()? {
            all.push(element);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, StrictValue(value))) = members.next_entry::<String, _>()? {
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a name that stands twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        let canonical = canonical(json.as_bytes());
        assert_eq!(canonical.as_deref(), expected.map(str::as_bytes), "{json}");
    }

    #[test]
    fn spelling_does_not_count() {
        check(
            r#" { "b" : [1, 2.0, 1e1] , "a" : "\u00e9\/" } "#,
            Some(r#"{"a":"é/","b":[1,2,10]}"#),
        );
        check("null", Some("null"));
        check("-0.0", Some("0"));
        check("0.10", Some("0.1"));
        check("9007199254740991", Some("9007199254740991"));
    }

    #[test]
    fn what_readers_may_take_for_two_things_has_no_form() {
        for json in [
            "",
            "{",
            "1 2",
            r#"{"a":1,"a":2}"#,
            r#"[{"b":{"a":1,"\u0061":1}}]"#,
            "9007199254740992",
            "9007199254740993",
            "-9007199254740993",
            "9007199254740993.0",
            "18446744073709551616",
            "1e400",
            r#""\ud800""#,
        ] {
            check(json, None);
        }
        check(&format!("{}{}", "[".repeat(1000), "]".repeat(1000)), None);
    }
}
