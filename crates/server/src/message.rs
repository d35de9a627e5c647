//! Lowers a compiled job to the job message of the wire.
//!
//! The compiler's room knows nothing of the wire, and the wire's nothing of the compiler; this is the one place where
//! they meet. Shapes follow actions/runner `AgentJobRequestMessage` (see `startline_protocol::job_message`).

mod bound;

use std::collections::BTreeMap;

use startline_protocol::context::ContextData;
use startline_protocol::job_message::{
    ActionStep, ActionsEnvironment, CANCEL_TIMEOUT, JobMessage, MESSAGE_TYPE, Plan, Resources, StepKind, StepReference,
    Timeline, Variable,
};
use startline_protocol::runs_api::JobDefinition;
use startline_protocol::template::{Position, TemplateToken, TokenKind};
use startline_workflow::expression::Value;
use startline_workflow::model::{Access, CompiledStep, FileName, Permissions, Reference, RepositoryRef};
use startline_workflow::plan::{DEFAULT_CANCEL_TIMEOUT_MINUTES, JobInstance};
use startline_workflow::template::{Kind, Template};
use uuid::Uuid;

pub(crate) use bound::Bound;

/// What a message takes from its run.
pub(crate) struct RunPart<'a> {
    pub plan_id: Uuid,
    pub path: &'a str,
    pub github: &'a Value,
    pub variables: &'a Value,
    /// Environment of the submission; wins over the workflow's and the job's.
    pub env: &'a BTreeMap<String, String>,
}

/// A message as it is stored.
pub(crate) fn stored(message: &JobMessage) -> String {
    // The smallest has some three thousand bytes.
    let mut text = Vec::with_capacity(4096);
    let written = serde_json::to_writer(&mut text, message);
    written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
}

/// The variable that says what the job's token may do (actions/runner `JobExtension.cs` prints it).
pub(crate) const PERMISSIONS: &str = "system.github.token.permissions";

/// The variables that name the file of a job, where that was called by another one: `owner/repo/path`, ref and commit
/// (actions/runner `JobExtension.cs` prints them). The commit of another repository is known when the ref is one.
pub(crate) const FILE_PATH: &str = "system.workflowFileFullPath";
pub(crate) const FILE_REF: &str = "system.workflowFileRef";
pub(crate) const FILE_SHA: &str = "system.workflowFileSha";

/// The message of one job, without secrets, endpoints or job GUID: those belong to an attempt.
pub(crate) fn compile(run: &RunPart<'_>, job: &JobInstance) -> JobMessage {
    let mut environment: Vec<TemplateToken> = job.env.iter().map(token).collect();
    if !run.env.is_empty() {
        environment.push(TemplateToken::mapping(
            run.env.iter().map(|(k, v)| (TemplateToken::string(k), TemplateToken::string(v))).collect(),
        ));
    }
    let place = Place::of(run, job.file.as_ref());
    let name = if job.total > 1 { format!("{}_{}", job.key, job.index) } else { "__default".to_owned() };
    JobMessage {
        message_type: MESSAGE_TYPE.to_owned(),
        plan: Plan { plan_id: run.plan_id, plan_type: "actions".to_owned(), version: 0 },
        timeline: Timeline { id: run.plan_id, change_id: 0 },
        job_id: Uuid::nil(),
        job_display_name: job.name.clone(),
        job_name: name.clone(),
        request_id: 0,
        resources: Resources::default(),
        variables: {
            let mut all = variables(run.plan_id, &job.key, &job.id, &name);
            all.extend(job.permissions.as_ref().map(permissions));
            all.extend(cancel_timeout(job.cancel_timeout_minutes));
            all.extend(job.file.iter().flat_map(|_| place.variables()));
            all
        },
        context_data: BTreeMap::from([
            ("github".to_owned(), context(run.github)),
            ("job".to_owned(), place.context()),
            ("inputs".to_owned(), context(&job.inputs)),
            ("vars".to_owned(), context(run.variables)),
            ("needs".to_owned(), context(&job.needs)),
            ("strategy".to_owned(), context(&job.strategy)),
            ("matrix".to_owned(), context(&job.matrix)),
        ]),
        steps: job.steps.iter().map(step).collect(),
        environment_variables: environment,
        defaults: job.defaults.iter().map(token).collect(),
        job_outputs: job.outputs.as_ref().map(token),
        actions_environment: job.environment.as_ref().map(|environment| ActionsEnvironment {
            name: environment.name.clone(),
            url: environment.url.as_ref().map(token),
        }),
        job_container: job.container.as_ref().map(token),
        job_service_containers: job.services.as_ref().map(token),
        mask: Vec::new(),
        file_table: vec![job.file.as_ref().map_or_else(|| run.path.to_owned(), ToString::to_string)],
    }
}

/// The workflow file that a job stands in.
struct Place {
    repository: String,
    path: String,
    git_ref: String,
    /// Empty for a file of another repository whose ref is no commit.
    sha: String,
}

impl Place {
    fn of(run: &RunPart<'_>, called: Option<&FileName>) -> Self {
        let of_run = |name: &str| run.github.get(name).map(|value| value.to_text().into_owned()).unwrap_or_default();
        let path = called.map_or(run.path, |file| &file.path).to_owned();
        match called.and_then(|file| file.repository.as_ref()) {
            None => Self { repository: of_run("repository"), path, git_ref: of_run("ref"), sha: of_run("sha") },
            Some(RepositoryRef { name, git_ref }) => {
                let is_commit = git_ref.len() == 40 && git_ref.bytes().all(|byte| byte.is_ascii_hexdigit());
                let sha = if is_commit { git_ref.clone() } else { String::new() };
                Self { repository: name.clone(), path, git_ref: git_ref.clone(), sha }
            }
        }
    }

    /// The worker adds the job's status and containers to it (actions/runner `ExecutionContext.cs`, `InitializeJob`).
    fn context(&self) -> ContextData {
        let Self { repository, path, git_ref, sha } = self;
        let text = |text: &str| ContextData::String(text.to_owned());
        ContextData::Dictionary(vec![
            ("workflow_ref".to_owned(), text(&format!("{repository}/{path}@{git_ref}"))),
            ("workflow_sha".to_owned(), text(sha)),
            ("workflow_repository".to_owned(), text(repository)),
            ("workflow_file_path".to_owned(), text(path)),
        ])
    }

    fn variables(&self) -> [(String, Variable); 3] {
        let path = format!("{}/{}", self.repository, self.path);
        [(FILE_PATH, path), (FILE_REF, self.git_ref.clone()), (FILE_SHA, self.sha.clone())]
            .map(|(name, value)| (name.to_owned(), Variable { value, is_secret: false }))
    }
}

/// The message of a job that was submitted without a workflow. The contexts that it lacks are added when it is acquired.
pub(crate) fn single(plan_id: Uuid, key: &str, name: &str, definition: JobDefinition) -> JobMessage {
    let mut all = variables(plan_id, key, key, "__default");
    all.extend(definition.variables);
    JobMessage {
        message_type: MESSAGE_TYPE.to_owned(),
        plan: Plan { plan_id, plan_type: "actions".to_owned(), version: 0 },
        timeline: Timeline { id: plan_id, change_id: 0 },
        job_id: Uuid::nil(),
        job_display_name: name.to_owned(),
        job_name: "__default".to_owned(),
        request_id: 0,
        resources: Resources::default(),
        variables: all,
        context_data: definition.context_data,
        steps: definition.steps,
        environment_variables: definition.environment_variables,
        defaults: definition.defaults,
        job_outputs: definition.job_outputs,
        actions_environment: None,
        job_container: None,
        job_service_containers: None,
        mask: Vec::new(),
        file_table: Vec::new(),
    }
}

/// `id` is the job's in its file; `name` tells the combinations of a matrix apart.
fn variables(plan_id: Uuid, key: &str, id: &str, name: &str) -> BTreeMap<String, Variable> {
    let plain = |value: &str| Variable { value: value.to_owned(), is_secret: false };
    BTreeMap::from([
        ("system.github.job".to_owned(), plain(id)),
        ("system.orchestrationId".to_owned(), plain(&format!("{plan_id}.{key}.{name}"))),
        ("system.runnerEnvironment".to_owned(), plain("self-hosted")),
        ("DistributedTask.EnhancedAnnotations".to_owned(), plain("true")),
        ("RunService.FixEmbeddedIssues".to_owned(), plain("true")),
        ("actions_send_job_level_annotations".to_owned(), plain("true")),
    ])
}

/// The scopes that are not `none`, spelled as the official service does: `{"IdToken":"write"}`.
fn permissions(granted: &Permissions) -> (String, Variable) {
    let named = |scope: &str| {
        let words = scope.split('-').map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_ascii_uppercase() + rest
        });
        words.collect::<String>()
    };
    let scopes: serde_json::Map<String, serde_json::Value> = Permissions::scopes()
        .filter_map(|scope| match granted.of(scope) {
            Access::None => None,
            Access::Read => Some((named(scope), "read".into())),
            Access::Write => Some((named(scope), "write".into())),
        })
        .collect();
    let value = serde_json::Value::from(scopes).to_string();
    (PERMISSIONS.to_owned(), Variable { value, is_secret: false })
}

/// Says how long the job may take once it is cancelled, where that is not what workers do of themselves.
fn cancel_timeout(minutes: u32) -> Option<(String, Variable)> {
    let value = Variable { value: minutes.to_string(), is_secret: false };
    (minutes != DEFAULT_CANCEL_TIMEOUT_MINUTES).then(|| (CANCEL_TIMEOUT.to_owned(), value))
}

/// A value of the compiler's as the wire has it.
pub(crate) fn context(value: &Value) -> ContextData {
    match value {
        Value::Null => ContextData::Null,
        Value::Bool(value) => ContextData::Bool(*value),
        Value::Number(value) => ContextData::Number(*value),
        Value::String(text) => ContextData::String(text.to_string()),
        Value::Array(items) => ContextData::Array(items.iter().map(context).collect()),
        Value::Object(object) => {
            ContextData::dictionary(object.iter().map(|(key, value)| (key.to_owned(), context(value))))
        }
    }
}

fn step(step: &CompiledStep) -> ActionStep {
    ActionStep {
        kind: StepKind::Action,
        id: Uuid::new_v4(),
        name: step.context_name.clone(),
        context_name: step.context_name.clone(),
        reference: match &step.reference {
            Reference::Script => StepReference::Script,
            Reference::Local { path } => StepReference::Repository {
                name: None,
                git_ref: None,
                repository_type: "self".to_owned(),
                path: Some(path.clone()),
            },
            Reference::Repository { name, git_ref, path } => StepReference::Repository {
                name: Some(name.clone()),
                git_ref: Some(git_ref.clone()),
                repository_type: "GitHub".to_owned(),
                path: path.clone(),
            },
            Reference::Docker { image } => StepReference::ContainerRegistry { image: image.clone() },
        },
        inputs: token(&step.inputs),
        condition: step.condition.clone(),
        environment: step.env.as_ref().map(token),
        continue_on_error: step.continue_on_error.as_ref().map(token),
        timeout_in_minutes: step.timeout_minutes.as_ref().map(token),
        display_name_token: step.name.as_ref().map(token),
    }
}

fn token(template: &Template) -> TemplateToken {
    let kind = match &template.kind {
        Kind::String(text) => TokenKind::String(text.clone()),
        Kind::Sequence(items) => TokenKind::Sequence(items.iter().map(token).collect()),
        Kind::Mapping(entries) => {
            TokenKind::Mapping(entries.iter().map(|(key, value)| (token(key), token(value))).collect())
        }
        Kind::Expression(text) => TokenKind::Expression(text.clone()),
        Kind::Insert => TokenKind::Insert,
        Kind::Bool(value) => TokenKind::Boolean(*value),
        Kind::Number(value) => TokenKind::Number(*value),
        Kind::Null => TokenKind::Null,
    };
    let file = u32::from(template.line != 0);
    TemplateToken { kind, position: Position { file, line: template.line, column: template.column } }
}
