//! `concurrency` of workflows and jobs.

use super::place::Place;
use super::{Fields, Reader};
use crate::diagnostic::Diagnostic;
use crate::template::{Kind, Template};
use crate::yaml::{Entry, Node};

/// Most characters of a group's name (actions/runner `Sdk/WorkflowParser/Conversion/WorkflowTemplateConverter.cs`,
/// `ConvertToConcurrency`).
pub(crate) const LONGEST_GROUP: usize = 400;

/// `concurrency`, unevaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// `group`.
    pub group: Template,
    /// `cancel-in-progress`.
    pub cancel_in_progress: Option<Template>,
    /// `queue`.
    pub queue: Queue,
}

/// How many may wait for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// One: who comes takes the place of who waits.
    #[default]
    Single,
    /// A hundred: who comes when so many wait is cancelled.
    Max,
}

impl Reader<'_> {
    /// `concurrency` of a workflow or a job.
    pub(crate) fn concurrency(&mut self, entry: &Entry, place: Place) -> Option<Concurrency> {
        let node = &entry.value;
        if node.mapping().is_none() {
            let group = self.group(node, "`concurrency`", place)?;
            return Some(Concurrency { group, cancel_in_progress: None, queue: Queue::Single });
        }
        let fields = self.fields(node, "`concurrency`", &["group", "cancel-in-progress", "queue"])?;
        let group = match fields.get("group") {
            Some(group) => self.group(group, "`group`", place),
            None if fields.is_misspelled("group") => None,
            None => {
                self.missing(entry.key.span, "group", "`concurrency`", "name the group");
                None
            }
        };
        let cancel_in_progress =
            fields.given("cancel-in-progress").and_then(|node| self.boolean(node, "`cancel-in-progress`", place));
        let queue = self.queue(&fields, cancel_in_progress.as_ref());
        Some(Concurrency { group: group?, cancel_in_progress, queue })
    }

    fn group(&mut self, node: &Node, what: &str, place: Place) -> Option<Template> {
        let group = self.text(node, what, place)?;
        let checked = match &group.kind {
            Kind::Null => check(""),
            Kind::String(text) => check(text),
            _ => Ok(()),
        };
        match checked {
            Ok(()) => Some(group),
            Err(problem) => {
                self.report(Diagnostic::error("value", node.span, format!("{what} {problem}")));
                None
            }
        }
    }

    fn queue(&mut self, fields: &Fields<'_>, cancel: Option<&Template>) -> Queue {
        let Some(entry) = fields.entry("queue") else { return Queue::Single };
        match entry.value.text() {
            Some("single") => Queue::Single,
            Some("max") => {
                if cancel.is_some_and(|cancel| cancel.kind == Kind::Bool(true)) {
                    let message = "`queue: max` and `cancel-in-progress: true` exclude each other";
                    self.report(Diagnostic::error("value", entry.key.span, message).remedy("leave one of them out"));
                }
                Queue::Max
            }
            _ => {
                let message = "`queue` must be `single` or `max`";
                self.report(
                    Diagnostic::error("value", entry.value.span, message).remedy("write it out, without an expression"),
                );
                Queue::Single
            }
        }
    }
}

/// Refuses what cannot be a group's name.
pub(crate) fn check(group: &str) -> Result<(), String> {
    let length = group.chars().count();
    if group.is_empty() {
        Err("must not be empty".to_owned())
    } else if length > LONGEST_GROUP {
        Err(format!("has {length} characters; a group's name has at most {LONGEST_GROUP}"))
    } else {
        Ok(())
    }
}
