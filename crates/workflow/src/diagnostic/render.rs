//! The text form of a finding.

use std::fmt::Write as _;

use super::{Diagnostic, Severity};
use crate::span::{LineIndex, Span};

/// Characters of a source line that are shown; longer lines are cut around the place.
const WIDTH: usize = 120;

struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn frame(&self, text: &str) -> String {
        self.with("1;34", text)
    }

    fn severity(&self, severity: Severity, text: &str) -> String {
        self.with(if severity == Severity::Error { "1;31" } else { "1;33" }, text)
    }
}

pub(super) fn render(diagnostic: &Diagnostic, source: &str, path: &str, colour: bool) -> String {
    let paint = Paint(colour);
    let index = LineIndex::new(source);
    let path = visible(path);
    let mut out = String::new();
    let heading = format!("{}[{}]", diagnostic.severity.as_str(), diagnostic.code);
    let message = visible(&diagnostic.message);
    line(&mut out, &format!("{}: {}", paint.severity(diagnostic.severity, &heading), paint.bold(&message)));

    let last_line = std::iter::once(diagnostic.span.start.line)
        .chain(diagnostic.notes.iter().filter_map(|note| note.span).map(|span| span.start.line))
        .max()
        .unwrap_or(1);
    let margin = " ".repeat(last_line.to_string().len());
    snippet(&mut out, &index, diagnostic.span, &path, &margin, &paint, |marks| {
        paint.severity(diagnostic.severity, marks)
    });
    for note in &diagnostic.notes {
        let text = visible(&note.message);
        line(&mut out, &format!("{margin} {} note: {text}", paint.frame("=")));
        if let Some(span) = note.span {
            snippet(&mut out, &index, span, &path, &margin, &paint, |marks| paint.frame(marks));
        }
    }
    if let Some(remedy) = &diagnostic.remedy {
        let text = visible(remedy);
        line(&mut out, &format!("{margin} {} {} {text}", paint.frame("="), paint.with("1;32", "help:")));
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn snippet(
    out: &mut String,
    index: &LineIndex<'_>,
    span: Span,
    path: &str,
    margin: &str,
    paint: &Paint,
    underline: impl Fn(&str) -> String,
) {
    let number = span.start.line.max(1);
    let column = span.start.column.max(1) as usize;
    line(out, &format!("{margin}{} {path}:{number}:{column}", paint.frame("-->")));
    let text = index.line(number);
    let length = text.chars().count();
    let end = if span.end.line == span.start.line { span.end.column as usize } else { length + 1 };
    let (first, shown) = window(text, column);
    let before: String = text.chars().skip(first).take((column - 1).saturating_sub(first)).collect();
    let marked = end.saturating_sub(column).clamp(1, (first + shown + 1).saturating_sub(column).max(1));
    let inside: String = text.chars().skip(column - 1).take(marked).collect();
    let mut body: String = text.chars().skip(first).take(shown).collect();
    let mut indent = width(&before);
    if first > 0 {
        body.insert(0, '…');
        indent += 1;
    }
    if first + shown < length {
        body.push('…');
    }
    line(out, format!("{margin} {}", paint.frame("|")).trim_end());
    let gutter = format!("{number:>width$} |", width = margin.len());
    line(out, format!("{} {}", paint.frame(&gutter), visible(&body)).trim_end());
    let marks = "^".repeat(width(&inside).max(1));
    line(out, &format!("{margin} {} {}{}", paint.frame("|"), " ".repeat(indent), underline(&marks)));
}

/// The part of a line that is shown, as (first character, number of characters).
fn window(text: &str, column: usize) -> (usize, usize) {
    let length = text.chars().count();
    if length <= WIDTH {
        return (0, length);
    }
    let first = (column - 1).saturating_sub(WIDTH / 2).min(length - WIDTH);
    (first, WIDTH)
}

fn width(text: &str) -> usize {
    visible(text).chars().count()
}

/// The text with tabs as spaces and control and direction characters written out.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => out.push_str("    "),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' => {
                let _infallible = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            character if character.is_control() => {
                let _infallible = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out
}
