//! YAML text to a tree in which every node knows its place.
//!
//! Scalars follow the YAML 1.2 core schema, so `on`, `yes` and `no` are text. Anchors are expanded under a budget,
//! merge keys are refused, as on GitHub. Duplicate keys are compared without case
//! (actions/runner `Sdk/WorkflowParser/ObjectTemplating/TemplateReader.cs`).

mod build;
mod scalar;
#[cfg(test)]
mod tests;

pub use scalar::{Literal, Scalar, Style};

use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// Largest file read, in bytes.
pub const MAX_SIZE: usize = 1024 * 1024;
/// Deepest nesting read.
pub const MAX_DEPTH: usize = 50;
/// Most bytes that expanding aliases may add; each node counts for 64 besides its text.
pub const ALIAS_BUDGET: usize = 10 * 1024 * 1024;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands; behind an alias, where the anchored node stands.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Text, number, boolean or null.
    Scalar(Scalar),
    /// List.
    Sequence(Vec<Node>),
    /// Mapping in file order; keys are unique without case.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Key; always a scalar.
    pub key: Node,
    /// Value.
    pub value: Node,
}

impl Node {
    /// The scalar, if it is one.
    #[must_use]
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar as it was written (without quotes), if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }

    /// The entries of a mapping, if it is one.
    #[must_use]
    pub fn mapping(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of a list, if it is one.
    #[must_use]
    pub fn sequence(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// True for `null`, `~` and nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(Scalar { literal: Literal::Null, .. }))
    }

    /// The value under a key of a mapping, compared exactly.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.mapping()?.iter().find(|entry| entry.key.text() == Some(key)).map(|entry| &entry.value)
    }

    /// What it is, for messages: `a mapping`, `a list`, `text`, `a number`, `a boolean` or `nothing`.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Mapping(_) => "a mapping",
            Kind::Sequence(_) => "a list",
            Kind::Scalar(scalar) => match scalar.literal {
                Literal::Null => "nothing",
                Literal::Bool(_) => "a boolean",
                Literal::Number(_) => "a number",
                Literal::String => "text",
            },
        }
    }
}

/// Reads one document.
///
/// The tree is absent when it would have holes; of a key that is defined twice it keeps the first value. Findings are in
/// the order in which they were met.
#[must_use]
pub fn parse(source: &str) -> (Option<Node>, Vec<Diagnostic>) {
    build::parse(source)
}
