//! `/api/v1` as people and forges speak it: runs, jobs, logs, runners.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::capabilities::Capabilities;
use crate::context::ContextData;
use crate::ids::{JobId, RunId, RunnerId};
use crate::job_message::{ActionStep, Variable};
use crate::state::{Conclusion, JobStatus, RunStatus, RunnerStatus};
use crate::step::{Annotation, StepRecord};
use crate::template::TemplateToken;

/// `POST /api/v1/runs`: a workflow file becomes a run. 201 [`RunDetail`]; 422 `workflow-invalid` with diagnostics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// The workflow file's text.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1)))]
    pub workflow: String,
    /// Its path, for messages and `github.workflow_ref`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Workflow files that it calls (`uses` of a job), directly or indirectly, by name: the path in the repository without
    /// `./`, or `owner/repo/path@ref`. Files of other repositories that are not here are fetched by the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// `owner/name`; `local/<directory>` for runs from a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$")))]
    pub repository: Option<String>,
    /// Event name; `workflow_dispatch` when absent and the workflow has it, else its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_name: Option<String>,
    /// Event body; becomes `github.event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<serde_json::Value>,
    /// Git ref; `refs/heads/main` when absent.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// `workflow_dispatch` inputs, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// Secrets of this run; sealed at rest, never returned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Variables of this run (`vars`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Environment added to the workflow's own `env`; wins over it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The code is not trusted, as that of a pull request from a fork: its jobs get no secrets and go only to ephemeral
    /// runners of groups that accept such jobs.
    #[serde(default)]
    pub untrusted: bool,
    /// A run is wanted only if the event starts the workflow by its types and its filters on branches, tags and paths; else
    /// 422 `not-triggered` says why not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_if_triggered: bool,
    /// The files that the event changed, for filters on paths; those let everything pass where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_files: Option<Vec<String>>,
    /// Only this job and what it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Only matrix combinations whose value under the key is one of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, Vec<String>>,
}

/// `POST /api/v1/runs/{id}/rerun`: a new run from the submission of one that has ended. 201 [`RunDetail`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RerunRequest {
    /// Only jobs that failed or were cancelled (all combinations of a matrix when one did), and those that need them; the
    /// others are taken over with their outputs.
    #[serde(default)]
    pub failed_only: bool,
}

/// `POST /api/v1/jobs`: one job without a workflow file. 201 [`JobView`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// Display name; `job` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schemars(
            length(min = 1, max = 255),
            regex(pattern = r"^(?!.*\$\{\{)[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")
        )
    )]
    pub name: Option<String>,
    /// `owner/name`; the token's own when that is for one repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$")))]
    pub repository: Option<String>,
    /// What the runner must have.
    #[serde(default)]
    pub requirements: JobRequirements,
    /// What to execute.
    pub job_definition: JobDefinition,
    /// Higher goes first: -1,000 to 1,000.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schemars(range(min = -1000, max = 1000)))]
    pub priority: i32,
    /// Longest run time in minutes: 1 to 43,200 (30 days); 360 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = 43_200)))]
    pub timeout_minutes: Option<u32>,
    /// Secrets of this job; sealed at rest, never returned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// The code is not trusted: the job goes to ephemeral runners of groups that accept such jobs, and gets no
    /// secrets.
    #[serde(default)]
    pub untrusted: bool,
}

/// What a runner must have to get a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JobRequirements {
    /// All of these labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Member of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_group: Option<String>,
    /// At least this machine.
    #[serde(default)]
    pub capabilities: RequiredCapabilities,
}

/// The least that a runner's machine must have; absent members ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequiredCapabilities {
    /// Memory in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gb: Option<u32>,
    /// Usable processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
    /// Free disk in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_space_gb: Option<u32>,
    /// Memory of the largest GPU in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory_gb: Option<u32>,
    /// A Docker engine.
    #[serde(default)]
    pub docker_enabled: bool,
    /// A Kubernetes cluster.
    #[serde(default)]
    pub kubernetes_enabled: bool,
    /// A GPU.
    #[serde(default)]
    pub gpu_enabled: bool,
    /// Actions that the runner holds locally, as `owner/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported_actions: Vec<String>,
}

impl JobRequirements {
    /// Everything as labels, in which bounds have a spelling of their own.
    #[must_use]
    pub fn as_labels(&self) -> Vec<String> {
        let asked = &self.capabilities;
        let mut labels = self.labels.clone();
        for (name, bound) in [
            ("memory_gb", asked.memory_gb),
            ("cpu_cores", asked.cpu_cores),
            ("disk_space_gb", asked.disk_space_gb),
            ("gpu_memory_gb", asked.gpu_memory_gb),
        ] {
            labels.extend(bound.map(|least| format!("{name}>={least}")));
        }
        for (name, needed) in
            [("docker", asked.docker_enabled), ("kubernetes", asked.kubernetes_enabled), ("gpu", asked.gpu_enabled)]
        {
            labels.extend(needed.then(|| name.to_owned()));
        }
        labels.extend(asked.supported_actions.iter().map(|action| format!("supports:{action}")));
        labels
    }
}

/// The part of a [`crate::job_message::JobMessage`] that is the caller's to say. The other members of such a message are
/// the service's, and are refused, as is one that is misspelled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobDefinition {
    /// Steps in order; at least one.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1)))]
    pub steps: Vec<ActionStep>,
    /// Variables, none of them secret.
    #[serde(default)]
    pub variables: BTreeMap<String, Variable>,
    /// Contexts by name; those that are absent are the service's.
    #[serde(default)]
    pub context_data: BTreeMap<String, ContextData>,
    /// Mappings, later ones winning.
    #[serde(default)]
    pub environment_variables: Vec<TemplateToken>,
    /// `defaults`.
    #[serde(default)]
    pub defaults: Vec<TemplateToken>,
    /// `outputs`, a mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_outputs: Option<TemplateToken>,
}

/// A run in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunView {
    /// The run.
    pub id: RunId,
    /// `run-name`, or the workflow's name, or its path.
    pub name: String,
    /// The workflow's path.
    pub path: String,
    /// `owner/name`.
    pub repository: String,
    /// Event name.
    pub event_name: String,
    /// Git ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// Where it stands.
    pub status: RunStatus,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<Conclusion>,
    /// Submission.
    pub created_at: Timestamp,
    /// First job acquired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Conclusion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// A cancel was asked for.
    #[serde(default)]
    pub cancel_requested: bool,
    /// Why it waits or ended so, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A run with its jobs. `GET /api/v1/runs/{id}?after_version=N&timeout_seconds=S` is held until the version has
/// passed `N` or `S` (at most 60) seconds have gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunDetail {
    /// The run.
    pub run: RunView,
    /// Grows with every change that this answer shows; starts anew with the process, so compare for inequality.
    pub version: u64,
    /// Jobs that exist, in order of creation.
    pub jobs: Vec<JobView>,
    /// Ids from the workflow file of jobs that wait for others.
    pub pending: Vec<String>,
}

/// One page of runs, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<RunView>,
    /// Pass as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The environment that a job deploys to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobEnvironment {
    /// Its name, as the workflow spells it.
    pub name: String,
    /// Where what was deployed can be seen, as the job said at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Its id in the workflow file.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Where it stands.
    pub status: JobStatus,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<Conclusion>,
    /// Attempts begun or, while queued, the one to come.
    pub attempt: u32,
    /// Labels that a runner must have.
    pub labels: Vec<String>,
    /// The concurrency group that it must have before it is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_group: Option<String>,
    /// Who has or had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<RunnerId>,
    /// That runner's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_name: Option<String>,
    /// The environment that it deploys to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<JobEnvironment>,
    /// Why it waits, was re-queued or ended as it did, when there is more to say than the conclusion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A failure does not fail the run.
    #[serde(default)]
    pub continue_on_error: bool,
    /// Into the queue.
    pub queued_at: Timestamp,
    /// Acquired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Conclusion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Job outputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Steps as last reported.
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// Messages for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

/// One page of jobs, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobPage {
    /// The jobs, without steps.
    pub jobs: Vec<JobView>,
    /// Pass as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One line of `GET /api/v1/jobs/{id}/logs?follow=true` with `Accept: application/x-ndjson`. Without that header the
/// answer is the log's plain text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LogEvent {
    /// The job as it stands; sent first and whenever a step or the status changes, always before the log lines
    /// that a newly begun step wrote.
    Job {
        /// The job.
        job: Box<JobView>,
    },
    /// More of the log.
    Log {
        /// Where the text starts, in bytes.
        offset: u64,
        /// Which attempt's log this is; a later attempt starts anew at 0.
        attempt: u32,
        /// Whole lines, each with its time stamp in front.
        text: String,
    },
    /// Lines of a step that are not in the log yet, where `?console=true` asked for them and the runner sends such.
    /// Lossy, and possibly told twice: what counts is the log, which will have each of these lines too.
    Console {
        /// Which attempt's.
        attempt: u32,
        /// The step's `id`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_id: Option<Uuid>,
        /// The first line's place in the step's log, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_line: Option<u64>,
        /// Lines, without time stamps; long ones are cut.
        lines: Vec<String>,
    },
    /// The job is completed and all of its log was sent.
    End,
}

/// A runner registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunnerView {
    /// The registration.
    pub id: RunnerId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub status: RunnerStatus,
    /// Whose jobs it takes.
    #[serde(default)]
    pub scope: crate::scope::Scope,
    /// Labels.
    pub labels: Vec<String>,
    /// Group.
    pub runner_group: String,
    /// Deleted after one job.
    pub ephemeral: bool,
    /// The machine.
    pub capabilities: Capabilities,
    /// Jobs in its hands.
    pub current_jobs: Vec<JobId>,
    /// Last sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Registration.
    pub created_at: Timestamp,
    /// Version of the runner program.
    #[serde(default)]
    pub version: String,
}

/// All runners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunnerPage {
    /// The runners, by id.
    pub runners: Vec<RunnerView>,
    /// Pass as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `GET /api/v1/jobs/{id}/explain`: why a job waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// Where the job stands.
    pub status: JobStatus,
    /// One sentence.
    pub summary: String,
    /// Each registered runner and what it lacks; empty lists mean that it could take the job.
    pub candidates: Vec<Candidate>,
}

/// A runner in an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Candidate {
    /// The runner.
    pub runner_id: RunnerId,
    /// Its name.
    pub runner_name: String,
    /// What keeps it from the job: `offline`, `busy`, `draining`, `label: x`, `capability: memory_gb>=32 (has 16)`, …
    pub missing: Vec<String>,
}
