//! JSON as `toJSON` prints and `fromJSON` reads it.
//!
//! The worker of GitHub reads with a lenient library (actions/runner
//! src/Sdk/DTExpressions2/Expressions2/Sdk/Functions/FromJson.cs), and workflows rely on it: single quotes, comments,
//! a trailing comma, bare property names, raw line breaks in strings, `NaN` and `Infinity` are accepted.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

use super::evaluator::{Budget, EvalError};
use super::value::{Object, Value};

/// How deep arrays and objects may nest (actions/runner src/Sdk/Expressions/Sdk/Functions/JsonParser.cs).
const MAX_NESTING: usize = 100;

/// What a value costs beyond its text.
const VALUE_BYTES: usize = 16;

/// Prints a value with two spaces of indentation, in the layout of actions/runner
/// src/Sdk/Expressions/Sdk/Functions/ToJson.cs.
pub(super) fn write(value: &Value, budget: &mut Budget) -> Result<String, EvalError> {
    let mut text = String::new();
    write_value(&mut text, value, 0, budget)?;
    Ok(text)
}

fn write_value(text: &mut String, value: &Value, level: usize, budget: &mut Budget) -> Result<(), EvalError> {
    match value {
        Value::Null => budget.push(text, "null"),
        Value::String(string) => write_string(text, string, budget),
        Value::Array(items) if items.is_empty() => budget.push(text, "[]"),
        Value::Object(object) if object.is_empty() => budget.push(text, "{}"),
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                budget.push(text, if position == 0 { "[" } else { "," })?;
                new_line(text, level + 1, budget)?;
                write_value(text, item, level + 1, budget)?;
            }
            new_line(text, level, budget)?;
            budget.push(text, "]")
        }
        Value::Object(object) => {
            for (position, (key, item)) in object.iter().enumerate() {
                budget.push(text, if position == 0 { "{" } else { "," })?;
                new_line(text, level + 1, budget)?;
                write_string(text, key, budget)?;
                budget.push(text, ": ")?;
                write_value(text, item, level + 1, budget)?;
            }
            new_line(text, level, budget)?;
            budget.push(text, "}")
        }
        Value::Bool(_) | Value::Number(_) => budget.push(text, &value.to_text()),
    }
}

fn new_line(text: &mut String, level: usize, budget: &mut Budget) -> Result<(), EvalError> {
    budget.charge(1 + level * 2)?;
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', level * 2));
    Ok(())
}

fn write_string(text: &mut String, string: &str, budget: &mut Budget) -> Result<(), EvalError> {
    let before = text.len();
    // At least this much; what escapes add is charged after, at most six bytes for one.
    budget.charge(string.len() + 2)?;
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            // The library GitHub uses escapes these three line breaks besides the control characters.
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{:04x}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
    budget.charge((text.len() - before).saturating_sub(string.len() + 2))
}

/// Reads JSON.
pub(super) fn read(text: &str, budget: &mut Budget) -> Result<Value, EvalError> {
    let mut reader = Reader { text, characters: text.char_indices().peekable(), budget, nesting: 0 };
    reader.skip_blank()?;
    if reader.peek().is_none() {
        return Err(reader.error("the text is empty and JSON is expected"));
    }
    let value = reader.value()?;
    reader.skip_blank()?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.error("the JSON ends here and more text follows")),
    }
}

struct Reader<'a, 'b> {
    text: &'a str,
    characters: Peekable<CharIndices<'a>>,
    budget: &'b mut Budget,
    nesting: usize,
}

impl Reader<'_, '_> {
    fn peek(&mut self) -> Option<char> {
        self.characters.peek().map(|&(_, character)| character)
    }

    fn bump(&mut self) -> Option<char> {
        self.characters.next().map(|(_, character)| character)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.characters.next_if(|&(_, character)| character == wanted).is_some()
    }

    fn position(&mut self) -> usize {
        self.characters.peek().map_or(self.text.len(), |&(position, _)| position)
    }

    fn error(&mut self, reason: impl Into<String>) -> EvalError {
        let position = self.position();
        self.error_at(position, reason)
    }

    fn error_at(&self, position: usize, reason: impl Into<String>) -> EvalError {
        let before = &self.text[..position];
        let line_start = before.rfind('\n').map_or(0, |line_break| line_break + 1);
        EvalError::Json {
            reason: reason.into(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), EvalError> {
        loop {
            while self.characters.next_if(|&(_, character)| character.is_whitespace()).is_some() {}
            if self.peek() != Some('/') {
                return Ok(());
            }
            let start = self.position();
            self.bump();
            let skipped = if self.eat('/') {
                self.text[start..].find('\n').unwrap_or(self.text.len() - start)
            } else if self.eat('*') {
                let inside = start + 2;
                let end =
                    self.text[inside..].find("*/").ok_or_else(|| self.error_at(start, "a comment is not closed"))?;
                end + 4
            } else {
                return Err(self.error_at(start, "unexpected '/'"));
            };
            while self.position() < start + skipped {
                self.bump();
            }
        }
    }

    fn value(&mut self) -> Result<Value, EvalError> {
        self.budget.charge(VALUE_BYTES)?;
        match self.peek() {
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::array),
            Some(quote @ ('"' | '\'')) => Ok(Value::from(self.string(quote)?)),
            Some(_) => self.word(),
            None => Err(self.error("the text ends and a value is expected")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, EvalError>) -> Result<Value, EvalError> {
        if self.nesting == MAX_NESTING {
            return Err(self.error(format!("arrays and objects nest deeper than {MAX_NESTING} levels")));
        }
        self.nesting += 1;
        self.bump();
        let value = read(self);
        self.nesting -= 1;
        value
    }

    fn array(&mut self) -> Result<Value, EvalError> {
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            if self.eat(']') {
                return Ok(Value::array(items));
            }
            items.push(self.value()?);
            self.separator(']')?;
        }
    }

    fn object(&mut self) -> Result<Value, EvalError> {
        let mut object = Object::new();
        loop {
            self.skip_blank()?;
            if self.eat('}') {
                return Ok(Value::from(object));
            }
            let key = match self.peek() {
                Some(quote @ ('"' | '\'')) => self.string(quote)?,
                Some(character) if is_word(character) => self.take_word().to_owned(),
                _ => return Err(self.error("a property name is expected")),
            };
            self.skip_blank()?;
            if !self.eat(':') {
                return Err(self.error("':' is expected after a property name"));
            }
            self.skip_blank()?;
            let value = self.value()?;
            // The key is kept twice: as spelled and for look-up.
            self.budget.charge(VALUE_BYTES + key.len())?;
            object.insert(key, value);
            self.separator('}')?;
        }
    }

    /// After an item: a comma, or the closing bracket left for the caller.
    fn separator(&mut self, closing: char) -> Result<(), EvalError> {
        self.skip_blank()?;
        if self.eat(',') || self.peek() == Some(closing) {
            return Ok(());
        }
        Err(self.error(format!("',' or '{closing}' is expected")))
    }

    fn string(&mut self, quote: char) -> Result<String, EvalError> {
        let start = self.position();
        self.bump();
        let mut text = String::new();
        loop {
            let at = self.position();
            let character = match self.bump() {
                None => return Err(self.error_at(start, "a string is not closed")),
                Some(character) if character == quote => {
                    self.budget.charge(text.len())?;
                    return Ok(text);
                }
                Some('\\') => self.escape(at)?,
                Some(character) => character,
            };
            text.push(character);
        }
    }

    fn escape(&mut self, at: usize) -> Result<char, EvalError> {
        Ok(match self.bump() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(character @ ('"' | '\'' | '\\' | '/')) => character,
            Some('u') => self.unicode_escape(at)?,
            _ => return Err(self.error_at(at, "an escape is malformed")),
        })
    }

    fn unicode_escape(&mut self, at: usize) -> Result<char, EvalError> {
        let first = self.hexadecimal(at)?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        // A surrogate: with its partner one character, alone the replacement character.
        let is_high = (0xd800..0xdc00).contains(&first);
        if is_high && self.text[self.position()..].starts_with("\\u") {
            let rest = self.text[self.position() + 2..].get(..4).unwrap_or_default();
            if let Ok(second @ 0xdc00..=0xdfff) = u32::from_str_radix(rest, 16) {
                self.bump();
                self.bump();
                self.hexadecimal(at)?;
                let combined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(combined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self, at: usize) -> Result<u32, EvalError> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.bump().and_then(|character| character.to_digit(16));
            number = number * 16 + digit.ok_or_else(|| self.error_at(at, "an escape is malformed"))?;
        }
        Ok(number)
    }

    /// A number, `true`, `false`, `null`, `NaN`, `Infinity` or `-Infinity`.
    fn word(&mut self) -> Result<Value, EvalError> {
        let start = self.position();
        let word = self.take_word();
        match word {
            "null" | "undefined" => return Ok(Value::Null),
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
            "NaN" => return Ok(Value::Number(f64::NAN)),
            "Infinity" => return Ok(Value::Number(f64::INFINITY)),
            "-Infinity" => return Ok(Value::Number(f64::NEG_INFINITY)),
            _ => {}
        }
        if let Some(number) = number(word) {
            return Ok(Value::Number(number));
        }
        if word.is_empty() {
            let character = self.peek().map(String::from).unwrap_or_default();
            return Err(self.error_at(start, format!("unexpected '{character}'")));
        }
        let shown: String = word.chars().take(40).collect();
        Err(self.error_at(start, format!("'{shown}' is no JSON value; put text in double quotes")))
    }

    fn take_word(&mut self) -> &str {
        let start = self.position();
        while self.characters.next_if(|&(_, character)| is_word(character)).is_some() {}
        let end = self.position();
        &self.text[start..end]
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '+' | '.' | '$')
}

/// A number by JSON's grammar, which has no leading zero, plus sign or bare point.
fn number(word: &str) -> Option<f64> {
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let digits = unsigned.len() - unsigned.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (whole, mut rest) = unsigned.split_at(digits);
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|character: char| character.is_ascii_digit());
        if rest.len() == fraction.len() {
            return None;
        }
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if exponent.is_empty() || !exponent.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        rest = "";
    }
    if rest.is_empty() { word.parse().ok() } else { None }
}
