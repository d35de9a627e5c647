//! The expression language: what stands between `${{` and `}}`, and in `if`.
//!
//! Owns text to tree, the checks that need no values, and evaluation. It does not know what a context holds nor
//! how a status function decides: a [`Scope`] tells it. Behaviour follows actions/runner src/Sdk/Expressions.

mod check;
mod evaluator;
mod function;
mod json;
mod lexer;
mod node;
mod parser;
mod reference;
mod scalar;
pub mod value;

use std::fmt;

pub use check::{Allowed, CheckError};
pub use evaluator::{EvalError, MAX_RESULT_BYTES, Scope};
pub use reference::{ContextUse, Reference};
pub use scalar::{Piece, Scalar, condition, scalar_to_expression, split};
pub use value::{Object, Value};

use node::{Kind, Node};

/// The most UTF-16 units an expression may have (actions/runner src/Sdk/Expressions/ExpressionConstants.cs).
pub const MAX_LENGTH: usize = 21_000;

/// The most levels a tree may have (same file). Chains of `&&` and `||` count once, parentheses not at all.
pub const MAX_DEPTH: usize = 50;

/// A parsed expression. Its `Display` is canonical text that parses to the same tree.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    root: Node,
}

impl Expression {
    /// Parses an expression, without the `${{ }}` around it. Names are not checked: see [`Expression::check`].
    ///
    /// Offsets in errors and in everything asked of the result are bytes of `text`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { root: parser::parse(text)?, text: text.to_owned() })
    }

    /// The text it was parsed from, as given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The contexts it names, each once, in order of first use.
    pub fn contexts(&self) -> Vec<ContextUse> {
        reference::contexts(&self.root)
    }

    /// Every use of a context with the property names that follow it as far as they are written out.
    pub fn references(&self) -> Vec<Reference> {
        reference::references(&self.root)
    }

    /// Whether it calls the function, whatever the case of the name.
    pub fn calls(&self, function: &str) -> bool {
        let mut found = false;
        self.root.walk(&mut |node| {
            found |= matches!(&node.kind, Kind::Call { name, .. } if name.eq_ignore_ascii_case(function));
        });
        found
    }

    /// Whether it calls `success`, `failure`, `cancelled` or `always`; a condition that does has no implicit
    /// `success()`.
    pub fn calls_status_function(&self) -> bool {
        check::STATUS_FUNCTIONS.iter().any(|function| self.calls(function))
    }

    /// The value of an expression that is only a string literal.
    pub fn string_literal(&self) -> Option<&str> {
        match &self.root.kind {
            Kind::Literal(value) => value.as_str(),
            _ => None,
        }
    }

    /// What is wrong with its names and argument counts at a place that allows `allowed`; empty when all is well.
    pub fn check(&self, allowed: &Allowed<'_>) -> Vec<CheckError> {
        check::check(&self.root, allowed)
    }

    /// Computes the value. Operands that do not matter are not evaluated; a context is asked for once.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, EvalError> {
        evaluator::evaluate(&self.root, scope)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(formatter)
    }
}

impl std::str::FromStr for Expression {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// Why text is no expression; the message names the token and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What is wrong and what to write instead.
    pub message: String,
    /// Where it begins, in bytes of the text parsed.
    pub offset: usize,
    /// How many bytes it spans.
    pub length: usize,
}

impl ParseError {
    fn new(message: impl Into<String>, offset: usize, length: usize) -> Self {
        Self { message: message.into(), offset, length }
    }

    /// The same error where the text parsed began `offset` bytes into another.
    fn shifted(mut self, offset: usize) -> Self {
        self.offset += offset;
        self
    }
}

#[cfg(test)]
mod tests;
