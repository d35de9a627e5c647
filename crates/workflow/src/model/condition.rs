//! `if`.

use super::Reader;
use super::place::Place;
use crate::diagnostic::Diagnostic;
use crate::expression::{self, Expression, Piece, split};
use crate::yaml::Node;

/// What a step or job without `if` means.
pub(crate) const DEFAULT: &str = "success()";

impl Reader<'_> {
    /// The expression text of an `if`; `success()` when it is absent or blank.
    pub(crate) fn condition(&mut self, node: Option<&Node>, place: Place) -> String {
        let Some(node) = node.filter(|node| !node.is_null()) else { return DEFAULT.to_owned() };
        let Some(text) = node.text() else {
            self.wrong_type(node, "`if`", "an expression");
            return DEFAULT.to_owned();
        };
        if text.contains("${{") {
            // Checks each expression where it stands.
            let before = self.findings.len();
            self.scalar(node, place);
            if self.findings.len() == before {
                self.warn_about_text_around(node, text);
            }
        } else {
            match Expression::parse(text) {
                Ok(parsed) => self.check(node, &parsed, 0, place),
                Err(_) if text.trim().is_empty() => {}
                Err(error) => self.syntax(node, &error.message, error.offset, error.length),
            }
        }
        expression::condition(text).unwrap_or_else(|_| DEFAULT.to_owned())
    }

    fn warn_about_text_around(&mut self, node: &Node, text: &str) {
        let pieces = split(text.trim()).unwrap_or_default();
        if matches!(pieces.as_slice(), [Piece::Expression { .. }]) {
            return;
        }
        self.report(
            Diagnostic::warning(
                "condition",
                node.span,
                "this condition is always true: it is text with an expression inside",
            )
            .remedy("put the whole condition inside one `${{ }}`, or leave `${{ }}` out"),
        );
    }
}
