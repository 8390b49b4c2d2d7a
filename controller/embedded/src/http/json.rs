//! Reading a JSON body, with an eye on members that stand there twice.
//!
//! `serde_json` keeps the last of them; a client that asks for strict validation wants to know.

use crate::schema::FieldValidation;
use crate::status::Status;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The value, and a warning for each member that stands there twice.
pub(super) fn parse(
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed { path: String::new(), duplicates: &mut duplicates };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Status::bad_request(format!("the body is not JSON: {error}")))?;
    match validation {
        FieldValidation::Strict if !duplicates.is_empty() => {
            Err(Status::bad_request(format!("strict decoding error: {}", duplicates.join(", "))))
        }
        FieldValidation::Strict | FieldValidation::Warn => Ok((value, duplicates)),
        FieldValidation::Ignore => Ok((value, Vec::new())),
    }
}

struct Seed<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let seed = Seed {
                path: format!("{}[{}]", self.path, values.len()),
                duplicates: self.duplicates,
            };
            match items.next_element_seed(seed)? {
                Some(value) => values.push(value),
                None => return Ok(values.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{name}", self.path);
            if values.contains_key(&name) {
                self.duplicates.push(format!("duplicate field {path:?}"));
            }
            let seed = Seed { path, duplicates: self.duplicates };
            let value = members.next_value_seed(seed)?;
            values.insert(name, value);
        }
        Ok(values.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_there_twice_is_told() {
        let text = br#"{"spec":{"a":1,"b":[{"c":1.5,"c":null}],"a":-2}}"#;

        let (value, warnings) = parse(text, FieldValidation::Warn).unwrap();

        assert_eq!(value, serde_json::from_slice::<Value>(text).unwrap());
        let expected = [r#"duplicate field "spec.b[0].c""#, r#"duplicate field "spec.a""#];
        assert_eq!(warnings, expected);
        let refused = parse(text, FieldValidation::Strict).unwrap_err();
        assert_eq!(refused.code, 400);
        assert!(refused.message.starts_with("strict decoding error: duplicate field"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} {}", "nonsense", "{\"a\":1,}"] {
            let refused = parse(text.as_bytes(), FieldValidation::Ignore).unwrap_err();
            assert_eq!(refused.code, 400, "{text}");
        }
    }

    #[test]
    fn a_hundred_thousand_brackets_do_not_end_the_server() {
        let text = "[".repeat(100_000);
        assert!(parse(text.as_bytes(), FieldValidation::Ignore).is_err());
    }
}
