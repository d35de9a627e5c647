//! `PipelineContextData`: the values of contexts as they travel in a job message.
//!
//! Wire: bare JSON scalars; `{"t":1,"a":[…]}` arrays; `{"t":2,"d":[{"k","v"}…]}` dictionaries (5: case-sensitive
//! keys); 0, 3 and 4 are typed string, boolean and number. Plain JSON arrays and objects are not accepted.
//! Source: actions/runner `Sdk/DTPipelines/Pipelines/ContextData/PipelineContextDataJsonConverter.cs`.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::list::{List, Written};

/// A context value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ContextData {
    /// Nothing.
    #[default]
    Null,
    /// Truth value.
    Bool(bool),
    /// All numbers are doubles.
    Number(f64),
    /// Text.
    String(String),
    /// List.
    Array(Vec<ContextData>),
    /// Dictionary in order, keys compared without case.
    Dictionary(Vec<(String, ContextData)>),
}

impl ContextData {
    /// Takes a plain JSON value into the wire's form.
    #[must_use]
    pub fn from_plain(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::String(text),
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from_plain).collect()),
            Value::Object(object) => {
                Self::dictionary(object.into_iter().map(|(key, value)| (key, Self::from_plain(value))))
            }
        }
    }

    /// A dictionary. Two keys equal without case would be refused by the reader; the later value wins.
    #[must_use]
    pub fn dictionary(given: impl ExactSizeIterator<Item = (String, Self)>) -> Self {
        let mut entries: Vec<(String, Self)> = Vec::with_capacity(given.len());
        for (key, value) in given {
            match entries.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&key)) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        Self::Dictionary(entries)
    }

    /// The entry of a dictionary, found without case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dictionary(entries) => entries.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a string value.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Serialize for ContextData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            // Whole numbers are written without a fraction, as the official server does.
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
            Self::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                serializer.serialize_i64(*value as i64)
            }
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("t", &1)?;
                if !items.is_empty() {
                    map.serialize_entry("a", items)?;
                }
                map.end()
            }
            Self::Dictionary(entries) => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("t", &2)?;
                if !entries.is_empty() {
                    map.serialize_entry("d", &Written(|| entries.iter().map(|(k, v)| Pair { k, v })))?;
                }
                map.end()
            }
        }
    }
}

impl ContextData {
    /// Writes what serializing writes, to the byte, without asking a serializer for each name that the wire's form has of its
    /// own: a `github` context has sixty.
    ///
    /// # Errors
    /// Those of serializing.
    pub fn write_json(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        match self {
            Self::Array(items) => {
                let mut separator: &[u8] = br#"{"t":1,"a":["#;
                for item in items {
                    out.extend_from_slice(separator);
                    item.write_json(out)?;
                    separator = b",";
                }
                out.extend_from_slice(if items.is_empty() { br#"{"t":1}"# } else { b"]}" });
                Ok(())
            }
            Self::Dictionary(entries) => {
                let mut separator: &[u8] = br#"{"t":2,"d":["#;
                for (name, value) in entries {
                    out.extend_from_slice(separator);
                    out.extend_from_slice(br#"{"k":"#);
                    serde_json::to_writer(&mut *out, name)?;
                    out.extend_from_slice(br#","v":"#);
                    value.write_json(out)?;
                    out.push(b'}');
                    separator = b",";
                }
                out.extend_from_slice(if entries.is_empty() { br#"{"t":2}"# } else { b"]}" });
                Ok(())
            }
            plain => serde_json::to_writer(out, plain),
        }
    }
}

#[derive(Serialize)]
struct Pair<'a> {
    k: &'a str,
    v: &'a ContextData,
}

/// Deepest nesting read.
const MAX_DEPTH: usize = 100;

impl<'de> Deserialize<'de> for ContextData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(0).deserialize(deserializer)
    }
}

/// Reads a value that stands so many levels deep. Straight from the text: a job message is mostly context data, and is read
/// each time that a job is handed out.
#[derive(Clone, Copy)]
struct Nested(usize);

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = ContextData;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ContextData, D::Error> {
        if self.0 > MAX_DEPTH {
            return Err(de::Error::custom(format_args!("context data nested deeper than {MAX_DEPTH} levels")));
        }
        deserializer.deserialize_any(self)
    }
}

/// The members of an object.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    T,
    S,
    A,
    D,
    B,
    N,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for Nested {
    type Value = ContextData;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("context data: a scalar, {\"t\":1,\"a\":[…]} or {\"t\":2,\"d\":[…]}")
    }

    fn visit_unit<E>(self) -> Result<ContextData, E> {
        Ok(ContextData::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<ContextData, E> {
        Ok(ContextData::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<ContextData, E> {
        Ok(ContextData::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<ContextData, E> {
        Ok(ContextData::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<ContextData, E> {
        Ok(ContextData::Number(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<ContextData, E> {
        Ok(ContextData::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<ContextData, E> {
        Ok(ContextData::String(text))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<ContextData, M::Error> {
        let mut kind: Option<u64> = None;
        let (mut items, mut entries) = (Vec::new(), Vec::new());
        let (mut text, mut truth, mut number) = (Value::Null, Value::Null, Value::Null);
        while let Some(member) = map.next_key()? {
            match member {
                Member::T => kind = Some(map.next_value()?),
                Member::A if kind.is_none_or(|kind| kind == 1) => {
                    items = map.next_value_seed(List(Nested(self.0 + 1)))?
                }
                Member::D if kind.is_none_or(|kind| matches!(kind, 2 | 5)) => {
                    entries = map.next_value_seed(List(Entry(self.0 + 1)))?;
                }
                Member::S => text = map.next_value()?,
                Member::B => truth = map.next_value()?,
                Member::N => number = map.next_value()?,
                Member::A | Member::D | Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match kind.unwrap_or(0) {
            0 => Ok(ContextData::String(text.as_str().unwrap_or_default().to_owned())),
            1 => Ok(ContextData::Array(items)),
            2 | 5 => Ok(ContextData::Dictionary(entries)),
            3 => Ok(ContextData::Bool(truth.as_bool().unwrap_or_default())),
            4 => Ok(ContextData::Number(number.as_f64().unwrap_or_default())),
            other => Err(de::Error::custom(format_args!("unknown context data type {other}"))),
        }
    }
}

/// Reads an entry of a dictionary.
#[derive(Clone, Copy)]
struct Entry(usize);

impl<'de> DeserializeSeed<'de> for Entry {
    type Value = (String, ContextData);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Part {
    K,
    V,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for Entry {
    type Value = (String, ContextData);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of context data: {\"k\":…,\"v\":…}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut key, mut value) = (None, ContextData::Null);
        while let Some(part) = map.next_key()? {
            match part {
                Part::K => key = Some(map.next_value()?),
                Part::V => value = map.next_value_seed(Nested(self.0))?,
                Part::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((key.ok_or_else(|| de::Error::missing_field("k"))?, value))
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for ContextData {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ContextData".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A context value: a bare JSON scalar, `{\"t\":1,\"a\":[…]}` for a list, `{\"t\":2,\"d\":[{\"k\",\"v\"}…]}` for a dictionary.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        for text in
            [r#"{"t":2,"d":[{"k":"a","v":{"t":1,"a":[1,"x",null,true]}},{"k":"b","v":{"t":2}}]}"#, r#"{"t":1}"#, "1.5"]
        {
            let data: ContextData = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&data).unwrap(), text);
        }
        assert!(serde_json::from_str::<ContextData>("[1]").is_err());
        assert_eq!(serde_json::from_str::<ContextData>(r#"{"s":"x"}"#).unwrap(), ContextData::String("x".into()));
    }

    #[test]
    fn what_is_written_without_a_serializer_is_what_a_serializer_writes() {
        let plain = serde_json::json!({
            "empty": {}, "none": [], "a \"quoted\"\n\u{7}é😀": [null, true, false, 0, -7, 1.5, 1e300, 9e15, "x", [[]], {"k": {"v": "\\"}}],
        });
        let data = ContextData::from_plain(plain);
        for value in [&data, &ContextData::Null, &ContextData::Number(f64::NAN), &ContextData::String("\u{1f}".into())]
        {
            let mut written = b"before".to_vec();
            value.write_json(&mut written).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), format!("before{}", serde_json::to_string(value).unwrap()));
        }
    }

    #[test]
    fn plain_json_keys_that_differ_in_case_only_are_folded() {
        let data = ContextData::from_plain(serde_json::json!({"A": 1, "a": 2}));
        assert_eq!(data, ContextData::Dictionary(vec![("A".into(), ContextData::Number(2.0))]));
    }
}
