//! `PipelineContextData`: the values of contexts as they travel in a job message.
//!
//! Wire: bare JSON scalars; `{"t":1,"a":[…]}` arrays; `{"t":2,"d":[{"k","v"}…]}` dictionaries (5: case-sensitive
//! keys); 0, 3 and 4 are typed string, boolean and number. Plain JSON arrays and objects are not accepted.
//! Source: actions/runner `Sdk/DTPipelines/Pipelines/ContextData/PipelineContextDataJsonConverter.cs`.

use serde::de::{self, Deserializer};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
                let mut entries: Vec<(String, Self)> = Vec::with_capacity(object.len());
                for (key, value) in object {
                    // Two keys equal without case would be refused by the reader; the later one wins.
                    let value = Self::from_plain(value);
                    match entries.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&key)) {
                        Some(entry) => entry.1 = value,
                        None => entries.push((key, value)),
                    }
                }
                Self::Dictionary(entries)
            }
        }
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
                    let pairs: Vec<Pair<'_>> = entries.iter().map(|(k, v)| Pair { k, v }).collect();
                    map.serialize_entry("d", &pairs)?;
                }
                map.end()
            }
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
        from_json(Value::deserialize(deserializer)?, 0).map_err(de::Error::custom)
    }
}

fn from_json(value: Value, depth: usize) -> Result<ContextData, String> {
    if depth > MAX_DEPTH {
        return Err(format!("context data nested deeper than {MAX_DEPTH} levels"));
    }
    let mut object = match value {
        Value::Null => return Ok(ContextData::Null),
        Value::Bool(value) => return Ok(ContextData::Bool(value)),
        Value::Number(number) => return Ok(ContextData::Number(number.as_f64().unwrap_or(f64::NAN))),
        Value::String(text) => return Ok(ContextData::String(text)),
        Value::Array(_) => return Err("context data is a bare array; expected {\"t\":1,\"a\":[…]}".to_owned()),
        Value::Object(object) => object,
    };
    match object.get("t").map_or(Some(0), Value::as_u64) {
        Some(0) => Ok(ContextData::String(object.get("s").and_then(Value::as_str).unwrap_or_default().to_owned())),
        Some(1) => match object.remove("a") {
            None | Some(Value::Null) => Ok(ContextData::Array(Vec::new())),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| from_json(item, depth + 1))
                .collect::<Result<_, _>>()
                .map(ContextData::Array),
            Some(other) => Err(format!("context data `a` is not an array: {other}")),
        },
        Some(2 | 5) => match object.remove("d") {
            None | Some(Value::Null) => Ok(ContextData::Dictionary(Vec::new())),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|mut item| {
                    let key = item.get("k").and_then(Value::as_str).ok_or("context data entry without `k`")?.to_owned();
                    let value = item.get_mut("v").map(Value::take).unwrap_or_default();
                    Ok((key, from_json(value, depth + 1)?))
                })
                .collect::<Result<_, String>>()
                .map(ContextData::Dictionary),
            Some(other) => Err(format!("context data `d` is not an array: {other}")),
        },
        Some(3) => Ok(ContextData::Bool(object.get("b").and_then(Value::as_bool).unwrap_or_default())),
        Some(4) => Ok(ContextData::Number(object.get("n").and_then(Value::as_f64).unwrap_or_default())),
        other => Err(format!("unknown context data type {other:?}")),
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
    fn plain_json_keys_that_differ_in_case_only_are_folded() {
        let data = ContextData::from_plain(serde_json::json!({"A": 1, "a": 2}));
        assert_eq!(data, ContextData::Dictionary(vec![("A".into(), ContextData::Number(2.0))]));
    }
}
