//! From a submission to what the planner needs: the event that is run, and the `github` context.

mod event;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use startline_protocol::context::ContextData;
use startline_protocol::ids::RunId;
use startline_protocol::problem::Diagnostic as WireDiagnostic;
use startline_protocol::runs_api::SubmitRequest;
use startline_store::RunRecord;
use startline_workflow::diagnostic::Diagnostic;
use startline_workflow::expression::Value;
use startline_workflow::model::{self, FileName, Finding, Linked, Occasion, Workflow};
use startline_workflow::plan::{RunContext, Selection};

use self::event::About;
use crate::problem::{ApiError, ApiResult};

/// A submission as the store keeps it: everything but the secrets, with defaults filled in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Submission {
    pub workflow: String,
    /// Files that it calls, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    pub path: String,
    pub repository: String,
    pub event_name: String,
    pub event: serde_json::Value,
    pub git_ref: String,
    pub sha: String,
    pub actor: String,
    pub inputs: serde_json::Value,
    pub variables: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
    pub job: Option<String>,
    pub matrix: BTreeMap<String, Vec<String>>,
    /// One job without a workflow file: the workflow only stands for it.
    #[serde(default)]
    pub single: bool,
    /// A hash of the request, when it came with a key for repeats.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The span of the request that submitted it, where that was sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What a run's contexts say of the run itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunFacts {
    pub id: RunId,
    pub number: i64,
    pub trusted: bool,
    pub cancelled: bool,
}

impl From<&RunRecord> for RunFacts {
    fn from(run: &RunRecord) -> Self {
        Self { id: run.id, number: run.number, trusted: run.run.trusted, cancelled: run.cancel_requested }
    }
}

/// Where repositories are and how long artifacts are kept, as jobs are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forge {
    server: String,
    api: String,
    graphql: String,
    /// In days; clients ask for no longer (actions/toolkit `packages/artifact`, `retention.ts`).
    retention: u64,
}

impl Forge {
    /// The forge at an address; its interfaces are where those of GitHub, or of its server for others, are.
    pub(crate) fn at(url: &str, artifact_retention: Duration) -> Self {
        let server = url.trim_end_matches('/').to_owned();
        let (api, graphql) = if server == "https://github.com" {
            ("https://api.github.com".to_owned(), "https://api.github.com/graphql".to_owned())
        } else {
            (format!("{server}/api/v3"), format!("{server}/api/graphql"))
        };
        Self { server, api, graphql, retention: (artifact_retention.as_secs() / 86_400).max(1) }
    }
}

/// Where a workflow that comes without a path is taken to lie.
pub(crate) const DEFAULT_PATH: &str = ".github/workflows/workflow.yml";

/// Compiles a workflow with the files that it calls, or says all that is wrong with them.
pub(crate) fn compile(source: &str, path: &str, files: &BTreeMap<String, String>) -> ApiResult<Workflow> {
    let (linked, files) = link(source, path, files)?;
    let missing = linked.missing.iter().map(|(file, (caller, span))| {
        let why = "it is not among the files of the submission";
        model::absent(file, caller, *span, why)
    });
    let findings: Vec<Finding> = linked.findings.into_iter().chain(missing).collect();
    match linked.workflow {
        Some(workflow) if findings.iter().all(|finding| !finding.diagnostic.is_error()) => Ok(workflow),
        _ => Err(refusal(&findings, source, path, &files)),
    }
}

/// A workflow as far as the files that it calls are there.
pub(crate) fn link(
    source: &str,
    path: &str,
    files: &BTreeMap<String, String>,
) -> ApiResult<(Linked, BTreeMap<FileName, String>)> {
    let mut named = BTreeMap::new();
    for (name, text) in files {
        let file = name.parse::<FileName>().map_err(|problem| {
            ApiError::invalid(format!(
                "`{}` in `files` is no name of a workflow file: it {problem}",
                name.escape_debug()
            ))
            .detail("write `path/in/the/repository.yml` or `owner/repo/path.yml@ref`")
        })?;
        named.insert(file, text.clone());
    }
    Ok((model::link(source, &FileName::local(path), &named), named))
}

/// What a workflow is refused with.
pub(crate) fn refusal(findings: &[Finding], source: &str, path: &str, files: &BTreeMap<FileName, String>) -> ApiError {
    let wire = |finding: &Finding| {
        let name = finding.file.to_string();
        // The file that was submitted may be called as well.
        let source = if name == path { source } else { files.get(&finding.file).map_or("", String::as_str) };
        wire(&finding.diagnostic, source, &name, (name != path).then(|| name.clone()))
    };
    ApiError::workflow(findings.iter().map(wire).collect())
}

fn wire(diagnostic: &Diagnostic, source: &str, path: &str, file: Option<String>) -> WireDiagnostic {
    WireDiagnostic {
        code: diagnostic.code.to_owned(),
        severity: diagnostic.severity.as_str().to_owned(),
        message: diagnostic.message.clone(),
        file,
        line: diagnostic.span.start.line,
        column: diagnostic.span.start.column,
        remedy: diagnostic.remedy.clone(),
        rendered: diagnostic.render(source, path, false),
    }
}

impl Submission {
    /// Checks a request against its workflow and fills in what it leaves open.
    pub(crate) fn new(request: SubmitRequest, workflow: &Workflow) -> ApiResult<Self> {
        let events: Vec<&str> = workflow.on.events.iter().map(|trigger| trigger.event.as_str()).collect();
        let event_name = match request.event_name {
            Some(name) if events.iter().any(|known| *known == name) => name,
            Some(name) if request.only_if_triggered => {
                return Err(ApiError::not_triggered(&format!("the workflow is not triggered by `{name}`")));
            }
            Some(name) => {
                return Err(ApiError::invalid(format!("the workflow is not triggered by `{name}`")).detail(format!(
                    "its events are {}; choose one of them or add `{name}` under `on`",
                    events.join(", ")
                )));
            }
            None if events.contains(&"workflow_dispatch") => "workflow_dispatch".to_owned(),
            None => events.first().map_or_else(|| "workflow_dispatch".to_owned(), |name| (*name).to_owned()),
        };
        let selection = Selection { job: request.job.clone(), matrix: request.matrix.clone() };
        selection.check(workflow).map_err(|error| ApiError::invalid(error.to_string()))?;
        let inputs = if event_name == "workflow_dispatch" {
            startline_workflow::model::resolve_inputs(workflow, &request.inputs)
                .map_err(|errors| {
                    ApiError::invalid(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
                })?
                .to_json()
        } else if let Some(name) = request.inputs.keys().next() {
            return Err(ApiError::invalid(format!("input `{name}` was given, but the event is `{event_name}`"))
                .detail("inputs belong to `workflow_dispatch`; run that event or leave them out"));
        } else {
            serde_json::json!({})
        };
        let git_ref = request.git_ref.unwrap_or_else(|| "refs/heads/main".to_owned());
        let repository = repository(request.repository)?;
        let actor = request.actor.unwrap_or_else(|| "startline".to_owned());
        let mut event = request.event.unwrap_or_else(|| serde_json::json!({}));
        let Some(body) = event.as_object_mut() else {
            return Err(ApiError::invalid("`event` is not a JSON object"));
        };
        if event_name == "workflow_dispatch" {
            // On the wire of the event, inputs are text.
            let text = |value: &serde_json::Value| Value::from_json(value).to_text().into_owned();
            let inputs: serde_json::Map<_, _> = inputs
                .as_object()
                .map(|map| map.iter().map(|(k, v)| (k.clone(), text(v).into())).collect())
                .unwrap_or_default();
            body.entry("inputs").or_insert_with(|| inputs.into());
        }
        event::complete(body, &About { repository: &repository, actor: &actor, git_ref: &git_ref });
        if request.only_if_triggered {
            let occasion = Occasion::of(&event_name, &event, &git_ref, request.changed_files);
            workflow.on.starts(&occasion).map_err(|reason| ApiError::not_triggered(&reason))?;
        }
        Ok(Self {
            path: request.path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
            repository,
            sha: request.sha.unwrap_or_else(|| "0".repeat(40)),
            actor,
            workflow: request.workflow,
            files: request.files,
            variables: request.variables,
            env: request.env,
            job: request.job,
            matrix: request.matrix,
            event_name,
            event,
            git_ref,
            inputs,
            single: false,
            fingerprint: None,
            traceparent: None,
        })
    }

    /// What the planner needs of this run.
    pub(crate) fn context(&self, workflow: &Workflow, run: impl Into<RunFacts>, forge: &Forge) -> RunContext {
        let run = run.into();
        let text = |value: &BTreeMap<String, String>| {
            Value::object(value.iter().map(|(k, v)| (k.clone(), Value::string(v.as_str()))))
        };
        RunContext {
            github: self.github(workflow, run, forge),
            inputs: Value::from_json(&self.inputs),
            vars: text(&self.variables),
            cancelled: run.cancelled,
            cancel_reason: None,
            file: None,
            claims: BTreeMap::new(),
            held: Vec::new(),
            permissions: None,
            selection: Selection { job: self.job.clone(), matrix: self.matrix.clone() },
        }
    }

    fn github(&self, workflow: &Workflow, run: RunFacts, forge: &Forge) -> Value {
        let text =
            self.facts(workflow, run, forge).map(|(key, value)| (key.to_owned(), Value::string(value.into_owned())));
        let rest = [("ref_protected", Value::Bool(false)), ("event", Value::from_json(&self.event))];
        Value::object(text.into_iter().chain(rest.map(|(key, value)| (key.to_owned(), value))))
    }

    /// The `github` context as the wire has it.
    pub(crate) fn github_data(&self, workflow: &Workflow, run: RunFacts, forge: &Forge) -> ContextData {
        let text = self.facts(workflow, run, forge);
        let text = text.map(|(key, value)| (key.to_owned(), ContextData::String(value.into_owned())));
        let event = ContextData::from_plain(self.event.clone());
        let rest = [("ref_protected", ContextData::Bool(false)), ("event", event)];
        ContextData::Dictionary(text.into_iter().chain(rest.map(|(key, value)| (key.to_owned(), value))).collect())
    }

    /// The members of the `github` context that are text. The others are booleans: the official worker does not export
    /// numbers (`Runner.Worker/GitHubContext.cs`).
    fn facts<'a>(
        &'a self,
        workflow: &'a Workflow,
        run: RunFacts,
        forge: &'a Forge,
    ) -> [(&'static str, Cow<'a, str>); 27] {
        let owner = self.repository.split('/').next().unwrap_or_default();
        let (ref_type, ref_name) = short_ref(&self.git_ref);
        let pull = |side: &str| {
            let name = self.event.pointer(&format!("/pull_request/{side}/ref"));
            name.and_then(serde_json::Value::as_str).unwrap_or_default()
        };
        // Ids are those of nobody: what an event says of them is its submitter's word, and clouds would trust it.
        [
            ("repository", (&*self.repository).into()),
            ("repository_owner", owner.into()),
            ("repository_id", "0".into()),
            ("repository_owner_id", "0".into()),
            ("repositoryUrl", format!("{}/{}.git", forge.server, self.repository).into()),
            ("repository_visibility", "private".into()),
            ("ref", (&*self.git_ref).into()),
            ("ref_name", ref_name.into()),
            ("ref_type", ref_type.into()),
            ("sha", (&*self.sha).into()),
            ("head_ref", pull("head").into()),
            ("base_ref", pull("base").into()),
            ("event_name", (&*self.event_name).into()),
            ("actor", (&*self.actor).into()),
            ("actor_id", "0".into()),
            ("triggering_actor", (&*self.actor).into()),
            ("workflow", workflow.name.as_deref().unwrap_or(&self.path).into()),
            ("workflow_ref", format!("{}/{}@{}", self.repository, self.path, self.git_ref).into()),
            ("workflow_sha", (&*self.sha).into()),
            ("run_id", run.id.to_string().into()),
            ("run_number", run.number.to_string().into()),
            ("run_attempt", "1".into()),
            ("retention_days", forge.retention.to_string().into()),
            ("server_url", (&*forge.server).into()),
            ("api_url", (&*forge.api).into()),
            ("graphql_url", (&*forge.graphql).into()),
            ("secret_source", if run.trusted { "Actions" } else { "None" }.into()),
        ]
    }
}

/// What kind of ref this is, and its short name: a branch's, a tag's, or `5/merge` of a pull request.
fn short_ref(git_ref: &str) -> (&'static str, &str) {
    match git_ref.strip_prefix("refs/tags/") {
        Some(name) => ("tag", name),
        None => {
            let name = ["refs/heads/", "refs/pull/"].iter().find_map(|prefix| git_ref.strip_prefix(prefix));
            ("branch", name.unwrap_or(git_ref))
        }
    }
}

fn repository(given: Option<String>) -> ApiResult<String> {
    let name = given.unwrap_or_else(|| "local/workspace".to_owned());
    let part = |text: &str| {
        !text.is_empty()
            && text != "."
            && text != ".."
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    match name.split_once('/') {
        Some((owner, repo)) if part(owner) && part(repo) => Ok(name),
        // The name becomes a directory of the runner, so nothing but a plain name may pass.
        _ => Err(ApiError::invalid(format!("`{name}` is not a repository")).detail("write it as `owner/name`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_has_the_short_name_that_github_gives_it() {
        assert_eq!(short_ref("refs/heads/refs/heads/x"), ("branch", "refs/heads/x"));
        assert_eq!(short_ref("refs/tags/v1/rc"), ("tag", "v1/rc"));
        assert_eq!(short_ref("refs/heads/refs/tags/x"), ("branch", "refs/tags/x"));
        assert_eq!(short_ref("refs/pull/5/merge"), ("branch", "5/merge"));
        assert_eq!(short_ref("main"), ("branch", "main"));
    }

    #[test]
    fn a_repository_name_cannot_climb_out_of_the_work_directory() {
        for bad in ["x", "../y", "a/..", "a/b/c", "a/", "/b", "a/b c"] {
            assert!(repository(Some(bad.to_owned())).is_err(), "{bad}");
        }
        assert_eq!(repository(Some("acme/demo.rs".to_owned())).unwrap(), "acme/demo.rs");
    }
}
