//! What the store keeps, as its callers see it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};
use startline_protocol::step::{Annotation, StepRecord};
use uuid::Uuid;

use crate::error::Error;

/// SHA-256 of a token's text: the only form in which a token is kept.
pub type Hash = [u8; 32];

/// An API token to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiToken {
    /// A note for people.
    pub name: String,
    /// SHA-256 of its text.
    pub hash: Hash,
    /// Creation.
    pub created_at: Timestamp,
    /// End of its life, if any.
    pub expires_at: Option<Timestamp>,
}

/// An API token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTokenRecord {
    /// Its id.
    pub id: i64,
    /// A note for people.
    pub name: String,
    /// Creation.
    pub created_at: Timestamp,
    /// End of its life, if any.
    pub expires_at: Option<Timestamp>,
}

/// A registration token to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRegistrationToken {
    /// A note for people.
    pub name: String,
    /// SHA-256 of its text.
    pub hash: Hash,
    /// Labels that its runners may carry; `None` is any.
    pub labels: Option<Vec<String>>,
    /// Group that its runners join.
    pub group: String,
    /// Its runners are ephemeral, whatever they ask for.
    pub ephemeral: bool,
    /// How often it may be used; `None` is unlimited.
    pub max_uses: Option<u32>,
    /// Creation.
    pub created_at: Timestamp,
    /// End of its life.
    pub expires_at: Timestamp,
}

/// A registration token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationTokenRecord {
    /// Its id.
    pub id: i64,
    /// Times used.
    pub uses: u32,
    /// As added.
    pub token: NewRegistrationToken,
}

/// A runner to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRunner {
    /// Unique among runners that are not deleted, compared without case.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// The machine.
    pub capabilities: Capabilities,
    /// Deleted after one job.
    pub ephemeral: bool,
    /// Version of the runner program.
    pub version: String,
    /// Take the name over from an earlier registration.
    pub replace: bool,
    /// SHA-256 of its token.
    pub token: Hash,
    /// End of the token's life.
    pub token_expires_at: Timestamp,
}

/// A runner registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRecord {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// Group.
    pub group: String,
    /// The machine.
    pub capabilities: Capabilities,
    /// Deleted after one job.
    pub ephemeral: bool,
    /// Version of the runner program.
    pub version: String,
    /// Registration.
    pub created_at: Timestamp,
}

/// The outcome of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The new registration.
    pub runner: RunnerRecord,
    /// The registration whose name it took over.
    pub replaced: Option<RunnerId>,
}

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
    /// Higher goes first.
    pub priority: i32,
    /// Longest run time.
    pub timeout_minutes: u32,
    /// A failure does not fail the run.
    pub continue_on_error: bool,
    /// How often it may be re-queued after a lost runner.
    pub requeues_left: u32,
    /// The job message as JSON, without secrets; empty for a completed one.
    pub message: String,
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
    /// Higher goes first.
    pub priority: i32,
    /// Longest run time.
    pub timeout_minutes: u32,
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
    /// All steps.
    pub steps: Vec<StepRecord>,
    /// Messages for people.
    pub annotations: Vec<Annotation>,
}

/// What [`crate::Store::complete`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompleteOutcome {
    /// The job is completed now.
    Completed(JobRecord),
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

/// When tokens that are replaced at `now` stop to work: calls that are on their way with the old one may still arrive.
pub(crate) fn replaced_token_end(now: Timestamp) -> Timestamp {
    kept(now.checked_add(SignedDuration::from_mins(2)).unwrap_or(Timestamp::MAX))
}

/// What makes two runner names the same.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

impl NewRegistrationToken {
    /// Those of `labels` that the token does not allow; labels are compared without case.
    pub(crate) fn refused(&self, labels: &[String]) -> Vec<String> {
        let Some(allowed) = &self.labels else { return Vec::new() };
        let allowed: BTreeSet<String> = allowed.iter().map(|label| label.to_lowercase()).collect();
        labels.iter().filter(|label| !allowed.contains(&label.to_lowercase())).cloned().collect()
    }
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
            priority: self.priority,
            timeout_minutes: self.timeout_minutes,
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
            outputs: BTreeMap::new(),
            steps: Vec::new(),
            annotations: Vec::new(),
        };
        (record, self.message)
    }
}
