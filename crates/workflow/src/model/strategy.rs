//! `strategy`: what can be checked before its expressions have values.

use super::Reader;
use super::place;
use crate::diagnostic::Diagnostic;
use crate::expression::Object;
use crate::matrix::{self, Step};
use crate::span::Span;
use crate::template::{self, Kind, Template};
use crate::yaml::Node;

const KEYS: &[&str] = &["matrix", "fail-fast", "max-parallel"];

impl Reader<'_> {
    /// `strategy` of a job.
    pub(crate) fn strategy(&mut self, node: &Node) -> Option<Template> {
        if node.scalar().is_some() {
            let template = self.scalar(node, place::STRATEGY);
            if !matches!(template.kind, Kind::Expression(_)) {
                self.wrong_type(node, "`strategy`", "a mapping");
            }
            return Some(template);
        }
        self.fields(node, "`strategy`", KEYS)?;
        let template = self.template(node, place::STRATEGY);
        // What holds expressions is checked when they have values; the rest is checked now.
        let literal = literal_part(&template);
        if let Ok(value) = template::evaluate(&literal, &Object::new()) {
            for problem in matrix::expand(&value).err().unwrap_or_default() {
                self.report(Diagnostic::error("matrix", locate(node, &problem.path), problem.message));
            }
        }
        Some(template)
    }
}

/// The known entries of `strategy` that hold no expression.
fn literal_part(template: &Template) -> Template {
    let Kind::Mapping(entries) = &template.kind else { return template.clone() };
    let literal = |(key, value): &&(Template, Template)| {
        key.as_str().is_some_and(|key| KEYS.contains(&key)) && !value.has_expression()
    };
    let kept = entries.iter().filter(literal).cloned().collect();
    Template { kind: Kind::Mapping(kept), ..*template }
}

/// The place a path leads to: the key of the last mapping on it, or the item of a list.
fn locate(strategy: &Node, path: &[Step]) -> Span {
    let (mut node, mut span) = (strategy, strategy.span);
    for step in path {
        match step {
            Step::Key(key) => {
                let entry = node.mapping().and_then(|entries| {
                    entries.iter().find(|entry| entry.key.text().is_some_and(|text| text.eq_ignore_ascii_case(key)))
                });
                let Some(entry) = entry else { return span };
                (node, span) = (&entry.value, entry.key.span);
            }
            Step::Index(index) => {
                let Some(item) = node.sequence().and_then(|items| items.get(*index)) else { return span };
                (node, span) = (item, item.span);
            }
        }
    }
    span
}
