//! What expressions of a job can see.

use std::path::{Path, PathBuf};

use startline_protocol::context::ContextData;
use startline_protocol::job_message::JobMessage;
use startline_protocol::state::Conclusion;
use startline_protocol::template::{TemplateToken, TokenKind};
use startline_workflow::expression::{EvalError, Expression, Object, Scope, Value};
use startline_workflow::template::{self, Kind, Template};

use crate::hash_files::hash_files;

/// Contexts that stay the same for the whole job.
pub(crate) struct Contexts {
    /// `github` without what differs between steps.
    pub(crate) github: Object,
    pub(crate) runner: Object,
    /// What the service says of `job`; the status is added for each evaluation.
    job: Object,
    secrets: Value,
    /// `vars`, `needs`, `strategy`, `matrix` and `inputs`.
    fixed: Vec<(&'static str, Value)>,
}

impl Contexts {
    /// The contexts that come with a message.
    pub(crate) fn new(message: &JobMessage, secrets: Object) -> Self {
        let read = |name: &str| message.context_data.get(name).map_or(Value::Null, value);
        Self {
            github: object(read("github")),
            runner: Object::new(),
            job: object(read("job")),
            secrets: secrets.into(),
            fixed: ["vars", "needs", "strategy", "matrix", "inputs"].map(|name| (name, read(name))).to_vec(),
        }
    }

    /// Sets a member of the `job` context.
    pub(crate) fn set_job(&mut self, name: &str, value: Value) {
        self.job.insert(name, value);
    }

    /// Sets an entry of `job.services`.
    pub(crate) fn set_service(&mut self, name: &str, value: Value) {
        let mut services = object(self.job.get("services").cloned().unwrap_or(Value::Null));
        services.insert(name, value);
        self.job.insert("services", services.into());
    }

    /// A value among those that stay the same.
    pub(crate) fn fixed(&self, name: &str) -> Option<&Value> {
        self.fixed.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// What a job's own expressions see.
    pub(crate) fn view(&self, status: Conclusion) -> View {
        let mut job = self.job.clone();
        job.insert("status", Value::string(status.as_str()));
        let mut values = self.fixed.clone();
        values.push(("secrets", self.secrets.clone()));
        values.push(("github", self.github.clone().into()));
        values.push(("runner", self.runner.clone().into()));
        values.push(("job", job.into()));
        View { values, status: None, workspace: None }
    }
}

/// What one evaluation sees.
pub(crate) struct View {
    values: Vec<(&'static str, Value)>,
    /// What the status functions go by; without it there are none.
    status: Option<Status>,
    /// Where `hashFiles` looks; without it there is none.
    workspace: Option<PathBuf>,
}

/// What the status functions go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Of the steps so far: of the job, or of the composite action that the step belongs to.
    pub(crate) steps: Conclusion,
    /// The job is being cancelled.
    pub(crate) cancelled: bool,
}

impl View {
    /// Adds or replaces a context.
    pub(crate) fn set(&mut self, name: &'static str, value: Value) {
        self.remove(name);
        self.values.push((name, value));
    }

    /// Takes a context away, so that using it is an error.
    pub(crate) fn remove(&mut self, name: &str) {
        self.values.retain(|(known, _)| *known != name);
    }

    pub(crate) fn set_status(&mut self, status: Status) {
        self.status = Some(status);
    }

    pub(crate) fn set_workspace(&mut self, workspace: &Path) {
        self.workspace = Some(workspace.to_owned());
    }

    /// Whether a condition holds.
    pub(crate) fn holds(&self, condition: &str) -> Result<bool, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("The condition `{condition}` cannot be evaluated: {error}");
        let expression = Expression::parse(condition).map_err(|error| failed(&error))?;
        expression.evaluate(self).map(|value| value.truthy()).map_err(|error| failed(&error))
    }

    /// The value of a template; `what` names it in the error.
    pub(crate) fn evaluate(&self, what: &str, template: &Template) -> Result<Value, String> {
        template::evaluate(template, self).map_err(|error| match error.line {
            0 => format!("{what}: {error}"),
            line => format!("{what} (line {line}): {error}"),
        })
    }

    /// The text of a template.
    pub(crate) fn text(&self, what: &str, template: &Template) -> Result<String, String> {
        let value = self.evaluate(what, template)?;
        if !value.is_primitive() {
            return Err(format!("{what} must be text, but it is an {}", value.kind()));
        }
        Ok(value.to_text().into_owned())
    }

    /// The entries of a template that is a mapping of texts; of nothing, none.
    pub(crate) fn mapping(&self, what: &str, template: &Template) -> Result<Vec<(String, String)>, String> {
        match self.evaluate(what, template)? {
            Value::Null => Ok(Vec::new()),
            Value::Object(object) => object
                .iter()
                .map(|(name, value)| match value.is_primitive() {
                    true => Ok((name.to_owned(), value.to_text().into_owned())),
                    false => Err(format!("{what}.{name} must be text, but it is an {}", value.kind())),
                })
                .collect(),
            other => Err(format!("{what} must be a mapping, but it is a {}", other.kind())),
        }
    }
}

impl Scope for View {
    fn context(&self, name: &str) -> Option<Value> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        if name == "hashfiles" {
            let workspace = self.workspace.as_deref()?;
            let patterns: Vec<String> = arguments.iter().map(|argument| argument.to_text().into_owned()).collect();
            let hash = hash_files(workspace, &patterns);
            return Some(hash.map(Value::from).map_err(|message| EvalError::function("hashFiles", message)));
        }
        let status = self.status?;
        let holds = match name {
            "always" => true,
            "success" => status.steps == Conclusion::Success,
            "failure" => status.steps == Conclusion::Failure,
            "cancelled" => status.cancelled,
            _ => return None,
        };
        Some(Ok(holds.into()))
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => (*object).clone(),
        _ => Object::new(),
    }
}

/// A context value of the wire.
pub(crate) fn value(data: &ContextData) -> Value {
    match data {
        ContextData::Null => Value::Null,
        ContextData::Bool(value) => Value::Bool(*value),
        ContextData::Number(value) => Value::Number(*value),
        ContextData::String(text) => Value::string(text.as_str()),
        ContextData::Array(items) => Value::array(items.iter().map(value).collect()),
        ContextData::Dictionary(entries) => {
            Value::object(entries.iter().map(|(key, entry)| (key.as_str(), value(entry))))
        }
    }
}

/// A template of the wire.
pub(crate) fn lower(token: &TemplateToken) -> Template {
    let kind = match &token.kind {
        TokenKind::String(text) => Kind::String(text.clone()),
        TokenKind::Sequence(items) => Kind::Sequence(items.iter().map(lower).collect()),
        TokenKind::Mapping(entries) => {
            Kind::Mapping(entries.iter().map(|(key, value)| (lower(key), lower(value))).collect())
        }
        TokenKind::Expression(text) => Kind::Expression(text.clone()),
        TokenKind::Insert => Kind::Insert,
        TokenKind::Boolean(value) => Kind::Bool(*value),
        TokenKind::Number(value) => Kind::Number(*value),
        TokenKind::Null => Kind::Null,
    };
    Template { kind, line: token.position.line, column: token.position.column }
}

/// The `github` values that are exported as `GITHUB_*` (actions/runner `Runner.Worker/GitHubContext.cs`); numbers
/// and collections are not.
const EXPORTED: [&str; 37] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "actor_id",
    "api_url",
    "base_ref",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
    "env",
    "output",
    "path",
    "state",
    "step_summary",
];

/// The variables that a `github` context is exported as.
pub(crate) fn exported(github: &Object) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for name in EXPORTED {
        if let Some(value @ (Value::String(_) | Value::Bool(_))) = github.get(name) {
            variables.push((format!("GITHUB_{}", name.to_ascii_uppercase()), value.to_text().into_owned()));
        }
    }
    variables
}
