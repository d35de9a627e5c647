//! `if`.

use super::Reader;
use super::place::{self, Place};
use crate::diagnostic::Diagnostic;
use crate::expression::{self, Expression, Piece, split};
use crate::yaml::Node;

/// What a step or job without `if` means.
pub(crate) const DEFAULT: &str = "success()";

impl Reader<'_> {
    /// The expression text of an `if`; `success()` when it is absent or blank.
    pub(crate) fn condition(&mut self, node: Option<&Node>, place: Place) -> String {
        let text = self.condition_text(node, "`if`", place).unwrap_or_default();
        expression::condition(text).unwrap_or_else(|_| DEFAULT.to_owned())
    }

    /// The expression text of `pre-if` or `post-if`, to which nothing is added; `always()` when it is absent or blank.
    pub(crate) fn bare_condition(&mut self, node: Option<&Node>, what: &str) -> String {
        let text = self.condition_text(node, what, place::ACTION_STEP_IF).unwrap_or_default().trim();
        let text = match expression::scalar_to_expression(text) {
            Ok(Some(expression)) => expression,
            _ => text.to_owned(),
        };
        if text.is_empty() { "always()".to_owned() } else { text }
    }

    /// The text of a condition, its expressions checked.
    fn condition_text<'n>(&mut self, node: Option<&'n Node>, what: &str, place: Place) -> Option<&'n str> {
        let node = node.filter(|node| !node.is_null())?;
        let Some(text) = node.text() else {
            self.wrong_type(node, what, "an expression");
            return None;
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
        Some(text)
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
