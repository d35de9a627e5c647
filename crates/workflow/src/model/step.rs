//! Steps of jobs and of composite actions.

use super::Reader;
use super::id::ContextNames;
use super::place::{self, Place};
use super::reader::at;
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::template::{Kind, Template};
use crate::yaml::{Entry, Node};

const KEYS: &[&str] = &[
    "id",
    "if",
    "name",
    "uses",
    "run",
    "with",
    "env",
    "continue-on-error",
    "timeout-minutes",
    "shell",
    "working-directory",
];
/// Steps of composite actions have no time-out of their own (actions/runner `Runner.Worker/action_yaml.json`).
const ACTION_KEYS: &[&str] =
    &["id", "if", "name", "uses", "run", "with", "env", "continue-on-error", "shell", "working-directory"];

/// A step, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct CompiledStep {
    /// Its key in the `steps` context: the `id`, or a generated name that begins with `__` and is not shown there.
    pub context_name: String,
    /// What it runs.
    pub reference: Reference,
    /// `if` as expression text; never empty.
    pub condition: String,
    /// A mapping: for scripts `script` and, if given, `shell` and `workingDirectory`; for actions what `with` says.
    pub inputs: Template,
    /// `env`.
    pub env: Option<Template>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Template>,
    /// `name`.
    pub name: Option<Template>,
}

/// What a step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `run`.
    Script,
    /// `uses: ./path`.
    Local {
        /// The path as it was written, with `./`.
        path: String,
    },
    /// `uses: owner/name[/path]@ref`.
    Repository {
        /// `owner/name`.
        name: String,
        /// What follows the `@`.
        git_ref: String,
        /// The directory inside, if one is named.
        path: Option<String>,
    },
    /// `uses: docker://image`.
    Docker {
        /// The image, without the scheme.
        image: String,
    },
}

impl Reference {
    /// What generated names begin with (actions/runner
    /// `Sdk/DTPipelines/Pipelines/ObjectTemplating/PipelineTemplateConverter.cs`).
    fn base(&self) -> String {
        // Names have fewer than 100 characters, and a number may follow.
        let plain = |text: &str| -> String {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            text.chars().map(|c| if legal(c) { c } else { '_' }).take(90).collect()
        };
        match self {
            Self::Script => "__run".to_owned(),
            Self::Local { .. } => "__self".to_owned(),
            Self::Repository { name, .. } => format!("__{}", plain(name)),
            Self::Docker { image } => format!("__{}", plain(image)),
        }
    }
}

/// Where steps stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Job,
    Action,
}

impl Owner {
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Job => KEYS,
            Self::Action => ACTION_KEYS,
        }
    }

    const fn condition(self) -> Place {
        match self {
            Self::Job => place::STEP_IF,
            Self::Action => place::ACTION_STEP_IF,
        }
    }

    const fn place(self) -> Place {
        match self {
            Self::Job => place::STEP,
            Self::Action => place::ACTION_STEP,
        }
    }
}

impl Reader<'_> {
    /// The steps of a job or an action. `key` is where `steps` stands.
    pub(crate) fn steps(&mut self, entry: &Entry, owner: Owner) -> Vec<CompiledStep> {
        let Some(items) = entry.value.sequence() else {
            self.wrong_type(&entry.value, "`steps`", "a list");
            return Vec::new();
        };
        if items.is_empty() {
            self.report(
                Diagnostic::error("value", entry.key.span, "`steps` is empty")
                    .remedy("add a step: `- run: echo hello`"),
            );
        }
        let mut names = ContextNames::default();
        let ids = self.register_ids(items, &mut names);
        self.names.steps = Some(ids);
        let steps = items.iter().filter_map(|item| self.step(item, owner, &mut names)).collect();
        self.names.steps = None;
        steps
    }

    fn register_ids(&mut self, items: &[Node], names: &mut ContextNames) -> Vec<String> {
        let mut places: Vec<(String, Span)> = Vec::new();
        for node in items.iter().filter_map(|item| item.get("id")) {
            let Some(id) = self.literal(node, "`id`") else { continue };
            if !self.check_id(&id, "step", node.span) {
                continue;
            }
            if !names.register(&id) {
                let first = places.iter().find(|(known, _)| known.eq_ignore_ascii_case(&id)).map(|(_, span)| *span);
                let mut finding =
                    Diagnostic::error("duplicate-id", node.span, format!("the step id `{id}` is used twice"))
                        .remedy("rename one of the two");
                if let Some(first) = first {
                    finding = finding.note_at(first, "it is first used here; upper and lower case make no difference");
                }
                self.report(finding);
                continue;
            }
            places.push((id, node.span));
        }
        places.into_iter().map(|(id, _)| id).collect()
    }

    fn step(&mut self, node: &Node, owner: Owner, names: &mut ContextNames) -> Option<CompiledStep> {
        let place = owner.place();
        let fields = self.fields(node, "a step", owner.keys())?;
        let reference = match (fields.entry("run"), fields.entry("uses")) {
            (Some(_), None) => Some(Reference::Script),
            (None, Some(uses)) => self.uses(&uses.value),
            (Some(_), Some(uses)) => {
                self.report(
                    Diagnostic::error("step", uses.key.span, "a step has either `run` or `uses`, not both")
                        .remedy("split it into two steps"),
                );
                None
            }
            (None, None) if fields.is_misspelled("run") || fields.is_misspelled("uses") => None,
            (None, None) => {
                let span = node.mapping().and_then(<[Entry]>::first).map_or(node.span, |entry| entry.key.span);
                self.missing(
                    span,
                    "run` or `uses",
                    "the step",
                    "add `run: …` with a script, or `uses: ./path` with an action",
                );
                None
            }
        };
        let script = fields.get("run").is_some();
        let stray: &[&str] = if script { &["with"] } else { &["shell", "working-directory"] };
        for entry in stray.iter().filter_map(|key| fields.entry(key)) {
            let key = entry.key.text().unwrap_or_default();
            let other = if script { "uses" } else { "run" };
            self.report(
                Diagnostic::error("step", entry.key.span, format!("`{key}` belongs to steps with `{other}`"))
                    .remedy(if script { "pass values to a script with `env`" } else { "remove it" }),
            );
        }
        let condition = self.condition(fields.get("if"), owner.condition());
        let inputs = if script {
            self.script_inputs(node, &fields, owner)
        } else {
            fields
                .get("with")
                .and_then(|with| self.flat_mapping(with, "`with`", place))
                .unwrap_or_else(|| at(node, Kind::Mapping(Vec::new())))
        };
        let env = fields.get("env").and_then(|env| self.flat_mapping(env, "`env`", place));
        let continue_on_error =
            fields.given("continue-on-error").and_then(|node| self.boolean(node, "`continue-on-error`", place));
        let timeout_minutes =
            fields.given("timeout-minutes").and_then(|node| self.minutes(node, "`timeout-minutes`", place));
        let name = fields.given("name").and_then(|node| self.text(node, "`name`", place));
        let reference = reference?;
        let id = fields.given("id").and_then(Node::text).filter(|id| super::id::problem(id).is_none());
        let context_name = match id {
            Some(id) => id.to_owned(),
            None => names.generate(&reference.base()),
        };
        Some(CompiledStep { context_name, reference, condition, inputs, env, continue_on_error, timeout_minutes, name })
    }

    fn script_inputs(&mut self, node: &Node, fields: &super::Fields<'_>, owner: Owner) -> Template {
        let place = owner.place();
        let mut entries = Vec::new();
        if let Some(run) = fields.get("run") {
            if run.is_null() {
                self.wrong_type(run, "`run`", "a script");
            } else if let Some(script) = self.text(run, "`run`", place) {
                entries.push((Template::string("script"), script));
            }
        }
        match (fields.given("shell"), owner) {
            // Plain text in the official schema: which shell runs cannot depend on a value.
            (Some(shell), Owner::Job) => {
                if let Some(text) = self.literal(shell, "`shell`") {
                    entries.push((Template::string("shell"), at(shell, Kind::String(text))));
                }
            }
            (Some(shell), Owner::Action) => {
                if let Some(template) = self.text(shell, "`shell`", place) {
                    entries.push((Template::string("shell"), template));
                }
            }
            (None, Owner::Action) => {
                let span = fields.entry("run").map_or(node.span, |entry| entry.key.span);
                self.missing(
                    span,
                    "shell",
                    "a `run` step of an action",
                    "add `shell: bash`; actions have no default shell",
                );
            }
            (None, Owner::Job) => {}
        }
        // Its mere presence, even empty, hides the job's default (actions/runner Runner.Worker/Handlers/ScriptHandler.cs).
        if let Some(template) =
            fields.get("working-directory").and_then(|node| self.text(node, "`working-directory`", place))
        {
            entries.push((Template::string("workingDirectory"), template));
        }
        at(node, Kind::Mapping(entries))
    }

    fn uses(&mut self, node: &Node) -> Option<Reference> {
        let uses = self.literal(node, "`uses`")?;
        if uses.starts_with("./") || uses.starts_with(".\\") {
            return Some(Reference::Local { path: uses });
        }
        let reference = match uses.strip_prefix("docker://") {
            Some(image) => Some(Reference::Docker { image: image.to_owned() }).filter(|_| !image.trim().is_empty()),
            None => remote(&uses),
        };
        if reference.is_none() {
            self.report(Diagnostic::error("uses", node.span, format!("`{uses}` does not name an action")).remedy(
                "write `owner/repository@ref`, `owner/repository/path@ref`, or `./path` for an action of this repository",
            ));
        }
        reference
    }
}

/// `owner/name[/path]@ref` (actions/runner `Sdk/DTPipelines/Pipelines/ObjectTemplating/PipelineTemplateConverter.cs`).
fn remote(uses: &str) -> Option<Reference> {
    let (whole, git_ref) = uses.split_once('@')?;
    let mut parts = whole.split('/');
    let named = |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains(char::is_whitespace);
    let owner = parts.next().filter(named)?;
    let name = parts.next().filter(named)?;
    let path: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if git_ref.is_empty() || git_ref.contains(char::is_whitespace) || path.contains(&"..") {
        return None;
    }
    Some(Reference::Repository {
        name: format!("{owner}/{name}"),
        git_ref: git_ref.to_owned(),
        path: (!path.is_empty()).then(|| path.join("/")),
    })
}
