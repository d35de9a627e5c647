//! What the store keeps, as its callers see it.

mod actions;
mod artifacts;
mod audit;
mod claims;
mod outline;
mod purge;
mod runners;
mod tokens;
mod values;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::runs_api::JobEnvironment;
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};
use startline_protocol::step::{Annotation, StepRecord};
use uuid::Uuid;

use crate::error::Error;

pub use actions::{ActionsRunner, BegunJob, NewScaleSet, ScaleSetChanges, ScaleSetRecord};
pub use artifacts::{ArtifactRecord, CacheRecord, CreatedArtifact, NewArtifact, NewCache};
pub(crate) use artifacts::{kept_size, newest_lapsed_reservation, oldest_unfinished_artifact};
pub use audit::{AuditFilter, AuditRecord, Digest, NewAudit};
pub(crate) use audit::{Verifier, purge_line};
pub use claims::{ClaimRecord, NewClaim, Wanted};
pub use outline::{Demand, JobOutline, UnfinishedRun};
pub(crate) use purge::AuditBegin;
pub use purge::{DueRuns, PurgePlace, Purged};
pub use runners::{DEFAULT_GROUP, GroupRecord, NewRunner, NewRunnerToken, Registered, RunnerRecord, TokenBearer};
pub(crate) use runners::{is_default_group, name_key};
pub(crate) use tokens::replaced_token_end;
pub use tokens::{ApiTokenRecord, NewApiToken, NewRegistrationToken, RegistrationTokenRecord, Tokens};
pub(crate) use values::{MAX_SECRETS, MAX_VARIABLES, value_key};
pub use values::{SealedSecret, SecretRecord, VariableRecord};

/// A SHA-256. Of a token's text, it is the only form in which a token is kept.
pub type Hash = [u8; 32];

/// A run to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// One GUID for the run; all its job messages carry it.
    pub plan_id: Uuid,
    /// Display name.
    pub name: String,
    /// Path of the workflow file.
    pub path: String,
    /// `owner/name`.
    pub repository: String,
    /// Event name.
    pub event_name: String,
    /// Git ref.
    pub git_ref: String,
    /// The submission as JSON, without secrets.
    pub submission: String,
    /// Secrets, sealed.
    pub sealed_secrets: Option<Vec<u8>>,
    /// Its code is trusted.
    pub trusted: bool,
    /// What makes this submission the same as an earlier one: a hash over whatever the caller takes into account, such
    /// as its key for repeats and who submits.
    pub idempotency: Option<Hash>,
    /// Submission.
    pub created_at: Timestamp,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// Its number among the runs of the same repository and path, from 1.
    pub number: i64,
    /// As added.
    pub run: NewRun,
    /// Where it stands.
    pub status: RunStatus,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// First job acquired.
    pub started_at: Option<Timestamp>,
    /// Conclusion.
    pub completed_at: Option<Timestamp>,
    /// A cancel was asked for.
    pub cancel_requested: bool,
    /// Why it waits or ended so, where there is more to say.
    pub reason: Option<String>,
}

/// What [`crate::Store::create_run`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedRun {
    /// The run, as it stands.
    pub run: RunRecord,
    /// Its jobs, as they stand.
    pub jobs: Vec<JobRecord>,
    /// It is the run of an earlier submission, and nothing was added.
    pub is_repeat: bool,
}

/// What [`crate::Store::acquire_noted`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenJob {
    /// The job's run.
    pub run: RunRecord,
    /// The job, as it stands.
    pub job: JobRecord,
    /// Its message as JSON text, without secrets.
    pub message: String,
}

/// A job to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// Its id in the workflow file.
    pub key: String,
    /// Its place in the matrix, from 0.
    pub index: u32,
    /// Display name.
    pub name: String,
    /// `waiting`, `queued`, or `completed` with a conclusion (skipped, failed before it could be queued).
    pub status: JobStatus,
    /// Set with `completed`.
    pub conclusion: Option<Conclusion>,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// Labels that a runner must have.
    pub labels: Vec<String>,
    /// Group that a runner must be in.
    pub group: Option<String>,
    /// The concurrency group that it must have before it is queued.
    pub claim: Option<Wanted>,
    /// Its code is trusted.
    pub trusted: bool,
    /// Higher goes first.
    pub priority: i32,
    /// Longest run time.
    pub timeout_minutes: u32,
    /// Minutes that it may still take once it is cancelled.
    pub cancel_timeout_minutes: u32,
    /// What it deploys to.
    pub environment: Option<JobEnvironment>,
    /// A failure does not fail the run.
    pub continue_on_error: bool,
    /// How often it may be re-queued after a lost runner.
    pub requeues_left: u32,
    /// The job message as JSON, without secrets; empty for a completed one.
    pub message: String,
    /// What it hands on, when it begins completed.
    pub outputs: BTreeMap<String, String>,
    /// Into the queue.
    pub queued_at: Timestamp,
}

/// A job. Its place in the queue is its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Repository of its run.
    pub repository: String,
    /// Its id in the workflow file.
    pub key: String,
    /// Its place in the matrix, from 0.
    pub index: u32,
    /// Display name.
    pub name: String,
    /// Where it stands.
    pub status: JobStatus,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Why it waits, was re-queued or ended so.
    pub reason: Option<String>,
    /// Labels that a runner must have.
    pub labels: Vec<String>,
    /// Group that a runner must be in.
    pub group: Option<String>,
    /// The concurrency group that it must have before it is queued.
    pub claim: Option<Wanted>,
    /// Its code is trusted.
    pub trusted: bool,
    /// Higher goes first.
    pub priority: i32,
    /// Longest run time.
    pub timeout_minutes: u32,
    /// Minutes that it may still take once it is cancelled.
    pub cancel_timeout_minutes: u32,
    /// What it deploys to, with the URL that it ended with.
    pub environment: Option<JobEnvironment>,
    /// A failure does not fail the run.
    pub continue_on_error: bool,
    /// How often it may still be re-queued after a lost runner.
    pub requeues_left: u32,
    /// Attempt running or, while queued, to come; from 1.
    pub attempt: u32,
    /// Epoch of the last offer.
    pub epoch: Epoch,
    /// Who has or had it.
    pub runner_id: Option<RunnerId>,
    /// That runner's name, kept after its registration is gone.
    pub runner_name: Option<String>,
    /// A cancel was asked for, and why.
    pub cancel_reason: Option<String>,
    /// Into the queue.
    pub queued_at: Timestamp,
    /// Acquired.
    pub started_at: Option<Timestamp>,
    /// Conclusion.
    pub completed_at: Option<Timestamp>,
    /// Order of completion over all jobs; 0 while there is none.
    pub finished: i64,
    /// Job outputs.
    pub outputs: BTreeMap<String, String>,
    /// Steps as last reported.
    pub steps: Vec<StepRecord>,
    /// Messages for people.
    pub annotations: Vec<Annotation>,
}

/// What a worker says at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// How it ended.
    pub conclusion: Conclusion,
    /// Job outputs.
    pub outputs: BTreeMap<String, String>,
    /// The URL of what it deployed; kept for a job with an environment.
    #[serde(default)]
    pub environment_url: Option<String>,
    /// All steps.
    pub steps: Vec<StepRecord>,
    /// Messages for people.
    pub annotations: Vec<Annotation>,
    /// Whether the run has no other job, so that it ends with this one, as this one does. Not when somebody wanted the job
    /// to stop, or when it was neither a success nor a failure: what that means for the run is decided elsewhere.
    #[serde(default)]
    pub ends_run: bool,
}

impl Completion {
    /// What the run of this job ends with, if it ends.
    pub(crate) fn conclusion_of_run(&self, job: &JobRecord) -> Option<Conclusion> {
        let is_plain = matches!(self.conclusion, Conclusion::Success | Conclusion::Failure);
        (self.ends_run && is_plain && job.cancel_reason.is_none()).then_some(self.conclusion)
    }
}

/// What [`crate::Store::complete`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompleteOutcome {
    /// The job is completed now.
    Completed {
        /// The job.
        job: JobRecord,
        /// The run has ended with it.
        run_ended: bool,
    },
    /// It was, under the same epoch.
    AlreadyCompleted(JobRecord),
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// There are more behind them.
    pub more: bool,
}

/// The time as the store keeps it: to the microsecond, and without the fraction of the last second of all, which jiff
/// has but does not make from microseconds.
pub(crate) fn kept(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond())
        .or_else(|_| Timestamp::from_second(time.as_second()))
        .unwrap_or(time)
}

/// The earliest submission at `now` that a repeat can still name. Keys are remembered for 24 hours.
pub(crate) fn oldest_repeatable(now: Timestamp) -> Timestamp {
    kept(now.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN))
}

impl NewJob {
    /// Refuses a state in which no job begins.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match (self.status, self.conclusion) {
            (JobStatus::Waiting | JobStatus::Queued, None) | (JobStatus::Completed, Some(_)) => Ok(()),
            (status, conclusion) => Err(Error::Engine {
                operation: "add a job",
                message: format!(
                    "job `{}` cannot begin as {status} with conclusion {}",
                    self.key,
                    conclusion.map_or("none", Conclusion::as_str)
                ),
            }),
        }
    }

    /// The record of this job, new in `run`, and its message.
    pub(crate) fn into_record(self, id: JobId, run: RunId, repository: String, finished: i64) -> (JobRecord, String) {
        let queued_at = kept(self.queued_at);
        let record = JobRecord {
            id,
            run_id: run,
            repository,
            key: self.key,
            index: self.index,
            name: self.name,
            status: self.status,
            conclusion: self.conclusion,
            reason: self.reason,
            labels: self.labels,
            group: self.group,
            claim: self.claim,
            trusted: self.trusted,
            priority: self.priority,
            timeout_minutes: self.timeout_minutes,
            cancel_timeout_minutes: self.cancel_timeout_minutes,
            environment: self.environment,
            continue_on_error: self.continue_on_error,
            requeues_left: self.requeues_left,
            attempt: 1,
            epoch: Epoch::ZERO,
            runner_id: None,
            runner_name: None,
            cancel_reason: None,
            queued_at,
            started_at: None,
            completed_at: self.conclusion.map(|_| queued_at),
            finished,
            outputs: self.outputs,
            steps: Vec::new(),
            annotations: Vec::new(),
        };
        (record, self.message)
    }
}
