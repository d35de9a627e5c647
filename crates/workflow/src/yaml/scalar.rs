//! Scalars: the core schema, and the way back from decoded text to the source.

use crate::span::{LineIndex, Span};

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// `'…'`.
    SingleQuoted,
    /// `"…"`.
    DoubleQuoted,
    /// `|` or `>`.
    Block,
}

/// What the core schema makes of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Integer or float.
    Number(f64),
    /// Anything else; the text is [`Scalar::text`].
    String,
}

/// A scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// Decoded text.
    pub text: String,
    /// What the core schema makes of it; quoted and block scalars are always text.
    pub literal: Literal,
    /// How it was written.
    pub style: Style,
}

/// Resolves a plain scalar by the YAML 1.2 core schema, as
/// actions/runner `Sdk/WorkflowParser/Conversion/YamlObjectReader.cs` does.
pub(super) fn resolve(text: &str) -> Literal {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Literal::Null,
        "true" | "True" | "TRUE" => Literal::Bool(true),
        "false" | "False" | "FALSE" => Literal::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Literal::Number(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Literal::Number(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Literal::Number(f64::NEG_INFINITY),
        _ => number(text).map_or(Literal::String, Literal::Number),
    }
}

fn number(text: &str) -> Option<f64> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
                return None;
            }
            return Some(
                digits
                    .chars()
                    .filter_map(|digit| digit.to_digit(radix))
                    .fold(0.0, |value, digit| value * f64::from(radix) + f64::from(digit)),
            );
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_mantissa = !(whole.is_empty() && fraction.is_empty());
    let has_exponent = exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    (has_mantissa && digits(whole) && digits(fraction) && has_exponent).then(|| text.parse().ok()).flatten()
}

impl Scalar {
    /// The source range of a part of the decoded text, given in bytes of it.
    ///
    /// Decoded and written text agree in their characters other than white space, escapes counted as one; that is what
    /// the two are aligned by, so that folding and indentation need not be undone.
    pub(crate) fn locate(&self, index: &LineIndex<'_>, source: &str, span: Span, offset: usize, length: usize) -> Span {
        let written = &source[span.start.offset..span.end.offset];
        let ink = |end: usize| {
            let end = self.text.floor_char_boundary(end);
            self.text[..end].chars().filter(|character| !character.is_whitespace()).count()
        };
        let (first, last) = (ink(offset), ink(offset.saturating_add(length).min(self.text.len())));
        let (mut start, mut end) = (None, None);
        for (number, (from, to)) in units(written, self.style).enumerate() {
            if number == first {
                start = Some(from);
            }
            if number + 1 == last {
                end = Some(to);
            }
        }
        // An error at the very end of the text points one past the last character.
        let start = start.unwrap_or_else(|| units(written, self.style).last().map_or(0, |(_, to)| to));
        let end = end.filter(|end| *end > start).unwrap_or(start);
        index.span(span.start.offset + start, span.start.offset + end)
    }
}

/// Byte ranges in the written text of each decoded character that is not white space.
fn units(written: &str, style: Style) -> impl Iterator<Item = (usize, usize)> {
    let quoted = matches!(style, Style::SingleQuoted | Style::DoubleQuoted);
    let mut at = usize::from(quoted && !written.is_empty());
    let end = if quoted && written.len() >= 2 { written.len() - 1 } else { written.len() };
    std::iter::from_fn(move || {
        loop {
            let character = written.get(at..end)?.chars().next()?;
            let from = at;
            at += character.len_utf8();
            if style == Style::SingleQuoted && character == '\'' {
                at += 1;
            } else if style == Style::DoubleQuoted && character == '\\' {
                let Some(escape) = written.get(at..end).and_then(|rest| rest.chars().next()) else { continue };
                at += escape.len_utf8();
                let hex = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    // Escapes that stand for white space.
                    'n' | 'r' | 't' | 'v' | 'f' | 'N' | '_' | 'L' | 'P' | ' ' | '\t' | '\n' | '\r' => continue,
                    _ => 0,
                };
                at = (at + hex).min(end);
            } else if character.is_whitespace() {
                continue;
            }
            return Some((from, at.min(end)));
        }
    })
}
