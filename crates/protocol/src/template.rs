//! `TemplateToken`: a value of the workflow file that may hold expressions, as it travels in a job message.
//!
//! Wire: `type` is an integer (0 string, 1 sequence, 2 mapping, 3 expression, 4 insert, 5 boolean, 6 number, 7 null)
//! with optional `file`, `line` and `col`; bare JSON scalars are literals, an object without `type` is a string.
//! Source: actions/runner `Sdk/DTObjectTemplating/ObjectTemplating/Tokens/{TokenType,TemplateTokenJsonConverter}.cs`.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::list::{List, Written};

/// Where a token stood in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index into the message's `fileTable`, from 1; 0 is unknown.
    pub file: u32,
    /// Line, from 1; 0 is unknown.
    pub line: u32,
    /// Column, from 1; 0 is unknown.
    pub column: u32,
}

/// A token with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateToken {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stood; only used in messages.
    pub position: Position,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    /// Literal text; `${{` in it is not looked at.
    String(String),
    /// List.
    Sequence(Vec<TemplateToken>),
    /// Mapping in order; a key may be an expression or an insert directive.
    Mapping(Vec<(TemplateToken, TemplateToken)>),
    /// An expression's text without `${{ }}`.
    Expression(String),
    /// The key `${{ insert }}`: its value is a mapping to be merged in place.
    Insert,
    /// Literal.
    Boolean(bool),
    /// Literal.
    Number(f64),
    /// Literal.
    Null,
}

impl TemplateToken {
    /// A token without a place.
    #[must_use]
    pub fn new(kind: TokenKind) -> Self {
        Self { kind, position: Position::default() }
    }

    /// Literal text.
    #[must_use]
    pub fn string(text: impl Into<String>) -> Self {
        Self::new(TokenKind::String(text.into()))
    }

    /// An expression.
    #[must_use]
    pub fn expression(text: impl Into<String>) -> Self {
        Self::new(TokenKind::Expression(text.into()))
    }

    /// A mapping.
    #[must_use]
    pub fn mapping(entries: Vec<(Self, Self)>) -> Self {
        Self::new(TokenKind::Mapping(entries))
    }

    /// The value under a literal key of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            TokenKind::Mapping(entries) => entries.iter().find_map(|(k, v)| match &k.kind {
                TokenKind::String(text) if text.eq_ignore_ascii_case(key) => Some(v),
                _ => None,
            }),
            _ => None,
        }
    }
}

impl Serialize for TemplateToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Bare scalars where nothing is lost; the reader takes both forms.
        if self.position == Position::default() {
            match &self.kind {
                TokenKind::String(text) => return serializer.serialize_str(text),
                TokenKind::Boolean(value) => return serializer.serialize_bool(*value),
                TokenKind::Number(value) => return serializer.serialize_f64(*value),
                TokenKind::Null => return serializer.serialize_unit(),
                _ => {}
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.kind.code())?;
        if self.position.file != 0 {
            map.serialize_entry("file", &self.position.file)?;
        }
        if self.position.line != 0 {
            map.serialize_entry("line", &self.position.line)?;
        }
        if self.position.column != 0 {
            map.serialize_entry("col", &self.position.column)?;
        }
        match &self.kind {
            TokenKind::String(text) => map.serialize_entry("lit", text)?,
            TokenKind::Sequence(items) => map.serialize_entry("seq", items)?,
            TokenKind::Mapping(entries) => {
                map.serialize_entry("map", &Written(|| entries.iter().map(|(key, value)| PairRef { key, value })))?;
            }
            TokenKind::Expression(text) => map.serialize_entry("expr", text)?,
            TokenKind::Insert => map.serialize_entry("directive", "insert")?,
            TokenKind::Boolean(value) => map.serialize_entry("bool", value)?,
            TokenKind::Number(value) => map.serialize_entry("num", value)?,
            TokenKind::Null => {}
        }
        map.end()
    }
}

#[derive(Serialize)]
struct PairRef<'a> {
    #[serde(rename = "Key")]
    key: &'a TemplateToken,
    #[serde(rename = "Value")]
    value: &'a TemplateToken,
}

impl TokenKind {
    const fn code(&self) -> u8 {
        match self {
            Self::String(_) => 0,
            Self::Sequence(_) => 1,
            Self::Mapping(_) => 2,
            Self::Expression(_) => 3,
            Self::Insert => 4,
            Self::Boolean(_) => 5,
            Self::Number(_) => 6,
            Self::Null => 7,
        }
    }
}

/// Deepest nesting read; the official worker's template depth.
const MAX_DEPTH: usize = 50;

impl<'de> Deserialize<'de> for TemplateToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(0).deserialize(deserializer)
    }
}

/// Reads a token that stands so many levels deep, straight from the text.
#[derive(Clone, Copy)]
struct Nested(usize);

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = TemplateToken;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TemplateToken, D::Error> {
        if self.0 > MAX_DEPTH {
            return Err(de::Error::custom(format_args!("template token nested deeper than {MAX_DEPTH} levels")));
        }
        deserializer.deserialize_any(self)
    }
}

/// The members of a token that is an object.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Type,
    File,
    Line,
    Col,
    Lit,
    Seq,
    Map,
    Expr,
    Bool,
    Num,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for Nested {
    type Value = TemplateToken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a template token: a scalar or an object whose `type` says what it is")
    }

    fn visit_unit<E>(self) -> Result<TemplateToken, E> {
        Ok(TemplateToken::new(TokenKind::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<TemplateToken, E> {
        Ok(TemplateToken::new(TokenKind::Boolean(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<TemplateToken, E> {
        Ok(TemplateToken::new(TokenKind::Number(value as f64)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<TemplateToken, E> {
        Ok(TemplateToken::new(TokenKind::Number(value as f64)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<TemplateToken, E> {
        Ok(TemplateToken::new(TokenKind::Number(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<TemplateToken, E> {
        Ok(TemplateToken::string(text))
    }

    fn visit_string<E>(self, text: String) -> Result<TemplateToken, E> {
        Ok(TemplateToken::string(text))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<TemplateToken, M::Error> {
        let mut code: Option<u64> = None;
        let mut position = Position::default();
        let (mut items, mut entries) = (Vec::new(), Vec::new());
        let (mut literal, mut expression, mut truth, mut number) = (Value::Null, Value::Null, Value::Null, Value::Null);
        let place = |value: Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
        while let Some(member) = map.next_key()? {
            match member {
                Member::Type => code = Some(map.next_value()?),
                Member::File => position.file = place(map.next_value()?),
                Member::Line => position.line = place(map.next_value()?),
                Member::Col => position.column = place(map.next_value()?),
                Member::Lit => literal = map.next_value()?,
                Member::Expr => expression = map.next_value()?,
                Member::Bool => truth = map.next_value()?,
                Member::Num => number = map.next_value()?,
                Member::Seq if code.is_none_or(|code| code == 1) => {
                    items = map.next_value_seed(List(Nested(self.0 + 1)))?;
                }
                Member::Map if code.is_none_or(|code| code == 2) => {
                    entries = map.next_value_seed(List(Entry(self.0 + 1)))?;
                }
                Member::Seq | Member::Map | Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let text = |value| if let Value::String(text) = value { text } else { String::new() };
        let kind = match code.unwrap_or(0) {
            0 => TokenKind::String(text(literal)),
            1 => TokenKind::Sequence(items),
            2 => TokenKind::Mapping(entries),
            3 => TokenKind::Expression(text(expression)),
            4 => TokenKind::Insert,
            5 => TokenKind::Boolean(truth.as_bool().unwrap_or_default()),
            6 => TokenKind::Number(number.as_f64().unwrap_or_default()),
            7 => TokenKind::Null,
            other => return Err(de::Error::custom(format_args!("unknown template token type {other}"))),
        };
        Ok(TemplateToken { kind, position })
    }
}

/// Reads an entry of a mapping; what is absent of it is null.
#[derive(Clone, Copy)]
struct Entry(usize);

impl<'de> DeserializeSeed<'de> for Entry {
    type Value = (TemplateToken, TemplateToken);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Part {
    Key,
    Value,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for Entry {
    type Value = (TemplateToken, TemplateToken);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of a mapping: {\"Key\":…,\"Value\":…}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let null = || TemplateToken::new(TokenKind::Null);
        let (mut key, mut value) = (null(), null());
        while let Some(part) = map.next_key()? {
            match part {
                Part::Key => key = map.next_value_seed(Nested(self.0))?,
                Part::Value => value = map.next_value_seed(Nested(self.0))?,
                Part::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((key, value))
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for TemplateToken {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TemplateToken".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A template token: a bare JSON scalar, or an object whose `type` says which of the worker's tokens it is.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> TemplateToken {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn reads_the_shorthands_and_the_long_forms() {
        assert_eq!(read("\"x\"").kind, TokenKind::String("x".into()));
        assert_eq!(read("3").kind, TokenKind::Number(3.0));
        assert_eq!(read(r#"{"lit":"x","line":2,"col":3}"#).position, Position { file: 0, line: 2, column: 3 });
        assert_eq!(read(r#"{"type":1}"#).kind, TokenKind::Sequence(vec![]));
        assert_eq!(read(r#"{"type":4,"directive":"insert"}"#).kind, TokenKind::Insert);
        assert!(serde_json::from_str::<TemplateToken>("[1]").is_err());
        assert!(serde_json::from_str::<TemplateToken>(r#"{"type":"mapping"}"#).is_err());
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            r#"{"type":2,"map":[{"Key":"WHO","Value":{"type":3,"expr":"github.actor"}},{"Key":"COUNT","Value":3.0}]}"#,
            r#"{"type":1,"seq":["a",true,null]}"#,
            r#"{"type":0,"file":1,"line":9,"col":14,"lit":"x"}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), text);
        }
    }

    #[test]
    fn refuses_bottomless_nesting() {
        let deep = format!("{}{}", r#"{"type":1,"seq":["#.repeat(60), "]}".repeat(60));
        assert!(serde_json::from_str::<TemplateToken>(&deep).is_err());
    }
}
