//! Jobs that call another workflow: `uses`, `with`, `secrets`.

use std::sync::Arc;

use super::{Fields, FileName, Reader, Workflow, place};
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::template::{Kind, Template};
use crate::yaml::{Entry, Literal, Node};

/// A job's `uses`, and what it hands over.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The file, as it is seen from the root of the run once the call is linked.
    pub file: FileName,
    /// Where `uses` stands.
    pub(crate) span: Span,
    /// `with`, a mapping.
    pub with: Option<Template>,
    /// The entries of `with`, for findings.
    pub(crate) given: Vec<Given>,
    /// `secrets`.
    pub secrets: CallSecrets,
    /// The entries of `secrets`, for findings.
    pub(crate) given_secrets: Vec<Given>,
    /// The workflow that is called; absent until the call is linked.
    pub workflow: Option<Arc<Workflow>>,
}

/// `secrets` of a job that calls a workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum CallSecrets {
    /// None are handed over.
    None,
    /// `inherit`: all are.
    Inherit,
    /// These are, under these names.
    Mapping(Template),
}

/// An entry that is handed over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    /// Its name.
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) key: Span,
    /// Where the value stands.
    pub(crate) value: Span,
    /// What is written there, unless it is an expression.
    pub(crate) literal: Option<Literal>,
}

/// Keys of a job with `uses`.
const KEYS: &[&str] = &["name", "uses", "with", "secrets", "needs", "if", "permissions", "concurrency", "strategy"];

impl Reader<'_> {
    /// What a job calls. Keys that such a job cannot have are reported.
    pub(crate) fn call(&mut self, uses: &Entry, fields: &Fields<'_>) -> Option<Call> {
        for entry in fields.entries() {
            let key = entry.key.text().unwrap_or_default();
            if !KEYS.contains(&key) {
                let message = format!("a job with `uses` cannot have `{key}`");
                let remedy = format!("move `{key}` into the workflow that is called");
                self.report(Diagnostic::error("unknown-key", entry.key.span, message).remedy(remedy));
            }
        }
        let text = self.literal(&uses.value, "`uses`")?;
        let file = match FileName::parse(&text) {
            Ok(file) => file,
            Err(problem) => {
                let remedy = "write `./.github/workflows/name.yml` or `owner/repo/.github/workflows/name.yml@ref`";
                let message = format!("`{text}` is no workflow file: it {problem}");
                self.report(Diagnostic::error("uses", uses.value.span, message).remedy(remedy));
                return None;
            }
        };
        let with = fields.given("with");
        let given = with.map(entries).unwrap_or_default();
        let with = with.and_then(|node| self.flat_mapping(node, "`with`", place::JOB));
        let (secrets, given_secrets) = match fields.given("secrets") {
            None => (CallSecrets::None, Vec::new()),
            Some(node) if node.text() == Some("inherit") => (CallSecrets::Inherit, Vec::new()),
            Some(node) if node.mapping().is_some() => {
                let mapping = self.flat_mapping(node, "`secrets`", place::JOB_ENV);
                (mapping.map_or(CallSecrets::None, CallSecrets::Mapping), entries(node))
            }
            Some(node) => {
                self.wrong_type(node, "`secrets`", "`inherit` or a mapping");
                (CallSecrets::None, Vec::new())
            }
        };
        Some(Call { file, span: uses.value.span, with, given, secrets, given_secrets, workflow: None })
    }

    /// `outputs` of `workflow_call`: names and what they are.
    pub(crate) fn call_outputs(&mut self, node: &Node) -> Vec<(String, Template)> {
        let Some(entries) = node.mapping() else {
            self.wrong_type(node, "`outputs`", "a mapping of outputs");
            return Vec::new();
        };
        let mut outputs = Vec::new();
        for entry in entries {
            let Some(name) = self.literal(&entry.key, "the name of an output") else { continue };
            self.check_id(&name, "output", entry.key.span);
            let what = format!("the output `{name}`");
            let Some(fields) = self.fields(&entry.value, &what, &["description", "value"]) else { continue };
            let Some(value) = fields.get("value") else {
                self.missing(entry.key.span, "value", &what, "write `value: ${{ jobs.<job>.outputs.<name> }}`");
                continue;
            };
            outputs.extend(self.text(value, "`value`", place::CALL_OUTPUT).map(|value| (name, value)));
        }
        outputs
    }

    /// `secrets` of `workflow_call`: names and whether they are required.
    pub(crate) fn call_secrets(&mut self, node: &Node) -> Vec<DeclaredSecret> {
        let Some(entries) = node.mapping() else {
            self.wrong_type(node, "`secrets`", "a mapping of secrets");
            return Vec::new();
        };
        let mut secrets = Vec::new();
        for entry in entries {
            let Some(name) = self.literal(&entry.key, "the name of a secret") else { continue };
            self.check_id(&name, "secret", entry.key.span);
            let mut required = false;
            if !entry.value.is_null() {
                let what = format!("the secret `{name}`");
                let Some(fields) = self.fields(&entry.value, &what, &["description", "required"]) else { continue };
                let flag = fields.given("required");
                required = flag.and_then(|node| self.flag(node, "`required`")).unwrap_or_default();
            }
            secrets.push(DeclaredSecret { name, required });
        }
        secrets
    }
}

/// A secret that a called workflow takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredSecret {
    /// Name.
    pub name: String,
    /// Whether a caller must hand it over.
    pub required: bool,
}

/// The literally named entries of a mapping.
fn entries(node: &Node) -> Vec<Given> {
    let named = |entry: &Entry| {
        let name = entry.key.text().filter(|name| !name.contains("${{"))?;
        let scalar = entry.value.scalar();
        Some(Given {
            name: name.to_owned(),
            key: entry.key.span,
            value: entry.value.span,
            literal: scalar.filter(|scalar| !scalar.text.contains("${{")).map(|scalar| scalar.literal),
        })
    };
    node.mapping().unwrap_or_default().iter().filter_map(named).collect()
}

/// True if names cannot all be known before expressions have values.
pub(super) fn is_open(template: Option<&Template>) -> bool {
    match template.map(|template| &template.kind) {
        Some(Kind::Mapping(entries)) => entries.iter().any(|(key, _)| key.as_str().is_none()),
        Some(Kind::Expression(_)) => true,
        _ => false,
    }
}
