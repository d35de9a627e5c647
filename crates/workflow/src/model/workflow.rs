//! The top level of a workflow file.

use super::{Reader, Workflow, place};
use crate::yaml::Node;

const KEYS: &[&str] =
    &["name", "description", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Workflow> {
    let fields = reader.fields(node, "a workflow", KEYS)?;
    let name = fields.given("name").and_then(|node| reader.literal(node, "`name`"));
    if let Some(description) = fields.given("description").filter(|node| node.scalar().is_none()) {
        reader.wrong_type(description, "`description`", "text");
    }
    let run_name = fields.given("run-name").and_then(|node| reader.text(node, "`run-name`", place::RUN));
    let start = node.mapping().and_then(|entries| entries.first()).map_or(node.span, |entry| entry.key.span);
    let on = match fields.entry("on") {
        Some(entry) => reader.triggers(entry),
        None if fields.is_misspelled("on") => super::Triggers::default(),
        None => {
            reader.missing(start, "on", "the workflow", "say what starts it, for example `on: push`");
            super::Triggers::default()
        }
    };
    let permissions = fields.given("permissions").and_then(|node| reader.permissions(node));
    let env = fields.get("env").and_then(|node| reader.flat_mapping(node, "`env`", place::WORKFLOW_ENV));
    let defaults = fields.given("defaults").map(|node| reader.defaults(node, None)).unwrap_or_default();
    let concurrency = fields.entry("concurrency").and_then(|entry| reader.concurrency(entry, place::RUN));
    let jobs = match fields.entry("jobs") {
        Some(entry) => reader.jobs(entry),
        None if fields.is_misspelled("jobs") => Vec::new(),
        None => {
            reader.missing(start, "jobs", "the workflow", "add `jobs:` with at least one job");
            Vec::new()
        }
    };
    Some(Workflow { name, run_name, on, env, defaults, permissions, concurrency, jobs })
}
