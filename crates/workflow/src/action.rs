//! `action.yml`: what an action is.
//!
//! Keys and contexts are those of actions/runner `Runner.Worker/action_yaml.json`.

use crate::diagnostic::{self, Diagnostic};
use crate::model::reader::Reader;
use crate::model::step::Owner;
use crate::model::{CompiledStep, Fields, place};
use crate::template::Template;
use crate::yaml::{self, Node};

mod docker;

pub use docker::{DockerAction, DockerImage};

/// File names of an action's manifest, in the order in which they are looked for.
pub const FILE_NAMES: [&str; 2] = ["action.yml", "action.yaml"];

/// An action.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `name`.
    pub name: Option<String>,
    /// `inputs` in the order of the file; names are compared without case.
    pub inputs: Vec<ActionInput>,
    /// `outputs` of a composite action in the order of the file.
    pub outputs: Vec<ActionOutput>,
    /// `runs`.
    pub runs: Runs,
}

/// An input of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionInput {
    /// Name.
    pub name: String,
    /// `default`.
    pub default: Option<Template>,
    /// `required`; a missing value is empty all the same, as on GitHub.
    pub required: bool,
    /// `deprecationMessage`: shown when the input is given.
    pub deprecation: Option<String>,
}

/// An output of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionOutput {
    /// Name.
    pub name: String,
    /// `value`, evaluated after the last step.
    pub value: Template,
}

/// How an action runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Runs {
    /// `using: composite`.
    Composite {
        /// Steps; never empty. Scripts always have a `shell`.
        steps: Vec<CompiledStep>,
    },
    /// `using: node…`.
    Node(NodeAction),
    /// `using: docker`.
    Docker(DockerAction),
}

/// A JavaScript action. Its files are named relative to the action's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAction {
    /// Which major version of Node.js it was made for.
    pub version: u32,
    /// `main`.
    pub main: String,
    /// `pre`: runs before all steps of the job.
    pub pre: Option<String>,
    /// `pre-if` as expression text; `always()` where there is none.
    pub pre_if: String,
    /// `post`: runs after all steps of the job.
    pub post: Option<String>,
    /// `post-if` as expression text; `always()` where there is none.
    pub post_if: String,
}

/// Reads the manifest of an action.
///
/// The manifest is absent when any finding is an error. Findings are sorted by place.
#[must_use]
pub fn parse(source: &str) -> (Option<Manifest>, Vec<Diagnostic>) {
    let (node, findings) = yaml::parse(source);
    let mut reader = Reader::new(source, findings);
    let manifest = node.and_then(|node| read(&mut reader, &node));
    let findings = diagnostic::finish(reader.findings);
    let usable = !findings.iter().any(Diagnostic::is_error);
    (manifest.filter(|_| usable), findings)
}

const KEYS: &[&str] = &["name", "description", "author", "inputs", "outputs", "runs", "branding"];

fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Manifest> {
    let fields = reader.open_fields(node, "an action", KEYS)?;
    let name = fields.given("name").and_then(|node| reader.literal(node, "`name`"));
    let inputs = fields.given("inputs").map(|node| inputs(reader, node)).unwrap_or_default();
    let Some(runs) = fields.entry("runs") else {
        let start = node.mapping().and_then(|entries| entries.first()).map_or(node.span, |entry| entry.key.span);
        reader.missing(
            start,
            "runs",
            "the action",
            "add `runs:` with `using: composite` and `steps`, or `using: node20` and `main`",
        );
        return None;
    };
    let runs_as = how(reader, runs);
    reader.names.steps = runs.value.get("steps").map(|steps| {
        let items = steps.sequence().unwrap_or_default();
        items.iter().filter_map(|step| step.get("id")?.text().map(str::to_owned)).collect()
    });
    // Those of a script are what it sets, and only described.
    let composite = !matches!(runs_as, Some(Runs::Node(_) | Runs::Docker(_)));
    let given = fields.given("outputs").filter(|_| composite);
    let outputs = given.map(|node| outputs(reader, node)).unwrap_or_default();
    Some(Manifest { name, inputs, outputs, runs: runs_as? })
}

fn how(reader: &mut Reader<'_>, runs: &yaml::Entry) -> Option<Runs> {
    let node = &runs.value;
    if node.mapping().is_none() {
        reader.wrong_type(node, "`runs`", "a mapping");
        return None;
    }
    let Some(using) = node.get("using") else {
        reader.missing(runs.key.span, "using", "`runs`", "add `using: composite` or `using: node20`");
        return None;
    };
    let text = reader.literal(using, "`using`")?;
    match text.as_str() {
        "composite" => composite(reader, runs).map(|steps| Runs::Composite { steps }),
        "node12" | "node16" | "node20" | "node24" => {
            script(reader, runs, text.trim_start_matches("node").parse().unwrap_or_default()).map(Runs::Node)
        }
        "docker" => docker::read(reader, runs).map(Runs::Docker),
        other => {
            let message = format!("`using` cannot be `{other}`");
            let remedy = "write `using: composite`, `using: node20` or `node24` for JavaScript, or `using: docker`";
            reader.report(Diagnostic::error("value", using.span, message).remedy(remedy));
            None
        }
    }
}

fn composite(reader: &mut Reader<'_>, runs: &yaml::Entry) -> Option<Vec<CompiledStep>> {
    let fields = reader.fields(&runs.value, "`runs`", &["using", "steps"])?;
    let Some(steps) = fields.entry("steps") else {
        reader.missing(runs.key.span, "steps", "`runs`", "add `steps:` with at least one step");
        return None;
    };
    Some(reader.steps(steps, Owner::Action))
}

fn script(reader: &mut Reader<'_>, runs: &yaml::Entry, version: u32) -> Option<NodeAction> {
    let fields = reader.fields(&runs.value, "`runs`", &["using", "main", "pre", "pre-if", "post", "post-if"])?;
    let mut file = |key: &str| fields.given(key).and_then(|node| reader.literal(node, &format!("`{key}`")));
    let (pre, main, post) = (file("pre"), file("main"), file("post"));
    if fields.given("main").is_none() {
        reader.missing(runs.key.span, "main", "`runs`", "add `main:` with the JavaScript file to run");
    }
    let pre_if = reader.bare_condition(fields.get("pre-if"), "`pre-if`");
    let post_if = reader.bare_condition(fields.get("post-if"), "`post-if`");
    Some(NodeAction { version, main: main?, pre, pre_if, post, post_if })
}

fn inputs(reader: &mut Reader<'_>, node: &Node) -> Vec<ActionInput> {
    let Some(entries) = node.mapping() else {
        reader.wrong_type(node, "`inputs`", "a mapping of inputs");
        return Vec::new();
    };
    let mut inputs = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(name) = reader.literal(&entry.key, "the name of an input") else { continue };
        let mut input = ActionInput { name, default: None, required: false, deprecation: None };
        if !entry.value.is_null() {
            let what = format!("the input `{}`", input.name);
            let keys = ["description", "required", "default", "deprecationMessage", "type"];
            let Some(fields) = reader.open_fields(&entry.value, &what, &keys) else { continue };
            input.default =
                fields.given("default").and_then(|node| reader.text(node, "`default`", place::ACTION_INPUT));
            input.required =
                fields.given("required").and_then(Node::text).is_some_and(|text| text.eq_ignore_ascii_case("true"));
            input.deprecation = fields.given("deprecationMessage").and_then(Node::text).map(str::to_owned);
        }
        inputs.push(input);
    }
    inputs
}

fn outputs(reader: &mut Reader<'_>, node: &Node) -> Vec<ActionOutput> {
    let Some(entries) = node.mapping() else {
        reader.wrong_type(node, "`outputs`", "a mapping of outputs");
        return Vec::new();
    };
    let mut outputs = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(name) = reader.literal(&entry.key, "the name of an output") else { continue };
        let what = format!("the output `{name}`");
        let fields: Option<Fields<'_>> = reader.fields(&entry.value, &what, &["description", "value"]);
        let Some(fields) = fields else { continue };
        let Some(value) = fields.get("value") else {
            reader.missing(entry.key.span, "value", &what, "add `value: ${{ steps.<id>.outputs.<name> }}`");
            continue;
        };
        if let Some(value) = reader.text(value, "`value`", place::ACTION_OUTPUT) {
            outputs.push(ActionOutput { name, value });
        }
    }
    outputs
}
