//! Jobs.

use super::needs::Written;
use super::place::{self, Place};
use super::step::Owner;
use super::{Defaults, Job, Reader};
use crate::diagnostic::Diagnostic;
use crate::template::{Kind, Template};
use crate::yaml::{self, Entry, Literal, Node};

/// Most jobs of a workflow, before matrices are expanded.
const MAX_JOBS: usize = 1000;

const KEYS: &[&str] = &[
    "name",
    "needs",
    "if",
    "runs-on",
    "permissions",
    "environment",
    "concurrency",
    "outputs",
    "env",
    "defaults",
    "steps",
    "timeout-minutes",
    "cancel-timeout-minutes",
    "strategy",
    "continue-on-error",
    "container",
    "services",
    "snapshot",
    "uses",
    "with",
    "secrets",
];

impl Reader<'_> {
    /// `jobs`.
    pub(crate) fn jobs(&mut self, entry: &Entry) -> Vec<Job> {
        let Some(entries) = entry.value.mapping() else {
            self.wrong_type(&entry.value, "`jobs`", "a mapping of jobs");
            return Vec::new();
        };
        if entries.is_empty() {
            self.report(
                Diagnostic::error("value", entry.key.span, "`jobs` is empty")
                    .remedy("add a job with `runs-on` and `steps`"),
            );
        }
        if let Some(extra) = entries.get(MAX_JOBS) {
            let message = format!("the workflow has {} jobs; the limit is {MAX_JOBS}", entries.len());
            self.report(
                Diagnostic::error("value", extra.key.span, message).remedy("use a matrix, or several workflows"),
            );
            return Vec::new();
        }
        let ids: Vec<String> = entries.iter().filter_map(|job| job.key.text().map(str::to_owned)).collect();
        let (mut jobs, mut needs) = (Vec::new(), Vec::new());
        for entry in entries {
            if let Some((job, written)) = self.job(entry) {
                jobs.push(job);
                needs.push(written);
            }
        }
        self.resolve_needs(&mut jobs, &needs, &ids);
        jobs
    }

    fn job(&mut self, entry: &Entry) -> Option<(Job, Written)> {
        let id = entry.key.text()?.to_owned();
        self.check_id(&id, "job", entry.key.span);
        let what = format!("the job `{id}`");
        let fields = self.fields(&entry.value, &what, KEYS)?;
        let needs = self.needs(fields.get("needs"));
        self.names.needs = Some(needs.iter().map(|(name, _)| name.clone()).collect());
        self.refuse_unsupported(&fields, &id);
        let call = fields.entry("uses").and_then(|uses| self.call(uses, &fields));
        let calls = fields.entry("uses").is_some();

        let name = fields.given("name").and_then(|node| self.text(node, "`name`", place::JOB));
        let condition = self.condition(fields.get("if"), place::JOB_IF);
        let strategy = fields.given("strategy").and_then(|node| self.strategy(node));
        let runs_on = match fields.get("runs-on") {
            Some(node) => self.runs_on(node),
            None if calls || fields.is_misspelled("runs-on") => None,
            None => {
                self.missing(
                    entry.key.span,
                    "runs-on",
                    &what,
                    "say where it runs, for example `runs-on: ubuntu-latest`",
                );
                None
            }
        };
        let concurrency = fields.entry("concurrency").and_then(|entry| self.concurrency(entry, place::JOB));
        let timeout_minutes =
            fields.given("timeout-minutes").and_then(|node| self.minutes(node, "`timeout-minutes`", place::JOB));
        let cancel_timeout_minutes = fields
            .given("cancel-timeout-minutes")
            .and_then(|node| self.minutes(node, "`cancel-timeout-minutes`", place::JOB));
        let environment = fields.entry("environment").and_then(|entry| self.environment(entry));
        let continue_on_error =
            fields.given("continue-on-error").and_then(|node| self.boolean(node, "`continue-on-error`", place::JOB));
        let permissions = fields.given("permissions").and_then(|node| self.permissions(node));
        let env = fields.get("env").and_then(|node| self.flat_mapping(node, "`env`", place::JOB_ENV));
        let defaults = fields.given("defaults").map(|node| self.defaults(node, Some(place::JOB_DEFAULTS)));
        let container = fields.given("container").and_then(|node| self.container(node));
        let services = fields.given("services").and_then(|node| self.services(node));
        let steps = match fields.entry("steps") {
            Some(steps) => self.steps(steps, Owner::Job),
            None if calls || fields.is_misspelled("steps") => Vec::new(),
            None => {
                self.missing(entry.key.span, "steps", &what, "add `steps:` with at least one step");
                Vec::new()
            }
        };
        self.names.steps = fields.get("steps").map(step_ids);
        let outputs = fields.get("outputs").and_then(|node| self.outputs(node));
        self.names = super::reader::Names::default();
        let job = Job {
            id,
            span: entry.key.span,
            name,
            needs: Vec::new(),
            condition,
            strategy,
            call,
            runs_on: runs_on.unwrap_or_else(|| Template::new(Kind::Null)),
            concurrency,
            timeout_minutes,
            cancel_timeout_minutes,
            continue_on_error,
            environment,
            permissions,
            env,
            defaults: defaults.unwrap_or_default(),
            outputs,
            container,
            services,
            steps: steps.into(),
        };
        Some((job, needs))
    }

    /// Refuses what would otherwise run in a way that the file does not say.
    fn refuse_unsupported(&mut self, fields: &super::Fields<'_>, id: &str) {
        if fields.entry("uses").is_none() {
            for (key, remedy) in [("with", "steps have `with`"), ("secrets", "steps read `secrets` without it")] {
                if let Some(entry) = fields.entry(key) {
                    let message = format!("`{key}` of the job `{id}` belongs to jobs with `uses`");
                    self.report(Diagnostic::error("unknown-key", entry.key.span, message).remedy(remedy));
                }
            }
        }
        if let Some(entry) = fields.entry("snapshot") {
            self.unsupported(entry.key.span, &format!("`snapshot` of the job `{id}`"), "remove `snapshot`");
        }
    }

    /// `defaults` of a workflow (`place` is none: no expressions) or a job.
    pub(crate) fn defaults(&mut self, node: &Node, place: Option<Place>) -> Defaults {
        let run = self.fields(node, "`defaults`", &["run"]).and_then(|fields| fields.given("run"));
        let Some(fields) = run.and_then(|run| self.fields(run, "`defaults.run`", &["shell", "working-directory"]))
        else {
            return Defaults::default();
        };
        let mut read = |key: &str| {
            let value = fields.given(key)?;
            let what = format!("`{key}`");
            match place {
                Some(place) => self.text(value, &what, place),
                None => self.literal(value, &what).map(|text| super::reader::at(value, Kind::String(text))),
            }
        };
        Defaults { shell: read("shell"), working_directory: read("working-directory") }
    }

    fn outputs(&mut self, node: &Node) -> Option<Template> {
        if node.is_null() {
            return None;
        }
        for entry in node.mapping().unwrap_or_default() {
            if entry.key.text().is_some_and(|key| key.contains("${{")) {
                self.report(
                    Diagnostic::error(
                        "expression-not-allowed",
                        entry.key.span,
                        "the name of an output cannot be an expression",
                    )
                    .remedy("write the name out"),
                );
            }
        }
        if node.mapping().is_none() {
            self.wrong_type(node, "`outputs`", "a mapping of names to expressions");
            return None;
        }
        self.flat_mapping(node, "`outputs`", place::OUTPUTS)
    }

    fn runs_on(&mut self, node: &Node) -> Option<Template> {
        match &node.kind {
            yaml::Kind::Scalar(_) => self.label(node, "`runs-on`"),
            yaml::Kind::Sequence(items) => self.labels(node, items),
            yaml::Kind::Mapping(entries) => {
                let fields = self.fields(node, "`runs-on`", &["group", "labels"])?;
                if entries.is_empty() {
                    let span = node.span;
                    self.missing(span, "labels", "`runs-on`", "name the labels, the group, or both");
                    return None;
                }
                if let Some(group) = fields.get("group") {
                    self.label(group, "`group`");
                }
                match fields.get("labels").map(|labels| (labels, labels.sequence())) {
                    Some((labels, Some(items))) => {
                        self.labels(labels, items);
                    }
                    Some((labels, None)) => {
                        self.label(labels, "`labels`");
                    }
                    None => {}
                }
                Some(self.quietly(node))
            }
        }
    }

    fn labels(&mut self, node: &Node, items: &[Node]) -> Option<Template> {
        if items.is_empty() {
            self.report(
                Diagnostic::error("value", node.span, "`runs-on` names no label").remedy("name at least one label"),
            );
            return None;
        }
        for item in items {
            self.label(item, "a label of `runs-on`");
        }
        Some(self.quietly(node))
    }

    fn label(&mut self, node: &Node, what: &str) -> Option<Template> {
        let template = self.text(node, what, place::JOB)?;
        match (&template.kind, node.scalar().map(|scalar| scalar.literal)) {
            (Kind::Expression(_), _) => Some(template),
            (Kind::String(text), Some(Literal::String)) if !text.trim().is_empty() => Some(template),
            (_, Some(Literal::String)) => {
                self.report(Diagnostic::error("value", node.span, format!("{what} must not be empty")));
                None
            }
            (_, Some(Literal::Null)) => {
                self.wrong_type(node, what, "text");
                None
            }
            _ => {
                let text = node.text().unwrap_or_default();
                let message = format!("{what} must be text, not {}", node.describe());
                self.report(Diagnostic::error("type", node.span, message).remedy(format!("write '{text}'")));
                None
            }
        }
    }

    /// The template of what has been checked already.
    fn quietly(&mut self, node: &Node) -> Template {
        let before = self.findings.len();
        let template = self.template(node, place::JOB);
        self.findings.truncate(before);
        template
    }
}

/// The ids that steps carry.
fn step_ids(steps: &Node) -> Vec<String> {
    let items = steps.sequence().unwrap_or_default();
    items.iter().filter_map(|step| step.get("id")?.text().map(str::to_owned)).collect()
}
