//! Expressions inside YAML scalars: actions/runner src/Sdk/WorkflowParser/ObjectTemplating/TemplateReader.cs.

use super::node::quote;
use super::{Expression, ParseError};

/// The most expressions one scalar may hold: `format` takes 255 arguments, the first being the text.
const MAX_EXPRESSIONS: usize = 254;

/// A part of a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text outside `${{ }}`.
    Literal(String),
    /// What stands inside `${{ }}`.
    Expression {
        /// The text without surrounding white space; never empty.
        text: String,
        /// Where `text` begins, in bytes of the scalar.
        offset: usize,
    },
}

/// A scalar with its expressions, if any, made into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// No expression, or only string literals, which fold into the text.
    Literal(String),
    /// The text of one expression without `${{ }}`.
    Expression(String),
}

impl Scalar {
    /// Reads a scalar and checks the syntax of each expression. Error offsets are bytes of `text`.
    ///
    /// An expression alone stays as it is (trimmed). Mixed text becomes `format('…{0}…', e0, …)`.
    pub fn read(text: &str) -> Result<Self, ParseError> {
        let pieces = split(text)?;
        let mut format = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => format.push(Folded::Text(literal)),
                Piece::Expression { text, offset } => {
                    let parsed = Expression::parse(&text).map_err(|error| error.shifted(offset))?;
                    format.push(match parsed.string_literal() {
                        Some(literal) => Folded::Text(literal.to_owned()),
                        None => Folded::Expression(text),
                    });
                }
            }
        }
        join(format, text.len())
    }
}

enum Folded {
    Text(String),
    Expression(String),
}

fn join(mut pieces: Vec<Folded>, length: usize) -> Result<Scalar, ParseError> {
    if let [Folded::Expression(only)] = &mut *pieces {
        return Ok(Scalar::Expression(std::mem::take(only)));
    }
    if pieces.iter().all(|piece| matches!(piece, Folded::Text(_))) {
        let text = pieces.into_iter().map(|piece| match piece {
            Folded::Text(text) | Folded::Expression(text) => text,
        });
        return Ok(Scalar::Literal(text.collect()));
    }
    let mut format = String::new();
    let mut arguments = String::new();
    let mut count = 0;
    for piece in pieces {
        match piece {
            Folded::Text(text) => format.push_str(&text.replace('{', "{{").replace('}', "}}")),
            Folded::Expression(text) => {
                format.push_str(&format!("{{{count}}}"));
                arguments.push_str(", ");
                arguments.push_str(&text);
                count += 1;
            }
        }
    }
    if count > MAX_EXPRESSIONS {
        let message = format!("the text holds {count} expressions and at most {MAX_EXPRESSIONS} are allowed: split it");
        return Err(ParseError::new(message, 0, length));
    }
    let whole = format!("format({}{arguments})", quote(&format));
    // Each part is sound, but together they may be too long or too deep.
    Expression::parse(&whole).map_err(|error| ParseError::new(error.message, 0, length))?;
    Ok(Scalar::Expression(whole))
}

/// Splits a scalar at `${{` and `}}`; quotes inside an expression hide a `}}`.
pub fn split(text: &str) -> Result<Vec<Piece>, ParseError> {
    let mut pieces = Vec::new();
    let mut position = 0;
    while let Some(found) = text[position..].find("${{") {
        let start = position + found;
        if found > 0 {
            pieces.push(Piece::Literal(text[position..start].to_owned()));
        }
        let inside = start + 3;
        let end = inside + expression_end(&text[inside..]).ok_or_else(|| unclosed(text, start))?;
        let raw = &text[inside..end];
        let trimmed = raw.trim();
        if trimmed.is_empty() {
            return Err(ParseError::new("an expression is expected between '${{' and '}}'", start, end + 2 - start));
        }
        let offset = inside + raw.len() - raw.trim_start().len();
        pieces.push(Piece::Expression { text: trimmed.to_owned(), offset });
        position = end + 2;
    }
    if position < text.len() {
        pieces.push(Piece::Literal(text[position..].to_owned()));
    }
    Ok(pieces)
}

/// Where the `}}` outside quotes begins.
fn expression_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut in_string = false;
    for (position, byte) in bytes.iter().enumerate() {
        match byte {
            b'\'' => in_string = !in_string,
            b'}' if !in_string && bytes.get(position + 1) == Some(&b'}') => return Some(position),
            _ => {}
        }
    }
    None
}

fn unclosed(text: &str, start: usize) -> ParseError {
    let rest = &text[start..];
    let message = if rest.contains("}}") {
        "this '${{' is not closed: a single quote inside it has no partner, so the '}}' after it counts as text"
    } else {
        "this '${{' is not closed: add '}}'"
    };
    ParseError::new(message, start, 3)
}

/// The expression a scalar stands for: `None` when it holds none, else as [`Scalar::read`] makes it. Text that folds
/// to a literal is given as a string literal.
pub fn scalar_to_expression(text: &str) -> Result<Option<String>, ParseError> {
    if !text.contains("${{") {
        return Ok(None);
    }
    Ok(Some(match Scalar::read(text)? {
        Scalar::Literal(literal) => quote(&literal),
        Scalar::Expression(expression) => expression,
    }))
}

/// The condition an `if` stands for: blank means `success()`, the `${{ }}` around it is optional, and without a call
/// of a status function `success() && (…)` is meant.
///
/// Mixed text such as `a ${{ x }}` becomes a `format` call and so is true unless empty, as on GitHub
/// (actions/runner src/Sdk/DTPipelines/Pipelines/ObjectTemplating/PipelineTemplateConverter.cs).
pub fn condition(text: &str) -> Result<String, ParseError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok("success()".to_owned());
    }
    let shift = text.len() - text.trim_start().len();
    let expression = match scalar_to_expression(trimmed).map_err(|error| error.shifted(shift))? {
        Some(expression) => expression,
        None => trimmed.to_owned(),
    };
    let parsed = Expression::parse(&expression).map_err(|error| error.shifted(shift))?;
    Ok(if parsed.calls_status_function() { expression } else { format!("success() && ({expression})") })
}
