//! What is wrong with a file, where, and what to do about it.

use crate::span::Span;

mod render;
#[cfg(test)]
mod tests;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but not all of it does what it says.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A further remark on a [`Diagnostic`], with or without a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Text.
    pub message: String,
    /// The place it speaks of.
    pub span: Option<Span>,
}

/// One finding in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable name of the kind of finding, such as `duplicate-key`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, naming the thing.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do.
    pub remedy: Option<String>,
    /// Further remarks, such as where a name was first used.
    pub notes: Vec<Note>,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), span, remedy: None, notes: Vec::new() }
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds a remark that speaks of a place.
    #[must_use]
    pub fn note_at(mut self, span: Span, message: impl Into<String>) -> Self {
        self.notes.push(Note { message: message.into(), span: Some(span) });
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, message: impl Into<String>) -> Self {
        self.notes.push(Note { message: message.into(), span: None });
        self
    }

    /// True if the file cannot be used because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding as text of several lines: `path:line:column`, the line, an underline, and the remedy.
    ///
    /// `source` must be the text that was parsed. Control characters in it are made visible, so that a hostile file
    /// cannot drive the terminal. With `colour`, ANSI colours are used. Ends with a line break.
    #[must_use]
    pub fn render(&self, source: &str, path: &str, colour: bool) -> String {
        render::render(self, source, path, colour)
    }
}

/// Most findings given for one file; the last one then says how many are left out.
pub(crate) const MAX_DIAGNOSTICS: usize = 100;

/// Sorts findings by place, removes repetitions (a node behind an anchor is read at each alias) and caps their number.
pub(crate) fn finish(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by(|a, b| (a.span.start, a.severity, a.code).cmp(&(b.span.start, b.severity, b.code)));
    let mut kept: Vec<Diagnostic> = Vec::with_capacity(diagnostics.len().min(MAX_DIAGNOSTICS));
    let mut left_out = 0_usize;
    let mut error_left_out = false;
    for diagnostic in diagnostics {
        let same_place = kept.iter().rev().take_while(|known| known.span.start == diagnostic.span.start);
        if same_place.into_iter().any(|known| known.code == diagnostic.code && known.message == diagnostic.message) {
            continue;
        }
        if kept.len() < MAX_DIAGNOSTICS {
            kept.push(diagnostic);
        } else {
            left_out += 1;
            error_left_out |= diagnostic.is_error();
        }
    }
    if let Some(last) = kept.last_mut().filter(|_| left_out > 0) {
        last.notes.push(Note { message: format!("{left_out} further findings are not shown"), span: None });
        if error_left_out {
            last.severity = Severity::Error;
        }
    }
    kept
}
