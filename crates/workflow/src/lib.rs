//! Workflow YAML to runs and jobs: spanned tree, model, expressions, matrix, needs, diagnostics.
//!
//! This room owns the meaning of a workflow file: what it says ([`parse`]), what is wrong with it
//! ([`diagnostic::Diagnostic`]) and what may run next ([`plan`]). It is pure: it reads no file, no clock and no
//! environment, and it knows neither the wire nor the store; callers lower its types to theirs.

pub mod action;
pub mod diagnostic;
pub mod expression;
pub mod matrix;
pub mod model;
pub mod plan;
pub mod span;
pub mod template;
pub mod yaml;

pub use model::{Workflow, parse, resolve_inputs};
