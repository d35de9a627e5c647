//! Text to tokens. What counts as one token follows actions/runner src/Sdk/Expressions/Tokens/LexicalAnalyzer.cs.

use super::ParseError;
use super::node::{Comparison, is_name, quote};
use super::value::{Value, parse_number};

#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) offset: usize,
    pub(super) length: usize,
}

impl Token {
    pub(super) fn end(&self) -> usize {
        self.offset + self.length
    }
}

#[derive(Debug)]
pub(super) enum TokenKind {
    OpenGroup,
    CloseGroup,
    OpenIndex,
    CloseIndex,
    Comma,
    Dot,
    Star,
    Not,
    And,
    Or,
    Compare(Comparison),
    Literal(Value),
    Name(String),
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    /// The next token, or `None` at the end. Where an operand may begin, a dot begins a number; elsewhere it is the
    /// dot before a property.
    pub(super) fn next(&mut self, operand_may_begin: bool) -> Result<Option<Token>, ParseError> {
        self.skip_whitespace();
        let offset = self.position;
        let Some(first) = self.text[offset..].chars().next() else { return Ok(None) };
        let kind = match first {
            '(' => self.single(TokenKind::OpenGroup),
            ')' => self.single(TokenKind::CloseGroup),
            '[' => self.single(TokenKind::OpenIndex),
            ']' => self.single(TokenKind::CloseIndex),
            ',' => self.single(TokenKind::Comma),
            '*' => self.single(TokenKind::Star),
            '\'' => self.string()?,
            '!' | '<' | '>' | '=' | '&' | '|' => self.operator()?,
            '.' if !operand_may_begin => self.single(TokenKind::Dot),
            '.' | '-' | '+' | '0'..='9' => self.number(operand_may_begin)?,
            _ => self.word(false)?,
        };
        Ok(Some(Token { kind, offset, length: self.position - offset }))
    }

    /// The property name or `*` after a dot.
    pub(super) fn property(&mut self) -> Result<Token, ParseError> {
        let dot = self.position - 1;
        self.skip_whitespace();
        let offset = self.position;
        let kind = match self.text[offset..].chars().next() {
            Some('*') => self.single(TokenKind::Star),
            Some(character) if !is_boundary(character) && character != '\'' => self.word(true)?,
            Some(_) | None => {
                return Err(ParseError::new("expected a property name or '*' after '.'", dot, 1));
            }
        };
        Ok(Token { kind, offset, length: self.position - offset })
    }

    /// Whether the next character, white space aside, opens a parenthesis: then the name before it is a function.
    pub(super) fn at_open_group(&self) -> bool {
        self.text[self.position..].trim_start().starts_with('(')
    }

    /// The position to give back to [`Lexer::rewind`].
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Goes back, to read a token again.
    pub(super) fn rewind(&mut self, position: usize) {
        self.position = position;
    }

    fn skip_whitespace(&mut self) {
        let rest = &self.text[self.position..];
        self.position += rest.len() - rest.trim_start().len();
    }

    fn single(&mut self, kind: TokenKind) -> TokenKind {
        self.position += 1;
        kind
    }

    fn string(&mut self) -> Result<TokenKind, ParseError> {
        let offset = self.position;
        let mut value = String::new();
        let mut rest = &self.text[offset + 1..];
        while let Some(quote) = rest.find('\'') {
            value.push_str(&rest[..quote]);
            rest = &rest[quote + 1..];
            if !rest.starts_with('\'') {
                self.position = self.text.len() - rest.len();
                return Ok(TokenKind::Literal(Value::from(value)));
            }
            value.push('\'');
            rest = &rest[1..];
        }
        Err(ParseError::new(
            "this string is not closed: add a single quote at its end, and write a quote inside it twice",
            offset,
            self.text.len() - offset,
        ))
    }

    fn operator(&mut self) -> Result<TokenKind, ParseError> {
        let offset = self.position;
        let rest = &self.text[offset..];
        for (symbol, kind) in [
            ("!=", TokenKind::Compare(Comparison::NotEqual)),
            ("<=", TokenKind::Compare(Comparison::LessOrEqual)),
            (">=", TokenKind::Compare(Comparison::GreaterOrEqual)),
            ("==", TokenKind::Compare(Comparison::Equal)),
            ("&&", TokenKind::And),
            ("||", TokenKind::Or),
            ("!", TokenKind::Not),
            ("<", TokenKind::Compare(Comparison::Less)),
            (">", TokenKind::Compare(Comparison::Greater)),
        ] {
            if rest.starts_with(symbol) {
                self.position += symbol.len();
                return Ok(kind);
            }
        }
        let message = match rest.as_bytes()[0] {
            b'=' => "unexpected '=': write '==' to compare",
            b'&' => "unexpected '&': write '&&' for \"and\"",
            _ => "unexpected '|': write '||' for \"or\"",
        };
        Err(ParseError::new(message, offset, 1))
    }

    fn number(&mut self, operand_may_begin: bool) -> Result<TokenKind, ParseError> {
        let offset = self.position;
        let rest = &self.text[offset..];
        let length = rest
            .char_indices()
            .skip(1)
            .find(|&(_, character)| is_boundary(character) && character != '.')
            .map_or(rest.len(), |(position, _)| position);
        let text = &rest[..length];
        let value = parse_number(text);
        if !value.is_nan() {
            self.position += length;
            return Ok(TokenKind::Literal(Value::Number(value)));
        }
        let message = if matches!(text, "+" | "-") || !operand_may_begin {
            format!("unexpected '{text}': expressions have no arithmetic; compute the value in a step")
        } else {
            format!("'{text}' is not a number; if it is text, write {}", quote(text))
        };
        Err(ParseError::new(message, offset, length))
    }

    fn word(&mut self, is_property: bool) -> Result<TokenKind, ParseError> {
        let offset = self.position;
        let rest = &self.text[offset..];
        // The first character belongs to the word whatever it is, so that the lexer always advances.
        let length = rest
            .char_indices()
            .skip(1)
            .find(|&(_, character)| is_boundary(character))
            .map_or(rest.len(), |(position, _)| position);
        let text = &rest[..length];
        if !is_name(text) {
            return Err(ParseError::new(illegal_word(text, rest, is_property), offset, length));
        }
        self.position += length;
        Ok(match text {
            _ if is_property => TokenKind::Name(text.to_owned()),
            "null" => TokenKind::Literal(Value::Null),
            "true" => TokenKind::Literal(Value::Bool(true)),
            "false" => TokenKind::Literal(Value::Bool(false)),
            "NaN" => TokenKind::Literal(Value::Number(f64::NAN)),
            "Infinity" => TokenKind::Literal(Value::Number(f64::INFINITY)),
            _ => TokenKind::Name(text.to_owned()),
        })
    }
}

fn illegal_word(text: &str, rest: &str, is_property: bool) -> String {
    if let Some(inner) = rest.strip_prefix('"') {
        let inner = inner.split('"').next().unwrap_or_default();
        return format!("strings take single quotes: write {}", quote(inner));
    }
    if text.starts_with("${{") {
        return "unexpected '${{': this is an expression already; remove the inner '${{' and '}}'".to_owned();
    }
    if text.starts_with("}}") {
        return "unexpected '}}': remove it, or put a single quote before and after text that holds it".to_owned();
    }
    let remedy = if is_property {
        format!("write ['{text}'] in place of .{text}")
    } else {
        format!("if it is text, write {}", quote(text))
    };
    format!(
        "unexpected '{text}': a name holds only letters, digits, '_' and '-', and begins with a letter or '_'; {remedy}"
    )
}

fn is_boundary(character: char) -> bool {
    matches!(character, '(' | '[' | ')' | ']' | ',' | '.' | '!' | '>' | '<' | '=' | '&' | '|')
        || character.is_whitespace()
}
