//! `environment` of a job.

use super::{Reader, place};
use crate::diagnostic::Diagnostic;
use crate::template::{Kind, Template};
use crate::yaml::{Entry, Literal};

/// `environment`.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// `name`, evaluated for each job of a matrix; a job whose name comes out empty has no environment.
    pub name: Template,
    /// `url`, which the worker evaluates after the last step.
    pub url: Option<Template>,
}

impl Reader<'_> {
    /// `environment`: a name, or a mapping of `name` and `url`.
    pub(crate) fn environment(&mut self, entry: &Entry) -> Option<Environment> {
        let node = &entry.value;
        if node.scalar().is_some_and(|scalar| scalar.literal == Literal::Null) {
            self.missing(entry.key.span, "name", "`environment`", "name it, or leave `environment` out");
            return None;
        }
        if node.mapping().is_none() {
            let name = self.text(node, "`environment`", place::JOB)?;
            return Some(Environment { name, url: None });
        }
        let fields = self.fields(node, "`environment`", &["name", "url"])?;
        let url = fields.given("url").and_then(|node| self.text(node, "`url`", place::ENVIRONMENT_URL));
        let Some(name) = fields.given("name") else {
            self.missing(entry.key.span, "name", "`environment`", "name it, for example `name: production`");
            return None;
        };
        let span = name.span;
        let name = self.text(name, "`name` of `environment`", place::JOB)?;
        if matches!(&name.kind, Kind::String(text) if text.trim().is_empty()) {
            self.report(
                Diagnostic::error("value", span, "`name` of `environment` must not be empty")
                    .remedy("name it, or leave `environment` out"),
            );
            return None;
        }
        Some(Environment { name, url })
    }
}
